// Projects: a client sees what its departments have, and is offered what its roles allow in each.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { newPage } from "./browser";
import { signIn } from "./signin";
import type { Stage } from "./stage";

export function testProjects(browser: Browser, stage: Stage): void {
  const { host, jobs: others, departments } = stage.strict;
  const { tokens, jobs } = departments;
  const row = (page: Page, text: string) => page.getByRole("row").filter({ hasText: text });
  const approvals = (page: Page, id: string) =>
    page.locator("section").filter({ has: page.getByRole("heading", { name: id }) });
  const openUpload = async (page: Page) => {
    await page.getByRole("button", { name: "Upload" }).first().click();
    return page.getByRole("dialog");
  };

  describe("projects", () => {
    test("show a client of one department nothing of others", async () => {
      const { context, w } = await newPage(browser, host);
      const page = await signIn(w, "/console/jobs", tokens.risk);
      await row(page, jobs.risk).getByRole("button", { name: /^Approve/ }).waitFor();
      assert.equal(await row(page, jobs.risk).locator(".tag", { hasText: "risk" }).count(), 0, "it has one project");
      for (const id of [jobs.ads, others.running, others.failed]) assert.equal(await row(page, id).count(), 0);
      assert.match(await page.locator(".who").innerText(), /rosa[^]*risk$/);

      await w.go("/console/data");
      await row(page, "demo#risk-data").getByRole("button", { name: /^Delete/ }).waitFor();
      for (const id of ["demo#ads-data", "demo#breast_host"]) assert.equal(await row(page, id).count(), 0);
      const form = await openUpload(page);
      await form.getByLabel("Namespace").waitFor();
      assert.equal(await form.getByLabel("Project").count(), 0, "there is nothing to choose");
      await form.getByRole("button", { name: "Cancel" }).click();
      await w.checkAccess("data of a department");

      await w.go("/console/approvals");
      await approvals(page, jobs.risk).waitFor();
      for (const id of [jobs.ads, others.pending]) assert.equal(await approvals(page, id).count(), 0);
      w.check("a client of one department");

      await w.go(`/console/jobs/${jobs.ads}`);
      await page.getByText(`does not know job ${jobs.ads}`).first().waitFor();
      await context.close();
    });

    test("name the department of each row, and offer what the client may do there", async () => {
      const { context, w } = await newPage(browser, host);
      const page = await signIn(w, "/console/jobs", tokens.both);
      for (const [id, project] of [[jobs.risk, "risk"], [jobs.ads, "ads"]] as const) {
        await row(page, id).locator(".tag").getByText(project, { exact: true }).waitFor();
      }
      await row(page, jobs.ads).getByRole("button", { name: /^Approve/ }).waitFor();
      assert.equal(await row(page, jobs.risk).getByRole("button", { name: /^Approve/ }).count(), 0);
      await w.checkAccess("jobs of two departments");

      await w.go("/console/data");
      const form = await openUpload(page);
      const project = form.getByLabel("Project");
      assert.deepEqual(await project.locator("option").allInnerTexts(), ["ads", "risk"]);
      await project.selectOption("risk");
      await form.locator('input[type="file"]').setInputFiles({
        name: "scores.csv", mimeType: "text/csv", buffer: Buffer.from("id,x\n1,2\n2,3\n"),
      });
      await form.getByLabel("Namespace").fill("console");
      await form.getByRole("button", { name: "Upload" }).click();
      await form.getByRole("button", { name: "Close" }).click();
      for (const [id, of] of [["console#scores", "risk"], ["demo#risk-data", "risk"], ["demo#ads-data", "ads"]] as const) {
        await row(page, id).locator(".tag").getByText(of, { exact: true }).waitFor();
      }
      w.check("a client of two departments");
      await context.close();
    });

    test("let the approver of a department approve its job", async () => {
      const { context, w } = await newPage(browser, host);
      const page = await signIn(w, "/console/approvals", tokens.risk);
      await approvals(page, jobs.risk).getByRole("button", { name: /^Approve/ }).click();
      await page.getByRole("dialog").getByRole("button", { name: "Approve" }).click();
      await approvals(page, jobs.risk).waitFor({ state: "detached" });
      await w.go("/console/jobs");
      await row(page, jobs.risk).getByText("Running").waitFor();
      w.check("an approver of a department");
      await context.close();
    });
  });
}
