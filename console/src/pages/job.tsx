import { Fragment } from "preact";
import { useMemo, useState } from "preact/hooks";
import { get, post } from "../api/client";
import { paths } from "../api/paths";
import type { Failure, JobStatus, JobView, TaskStatus } from "../api/types";
import { t } from "../i18n";
import { href, jobHref, Link, navigate } from "../router";
import { ofJob, useResource } from "../resource";
import { can, canIn, defaultProject, ownNode } from "../session";
import { inProject, ProjectTag } from "../ui/project";
import { Ask, Copy, Details, Loaded, Page, Section } from "../ui/basic";
import { Account, type JobAccount } from "../ui/account";
import { Dag, partState } from "../ui/dag";
import { FailureCard, partyName, WaitingList } from "../ui/failure";
import { ApprovalView } from "../ui/approval";
import { awaitsOwn, JobActions } from "../ui/jobactions";
import { StateBadge, stateOf, tasksOf } from "../ui/state";
import { Duration, Time } from "../ui/time";
import { Timeline } from "../ui/timeline";
import { useVirtualRows } from "../ui/virtual";
import type { PageProps } from ".";

/** Job shows one job: why it failed or waits, its tasks at all parties, and what it was submitted with. */
export function Job({ params }: PageProps) {
  const id = params.id!;
  const status = useResource(
    `status ${id}`,
    (abort) => get<JobStatus>(paths.status, { job_id: id }, abort),
    ofJob(id),
  );
  const view = useResource(`show ${id}`, (abort) => get<JobView>(paths.show, { job_id: id }, abort));
  const account = useResource(
    `account ${id}`,
    (abort) => get<JobAccount>(paths.account, { job_id: id }, abort),
    ofJob(id),
  );
  const job = status.data;
  return (
    <Page
      title={t("job.title", { id })}
      heading={
        <>
          {t("job.title", { id })} {job && <StateBadge state={stateOf(job)} />}
        </>
      }
      actions={
        job && (
          <>
            <JobActions job={{ ...job, state: stateOf(job), waiting: job.waiting }} done={status.reload} />
            <Resubmit job={job} view={view.data} />
            {canIn("operator", job.project) && view.data && (
              <>
                <Link to={href("submit", { from: id })}>{t("action.change")}</Link>
                <Link to={href("periodic", { from: id, ...(job.project ? { project: job.project } : {}) })}>{t("action.repeat")}</Link>
              </>
            )}
            <Link to={href("compare", { flow: job.flow_id, job: id })}>{t("action.compare")}</Link>
          </>
        )
      }
    >
      <p class="crumbs">
        <Link to={href("jobs")}>{t("nav.jobs")}</Link> / {id} <Copy text={id} /> <ProjectTag project={job?.project} />
        {view.data?.periodic && (
          <>
            {" "}
            {t("job.periodic")} <Link to={href("periodic")}>{view.data.periodic}</Link>
          </>
        )}
        {view.data?.workflows?.map((w) => (
          <Fragment key={w.workflow_id}>
            {" · "}
            <a href={w.url} target="_blank" rel="noopener" title={w.workflow_id}>
              {t(`job.workflow.${w.side}`)}
            </a>
          </Fragment>
        ))}
      </p>
      {job && canIn("approver", job.project) && awaitsOwn({ state: stateOf(job), waiting: job.waiting }) && (
        <Section title={t("approval.title")}>
          <ApprovalView id={id} />
        </Section>
      )}
      <Loaded resource={status}>{(job) => <Status job={job} />}</Loaded>
      <Section title={t("account.title")}>
        <Loaded resource={account}>{(a) => <Account account={a} />}</Loaded>
      </Section>
      <Loaded resource={view}>{(v) => <Inputs view={v} />}</Loaded>
    </Page>
  );
}

// A job that fails at many parties is not all cards; the table has the rest.
const mostFailures = 4;

