import { useEffect, useState } from "preact/hooks";
import type { OverviewJob } from "../api/party";
import { t } from "../i18n";
import { useResource } from "../resource";
import { href, jobHref, Link } from "../router";
import { canSomewhere } from "../session";
import { ApprovalView } from "../ui/approval";
import { Empty, Loaded, Page } from "../ui/basic";
import { partyName } from "../ui/failure";
import { JobActions } from "../ui/jobactions";
import { absolute, Time } from "../ui/time";
import { loadOverview } from "./overviewdata";
import { Rules } from "./rules";
import "./pages.css";

const askEvery = 5000;

// So many jobs are shown with what is decided; that of the others is loaded once it is opened.
const opened = 5;

/** Approvals lists the jobs that await the approval of this party, each with what its approver decides on. */
export function Approvals() {
  const overview = useResource("overview", loadOverview, () => true);
  const [decided, setDecided] = useState(0);
  function done() {
    overview.reload();
    setDecided((n) => n + 1);
  }
  // Events are for viewers; others ask from time to time.
  useEffect(() => {
    if (canSomewhere("viewer")) return;
    const timer = setInterval(() => document.hidden || overview.reload(), askEvery);
    return () => clearInterval(timer);
  }, []);
  return (
    <Page title={t("nav.approvals")}>
      <Loaded resource={overview}>
        {(o) => (
          <>
            {o.approvals.length === 0 && (
              <Empty title={t("approvals.empty")}>
                <p>{t("approvals.emptyText")}</p>
              </Empty>
            )}
            {o.approvals.map((j, i) => (
              <Awaiting key={j.job_id} job={j} node={o.node_id} open={i < opened} done={done} />
            ))}
            {o.approval_count > o.approvals.length && (
              <p>
                {canSomewhere("viewer") ? (
                  <Link to={href("jobs", { state: "pending" })}>
                    {t("overview.moreApprovals", { n: o.approval_count - o.approvals.length })}
                  </Link>
                ) : (
                  t("overview.moreApprovals", { n: o.approval_count - o.approvals.length })
                )}
              </p>
            )}
          </>
        )}
      </Loaded>
      <Rules loads={decided} />
    </Page>
  );
}

function Awaiting({ job: j, node, open, done }: { job: OverviewJob; node: string; open: boolean; done: () => void }) {
  const [shown, setShown] = useState(open);
  return (
    <section class="section">
      <div class="section-head">
        <h2>
          {canSomewhere("viewer") ? <Link to={jobHref(j.job_id)}>{j.job_id}</Link> : j.job_id} <span class="muted">{j.flow_id}</span>
        </h2>
        <JobActions
          job={{
            job_id: j.job_id,
            state: "PENDING",
            initiator: j.initiator,
            project: j.project,
            waiting: [{ kind: "approval", message: j.reason, since: j.since, node_id: node }],
          }}
          done={done}
        />
      </div>
      <p class="muted">
        {partyName(j.initiator)} · <Time at={j.since} />
        {j.until && ` · ${t("waiting.until", { time: absolute(j.until) })}`}
      </p>
      <details open={shown} onToggle={(e) => setShown(e.currentTarget.open)}>
        <summary>{t("approval.title")}</summary>
        {shown && <ApprovalView id={j.job_id} />}
      </details>
    </section>
  );
}
