// The table of pages. A new page is a file of its own here, and a row.
import type { ComponentType } from "preact";
import type { Key } from "../i18n";
import { canSomewhere, type Role } from "../session";
import { Approvals } from "./approvals";
import { Data } from "./data";
import { Jobs } from "./jobs";
import { Operation } from "./operation";
import { Overview } from "./overview";
import { Periodic } from "./periodic";
import { Providers } from "./providers";
import { Submit } from "./submit";
import { Compare } from "./compare";
import { Job } from "./job";
import { Task } from "./task";

export interface PageProps {
  /** The parts of the path that begin with a colon. */
  params: Record<string, string>;
}

export interface PageEntry {
  path: string;
  view: ComponentType<PageProps>;
  /** The text of the link to the page; without it the page is not in the navigation. */
  nav?: Key;
  /** The roles of which the page requires one. */
  roles: Role[];
}

/** allowed returns whether the client may open a page. */
export function allowed(p: PageEntry): boolean {
  return p.roles.some(canSomewhere);
}

// The first page whose path matches is shown. The order is that of the navigation.
export const pages: PageEntry[] = [
  { path: "/console/", view: Overview, roles: ["viewer"], nav: "nav.overview" },
  { path: "/console/jobs", view: Jobs, roles: ["viewer"], nav: "nav.jobs" },
  { path: "/console/periodic", view: Periodic, roles: ["viewer"], nav: "nav.periodic" },
  { path: "/console/approvals", view: Approvals, roles: ["approver"], nav: "nav.approvals" },
  { path: "/console/data", view: Data, roles: ["viewer", "data"], nav: "nav.data" },
  { path: "/console/providers", view: Providers, roles: ["viewer"], nav: "nav.providers" },
  { path: "/console/submit", view: Submit, roles: ["operator"], nav: "nav.submit" },
  { path: "/console/compare", view: Compare, roles: ["viewer"], nav: "nav.compare" },
  { path: "/console/operation", view: Operation, roles: ["viewer", "auditor"], nav: "nav.operation" },
  { path: "/console/jobs/:id", view: Job, roles: ["viewer"] },
  { path: "/console/jobs/:id/tasks/:name", view: Task, roles: ["viewer"] },
];
