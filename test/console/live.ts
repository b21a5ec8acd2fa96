// How soon the pages show what happens, and how soon they are there.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { newPage } from "./browser";
import { hangs, keeps } from "./promise";
import { approve, jobStatus, say, submitAgain, until, type Stage } from "./stage";

const second = 1000;

/** shown waits until an element of the page contains a text, and returns when that was. */
async function shown(page: Page, text: string, selector = "main"): Promise<number> {
  return page.evaluate(
    ([wanted, where, limit]) =>
      new Promise<number>((resolve, reject) => {
        const look = () => (document.querySelector(where!)?.textContent ?? "").includes(wanted!);
        const end = setTimeout(() => reject(new Error(`the page does not show ${wanted}`)), limit);
        const found = () => {
          clearTimeout(end);
          observer.disconnect();
          resolve(Date.now());
        };
        const observer = new MutationObserver(() => look() && found());
        observer.observe(document.body, { subtree: true, childList: true, characterData: true });
        if (look()) found();
      }),
    [text, selector, hangs] as const,
  );
}

/** startLive starts a job of two tasks, first and second, that end when the files of say ask them to. */
export async function startLive(stage: Stage, name: string, limit = hangs): Promise<{ id: string; end: (task: 1 | 2) => void }> {
  const { guest, host, jobs } = stage.open;
  const id = await submitAgain(guest, jobs.live, (text) => text.replace(/"live(\d?)"/g, `"${name}$1"`));
  await until(`job ${id} at the host`, async () => (await jobStatus(host, id).catch(() => undefined))?.job_status === "PENDING", limit);
  await approve(host, id);
  await until(`the start of job ${id}`, async () => (await jobStatus(guest, id)).tasks[0]?.status === "RUNNING", limit);
  return { id, end: (task) => say(stage, `${name}${task}`, "exit 0") };
}

export function testLive(browser: Browser, stage: Stage): void {
  const { guest, jobs, stored } = stage.open;
  describe("in time", () => {
    test(`the list of ${stored} jobs is there within a second`, async (t) => {
      await keeps(t, second, async () => {
        const { context, page, w } = await newPage(browser, guest);
        await page.addInitScript(() => {
          new MutationObserver((_, o) => {
            if (!document.querySelector("main tbody tr th a")) return;
            o.disconnect();
            requestAnimationFrame(() => setTimeout(() => performance.mark("rows")));
          }).observe(document, { subtree: true, childList: true });
        });
        await w.go("/console/jobs");
        const found = await page.evaluate(() => ({
          paint: performance.getEntriesByName("first-contentful-paint")[0]?.startTime,
          rows: performance.getEntriesByName("rows")[0]?.startTime,
        }));
        assert.ok(found.paint !== undefined && found.rows !== undefined, JSON.stringify(found));
        const drawn = await page.locator("main tbody tr").count();
        assert.ok(drawn < 200, `${drawn} rows are drawn`);
        await context.close();
        return Math.max(found.paint, found.rows);
      });
    });

    test("all of them can be reached", async () => {
      const { context, page, w } = await newPage(browser, guest);
      await w.go("/console/jobs");
      await until("the end of the list", async () => {
        await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
        await page.waitForTimeout(100);
        return /^\d+ jobs$/.test((await page.locator(".page-head [role=status]").innerText()).replaceAll(",", ""));
      });
      const count = parseInt((await page.locator(".page-head [role=status]").innerText()).replaceAll(",", ""), 10);
      assert.ok(count > stored, `the list has ${count} jobs`);
      assert.ok((await page.locator("main tbody tr").count()) < 200, "only the visible rows are drawn");
      w.check("long list");
      await context.close();
    });

    test(`a job of ${stage.open.tasks} tasks is drawn within two seconds`, async (t) => {
      await keeps(t, 2 * second, async () => {
        const { context, page, w } = await newPage(browser, guest);
        await page.addInitScript(() => {
          new MutationObserver((_, o) => {
            if (!document.querySelector("main .dag-node") || !document.querySelector("main .t-row")) return;
            o.disconnect();
            requestAnimationFrame(() => setTimeout(() => performance.mark("drawn")));
          }).observe(document, { subtree: true, childList: true });
        });
        await w.go(`/console/jobs/${jobs.large}`);
        const drawn = await page.evaluate(() => performance.getEntriesByName("drawn")[0]!.startTime);
        const elements = await page.locator("main *").count();
        assert.ok(elements < 6000, `${elements} elements are drawn`);
        // What is scrolled to is drawn.
        await page.locator(".dag").evaluate((e) => e.scrollTo(e.scrollWidth, e.scrollHeight));
        await page.locator(".dag").getByText(`t${stage.open.tasks - 1}`, { exact: true }).waitFor();
        await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
        await page.locator(".t-row").getByText(`t${stage.open.tasks - 1}`, { exact: true }).first().waitFor();
        w.check("large job");
        await context.close();
        return drawn;
      });
    });

    test("a task that ends is shown within a second", async (t) => {
      await keeps(t, second, async (n) => {
        const job = await startLive(stage, `task-${n}-`);
        const { context, page, w } = await newPage(browser, guest);
        await w.go(`/console/jobs/${job.id}`);
        await page.locator("main summary").first().click();
        const row = page.locator("main tr").filter({ has: page.getByText("first", { exact: true }) }).first();
        await row.waitFor();
        job.end(1);
        await until("the end of the first task", async () =>
          (await jobStatus(guest, job.id)).tasks.find((x) => x.task_name === "first")?.status === "SUCCESS");
        const ended = Date.now();
        await row.getByText("Succeeded").first().waitFor();
        const took = Date.now() - ended;
        job.end(2);
        w.check("live");
        await context.close();
        return took;
      });
    });

    test("a job that ends is shown in the list within a second", async (t) => {
      await keeps(t, second, async (n) => {
        const job = await startLive(stage, `job-${n}-`);
        const { context, page, w } = await newPage(browser, guest);
        await w.go(`/console/jobs?text=${job.id}`);
        await page.locator("main tbody tr").filter({ hasText: job.id }).getByText("Running").waitFor();
        const found = shown(page, "Succeeded", "main tbody");
        job.end(1);
        job.end(2);
        await until("the end of the job", async () => (await jobStatus(guest, job.id)).job_status === "FINISHED");
        const ended = Date.now();
        const took = (await found) - ended;
        w.check("live list");
        await context.close();
        return took;
      });
    });

    test("a line of a log is shown within a second", async (t) => {
      const { context, page, w } = await newPage(browser, guest);
      await w.go(`/console/jobs/${jobs.running}/tasks/prepare?role=guest.0`);
      await keeps(t, second, async (n) => {
        const text = `batch ${n} of the night is scored`;
        const found = shown(page, text);
        const written = Date.now();
        say(stage, "running.guest", `level=info msg="${text}"`);
        return (await found) - written;
      });
      w.check("log");
      await context.close();
    });

    test("more tabs than a browser has connections to the party all load", async () => {
      const { context, page, w } = await newPage(browser, guest);
      await w.go("/console/jobs?text=nightly");
      const tabs = [page];
      for (let i = 0; i < 8; i++) {
        const tab = await context.newPage();
        tabs.push(tab);
        await tab.goto(`${guest}/console/jobs?text=nightly`);
        await tab.getByRole("link", { name: jobs.running }).waitFor();
      }
      await context.close();
    });
  });
}
