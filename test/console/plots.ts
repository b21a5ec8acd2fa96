// What reports hold, as plots: their form, the values under the pointer and the keyboard, tables and files.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import type { Browser, Page } from "playwright-core";
import { csv, parseReport, thin, type Chart, type LineChart, type Point } from "../../console/src/ui/charts";
import { parseModel } from "../../console/src/ui/modeldata";
import { newPage } from "./browser";
import type { Stage } from "./stage";

const line = (charts: Chart[], what: LineChart["what"]) =>
  charts.find((c): c is LineChart => c.kind === "line" && c.what === what) ?? assert.fail(`no chart ${what}`);

export function testPlots(browser: Browser, stage: Stage): void {
  const { guest, jobs } = stage.open;
  describe("plots", () => {
    test("of a report with rates by threshold", () => {
      const { numbers, charts } = parseReport({
        component: "HeteroLR", metric: "ks", value: 0.5, auc: 0.75, ones: 2, zeros: 2,
        curve: [
          { threshold: 0.9, tpr: 0.5, fpr: 0, share: 0.25, precision: 1 },
          { threshold: 0.4, tpr: 0.5, fpr: 0.5, share: 0.5, precision: 0.5 },
          { threshold: 0.3, tpr: 1, fpr: 0.5, share: 0.75, precision: 2 / 3 },
          { threshold: 0.1, tpr: 1, fpr: 1, share: 1, precision: 0.5 },
        ],
      });
      assert.deepEqual(numbers[0], ["ks", 0.5]);
      const roc = line(charts, "roc");
      assert.deepEqual(roc.series[0]!.points, [[0, 0], [0, 0.5], [0.5, 0.5], [0.5, 1], [1, 1]]);
      assert.equal(roc.value, 0.75);
      assert.equal(roc.chance, "diagonal");
      assert.deepEqual(line(charts, "ks").mark, { x: 0.25, from: 0, to: 0.5 });
      assert.equal(line(charts, "ks").series.length, 2);
      assert.deepEqual(line(charts, "pr").series[0]!.points[0], [0, 1]);
      assert.equal(line(charts, "pr").chance, 0.5);
      assert.deepEqual(line(charts, "lift").series[0]!.points[0], [0.25, 2]);
      assert.deepEqual(line(charts, "gain").series[0]!.points, [[0, 0], [0.25, 0.5], [0.5, 0.5], [0.75, 1], [1, 1]]);
      const matrix = charts.find((c) => c.kind === "matrix");
      assert.deepEqual(matrix?.kind === "matrix" && matrix.steps[1], { threshold: 0.4, tp: 1, fp: 1, fn: 1, tn: 1 });
    });

    test("of an older report, whose AUC is the area below the curve", () => {
      const { charts } = parseReport({
        metric: "ks", value: 0.5, curve: [{ threshold: 0.9, tpr: 0.5, fpr: 0 }, { threshold: 0.1, tpr: 1, fpr: 1 }] });
      assert.deepEqual(charts.map((c) => c.kind === "line" && c.what), ["roc", "ks"]);
      assert.equal(line(charts, "roc").value, 0.75);
      assert.equal(line(charts, "ks").x, "threshold");
    });

    test("of FATE's curves as pairs", () => {
      const { charts } = parseReport([
        { name: "roc", groups: [], step_axis: null, data: [[0, 0], [0.5, 1], [1, 1]] },
        { name: "ks_tpr", data: [[0, 0.1], [0.5, 0.9], [1, 1]] },
        { name: "ks_fpr", data: [[0, 0], [0.5, 0.2], [1, 1]] },
        { name: "precision", data: [[0, 1], [1, 0.4]] },
        { name: "recall", data: [[0, 0.2], [1, 1]] },
        { name: "lift", data: [[0.1, 3], [1, 1]] },
        { name: "gain", data: [[0.1, 0.3], [1, 1]] },
      ]);
      assert.deepEqual(charts.map((c) => c.kind === "line" && c.what), ["roc", "ks", "pr", "gain", "lift"]);
      assert.equal(line(charts, "roc").value, 0.75);
      assert.equal(line(charts, "ks").mark?.x, 0.5);
      assert.deepEqual(line(charts, "pr").series[0]!.points, [[0.2, 1], [1, 0.4]]);
    });

    test("of steps, counts, lists of names, and what is not recognised", () => {
      const steps = parseReport([{ name: "lr_loss", step_axis: "epochs", data: [{ step: 0, metric: [0.5] }, { step: 1, metric: null }] }]);
      assert.deepEqual(steps.charts[0]?.kind === "line" && steps.charts[0].series[0]!.points, [[0, 0.5]]);
      const counts = parseReport({ own_count: 526, intersect_count: 500, intersect_rate: 0.95 });
      assert.equal(counts.numbers.length, 3);
      assert.deepEqual(counts.charts[0]?.kind === "bar" && counts.charts[0].bars.map((b) => b.values[0]), [526, 500]);
      const importance = parseReport({ importance: [{ feature: "x1", gain: 2 }, { feature: "x2", gain: 3 }] });
      assert.equal(importance.charts[0]?.kind === "bar" && importance.charts[0].what, "importance");
      const table = parseReport({ rows: [{ a: "x", b: "y", n: 1 }, { a: "z", b: "w" }] });
      assert.deepEqual(table.charts[0]?.kind === "table" && table.charts[0].rows, [["x", "y", 1], ["z", "w", null]]);
      for (const odd of [null, 1, "text", [], {}, [1, 2], { data: [] }, { curve: [null] }, [{ name: "x", data: null }], [[]],
        { curve: [{ tpr: 1, fpr: 1 }] }, [{ name: "evaluation", data: { a: { b: [{ metric: "gain", val: { gainx: [1], gainy: null } }] } } }]]) {
        parseReport(odd);
      }
    });

    test("of 5,000 points keep their peaks", () => {
      const points = Array.from({ length: 5000 }, (_, i): Point => [i, i === 2345 ? 9 : Math.sin(i)]);
      const kept = thin(points, 0, 4999, 300);
      assert.ok(kept.length <= 4 * 301, `${kept.length} points`);
      assert.ok(kept.some(([, y]) => y === 9), "the peak is kept");
      assert.deepEqual([kept[0], kept.at(-1)], [points[0], points.at(-1)]);
      assert.ok(kept.every((p, i) => i === 0 || kept[i - 1]![0] < p[0]), "in their order");
      assert.equal(thin(points.slice(0, 100), 0, 100, 300).length, 100);
    });

    test("export no formulas", () => {
      assert.equal(csv([["a,b", 'say "x"'], ["=1+1", -2], [null, true]]), '"a,b","say ""x"""\r\n\'=1+1,-2\r\n,true\r\n');
    });

    const figure = (page: Page, name: string) =>
      page.locator("figure").filter({ has: page.locator("figcaption").filter({ hasText: name }) }).first();

    test("show an evaluation in FATE's form", async () => {
      const { context, page, w } = await newPage(browser, guest);
      await w.go(`/console/jobs/${jobs.evaluated}/tasks/evaluate`);
      for (const name of ["ROC curve: sbt 0 train set", "KS curve", "Precision and recall", "Gain", "Lift", "Confusion matrix",
        "Population stability", "lr loss by iterations"]) {
        await figure(page, name).waitFor();
      }
      const roc = figure(page, "ROC curve");
      await roc.getByText("AUC 0.8476").waitFor();
      assert.equal(await roc.locator("svg path.chance").count(), 2, "the diagonal, and its entry of the legend");
      const ks = figure(page, "KS curve");
      await ks.getByText("KS 0.5259").waitFor();
      assert.equal(await ks.locator(".plot-box path.curve").count(), 2);
      assert.equal(await ks.locator(".plot-box .mark-ks circle").count(), 2);
      await w.checkAccess("evaluation");
      await page.setViewportSize({ width: 360, height: 800 });
      await w.redraw();
      await w.checkWidth("evaluation");
      w.check("evaluation");
      await context.close();
    });

    test("say the values below the pointer, and by the arrow keys", async () => {
      const { context, page, w } = await newPage(browser, guest);
      await w.go(`/console/jobs/${jobs.evaluated}/tasks/evaluate`);
      const ks = figure(page, "KS curve");
      const slider = ks.getByRole("slider");
      await slider.hover();
      const readout = ks.locator(".readout");
      assert.match(await readout.innerText(), /^share of rows, highest score first 0\.5: true positive rate [\d.]+, false positive rate [\d.]+$/);
      await page.mouse.move(0, 0);
      assert.equal(await readout.innerText(), "");
      await slider.focus();
      await page.keyboard.press("End");
      assert.match((await slider.getAttribute("aria-valuetext")) ?? "", / 1: true positive rate 1, false positive rate 1$/);
      await page.keyboard.press("ArrowLeft");
      assert.match((await slider.getAttribute("aria-valuetext")) ?? "", / 0\.99: /);
      const matrix = figure(page, "Confusion matrix");
      await matrix.getByText("predicted 1").waitFor();
      await matrix.getByRole("slider").press("Home");
      assert.match(await matrix.innerText(), /recall 0\.0000/, "nothing scores more than the highest score");
      w.check("values");
      await context.close();
    });

    test("have a table and a file of their values", async () => {
      const { context, page, w } = await newPage(browser, guest);
      await w.go(`/console/jobs/${jobs.trained}/tasks/hetero_secureboost_1`);
      const roc = figure(page, "ROC curve");
      await roc.locator("summary").click();
      await roc.getByRole("columnheader", { name: "true positive rate" }).waitFor();
      const points = await roc.locator("tbody tr").count();
      const download = page.waitForEvent("download");
      await roc.getByRole("button", { name: "ROC curve as CSV" }).click();
      const file = await download;
      assert.equal(file.suggestedFilename(), "hetero_secureboost_1-guest.0-train-ks-ROC-curve.csv");
      const rows = readFileSync(await file.path(), "utf8").trimEnd().split("\r\n");
      assert.equal(rows[0], "false positive rate,true positive rate");
      assert.equal(rows.length, points + 1);
      for (const name of ["Precision and recall", "Gain", "Lift", "Confusion matrix", "loss by tree"]) {
        await figure(page, name).waitFor();
      }
      await w.checkAccess("report with its table");
      w.check("table and file");
      await context.close();
    });

    test("parts of models are read, and others are not guessed", () => {
      const host = parseModel({ role: "host.0", splits: [{ feature: "x1", threshold: 1 }, { feature: "x1", threshold: 2 }] });
      assert.deepEqual(host?.kind === "splits" && host.importance.bars, [{ name: "x1", values: [2] }]);
      const linear = parseModel({ weights: [{ feature: "x1", weight: -0.5 }], intercept: 2 });
      assert.deepEqual(linear?.kind === "linear" && [linear.weights.bars, linear.intercept], [[{ name: "x1", values: [-0.5] }], 2]);
      const rule = { owner: "host.0", split: 3, gain: 2.5 };
      const trees = parseModel({ role: "guest.0", trees: [{ nodes: [{ rule, left: 1, right: 2 }, { weight: 1 }, {}] }] });
      assert.ok(trees?.kind === "trees");
      assert.deepEqual(trees.trees[0], { ...rule, left: { weight: 1 }, right: { weight: 0 } });
      assert.deepEqual(trees.importance.bars, [{ name: "host.0", values: [2.5] }]);
      for (const odd of [null, [], {}, { trees: [{}] }, { trees: [{ nodes: [{ rule, left: 0, right: 0 }] }] }, { weights: [1] }, { splits: [{}] }]) {
        assert.equal(parseModel(odd), undefined, JSON.stringify(odd));
      }
    });

    test("a model shows its trees, and of a partner's features no more than a number", async () => {
      const { context, page, w } = await newPage(browser, guest);
      await w.go(`/console/jobs/${jobs.trained}/tasks/hetero_secureboost_1`);
      await page.getByText("What the model says").click();
      await w.settle();
      await figure(page, "Importance of features").getByRole("rowheader", { name: "host.0" }).waitFor();
      const tree = page.locator(".tree");
      await tree.getByText(/^host\.0's feature, split \d+$/).first().waitFor();
      assert.match(await tree.innerText(), /x\d+ ≤ [-\d.]+/);
      assert.match(await tree.innerText(), /weight\s+-?[\d.]+/);
      const before = await tree.innerText();
      await page.getByRole("combobox", { name: /^Tree/ }).selectOption({ label: "2 of 3" });
      assert.notEqual(await tree.innerText(), before);
      await w.checkAccess("model of the guest");
      await page.setViewportSize({ width: 360, height: 800 });
      await w.redraw();
      await w.checkWidth("model of the guest");
      w.check("model of the guest");
      await context.close();

      const partner = await newPage(browser, stage.open.host);
      await partner.w.go(`/console/jobs/${jobs.trained}/tasks/hetero_secureboost_1`);
      await partner.page.getByText("What the model says").click();
      await partner.w.settle();
      await figure(partner.page, "Splits").getByRole("columnheader", { name: "Feature" }).waitFor();
      assert.equal(await partner.page.locator(".tree").count(), 0);
      await partner.w.checkAccess("model of the host");
      partner.w.check("model of the host");
      await partner.context.close();
    });
  });
}
