import { useEffect, useState } from "preact/hooks";
import type { JobSummary } from "../api/types";
import { known, t } from "../i18n";
import { current, href, jobHref, Link, setQuery } from "../router";
import { ProjectTag } from "../ui/project";
import { can, canSomewhere, ownNode } from "../session";
import { Empty, ErrorBox, Loading, Page } from "../ui/basic";
import { failurePlace, failureText, waitingText } from "../ui/failure";
import { JobActions } from "../ui/jobactions";
import { StateBadge, stateName, stateOf, StateShape } from "../ui/state";
import { absolute, Duration, Time } from "../ui/time";
import { useNarrow, useVirtualRows } from "../ui/virtual";
import { most } from "./comparedata";
import { isEmpty, parseFilter, states, times, useJobs, type Filter } from "./joblist";

// The heights of rows in style.css.
const rowHeight = 52;
const narrowRowHeight = 128;

/** Jobs lists the jobs of this party, newest first. */
export function Jobs() {
  const filter = parseFilter(current.value.query);
  const { jobs, error, more, searchedTo, loadingMore, loadMore, reload } = useJobs(filter);
  const [chosen, setChosen] = useState<string[]>([]);
  const choose = (id: string, on: boolean) => setChosen((old) => (on ? [...old, id] : old.filter((x) => x !== id)));
  const narrow = useNarrow();
  const height = narrow ? narrowRowHeight : rowHeight;
  const { range, box } = useVirtualRows<HTMLTableSectionElement>(jobs?.length ?? 0, height);

  // The next page is loaded when its rows are near.
  const near = jobs !== undefined && more && range.end >= jobs.length - 20;
  useEffect(() => {
    if (near) loadMore();
  }, [near, searchedTo]);
  // In single projects all filters search, see JobPage.
  const searches = Boolean(filter.partner || filter.role || filter.text) || (!can("viewer") && !isEmpty(filter));

  return (
    <Page
      title={t("jobs.title")}
      actions={
        jobs && (
          <span class="muted number" role="status">
            {t(more ? "jobs.countMore" : "jobs.count", { n: jobs.length })}
            {searches && searchedTo && ` · ${t("jobs.searchedTo", { time: absolute(searchedTo) })}`}
          </span>
        )
      }
    >
      <Filters filter={filter} jobs={jobs ?? []} />
      <Chosen ids={chosen} clear={() => setChosen([])} />
      {error && (jobs ? <p class="stale">{t("error.stale", { message: error.message })}</p> : <ErrorBox error={error} retry={reload} />)}
      {!jobs && !error && <Loading />}
      {jobs && jobs.length === 0 && !more && (
        <Empty title={t(isEmpty(filter) ? "jobs.empty" : "jobs.emptyFilter")}>
          {isEmpty(filter) ? <p>{t("jobs.emptyText")}</p> : <ClearFilters />}
        </Empty>
      )}
      {jobs && (jobs.length > 0 || more) && (
        <table class="jobs" aria-rowcount={more ? -1 : jobs.length + 1}>
          <thead>
            <tr>
              <th scope="col" class="c-choose">
                <span class="sr">{t("jobs.choose")}</span>
              </th>
              <th scope="col" class="c-state">{t("jobs.state")}</th>
              <th scope="col" class="c-job">{t("jobs.job")}</th>
              <th scope="col" class="c-reason">{t("jobs.reason")}</th>
              <th scope="col" class="c-parties">{t("jobs.parties")}</th>
              <th scope="col" class="c-time">{t("jobs.createdDuration")}</th>
              <th scope="col" class="c-actions">
                <span class="sr">{t("jobs.actions")}</span>
              </th>
            </tr>
          </thead>
          <tbody ref={box}>
            {range.first > 0 && <Spacer height={range.first * height} />}
            {jobs.slice(range.first, range.end).map((job, i) => (
              <Row
                key={job.job_id}
                job={job}
                index={range.first + i + 2}
                reload={reload}
                chosen={chosen.includes(job.job_id)}
                choose={chosen.length < most || chosen.includes(job.job_id) ? choose : undefined}
              />
            ))}
            {range.end < jobs.length && <Spacer height={(jobs.length - range.end) * height} />}
          </tbody>
        </table>
      )}
      {jobs && loadingMore && <Loading />}
    </Page>
  );
}

function Spacer({ height }: { height: number }) {
  return (
    <tr class="spacer" aria-hidden="true">
      <td colSpan={7} style={{ height: `${height}px` }} />
    </tr>
  );
}

/** Chosen offers what may be done with the chosen jobs. */
function Chosen({ ids, clear }: { ids: string[]; clear: () => void }) {
  const query = new URLSearchParams(ids.map((id) => ["job", id]));
  return (
    <div class="chosen" aria-live="polite">
      {ids.length > 0 && (
        <>
          <span>{t("jobs.chosen", { n: ids.length })}</span>
          {ids.length > 1 ? (
            <Link to={`${href("compare")}?${query.toString()}`}>{t("action.compare")}</Link>
          ) : (
            <span class="muted">{t("jobs.chooseMore", { n: most })}</span>
          )}
          {ids.length === 1 && canSomewhere("operator") && (
            <Link to={href("submit", { from: ids[0] })}>{t("action.change")}</Link>
          )}
          <button type="button" class="small" onClick={clear}>
            {t("jobs.chooseNone")}
          </button>
        </>
      )}
    </div>
  );
}

interface RowProps {
  job: JobSummary;
  index: number;
  reload: () => void;
  chosen: boolean;
  /** Chooses the job, or no longer; none if as many as can be compared are chosen. */
  choose: ((id: string, on: boolean) => void) | undefined;
}

