// Loads jobs to set side by side: their documents, their times and what their reports say.
import { address, ApiError, get, open } from "../api/client";
import type { JobDocument } from "../api/document";
import { paths } from "../api/paths";
import type { JobList, JobSummary, Output } from "../api/types";
import { canIn } from "../session";
import { shown } from "../ui/params";
import { parseReport } from "../ui/charts";

/** most is how many jobs fit beside each other. */
export const most = 6;

export interface Run {
  id: string;
  summary: JobSummary | undefined;
  /** Parameters by their place in the document. */
  parameters: Map<string, string>;
  /** Metrics by task, role and name. */
  metrics: Map<string, number>;
}

export function loadRuns(ids: string[], abort: AbortSignal): Promise<Run[]> {
  return Promise.all(ids.map((id) => loadRun(id, abort)));
}

async function loadRun(id: string, abort: AbortSignal): Promise<Run> {
  const [list, answer] = await Promise.all([
    get<JobList>(paths.jobs, { prefix: id, limit: 100 }, abort),
    get<{ document: JobDocument }>(paths.document, { job_id: id }, abort),
  ]);
  const summary = list.jobs.find((j) => j.job_id === id);
  const metrics = canIn("data", summary?.project) ? await loadMetrics(id, abort) : new Map<string, number>();
  const parameters = new Map<string, string>();
  const { dag, config } = answer.document;
  for (const c of dag.components) {
    parameters.set(`${c.name} · component`, `${c.provider} ${c.version} ${c.componentName}`);
    parameters.set(`${c.name} · input`, (c.input ?? []).map((i) => i.key).join(", "));
  }
  flatten("role", config.role, parameters);
  const { common, ...byRole } = config.task_params;
  flatten("", common, parameters);
  flatten("", byRole, parameters);
  flatten("job_params", config.job_params, parameters);
  return { id, summary, parameters, metrics };
}

/** flatten adds each value with the path to it. */
function flatten(place: string, value: unknown, into: Map<string, string>): void {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    for (const [k, v] of Object.entries(value)) flatten(place ? `${place} · ${k}` : k, v, into);
  } else if (value !== undefined) {
    into.set(place, shown(value));
  }
}

// A curve over these has a last value that says how the training ended.
const steps = /^(step|round|tree|epoch|iteration)$/;

// Larger reports hold curves, which are not set side by side.
const largest = 1 << 20;

async function loadMetrics(id: string, abort: AbortSignal): Promise<Map<string, number>> {
  const { outputs } = await get<{ outputs: Output[] }>(paths.outputs, { job_id: id }, abort);
  const metrics = new Map<string, number>();
  const reports = outputs.filter((o) => o.type !== "dataset" && o.type !== "model" && o.bytes <= largest);
  const read = await Promise.all(reports.map((o) => readReport(o, abort)));
  reports.forEach((o, i) => {
    const { numbers, charts } = parseReport(read[i]);
    const place = `${o.task_name} · ${o.role}`;
    for (const [name, value] of numbers) metrics.set(`${place} · ${name}`, value);
    for (const c of charts) {
      if (c.kind !== "line" || !steps.test(c.x)) continue;
      for (const s of c.series) metrics.set(`${place} · ${s.name}`, s.points.at(-1)![1]);
    }
  });
  return metrics;
}

/** readReport returns a report, or undefined if it is no JSON or was removed meanwhile. */
async function readReport(o: Output, abort: AbortSignal): Promise<unknown> {
  try {
    const response = await open(address(paths.download, { namespace: o.namespace, name: o.name }), { signal: abort });
    return JSON.parse(await response.text()) as unknown;
  } catch (e) {
    if (e instanceof SyntaxError || (e instanceof ApiError && e.status === 404)) return undefined;
    throw e;
  }
}

/** places returns the places that any run has, in the order in which they appear. */
export function places<T>(runs: Map<string, T>[]): string[] {
  return [...new Set(runs.flatMap((m) => [...m.keys()]))];
}
