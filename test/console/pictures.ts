// Draws the pictures of the documents: `make pictures`.
import { test } from "node:test";
import { join } from "node:path";
import type { Browser } from "playwright-core";
import { newPage } from "./browser";
import { say, type Stage } from "./stage";

export function takePictures(browser: Browser, stage: Stage, folder: string): void {
  const { guest, host, jobs } = stage.open;
  const pictures = [
    { name: "overview", path: "/console/", party: host },
    { name: "job", path: `/console/jobs/${jobs.trained}`, party: guest },
    { name: "failure", path: `/console/jobs/${jobs.failed}`, party: guest },
    { name: "failure.zh", path: `/console/jobs/${jobs.failed}`, party: guest, locale: "zh-CN" },
  ];
  for (const p of pictures) {
    test(`console-${p.name}.png`, async () => {
      const { context, page, w } = await newPage(browser, p.party, {
        viewport: { width: 1280, height: 860 },
        locale: p.locale ?? "en-US",
        colorScheme: "light",
      });
      say(stage, "running.guest", 'level=info msg="batch 1 is scored"');
      await w.go(p.path);
      await page.screenshot({ path: join(folder, `console-${p.name}.png`) });
      w.check(p.name);
      await context.close();
    });
  }
}
