// The types of the API's answers, from api/openapi.json.
import type { components } from "./schema";

type Schemas = components["schemas"];

export type JobList = Schemas["JobList"];
export type JobSummary = JobList["jobs"][number];
export type JobStatus = Schemas["JobStatusByTaskId"];
export type TaskStatus = Schemas["TaskStatus"];
export type PartStatus = Schemas["PartStatus"];
export type AttemptStatus = Schemas["AttemptStatus"];
export type JobView = Schemas["JobView"];
export type Approval = Schemas["Approval"];
export type ApprovalRule = Schemas["ApprovalRule"];
export type ApprovalScope = Schemas["ApprovalScope"];
export type ApprovalUse = Schemas["ApprovalUse"];
export type NearRule = Schemas["NearRule"];
export type Failure = Schemas["Failure"];
export type Waiting = Schemas["Waiting"];
export type Output = Schemas["Outputs"]["outputs"][number];

/** WhoAmI is the client as its party sees it. */
export interface WhoAmI {
  node_id: string;
  name: string;
  roles: string[];
  proof: string;
}

/** LoginMethods is how clients sign in at a party. */
export interface LoginMethods {
  node_id: string;
  open: boolean;
  oidc?: { issuer: string; client_id: string; scopes: string[] };
}
