import type { JobStatus, TaskStatus } from "../api/types";
import { t, type Key } from "../i18n";

/**
 * State is a state of a job or task, with how a job ended in place of FINISHED. UNSTARTED is that of a task which did
 * not start before its job ended.
 */
export type State = "UNSTARTED" | "PENDING" | "READY" | "RUNNING" | "SUCCESS" | "FAILED" | "STOPPED" | "REJECTED" | "FINISHED";

/** stateOf returns the state that a job is shown in. */
export function stateOf(job: { job_status: string; outcome?: string }): State {
  return (job.outcome || job.job_status) as State;
}

/** ended returns whether a state is final. */
export function ended(state: State): boolean {
  return state !== "PENDING" && state !== "READY" && state !== "RUNNING";
}

/** tasksOf returns the tasks of a job in the states that they are shown in. */
export function tasksOf(job: JobStatus): TaskStatus[] {
  const tasks = job.tasks ?? [];
  if (!ended(stateOf(job))) return tasks;
  const shown = (status: string) => (ended(status as State) || status === "RUNNING" ? status : "UNSTARTED");
  return tasks.map((task) => ({
    ...task,
    status: shown(task.status) as TaskStatus["status"],
    parties: task.parties.map((p) => ({ ...p, status: shown(p.status) as typeof p.status })),
  }));
}

export function stateName(state: State): string {
  return t(`state.${state}` as Key);
}

/** shapes draw each state with a form of its own, in a square of 16. */
const shapes: Record<State, preact.JSX.Element> = {
  UNSTARTED: <circle cx="8" cy="8" r="6.2" class="stroke dashed" />,
  PENDING: (
    <>
      <circle cx="8" cy="8" r="6.2" class="stroke dashed" />
      <path d="M6.2 5.5v5M9.8 5.5v5" class="stroke" />
    </>
  ),
  READY: (
    <>
      <circle cx="8" cy="8" r="6.2" class="stroke" />
      <path d="M8 4.6V8l2.4 1.6" class="stroke" />
    </>
  ),
  RUNNING: (
    <>
      <circle cx="8" cy="8" r="6.2" class="stroke" />
      <path d="M6.4 5.2 11 8l-4.6 2.8z" class="fill" />
    </>
  ),
  SUCCESS: (
    <>
      <circle cx="8" cy="8" r="7" class="fill" />
      <path d="M4.8 8.3 7 10.4l4.2-4.6" class="cut" />
    </>
  ),
  FAILED: (
    <>
      <path d="M5.1 1h5.8L15 5.1v5.8L10.9 15H5.1L1 10.9V5.1z" class="fill" />
      <path d="m5.6 5.6 4.8 4.8m0-4.8-4.8 4.8" class="cut" />
    </>
  ),
  STOPPED: <rect x="2" y="2" width="12" height="12" rx="1.5" class="fill" />,
  REJECTED: (
    <>
      <circle cx="8" cy="8" r="6.2" class="stroke" />
      <path d="m3.8 12.2 8.4-8.4" class="stroke" />
    </>
  ),
  FINISHED: (
    <>
      <circle cx="8" cy="8" r="6.2" class="stroke" />
      <circle cx="8" cy="8" r="2.4" class="fill" />
    </>
  ),
};

/** StateShape draws a state, in an svg of its own or, with x and y, within another. */
export function StateShape({ state, x, y, size = 14 }: { state: State; x?: number; y?: number; size?: number }) {
  return (
    <svg class={`shape s-${state}`} x={x} y={y} width={size} height={size} viewBox="0 0 16 16" aria-hidden="true">
      {shapes[state] ?? shapes.FINISHED}
    </svg>
  );
}

/** StateBadge shows a state as a shape and a word. */
export function StateBadge({ state }: { state: State }) {
  return (
    <span class={`state s-${state}`}>
      <StateShape state={state} />
      {stateName(state)}
    </span>
  );
}
