// Reports what has changed at the party. It reads the stream of events, and polls while there is none.
import { signal } from "@preact/signals";
import { open } from "./api/client";
import { paths } from "./api/paths";

export type Kind = "job" | "task" | "approval" | "runner" | "partner" | "data";

/** Change says what to fetch again. Without a kind anything may have changed. */
export interface Change {
  kind?: Kind;
  job_id?: string;
}

export type Mode = "connecting" | "stream" | "polling" | "offline";

export const mode = signal<Mode>("connecting");

const pollEvery = 2_000;
const retryAfter = 5_000;
// A party without the stream of events gets it only with another version.
const retryMissing = 60_000;
// The party sends a line every 15 s. Without any for longer the connection is lost.
const silence = 40_000;

type Listener = (change: Change) => void;
const listeners = new Set<Listener>();

export function onChange(listener: Listener): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

function report(change: Change): void {
  for (const l of [...listeners]) l(change);
}

let ended: AbortController | undefined;

/**
 * start follows the party's changes until stop. A browser has six connections to a party, which more tabs with a
 * stream each would use up. So one of the tabs in which name has signed in reads the stream, and passes on to the others
 * what it reads; when it is closed, another one does.
 */
export function start(name: string): void {
  if (ended) return;
  ended = new AbortController();
  void follow(ended.signal, `hutong.changes.${name}`);
}

export function stop(): void {
  ended?.abort();
  ended = undefined;
}

/** Passed is what the tab that reads the stream passes on: its mode and a change, if there is one. */
interface Passed {
  mode: Mode;
  change?: Change;
}

let pass: (change?: Change) => void = () => {};

async function follow(end: AbortSignal, name: string): Promise<void> {
  // Without a secure context there are no locks, and each tab reads on its own.
  if (!navigator.locks) return lead(end);
  const channel = new BroadcastChannel(name);
  let leads = false;
  let heard = Date.now();
  channel.onmessage = ({ data }: MessageEvent<Passed | "ask">) => {
    if (data === "ask") {
      if (leads) pass();
    } else if (!leads) {
      heard = Date.now();
      mode.value = data.mode;
      if (data.change) report(data.change);
    }
  };
  channel.postMessage("ask");
  const lock = navigator.locks
    .request(name, { signal: end }, async () => {
      leads = true;
      pass = (change) => channel.postMessage({ mode: mode.value, ...(change ? { change } : {}) } satisfies Passed);
      report({}); // what happened since the last tab read it
      await lead(end);
    })
    .catch(() => {}); // stop ended the wait
  while (!leads && !end.aborted) {
    await pause(pollEvery, end);
    if (leads || Date.now() - heard < silence) continue;
    if (mode.value !== "offline") mode.value = "polling";
    if (!document.hidden) report({});
  }
  await lock;
  pass = () => {};
  channel.close();
}

async function lead(end: AbortSignal): Promise<void> {
  let connectAt = 0;
  while (!end.aborted) {
    if (Date.now() >= connectAt) {
      const missing = await readStream(end, () => {
        mode.value = "stream";
        pass();
      });
      connectAt = Date.now() + (missing ? retryMissing : retryAfter);
      if (end.aborted) return;
    }
    if (mode.value !== "offline") mode.value = "polling";
    if (!document.hidden) report({});
    pass({});
    await pause(pollEvery, end);
  }
}

/** readStream reads events until the stream ends. It returns whether the party has no such stream. */
async function readStream(end: AbortSignal, opened: () => void): Promise<boolean> {
  const own = new AbortController();
  const abort = () => own.abort();
  end.addEventListener("abort", abort);
  let watchdog = setTimeout(abort, silence);
  try {
    const response = await open(paths.events, { signal: own.signal, headers: { Accept: "text/event-stream" } });
    if (!response.body || !(response.headers.get("Content-Type") ?? "").startsWith("text/event-stream")) {
      return true;
    }
    opened();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let rest = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return false;
      clearTimeout(watchdog);
      watchdog = setTimeout(abort, silence);
      pass(); // the others see that it reads
      const events = (rest + value).split("\n\n");
      rest = events.pop() ?? "";
      for (const e of events) dispatch(e);
    }
  } catch (e) {
    return typeof e === "object" && e !== null && "status" in e && (e.status === 404 || e.status === 405);
  } finally {
    clearTimeout(watchdog);
    end.removeEventListener("abort", abort);
    own.abort();
  }
}

function dispatch(event: string): void {
  const text = event
    .split("\n")
    .filter((l) => l.startsWith("data:"))
    .map((l) => l.slice(5).trim())
    .join("\n");
  if (!text) return;
  let change: Change = {};
  try {
    const read = JSON.parse(text) as { kind?: string; job_id?: string };
    if (read.kind !== "all") change = read as Change;
  } catch {
    // Anything may have changed.
  }
  report(change);
  pass(change);
}

function pause(ms: number, end: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(done, ms);
    function done() {
      clearTimeout(timer);
      end.removeEventListener("abort", done);
      resolve();
    }
    end.addEventListener("abort", done);
  });
}

/** reached notes whether the party answers, for the state that the pages show. */
export function reached(answers: boolean): void {
  if (!answers) mode.value = "offline";
  else if (mode.value === "offline") mode.value = "polling";
}
