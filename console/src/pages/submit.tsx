import { useEffect, useMemo, useState } from "preact/hooks";
import { get, post } from "../api/client";
import type { CheckResult, JobDocument } from "../api/document";
import { partyPaths, type Dataset, type Partner, type Provider } from "../api/party";
import { paths } from "../api/paths";
import type { JobList } from "../api/types";
import { t } from "../i18n";
import { current, jobHref, Link, navigate, setQuery } from "../router";
import { useResource } from "../resource";
import { can, ownNode } from "../session";
import { Copy, ErrorBox, Loaded, Page } from "../ui/basic";
import { parse } from "../ui/params";
import { documentOf, draftOf, emptyDraft, findComponent, type Draft } from "./draft";
import { Roles, Tasks } from "./draftform";
import "./pages.css";

interface Known {
  providers: Provider[];
  datasets: Dataset[];
  partners: Partner[];
  jobs: JobList["jobs"];
}

/** Submit makes a job of the components' own descriptions, checks it and sends it. */
export function Submit() {
  const known = useResource("submit", async (abort): Promise<Known> => {
    if (!can("viewer")) return { providers: [], datasets: [], partners: [], jobs: [] };
    const [providers, datasets, partners, list] = await Promise.all([
      get<Provider[]>(partyPaths.providers, {}, abort),
      get<Dataset[]>(partyPaths.datasets, {}, abort),
      get<Partner[]>(paths.partners, {}, abort),
      get<JobList>(paths.jobs, { limit: 100 }, abort),
    ]);
    return { providers, datasets, partners, jobs: list.jobs };
  });
  return (
    <Page title={t("submit.title")}>
      {can("viewer") ? (
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
  return (
    <>
      <p class="stale">{t("app.partial", { role: "viewer" })}</p>
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
      <Send document={document} problems={[]} />
    </>
  );
}

function Form({ known }: { known: Known }) {
  const from = current.value.query.get("from") ?? "";
  const [draft, setDraft] = useState<Draft>(() => emptyDraft(ownNode.value));
  const [error, setError] = useState<Error>();

  useEffect(() => {
    if (!from) return;
    const abort = new AbortController();
    get<{ document: JobDocument }>(paths.document, { job_id: from }, abort.signal)
      .then(({ document }) => {
        setDraft(draftOf(document));
        setError(undefined);
      })
      .catch((e: unknown) => {
        if (!abort.signal.aborted) setError(e instanceof Error ? e : new Error(String(e)));
      });
    return () => abort.abort();
  }, [from]);

  // What is typed into the document itself; while there is any, the form rests.
  const [typed, setTyped] = useState<string>();
  const made = useMemo(() => JSON.stringify(documentOf(draft, known.providers, ownNode.value), null, 2), [draft, known]);
  const document = typed ?? made;
  const parties = [ownNode.value, ...known.partners.filter((p) => p.state === "APPROVED").map((p) => p.node_id)];

  return (
    <>
      <section class="step">
        <h2>{t("submit.start")}</h2>
        <div class="fields">
          <label class="field">
            {t("submit.template")}
            <select
              value={from}
              onChange={(e) => {
                const id = e.currentTarget.value;
                setTyped(undefined);
                if (!id) setDraft(emptyDraft(ownNode.value));
                setQuery({ from: id });
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
        {error && <ErrorBox error={error} />}
      </section>
      {typed === undefined ? (
        <>
          <section class="step">
            <h2>{t("submit.parties")}</h2>
            <Roles draft={draft} change={setDraft} parties={parties} />
          </section>
          <section class="step">
            <h2>{t("submit.tasks")}</h2>
            <Tasks draft={draft} change={setDraft} providers={known.providers} datasets={known.datasets} />
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
        <Send document={document} problems={typed === undefined ? problemsOf(draft, known.providers) : []} />
      </section>
    </>
  );
}

/** problemsOf returns what is wrong with the form, as far as it is known before the party checks it. */
function problemsOf(draft: Draft, providers: Provider[]): string[] {
  const found: string[] = [];
  if (draft.tasks.length === 0) found.push(t("submit.noTasks"));
  const names = draft.tasks.map((x) => x.name);
  for (const task of draft.tasks) {
    if (names.indexOf(task.name) !== names.lastIndexOf(task.name)) found.push(t("submit.nameTwice", { task: task.name }));
    const c = findComponent(providers, task);
    for (const p of c?.inputParam ?? []) {
      const typed = task.params[p.name] ?? "";
      // Without a text the default counts, if there is one.
      if (typed === "" && p.defaultValue !== undefined && p.defaultValue !== null) continue;
      const { error } = parse(p, typed);
      if (error) found.push(`${task.name}, ${p.name}: ${error}`);
    }
  }
  return [...new Set(found)];
}

type Answer = { document: string; result?: CheckResult; error?: string };

/** Send checks a document and then sends it. It sends only what has been checked as it is. */
function Send({ document, problems }: { document: string; problems: string[] }) {
  const [answer, setAnswer] = useState<Answer>();
  const [busy, setBusy] = useState(false);
  const fresh = answer?.document === document ? answer : undefined;
  const parties = fresh?.result?.parties ?? [];
  const accepted = fresh?.result !== undefined && parties.every((p) => p.accepts);

  async function go(send: boolean) {
    setBusy(true);
    try {
      JSON.parse(document);
      if (send) {
        const { job_id } = await post<{ job_id: string }>(paths.submit, document);
        navigate(jobHref(job_id));
        return;
      }
      setAnswer({ document, result: await post<CheckResult>(paths.check, document) });
    } catch (e) {
      setAnswer({ document, error: e instanceof Error ? e.message : String(e) });
    }
    setBusy(false);
  }

  return (
    <>
      {problems.length > 0 && (
        <ul class="error">
          {problems.map((p) => (
            <li key={p}>{p}</li>
          ))}
        </ul>
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
              {(fresh.result.warnings ?? []).map((w, i) => (
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
