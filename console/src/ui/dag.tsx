// Draws the tasks of a job as a graph, from left to right: each task with the state of each party's part.
import { useMemo } from "preact/hooks";
import type { PartStatus, TaskStatus } from "../api/types";
import { t } from "../i18n";
import { navigate, taskHref } from "../router";
import { stateName, StateShape, type State } from "./state";

/** partState returns the state that a part is shown in: one that was stopped since another failed is no cause. */
export function partState(p: PartStatus): State {
  return p.status === "FAILED" && p.failure?.kind === "stopped" ? "STOPPED" : p.status;
}

interface Node {
  task: TaskStatus;
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
      const node = { task, x: 1 + i * (width + gapX), y, height: head + task.parties.length * line + 6 };
      nodes.push(node);
      placed.set(task.task_name, node);
      y += node.height + gapY;
    }
    total = Math.max(total, y);
  });
  return { nodes, width: layers.length * (width + gapX) - gapX + 2, height: total - gapY + 2 };
}

/** Dag draws the graph. The table of tasks beside it has the same content for screen readers. */
export function Dag({ job, tasks }: { job: string; tasks: TaskStatus[] }) {
  const { nodes, width: w, height: h } = useMemo(() => layout(tasks), [tasks]);
  const byName = new Map(nodes.map((n) => [n.task.task_name, n]));
  return (
    <div class="scroll dag" tabIndex={0} role="group" aria-label={t("job.graph")}>
      <svg width={w} height={h} viewBox={`0 0 ${w} ${h}`}>
        {nodes.flatMap((n) =>
          (n.task.depends_on ?? []).map((name) => {
            const from = byName.get(name);
            if (!from) return null;
            const [x1, y1, x2, y2] = [from.x + width, from.y + from.height / 2, n.x, n.y + n.height / 2];
            const bend = (x2 - x1) / 2;
            return <path key={`${name}>${n.task.task_name}`} class="edge" d={`M${x1} ${y1}C${x1 + bend} ${y1} ${x2 - bend} ${y2} ${x2} ${y2}`} />;
          }),
        )}
        {nodes.map((n) => (
          <DagNode key={n.task.task_name} job={job} node={n} />
        ))}
      </svg>
    </div>
  );
}

function DagNode({ job, node: { task, x, y, height } }: { job: string; node: Node }) {
  const to = taskHref(job, task.task_name);
  return (
    <a
      href={to}
      class={`dag-node s-${task.status}`}
      onClick={(e) => {
        if (e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey) return;
        e.preventDefault();
        navigate(to);
      }}
    >
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
