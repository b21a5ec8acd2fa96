// Draws the tasks of a job as a graph, from left to right: each task with the state of each party's part.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import type { PartStatus, TaskStatus } from "../api/types";
import { t } from "../i18n";
import { navigate, taskHref } from "../router";
import { stateName, StateShape, type State } from "./state";

/** partState returns the state that a part is shown in: one that was stopped since another failed is no cause. */
export function partState(p: PartStatus): State {
  return p.status === "FAILED" && p.failure?.kind === "stopped" ? "STOPPED" : p.status;
}

interface Node {
  name: string;
  before: string[];
  x: number;
  y: number;
  height: number;
}

const width = 248;
const gapX = 56;
const gapY = 16;
const head = 28;
const line = 20;

/** layout places each task in the layer after all that it depends on, and near them. */
export function layout(tasks: TaskStatus[]): { nodes: Node[]; width: number; height: number } {
  const byName = new Map(tasks.map((task) => [task.task_name, task]));
  const layerOf = new Map<string, number>();
  const visiting = new Set<string>();
  const depth = (task: TaskStatus): number => {
    const have = layerOf.get(task.task_name);
    if (have !== undefined) return have;
    if (visiting.has(task.task_name)) return 0;
    visiting.add(task.task_name);
    let layer = 0;
    for (const name of task.depends_on ?? []) {
      const before = byName.get(name);
      if (before) layer = Math.max(layer, depth(before) + 1);
    }
    layerOf.set(task.task_name, layer);
    return layer;
  };
  const layers: TaskStatus[][] = [];
  for (const task of tasks) (layers[depth(task)] ??= []).push(task);

  const nodes: Node[] = [];
  const placed = new Map<string, Node>();
  let total = 0;
  layers.forEach((layer, i) => {
    const center = (task: TaskStatus) => {
      const before = (task.depends_on ?? []).map((n) => placed.get(n)).filter((n) => n !== undefined);
      return before.length ? before.reduce((sum, n) => sum + n.y + n.height / 2, 0) / before.length : 0;
    };
    const order = layer.map((task) => ({ task, at: center(task) })).sort((a, b) => a.at - b.at);
    let y = 1;
    for (const { task } of order) {
      const node = { name: task.task_name, before: task.depends_on ?? [], x: 1 + i * (width + gapX), y, height: head + task.parties.length * line + 6 };
      nodes.push(node);
      placed.set(task.task_name, node);
      y += node.height + gapY;
    }
    total = Math.max(total, y);
  });
  return { nodes, width: layers.length * (width + gapX) - gapX + 2, height: total - gapY + 2 };
}

// A graph of more tasks is drawn only where it is seen.
const small = 150;
// How far beyond the visible part it is drawn, which is also the step in which the drawing follows the scrolling.
const margin = 320;

