import type { JobUse } from "../api/party";
import { t } from "../i18n";
import { jobHref, Link } from "../router";
import { StateBadge, type State } from "./state";
import { Time } from "./time";

/** JobLinks lists jobs that use something. */
export function JobLinks({ jobs }: { jobs: JobUse[] | undefined }) {
  if (!jobs?.length) return <p class="muted">{t("use.none")}</p>;
  return (
    <ul class="uses">
      {jobs.map((j) => (
        <li key={j.job_id}>
          <StateBadge state={j.state as State} />
          <Link to={jobHref(j.job_id)}>{j.job_id}</Link>
          <span class="muted">
            {j.flow_id} · <Time at={j.created_at} />
          </span>
        </li>
      ))}
    </ul>
  );
}
