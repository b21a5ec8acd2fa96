// Who has signed in, and what the client may do.
import { computed, signal } from "@preact/signals";
import { ApiError, get, setToken, unauthenticated } from "./api/client";
import { paths } from "./api/paths";
import type { LoginMethods, WhoAmI } from "./api/types";
import * as live from "./live";
import { t } from "./i18n";
import { finish } from "./oidc";

export type Role =
  | "viewer" | "operator" | "approver" | "data" | "logs" | "provider-admin" | "runner-admin" | "auditor" | "admin";

export type Session =
  | { state: "loading" }
  | { state: "out"; login?: LoginMethods; reason?: string }
  | { state: "in"; who: WhoAmI };

export const session = signal<Session>({ state: "loading" });

/** roles are the roles of the client who has signed in. */
export const roles = computed(() => (session.value.state === "in" ? session.value.who.roles : []));

/** can returns whether the client has a role in all projects. An administrator has every role. */
export function can(role: Role): boolean {
  return roles.value.some((r) => r === "admin" || r === role);
}

/** The project of what names none. */
export const defaultProject = "default";

/** canIn returns whether the client has a role in the project of a thing. */
export function canIn(role: Role, project: string | undefined): boolean {
  return can(role) || projectsWith(role).includes(project ?? defaultProject);
}

/** canSomewhere returns whether the client has a role in all projects or in one. */
export function canSomewhere(role: Role): boolean {
  return can(role) || projectsWith(role).length > 0;
}

/** projectsWith returns the projects in which the client has a role, apart from what it has in all. */
export function projectsWith(role: Role): string[] {
  return roles.value.filter((r) => r.startsWith(`${role}@`)).map((r) => r.slice(role.length + 1));
}

/** ownProjects are the projects in which the client has roles. There are none if it has roles in all only. */
export const ownProjects = computed(() => {
  const names = roles.value.filter((r) => r.includes("@")).map((r) => r.slice(r.indexOf("@") + 1));
  return [...new Set(names)].sort();
});

/** ownNode is the node id of the party. */
export const ownNode = computed(() => (session.value.state === "in" ? session.value.who.node_id : ""));

async function begin(): Promise<void> {
  const who = await get<WhoAmI>(paths.whoami);
  session.value = { state: "in", who };
  if (canSomewhere("viewer")) live.start(who.name); // others have no events to read
}

/** load finds out who the client is, and how to sign in if nobody has. */
export async function load(reason?: string): Promise<void> {
  try {
    await finish();
  } catch (e) {
    reason = message(e);
  }
  try {
    await begin();
    return;
  } catch (e) {
    live.stop();
    if (!(e instanceof ApiError) || (e.status !== 401 && e.status !== 403)) reason = message(e);
  }
  setToken("");
  try {
    session.value = { state: "out", login: await get<LoginMethods>(paths.login), ...(reason ? { reason } : {}) };
  } catch (e) {
    session.value = { state: "out", reason: reason ?? message(e) };
  }
}

/** signIn tries a token. It returns why the party refuses it, or "". */
export async function signIn(token: string): Promise<string> {
  setToken(token);
  try {
    await begin();
    return "";
  } catch (e) {
    setToken("");
    return message(e);
  }
}

export function signOut(): void {
  setToken("");
  live.stop();
  void load();
}

function message(e: unknown): string {
  return e instanceof Error ? e.message : String(e);
}

// A token that expires or is revoked while a page is open ends the session.
unauthenticated.subscribe((n) => {
  if (n > 0 && session.peek().state === "in") void load(t("signIn.ended"));
});
