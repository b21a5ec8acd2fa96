import type { ComponentChildren } from "preact";
import type { OverviewJob } from "../api/party";
import type { Failure } from "../api/types";
import { known, t } from "../i18n";
import { href, jobHref, Link, taskHref } from "../router";
import { useResource } from "../resource";
import { Loaded, Page, Section } from "../ui/basic";
import { partyName } from "../ui/failure";
import { bytes, count } from "../ui/format";
import { JobActions } from "../ui/jobactions";
import { StateBadge, type State } from "../ui/state";
import { absolute, Time } from "../ui/time";
import { CapacityBars } from "./operation";
import { loadOverview, type Summary } from "./overviewdata";
import "./pages.css";

/** Overview shows what needs a person, then the state of the party. */
export function Overview() {
  const overview = useResource("overview", loadOverview, () => true);
  return (
    <Page title={t("nav.overview")}>
      <Loaded resource={overview}>
        {(o) => (
          <>
            <Section title={t("overview.needs")}>
              <Needs of={o} reload={overview.reload} />
            </Section>
            <Section title={t("overview.jobs")} aside={o.counted && <span class="count">{t("overview.recent", { n: o.counted })}</span>}>
              <JobCounts of={o} />
            </Section>
            <div class="two">
              <Section title={t("overview.runners")}>
                {o.capacity.runners === 0 ? (
                  <p>{t("overview.noRunners")}</p>
                ) : (
                  <>
                    <p class="muted">
                      <Link to={href("operation")}>
                        {t("overview.runnersIn", { n: o.capacity.runners, c: o.capacity.running })}
                      </Link>
                    </p>
                    <CapacityBars used={o.capacity.used} total={o.capacity.total} />
                  </>
                )}
              </Section>
              <Section title={t("overview.partners")}>
                {o.partners.length === 0 ? (
                  <p class="muted">{t("partners.empty")}</p>
                ) : (
                  <table>
                    <thead>
                      <tr>
                        <th scope="col">{t("partners.partner")}</th>
                        {o.contacts && <th scope="col">{t("partners.contact")}</th>}
                      </tr>
                    </thead>
                    <tbody>
                      {o.partners.map((p) => (
                        <tr key={p.node_id}>
                          <th scope="row">
                            {p.node_id} <span class="muted">{p.name}</span>
                          </th>
                          {o.contacts && (
                            <td>
                              <Time at={p.contact_at} />
                            </td>
                          )}
                        </tr>
                      ))}
                    </tbody>
                  </table>
                )}
              </Section>
            </div>
          </>
        )}
      </Loaded>
    </Page>
  );
}

function Need({ kind, title, children, side }: { kind: "wait" | "bad"; title: ComponentChildren; children?: ComponentChildren; side?: ComponentChildren }) {
  return (
    <li class={`n-${kind}`}>
      <p>{title}</p>
      {side && <div class="needs-side">{side}</div>}
      {children && <p>{children}</p>}
    </li>
  );
}

