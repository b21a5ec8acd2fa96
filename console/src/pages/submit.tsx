import { useEffect, useMemo, useState } from "preact/hooks";
import { get, post } from "../api/client";
import type { CheckResult, JobDocument, Warning } from "../api/document";
import { partyPaths, type Dataset, type Model, type Partner, type PartnerData, type Provider } from "../api/party";
import { paths } from "../api/paths";
import type { JobList } from "../api/types";
import { t } from "../i18n";
import { current, jobHref, Link, navigate, setQuery } from "../router";
import { useResource } from "../resource";
import { canSomewhere, defaultProject, ownNode } from "../session";
import { inProject, ProjectSelect, useProjects } from "../ui/project";
import { Copy, ErrorBox, Loaded, Page } from "../ui/basic";
import { documentOf, draftOf, emptyDraft, type Draft } from "./draft";
import { problemsOf, remarksOf, type Problem } from "./draftcheck";
import { ResourcesForm, Roles, Tasks } from "./draftform";
import "./pages.css";

interface Known {
  providers: Provider[];
  datasets: Dataset[];
  models: Model[];
  partners: Partner[];
  partnerData: PartnerData[];
  jobs: JobList["jobs"];
}

/**
 * Submit makes a job of the components' own descriptions, checks it and sends it. It starts with an earlier job, if the address names
 * one in from, or with a job that applies the model of that name.
 */
export function Submit() {
  const known = useResource("submit", async (abort): Promise<Known> => {
    if (!canSomewhere("viewer")) return { providers: [], datasets: [], models: [], partners: [], partnerData: [], jobs: [] };
    const [providers, datasets, models, partners, partnerData, list] = await Promise.all([
      get<Provider[]>(partyPaths.providers, {}, abort),
      get<Dataset[]>(partyPaths.datasets, {}, abort),
      get<Model[]>(partyPaths.models, {}, abort),
      get<Partner[]>(paths.partners, {}, abort),
      // These are suggestions only: the form does without them, as at an older process of the party.
      get<PartnerData[]>(partyPaths.partnerData, {}, abort).catch((): PartnerData[] => []),
      get<JobList>(paths.jobs, { limit: 100 }, abort),
    ]);
    return { providers, datasets, models, partners, partnerData, jobs: list.jobs };
  });
  return (
    <Page title={t("submit.title")}>
      {canSomewhere("viewer") ? (
        <Loaded resource={known}>{(k) => <Form known={k} />}</Loaded>
      ) : (
        <Typed />
      )}
    </Page>
  );
}

/** Typed sends a typed document: to choose parts of it takes the role viewer. */
function Typed() {
  const [document, setDocument] = useState("");
  const [answer, setAnswer] = useState<Answer>();
  const projects = useProjects("operator");
  const [chosen, setChosen] = useState("");
  const project = chosen || projects[0];
  return (
    <>
      <p class="stale">{t("app.partial", { role: "viewer" })}</p>
      <ProjectSelect projects={projects} value={project ?? ""} change={setChosen} />
      <label class="field">
        {t("submit.document")}
        <textarea
          class="document"
          spellcheck={false}
          rows={24}
          value={document}
          onInput={(e) => setDocument(e.currentTarget.value)}
        />
      </label>
      <Send
        document={document}
        project={projects.length > 1 ? project : undefined}
        problems={[]}
        answer={answer}
        setAnswer={setAnswer}
      />
    </>
  );
}