function Row({ job, index, reload, chosen, choose }: RowProps) {
  const state = stateOf(job);
  const failure = job.failure;
  const reason = state === "SUCCESS" ? "" : failureText(job.failure, job.reason) || waitingText(job.waiting);
  const others = job.parties.filter((p) => p !== ownNode.value);
  return (
    <tr aria-rowindex={index}>
      <td class="c-choose">
        <label>
          <input
            type="checkbox"
            checked={chosen}
            disabled={!choose}
            onChange={(e) => choose?.(job.job_id, e.currentTarget.checked)}
          />
          <span class="sr">{t("jobs.chooseJob", { id: job.job_id })}</span>
        </label>
      </td>
      <td class="c-state">
        <StateBadge state={state} />
      </td>
      <th scope="row" class="c-job">
        <Link to={jobHref(job.job_id)} class="job-id">
          {job.job_id}
        </Link>
        <span class="flow" title={job.flow_id}>
          {job.flow_id || t("jobs.noFlow")}
        </span>
        <ProjectTag project={job.project} />
      </th>
      <td class="c-reason" title={reason} translate={false}>
        {state === "SUCCESS" ? null : failure ? (
          <>
            <span class="line">{failure.message || known("failure.kind", failure.kind)}</span>
            <span class="line muted">{failurePlace(failure)}</span>
          </>
        ) : (
          <span class="clamp">{reason}</span>
        )}
      </td>
      <td class="c-parties" title={`${job.parties.join("\n")}\n${t("jobs.scheduledBy", { node: job.scheduler })}`}>
        <span class="line">
          {others[0]}
          {others.length > 1 && ` ${t("jobs.moreParties", { n: others.length - 1 })}`}
        </span>
        <span class="line muted">{job.roles.length > 0 && t("jobs.as", { roles: job.roles.join(", ") })}</span>
      </td>
      <td class="c-time">
        <span class="line">
          <Time at={job.created_at} />
        </span>
        <span class="line muted">
          <Duration from={job.started_at} to={job.ended_at} />
        </span>
      </td>
      <td class="c-actions">
        <JobActions job={{ ...job, state, waiting: job.waiting }} done={reload} small />
      </td>
    </tr>
  );
}

function ClearFilters() {
  return (
    <button
      type="button"
      class="small"
      onClick={() => setQuery({ state: "", flow: "", partner: "", role: "", text: "", time: "" })}
    >
      {t("jobs.clear")}
    </button>
  );
}

function Filters({ filter, jobs }: { filter: Filter; jobs: JobSummary[] }) {
  const flows = unique(jobs.map((j) => j.flow_id));
  const partners = unique(jobs.flatMap((j) => j.parties)).filter((p) => p !== ownNode.value);
  return (
    <form class="filters" role="search" aria-label={t("jobs.filters")} onSubmit={(e) => e.preventDefault()}>
      <fieldset class="chips">
        <legend class="sr">{t("jobs.state")}</legend>
        {states.map((s) => (
          <label key={s} class="chip">
            <input
              type="checkbox"
              checked={filter.states.includes(s)}
              onChange={(e) => {
                const list = states.filter((x) => (x === s ? e.currentTarget.checked : filter.states.includes(x)));
                setQuery({ state: list.join(",").toLowerCase() });
              }}
            />
            <span>
              <StateShape state={s} size={12} />
              {stateName(s)}
            </span>
          </label>
        ))}
      </fieldset>
      <Typed name="text" label={t("jobs.text")} value={filter.text} help={t("jobs.textHelp")} />
      <Typed name="flow" label={t("jobs.flow")} value={filter.flow} suggestions={flows} />
      <Typed name="partner" label={t("jobs.partner")} value={filter.partner} suggestions={partners} />
      <label class="filter">
        {t("jobs.role")}
        <select value={filter.role} onChange={(e) => setQuery({ role: e.currentTarget.value })}>
          <option value="">{t("jobs.any")}</option>
          {["guest", "host", "arbiter"].map((r) => (
            <option key={r}>{r}</option>
          ))}
        </select>
      </label>
      <label class="filter">
        {t("jobs.time")}
        <select value={filter.time} onChange={(e) => setQuery({ time: e.currentTarget.value })}>
          <option value="">{t("jobs.time.any")}</option>
          {(Object.keys(times) as (keyof typeof times)[]).map((k) => (
            <option key={k} value={k}>
              {t(`jobs.time.${k}`)}
            </option>
          ))}
        </select>
      </label>
      {!isEmpty(filter) && <ClearFilters />}
    </form>
  );
}

function unique(list: string[]): string[] {
  return [...new Set(list)].filter(Boolean).sort().slice(0, 200);
}

/** Typed is a filter that is typed; it counts once the typing pauses. */
function Typed(props: { name: string; label: string; value: string; help?: string; suggestions?: string[] }) {
  const [text, setText] = useState(props.value);
  useEffect(() => setText(props.value), [props.value]);
  useEffect(() => {
    if (text === props.value) return;
    const timer = setTimeout(() => setQuery({ [props.name]: text.trim() }), 250);
    return () => clearTimeout(timer);
  }, [text]);
  const list = `suggest-${props.name}`;
  return (
    <label class="filter">
      {props.label}
      <input
        type="search"
        value={text}
        placeholder={props.help}
        list={props.suggestions ? list : undefined}
        onInput={(e) => setText(e.currentTarget.value)}
      />
      {props.suggestions && (
        <datalist id={list}>
          {props.suggestions.map((s) => (
            <option key={s} value={s} />
          ))}
        </datalist>
      )}
    </label>
  );
}
