import { useEffect, useState } from "preact/hooks";
import { get, post } from "../api/client";
import type { JobDocument } from "../api/document";
import { partyPaths, type Periodic as PeriodicJob, type PeriodicRun } from "../api/party";
import { paths } from "../api/paths";
import { known, t } from "../i18n";
import { current, href, jobHref, Link, navigate } from "../router";
import { ofKinds, useResource } from "../resource";
import { canIn, canSomewhere } from "../session";
import { ProjectSelect, ProjectTag, useProjects } from "../ui/project";
import { Details, Empty, ErrorBox, Loaded, Page, Section } from "../ui/basic";
import { ActionTable, type Action, type Column } from "../ui/table";
import { absolute, Time } from "../ui/time";
import "./pages.css";

/** Periodic shows the jobs that the party submits by a calendar, and adds one from a job. */
export function Periodic() {
  const list = useResource(
    "periodic",
    (abort) => get<PeriodicJob[]>(partyPaths.periodic, {}, abort),
    ofKinds("job"),
  );
  const from = current.value.query.get("from") ?? "";
  return (
    <Page title={t("periodic.title")}>
      {from && canSomewhere("operator") && <Add from={from} done={list.reload} />}
      <Loaded resource={list}>
        {(all) =>
          all.length === 0 ? (
            <Empty title={t("periodic.empty")}>
              <p>{t("periodic.emptyText")}</p>
            </Empty>
          ) : (
            <ActionTable
              rows={all}
              id={(p) => p.name}
              ids="periodic-"
              columns={columns()}
              actions={(p) => (canIn("operator", p.project) ? actionsOf(p) : [])}
              done={list.reload}
            />
          )
        }
      </Loaded>
    </Page>
  );
}

function columns(): Column<PeriodicJob>[] {
  return [
    {
      title: t("periodic.name"),
      cell: (p) => (
        <>
          {p.name} <ProjectTag project={p.project} />
          {p.flow_id && p.flow_id !== p.name && <span class="muted"> {p.flow_id}</span>}
        </>
      ),
    },
    {
      title: t("periodic.calendar"),
      cell: (p) => (
        <>
          <span class="mono">{p.cron}</span> <span class="muted">{p.timezone || "UTC"}</span>
        </>
      ),
    },
    {
      title: t("periodic.state"),
      cell: (p) => (
        <>
          <span class={p.state === "ACTIVE" ? "tag" : "tag tag-wait"}>{known("periodic.state", p.state)}</span>
          {p.reason && <span translate={false}> {p.reason}</span>}
        </>
      ),
    },
    { title: t("periodic.next"), cell: (p) => (p.next_at ? <Time at={p.next_at} /> : t("none")) },
    { title: t("periodic.last"), cell: (p) => <Runs list={p.last_runs} /> },
    { title: t("periodic.owner"), cell: (p) => p.owner || t("none") },
  ];
}

/** Runs shows the last run, and the ones before it once they are asked for. */
function Runs({ list }: { list: PeriodicRun[] }) {
  const last = list[0];
  if (!last) return <>{t("none")}</>;
  return (
    <>
      <Run run={last} />
      {list.length > 1 && (
        <Details summary={t("periodic.runs", { n: list.length })}>
          {() => (
            <ul>
              {list.map((r) => (
                <li key={`${r.scheduled_at} ${r.manual}`}>
                  <Run run={r} />
                </li>
              ))}
            </ul>
          )}
        </Details>
      )}
    </>
  );
}

/** Run shows when a run was, and what became of it. */
function Run({ run: r }: { run: PeriodicRun }) {
  const outcome = known("periodic.outcome", r.outcome);
  return (
    <>
      <Time at={r.scheduled_at} />: {r.job_id && r.outcome !== "REFUSED" ? <Link to={jobHref(r.job_id)}>{outcome}</Link> : outcome}
      {r.manual && <span class="muted"> {t("periodic.manual")}</span>}
      {r.reason && (
        <span class="muted" translate={false}>
          {" "}
          {r.reason}
        </span>
      )}
    </>
  );
}

type Act = "run" | "pause" | "resume" | "delete";

const actPaths: Record<Act, string> = {
  run: partyPaths.runPeriodic,
  pause: partyPaths.pausePeriodic,
  resume: partyPaths.resumePeriodic,
  delete: partyPaths.deletePeriodic,
};

