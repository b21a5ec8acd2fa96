import { useEffect, useRef, useState } from "preact/hooks";
import { get, open, address, save, saveBlob } from "../api/client";
import { paths } from "../api/paths";
import type { JobStatus, Output, TaskStatus } from "../api/types";
import { known, t } from "../i18n";
import { current, href, jobHref, Link, setQuery } from "../router";
import { ofJob, useResource } from "../resource";
import { canIn, ownNode } from "../session";
import { Empty, Loaded, Page, Section } from "../ui/basic";
import { partState } from "../ui/dag";
import { FailureCard, WaitingList } from "../ui/failure";
import { ModelOf } from "../ui/model";
import { Report } from "../ui/report";
import { AttemptTable } from "../ui/attempts";
import { StateBadge, tasksOf } from "../ui/state";
import type { PageProps } from ".";

/** Task shows one task: its parts, its log, its outputs and what its reports hold. */
export function Task({ params }: PageProps) {
  const id = params.id!;
  const name = params.name!;
  const status = useResource(`status ${id}`, (abort) => get<JobStatus>(paths.status, { job_id: id }, abort), ofJob(id));
  const task = status.data && tasksOf(status.data).find((x) => x.task_name === name);
  return (
    <Page title={name} heading={<>{name} {task && <StateBadge state={task.status} />}</>}>
      <p class="crumbs">
        <Link to={href("jobs")}>{t("nav.jobs")}</Link> / <Link to={jobHref(id)}>{id}</Link> / {name}
      </p>
      <Loaded resource={status}>
        {(job) => (task ? <Content job={id} project={job.project} task={task} /> : <Empty title={t("task.missing", { name })} />)}
      </Loaded>
    </Page>
  );
}

function Content({ job, project, task }: { job: string; project: string | undefined; task: TaskStatus }) {
  const failed = task.parties.filter((p) => partState(p) === "FAILED");
  const own = task.parties.filter((p) => p.node_id === ownNode.value);
  return (
    <>
      {failed.map((p) => (
        <FailureCard key={`${p.role}.${p.index}`} failure={p.failure} reason={p.reason} />
      ))}
      {task.waiting && <WaitingList waiting={[task.waiting]} />}
      <Section
        title={t(task.attempt ? "attempt.title" : "task.parts")}
        aside={<span class="muted">{`${task.component}, ${task.provider}`}</span>}
      >
        <AttemptTable job={job} task={task} />
      </Section>
      {task.task_id && own.length > 0 && canIn("logs", project) && <Log job={job} task={task} roles={own.map((p) => `${p.role}.${p.index}`)} />}
      {own.length === 0 && <p class="muted">{t("task.notOwn")}</p>}
      <Outputs job={job} project={project} task={task} />
    </>
  );
}

const levels = ["debug", "info", "warning", "error"];
const shownLines = 2000;
// A line is shown within a second, also if both requests take a while.
const followEvery = 500;

