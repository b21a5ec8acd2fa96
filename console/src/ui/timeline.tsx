// Draws when each party's part of each task ran.
import { useMemo } from "preact/hooks";
import type { PartStatus, TaskStatus } from "../api/types";
import { t } from "../i18n";
import { Link, taskHref } from "../router";
import { partState } from "./dag";
import { stateName, StateShape } from "./state";
import { duration, now } from "./time";
import { useNarrow, useVirtualRows } from "./virtual";

// The heights of rows in style.css, with the gap between them.
const rowHeight = 24;
const narrowRowHeight = 64;

interface Row {
  task: TaskStatus;
  part: PartStatus;
  /** When the last of the tasks before it ended; none if the job began with it. */
  ready: number | undefined;
}

/** Timeline has a row for each part. What it waited for before its start is shaded. */
export function Timeline(props: { job: string; created: string | null; ended: string | null; tasks: TaskStatus[] }) {
  const rows = useMemo(() => rowsOf(props.tasks), [props.tasks]);
  const height = useNarrow() ? narrowRowHeight : rowHeight;
  const { range, box } = useVirtualRows<HTMLDivElement>(rows.length, height);
  const begin = Date.parse(props.created ?? new Date().toISOString());
  const end = Math.max(props.ended ? Date.parse(props.ended) : now.value, begin + 1);
  return (
    <div class="timeline" ref={box}>
      {range.first > 0 && <div style={{ height: `${range.first * height}px` }} />}
      {rows.slice(range.first, range.end).map((r) => (
        <PartRow
          key={`${r.task.task_name} ${r.part.role}.${r.part.index}`}
          job={props.job}
          row={r}
          begin={begin}
          end={end}
        />
      ))}
      {range.end < rows.length && <div style={{ height: `${(rows.length - range.end) * height}px` }} />}
    </div>
  );
}

function rowsOf(tasks: TaskStatus[]): Row[] {
  const endOf = new Map(tasks.map((task) => [task.task_name, Date.parse(task.ended_at ?? "")]));
  return tasks.flatMap((task) => {
    const before = (task.depends_on ?? []).map((n) => endOf.get(n) ?? NaN).filter((n) => !Number.isNaN(n));
    const ready = before.length ? Math.max(...before) : undefined;
    return task.parties.map((part) => ({ task, part, ready }));
  });
}

function PartRow({ job, row: { task, part: p, ready }, begin, end }: { job: string; row: Row; begin: number; end: number }) {
  const place = (at: number) => `${Math.min(100, Math.max(0, ((at - begin) / (end - begin)) * 100))}%`;
  const span = (from: number, to: number) => `${Math.max(0.4, (Math.max(0, to - from) / (end - begin)) * 100)}%`;
  const readyAt = ready ?? begin;
  const from = p.started_at ? Date.parse(p.started_at) : undefined;
  const to = p.ended_at ? Date.parse(p.ended_at) : end;
  const state = partState(p);
  const waited = from !== undefined && from - readyAt > 500;
  const waits = from === undefined && (p.waiting ?? task.waiting);
  const took = from === undefined ? "" : duration(to - from);
  const part = `${p.role}.${p.index} ${p.node_id}${task.attempt ? ` · ${t("job.attempt", { n: task.attempt })}` : ""}`;
  const outcome = took || stateName(state);
  return (
    <div class="t-row">
      <div class="t-name" title={`${task.task_name} ${part}`}>
        <StateShape state={state} size={12} />
        <span class="line">
          <Link to={taskHref(job, task.task_name, { role: `${p.role}.${p.index}` })}>{task.task_name}</Link>{" "}
          <span class="muted">{part}</span>
        </span>
      </div>
      <div class="t-track">
        {(waited || waits) && (
          <span
            class="t-wait"
            title={waits ? waits.message : t("job.waited", { d: duration(from! - readyAt) })}
            style={{ left: place(readyAt), width: span(readyAt, from ?? end) }}
          />
        )}
        {from !== undefined && (
          <span class={`t-bar s-${state}`} style={{ left: place(from), width: span(from, to) }} title={`${stateName(state)}, ${took}`} />
        )}
      </div>
      <div class="t-took number line" title={waits ? `${outcome} · ${waits.message}` : outcome}>
        {outcome}
        {waits && <span class="muted" translate={false}> · {waits.message}</span>}
      </div>
    </div>
  );
}
