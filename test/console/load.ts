// Many jobs and many open pages: `make console-load`. Its figures are in docs/developers/console.md.
import assert from "node:assert/strict";
import { setMaxListeners } from "node:events";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { newPage } from "./browser";
import { startLive } from "./live";
import { keeps } from "./promise";
import { until, type Stage } from "./stage";

const openPages = 200;
const minute = 60_000;

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
    test("the memory of the server stays as it is", async (t) => {
      const memory = () => {
        const kib = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${stage.pid}/status`, "utf8"))![1]!;
        return Number(kib) / 1024;
      };
      const before = memory();
      const end = new AbortController();
      setMaxListeners(0, end.signal); // each request of each page adds one
      let events = 0;
      let reads = 0;
      let opened = 0;
      const pages = Array.from({ length: openPages }, () => follow(guest, end.signal, {
        opened: () => opened++, event: () => events++, read: () => reads++ }));
      const failed = Promise.all(pages).then(() => assert.ok(end.signal.aborted, "a stream has ended"));
      await until(`${openPages} streams`, async () => opened === openPages);
      const samples: number[] = [];
      const stop = Date.now() + 2 * minute;
      for (let n = 0; Date.now() < stop; n++) {
        const job = await startLive(stage, `load-${n}-`);
        job.end(1);
        job.end(2);
        samples.push(memory());
        await new Promise((resolve) => setTimeout(resolve, 1000)); // pages are open, and little happens
      }
      end.abort();
      await failed;
      const third = Math.floor(samples.length / 3);
      const [first, last] = [median(samples.slice(0, third)), median(samples.slice(-third))];
      t.diagnostic(`${before.toFixed(0)} MiB before, ${first.toFixed(0)} MiB at first, ${last.toFixed(0)} MiB after two minutes, ` +
        `${samples.length} jobs, ${events} events and ${reads} lists of jobs`);
      assert.ok(samples.length > 6 && reads > openPages, "the pages had something to do");
      assert.ok(last < first * 1.15 + 16, `it grows from ${first.toFixed(0)} to ${last.toFixed(0)} MiB`);
    });
  });
}

/** follow does what an open list of jobs does: it reads events, and the list again when they ask for it. */
async function follow(party: string, end: AbortSignal, on: Record<"opened" | "event" | "read", () => void>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const read = async () => {
    timer = undefined;
    const response = await fetch(`${party}/v1/platform/schedule/job/query_job_list?limit=100`, { signal: end });
    await response.arrayBuffer();
    on.read();
  };
  try {
    const response = await fetch(`${party}/v2/events`, { signal: end, headers: { Accept: "text/event-stream" } });
    if (!response.ok) throw new Error(`events: HTTP ${response.status}`);
    on.opened();
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) break;
      if (!value.includes("data:")) continue;
      on.event();
      timer ??= setTimeout(() => void read().catch(() => {}), 300);
    }
  } catch (e) {
    if (!end.aborted) throw e;
  } finally {
    clearTimeout(timer);
  }
}
