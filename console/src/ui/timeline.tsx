// Draws when each party's part of each task ran.
import type { TaskStatus } from "../api/types";
import { t } from "../i18n";
import { Link, taskHref } from "../router";
import { partState } from "./dag";
import { stateName, StateShape } from "./state";
import { duration, now } from "./time";

/** Timeline has a row for each part. What it waited for before its start is shaded. */
export function Timeline(props: { job: string; created: string | null; ended: string | null; tasks: TaskStatus[] }) {
  const begin = Date.parse(props.created ?? new Date().toISOString());
  const end = Math.max(props.ended ? Date.parse(props.ended) : now.value, begin + 1);
  const place = (at: number) => `${Math.min(100, Math.max(0, ((at - begin) / (end - begin)) * 100))}%`;
  const span = (from: number, to: number) => `${Math.max(0.4, (Math.max(0, to - from) / (end - begin)) * 100)}%`;
  const endOf = new Map(props.tasks.map((task) => [task.task_name, task.ended_at]));

  return (
    <div class="timeline">
      {props.tasks.flatMap((task) => {
        const ready = (task.depends_on ?? []).map((n) => Date.parse(endOf.get(n) ?? "")).filter((n) => !Number.isNaN(n));
        const readyAt = ready.length ? Math.max(...ready) : begin;
        return task.parties.map((p) => {
          const from = p.started_at ? Date.parse(p.started_at) : undefined;
          const to = p.ended_at ? Date.parse(p.ended_at) : end;
          const state = partState(p);
          const waited = from !== undefined && from - readyAt > 500;
          const waits = from === undefined && (p.waiting ?? task.waiting);
          const took = from === undefined ? "" : duration(to - from);
          return (
            <div class="t-row" key={`${task.task_name} ${p.role}.${p.index}`}>
              <div class="t-name">
                <StateShape state={state} size={12} />
                <span>
                  <Link to={taskHref(props.job, task.task_name, { role: `${p.role}.${p.index}` })}>{task.task_name}</Link>{" "}
                  <span class="muted">
                    {p.role}.{p.index} {p.node_id}
                    {task.attempt ? ` · ${t("job.attempt", { n: task.attempt })}` : ""}
                  </span>
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
              <div class="t-took number">
                {took || stateName(state)}
                {waits && <span class="muted"> · {waits.message}</span>}
              </div>
            </div>
          );
        });
      })}
    </div>
  );
}
