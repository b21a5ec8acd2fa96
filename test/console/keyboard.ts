// Every page with the keyboard only.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { newPage } from "./browser";
import { pageCases } from "./pages";
import type { Stage } from "./stage";

export function testKeyboard(browser: Browser, stage: Stage): void {
  describe("with the keyboard", { concurrency: 2 }, () => {
    for (const c of pageCases(stage)) {
      if (c.endless) continue;
      test(`everything is reached: ${c.name}`, async () => {
        const { context, page, w } = await newPage(browser, stage.open[c.at]);
        await w.go(c.path);
        const { missed, invisible } = await walk(page);
        assert.deepEqual(missed, [], "never gets the focus");
        assert.deepEqual(invisible, [], "does not show that it has the focus");
        w.check(c.name);
        await context.close();
      });
    }

    test("the skip link leads to the content", async () => {
      const { context, page, w } = await newPage(browser, stage.open.guest);
      await w.go("/console/jobs");
      await page.keyboard.press("Tab");
      const link = page.locator(":focus");
      assert.match((await link.getAttribute("href")) ?? "", /^#/);
      const box = await link.boundingBox();
      assert.ok(box && box.x >= 0 && box.y >= 0, "it is visible while it has the focus");
      await page.keyboard.press("Enter");
      assert.ok(await page.evaluate(() => document.activeElement?.closest("main") !== null), "the focus is in main");
      await page.keyboard.press("Tab");
      assert.ok(await page.evaluate(() => document.activeElement?.closest("main") !== null), "and stays there");
      await context.close();
    });

    test("Enter opens a page and a dialog, Escape closes the dialog", async () => {
      const { context, page, w } = await newPage(browser, stage.open.guest);
      await w.go("/console/jobs?state=running&text=nightly");
      const stop = page.getByRole("button", { name: /^Stop/ }).first();
      await stop.focus();
      await page.keyboard.press("Enter");
      const dialog = page.getByRole("dialog");
      await dialog.waitFor();
      assert.ok(await page.evaluate(() => document.activeElement?.closest("dialog") !== null), "the focus is inside");
      for (let i = 0; i < 6; i++) await page.keyboard.press("Tab");
      assert.ok(
        await page.evaluate(() => document.activeElement === document.body || document.activeElement?.closest("dialog")),
        "the focus does not leave the dialog for the page behind it",
      );
      await page.keyboard.press("Escape");
      await dialog.waitFor({ state: "detached" });
      assert.ok(await stop.evaluate((e) => e === document.activeElement), "the focus is back on the button");

      const link = page.getByRole("link", { name: stage.open.jobs.running });
      await link.focus();
      await page.keyboard.press("Enter");
      await page.waitForURL(`**/jobs/${stage.open.jobs.running}`);
      await w.settle();
      const focused = await page.evaluate(() => document.activeElement?.tagName);
      assert.equal(focused, "H1", "a new page begins at its heading");
      w.check("keyboard");
      await context.close();
    });
  });
}

interface Walk {
  missed: string[];
  invisible: string[];
}

/** walk presses Tab through the page. It returns what never gets the focus, and what does not show it. */
async function walk(page: Page): Promise<Walk> {
  const count = await page.evaluate(() => {
    const all = [
      ...document.querySelectorAll<HTMLElement>(
        "a[href], button:not(:disabled), input:not(:disabled), select:not(:disabled), textarea:not(:disabled)," +
          "summary, [tabindex='0']",
      ),
    ].filter((e) => e.checkVisibility({ visibilityProperty: true }) && e.tabIndex >= 0);
    // Of the radio buttons of a group the keyboard reaches one; the arrows lead to the others.
    const groups = new Set<string>();
    (window as unknown as { toReach: HTMLElement[] }).toReach = all.filter((e) => {
      if (!(e instanceof HTMLInputElement) || e.type !== "radio") return true;
      const name = e.name;
      if (groups.has(name)) return false;
      groups.add(name);
      return true;
    });
    return all.length;
  });
  const reached = new Set<number>();
  const invisible: string[] = [];
  for (let i = 0; i < count + 60 && reached.size < count; i++) {
    await page.keyboard.press("Tab");
    const at = await page.evaluate(() => {
      const e = document.activeElement as HTMLElement | null;
      if (!e || e === document.body) return undefined;
      let index = (window as unknown as { toReach: HTMLElement[] }).toReach.indexOf(e);
      if (index < 0 && e instanceof HTMLInputElement && e.type === "radio") {
        index = (window as unknown as { toReach: HTMLElement[] }).toReach.findIndex(
          (other) => other instanceof HTMLInputElement && other.type === "radio" && other.name === e.name,
        );
      }
      // A label may show the focus of the input in it.
      const shown = [e, e.closest("label"), e.nextElementSibling].some((x) => {
        if (!x) return false;
        const s = getComputedStyle(x);
        return (s.outlineStyle !== "none" && parseFloat(s.outlineWidth) > 0) || s.boxShadow !== "none";
      });
      return { index, shown, html: e.outerHTML.slice(0, 120) };
    });
    if (!at) continue;
    if (at.index >= 0) reached.add(at.index);
    if (!at.shown) invisible.push(at.html);
  }
  const missed = await page.evaluate(
    (seen) =>
      (window as unknown as { toReach: HTMLElement[] }).toReach
        .filter((e, i) => !seen.includes(i) && e.isConnected)
        .map((e) => e.outerHTML.slice(0, 120)),
    [...reached],
  );
  return { missed, invisible: [...new Set(invisible)] };
}
