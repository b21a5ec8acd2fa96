// Every page: no error, no violation of axe, nothing from elsewhere. All rules of axe run once for a page; what differs
// in the dark is its contrast, at another width its layout, and in Chinese its texts.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { en } from "../../console/src/i18n/en";
import { zh } from "../../console/src/i18n/zh";
import { newPage } from "./browser";
import { pageCases, table } from "./pages";
import type { Stage } from "./stage";

const narrowAndWide = [320, 2560];

export function testLooks(browser: Browser, stage: Stage): void {
  describe("each page", { concurrency: 2 }, () => {
    for (const c of pageCases(stage)) {
      test(c.name, async () => {
        const { context, page, w } = await newPage(browser, stage.open[c.at]);
        await w.go(c.path);
        assert.equal(await page.locator("html").getAttribute("lang"), "en");
        await w.checkWidth(c.name);
        await w.checkAccess(c.name);
        await page.emulateMedia({ colorScheme: "dark" });
        await w.checkAccess(`${c.name}, dark`, { rules: ["color-contrast"] });
        for (const width of narrowAndWide) {
          await page.setViewportSize({ width, height: 900 });
          await w.redraw();
          await w.checkWidth(`${c.name}, ${width} px`);
        }
        w.check(c.name);
        await context.close();
      });

      test(`${c.name}, in Chinese`, async () => {
        const { context, page, w } = await newPage(browser, stage.open[c.at], { locale: "zh-CN" });
        await w.go(c.path);
        assert.equal(await page.locator("html").getAttribute("lang"), "zh-CN");
        assert.match(await page.locator("h1").innerText(), /\p{Script=Han}/u, "the heading is in Chinese");
        assert.deepEqual(await englishLeft(page), [], `English at ${page.url()}`);
        w.check(c.name);
        await context.close();
      });
    }

    test("a narrow screen shows where one is", async () => {
      const { context, page, w } = await newPage(browser, stage.open.guest, { viewport: { width: 320, height: 700 } });
      for (const path of table.filter((p) => !p.includes(":"))) {
        await w.go(path);
        const box = await page.getByRole("navigation", { name: "Pages" }).locator("[aria-current]").boundingBox();
        assert.ok(box && box.x >= 0 && box.x + box.width <= 320, `${path}: the entry is at ${JSON.stringify(box)}`);
      }
      w.check("narrow");
      await context.close();
    });

    test("each page of the table is among them", () => {
      const opened = pageCases(stage).map((c) => c.page);
      assert.ok(table.includes("/console/jobs"), `the table of pages is read: ${table.join(", ")}`);
      assert.deepEqual(table.filter((p) => !opened.includes(p)), []);
    });

    test("the switches of language and theme are kept", async () => {
      const { context, page, w } = await newPage(browser, stage.open.guest);
      await w.go("/console/jobs");
      await page.getByLabel("Language").selectOption("zh");
      await page.locator('html[lang="zh-CN"]').waitFor();
      await page.locator("select").filter({ hasText: "深色" }).selectOption("dark");
      await page.reload();
      await w.settle();
      assert.equal(await page.locator("html").getAttribute("lang"), "zh-CN");
      const background = await page.evaluate(() => getComputedStyle(document.documentElement).backgroundColor);
      const [red] = background.match(/\d+/g)!.map(Number);
      assert.ok(red! < 60, `the background is dark: ${background}`);
      w.check("switches");
      await context.close();
    });

    test("the policy of content holds", async () => {
      const answer = await fetch(`${stage.open.guest}/console/`);
      const policy = answer.headers.get("content-security-policy") ?? "";
      assert.match(policy, /default-src 'self'/);
      assert.doesNotMatch(policy, /unsafe|\*/);
      assert.equal(answer.headers.get("referrer-policy"), "no-referrer");
      assert.equal(answer.headers.get("x-content-type-options"), "nosniff");
      const html = await answer.text();
      assert.doesNotMatch(html, /<style|style=|<script(?![^>]*src)/i, "nothing is inline");

      const { context, page, w } = await newPage(browser, stage.open.guest);
      await w.go("/console/");
      const blocked = await page.evaluate(async () => {
        const violation = new Promise<string>((resolve) =>
          document.addEventListener("securitypolicyviolation", (e) => resolve(e.violatedDirective), { once: true }),
        );
        const script = document.createElement("script");
        script.textContent = "window.inlineRan = true";
        document.head.append(script);
        const image = new Image();
        image.src = "http://127.0.0.1:1/pixel.png";
        document.body.append(image);
        return { by: await violation, ran: "inlineRan" in window };
      });
      assert.equal(blocked.ran, false, "an inline script does not run");
      assert.match(blocked.by, /script-src/);
      await context.close();
    });

    test("a browser at / gets to the console", async () => {
      const { context, page, w } = await newPage(browser, stage.open.guest);
      await w.go("/");
      assert.equal(new URL(page.url()).pathname, "/console/");
      await context.close();
    });
  });
}

/** englishLeft returns the texts of a Chinese page that are those of the English catalogue. */
async function englishLeft(page: Page): Promise<string[]> {
  const texts = await page.evaluate(() => {
    const found = new Set<string>();
    const add = (text: string | null) => found.add((text ?? "").replace(/\s+/g, " ").trim());
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      // What a party or component says stays in its language.
      if (!walker.currentNode.parentElement?.closest("script, pre, code, textarea, [translate=no]")) {
        add(walker.currentNode.nodeValue);
      }
    }
    for (const e of document.querySelectorAll("[aria-label], [placeholder]")) {
      add(e.getAttribute("aria-label"));
      add(e.getAttribute("placeholder"));
    }
    return [...found].filter((text) => /[A-Za-z]/.test(text));
  });
  const translated = Object.keys(en).filter((k) => en[k as keyof typeof en] !== zh[k as keyof typeof zh]);
  const patterns = translated
    .map((k) => en[k as keyof typeof en] as string)
    .filter((text) => text.replace(/\{\w+\}/g, "").replace(/[^A-Za-z]/g, "").length >= 4)
    .map((text) => new RegExp(`^${text.split(/\{\w+\}/).map((s) => s.replace(/[.*+?^$()|[\]\\]/g, "\\$&")).join(".+")}$`));
  return texts.filter((text) => !/\p{Script=Han}/u.test(text) && patterns.some((p) => p.test(text)));
}
