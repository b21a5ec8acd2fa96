// The list of jobs, page by page: the party filters, so that few jobs of very many are loaded. What it can't know, such
// as the words of this language for a failure, is filtered here.
import { useEffect, useRef, useState } from "preact/hooks";
import { get } from "../api/client";
import { paths } from "../api/paths";
import type { JobList, JobSummary } from "../api/types";
import { onChange } from "../live";
import { failureText, waitingText } from "../ui/failure";
import { ended, stateOf, type State } from "../ui/state";

export const states: State[] = ["PENDING", "READY", "RUNNING", "SUCCESS", "FAILED", "STOPPED", "REJECTED"];

export const times = { "1h": 3600e3, "24h": 86400e3, "7d": 7 * 86400e3, "30d": 30 * 86400e3 } as const;
export type TimeFilter = keyof typeof times;

export interface Filter {
  states: State[];
  flow: string;
  partner: string;
  role: string;
  text: string;
  time: TimeFilter | "";
}

/** parseFilter reads the filters in an address. */
export function parseFilter(query: URLSearchParams): Filter {
  const listed = (query.get("state") ?? "").toUpperCase().split(",");
  const time = query.get("time") ?? "";
  return {
    states: states.filter((s) => listed.includes(s)),
    flow: query.get("flow") ?? "",
    partner: query.get("partner") ?? "",
    role: query.get("role") ?? "",
    text: query.get("text") ?? "",
    time: time in times ? (time as TimeFilter) : "",
  };
}

export function isEmpty(f: Filter): boolean {
  return f.states.length === 0 && !f.flow && !f.partner && !f.role && !f.text && !f.time;
}

function serverQuery(f: Filter): Record<string, string> {
  const query: Record<string, string> = {};
  const open = f.states.filter((s) => !ended(s));
  const closed = f.states.filter(ended);
  if (f.states.length > 0) {
    const wanted: string[] = [...open];
    if (closed.some((s) => s !== "REJECTED")) wanted.push("FINISHED");
    if (closed.includes("REJECTED")) wanted.push("REJECTED", "FINISHED");
    query.job_status = [...new Set(wanted)].join(",");
    if (open.length === 0) query.outcome = closed.join(",");
  }
  if (f.flow) query.flow_id = f.flow;
  if (f.partner) query.partner = f.partner;
  if (f.role) query.role = f.role;
  // The party looks for one text. Each word must be in the job, and the longest one leaves the fewest.
  const word = words(f).sort((a, b) => b.length - a.length)[0];
  if (word && /^[\x21-\x7e]+$/.test(word)) query.text = word;
  if (f.time) {
    // To the minute, so that the query is the same for a while.
    query.since = new Date(Math.floor((Date.now() - times[f.time]) / 60e3) * 60e3).toISOString();
  }
  return query;
}

const words = (f: Filter) => f.text.toLowerCase().split(/\s+/).filter(Boolean);

function matches(job: JobSummary, f: Filter): boolean {
  if (f.states.length > 0 && !f.states.includes(stateOf(job))) return false;
  if (f.role && !job.roles.some((r) => r === f.role || r.startsWith(`${f.role}.`))) return false;
  if (!f.text) return true;
  const text = [
    job.job_id, job.flow_id, job.initiator, job.scheduler, ...job.parties,
    failureText(job.failure, job.reason), job.reason, waitingText(job.waiting),
  ].join("\n").toLowerCase();
  return words(f).every((word) => text.includes(word));
}

const firstPage = 100;
const largestPage = 1000;

export interface LoadedJobs {
  jobs: JobSummary[] | undefined;
  error: Error | undefined;
  /** Whether the party has more jobs than were loaded. */
  more: boolean;
  /** Until when the jobs were searched, if the party has more: it changes with each page, even one without jobs. */
  searchedTo: string | undefined;
  loadingMore: boolean;
  loadMore: () => void;
  reload: () => void;
}

interface Loaded {
  key: string;
  all?: JobSummary[];
  next?: string | undefined;
  searchedTo?: string | undefined;
  error?: Error | undefined;
}

/** useJobs loads the jobs that match a filter, as far as loadMore has asked, and keeps them up to date. */
export function useJobs(filter: Filter): LoadedJobs {
  const { states: wanted, flow, partner, role, text, time } = filter;
  const key = JSON.stringify([wanted, flow, partner, role, text, time]);
  const [loaded, setLoaded] = useState<Loaded>({ key });
  const [loadingMore, setLoadingMore] = useState(false);
  const run = useRef<(more: boolean) => void>(() => {});

  useEffect(() => {
    const abort = new AbortController();
    const query = serverQuery(filter);
    let busy = false;
    // What was asked for while a request ran.
    let again = false;
    let moreAgain = false;
    let timer: ReturnType<typeof setTimeout> | undefined;
    let own: Loaded = { key };
    // Whether more than the first page was loaded.
    let further = false;
    setLoaded(own);

    async function load(more: boolean): Promise<void> {
      if (busy) {
        if (more) moreAgain = true;
        else again = true;
        return;
      }
      busy = true;
      setLoadingMore(more);
      try {
        const have = own.all ?? [];
        if (more) {
          const page = await get<JobList>(paths.jobs, { ...query, limit: largestPage, before: own.next }, abort.signal);
          const ids = new Set(have.map((j) => j.job_id));
          const all = [...have, ...page.jobs.filter((j) => !ids.has(j.job_id))];
          own = { key, all, next: page.next, searchedTo: page.searched_to };
          further = true;
        } else {
          const limit = Math.min(largestPage, Math.max(firstPage, have.length));
          const page = await get<JobList>(paths.jobs, { ...query, limit }, abort.signal);
          const ids = new Set(page.jobs.map((j) => j.job_id));
          // Jobs that are older than what this page has searched stay as they were.
          const to = Date.parse(page.searched_to ?? "");
          const rest = page.next ? have.filter((j) => !ids.has(j.job_id) && Date.parse(j.created_at ?? "") <= to) : [];
          own =
            page.next && further
              ? { ...own, all: [...page.jobs, ...rest], error: undefined }
              : { key, all: [...page.jobs, ...rest], next: page.next, searchedTo: page.searched_to };
        }
      } catch (e) {
        if (abort.signal.aborted) return;
        own = { ...own, error: e instanceof Error ? e : new Error(String(e)) };
      }
      busy = false;
      if (abort.signal.aborted) return;
      setLoaded(own);
      setLoadingMore(false);
      if (again) {
        again = false;
        void load(false);
      } else if (moreAgain && own.next) {
        moreAgain = false;
        void load(true);
      }
    }

    run.current = (more) => void load(more);
    void load(false);
    const forget = onChange((change) => {
      if ((change.kind && change.kind !== "job" && change.kind !== "approval" && change.kind !== "task") || timer) return;
      timer = setTimeout(() => {
        timer = undefined;
        void load(false);
      }, 300);
    });
    return () => {
      abort.abort();
      clearTimeout(timer);
      forget();
    };
  }, [key]);

  const fresh = loaded.key === key ? loaded : { key };
  return {
    jobs: fresh.all?.filter((j) => matches(j, filter)),
    error: fresh.error,
    more: Boolean(fresh.next),
    searchedTo: fresh.next && fresh.searchedTo,
    loadingMore,
    loadMore: () => run.current(true),
    reload: () => run.current(false),
  };
}
