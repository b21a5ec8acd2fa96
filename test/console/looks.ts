// Every page: no error, no violation of axe, nothing from elsewhere; in both languages and themes, at three widths.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Browser } from "playwright-core";
import { newPage } from "./browser";
import { pageCases, table } from "./pages";
import type { Stage } from "./stage";

const widths = [375, 1280, 2560];
const schemes = ["light", "dark"] as const;
const locales = ["en-US", "zh-CN"];

export function testLooks(browser: Browser, stage: Stage): void {
  describe("each page", { concurrency: 2 }, () => {
    for (const locale of locales) {
      for (const c of pageCases(stage)) {
        test(`${c.name}, ${locale}`, async () => {
          const { context, page, w } = await newPage(browser, stage.open[c.at], { locale });
          await w.go(c.path);
          w.check(c.name);
          assert.equal(await page.locator("html").getAttribute("lang"), locale === "zh-CN" ? locale : "en");
          if (locale === "zh-CN") {
            assert.match(await page.locator("nav").innerText(), /\p{Script=Han}/u, "the navigation is in Chinese");
          }
          for (const width of c.once ? [1280] : widths) {
            await page.setViewportSize({ width, height: 900 });
            await w.settle();
            await w.checkWidth(`${c.name}, ${width} px`);
            for (const colorScheme of c.once ? ["light" as const] : schemes) {
              await page.emulateMedia({ colorScheme });
              // Thousands of equal elements take minutes; smaller jobs show the same ones.
              const leftOut = c.once ? ["main svg", "main table"] : [];
              await w.checkAccess(`${c.name}, ${width} px, ${colorScheme}`, ...leftOut);
            }
          }
          w.check(c.name);
          await context.close();
        });
      }
    }

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
