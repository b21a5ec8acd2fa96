// Calls the party's API, in the name of the client who has signed in.
import { signal } from "@preact/signals";

const storageKey = "hutong.token";

/** token is the credential that is sent with each request, or "". It lives as long as the tab. */
export const token = signal(sessionStorage.getItem(storageKey) ?? "");

export function setToken(value: string): void {
  token.value = value;
  if (value) sessionStorage.setItem(storageKey, value);
  else sessionStorage.removeItem(storageKey);
}

/** unauthenticated counts the answers that ask for credentials. */
export const unauthenticated = signal(0);

/** ApiError is an answer that is no success, or that there was no answer (status 0). */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly code: number,
    message: string,
  ) {
    super(message);
  }
}

export type Query = Record<string, string | number | undefined>;

export function address(path: string, query: Query = {}): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    if (value !== undefined && value !== "") params.set(name, String(value));
  }
  const text = params.toString();
  return text ? `${path}?${text}` : path;
}

/** open sends a request and returns its response. It throws an ApiError for any other than a success. */
export async function open(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = new Headers(init.headers);
  if (token.value) headers.set("Authorization", `Bearer ${token.value}`);
  let response: Response;
  try {
    response = await fetch(path, { ...init, headers, cache: "no-store", credentials: "same-origin" });
  } catch (e) {
    if (e instanceof DOMException && e.name === "AbortError") throw e;
    throw new ApiError(0, 0, e instanceof Error ? e.message : String(e));
  }
  if (response.ok) return response;
  if (response.status === 401) unauthenticated.value++;
  throw await failure(response);
}

async function failure(response: Response): Promise<ApiError> {
  const text = await response.text();
  try {
    const body = JSON.parse(text) as { code?: number; msg?: string; message?: string };
    return new ApiError(response.status, body.code ?? 0, body.message ?? body.msg ?? text);
  } catch {
    return new ApiError(response.status, 0, text || response.statusText);
  }
}

async function data<T>(response: Response): Promise<T> {
  return ((await response.json()) as { data: T }).data;
}

/** get returns the field data of an answer. */
export async function get<T>(path: string, query: Query = {}, abort?: AbortSignal): Promise<T> {
  return data<T>(await open(address(path, query), { signal: abort ?? null }));
}

/** post sends a JSON body and returns the field data of the answer. */
export async function post<T>(path: string, body: unknown): Promise<T> {
  return data<T>(
    await open(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: typeof body === "string" ? body : JSON.stringify(body),
    }),
  );
}

/** save has the browser store what a path answers as a file. */
export async function save(path: string, query: Query, name: string): Promise<void> {
  saveBlob(await (await open(address(path, query))).blob(), name);
}

export function saveBlob(blob: Blob, name: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