function Needs({ of: o, reload }: { of: Summary; reload: () => void }) {
  const calm =
    o.approvals.length + o.failed.length + o.silent_partners.length + o.silent_runners.length === 0 && !o.storage?.nearly_full;
  if (calm) return <p class="note">{t("overview.nothing")}</p>;
  const moreApprovals = o.approval_count - o.approvals.length;
  const moreFailed = o.failed_count - o.failed.length;
  return (
    <ul class="needs">
      {o.approvals.map((j) => (
        <Need
          key={j.job_id}
          kind="wait"
          title={<JobTitle job={j} state="PENDING" word={t("overview.awaits")} />}
          side={
            <JobActions
              job={{
                job_id: j.job_id,
                state: "PENDING",
                initiator: j.initiator,
                waiting: [{ kind: "approval", message: j.reason, since: j.since, node_id: o.node_id }],
              }}
              done={reload}
              small
            />
          }
        >
          {partyName(j.initiator)} · <Time at={j.since} />
          {j.until && ` · ${t("waiting.until", { time: absolute(j.until) })}`}
        </Need>
      ))}
      {moreApprovals > 0 && (
        <Need kind="wait" title={<Link to={href("jobs", { state: "pending" })}>{t("overview.moreApprovals", { n: moreApprovals })}</Link>} />
      )}
      {o.storage?.nearly_full && (
        <Need kind="bad" title={<strong>{t("overview.storage")}</strong>}>
          {t("overview.storageText", { free: bytes(o.storage.free_bytes), total: bytes(o.storage.total_bytes) })}
        </Need>
      )}
      {o.silent_partners.map((p) => (
        <Need
          key={p.node_id}
          kind="bad"
          title={<strong>{t("overview.silentPartner", { node: p.node_id })}</strong>}
          side={<Time at={p.since} />}
        >
          <Link to={href("jobs", { partner: p.node_id, state: "pending,ready,running" })}>
            {t("overview.silentJobs", { n: p.jobs })}
          </Link>
          : {p.reason}
        </Need>
      ))}
      {o.silent_runners.map((id) => (
        <Need key={id} kind="bad" title={<Link to={href("operation")}>{t("overview.silentRunner", { id })}</Link>}>
          {t("overview.silentRunnerText")}
        </Need>
      ))}
      {o.failed.map((j) => (
        <Need
          key={j.job_id}
          kind="bad"
          title={<JobTitle job={j} state="FAILED" />}
          side={
            <span class="muted">
              <Time at={j.since} />
            </span>
          }
        >
          {j.task_name && (
            <>
              <Link to={taskHref(j.job_id, j.task_name, { role: j.failure?.role })}>
                {t("failure.task", { task: j.task_name })}
              </Link>
              {" · "}
            </>
          )}
          {j.node_id && <strong>{t("failure.party", { node: partyName(j.node_id) })}: </strong>}
          <span translate={false}>{j.failure ? reasonOf(j.failure) : j.reason}</span>
        </Need>
      ))}
      {moreFailed > 0 && (
        <Need
          kind="bad"
          title={<Link to={href("jobs", { state: "failed", time: "24h" })}>{t("overview.moreFailed", { n: moreFailed })}</Link>}
        />
      )}
    </ul>
  );
}

/** reasonOf returns why something failed, without where. An exit code alone says little; the log says more. */
function reasonOf(f: Failure): ComponentChildren {
  const last = f.message ? undefined : f.log?.[f.log.length - 1];
  return (
    <>
      {f.message || known("failure.kind", f.kind)}
      {f.exit_code !== undefined && <span class="muted"> ({t("failure.exitCode", { n: f.exit_code })})</span>}
      {last && <span class="last-line clamp">{last}</span>}
    </>
  );
}

function JobTitle({ job: j, state, word }: { job: OverviewJob; state: State; word?: string }) {
  return (
    <>
      <StateBadge state={state} /> <Link to={jobHref(j.job_id)}>{j.job_id}</Link> <span class="muted">{j.flow_id}</span>
      {word && <> · {word}</>}
    </>
  );
}

const order: State[] = ["PENDING", "READY", "RUNNING", "SUCCESS", "FAILED", "STOPPED", "REJECTED", "FINISHED"];

function JobCounts({ of: o }: { of: Summary }) {
  return (
    <div class="numbers">
      {order
        .filter((s) => o.jobs[s] !== undefined)
        .map((s) => (
          <Link key={s} to={href("jobs", { state: s === "FINISHED" ? "success,failed,stopped" : s.toLowerCase() })}>
            <strong>{count(o.jobs[s]!)}</strong>
            <StateBadge state={s} />
          </Link>
        ))}
      <div>
        <strong>{count(o.queued)}</strong>
        {t("overview.queued")}
      </div>
    </div>
  );
}
