// A browser whose pages report everything that a page of the console must not do.
import AxeBuilder from "@axe-core/playwright";
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { chromium, type Browser, type BrowserContext, type BrowserContextOptions, type Page } from "playwright-core";

const programs = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

export async function startBrowser(): Promise<Browser> {
  const executablePath = process.env.CHROMIUM ?? programs.find(existsSync);
  if (!executablePath) throw new Error("Chromium is missing: run make setup, or name it in CHROMIUM");
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu", "--lang=en-US"] });
}

/** Watched is a page, and what was wrong with it since the last check. */
export class Watched {
  readonly faults: string[] = [];
  private open = new Set<unknown>();
  private quietSince = Date.now();

  constructor(
    readonly page: Page,
    readonly origin: string,
  ) {
    page.on("console", (m) => {
      if (m.type() === "error" || m.type() === "warning") this.faults.push(`console: ${m.text()}`);
    });
    page.on("pageerror", (e) => this.faults.push(`error: ${e.message}`));
    page.on("request", (r) => {
      const url = new URL(r.url());
      if (url.origin !== origin && !["data:", "blob:"].includes(url.protocol)) {
        this.faults.push(`request to ${r.url()}`);
      }
      if (url.pathname !== "/v2/events") this.open.add(r);
    });
    const closed = (r: unknown) => {
      this.open.delete(r);
      this.quietSince = Date.now();
    };
    page.on("requestfinished", closed);
    page.on("requestfailed", closed);
  }

  /** go opens a path of the party, and waits until it is loaded. */
  async go(path: string): Promise<void> {
    await this.page.goto(this.origin + path, { waitUntil: "load" });
    await this.settle();
  }

  /** settle waits until the page has a heading, and has not loaded anything for a moment. */
  async settle(): Promise<void> {
    await this.page.waitForSelector("h1", { timeout: 20_000 });
    this.quietSince = Date.now();
    const end = Date.now() + 20_000;
    while (this.open.size > 0 || Date.now() - this.quietSince < 250) {
      if (Date.now() > end) throw new Error(`${this.page.url()}: still loading after 20 s`);
      await this.page.waitForTimeout(50);
    }
  }

  /** check fails if anything was wrong since the last check. */
  check(where: string): void {
    const faults = this.faults.splice(0);
    assert.deepEqual(faults, [], `${where} at ${this.page.url()}`);
  }

  /** redraw waits until the page is drawn again, such as in a window of another size. */
  async redraw(): Promise<void> {
    await this.page.evaluate(
      () => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(resolve)))),
    );
  }

  /** checkAccess fails if axe finds anything by the given rules, or by all. */
  async checkAccess(where: string, options: { rules?: string[] } = {}): Promise<void> {
    const axe = new AxeBuilder({ page: this.page }).setLegacyMode(true);
    if (options.rules) axe.withRules(options.rules);
    const result = await axe.analyze();
    const found = result.violations.map(
      (v) => `${v.id}: ${v.help}\n    ${v.nodes.slice(0, 3).map((n) => `${n.html.slice(0, 200)}\n      ${
        (n.failureSummary ?? "").split("\n").slice(1).join(" ").slice(0, 300)}`).join("\n    ")}`,
    );
    assert.deepEqual(found, [], `axe: ${where} at ${this.page.url()}`);
  }

  /** checkWidth fails if the page is wider than the window. */
  async checkWidth(where: string): Promise<void> {
    const wide = await this.page.evaluate(() => {
      const root = document.documentElement;
      if (root.scrollWidth <= root.clientWidth) return "";
      const widest = [...document.body.querySelectorAll("*")]
        .filter((e) => e.getBoundingClientRect().right > root.clientWidth + 1)
        .filter((e) => {
          for (let p = e.parentElement; p && p !== document.body; p = p.parentElement) {
            if (getComputedStyle(p).overflowX !== "visible") return false;
          }
          return true;
        })
        .map((e) => `${e.tagName.toLowerCase()}.${e.getAttribute("class") ?? ""}`);
      return `${root.scrollWidth} px in ${root.clientWidth} px: ${widest.slice(0, 5).join(", ")}`;
    });
    assert.equal(wide, "", `wider than the window: ${where} at ${this.page.url()}`);
  }
}

/** newPage opens a page of a party in a context of its own. */
export async function newPage(
  browser: Browser,
  origin: string,
  options: BrowserContextOptions = {},
): Promise<{ context: BrowserContext; w: Watched; page: Page }> {
  const context = await browser.newContext({
    locale: "en-US",
    viewport: { width: 1280, height: 900 },
    ignoreHTTPSErrors: true, // the authority of the tests is in no store of the system
    reducedMotion: "reduce",
    ...options,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(15_000);
  return { context, page, w: new Watched(page, origin) };
}
