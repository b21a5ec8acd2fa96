// A browser whose pages report everything that a page of the console must not do.
import AxeBuilder from "@axe-core/playwright";
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { basename, join } from "node:path";
import { chromium, type Browser, type BrowserContext, type BrowserContextOptions, type Page, type Request } from "playwright-core";
import { hangs } from "./promise";

const programs = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

export async function startBrowser(): Promise<Browser> {
  const executablePath = process.env.CHROMIUM ?? programs.find(existsSync);
  if (!executablePath) throw new Error("Chromium is missing: run make setup, or name it in CHROMIUM");
  return chromium.launch({ executablePath, args: ["--no-sandbox", "--disable-gpu", "--lang=en-US"] });
}

/** Watched is a page, and what was wrong with it since the last check. */
export class Watched {
  readonly faults: string[] = [];
  // What the page loads for the first time since it was opened. A page that polls loads the rest again and again.
  private open = new Set<unknown>();
  private loaded = new Set<string>();
  private begun = 0;

  constructor(
    readonly page: Page,
    readonly origin: string,
  ) {
    page.on("console", (m) => {
      // Docker has added or removed a network of the machine; the page asks again.
      if (m.text().includes("net::ERR_NETWORK_CHANGED")) return;
      if (m.type() === "error" || m.type() === "warning") this.faults.push(`console: ${m.text()}`);
    });
    page.on("pageerror", (e) => this.faults.push(`error: ${e.message}`));
    page.on("request", (r) => {
      const url = new URL(r.url());
      if (url.origin !== origin && !["data:", "blob:"].includes(url.protocol)) {
        this.faults.push(`request to ${r.url()}`);
      }
      if (url.pathname === "/v2/events" || this.loaded.has(url.pathname)) return;
      this.open.add(r);
      this.begun++;
    });
    const closed = (r: Request) => {
      if (this.open.delete(r)) this.loaded.add(new URL(r.url()).pathname);
    };
    page.on("requestfinished", closed);
    page.on("requestfailed", closed);
    page.on("framenavigated", () => this.loaded.clear());
  }

  /** go opens a path of the party, and waits until it is loaded. */
  async go(path: string): Promise<void> {
    const open = () => this.page.goto(this.origin + path, { waitUntil: "load" });
    await open().catch((e: Error) => {
      if (!e.message.includes("net::ERR_NETWORK_CHANGED")) throw e; // as above
      return open();
    });
    await this.settle();
  }

  /** settle waits until the page has a heading, and has loaded and drawn everything. */
  async settle(): Promise<void> {
    await this.page.waitForSelector("h1");
    const end = Date.now() + hangs;
    for (;;) {
      const begun = this.begun;
      const loading = await this.page.evaluate(idle).catch(() => true); // the page was left for another one
      if (!loading && this.open.size === 0 && this.begun === begun) return;
      if (Date.now() > end) throw new Error(`${this.page.url()}: still loading after ${hangs / 1000} s`);
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

/**
 * idle runs in a page. It waits until the page has nothing to do, by the page's own clock, so that what the page delays,
 * at most 300 ms, has begun. It returns whether the page shows that it loads something.
 */
async function idle(): Promise<boolean> {
  await new Promise((resolve) => setTimeout(resolve, 320));
  await new Promise((resolve) => requestIdleCallback(resolve, { timeout: 5000 }));
  return document.querySelector("main .loading") !== null;
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
  // Pages of a newer build than the parties', while the pages are being changed.
  const folder = process.env.CONSOLE_DIST;
  if (folder) {
    await context.route(/\/console\/app\.(js|css)/, (route) =>
      route.fulfill({ path: join(folder, basename(new URL(route.request().url()).pathname)) }),
    );
  }
  const page = await context.newPage();
  page.setDefaultTimeout(hangs);
  return { context, page, w: new Watched(page, origin) };
}
