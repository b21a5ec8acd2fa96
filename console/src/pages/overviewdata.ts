// Loads the overview. A party without that endpoint has it made of its lists.
import { ApiError, get } from "../api/client";
import { partyPaths, type Capacity, type Overview, type OverviewJob, type Partner, type Runner } from "../api/party";
import { paths } from "../api/paths";
import type { JobList, JobSummary } from "../api/types";
import { ownNode } from "../session";
import { awaitsOwn } from "../ui/jobactions";
import { failureText } from "../ui/failure";
import { stateOf } from "../ui/state";

/** Summary is an overview; counted is how many jobs it was made of, if not of all. */
export interface Summary extends Overview {
  counted?: number;
  /** Whether it has the partners' last contacts. */
  contacts: boolean;
}

let missing = false;

export async function loadOverview(abort: AbortSignal): Promise<Summary> {
  if (!missing) {
    try {
      return { ...(await get<Overview>(partyPaths.overview, {}, abort)), contacts: true };
    } catch (e) {
      if (!(e instanceof ApiError && e.status === 404)) throw e;
      missing = true;
    }
  }
  return fromLists(abort);
}

const latest = 500;
const day = 86400e3;

async function fromLists(abort: AbortSignal): Promise<Summary> {
  const [list, runners, partners] = await Promise.all([
    get<JobList>(paths.jobs, { limit: latest }, abort),
    get<Runner[]>(paths.runners, {}, abort),
    get<Partner[]>(paths.partners, {}, abort),
  ]);
  const jobs: Record<string, number> = {};
  for (const j of list.jobs) jobs[stateOf(j)] = (jobs[stateOf(j)] ?? 0) + 1;
  const waiting = list.jobs.filter((j) => awaitsOwn({ state: stateOf(j), waiting: j.waiting }));
  const failed = list.jobs.filter((j) => stateOf(j) === "FAILED" && Date.now() - Date.parse(j.ended_at ?? "") < day);
  const usable = runners.filter((r) => r.state === "online" || r.state === "draining");
  return {
    node_id: ownNode.value,
    time: new Date().toISOString(),
    approvals: waiting.map((j) => {
      const w = j.waiting?.find((x) => x.kind === "approval");
      return row(j, w?.since ?? j.created_at ?? "", w?.message ?? "");
    }),
    approval_count: waiting.length,
    failed: failed.map((j) => row(j, j.ended_at ?? "", failureReason(j))),
    failed_count: failed.length,
    silent_runners: runners.filter((r) => r.state === "silent").map((r) => r.runner_id),
    silent_partners: silentPartners(list.jobs),
    storage: null,
    jobs,
    queued: list.jobs.filter((j) => j.job_status === "READY" && j.scheduler === ownNode.value).length,
    capacity: {
      runners: usable.length,
      running: usable.reduce((n, r) => n + r.running, 0),
      total: sum(usable.map((r) => r.total)),
      used: sum(usable.map((r) => r.used)),
    },
    partners: partners
      .filter((p) => p.state === "APPROVED")
      .map((p) => ({ node_id: p.node_id, ...(p.name ? { name: p.name } : {}), contact_at: null })),
    ...(list.next ? { counted: latest } : {}),
    contacts: false,
  };
}

function failureReason(j: JobSummary): string {
  return j.failure?.message || j.reason || failureText(j.failure);
}

function row(j: JobSummary, since: string, reason: string): OverviewJob {
  const f = j.failure;
  return {
    job_id: j.job_id,
    flow_id: j.flow_id,
    initiator: j.initiator,
    since,
    reason,
    ...(f?.node_id ? { node_id: f.node_id } : {}),
    ...(f?.task_name ? { task_name: f.task_name } : {}),
    ...(f ? { failure: f } : {}),
  };
}

function silentPartners(jobs: JobSummary[]): Overview["silent_partners"] {
  const found = new Map<string, Overview["silent_partners"][number]>();
  for (const j of jobs) {
    for (const w of j.waiting ?? []) {
      if (w.kind !== "partner" || !w.node_id || w.node_id === ownNode.value) continue;
      const have = found.get(w.node_id);
      if (!have) found.set(w.node_id, { node_id: w.node_id, since: w.since, jobs: 1, reason: w.message });
      else {
        have.jobs++;
        if (w.since < have.since) Object.assign(have, { since: w.since, reason: w.message });
      }
    }
  }
  return [...found.values()];
}

function sum(list: Capacity[]): Capacity {
  const all: Capacity = { slots: 0, cpu: 0, memory: 0, disk: 0, gpu: 0 };
  for (const c of list) for (const k of Object.keys(all) as (keyof Capacity)[]) all[k] += c[k];
  return all;
}
