// What operators do in lists: act on a row after a question, and look at a job's workflows in Temporal's UI.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { newPage } from "./browser";
import type { Stage } from "./stage";

export function testOperators(browser: Browser, stage: Stage): void {
  const { open, strict } = stage;
  describe("operators", () => {
    test("drain a runner and take it back, from the list", async () => {
      const { context, page, w } = await newPage(browser, open.host);
      await w.go("/console/operation");
      const row = page.getByRole("row").nth(1);
      const act = async (name: string) => {
        const button = row.getByRole("button", { name: new RegExp(`^${name} `) });
        await button.click();
        const dialog = page.getByRole("dialog");
        await dialog.getByRole("button", { name: "Cancel" }).click();
        await dialog.waitFor({ state: "detached" });
        await button.and(page.locator(":focus")).waitFor(); // the focus is back
        await button.click();
        await dialog.getByRole("button", { name, exact: true }).click();
        await dialog.waitFor({ state: "detached" });
      };
      await act("Drain");
      await row.getByText(/^(draining|drained)$/).waitFor();
      await w.checkAccess("a drained runner");
      await act("Undrain");
      await row.getByText("online", { exact: true }).waitFor();
      w.check("drain");
      await context.close();
    });

    test("delete a dataset, from the list", async () => {
      const { context, page, w } = await newPage(browser, open.guest);
      await w.go("/console/data");
      await page.getByRole("button", { name: "Upload" }).first().click();
      const form = page.getByRole("dialog");
      await form.locator('input[type="file"]').setInputFiles({
        name: "to-delete.csv", mimeType: "text/csv", buffer: Buffer.from("id,x\n1,2\n2,3\n"),
      });
      await form.getByLabel("Namespace").fill("console");
      await form.getByRole("button", { name: "Upload" }).click();
      await form.getByRole("button", { name: "Close" }).click();
      const row = page.getByRole("row").filter({ hasText: "console#to-delete" });
      await row.getByRole("button", { name: "Delete console#to-delete" }).click();
      await page.getByRole("dialog").getByRole("button", { name: "Delete" }).click();
      await row.waitFor({ state: "detached" });
      w.check("delete");
      await context.close();
    });

    test("find a job's workflows in Temporal's UI; viewers don't", async () => {
      const links = (page: Page) => page.getByRole("link", { name: /Temporal's UI/ });
      const job = await newPage(browser, open.guest);
      await job.w.go(`/console/jobs/${open.jobs.trained}`);
      assert.equal(await links(job.page).count(), 2);
      const href = (await links(job.page).first().getAttribute("href")) ?? "";
      assert.match(href, /^https:\/\/temporal\.bank\.example\/namespaces\/console-open-jg\d+\/workflows\/scheduler-job%2F\d+$/);
      assert.equal(await links(job.page).first().getAttribute("rel"), "noopener");
      job.w.check("a job's workflows");
      await job.context.close();

      const viewer = await newPage(browser, strict.guest);
      await viewer.w.go("/console/");
      await viewer.page.getByLabel("Token").fill(strict.tokens.viewer);
      await viewer.page.getByRole("button", { name: "Sign in", exact: true }).click();
      await viewer.page.getByRole("navigation", { name: "Pages" }).waitFor();
      await viewer.w.settle();
      viewer.w.faults.splice(0); // without a token the party answers 401
      await viewer.w.go(`/console/jobs/${strict.jobs.failed}`);
      await viewer.page.getByRole("heading", { name: new RegExp(strict.jobs.failed) }).waitFor();
      assert.equal(await links(viewer.page).count(), 0);
      viewer.w.check("a viewer's job");
      await viewer.context.close();
    });
  });
}
