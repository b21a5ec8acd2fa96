// Sign-in at a real OpenID provider, dex, which runs in a process of its own.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Browser, BrowserContext, Page } from "playwright-core";
import { newPage, type Watched } from "./browser";
import type { Stage } from "./stage";

export function testOIDC(browser: Browser, stage: Stage): void {
  const { guest, jobs, oidc } = stage.strict;
  // With HUTONG_REQUIRE_OIDC=1 the stage does not start without a provider.
  describe("at an OpenID provider", { skip: oidc.missing ?? false }, () => {
    const open = async (path: string): Promise<{ context: BrowserContext; page: Page; w: Watched }> => {
      const opened = await newPage(browser, guest);
      await opened.w.go(path);
      return opened;
    };
    /** enter follows the button to the provider, and signs in there. */
    const enter = async (page: Page, w: Watched, password = oidc.password) => {
      await page.getByRole("button", { name: /^Sign in at / }).click();
      await page.waitForURL((url) => url.origin === oidc.issuer);
      await page.locator("input[name=login]").fill(oidc.user);
      await page.locator("input[name=password]").fill(password);
      await page.locator("button[type=submit]").click();
      if (password !== oidc.password) return;
      await page.getByRole("button", { name: "Sign out" }).waitFor();
      await w.settle();
    };
    /** checkFaults fails if a page did anything but to sign in: the browser reports each answer 401. */
    const checkFaults = (w: Watched) => {
      const other = w.faults.filter((f) => !f.startsWith(`request to ${oidc.issuer}/`) && !f.includes("status of 401"));
      assert.deepEqual(other, []);
      w.faults.length = 0;
    };

    test("signs in, comes back to the page, shows the roles, and signs out", async () => {
      const path = `/console/jobs/${jobs.failed}`;
      const { context, page, w } = await open(path);
      await enter(page, w);
      const back = new URL(page.url());
      assert.equal(back.origin + back.pathname + back.search, guest + path, "it is back where it began, without the code");
      const who = page.locator(".who");
      await who.getByText(oidc.user).waitFor();
      assert.equal(await who.getAttribute("title"), "Roles: viewer");
      await page.locator("main").getByText("strict-failure").first().waitFor();
      await w.checkAccess("signed in at a provider");
      const kept = await page.evaluate(() => JSON.stringify({ ...localStorage }) + document.cookie);
      assert.ok(!kept.includes("eyJ"), "the id token is in no lasting storage");
      checkFaults(w);

      await page.getByRole("button", { name: "Sign out" }).click();
      await page.getByLabel("Token").waitFor();
      assert.equal(await page.getByText("strict-failure").count(), 0);
      const left = await page.evaluate(() => JSON.stringify({ ...sessionStorage }));
      assert.ok(!left.includes("eyJ"), "nothing of the id token is left");
      await page.reload();
      await page.getByLabel("Token").waitFor();
      checkFaults(w);
      await context.close();
    });

    test("offers nothing that acts to the role viewer", async () => {
      const { context, page, w } = await open("/console/jobs");
      await enter(page, w);
      await page.getByRole("row").filter({ hasText: jobs.running }).waitFor();
      assert.equal(await page.getByRole("button", { name: /^(Stop|Approve)/ }).count(), 0);
      checkFaults(w);
      await context.close();
    });

    test("a wrong password leads nowhere", async () => {
      const { context, page, w } = await open("/console/jobs");
      await enter(page, w, "wrong");
      await page.locator("#login-error").waitFor();
      assert.equal(new URL(page.url()).origin, oidc.issuer);
      await page.goto(`${guest}/console/jobs`);
      await page.getByLabel("Token").waitFor();
      await context.close();
    });

    test("refuses an answer that is not for its sign-in", async () => {
      const { context, page } = await open("/console/jobs");
      await page.evaluate(() =>
        sessionStorage.setItem("hutong.oidc", JSON.stringify({ state: "mine", verifier: "v", issuer: "", clientID: "", back: "/console/jobs" })),
      );
      await page.goto(`${guest}/console/?state=theirs&code=stolen`);
      await page.getByRole("alert").getByText("the answer is not for this sign-in").waitFor();
      await page.getByLabel("Token").waitFor();
      await context.close();
    });

    test("a session that expires ends, says so, and continues where it was", async () => {
      const path = `/console/jobs/${jobs.failed}`;
      const { context, page, w } = await open(path);
      await enter(page, w);
      await page.locator("main").getByText("strict-failure").first().waitFor();
      // Nobody touches the page: the stream of events ends with the id token.
      await page.getByRole("alert").getByText("Your session has ended.").waitFor();
      assert.equal(await page.getByText("strict-failure").count(), 0, "nothing of the party is shown any more");
      await w.checkAccess("an ended session");
      await page.getByRole("button", { name: /^Sign in at / }).click();
      await page.getByRole("button", { name: "Sign out" }).or(page.locator("input[name=login]")).first().waitFor();
      if (new URL(page.url()).origin === oidc.issuer) {
        await page.locator("input[name=login]").fill(oidc.user);
        await page.locator("input[name=password]").fill(oidc.password);
        await page.locator("button[type=submit]").click();
      }
      await page.locator("main").getByText("strict-failure").first().waitFor();
      assert.equal(new URL(page.url()).pathname, path);
      checkFaults(w);
      await context.close();
    });
  });
}
