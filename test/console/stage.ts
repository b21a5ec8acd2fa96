// Starts the parties and jobs of the tests; see stage/main.go.
import { spawn } from "node:child_process";
import { appendFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { hangs } from "./promise";

export interface Stage {
  memory: string; // the address that says how much memory the process of all parties has
  files: string;
  open: {
    guest: string;
    host: string;
    guest_node: string;
    host_node: string;
    stored: number;
    tasks: number;
    reason: string;
    jobs: Record<
      | "running" | "queued" | "failed" | "pending" | "approve" | "like" | "reject" | "stop" | "live" | "trained" | "again"
      | "large" | "evaluated" | "retried",
      string
    >;
  };
  strict: {
    guest: string;
    host: string;
    tokens: Record<"admin" | "viewer" | "operator" | "approver" | "operator_only" | "approver_only", string>;
    jobs: Record<"running" | "pending" | "approve" | "failed", string>;
    departments: { tokens: Record<"risk" | "both", string>; jobs: Record<"risk" | "ads", string> }; // of the host
    oidc: { issuer: string; user: string; password: string; missing?: string };
  };
}

/** root is the repository's folder; the tests run in test/console. */
export const root = join(process.cwd(), "..", "..");

// Nothing is built here, but two pairs of parties start, and 10,000 jobs are stored, or 100,000 by make console-load.
const startLimit = 30 * 60_000;

/**
 * startStage starts the parties, and returns when all jobs have reached their states. With STAGE it uses parties that
 * run already: the file of that name has what `make console-stage` has printed.
 */
export async function startStage(): Promise<{ stage: Stage; stop: () => Promise<void> }> {
  if (process.env.STAGE) {
    return { stage: JSON.parse(readFileSync(process.env.STAGE, "utf8")) as Stage, stop: async () => {} };
  }
  const program = spawn(join(root, "bin", "console-stage"), [...(process.env.DEX ? ["-dex", process.env.DEX] : []), ...(process.env.STAGE_FLAGS?.split(" ") ?? [])], {
    cwd: root,
    stdio: ["pipe", "pipe", "inherit"],
  });
  const ended = new Promise<void>((resolve) => program.on("close", () => resolve()));
  const line = await new Promise<string>((resolve, reject) => {
    const timer = setTimeout(() => {
      program.kill();
      reject(new Error(`the parties did not start within ${startLimit / 1000} s`));
    }, startLimit);
    createInterface({ input: program.stdout }).once("line", (text) => {
      clearTimeout(timer);
      resolve(text);
    });
    program.on("error", reject);
    void ended.then(() => reject(new Error("the program bin/console-stage ended early")));
  });
  return {
    stage: JSON.parse(line) as Stage,
    stop: async () => {
      program.stdin.end();
      await ended;
    },
  };
}

/** say appends a line to a file that a task of component Follow reads: it logs the line, or ends with "exit N". */
export function say(stage: Stage, file: string, line: string): void {
  appendFileSync(join(stage.files, file), `${line}\n`);
}

/** api returns the data of a party's answer. */
export async function api<T>(url: string): Promise<T> {
  const response = await fetch(url);
  const body = (await response.json()) as { data: T };
  if (!response.ok) throw new Error(`${url}: HTTP ${response.status}: ${JSON.stringify(body)}`);
  return body.data;
}

/** post returns the data of a party's answer to a text of JSON. */
async function post<T>(url: string, body: string): Promise<T> {
  const response = await fetch(url, { method: "POST", headers: { "Content-Type": "application/json" }, body });
  const answer = (await response.json()) as { data: T };
  if (!response.ok) throw new Error(`${url}: HTTP ${response.status}: ${JSON.stringify(answer)}`);
  return answer.data;
}

interface Status {
  job_status: string;
  approval_rule?: string;
  outcome?: string;
  tasks: { task_name: string; status: string }[];
}

/** jobStatus returns the status of a job at a party without sign-in. */
export function jobStatus(party: string, id: string): Promise<Status> {
  return api<Status>(`${party}/v1/platform/schedule/job/status_all?job_id=${id}`);
}

/**
 * submitAgain submits the document of a job of a party without sign-in again, and returns the id of the new job. With
 * change it submits what that makes of the document's text.
 */
export async function submitAgain(party: string, id: string, change = (text: string) => text): Promise<string> {
  const { document } = await api<{ document: Record<string, unknown> }>(`${party}/v2/job/show?job_id=${id}`);
  const { job_id: _, ...rest } = document;
  const { job_id: created } = await post<{ job_id: string }>(
    `${party}/v2/schedule/job/create_all`, change(JSON.stringify(rest)));
  return created;
}

/** approve approves a job at a party without sign-in. */
export async function approve(party: string, id: string): Promise<void> {
  await post(`${party}/v1/platform/schedule/job/audit_confirm`, JSON.stringify({ job_id: id, status: "READY" }));
}

/** until calls f until it returns something that is true. limit ends what would never end. */
export async function until<T>(what: string, f: () => Promise<T | undefined | false>, limit = hangs): Promise<T> {
  const end = Date.now() + limit;
  for (;;) {
    const value = await f();
    if (value) return value;
    if (Date.now() > end) throw new Error(`${what}: not within ${limit / 1000} s`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}
