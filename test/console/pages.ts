// The pages of the console, with what each is opened with.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root, type Stage } from "./stage";

export interface PageCase {
  name: string;
  /** The page's path in the table of pages; none for a path that is no page. */
  page?: string;
  path: string;
  at: "guest" | "host";
  /** Whether Tab leads through a list without end, so that not everything is reached. */
  endless?: boolean;
}

/** table lists the paths of the pages that the console has. */
export const table = [
  ...readFileSync(join(root, "console", "src", "pages", "index.ts"), "utf8").matchAll(/path: "(\/console\/[^"]*)"/g),
].map((m) => m[1]!);

export const jobPage = "/console/jobs/:id";
export const taskPage = "/console/jobs/:id/tasks/:name";

/** pageCases returns what is opened of each page that the console has. */
export function pageCases(s: Stage): PageCase[] {
  const jobs = s.open.jobs;
  const job = (name: string, id: string, at: "guest" | "host" = "guest"): PageCase => ({
    name, page: jobPage, path: `/console/jobs/${id}`, at });
  const task = (name: string, id: string, of: string): PageCase => ({
    name, page: taskPage, path: `/console/jobs/${id}/tasks/${of}`, at: "guest" });
  const page = (name: string, path: string, at: "guest" | "host" = "guest", query = ""): PageCase => ({
    name, page: `/console/${path}`, path: `/console/${path}${query}`, at });
  const cases: PageCase[] = [
    page("overview", ""),
    { ...page("jobs", "jobs"), endless: true },
    page("jobs, filtered", "jobs", "guest", "?state=failed,running&text=risk"),
    page("jobs, none", "jobs", "guest", "?text=there-is-no-such-job&time=1h"),
    page("jobs of the host", "jobs", "host"),
    { name: "unknown page", path: "/console/nothing/here", at: "guest" },
    job("running job", jobs.running),
    job("queued job", jobs.queued),
    job("failed job", jobs.failed),
    job("pending job", jobs.pending, "host"),
    job("trained job", jobs.trained),
    { ...job("large job", jobs.large), endless: true },
    task("running task", jobs.running, "prepare"),
    task("failed task", jobs.failed, "intersect_rsa_1"),
    task("trained task", jobs.trained, "hetero_secureboost_1"),
    task("evaluated task", jobs.evaluated, "evaluate"),
    job("retried job", jobs.retried),
    task("retried task", jobs.retried, "prepare"),
    page("overview of the host", "", "host"),
    page("approvals", "approvals", "host"),
    page("data", "data"),
    page("periodic", "periodic"),
    page("periodic, from a job", "periodic", "guest", `?from=${jobs.trained}`),
    page("providers", "providers"),
    page("submit", "submit"),
    page("submit, from a job", "submit", "guest", `?from=${jobs.trained}`),
    page("operation, runners", "operation"),
    page("operation, partners", "operation", "guest", "?tab=partners"),
    page("operation, notifications", "operation", "guest", "?tab=notifications"),
    page("operation, grants", "operation", "guest", "?tab=grants"),
    page("operation, trail", "operation", "guest", "?tab=trail"),
    page("operation, version", "operation", "guest", "?tab=version"),
    page("compare, nothing", "compare"),
    page("compare", "compare", "guest", `?job=${jobs.trained}&job=${jobs.again}`),
  ];
  return cases.filter((c) => !c.page || table.includes(c.page));
}
