import { useRef, useState } from "preact/hooks";
import { get, post } from "../api/client";
import { partyPaths, type Dataset, type Model, type Provider } from "../api/party";
import { upload, type Uploading } from "../api/upload";
import { t } from "../i18n";
import { href, jobHref, Link } from "../router";
import { ofKinds, useResource } from "../resource";
import { canIn, canSomewhere } from "../session";
import { Dialog, Empty, Loaded, NotDone, Page, Section } from "../ui/basic";
import { bytes, count, iso } from "../ui/format";
import { JobLinks } from "../ui/joblinks";
import { ProjectSelect, ProjectTag, useProjects } from "../ui/project";
import { ActionTable, type Action, type Column } from "../ui/table";
import { Time } from "../ui/time";
import "./pages.css";

/** Data shows the datasets and the models of this party. */
export function Data() {
  const sees = canSomewhere("viewer");
  const datasets = useResource(
    "datasets",
    async (abort) => (sees ? get<Dataset[]>(partyPaths.datasets, { jobs: "true" }, abort) : []),
    ofKinds("data", "job"),
  );
  const models = useResource(
    "models",
    async (abort) => (sees ? get<Model[]>(partyPaths.models, {}, abort) : []),
    ofKinds("data", "job"),
  );
  // What can apply a model; a list of models without it is better than none.
  const providers = useResource(
    "providers",
    async (abort) => (sees && canSomewhere("operator") ? get<Provider[]>(partyPaths.providers, {}, abort) : []),
  );
  const [uploading, setUploading] = useState(false);
  return (
    <Page
      title={t("nav.data")}
      actions={
        canSomewhere("data") && (
          <button type="button" class="primary" onClick={() => setUploading(true)}>
            {t("data.upload")}
          </button>
        )
      }
    >
      {uploading && <Upload close={() => setUploading(false)} done={datasets.reload} />}
      {!sees && <p class="stale">{t("app.partial", { role: "viewer" })}</p>}
      {sees && (
        <>
          <Section title={t("data.datasets")} aside={<Count list={datasets.data} />}>
            <Loaded resource={datasets}>{(list) => <Datasets list={list} reload={datasets.reload} />}</Loaded>
          </Section>
          <Section title={t("data.models")} aside={<Count list={models.data} />}>
            <Loaded resource={models}>{(list) => <Models list={list} providers={providers.data ?? []} reload={models.reload} />}</Loaded>
          </Section>
        </>
      )}
    </Page>
  );
}

function Count({ list }: { list: unknown[] | undefined }) {
  return list ? <span class="count">{count(list.length)}</span> : null;
}

function Datasets({ list, reload }: { list: Dataset[]; reload: () => void }) {
  if (list.length === 0) {
    return (
      <Empty title={t("data.empty")}>
        <p>{t("data.emptyText")}</p>
      </Empty>
    );
  }
  return (
    <ActionTable
      rows={list}
      id={idOf}
      columns={datasetColumns()}
      actions={(d) => (canIn("data", d.project) ? [deleteDataset(d)] : [])}
      done={reload}
    />
  );
}

function idOf(d: Dataset): string {
  return `${d.namespace}#${d.name}`;
}

function datasetColumns(): Column<Dataset>[] {
  return [
    {
      title: t("data.dataset"),
      cell: (d) => (
        <>
          {idOf(d)} <ProjectTag project={d.project} />
        </>
      ),
    },
    { title: t("data.rows"), number: true, cell: (d) => count(d.count) },
    { title: t("data.size"), number: true, cell: (d) => bytes(d.bytes) },
    { title: t("data.columns"), cell: (d) => <Columns dataset={d} /> },
    { title: t("data.uploaded"), cell: (d) => <Time at={iso(d.update_time)} /> },
  ];
}

/** Columns shows the columns of a dataset, and the jobs that use it, once they are asked for. */
function Columns({ dataset: d }: { dataset: Dataset }) {
  return (
    <details>
      <summary>
        {t("data.columnCount", { n: d.columns.length })}
        {d.jobs && <span class="muted"> · {t("data.jobCount", { n: d.jobs.length })}</span>}
      </summary>
      <div class="more-of">
        <ul class="columns">
          {d.columns.map((c) => (
            <li key={c.name}>
              {c.name} <span class="muted">{c.type}</span>
            </li>
          ))}
        </ul>
        <h3>{t("data.usedBy")}</h3>
        <JobLinks jobs={d.jobs} />
      </div>
    </details>
  );
}

