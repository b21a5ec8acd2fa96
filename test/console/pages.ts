// The pages of the console, with what each is opened with.
import type { Stage } from "./stage";

export interface PageCase {
  name: string;
  path: string;
  at: "guest" | "host";
  /** Whether the page is checked once only, because its check takes long. */
  once?: boolean;
}

export function pageCases(s: Stage): PageCase[] {
  const jobs = s.open.jobs;
  const job = (id: string) => `/console/jobs/${id}`;
  return [
    { name: "start", path: "/console/", at: "guest" },
    { name: "jobs", path: "/console/jobs", at: "guest" },
    { name: "jobs, filtered", path: "/console/jobs?state=failed,running&text=risk", at: "guest" },
    { name: "jobs, none", path: "/console/jobs?text=there-is-no-such-job&time=1h", at: "guest" },
    { name: "jobs of the host", path: "/console/jobs", at: "host" },
    { name: "unknown page", path: "/console/nothing/here", at: "guest" },
    ...(process.env.PAGES === "list" ? [] : jobPages()),
  ];

  function jobPages(): PageCase[] {
    return [
      { name: "running job", path: job(jobs.running), at: "guest" },
      { name: "queued job", path: job(jobs.queued), at: "guest" },
      { name: "failed job", path: job(jobs.failed), at: "guest" },
      { name: "pending job", path: job(jobs.pending), at: "host" },
      { name: "trained job", path: job(jobs.trained), at: "guest" },
      { name: "large job", path: job(jobs.large), at: "guest", once: true },
    ];
  }
}
