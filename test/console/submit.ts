// A job from the form: made of descriptions, with the errors beside their fields, checked, sent.
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Browser, Locator, Page } from "playwright-core";
import { newPage } from "./browser";
import { api, type Stage } from "./stage";

interface Document {
  dag: { components: { name: string; input: { key: string }[] }[] };
  config: {
    job_params: Record<string, Record<string, unknown>>;
    task_params: Record<string, Record<string, Record<string, unknown>>>;
  };
}

export function testSubmit(browser: Browser, stage: Stage): void {
  const { guest, guest_node, host_node, jobs } = stage.open;
  const submitPage = "/console/submit";

  const task = (page: Page, name: string) => page.getByRole("group", { name, exact: true });
  const add = async (page: Page, component: string) => {
    const list = page.getByLabel("Add a task");
    const value = await list.locator("option").filter({ hasText: new RegExp(`: ${component} –`) }).getAttribute("value");
    await list.selectOption(value);
  };
  const about = async (field: Locator) => {
    const id = await field.getAttribute("aria-describedby");
    return field.page().locator(`[id="${id}"]`).innerText();
  };
  const sent = async (page: Page): Promise<Document> => {
    await page.getByRole("button", { name: "Check", exact: true }).click();
    await page.getByText("Every party would accept this job now").waitFor();
    await page.getByRole("button", { name: "Send", exact: true }).click();
    await page.waitForURL(/\/console\/jobs\/\d+$/);
    const id = page.url().split("/").at(-1)!;
    return (await api<{ document: Document }>(`${guest}/v2/job/show?job_id=${id}`)).document;
  };

  describe("the form of a job", () => {
    test("says beside each field what is wrong, and leads there", async () => {
      const { context, page, w } = await newPage(browser, guest);
      await w.go(submitPage);
      await add(page, "Intersection");
      const form = task(page, "intersection_1");
      await page.getByRole("group", { name: "host", exact: true }).getByLabel(host_node).check();
      const dataset = form.getByLabel("Dataset of guest.0");
      assert.match(await about(dataset), /at least one party must name one/);
      await dataset.fill("nonsense");
      assert.match(await about(dataset), /namespace#name/);
      await dataset.fill("demo#unknown");
      assert.match(await about(dataset), /This party has no dataset demo#unknown/);
      assert.equal(await dataset.getAttribute("aria-invalid"), "true");
      const everyPart = page.getByRole("group", { name: "Every part" });
      await everyPart.getByLabel("CPU, cores").fill("two");
      assert.match(await about(everyPart.getByLabel("CPU, cores")), /from 0.01 to 1000000/);
      for (const [label, typed, wrong] of [
        ["Memory, GiB", "0", /from 0.0078125 to/],
        ["Disk, GiB", "-1", /from 0.0009765625 to/],
        ["GPUs", "1.5", /whole number from 0 to 1000/],
      ] as const) {
        await everyPart.getByLabel(label).fill(typed);
        assert.match(await about(everyPart.getByLabel(label)), wrong);
      }
      assert.ok(await page.getByRole("button", { name: "Check", exact: true }).isDisabled());
      await w.checkAccess("a form with errors");
      // The list of problems leads to each.
      await page.getByRole("button", { name: "intersection_1 · Dataset of guest.0" }).click();
      assert.ok(await dataset.evaluate((e) => e === document.activeElement));
      await page.setViewportSize({ width: 390, height: 800 });
      await w.redraw();
      await w.checkWidth("a form with errors");
      w.check("a form with errors");
      await context.close();
    });

    test("suggests what earlier jobs used of a partner, and own columns", async () => {
      const { context, page, w } = await newPage(browser, guest);
      await w.go(submitPage);
      await page.getByRole("group", { name: "host", exact: true }).getByLabel(host_node).check();
      await add(page, "Intersection");
      const form = task(page, "intersection_1");
      const suggested = async (field: Locator) => {
        const list = await field.getAttribute("list");
        const options = page.locator(`datalist[id="${list}"] option`);
        return options.evaluateAll((all) => all.map((o) => [(o as HTMLOptionElement).value, (o as HTMLOptionElement).label] as const));
      };
      const ofHost = form.getByLabel("Dataset of host.0");
      const datasets = new Map(await suggested(ofHost));
      assert.match(datasets.get("demo#breast_host") ?? "", /^flow .+, \d+ \w+ \d{4}/);
      assert.match(datasets.get("demo#customers") ?? "", /^flow monthly-risk-model, .*, Failed$/);
      assert.ok(!datasets.has("demo#breast_guest"), "that is this party's");
      assert.match(await about(ofHost), /earlier jobs named, last demo#\w+ \(flow .*\)\. It may have them no longer/);
      const ofGuest = form.getByLabel("Dataset of guest.0");
      assert.deepEqual((await suggested(ofGuest)).map(([name]) => name), ["demo#breast_guest"]);
      const id = form.getByLabel(/ id$/);
      assert.deepEqual((await suggested(id)).map(([name]) => name), ["id"], "the column that earlier jobs used");
      await ofGuest.fill("demo#breast_guest");
      const columns = new Map(await suggested(id));
      assert.match(columns.get("id") ?? "", new RegExp(`^demo#breast_guest; ${host_node}, flow `));
      assert.equal(columns.get("y"), "demo#breast_guest");
      await w.checkAccess("a form with suggestions");
      w.check("suggestions");
      await context.close();
    });

    test("sends resources, and parameters of one part", async () => {
      const { context, page, w } = await newPage(browser, guest);
      await w.go(submitPage);
      await page.getByLabel("Flow", { exact: true }).fill("from-the-form");
      await page.getByRole("group", { name: "host", exact: true }).getByLabel(host_node).check();
      await add(page, "Intersection");
      const form = task(page, "intersection_1");
      await form.getByLabel("Dataset of guest.0").fill("demo#breast_guest");
      await form.getByLabel("Dataset of host.0").fill("demo#breast_host");
      await page.getByRole("group", { name: "Every part" }).getByLabel("CPU, cores").fill("0.5");
      await page.getByRole("group", { name: `host.0 ${host_node}` }).getByLabel("Memory, GiB").last().fill("0.25");
      const ofHost = page.getByRole("group", { name: `host.0 ${host_node}` });
      await ofHost.getByLabel("Disk, GiB").last().fill("0.5");
      // No runner of the stage has GPUs: the party says so where they are asked for.
      await ofHost.getByLabel("GPUs").last().fill("1");
      await page.getByRole("button", { name: "Check", exact: true }).click();
      await page.getByText("This job would be refused").waitFor();
      await page.getByRole("listitem").getByText(/gpu/i).first().waitFor();
      await ofHost.getByLabel("GPUs").last().fill("0");
      await form.getByText("Other parameters for single parties (0)").click();
      const own = form.getByRole("group", { name: `host.0 ${host_node}` });
      await own.getByLabel("Add a parameter").selectOption("sync_intersect_ids");
      await own.getByLabel(/sync_intersect_ids/).selectOption("false");
      await w.checkAccess("a form with parameters of one part");
      const document = await sent(page);
      assert.deepEqual(document.config.job_params, {
        common: { resources: { cpu: 0.5 } }, host: { "0": { resources: { memory: 0.25, disk: 0.5, gpu: 0 } } } });
      assert.deepEqual(document.config.task_params.guest, { "0": { intersection_1: { dataset_id: "demo#breast_guest" } } });
      assert.deepEqual(document.config.task_params.host, {
        "0": { intersection_1: { dataset_id: "demo#breast_host", sync_intersect_ids: false } } });
      w.check("resources");
      await context.close();
    });

    test("begins with what applies a model, from the list of models", async () => {
      const { context, page, w } = await newPage(browser, guest);
      await w.go("/console/data");
      const name = `${jobs.trained}:hetero_secureboost_1.model0`;
      await page.getByRole("link", { name: `Predict… ${name}` }).click();
      await page.waitForURL(/\/console\/submit\?model=/);
      await page.getByText(`This job applies model ${name}`).waitFor();
      const form = task(page, "hetero_secureboost_1");
      await form.getByText("HeteroSecureBoost_predict").waitFor();
      assert.equal(await form.getByLabel("model", { exact: true }).inputValue(), `model:${name}`);
      const joined = task(page, "intersect_rsa_1");
      assert.equal(await joined.getByLabel("Dataset of guest.0").inputValue(), "demo#breast_guest");
      await joined.getByLabel("Dataset of host.0").fill("demo#breast_host");
      await w.checkAccess("a prediction");
      const document = await sent(page);
      assert.equal(document.config.task_params.common!.hetero_secureboost_1!.model_id, name);
      w.check("a prediction from the list of models");
      await context.close();
    });

    test("says why a model can't be applied", async () => {
      const { context, page, w } = await newPage(browser, guest);
      await w.go(`${submitPage}?model=${jobs.trained}:intersect_rsa_1`);
      await page.getByRole("alert").getByText(/model .* is not known/).waitFor();
      w.faults.splice(0); // the browser reports the answer 404
      await context.close();
    });

    test("predicts with the model of an earlier job", async () => {
      const { context, page, w } = await newPage(browser, guest);
      await w.go(`${submitPage}?from=${jobs.trained}`);
      await task(page, "hetero_secureboost_1").getByRole("button", { name: /^Remove/ }).click();
      await add(page, "HeteroSecureBoost_predict");
      const form = task(page, "hetero_secure_boost_predict_1");
      const model = form.getByLabel("model", { exact: true });
      assert.match(await about(model), /It needs a model/);
      const name = `${jobs.trained}:hetero_secureboost_1.model0`;
      await model.selectOption(`model:${name}`);
      assert.doesNotMatch(await about(model), /It needs a model/);
      await form.getByLabel(/ id$/).fill("id");
      const document = await sent(page);
      assert.equal(document.config.task_params.common!.hetero_secure_boost_predict_1!.model_id, name);
      assert.deepEqual(document.dag.components[1]!.input.map((i) => i.key), ["intersect_rsa_1.train_data"]);
      assert.ok(document.config.job_params.guest, `the resources of ${guest_node} are those of the training`);
      w.check("a prediction");
      await context.close();
    });
  });
}