/** Seen is the part of the graph that is drawn. */
interface Seen {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

/** useSeen returns the part of a scrolled box that is seen, with a margin, and a ref for the box. */
function useSeen(): { seen: Seen; box: { current: HTMLDivElement | null } } {
  const box = useRef<HTMLDivElement>(null);
  const [seen, setSeen] = useState<Seen>({ left: 0, top: 0, right: innerWidth + margin, bottom: innerHeight + margin });
  useEffect(() => {
    const element = box.current!;
    let frame = 0;
    function measure() {
      frame = 0;
      const left = Math.floor(element.scrollLeft / margin - 1) * margin;
      const top = Math.floor(element.scrollTop / margin - 1) * margin;
      const right = left + (Math.ceil(element.clientWidth / margin) + 3) * margin;
      const bottom = top + (Math.ceil(element.clientHeight / margin) + 3) * margin;
      setSeen((old) =>
        old.left === left && old.top === top && old.right === right && old.bottom === bottom
          ? old
          : { left, top, right, bottom },
      );
    }
    const later = () => {
      frame ||= requestAnimationFrame(measure);
    };
    const resized = new ResizeObserver(later);
    resized.observe(element);
    element.addEventListener("scroll", later, { passive: true });
    return () => {
      cancelAnimationFrame(frame);
      resized.disconnect();
      element.removeEventListener("scroll", later);
    };
  }, []);
  return { seen, box };
}

/** shapeOf returns what the layout of tasks depends on, which is the same until the end of the job. */
function shapeOf(tasks: TaskStatus[]): string {
  return tasks.map((task) => `${task.task_name}<${(task.depends_on ?? []).join()}:${task.parties.length}`).join("\n");
}

/** Dag draws the graph. The table of tasks beside it has the same content for screen readers. */
export function Dag({ job, tasks }: { job: string; tasks: TaskStatus[] }) {
  const { nodes, width: w, height: h } = useMemo(() => layout(tasks), [shapeOf(tasks)]);
  const byName = useMemo(() => new Map(nodes.map((n) => [n.name, n])), [nodes]);
  const current = useMemo(() => new Map(tasks.map((task) => [task.task_name, task])), [tasks]);
  const { seen, box } = useSeen();
  const [focused, setFocused] = useState("");
  const all = nodes.length <= small;
  const visible = (left: number, top: number, right: number, bottom: number) =>
    all || (right >= seen.left && left <= seen.right && bottom >= seen.top && top <= seen.bottom);

  function open(e: MouseEvent) {
    if (e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
    const link = (e.target as Element).closest("a");
    if (!link) return;
    e.preventDefault();
    navigate(link.getAttribute("href")!);
  }

  const edges = nodes.flatMap((n) =>
    n.before.map((name) => {
      const from = byName.get(name);
      if (!from) return null;
      const [x1, y1, x2, y2] = [from.x + width, from.y + from.height / 2, n.x, n.y + n.height / 2];
      if (!visible(x1, Math.min(y1, y2), x2, Math.max(y1, y2))) return null;
      const bend = (x2 - x1) / 2;
      return <path key={`${name}>${n.name}`} class="edge" d={`M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`} />;
    }),
  );
  return (
    <div
      ref={box}
      class="scroll dag"
      tabIndex={0}
      role="group"
      aria-label={t("job.graph")}
      onClick={open}
      onFocusIn={(e) => setFocused((e.target as Element).getAttribute("data-task") ?? "")}
    >
      <svg width={w} height={h} viewBox={`0 0 ${w} ${h}`}>
        {edges}
        {nodes.map((n) => {
          const task = current.get(n.name);
          // One that has the focus keeps it when it is scrolled away.
          const drawn = visible(n.x, n.y, n.x + width, n.y + n.height) || n.name === focused;
          return task && drawn && <DagNode key={n.name} job={job} node={n} task={task} />;
        })}
      </svg>
    </div>
  );
}

function DagNode({ job, node: { x, y, height }, task }: { job: string; node: Node; task: TaskStatus }) {
  return (
    <a href={taskHref(job, task.task_name)} data-task={task.task_name} class={`dag-node s-${task.status}`}>
      <rect x={x} y={y} width={width} height={height} rx="4" class="box" />
      <rect x={x} y={y} width="4" height={height} class="bar" />
      <StateShape state={task.status} x={x + 12} y={y + 8} size={14} />
      <text x={x + 32} y={y + 20} class="name">
        {shorten(task.task_name, 26)}
      </text>
      {task.parties.map((p, i) => (
        <g key={`${p.role}.${p.index}`}>
          <title>{`${p.node_id} ${p.role}.${p.index}: ${stateName(partState(p))}`}</title>
          <StateShape state={partState(p)} x={x + 32} y={y + head + i * line + 2} size={11} />
          <text x={x + 48} y={y + head + i * line + 12} class="part">
            {shorten(`${p.role}.${p.index} ${p.node_id}`, 26)}
          </text>
        </g>
      ))}
      <title>{`${task.task_name}: ${stateName(task.status)}`}</title>
    </a>
  );
}

function shorten(text: string, length: number): string {
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}