/** Log follows the log of this party's part. It shows the last lines; the whole log can be downloaded. */
function Log({ job, task, roles }: { job: string; task: TaskStatus; roles: string[] }) {
  const { query } = current.value;
  const asked = query.get("role") ?? "";
  const role = roles.includes(asked) ? asked : roles[0]!;
  const level = levels.includes(query.get("level") ?? "") ? query.get("level")! : "info";
  const attempt = query.get("attempt") ?? "";
  const [search, setSearch] = useState("");
  const box = useRef<HTMLPreElement>(null);
  const follows = useRef(true);
  const selected = { task_id: task.task_id, role, log_level: level, attempt };
  const log = useResource(
    `log ${JSON.stringify(selected)}`,
    async (abort) => {
      const count = await get<{ num: number; complete: boolean; attempt: number; unfinished: string[] }>(paths.logLines, selected, abort);
      const start = Math.max(0, count.num - shownLines);
      const { data } = await get<{ data: string }>(paths.log, { ...selected, start, length: count.num - start }, abort);
      return { ...count, start, lines: [...(data ? data.split("\n") : []), ...count.unfinished] };
    },
    // The log of a running task grows without an event.
    ofJob(job),
  );
  const running = log.data !== undefined && !log.data.complete;
  useEffect(() => {
    if (!running) return;
    const timer = setInterval(() => document.hidden || log.reload(), followEvery);
    return () => clearInterval(timer);
  }, [running, role, level, attempt]);
  useEffect(() => {
    if (follows.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [log.data?.num]);

  const words = search.toLowerCase();
  const lines = (log.data?.lines ?? []).filter((l) => l.toLowerCase().includes(words));
  const attempts = task.attempt ?? 1;
  async function download() {
    const response = await open(address(paths.log, selected));
    const { data } = ((await response.json()) as { data: { data: string } }).data;
    saveBlob(new Blob([data], { type: "text/plain" }), `${job}-${task.task_name}-${role}.log`);
  }
  return (
    <Section title={t("task.log")} aside={log.data && <span class="muted" role="status">{t(running ? "task.follows" : "task.complete", { n: log.data.num })}</span>}>
      <div class="filters">
        {roles.length > 1 && (
          <label class="filter">
            {t("jobs.role")}
            <select value={role} onChange={(e) => setQuery({ role: e.currentTarget.value })}>
              {roles.map((r) => <option key={r}>{r}</option>)}
            </select>
          </label>
        )}
        <label class="filter">
          {t("task.level")}
          <select value={level} onChange={(e) => setQuery({ level: e.currentTarget.value })}>
            {levels.map((l) => <option key={l} translate={false}>{l}</option>)}
          </select>
        </label>
        {attempts > 1 && (
          <label class="filter">
            {t("task.attempt")}
            <select value={attempt} onChange={(e) => setQuery({ attempt: e.currentTarget.value })}>
              <option value="">{attempts}</option>
              {Array.from({ length: attempts - 1 }, (_, i) => <option key={i}>{attempts - 1 - i}</option>)}
            </select>
          </label>
        )}
        <label class="filter">
          {t("task.search")}
          <input type="search" value={search} onInput={(e) => setSearch(e.currentTarget.value)} />
        </label>
        <button type="button" onClick={() => void download()}>{t("download")}</button>
      </div>
      <Loaded resource={log}>
        {(data) =>
          lines.length === 0 ? (
            <p class="muted">{t("task.noLines")}</p>
          ) : (
            <>
              {data.start > 0 && <p class="muted">{t("task.lastLines", { n: shownLines })}</p>}
              <pre
                ref={box}
                class="log"
                tabIndex={0}
                onScroll={(e) => {
                  const b = e.currentTarget;
                  follows.current = b.scrollHeight - b.scrollTop - b.clientHeight < 40;
                }}
              >
                {lines.map((l, i) => (
                  <span key={i} class={lineClass(l)}>{`${l}\n`}</span>
                ))}
              </pre>
            </>
          )
        }
      </Loaded>
    </Section>
  );
}

function lineClass(line: string): string | undefined {
  if (/\b(ERROR|FATAL|CRITICAL|panic|Traceback)\b/.test(line)) return "log-error";
  return /\b(WARN|WARNING)\b/.test(line) ? "log-warning" : undefined;
}

function Outputs({ job, project, task }: { job: string; project: string | undefined; task: TaskStatus }) {
  const outputs = useResource(
    `outputs ${job}`,
    (abort) => get<{ outputs: Output[] }>(paths.outputs, { job_id: job }, abort),
    ofJob(job),
  );
  return (
    <Section title={t("task.outputs")}>
      <Loaded resource={outputs}>
        {(data) => {
          const own = data.outputs.filter((o) => o.task_name === task.task_name);
          if (own.length === 0) return <p class="muted">{t("task.noOutputs")}</p>;
          return (
            <>
              {own.map((o) => (
                <div class="output" key={`${o.namespace}#${o.name}`}>
                  <h3>
                    <span translate={false}>{o.output || o.key}</span>{" "}
                    <span class="muted">{`${known("output", o.type)} · ${o.role} · ${bytes(o.bytes)}`}</span>{" "}
                    {canIn("data", project) && (
                      <button type="button" class="small" onClick={() => void save(paths.download, { namespace: o.namespace, name: o.name }, `${o.task_name}-${o.output || o.key}`)}>
                        {t("download")}
                      </button>
                    )}
                  </h3>
                  {o.type === "report" && canIn("data", project) && <ReportOf output={o} />}
                  {o.type === "model" && canIn("data", project) && <ModelOf output={o} />}
                </div>
              ))}
            </>
          );
        }}
      </Loaded>
    </Section>
  );
}

const largestReport = 16 << 20;

function ReportOf({ output: o }: { output: Output }) {
  const report = useResource(`report ${o.namespace} ${o.name} ${o.bytes}`, async (abort) => {
    if (o.bytes > largestReport) throw new Error(t("task.reportTooLarge"));
    const response = await open(address(paths.download, { namespace: o.namespace, name: o.name }), { signal: abort });
    return { report: (await response.json()) as unknown };
  });
  const file = [o.task_name, o.role, o.output || o.key].join("-");
  return <Loaded resource={report}>{(data) => <Report report={data.report} file={file} />}</Loaded>;
}

function bytes(n: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  for (; n >= 1024 && i < units.length - 1; i++) n /= 1024;
  return `${i ? n.toFixed(1) : n} ${units[i]}`;
}
