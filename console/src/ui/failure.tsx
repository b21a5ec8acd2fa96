import type { Failure, Waiting } from "../api/types";
import { known, t } from "../i18n";
import { Link, taskHref } from "../router";
import { ownNode } from "../session";
import { Time } from "./time";

/** failurePlace returns where something failed: the party, the role, the task. */
export function failurePlace(f: Failure): string {
  return [f.task_name, f.role, f.node_id && partyName(f.node_id)].filter(Boolean).join(" · ");
}

/** failureText returns a failure in one line. */
export function failureText(f: Failure | undefined, reason?: string): string {
  if (!f) return reason ?? "";
  return [failurePlace(f), f.message || known("failure.kind", f.kind)].filter(Boolean).join(": ");
}

/** waitingText returns why something waits, in one line. */
export function waitingText(list: Waiting[] | undefined): string {
  return (list ?? []).map((w) => w.message).join("; ");
}

/** partyName returns a node id, and that it is this party if it is. */
export function partyName(node: string): string {
  return node === ownNode.value ? `${node} (${t("failure.own")})` : node;
}

/** FailureCard shows what failed where and why, what to try, and the last lines of the log. */
export function FailureCard({ failure, reason, job }: { failure?: Failure | undefined; reason?: string; job?: string }) {
  if (!failure) {
    if (!reason) return null;
    return (
      <section class="failure" aria-label={t("failure.title")}>
        <h2>{t("failure.title")}</h2>
        <p class="failure-why" translate={false}>{reason}</p>
      </section>
    );
  }
  const f = failure;
  return (
    <section class="failure" aria-label={[t("failure.title"), failurePlace(f)].filter(Boolean).join(": ")}>
      <h2>
        {t("failure.title")}: {known("failure.kind", f.kind)}
        {f.exit_code !== undefined && <span class="muted"> · {t("failure.exitCode", { n: f.exit_code })}</span>}
      </h2>
      <dl class="facts">
        {(f.node_id || f.task_name) && (
          <>
            <dt>{t("failure.where")}</dt>
            <dd>
              {f.task_name &&
                (job ? (
                  <Link to={taskHref(job, f.task_name, { role: f.role })}>{t("failure.task", { task: f.task_name })}</Link>
                ) : (
                  t("failure.task", { task: f.task_name })
                ))}
              {f.task_name && f.node_id && " · "}
              {f.node_id && t("failure.party", { node: partyName(f.node_id) })}
              {f.role && ` · ${f.role}`}
            </dd>
          </>
        )}
        <dt>{t("failure.why")}</dt>
        <dd class="failure-why" translate={false}>
          {f.message || reason || known("failure.kind", f.kind)}
          {f.by && <span class="muted"> ({t("failure.by", { by: f.by })})</span>}
        </dd>
        {f.hint && (
          <>
            <dt>{t("failure.hint")}</dt>
            <dd translate={false}>{f.hint}</dd>
          </>
        )}
      </dl>
      {f.log && f.log.length > 0 && (
        <figure class="failure-log">
          <figcaption>{t("failure.log")}</figcaption>
          <pre tabIndex={0}>{f.log.join("\n")}</pre>
        </figure>
      )}
    </section>
  );
}

/** WaitingList shows why something waits. */
export function WaitingList({ waiting }: { waiting: Waiting[] }) {
  return (
    <ul class="waiting">
      {waiting.map((w) => (
        <li key={w.kind + (w.node_id ?? "")}>
          <strong>{known("waiting.kind", w.kind)}</strong>
          {w.node_id && <span class="muted"> · {partyName(w.node_id)}</span>}: <span translate={false}>{w.message}</span>{" "}
          <span class="muted">
            (<Time at={w.since} />)
          </span>
        </li>
      ))}
    </ul>
  );
}
