// Draws when each party's part of each task ran, in each of its attempts.
import { Fragment } from "preact";
import { useMemo } from "preact/hooks";
import type { PartStatus, TaskStatus } from "../api/types";
import { t } from "../i18n";
import { Link, taskHref } from "../router";
import { partState } from "./dag";
import { stateName, StateShape, type State } from "./state";
import { duration, now } from "./time";
import { allAttempts, attemptEnd, attemptState, waitedText, waitsOf, type PartAttempt } from "./attempts";
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

/** Timeline has a row for each part, with a bar for each attempt. Where it waited is shaded. */
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

// Shorter waits are not drawn.
const shortestWait = 500;

/** barTitle returns how an attempt ended, after how long and why. */
function barTitle(run: PartAttempt, state: State, took: number): string {
  const text = `${stateName(state)}, ${duration(took)}`;
  if (run.latest) return text;
  return `${t("job.attempt", { n: run.attempt })}: ${text}: ${attemptEnd(run)}`;
}

function PartRow({ job, row: { task, part: p, ready }, begin, end }: { job: string; row: Row; begin: number; end: number }) {
  const place = (at: number) => `${Math.min(100, Math.max(0, ((at - begin) / (end - begin)) * 100))}%`;
  const span = (from: number, to: number) => `${Math.max(0.4, (Math.max(0, to - from) / (end - begin)) * 100)}%`;
  const readyAt = ready ?? begin;
  const runs = allAttempts(task, p).filter((a) => a.part.started_at);
  const first = runs[0] && Date.parse(runs[0].part.started_at!);
  const state = partState(p);
  const late = first !== undefined && first - readyAt > shortestWait;
  const waits = p.waiting ?? (first === undefined ? task.waiting : undefined);
  const took = p.started_at ? duration((p.ended_at ? Date.parse(p.ended_at) : end) - Date.parse(p.started_at)) : "";
  const part = `${p.role}.${p.index} ${p.node_id}${task.attempt ? ` · ${t("job.attempt", { n: task.attempt })}` : ""}`;
  const outcome = took || stateName(state);
  const wait = (from: number, to: number, title: string) => (
    <span key={from} class="t-wait" title={title} style={{ left: place(from), width: span(from, to) }} />
  );
  const bar = (run: PartAttempt) => {
    const from = Date.parse(run.part.started_at!);
    const to = run.part.ended_at ? Date.parse(run.part.ended_at) : end;
    const shown = attemptState(run);
    return <span class={`t-bar s-${shown}`} style={{ left: place(from), width: span(from, to) }} title={barTitle(run, shown, to - from)} />;
  };
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
        {late && wait(readyAt, first, t("job.waitedStart", { d: duration(first - readyAt) }))}
        {first === undefined && waits && wait(readyAt, end, waits.message)}
        {runs.map((run) => (
          <Fragment key={run.attempt}>
            {bar(run)}
            {waitsOf(run.part, end).map((w) => wait(Date.parse(w.since), Date.parse(w.ended_at), waitedText(w)))}
          </Fragment>
        ))}
      </div>
      <div class="t-took number line" title={waits ? `${outcome} · ${waits.message}` : outcome}>
        {outcome}
        {waits && <span class="muted" translate={false}> · {waits.message}</span>}
      </div>
    </div>
  );
}
