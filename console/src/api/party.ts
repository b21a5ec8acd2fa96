// The paths and types of what a party has: data, providers, runners, partners, grants and its audit trail.
import type { components } from "./schema";

type Schemas = components["schemas"];

export const partyPaths = {
  datasets: "/v2/data/query",
  upload: "/v2/data/component/upload/file",
  partnerData: "/v2/data/partners",
  deleteDataset: "/v2/data/delete",
  models: "/v2/models/query",
  prediction: "/v2/models/prediction",
  keepModel: "/v2/models/keep",
  deleteModel: "/v2/models/delete",
  providers: "/v2/provider/query",
  drain: "/v2/runner/drain",
  grants: "/v2/grant/query",
  revokeGrant: "/v2/grant/revoke",
  grantRequests: "/v2/grant/requests",
  approveGrant: "/v2/grant/approve",
  denyGrant: "/v2/grant/deny",
  periodic: "/v2/periodic/query",
  addPeriodic: "/v2/periodic/add",
  runPeriodic: "/v2/periodic/run",
  pausePeriodic: "/v2/periodic/pause",
  resumePeriodic: "/v2/periodic/resume",
  deletePeriodic: "/v2/periodic/delete",
  trail: "/v2/audit/query",
  ready: "/readyz",
  version: "/v2/server/fateflow",
  overview: "/v2/overview",
  projects: "/v2/project/query",
  notifications: "/v2/notification/query",
  testNotification: "/v2/notification/test",
  resendNotification: "/v2/notification/resend",
} as const;

export type Periodic = Schemas["Periodic"];
export type PeriodicRun = Schemas["PeriodicRun"];
export type Dataset = Schemas["Dataset"];
export type Project = Schemas["Project"];
export type PartnerData = Schemas["PartnerData"];
export type JobUse = Schemas["JobUse"];
export type Runner = Schemas["Runner"];
export type Notification = Schemas["Notification"];
export type NotificationList = Schemas["NotificationList"];
export type NotificationTestResult = Schemas["NotificationTestResult"];
export type Capacity = Schemas["RunnerCapacity"];

/** Model is a party's part of a model. */
export interface Model {
  model: string;
  project?: string;
  job_id: string;
  task_name: string;
  output: string;
  role: string;
  component: string;
  provider: string;
  datasets?: string[];
  bytes: number;
  sha256: string;
  kept: boolean;
  imported: boolean;
  created_at: string;
}

/** Param describes a parameter of a component (part 2, 6.5). Only its name and type are certain. */
export interface Param {
  name: string;
  type: string;
  title?: string;
  description?: string;
  optional?: boolean | string | null;
  defaultValue?: unknown;
  validator?: string;
  bindingData?: { label?: string; value: unknown }[];
  groupTag?: string;
  dependsOn?: unknown;
  UIType?: string;
}

/** Port describes an input or output of a component. */
export interface Port {
  name: string;
  category: string;
  description?: string;
}

export interface Component {
  componentName: string;
  title: string;
  description?: string;
  provider: string;
  version: string;
  roleList: string[];
  inputParam: Param[];
  inputData: Port[];
  outputData: Port[];
}

export interface Provider {
  name: string;
  version: string;
  device: string;
  protocol: string;
  provider_name: string;
  metadata: Record<string, unknown>;
  components_description: Record<string, Component>;
  allowed: { root?: boolean; writable?: boolean };
  create_time: number;
  update_time: number;
  images?: { reference: string; ids?: Record<string, string> | string[] | string }[];
  jobs?: JobUse[];
}

export interface Partner {
  node_id: string;
  source: string;
  state: string;
  auth?: string;
  address?: string;
  transport_address?: string;
  name?: string;
  institution?: string;
  fingerprint?: string;
  certificate_end?: string;
  contract_end?: string;
  updated_at?: string;
  contact_at?: string | null;
}

export interface Grant {
  grant_id: string;
  partner: string;
  component: string;
  dataset: string;
  until: string | null;
  times: number;
  used: number;
  created_by: string;
  created_at: string;
  revoked_at: string | null;
}

export interface GrantRequest {
  audit_id: string;
  partner: string;
  sent: boolean;
  state: string;
  dataset: string;
  components: string[];
  until: string | null;
  times: number;
  permit: boolean;
  created_by: string;
  decided_by: string;
  created_at: string;
  updated_at: string;
}

/** Entry is an entry of the audit trail. */
export interface Entry {
  seq: number;
  time: string;
  kind: string;
  node?: string;
  name?: string;
  run?: { job_id?: string; task_id?: string; role?: string };
  proof?: string;
  credential?: string;
  address?: string;
  act: string;
  object?: { kind?: string; id?: string };
  outcome: string;
  reason?: string;
  count: number;
  digest?: string;
  prev: string;
  hash: string;
}

export interface Trail {
  entries: Entry[];
  head: { seq: number; hash: string };
  /** The last archived entry, and the latest time of one. */
  base?: { seq: number; hash: string; time: string };
}

/** OverviewJob is a job that needs a person. */
export interface OverviewJob {
  project?: string;
  job_id: string;
  flow_id: string;
  initiator: string;
  since: string;
  until?: string;
  node_id?: string;
  task_name?: string;
  reason: string;
  failure?: Schemas["Failure"];
}

/** Overview is the state of a party at a glance. */
export interface Overview {
  node_id: string;
  time: string;
  approvals: OverviewJob[];
  approval_count: number;
  failed: OverviewJob[];
  failed_count: number;
  silent_runners: string[];
  silent_partners: { node_id: string; since: string; jobs: number; reason: string }[];
  storage: { free_bytes: number; total_bytes: number; nearly_full: boolean } | null;
  jobs: Record<string, number>;
  queued: number;
  capacity: { runners: number; running: number; total: Capacity; used: Capacity };
  partners: { node_id: string; name?: string; contact_at: string | null }[];
}