function deleteDataset(d: Dataset): Action {
  return {
    button: t("delete"),
    title: t("data.deleteTitle", { id: idOf(d) }),
    text: t("data.deleteText"),
    danger: true,
    do: () => post(partyPaths.deleteDataset, { namespace: d.namespace, name: d.name }),
  };
}

/** fileBase returns the name of a file as a dataset's name can be. */
function fileBase(name: string): string {
  return name.replace(/\.csv$/i, "").replace(/[^\w.-]+/g, "_").slice(0, 64);
}

/** Upload is a dialog that uploads a CSV file as a dataset. */
function Upload({ close, done }: { close: () => void; done: () => void }) {
  const [file, setFile] = useState<File>();
  const [name, setName] = useState("");
  const [progress, setProgress] = useState<{ sent: number; all: number }>();
  const [error, setError] = useState("");
  const [result, setResult] = useState<Dataset>();
  const projects = useProjects("data");
  const [chosen, setChosen] = useState("");
  const project = chosen || projects[0] || "";
  const running = useRef<Uploading | undefined>(undefined);

  async function go(e: SubmitEvent) {
    e.preventDefault();
    if (!file) return;
    const fields = new FormData(e.currentTarget as HTMLFormElement);
    const text = (field: string) => String(fields.get(field) ?? "").trim();
    const form = new FormData();
    const meta: Record<string, string> = {};
    if (text("id")) meta.match_id_name = text("id");
    if (text("label")) meta.label_name = text("label");
    if (text("delimiter")) meta.delimiter = text("delimiter");
    for (const field of ["namespace", "name", "partitions", "encoding"]) if (text(field)) form.set(field, text(field));
    if (projects.length > 1) form.set("project", project);
    form.set("head", "true");
    form.set("meta", JSON.stringify(meta));
    // Last, so that the party knows what it receives before the file arrives.
    form.set("file", file);
    setError("");
    setProgress({ sent: 0, all: file.size });
    try {
      running.current = upload(form, (sent, all) => setProgress({ sent, all }));
      setResult(await running.current.done);
      done();
    } catch (e) {
      if (!(e instanceof DOMException)) setError(e instanceof Error ? e.message : String(e));
    }
    running.current = undefined;
    setProgress(undefined);
  }

  function leave() {
    running.current?.abort();
    close();
  }

  if (result) {
    return (
      <Dialog title={t("data.uploadTitle")} close={close}>
        <p class="note" role="status">
          {t("data.uploadDone", {
            id: `${result.namespace}#${result.name}`,
            rows: count(result.count),
            columns: result.columns.length,
          })}
        </p>
        <div class="buttons">
          <button type="button" class="primary" onClick={close}>
            {t("close")}
          </button>
        </div>
      </Dialog>
    );
  }
  return (
    <Dialog title={t("data.uploadTitle")} close={leave}>
      <form onSubmit={(e) => void go(e)}>
        <p class="muted">{t("data.uploadText")}</p>
        <fieldset disabled={progress !== undefined}>
          <label class="field">
            {t("data.file")}
            <input
              type="file"
              accept=".csv,text/csv"
              required
              onChange={(e) => {
                const chosen = e.currentTarget.files?.[0];
                setFile(chosen);
                if (chosen && !name) setName(fileBase(chosen.name));
              }}
            />
          </label>
          <div class="fields">
            <ProjectSelect projects={projects} value={project} change={setChosen} />
            <label class="field">
              {t("data.namespace")}
              <input name="namespace" required pattern={idPattern} title={t("data.idHelp")} />
            </label>
            <label class="field">
              {t("data.name")}
              <input
                name="name"
                required
                pattern={idPattern}
                title={t("data.idHelp")}
                value={name}
                onInput={(e) => setName(e.currentTarget.value)}
              />
            </label>
            <label class="field">
              {t("data.idColumn")}
              <input name="id" placeholder={t("data.idColumnHelp")} />
            </label>
            <label class="field">
              {t("data.labelColumn")}
              <input name="label" placeholder={t("data.labelColumnHelp")} />
            </label>
          </div>
          <details>
            <summary>{t("data.moreFields")}</summary>
            <div class="fields">
              <label class="field">
                {t("data.delimiter")}
                <input name="delimiter" maxLength={1} placeholder="," />
              </label>
              <label class="field">
                {t("data.encoding")}
                <input name="encoding" placeholder="utf-8" />
              </label>
              <label class="field">
                {t("data.partitions")}
                <input name="partitions" type="number" min={1} max={1024} placeholder="1" />
              </label>
            </div>
          </details>
        </fieldset>
        {progress && (
          <p role="status">
            <progress value={progress.sent} max={progress.all || 1} aria-label={t("data.upload")} />
            {progress.sent < progress.all
              ? t("data.sent", { sent: bytes(progress.sent), all: bytes(progress.all) })
              : t("data.storing")}
          </p>
        )}
        <NotDone error={error} />
        <div class="buttons">
          <button type="button" onClick={leave}>
            {t("cancel")}
          </button>
          <button type="submit" class="primary" disabled={progress !== undefined}>
            {t("data.upload")}
          </button>
        </div>
      </form>
    </Dialog>
  );
}

