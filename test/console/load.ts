// Many jobs and many open pages: `make console-load`. Its figures are in docs/developers/console.md.
import assert from "node:assert/strict";
import { setMaxListeners } from "node:events";
import { describe, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { newPage } from "./browser";
import { startLive } from "./live";
import { keeps } from "./promise";
import { jobStatus, until, type Stage } from "./stage";

const openPages = 200;
const minute = 60_000;
const mib = 1 << 20;

// The memory is measured after each job, for so long, or for so many jobs if the machine is slow.
const measured = 6 * minute;
const leastJobs = 12;
// The console gathers changes for so long before it reads again; see console/src/resource.ts.
const gather = 200;
// 200 pages that read lists leave a slow machine little for a job.
const jobLimit = 10 * minute;

/** painted returns when the page first had an element that a selector finds, painted, in milliseconds. */
async function painted(page: Page, go: () => Promise<void>, selector: string): Promise<number> {
  await page.addInitScript((wanted) => {
    new MutationObserver((_, o) => {
      if (!document.querySelector(wanted)) return;
      o.disconnect();
      requestAnimationFrame(() => setTimeout(() => performance.mark("shown")));
    }).observe(document, { subtree: true, childList: true });
  }, selector);
  await go();
  return page.evaluate(() => performance.getEntriesByName("shown")[0]!.startTime);
}

const median = (numbers: number[]) => [...numbers].sort((a, b) => a - b)[Math.floor(numbers.length / 2)]!;

export function testLoad(browser: Browser, stage: Stage): void {
  const { guest, stored } = stage.open;
  describe(`with ${stored} jobs`, () => {
    for (const [path, selector] of [
      ["/console/", "main .numbers"],
      ["/console/jobs", "main tbody tr th a"],
      ["/console/jobs?state=failed", "main tbody tr th a"],
      ["/console/jobs?flow=flow-07", "main tbody tr th a"],
      ["/console/jobs?state=stopped&time=30d", "main tbody tr th a"],
      // The oldest job: nothing else than a search finds it.
      [`/console/jobs?text=flow-${String(stored % 40).padStart(2, "0")}`, "main tbody tr th a"],
    ] as const) {
      test(`${path} is there within a second`, async (t) => {
        await keeps(t, 1000, async () => {
          const { context, page, w } = await newPage(browser, guest);
          const took = await painted(page, () => w.go(path), selector);
          w.check(path);
          await context.close();
          return took;
        });
      });
    }
  });

  describe(`with ${openPages} open pages`, () => {
    test("the server holds no more memory and goroutines after some minutes, and gives them back", async (t) => {
      const before = await measure(stage);
      const end = new AbortController();
      t.after(() => end.abort()); // also if it fails: open streams would keep this process
      setMaxListeners(0, end.signal); // each request of each page adds one
      let events = 0;
      let reads = 0;
      let reading = 0;
      let tries = 0;
      let opened = 0;
      const pages = Array.from({ length: openPages }, () => follow(guest, end.signal, {
        opened: () => opened++, event: () => events++, begin: () => reading++, read: () => reads++, rest: () => reading-- }));
      const failed = Promise.all(pages).then(() => assert.ok(end.signal.aborted, "a stream has ended"));
      await until(`${openPages} streams`, async () => opened === openPages);
      const samples: Memory[] = [];
      const stop = Date.now() + measured;
      for (let n = 0; Date.now() < stop || n < leastJobs; n++) {
        // A party that has too much to do refuses a job: try again.
        const job = await until("a job that starts", async () => startLive(stage, `load-${tries++}-`, jobLimit)
          .catch((e: Error) => { if (/HTTP (429|502|503)/.test(e.message)) return undefined; throw e; }), jobLimit);
        job.end(1);
        job.end(2);
        await until(`the end of job ${job.id}`, async () => (await jobStatus(guest, job.id)).job_status === "FINISHED", jobLimit);
        // What the answers to the pages take is no growth: measure once they all have theirs.
        await until("the end of all reads", async () => {
          if (reading > 0) return false;
          await new Promise((resolve) => setTimeout(resolve, 2000));
          return reading === 0;
        }, jobLimit);
        samples.push(await measure(stage));
      }
      end.abort();
      await failed;
      const third = Math.floor(samples.length / 3);
      const [first, last] = [middle(samples.slice(0, third)), middle(samples.slice(-third))];
      const steps = Array.from({ length: 6 }, (_, i) => samples[Math.floor((i * (samples.length - 1)) / 5)]!);
      t.diagnostic(`before: ${shown(before)}; first third: ${shown(first)}; last third: ${shown(last)}`);
      t.diagnostic(`on the way: ${steps.map(shown).join("; ")}`);
      t.diagnostic(`${samples.length} jobs, ${events} events and ${reads} lists of jobs in ${(measured / minute).toFixed(0)} minutes or more`);
      assert.ok(reads > openPages, "the pages had something to do");
      // A job leaves some entries in caches of limited size, so the first jobs make them grow.
      assert.ok(last.heap < first.heap * 1.15 + 8, `the live heap grows from ${first.heap.toFixed(1)} to ${last.heap.toFixed(1)} MiB`);
      // A connection that is idle keeps its goroutine for some seconds.
      assert.ok(last.goroutines < first.goroutines + openPages, `goroutines grow from ${first.goroutines} to ${last.goroutines}`);
      await until("the end of what serves the pages", async () => {
        const after = await measure(stage);
        if (after.goroutines > before.goroutines + openPages / 4) return false;
        t.diagnostic(`after the pages are closed: ${shown(after)}`);
        return true;
      });
    });
  });
}

/** Memory is what a garbage collection leaves of the heap, what the process has of the machine, both in MiB, and goroutines. */
interface Memory {
  heap: number;
  resident: number;
  goroutines: number;
}

async function measure(stage: Stage): Promise<Memory> {
  const response = await fetch(`${stage.memory}/memory`);
  if (!response.ok) throw new Error(`${stage.memory}/memory: HTTP ${response.status}`);
  const m = (await response.json()) as { heap_bytes: number; resident_bytes: number; goroutines: number };
  return { heap: m.heap_bytes / mib, resident: m.resident_bytes / mib, goroutines: m.goroutines };
}

const middle = (samples: Memory[]): Memory => ({
  heap: median(samples.map((m) => m.heap)),
  resident: median(samples.map((m) => m.resident)),
  goroutines: median(samples.map((m) => m.goroutines)),
});

const shown = (m: Memory) => `${m.heap.toFixed(1)} MiB live, ${m.resident.toFixed(0)} MiB resident, ${m.goroutines} goroutines`;

/** follow does what an open list of jobs does: it reads events, and the list again when they ask for it, once at a time. */
async function follow(party: string, end: AbortSignal, on: Record<"opened" | "event" | "begin" | "read" | "rest", () => void>): Promise<void> {
  let busy = false;
  let wanted = false;
  const read = async () => {
    busy = true;
    on.begin();
    try {
      do {
        await new Promise((resolve) => setTimeout(resolve, gather));
        wanted = false;
        const response = await fetch(`${party}/v1/platform/schedule/job/query_job_list?limit=100`, { signal: end });
        await response.arrayBuffer();
        if (!response.ok) throw new Error(`jobs: HTTP ${response.status}`);
        on.read();
      } while (wanted);
    } finally {
      busy = false;
      on.rest();
    }
  };
  let failed: unknown;
  try {
    const response = await fetch(`${party}/v2/events`, { signal: end, headers: { Accept: "text/event-stream" } });
    if (!response.ok) throw new Error(`events: HTTP ${response.status}`);
    on.opened();
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done || failed) break;
      if (!value.includes("data:")) continue;
      on.event();
      if (busy) wanted = true;
      else void read().catch((e: unknown) => (failed = e));
    }
    if (failed) throw failed;
  } catch (e) {
    if (!end.aborted) throw e;
  }
}