/**
 * otherFailures returns why parts failed besides the failure of the job, which is the one that was reported first: where
 * parties fail together, another one may be the cause.
 */
function otherFailures(job: JobStatus): Failure[] {
  const first = job.failure;
  return (job.tasks ?? [])
    .flatMap((task) =>
      task.parties.flatMap((p) =>
        partState(p) === "FAILED" && p.failure
          ? [{ ...p.failure, task_name: task.task_name, role: `${p.role}.${p.index}`, node_id: p.node_id }]
          : [],
      ),
    )
    .filter((f) => !(first && f.task_name === first.task_name && f.node_id === first.node_id && f.role === first.role))
    .slice(0, mostFailures);
}

function Status({ job }: { job: JobStatus }) {
  const tasks = useMemo(() => tasksOf(job), [job]);
  const state = stateOf(job);
  return (
    <>
      {state !== "SUCCESS" && <FailureCard failure={job.failure} reason={job.reason} job={job.job_id} />}
      {state === "FAILED" && otherFailures(job).map((f) => <FailureCard key={`${f.task_name} ${f.role}`} failure={f} job={job.job_id} />)}
      {job.waiting && job.waiting.length > 0 && (
        <section aria-label={t("waiting.title")}>
          <WaitingList waiting={job.waiting} />
        </section>
      )}
      <dl class="summary">
        <div>
          <dt>{t("jobs.flow")}</dt>
          <dd>{job.flow_id ? <Link to={href("jobs", { flow: job.flow_id })}>{job.flow_id}</Link> : t("none")}</dd>
        </div>
        <div>
          <dt>{t("job.scheduler")}</dt>
          <dd>{partyName(job.scheduler)}</dd>
        </div>
        <div>
          <dt>{t("job.created")}</dt>
          <dd>
            <Time at={job.created_at} />
          </dd>
        </div>
        <div>
          <dt>{t("job.started")}</dt>
          <dd>
            <Time at={job.started_at} />
          </dd>
        </div>
        <div>
          <dt>{t("job.duration")}</dt>
          <dd>
            <Duration from={job.started_at} to={job.ended_at} />
          </dd>
        </div>
      </dl>
      <Section title={t("job.graph")}>
        <Dag job={job.job_id} tasks={tasks} />
      </Section>
      <Section title={t("job.timeline")}>
        <Timeline job={job.job_id} created={job.started_at ?? job.created_at} ended={job.ended_at} tasks={tasks} />
      </Section>
      <Details class="section" summary={t("job.table", { n: tasks.length })}>
        {() => <TaskTable tasks={tasks} />}
      </Details>
    </>
  );
}

// The height of a row of the table in style.css.
const rowHeight = 36;

function TaskTable({ tasks }: { tasks: TaskStatus[] }) {
  const rows = useMemo(() => tasks.flatMap((task) => task.parties.map((part) => ({ task, part }))), [tasks]);
  const { range, box } = useVirtualRows<HTMLTableSectionElement>(rows.length, rowHeight);
  const spacer = (n: number) =>
    n > 0 && (
      <tr class="spacer" aria-hidden="true">
        <td colSpan={6} style={{ height: `${n * rowHeight}px` }} />
      </tr>
    );
  return (
    <div class="scroll" tabIndex={0} role="region" aria-label={t("job.table", { n: tasks.length })}>
      <table aria-rowcount={rows.length + 1}>
        <thead>
          <tr>
            <th scope="col">{t("job.task")}</th>
            <th scope="col">{t("job.component")}</th>
            <th scope="col">{t("job.part")}</th>
            <th scope="col">{t("jobs.state")}</th>
            <th scope="col">{t("job.duration")}</th>
            <th scope="col">{t("jobs.reason")}</th>
          </tr>
        </thead>
        <tbody class="part-rows" ref={box}>
          {spacer(range.first)}
          {rows.slice(range.first, range.end).map(({ task, part: p }, i) => (
            <tr key={`${task.task_name} ${p.role}.${p.index}`} aria-rowindex={range.first + i + 2}>
              <td>{task.task_name}</td>
              <td>{task.component}</td>
              <td>
                {p.role}.{p.index} {partyName(p.node_id)}
              </td>
              <td>
                <StateBadge state={partState(p)} />
              </td>
              <td>
                <Duration from={p.started_at} to={p.ended_at} />
              </td>
              <td translate={false}>{p.reason || p.waiting?.message || p.progress}</td>
            </tr>
          ))}
          {spacer(rows.length - range.end)}
        </tbody>
      </table>
    </div>
  );
}

