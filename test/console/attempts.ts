// The attempts of a task: in the timeline of its job, as a list with the reason of each end, and their logs.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Browser } from "playwright-core";
import { newPage } from "./browser";
import { api, approve, jobStatus, submitAgain, until, type Stage } from "./stage";

interface Status {
  tasks: {
    task_name: string;
    attempt: number;
    attempts: { attempt: number; started_at: string; ended_at: string; failure: { kind: string; node_id: string; message?: string } }[];
  }[];
}

export function testAttempts(browser: Browser, stage: Stage): void {
  const { guest, host, jobs } = stage.open;
  const attempts = 3;
  describe("attempts", () => {
    test("the timeline has a bar for each, with why it ended", async () => {
      const status = await api<Status>(`${guest}/v1/platform/schedule/job/status_all?job_id=${jobs.retried}`);
      const task = status.tasks.find((x) => x.attempt === attempts);
      assert.ok(task, "a task was tried three times");
      assert.deepEqual(task.attempts.map((a) => a.attempt), [1, 2]);
      for (const a of task.attempts) {
        assert.equal(a.failure.kind, "temporary");
        assert.ok(Date.parse(a.ended_at) >= Date.parse(a.started_at), JSON.stringify(a));
      }

      const { context, page, w } = await newPage(browser, guest);
      await w.go(`/console/jobs/${jobs.retried}`);
      const row = page.locator(".t-row").filter({ hasText: "host.0" });
      await row.getByText(`attempt ${attempts}`).waitFor();
      const bars = row.locator(".t-bar");
      assert.equal(await bars.count(), attempts);
      const places: number[] = [];
      for (let i = 0; i < attempts; i++) {
        const box = await bars.nth(i).boundingBox();
        assert.ok(box, `bar ${i + 1} is drawn`);
        places.push(box.x);
      }
      assert.deepEqual(places, [...places].sort((a, b) => a - b), "in the order of their times");
      assert.match((await bars.first().getAttribute("title")) ?? "", /^attempt 1: Failed, .*: .+/);
      await w.checkAccess("a job with attempts");
      w.check("a job with attempts");
      await context.close();
    });

    test("the task lists them, and leads to the log of each", async () => {
      const why = "the licence server does not answer";
      for (const [party, parts] of [[guest, 2], [host, 1]] as const) {
        const { context, page, w } = await newPage(browser, party);
        await w.go(`/console/jobs/${jobs.retried}`);
        await page.locator(".t-row").getByRole("link").first().click();
        await w.settle();
        await page.getByRole("heading", { name: "Attempts" }).waitFor();
        const rows = page.locator("main .stack tbody tr");
        assert.equal(await rows.count(), attempts * parts);
        const failed = rows
          .filter({ has: page.getByRole("rowheader", { name: /host\.0/ }) })
          .filter({ hasText: "the component reported a temporary failure" });
        assert.equal(await failed.count(), attempts);
        await failed.last().locator("summary").click();
        await failed.last().getByText(why).waitFor();
        await w.checkAccess("a task with attempts");
        w.check("a task with attempts");
        await context.close();
      }

      const { context, page, w } = await newPage(browser, host);
      await w.go(`/console/jobs/${jobs.retried}/tasks/prepare`);
      for (const head of ["Started", "Ended"]) await page.getByRole("columnheader", { name: head, exact: true }).waitFor();
      await page.getByRole("link", { name: "Log of attempt 1 of host.0" }).click();
      await w.settle();
      assert.equal(new URL(page.url()).searchParams.get("attempt"), "1");
      await page.locator("pre.log").getByText(why).first().waitFor();
      w.check("the log of an attempt");
      await context.close();
    });

    test("a participant sees why each failed at another party", async () => {
      // The same job, whose guest fails in place of the host. The guest shares the kind of a failure only.
      const id = await submitAgain(guest, jobs.retried, (text) =>
        text.replace(/"(guest|host)":\{"0"/g, (_, role: string) => `"${role === "guest" ? "host" : "guest"}":{"0"`));
      await until(`job ${id} at the host`, async () => (await jobStatus(host, id).catch(() => undefined))?.job_status === "PENDING");
      await approve(host, id);
      await until(`the end of job ${id}`, async () => (await jobStatus(host, id)).job_status === "FINISHED");
      const status = await api<Status>(`${host}/v1/platform/schedule/job/status_all?job_id=${id}`);
      assert.equal(status.tasks[0]!.attempts.length, attempts - 1);
      for (const { failure } of status.tasks[0]!.attempts) {
        assert.equal(failure.kind, "temporary");
        assert.equal(failure.node_id, stage.open.guest_node);
        assert.equal(failure.message ?? "", "", "the guest does not share it");
      }

      const { context, page, w } = await newPage(browser, host);
      await w.go(`/console/jobs/${id}/tasks/prepare`);
      const why = new RegExp(`Ended, since the attempt failed: .*guest\\.0.*${stage.open.guest_node}.*: A temporary failure`);
      const rows = page.locator("main .stack tbody tr").filter({ hasText: why });
      assert.equal(await rows.count(), attempts - 1);
      w.check("attempts that failed at the partner");
      await context.close();
    });
  });
}
