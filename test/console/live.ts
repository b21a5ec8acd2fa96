// How soon the pages show what happens, and how soon they are there.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { newPage } from "./browser";
import { jobPage, table, taskPage } from "./pages";
import { jobStatus, say, until, type Stage } from "./stage";

const second = 1000;

/** middle is the median. */
const middle = (times: number[]) => [...times].sort((a, b) => a - b)[Math.floor(times.length / 2)]!;

/** shown waits until an element of the page contains a text, and returns when that was. */
async function shown(page: Page, text: string, selector = "main"): Promise<number> {
  return page.evaluate(
    ([wanted, where]) =>
      new Promise<number>((resolve, reject) => {
        const look = () => (document.querySelector(where!)?.textContent ?? "").includes(wanted!);
        const end = setTimeout(() => reject(new Error(`the page does not show ${wanted}`)), 20_000);
        const found = () => {
          clearTimeout(end);
          observer.disconnect();
          resolve(Date.now());
        };
        const observer = new MutationObserver(() => look() && found());
        observer.observe(document.body, { subtree: true, childList: true, characterData: true });
        if (look()) found();
      }),
    [text, selector] as const,
  );
}

/** without returns why a test is skipped if the console has no such page. */
export const without = (page: string) => (table.includes(page) ? false : `the console has no page ${page} yet`);

export function testLive(browser: Browser, stage: Stage): void {
  const { guest, jobs, stored } = stage.open;
  describe("in time", () => {
    test(`the list of ${stored} jobs is there within a second`, async (t) => {
      const times: number[] = [];
      for (let i = 0; i < 5; i++) {
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
        times.push(Math.max(found.paint, found.rows));
        const drawn = await page.locator("main tbody tr").count();
        assert.ok(drawn < 200, `${drawn} rows are drawn`);
        await context.close();
      }
      t.diagnostic(`rows painted after ${times.map((n) => n.toFixed(0)).join(", ")} ms`);
      assert.ok(middle(times) < second, `the middle of ${times.join(", ")} ms is at least a second`);
    });

    test("all of them can be reached", async () => {
      const { context, page, w } = await newPage(browser, guest);
      await w.go("/console/jobs");
      await until("the end of the list", 60_000, async () => {
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

    test(`a job of ${stage.open.tasks} tasks is drawn within two seconds`, { skip: without(jobPage) }, async (t) => {
      const times: number[] = [];
      for (let i = 0; i < 3; i++) {
        const { context, page, w } = await newPage(browser, guest);
        await page.addInitScript(() => {
          new MutationObserver((_, o) => {
            if (!document.querySelector("main .dag-node") || !document.querySelector("main .t-row")) return;
            o.disconnect();
            requestAnimationFrame(() => setTimeout(() => performance.mark("drawn")));
          }).observe(document, { subtree: true, childList: true });
        });
        await w.go(`/console/jobs/${jobs.large}`);
        times.push(await page.evaluate(() => performance.getEntriesByName("drawn")[0]!.startTime));
        const elements = await page.locator("main *").count();
        assert.ok(elements < 6000, `${elements} elements are drawn`);
        // What is scrolled to is drawn.
        await page.locator(".dag").evaluate((e) => e.scrollTo(e.scrollWidth, e.scrollHeight));
        await page.locator(".dag").getByText(`t${stage.open.tasks - 1}`, { exact: true }).waitFor();
        await page.evaluate(() => scrollTo(0, document.documentElement.scrollHeight));
        await page.locator(".t-row").getByText(`t${stage.open.tasks - 1}`, { exact: true }).first().waitFor();
        w.check("large job");
        await context.close();
      }
      t.diagnostic(`drawn after ${times.map((n) => n.toFixed(0)).join(", ")} ms`);
      assert.ok(middle(times) < 2 * second, `the middle of ${times.join(", ")} ms is more than two seconds`);
    });

    test("a task that ends is shown within a second", { skip: without(jobPage) }, async (t) => {
      const { context, page, w } = await newPage(browser, guest);
      await w.go(`/console/jobs/${jobs.live}`);
      await page.locator("main summary").first().click();
      const row = page.locator("main tr").filter({ has: page.getByText("first", { exact: true }) }).first();
      await row.waitFor();
      say(stage, "live1", "exit 0");
      await until("the end of the first task", 30 * second, async () =>
        (await jobStatus(guest, jobs.live)).tasks.find((x) => x.task_name === "first")?.status === "SUCCESS");
      const ended = Date.now();
      await row.getByText("Succeeded").first().waitFor();
      const took = Date.now() - ended;
      t.diagnostic(`shown after ${took} ms`);
      assert.ok(took < second, `shown after ${took} ms`);
      w.check("live");
      await context.close();
    });

    test("a job that ends is shown in the list within a second", async (t) => {
      const { context, page, w } = await newPage(browser, guest);
      await w.go("/console/jobs?text=live");
      const row = page.locator("main tbody tr").filter({ hasText: jobs.live });
      await row.getByText("Running").waitFor();
      if (without(jobPage)) say(stage, "live1", "exit 0"); // otherwise the test above has ended it
      say(stage, "live2", "exit 0");
      await until("the end of the job", 30 * second, async () =>
        (await jobStatus(guest, jobs.live)).job_status === "FINISHED");
      const ended = Date.now();
      const took = (await shown(page, "Succeeded", "main tbody")) - ended;
      t.diagnostic(`shown after ${took} ms`);
      assert.ok(took < second, `shown after ${took} ms`);
      w.check("live list");
      await context.close();
    });

    test("a line of a log is shown within a second", { skip: without(taskPage) }, async (t) => {
      const { context, page, w } = await newPage(browser, guest);
      await w.go(`/console/jobs/${jobs.running}/tasks/prepare?role=guest.0`);
      const times: number[] = [];
      for (let i = 0; i < 7; i++) {
        const line = `level=info msg="batch ${i} of the night is scored"`;
        const found = shown(page, `batch ${i} of the night is scored`);
        const written = Date.now();
        say(stage, "running.guest", line);
        times.push((await found) - written);
      }
      t.diagnostic(`shown after ${times.join(", ")} ms`);
      assert.ok(middle(times) < second, `the middle of ${times.join(", ")} ms is at least a second`);
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
        await tab.getByRole("link", { name: jobs.running }).waitFor({ timeout: 20_000 });
      }
      await context.close();
    });
  });
}
