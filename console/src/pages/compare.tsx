import { useState } from "preact/hooks";
import { get } from "../api/client";
import { paths } from "../api/paths";
import type { JobList } from "../api/types";
import { t } from "../i18n";
import { current, href, jobHref, Link, navigate } from "../router";
import { ofKinds, useResource } from "../resource";
import { canSomewhere } from "../session";
import { Loaded, Page } from "../ui/basic";
import { format } from "../ui/charts";
import { StateBadge, stateOf } from "../ui/state";
import { Duration, Time } from "../ui/time";
import { loadRuns, most, places, type Run } from "./comparedata";
import "./pages.css";

/** Compare sets jobs of a flow side by side: their times, their metrics, and the parameters that differ. */
export function Compare() {
  const query = current.value.query;
  const ids = [...new Set(query.getAll("job"))].slice(0, most);
  const flow = query.get("flow") ?? "";
  const key = JSON.stringify(ids);
  const runs = useResource(key, (abort) => loadRuns(ids, abort), ofKinds("job"));
  const chosenFlow = flow || runs.data?.find((r) => r.summary?.flow_id)?.summary?.flow_id || "";
  return (
    <Page title={t("compare.title")}>
      <Chooser flow={chosenFlow} ids={ids} />
      {ids.length < 2 ? (
        <p class="muted">{t("compare.few")}</p>
      ) : (
        <Loaded resource={runs}>{(list) => <Sides runs={list} />}</Loaded>
      )}
    </Page>
  );
}

function choose(flow: string, ids: string[]): void {
  const params = new URLSearchParams();
  if (flow) params.set("flow", flow);
  for (const id of ids) params.append("job", id);
  navigate(`${href("compare")}?${params.toString()}`, true);
}

function Chooser({ flow, ids }: { flow: string; ids: string[] }) {
  const flows = useResource("flows", async (abort) => {
    const { jobs } = await get<JobList>(paths.jobs, { limit: 500 }, abort);
    return [...new Set(jobs.map((j) => j.flow_id))].filter(Boolean).sort();
  });
  const jobs = useResource(
    `jobs of ${flow}`,
    async (abort) => (flow ? (await get<JobList>(paths.jobs, { flow_id: flow, limit: 20 }, abort)).jobs : []),
    ofKinds("job"),
  );
  return (
    <form class="filters" onSubmit={(e) => e.preventDefault()}>
      <label class="filter">
        {t("compare.flow")}
        <select
          value={flow}
          onChange={(e) => {
            choose(e.currentTarget.value, []);
          }}
        >
          <option value="">{t("compare.choose")}</option>
          {[...new Set([...(flows.data ?? []), ...(flow ? [flow] : [])])].map((f) => (
            <option key={f}>{f}</option>
          ))}
        </select>
      </label>
      {flow && (
        <fieldset class="chips">
          <legend class="filter">{t("compare.jobs")}</legend>
          {(jobs.data ?? []).map((j) => (
            <label key={j.job_id} class="chip">
              <input
                type="checkbox"
                checked={ids.includes(j.job_id)}
                disabled={!ids.includes(j.job_id) && ids.length >= most}
                onChange={(e) =>
                  choose(flow, e.currentTarget.checked ? [...ids, j.job_id] : ids.filter((id) => id !== j.job_id))
                }
              />
              <span>{j.job_id}</span>
            </label>
          ))}
        </fieldset>
      )}
    </form>
  );
}

function Sides({ runs }: { runs: Run[] }) {
  const [all, setAll] = useState(false);
  const metrics = places(runs.map((r) => r.metrics));
  const differs = (place: string) => new Set(runs.map((r) => r.parameters.get(place) ?? "")).size > 1;
  const parameters = places(runs.map((r) => r.parameters)).filter((p) => all || differs(p));
  const group = (title: string) => (
    <tr class="group">
      <th scope="rowgroup" colSpan={runs.length + 1}>
        {title}
      </th>
    </tr>
  );
  return (
    <>
      <label class="check">
        <input type="checkbox" checked={all} onChange={(e) => setAll(e.currentTarget.checked)} />
        {t("compare.all")}
      </label>
      <div class="scroll" tabIndex={0} role="region" aria-label={t("compare.title")}>
        <table class="compare">
          <thead>
            <tr>
              <th scope="col">{t("compare.run")}</th>
              {runs.map((r) => (
                <th key={r.id} scope="col">
                  <Link to={jobHref(r.id)}>{r.id}</Link>
                  {r.summary && <div class="muted">{r.summary.flow_id || t("compare.noFlow")}</div>}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {group(t("compare.times"))}
            <tr>
              <th scope="row">{t("compare.state")}</th>
              {runs.map((r) => (
                <td key={r.id}>{r.summary && <StateBadge state={stateOf(r.summary)} />}</td>
              ))}
            </tr>
            <tr>
              <th scope="row">{t("compare.created")}</th>
              {runs.map((r) => (
                <td key={r.id}>
                  <Time at={r.summary?.created_at} />
                </td>
              ))}
            </tr>
            <tr>
              <th scope="row">{t("compare.waited")}</th>
              {runs.map((r) => (
                <td key={r.id}>
                  <Duration from={r.summary?.created_at} to={r.summary?.started_at ?? r.summary?.ended_at} />
                </td>
              ))}
            </tr>
            <tr>
              <th scope="row">{t("compare.took")}</th>
              {runs.map((r) => (
                <td key={r.id}>
                  <Duration from={r.summary?.started_at} to={r.summary?.ended_at} />
                </td>
              ))}
            </tr>
          </tbody>
          <tbody>
            {group(t("compare.metrics"))}
            {metrics.length === 0 && (
              <tr>
                <td colSpan={runs.length + 1} class="muted">
                  {canSomewhere("data") ? t("compare.noMetrics") : t("app.lacksRole", { role: "data" })}
                </td>
              </tr>
            )}
            {metrics.map((place) => (
              <tr key={place}>
                <th scope="row">{place}</th>
                {runs.map((r) => {
                  const value = r.metrics.get(place);
                  return <td key={r.id}>{value === undefined ? "–" : format(value)}</td>;
                })}
              </tr>
            ))}
          </tbody>
          <tbody>
            {group(t(all ? "providers.parameters" : "compare.parameters"))}
            {parameters.length === 0 && (
              <tr>
                <td colSpan={runs.length + 1} class="muted">
                  {t("compare.same")}
                </td>
              </tr>
            )}
            {parameters.map((place) => (
              <tr key={place} class={differs(place) ? "differs" : ""}>
                <th scope="row">{place}</th>
                {runs.map((r) => (
                  <td key={r.id} class="mono">
                    {r.parameters.get(place) ?? "–"}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </>
  );
}
