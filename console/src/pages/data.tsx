import { useRef, useState } from "preact/hooks";
import { get, post } from "../api/client";
import { partyPaths, type Dataset, type Model } from "../api/party";
import { upload, type Uploading } from "../api/upload";
import { t } from "../i18n";
import { jobHref, Link } from "../router";
import { ofKinds, useResource } from "../resource";
import { can } from "../session";
import { Ask, Dialog, Empty, Loaded, Page, Section } from "../ui/basic";
import { bytes, count, iso } from "../ui/format";
import { JobLinks } from "../ui/joblinks";
import { Time } from "../ui/time";
import "./pages.css";

/** Data shows the datasets and the models of this party. */
export function Data() {
  const sees = can("viewer");
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
  const [uploading, setUploading] = useState(false);
  return (
    <Page
      title={t("nav.data")}
      actions={
        can("data") && (
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
            <Loaded resource={models}>{(list) => <Models list={list} reload={models.reload} />}</Loaded>
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
    <table class="stack">
      <thead>
        <tr>
          <th scope="col">{t("data.dataset")}</th>
          <th scope="col" class="number">{t("data.rows")}</th>
          <th scope="col" class="number">{t("data.size")}</th>
          <th scope="col">{t("data.columns")}</th>
          <th scope="col">{t("data.uploaded")}</th>
          <th scope="col">
            <span class="sr">{t("jobs.actions")}</span>
          </th>
        </tr>
      </thead>
      <tbody>
        {list.map((d) => (
          <DatasetRow key={`${d.namespace}#${d.name}`} dataset={d} reload={reload} />
        ))}
      </tbody>
    </table>
  );
}

function DatasetRow({ dataset: d, reload }: { dataset: Dataset; reload: () => void }) {
  const [asking, setAsking] = useState(false);
  const id = `${d.namespace}#${d.name}`;
  return (
    <tr>
      <th scope="row">{id}</th>
      <td class="number" data-label={t("data.rows")}>{count(d.count)}</td>
      <td class="number" data-label={t("data.size")}>{bytes(d.bytes)}</td>
      <td data-label={t("data.columns")}>
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
      </td>
      <td data-label={t("data.uploaded")}>
        <Time at={iso(d.update_time)} />
      </td>
      <td class="row-actions">
        {can("data") && (
          <button type="button" class="small" onClick={() => setAsking(true)}>
            {t("delete")}
            <span class="sr"> {id}</span>
          </button>
        )}
        {asking && (
          <Ask
            title={t("data.deleteTitle", { id })}
            text={t("data.deleteText")}
            button={t("delete")}
            danger
            close={() => setAsking(false)}
            do={async () => {
              await post(partyPaths.deleteDataset, { namespace: d.namespace, name: d.name });
              reload();
            }}
          />
        )}
      </td>
    </tr>
  );
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
        {error && (
          <div class="error" role="alert">
            <strong>{t("error.action")}</strong>
            <p>{error}</p>
          </div>
        )}
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

function Models({ list, reload }: { list: Model[]; reload: () => void }) {
  if (list.length === 0) {
    return (
      <Empty title={t("data.noModels")}>
        <p>{t("data.noModelsText")}</p>
      </Empty>
    );
  }
  return (
    <table class="stack">
      <thead>
        <tr>
          <th scope="col">{t("data.model")}</th>
          <th scope="col">{t("data.component")}</th>
          <th scope="col">{t("data.trainedOn")}</th>
          <th scope="col" class="number">{t("data.size")}</th>
          <th scope="col">{t("jobs.time")}</th>
          <th scope="col">
            <span class="sr">{t("jobs.actions")}</span>
          </th>
        </tr>
      </thead>
      <tbody>
        {list.map((m) => (
          <ModelRow key={m.model + m.role} model={m} reload={reload} />
        ))}
      </tbody>
    </table>
  );
}

function ModelRow({ model: m, reload }: { model: Model; reload: () => void }) {
  const [act, setAct] = useState<"keep" | "delete">();
  return (
    <tr>
      <th scope="row">
        {m.imported ? m.model : <Link to={jobHref(m.job_id)}>{m.model}</Link>}{" "}
        {m.kept && <span class="tag tag-good">{t("data.kept")}</span>}{" "}
        {m.imported && <span class="tag">{t("data.imported")}</span>}
      </th>
      <td data-label={t("data.component")}>
        {m.component} <span class="muted">{m.role}</span>
      </td>
      <td data-label={t("data.trainedOn")}>{m.datasets?.map((d) => d.replace(/@.*/, "")).join(", ") || t("none")}</td>
      <td class="number" data-label={t("data.size")}>{bytes(m.bytes)}</td>
      <td data-label={t("jobs.time")}>
        <Time at={m.created_at} />
      </td>
      <td class="row-actions">
        {can("data") && (
          <span class="job-actions">
            {!m.kept && (
              <button type="button" class="small" onClick={() => setAct("keep")}>
                {t("data.keep")}
                <span class="sr"> {m.model}</span>
              </button>
            )}
            <button type="button" class="small" onClick={() => setAct("delete")}>
              {t("delete")}
              <span class="sr"> {m.model}</span>
            </button>
          </span>
        )}
        {act && (
          <Ask
            title={t(act === "keep" ? "data.keepTitle" : "data.deleteTitle", { id: m.model })}
            text={t(act === "keep" ? "data.keepText" : "data.deleteModelText")}
            button={t(act === "keep" ? "data.keep" : "delete")}
            danger={act === "delete"}
            close={() => setAct(undefined)}
            do={async () => {
              await post(act === "keep" ? partyPaths.keepModel : partyPaths.deleteModel, { model: m.model });
              reload();
            }}
          />
        )}
      </td>
    </tr>
  );
}