function Form({ known: all }: { known: Known }) {
  const from = current.value.query.get("from") ?? "";
  const model = current.value.query.get("model") ?? "";
  const [draft, setDraft] = useState<Draft>(() => emptyDraft(ownNode.value));
  const [error, setError] = useState<Error>();
  // What the job may read is what its project has.
  const projects = useProjects("operator");
  const [chosen, setChosen] = useState("");
  const of = all.jobs.find((j) => j.job_id === from)?.project ?? all.models.find((m) => m.model === model)?.project;
  const project = chosen || (of && projects.includes(of) ? of : projects[0]);
  const known = useMemo((): Known => {
    const inside = (thing: { project?: string | undefined }) => (thing.project ?? defaultProject) === project;
    if (!project) return all;
    return { ...all, datasets: all.datasets.filter(inside), models: all.models.filter(inside) };
  }, [all, project]);

  useEffect(() => {
    if (!from && !model) return;
    const abort = new AbortController();
    const made = model
      ? get<{ document: JobDocument }>(partyPaths.prediction, { model }, abort.signal)
      : get<{ document: JobDocument }>(paths.document, { job_id: from }, abort.signal);
    made
      .then(({ document }) => {
        setDraft(draftOf(document));
        setError(undefined);
      })
      .catch((e: unknown) => {
        if (!abort.signal.aborted) setError(e instanceof Error ? e : new Error(String(e)));
      });
    return () => abort.abort();
  }, [from, model]);

  // What is typed into the document itself; while there is any, the form rests.
  const [typed, setTyped] = useState<string>();
  const made = useMemo(() => JSON.stringify(documentOf(draft, known.providers, ownNode.value), null, 2), [draft, known]);
  const document = typed ?? made;
  const problems = useMemo(() => (typed === undefined ? problemsOf(draft, known) : []), [typed, draft, known]);
  const [answer, setAnswer] = useState<Answer>();
  const named = projects.length > 1 ? project : undefined;
  // What the parties said of another document is not said beside the fields.
  const fresh = answer?.document === document && answer.project === named ? answer : undefined;
  const remarks = useMemo(
    () => remarksOf(problems, fresh?.result ? warningsOf(fresh.result) : [], refusalOf(fresh), draft),
    [problems, fresh, draft],
  );
  const parties = [ownNode.value, ...known.partners.filter((p) => p.state === "APPROVED").map((p) => p.node_id)];

  return (
    <>
      <section class="step">
        <h2>{t("submit.start")}</h2>
        <div class="fields">
          <ProjectSelect projects={projects} value={project ?? ""} change={setChosen} />
          <label class="field">
            {t("submit.template")}
            <select
              value={from}
              onChange={(e) => {
                const id = e.currentTarget.value;
                setTyped(undefined);
                if (!id) setDraft(emptyDraft(ownNode.value));
                setQuery({ from: id, model: "" });
              }}
            >
              <option value="">{t("submit.nothing")}</option>
              {from && !known.jobs.some((j) => j.job_id === from) && <option value={from}>{from}</option>}
              {known.jobs.map((j) => (
                <option key={j.job_id} value={j.job_id}>
                  {j.job_id} {j.flow_id}
                </option>
              ))}
            </select>
          </label>
          <label class="field">
            {t("jobs.flow")}
            <input
              value={draft.flow}
              disabled={typed !== undefined}
              onInput={(e) => setDraft({ ...draft, flow: e.currentTarget.value })}
            />
          </label>
        </div>
        {model && !error && <p class="note">{t("submit.predicts", { model })}</p>}
        {error && <ErrorBox error={error} />}
      </section>
      {typed === undefined ? (
        <>
          <section class="step">
            <h2>{t("submit.parties")}</h2>
            <Roles draft={draft} change={setDraft} remarks={remarks} parties={parties} />
          </section>
          <section class="step">
            <h2>{t("submit.tasks")}</h2>
            <Tasks
              draft={draft}
              change={setDraft}
              remarks={remarks}
              providers={known.providers}
              datasets={known.datasets}
              models={known.models}
              partnerData={known.partnerData}
            />
          </section>
          <section class="step">
            <h2>{t("submit.resources")}</h2>
            <ResourcesForm draft={draft} change={setDraft} remarks={remarks} />
          </section>
        </>
      ) : (
        <p class="stale">
          {t("submit.typed")}{" "}
          <button type="button" class="small" onClick={() => setTyped(undefined)}>
            {t("submit.backToForm")}
          </button>
        </p>
      )}
      <section class="step">
        <h2>{t("submit.document")}</h2>
        <details open={typed !== undefined}>
          <summary>{t("submit.showDocument")}</summary>
          <p>
            <Copy text={document} />
          </p>
          <textarea
            class="document"
            aria-label={t("submit.document")}
            spellcheck={false}
            rows={24}
            value={document}
            onInput={(e) => setTyped(e.currentTarget.value)}
          />
        </details>
        <Send
          document={document}
          project={named}
          problems={problems}
          answer={fresh}
          setAnswer={setAnswer}
        />
      </section>
    </>
  );
}