function actionsOf(p: PeriodicJob): Action[] {
  const acts: Act[] = p.state === "ENDED" ? ["delete"] : ["run", p.state === "PAUSED" ? "resume" : "pause", "delete"];
  return acts.map((act) => ({
    button: t(`periodic.${act}`),
    title: t(`periodic.${act}Title`, { name: p.name }),
    text: t(`periodic.${act}Text`),
    danger: act === "delete",
    ...(act === "pause" ? { reason: t("periodic.reason") } : {}),
    do: (reason, request) =>
      post(actPaths[act], {
        name: p.name,
        ...(reason ? { reason } : {}),
        ...(act === "run" ? { request_id: request } : {}),
      }),
  }));
}

interface Added {
  name: string;
  upcoming: string[];
}

/** Add is the form for a periodic job with the document of a job. */
function Add({ from, done }: { from: string; done: () => void }) {
  const [document, setDocument] = useState<JobDocument>();
  const [name, setName] = useState("");
  const [cron, setCron] = useState("0 2 * * *");
  const [timezone, setTimezone] = useState(Intl.DateTimeFormat().resolvedOptions().timeZone);
  const [overlap, setOverlap] = useState("skip");
  const [failures, setFailures] = useState(0);
  const [error, setError] = useState<Error>();
  const [added, setAdded] = useState<Added>();
  const [busy, setBusy] = useState(false);
  const projects = useProjects("operator");
  const [chosen, setChosen] = useState(current.value.query.get("project") ?? "");
  const project = projects.includes(chosen) ? chosen : projects[0];

  useEffect(() => {
    const abort = new AbortController();
    get<{ document: JobDocument }>(paths.document, { job_id: from }, abort.signal)
      .then(({ document: found }) => {
        const { job_id: _id, old_job_id: _old, ...rest } = found as JobDocument & Record<string, unknown>;
        setDocument(rest as JobDocument);
        setName((typed) => typed || ((rest as { flow_id?: string }).flow_id ?? ""));
      })
      .catch((e: unknown) => {
        if (!abort.signal.aborted) setError(e instanceof Error ? e : new Error(String(e)));
      });
    return () => abort.abort();
  }, [from]);

  async function add(e: Event) {
    e.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      setAdded(
        await post<Added>(partyPaths.addPeriodic, {
          name,
          cron,
          timezone,
          overlap,
          document,
          ...(projects.length > 1 ? { project } : {}),
          ...(failures > 0 ? { pause_on_failure: failures } : {}),
        }),
      );
      done();
    } catch (e) {
      setError(e instanceof Error ? e : new Error(String(e)));
    }
    setBusy(false);
  }

  if (added) {
    return (
      <div class="note" role="status">
        <strong>{t("periodic.added", { name: added.name })}</strong>
        <p>{added.upcoming.map((at) => absolute(at)).join(" · ")}</p>
        <button type="button" class="small" onClick={() => navigate(href("periodic"), true)}>
          {t("periodic.close")}
        </button>
      </div>
    );
  }
  return (
    <Section title={t("periodic.add")}>
      <p>
        {t("periodic.addText")} <Link to={jobHref(from)}>{from}</Link>
      </p>
      <form onSubmit={(e) => void add(e)}>
        <div class="fields">
          <ProjectSelect projects={projects} value={project ?? ""} change={setChosen} />
          <label class="field">
            {t("periodic.name")}
            <input required maxLength={64} pattern="[A-Za-z0-9][A-Za-z0-9_.\-]*" value={name} onInput={(e) => setName(e.currentTarget.value)} />
          </label>
          <label class="field">
            {t("periodic.cron")}
            <input required class="mono" value={cron} onInput={(e) => setCron(e.currentTarget.value)} />
          </label>
          <label class="field">
            {t("periodic.timezone")}
            <input value={timezone} onInput={(e) => setTimezone(e.currentTarget.value)} />
          </label>
          <label class="field">
            {t("periodic.overlap")}
            <select value={overlap} onChange={(e) => setOverlap(e.currentTarget.value)}>
              <option value="skip">{t("periodic.overlap.skip")}</option>
              <option value="buffer_one">{t("periodic.overlap.buffer_one")}</option>
              <option value="allow_all">{t("periodic.overlap.allow_all")}</option>
            </select>
          </label>
          <label class="field">
            {t("periodic.failures")}
            <input
              type="number"
              min={0}
              max={1000}
              value={failures}
              onInput={(e) => setFailures(e.currentTarget.valueAsNumber || 0)}
            />
          </label>
        </div>
        <p class="help">{t("periodic.cronHelp")}</p>
        {error && <ErrorBox error={error} />}
        <div class="buttons">
          <button type="button" onClick={() => navigate(href("periodic"), true)}>
            {t("cancel")}
          </button>
          <button type="submit" class="primary" disabled={busy || !document}>
            {t("periodic.add")}
          </button>
        </div>
      </form>
    </Section>
  );
}
