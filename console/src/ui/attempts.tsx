// The attempts of a task: when each began and ended, and why.
import type { AttemptStatus, PartStatus, TaskStatus } from "../api/types";
import { known, t } from "../i18n";
import { Link, taskHref } from "../router";
import { ownNode } from "../session";
import { Details } from "./basic";
import { partState } from "./dag";
import { failureText, partyName } from "./failure";
import { StateBadge, type State } from "./state";
import { ActionTable, type Column } from "./table";
import { absolute, duration, Duration, now } from "./time";

/** PartAttempt is a part of one attempt of a task. */
export interface PartAttempt {
  attempt: number;
  latest: boolean;
  part: PartStatus;
  /** Why the attempt ended, if another one followed, as far as this party knows it. */
  failure?: AttemptStatus["failure"];
}

/** allAttempts returns the attempts of a part, the latest last. */
export function allAttempts(task: TaskStatus, part: PartStatus): PartAttempt[] {
  const same = (p: PartStatus) => p.role === part.role && p.index === part.index && p.node_id === part.node_id;
  const list: PartAttempt[] = (task.attempts ?? []).flatMap((a) =>
    a.parties.filter(same).map((p) => ({ attempt: a.attempt, latest: false, part: p, failure: a.failure })),
  );
  list.push({ attempt: task.attempt ?? 1, latest: true, part });
  return list;
}

/** attemptEnd returns why a part of an attempt ended that another one followed. */
export function attemptEnd({ part, failure }: PartAttempt): string {
  if (part.failure && part.failure.kind !== "stopped") return part.reason || failureText(part.failure);
  if (!failure) return t("attempt.failedElsewhere");
  return t("attempt.endedFor", { reason: failureText(failure) });
}

/** waitsOf returns what a part has waited for, with what it waits for now until the given time. */
export function waitsOf(part: PartStatus, end: number): NonNullable<PartStatus["waits"]> {
  const waits = part.waits ?? [];
  if (!part.waiting || !part.started_at) return waits;
  return [...waits, { ...part.waiting, ended_at: new Date(end).toISOString() }];
}

/** waitedText returns how long a part waited, and why. */
export function waitedText(w: NonNullable<PartStatus["waits"]>[number]): string {
  const took = t("job.waited", { d: duration(Date.parse(w.ended_at) - Date.parse(w.since)) });
  return `${took}: ${w.message || known("waiting.kind", w.kind)}`;
}

/**
 * attemptState returns the state that a part of an attempt is shown in. A part that ran while the attempt was lost at
 * another one was stopped.
 */
export function attemptState({ part, latest }: PartAttempt): State {
  if (!latest && part.status === "FAILED" && !part.failure) return "STOPPED";
  return partState(part);
}

/** AttemptTable lists the parts of a task in all attempts, the latest first. */
export function AttemptTable({ job, task }: { job: string; task: TaskStatus }) {
  const rows = task.parties.flatMap((p) => allAttempts(task, p)).sort((a, b) => b.attempt - a.attempt);
  const several = (task.attempt ?? 1) > 1;
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={t(several ? "attempt.title" : "task.parts")}>
      <ActionTable
        rows={rows}
        id={({ attempt, part }) => `${attempt} ${part.role}.${part.index}`}
        columns={columns(job, task, several)}
      />
    </div>
  );
}

function columns(job: string, task: TaskStatus, several: boolean): Column<PartAttempt>[] {
  const roleOf = ({ part }: PartAttempt) => `${part.role}.${part.index}`;
  const attempt: Column<PartAttempt> = {
    title: t("task.attempt"),
    cell: (row) => {
      const role = roleOf(row);
      const started = row.latest || row.part.started_at; // an attempt may have failed elsewhere before
      if (row.part.node_id !== ownNode.value || !started) return row.attempt;
      const to = taskHref(job, task.task_name, { role, ...(row.latest ? {} : { attempt: String(row.attempt) }) });
      return <Link to={to} aria-label={t("attempt.log", { n: row.attempt, role })}>{row.attempt}</Link>;
    },
  };
  return [
    ...(several ? [attempt] : []),
    { title: t("job.part"), names: true, cell: (row) => `${roleOf(row)} ${partyName(row.part.node_id)}` },
    { title: t("jobs.state"), plain: true, cell: (row) => <StateBadge state={attemptState(row)} /> },
    { title: t("job.started"), cell: ({ part }) => when(part.started_at) },
    { title: t("attempt.ended"), cell: ({ part }) => when(part.ended_at) },
    {
      title: t("job.duration"),
      class: "took",
      cell: ({ part }) => <Duration from={part.started_at} to={part.ended_at} />,
    },
    { title: t("jobs.reason"), plain: true, cell: (row) => <Reason row={row} /> },
  ];
}

/** Reason shows why a part ended, and what it waited for. */
function Reason({ row }: { row: PartAttempt }) {
  const p = row.part;
  return (
    <>
      {row.latest ? <span translate={false}>{p.reason || p.waiting?.message || p.progress}</span> : attemptEnd(row)}
      {!row.latest && p.failure?.log && p.failure.log.length > 0 && (
        <Details summary={t("failure.log")}>{() => <pre tabIndex={0}>{p.failure!.log!.join("\n")}</pre>}</Details>
      )}
      {waitsOf(p, now.value).map((w) => (
        <span class="waited muted" key={w.since}>
          {waitedText(w)}
        </span>
      ))}
    </>
  );
}

function when(at: string | null | undefined) {
  return at ? <time dateTime={at}>{absolute(at)}</time> : <span class="muted">–</span>;
}
