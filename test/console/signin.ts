// The strict party: nothing without a token, and nothing offered that a role may not do.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { newPage, type Watched } from "./browser";
import type { Stage } from "./stage";

/** acting are the words of buttons that change something. */
const acting = /^(Stop|Approve|Reject|Priority|Upload|Delete|Submit|Drain|Resume|Register|Run again)\b/;

/** signIn opens a path, and signs in with a token. */
export async function signIn(w: Watched, path: string, token: string): Promise<Page> {
  await w.go(path);
  const page = w.page;
  await page.getByLabel("Token").fill(token);
  await page.keyboard.press("Enter");
  await page.getByRole("button", { name: "Sign out" }).waitFor();
  await w.settle();
  w.faults.length = 0; // the browser reports the answer 401, which led to the form
  return page;
}

export function testSignIn(browser: Browser, stage: Stage): void {
  const { guest, host, tokens, jobs } = stage.strict;
  describe("a strict party", { concurrency: 2 }, () => {
    test("shows nothing without a token", async () => {
      const { context, page, w } = await newPage(browser, guest);
      const answers: string[] = [];
      page.on("response", (r) => {
        const path = new URL(r.url()).pathname;
        if (r.ok() && !path.startsWith("/console/") && path !== "/v2/client/login") answers.push(path);
      });
      for (const path of ["/console/", "/console/jobs", `/console/jobs/${jobs.failed}`]) {
        await w.go(path);
        await page.getByLabel("Token").waitFor();
        assert.equal(await page.getByText(jobs.failed).count(), 0);
      }
      assert.deepEqual(answers, [], "the party answers nothing else");
      await w.checkAccess("sign-in");
      await context.close();
    });

    test("refuses a wrong token, and says so", async () => {
      const { context, page, w } = await newPage(browser, guest);
      await w.go("/console/jobs");
      await page.getByLabel("Token").fill("ht_wrong");
      await page.keyboard.press("Enter");
      const alert = page.getByRole("alert");
      await alert.waitFor();
      assert.match(await alert.innerText(), /token/i);
      await w.checkAccess("wrong token");
      await context.close();
    });

    test("keeps the token for the tab only, until the sign-out", async () => {
      const { context, page, w } = await newPage(browser, guest);
      await signIn(w, "/console/jobs", tokens.operator);
      await page.reload();
      await page.getByRole("link", { name: jobs.running }).waitFor();
      const kept = await page.evaluate(() => JSON.stringify({ ...localStorage }) + document.cookie);
      assert.ok(!kept.includes("ht_"), "the token is in no lasting storage");
      const other = await context.newPage();
      await other.goto(`${guest}/console/jobs`);
      await other.getByLabel("Token").waitFor();
      await page.getByRole("button", { name: "Sign out" }).click();
      await page.getByLabel("Token").waitFor();
      assert.equal(await page.getByText(jobs.running).count(), 0);
      assert.ok(!(await page.evaluate(() => JSON.stringify({ ...sessionStorage }))).includes("ht_"));
      await context.close();
    });

    test("offers a viewer nothing that acts", async () => {
      const { context, w } = await newPage(browser, guest);
      const page = await signIn(w, "/console/jobs", tokens.viewer);
      const links = await page.locator("nav a").evaluateAll((all) => all.map((a) => (a as HTMLAnchorElement).pathname));
      const ofJobs = [jobs.running, jobs.failed, jobs.pending].map((id) => `/console/jobs/${id}`);
      for (const path of [...links, ...ofJobs]) {
        await w.go(path);
        w.check(`viewer, ${path}`);
        const buttons = await page.locator("main button").allInnerTexts();
        assert.deepEqual(buttons.filter((b) => acting.test(b)), [], path);
        await w.checkAccess(`viewer, ${path}`);
      }
      await context.close();
    });

    test("offers an operator to stop a job", async () => {
      const { context, w } = await newPage(browser, guest);
      const page = await signIn(w, "/console/jobs", tokens.operator);
      const row = page.getByRole("row").filter({ hasText: jobs.running });
      await row.getByRole("button", { name: /^Stop/ }).waitFor();
      w.check("operator");
      await context.close();
    });

    test("says which role is missing to see jobs", async () => {
      for (const [party, token, opened] of [
        [guest, tokens.operator_only, ["Submit"]],
        [host, tokens.approver_only, ["Approvals"]],
      ] as const) {
        const { context, w } = await newPage(browser, party);
        const page = await signIn(w, "/console/", token);
        assert.deepEqual(await page.getByRole("navigation").getByRole("link").allInnerTexts(), opened);
        await page.getByText("You lack the role viewer").waitFor();
        assert.deepEqual(await page.locator("main").getByRole("link").allInnerTexts(), opened);
        await w.checkAccess("a missing role");
        for (const name of opened) {
          await page.getByRole("navigation").getByRole("link", { name }).click();
          await w.settle();
          if (name === "Submit") {
            await page.getByText("requires the role viewer").waitFor();
            await page.getByRole("textbox").waitFor();
          }
          await w.checkAccess(`${name} without the role viewer`);
        }
        w.check("a missing role");
        await context.close();
      }
    });

    test("lets an approver approve", async () => {
      const { context, w } = await newPage(browser, host);
      const page = await signIn(w, "/console/jobs", tokens.approver);
      const row = page.getByRole("row").filter({ hasText: jobs.approve });
      assert.equal(await row.getByRole("button", { name: /^Stop/ }).count(), 0, "an approver may not stop jobs");
      await row.getByRole("button", { name: /^Approve/ }).click();
      await page.getByRole("dialog").getByRole("button", { name: "Approve" }).click();
      await row.getByText("Running").waitFor();
      w.check("approver");
      await context.close();
    });

    test("lets an approver without the role viewer approve", async () => {
      const { context, w } = await newPage(browser, host);
      const page = await signIn(w, "/console/approvals", tokens.approver_only);
      const job = page.locator("section").filter({ has: page.getByRole("heading", { name: jobs.pending }) });
      await job.getByRole("heading", { name: "What this job runs and reads at your party" }).waitFor();
      assert.equal(await page.locator("main").getByRole("link", { name: jobs.pending }).count(), 0, "it may not open the job");
      await w.checkAccess("approvals without the role viewer");
      await job.getByRole("button", { name: /^Approve/ }).click();
      await page.getByRole("dialog").getByRole("button", { name: "Approve" }).click();
      await job.waitFor({ state: "detached" });
      w.check("approver without the role viewer");
      await context.close();
    });
  });
}