// The party checks the rest; these characters separate the parts of a dataset's id.
const idPattern = "[^#@\\/\\s]+";

function Models({ list, providers, reload }: { list: Model[]; providers: Provider[]; reload: () => void }) {
  if (list.length === 0) {
    return (
      <Empty title={t("data.noModels")}>
        <p>{t("data.noModelsText")}</p>
      </Empty>
    );
  }
  return (
    <ActionTable
      rows={list}
      id={(m) => m.model + m.role}
      name={(m) => m.model}
      columns={modelColumns()}
      actions={(m) => (canIn("data", m.project) ? modelActions(m) : [])}
      aside={(m) =>
        canPredict(m, providers) && (
          <Link to={href("submit", { model: m.model })}>
            {t("data.predict")}
            <span class="sr"> {m.model}</span>
          </Link>
        )
      }
      done={reload}
    />
  );
}

/** canPredict returns whether a component of the model's provider applies it. */
function canPredict(m: Model, providers: Provider[]): boolean {
  return providers.some(
    (p) => `${p.name}:${p.version}` === m.provider && p.components_description[`${m.component}_predict`] !== undefined,
  );
}

function modelColumns(): Column<Model>[] {
  return [
    {
      title: t("data.model"),
      cell: (m) => (
        <>
          {m.imported ? m.model : <Link to={jobHref(m.job_id)}>{m.model}</Link>}{" "}
          <ProjectTag project={m.project} />{" "}
          {m.kept && <span class="tag tag-good">{t("data.kept")}</span>}{" "}
          {m.imported && <span class="tag">{t("data.imported")}</span>}
        </>
      ),
    },
    {
      title: t("data.component"),
      cell: (m) => (
        <>
          {m.component} <span class="muted">{m.role}</span>
        </>
      ),
    },
    { title: t("data.trainedOn"), cell: (m) => m.datasets?.map((d) => d.replace(/@.*/, "")).join(", ") || t("none") },
    { title: t("data.size"), number: true, cell: (m) => bytes(m.bytes) },
    { title: t("jobs.time"), cell: (m) => <Time at={m.created_at} /> },
  ];
}

function modelActions(m: Model): Action[] {
  const keep: Action = {
    button: t("data.keep"),
    title: t("data.keepTitle", { id: m.model }),
    text: t("data.keepText"),
    do: () => post(partyPaths.keepModel, { model: m.model }),
  };
  const remove: Action = {
    button: t("delete"),
    title: t("data.deleteTitle", { id: m.model }),
    text: t("data.deleteModelText"),
    danger: true,
    do: () => post(partyPaths.deleteModel, { model: m.model }),
  };
  return m.kept ? [remove] : [keep, remove];
}
