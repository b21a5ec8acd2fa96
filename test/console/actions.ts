// What people come for: why a job failed, and to approve, reject and stop jobs.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Browser, Locator, Page } from "playwright-core";
import { newPage } from "./browser";
import { jobStatus, say, submitAgain, until, type Stage } from "./stage";

export function testActions(browser: Browser, stage: Stage): void {
  const { guest, host, host_node, jobs, reason } = stage.open;
  describe("people", () => {
    test("find why a job failed at the partner's side within three clicks", async (t) => {
      const { context, page, w } = await newPage(browser, guest);
      await w.go("/console/");
      let clicks = 0;
      const click = async (what: Locator) => {
        clicks++;
        await what.click();
        await w.settle();
      };
      const link = page.getByRole("link", { name: new RegExp(jobs.failed) }).first();
      if ((await link.count()) === 0) await click(page.getByRole("navigation").getByRole("link", { name: "Jobs" }));
      await click(link);
      const why = page.locator("main").getByText(reason).first();
      await why.waitFor();
      await page.locator("main").getByText(host_node).first().waitFor();
      const later = page.locator("main .t-row").filter({ hasText: "hetero_secureboost_1" }).first();
      await later.getByText("Not started").waitFor();
      t.diagnostic(`${clicks} clicks`);
      assert.ok(clicks <= 3, `it took ${clicks} clicks`);
      await w.checkAccess("failed job");
      w.check("failed job");
      await context.close();
    });

    const row = (page: Page, id: string) => page.getByRole("row").filter({ hasText: id });
    const dialogButton = (page: Page, name: string) => page.getByRole("dialog").getByRole("button", { name });

    test("approve a job", async () => {
      const { context, page, w } = await newPage(browser, host);
      await w.go("/console/jobs?state=pending");
      await row(page, jobs.approve).getByRole("button", { name: /^Approve/ }).click();
      await w.checkAccess("dialog");
      await dialogButton(page, "Approve").click();
      await row(page, jobs.approve).waitFor({ state: "detached" });
      await until("the job runs", async () => (await jobStatus(guest, jobs.approve)).job_status === "RUNNING");
      w.check("approval");
      await context.close();
    });

    test("read in words what a job makes, and who gets it", async () => {
      const { context, page, w } = await newPage(browser, host);
      await w.go("/console/approvals");
      const section = page.locator("section").filter({ has: page.getByRole("heading", { name: jobs.pending }) });
      const made = section.getByRole("listitem").filter({ hasText: "Other parties that get it" });
      const psi = made.filter({ hasText: "intersect_rsa_1" });
      await psi.getByText("RSA blind-signature PSI").waitFor();
      const text = await psi.innerText();
      for (const part of [
        "Finds the rows that the guest and all hosts have in common", // of the component
        "Made of own data\ndemo#breast_host",
        "Your party gets it as\nhost.0",
        `Other parties that get it\n${stage.open.guest_node} (guest.0)`,
        "Dataset train_data\nRows of data.", "one's own rows of the intersection",
        "Report report0\nFigures on data or a model", "counts of the intersection",
      ]) assert.ok(text.includes(part), `${part}, in:\n${text}`);
      await made.filter({ hasText: "hetero_secureboost_1" }).getByText("What a training has learned from data, to predict with.").waitFor();
      w.check("what a job makes");
      await context.close();
    });

    test("approve a job and the like, and remove the rule", async () => {
      const { context, page, w } = await newPage(browser, host);
      await w.go("/console/approvals");
      const section = page.locator("section").filter({ has: page.getByRole("heading", { name: jobs.like }) });
      await section.getByText('file = "like.host"').waitFor();
      await section.getByRole("button", { name: /^Approve/ }).click();
      await page.getByRole("dialog").getByRole("checkbox").check();
      await page.getByRole("dialog").getByText("What the rule allows").click();
      await page.getByRole("dialog").getByText("to-approve-like").waitFor();
      await page.getByRole("dialog").getByLabel("Why, for those who read the rule later").fill("contract 17");
      await w.checkAccess("dialog with a rule");
      await dialogButton(page, "Approve").click();
      const remove = page.getByRole("button", { name: "Remove contract 17" });
      await remove.waitFor();
      await section.waitFor({ state: "detached" });
      await w.checkAccess("rules");

      const second = await submitAgain(guest, jobs.like);
      const status = await jobStatus(host, second);
      assert.notEqual(status.job_status, "PENDING");
      assert.ok(status.approval_rule, "no rule approved the second job");
      await page.getByText("jobs approved: 1").waitFor();

      await remove.click();
      await dialogButton(page, "Remove").click();
      await remove.waitFor({ state: "detached" });
      const third = await submitAgain(guest, jobs.like);
      assert.equal((await jobStatus(host, third)).job_status, "PENDING");
      await page.getByRole("heading", { name: third }).waitFor();
      say(stage, "like", "exit 0");
      w.check("rules");
      await context.close();
    });

    test("reject a job, with a reason that the partner sees", async () => {
      const partner = await newPage(browser, guest);
      await partner.w.go(`/console/jobs?text=${jobs.reject}`);
      const { context, page, w } = await newPage(browser, host);
      await w.go("/console/jobs?state=pending");
      await row(page, jobs.reject).getByRole("button", { name: /^Reject/ }).click();
      await page.getByRole("dialog").getByRole("textbox").fill("not before the audit");
      await dialogButton(page, "Reject").click();
      await row(page, jobs.reject).waitFor({ state: "detached" });
      await partner.page.getByText("not before the audit").first().waitFor();
      w.check("rejection");
      partner.w.check("rejection at the partner");
      await context.close();
      await partner.context.close();
    });

    test("choose jobs to compare, and one to submit again with changes", async () => {
      const { context, page, w } = await newPage(browser, guest);
      await w.go("/console/jobs?text=credit-model");
      await row(page, jobs.trained).getByRole("checkbox").check();
      const change = page.getByRole("link", { name: "Submit again, changed" });
      assert.equal(await change.getAttribute("href"), `/console/submit?from=${jobs.trained}`);
      await row(page, jobs.again).getByRole("checkbox").check();
      await w.checkAccess("two chosen jobs");
      await page.locator("main").getByRole("link", { name: "Compare" }).click();
      await w.settle();
      for (const id of [jobs.trained, jobs.again]) {
        await page.getByRole("columnheader", { name: id }).waitFor();
      }
      await w.go(`/console/jobs/${jobs.trained}`);
      await change.click();
      await w.settle();
      await page.getByText("hetero_secureboost_1").first().waitFor();
      w.check("chosen jobs");
      await context.close();
    });

    test("stop a job", async () => {
      const { context, page, w } = await newPage(browser, guest);
      await w.go("/console/jobs?state=running");
      await row(page, jobs.stop).getByRole("button", { name: /^Stop/ }).click();
      await dialogButton(page, "Stop").click();
      await until("the job ends", async () => (await jobStatus(guest, jobs.stop)).outcome === "STOPPED");
      await row(page, jobs.stop).waitFor({ state: "detached" });
      w.check("stop");
      await context.close();
    });
  });
}