/** Answer is what the parties said of a document, or why it could not be checked. */
type Answer = { document: string; project: string | undefined; result?: CheckResult; error?: string };

/** warningsOf returns what this party and its partners warn of, each once. */
function warningsOf(result: CheckResult): Warning[] {
  const all = [...(result.warnings ?? []), ...(result.parties ?? []).flatMap((p) => p.warnings ?? [])];
  const same = (a: Warning, b: Warning) =>
    a.message === b.message && a.task === b.task && a.role === b.role && a.parameter === b.parameter && a.field === b.field;
  return all.filter((w, i) => all.findIndex((x) => same(x, w)) === i);
}

/** refusalOf returns why a document would be refused. */
function refusalOf(answer: Answer | undefined): string | undefined {
  return answer?.error ?? answer?.result?.parties?.find((p) => !p.accepts)?.reason;
}

/** Send checks a document and then sends it. It sends only what has been checked as it is. */
function Send(props: {
  document: string;
  /** The project of the job, where the client has several. */
  project: string | undefined;
  problems: Problem[];
  answer: Answer | undefined;
  setAnswer: (answer: Answer) => void;
}) {
  const { document, project, problems, setAnswer } = props;
  const [busy, setBusy] = useState(false);
  const fresh = props.answer?.document === document && props.answer.project === project ? props.answer : undefined;
  const parties = fresh?.result?.parties ?? [];
  const accepted = fresh?.result !== undefined && parties.every((p) => p.accepts);

  async function go(send: boolean) {
    setBusy(true);
    try {
      JSON.parse(document);
      if (send) {
        const { job_id } = await post<{ job_id: string }>(inProject(paths.submit, project), document);
        navigate(jobHref(job_id));
        return;
      }
      setAnswer({ document, project, result: await post<CheckResult>(inProject(paths.check, project), document) });
    } catch (e) {
      setAnswer({ document, project, error: e instanceof Error ? e.message : String(e) });
    }
    setBusy(false);
  }

  return (
    <>
      {problems.length > 0 && (
        <div class="error">
          <strong>{t("submit.problems", { n: problems.length })}</strong>
          <ul>
            {problems.map((p) => (
              <li key={p.id + p.text}>
                <button type="button" class="link" onClick={() => focusField(p.id)}>
                  {p.label}
                </button>{" "}
                {p.text}
              </li>
            ))}
          </ul>
        </div>
      )}
      <div aria-live="polite">
        {fresh?.error && (
          <div class="error">
            <strong>{t("submit.refused")}</strong>
            <p>{fresh.error}</p>
          </div>
        )}
        {fresh?.result && (
          <div class={accepted ? "note" : "error"}>
            <strong>{t(accepted ? "submit.accepted" : "submit.refused")}</strong>
            <ul>
              {parties.map((p) => (
                <li key={p.node_id}>
                  {p.node_id}: {p.accepts ? t("submit.accepts") : (p.reason ?? t("submit.refuses"))}
                </li>
              ))}
              {warningsOf(fresh.result).map((w, i) => (
                <li key={i}>
                  <span class="tag tag-wait">{t("submit.warning")}</span>{" "}
                  {[w.task, w.role, w.parameter ?? w.field].filter(Boolean).join(" · ")} {w.message}
                </li>
              ))}
            </ul>
          </div>
        )}
      </div>
      <div class="buttons">
        <button type="button" disabled={busy || problems.length > 0} onClick={() => void go(false)}>
          {t("submit.check")}
        </button>
        <button type="button" class="primary" disabled={busy || !accepted} onClick={() => void go(true)}>
          {t("submit.send")}
        </button>
      </div>
      {!accepted && <p class="help">{t("submit.checkFirst")}</p>}
      <p class="help">
        <Link to="/console/data">{t("nav.data")}</Link> · <Link to="/console/providers">{t("nav.providers")}</Link>
      </p>
    </>
  );
}

/** focusField leads to a field, also within a part of the form that is closed. */
function focusField(id: string) {
  const field = globalThis.document.getElementById(id);
  for (let e = field?.parentElement; e; e = e.parentElement) {
    if (e instanceof HTMLDetailsElement) e.open = true;
  }
  field?.focus();
  field?.scrollIntoView({ block: "center" });
}