interface PartView {
  node_id: string;
  role: string;
  parameters?: unknown;
  dataset?: { namespace: string; name: string; rows?: number; columns?: { name: string; type: string }[] };
}

// More tasks are listed when they are asked for.
const listed = 50;

function Inputs({ view }: { view: JobView }) {
  const tasks = () => view.tasks.map((task) => <TaskInputs key={task.task_name} task={task} />);
  return (
    <Section title={t("job.inputs")}>
      {view.tasks.length <= listed ? (
        tasks()
      ) : (
        <Details summary={t("job.inputsOf", { n: view.tasks.length })}>{tasks}</Details>
      )}
      <Details summary={t("job.document")}>
        {() => {
          const text = JSON.stringify(view.document, null, 2);
          return (
            <>
              <p>
                <Copy text={text} />
              </p>
              <pre tabIndex={0}>{text}</pre>
            </>
          );
        }}
      </Details>
    </Section>
  );
}

function TaskInputs({ task }: { task: JobView["tasks"][number] }) {
  return (
    <Details
      summary={
        <>
          {task.task_name} <span class="muted">{`${task.component}, ${task.provider}`}</span>
        </>
      }
    >
      {() =>
        (task.parts as unknown as PartView[]).map((p) => (
          <div class="part-inputs" key={`${p.node_id} ${p.role}`}>
            <h3>
              {p.role} · {partyName(p.node_id)}
            </h3>
            {p.dataset && (
              <p>
                {t("job.dataset")}: {p.dataset.namespace}#{p.dataset.name}
                {p.dataset.rows !== undefined && `, ${t("job.rows", { n: p.dataset.rows })}`}
                {p.dataset.columns && <span class="muted"> ({p.dataset.columns.map((c) => c.name).join(", ")})</span>}
              </p>
            )}
            <pre tabIndex={0}>{JSON.stringify(p.parameters ?? {}, null, 2)}</pre>
          </div>
        ))
      }
    </Details>
  );
}

/** projectOf returns the project that a request must name: a client of several projects names default too. */
function projectOf(job: JobStatus): string | undefined {
  return job.project ?? (can("operator") ? undefined : defaultProject);
}

/** Resubmit submits the document of an ended job again. The new job reuses what has not changed. */
function Resubmit({ job, view }: { job: JobStatus; view: JobView | undefined }) {
  const [asks, setAsks] = useState(false);
  const own = view && (view.initiator as { node_id?: string }).node_id === ownNode.value;
  if (!own || !canIn("operator", job.project) || (job.outcome !== "FAILED" && job.outcome !== "STOPPED")) return null;
  async function submit() {
    const created = await post<{ job_id: string }>(inProject(paths.submit, projectOf(job)), {
      ...view!.document,
      job_id: null,
      old_job_id: job.job_id,
    });
    navigate(jobHref(created.job_id));
  }
  return (
    <>
      <button type="button" onClick={() => setAsks(true)}>
        {t("action.resubmit")}
      </button>
      {asks && (
        <Ask
          title={t("action.resubmitTitle", { id: job.job_id })}
          text={t("action.resubmitText")}
          button={t("action.resubmit")}
          close={() => setAsks(false)}
          do={submit}
        />
      )}
    </>
  );
}
