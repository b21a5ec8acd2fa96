// Periodic jobs: one is added from a job, paused, run by hand and deleted.
import { describe, test } from "node:test";
import type { Browser, Locator } from "playwright-core";
import { newPage } from "./browser";
import type { Stage } from "./stage";

export function testPeriodic(browser: Browser, stage: Stage): void {
  const { guest, jobs } = stage.open;
  describe("periodic jobs", () => {
    test("add one from a job, pause it, run it by hand, and delete it", async () => {
      const { context, page, w } = await newPage(browser, guest);
      await w.go(`/console/jobs/${jobs.trained}`);
      await page.getByRole("link", { name: "Repeat…" }).click();
      await w.settle();
      await page.getByLabel("Name", { exact: true }).fill("nightly");
      await page.getByLabel("Times", { exact: true }).fill("0 2 * * *");
      await page.getByLabel("Time zone", { exact: true }).fill("Asia/Shanghai");
      const add = page.getByRole("button", { name: "Add a periodic job" });
      await w.checkAccess("the form of a periodic job");
      await add.click();
      await page.getByText("nightly is added.").waitFor();
      await page.getByRole("button", { name: "Done" }).click();

      const row: Locator = page.getByRole("row").filter({ hasText: "nightly" });
      await row.getByText("0 2 * * *").waitFor();
      await row.getByText("Asia/Shanghai").waitFor();
      const act = async (name: string, reason?: string) => {
        await row.getByRole("button", { name: new RegExp(`^${name}`) }).click();
        const dialog = page.getByRole("dialog");
        if (reason) await dialog.getByRole("textbox").fill(reason);
        await dialog.getByRole("button", { name, exact: true }).click();
        await dialog.waitFor({ state: "detached" });
      };
      await act("Pause", "the partner moves");
      await row.getByText("paused", { exact: true }).waitFor();
      await row.getByText("the partner moves").waitFor();
      await act("Resume");
      await row.getByText("active", { exact: true }).waitFor();
      await act("Run now");
      await row.getByText("by hand").waitFor();
      await w.checkAccess("periodic jobs");
      await row.getByRole("link").first().click();
      await w.settle();
      await page.getByText("Periodic job:").waitFor();
      await page.locator("main").getByRole("link", { name: "nightly" }).click();
      await w.settle();
      await act("Delete");
      await row.waitFor({ state: "detached" });
      w.check("periodic jobs");
      await context.close();
    });
  });
}
