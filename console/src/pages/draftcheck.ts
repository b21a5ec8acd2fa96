// Finds what is wrong with the form of a job, before and after the parties check it, and beside which field to say it.
import type { Warning } from "../api/document";
import type { Dataset, Model, Param, Provider } from "../api/party";
import { t } from "../i18n";
import { ownNode } from "../session";
import type { Remark } from "../ui/field";
import { parse } from "../ui/params";
import {
  allParts, findComponent, kindOf, modelParam, partKey, resourceNames, resourcesKey, type Draft, type ResourceName, type TaskDraft,
} from "./draft";

/** Remarks are what is said beside fields, by their ids. */
export type Remarks = Map<string, Remark>;

/** Problem is an error of a field. */
export interface Problem {
  id: string;
  /** Where it is: the task, the field, the part. */
  label: string;
  text: string;
}

/** fieldId returns the id of a field of the form. */
export function fieldId(...names: (string | number)[]): string {
  return ["job", ...names].join("-").replace(/[^\w-]/g, "_");
}

const label = (...names: string[]): string => names.join(" · ");

interface Known {
  providers: Provider[];
  datasets: Dataset[];
  models: Model[];
}

/** parameterError returns what is wrong with a typed parameter. Without a text the default counts, if there is one. */
export function parameterError(p: Param, typed: string): string | undefined {
  if (typed === "" && p.defaultValue !== undefined && p.defaultValue !== null) return undefined;
  return parse(p, typed).error;
}

/** partsOf returns the parts of a task: those of the roles that its component has. */
export function partsOf(draft: Draft, providers: Provider[], task: TaskDraft): { role: string; index: number; node: string }[] {
  const roles = findComponent(providers, task)?.roleList;
  return Object.entries(draft.roles)
    .filter(([role]) => !roles || roles.includes(role))
    .flatMap(([role, nodes]) => nodes.map((node, index) => ({ role, index, node })));
}

/** readsDataset returns whether parties give a task datasets, since no other task feeds it. */
export function readsDataset(providers: Provider[], task: TaskDraft): boolean {
  if (task.input.some((i) => kindOf(i.type) === "data")) return false;
  const described = findComponent(providers, task);
  return !described || described.inputData.some((p) => kindOf(p.category) === "data");
}

/** problemsOf returns what is wrong with the form, as far as it is known before the parties check it. */
export function problemsOf(draft: Draft, known: Known): Problem[] {
  const found: Problem[] = [];
  if (!Object.values(draft.roles).flat().includes(ownNode.value)) {
    found.push({ id: fieldId("roles"), label: t("submit.parties"), text: t("submit.noRole", { node: ownNode.value }) });
  }
  if (draft.tasks.length === 0) found.push({ id: fieldId("add"), label: t("submit.tasks"), text: t("submit.noTasks") });
  for (const task of draft.tasks) found.push(...taskProblems(draft, known, task));
  const parts = Object.entries(draft.roles).flatMap(([role, nodes]) => nodes.map((_, i) => resourcesKey(role, i)));
  for (const key of [allParts, ...parts]) {
    for (const name of resourceNames) {
      const text = amountError(name, draft.resources[key]?.[name].trim() ?? "");
      const part = key === allParts ? t("submit.everyPart") : key;
      if (text) found.push({ id: fieldId("resources", key, name), label: label(part, t(`submit.${name}`)), text });
    }
  }
  return found;
}

// The amounts that a party accepts: Docker Engine can't limit a container to less.
const amounts: Record<ResourceName, { least: number; most: number }> = {
  cpu: { least: 0.01, most: 1_000_000 },
  memory: { least: 1 / 128, most: 1_000_000 },
  disk: { least: 1 / 1024, most: 1_000_000 },
  gpu: { least: 0, most: 1000 },
};

/** amountError returns what is wrong with a typed amount. */
function amountError(name: ResourceName, typed: string): string | undefined {
  const { least, most } = amounts[name];
  const n = Number(typed);
  if (typed === "" || (n >= least && n <= most && (name !== "gpu" || Number.isInteger(n)))) return undefined;
  return t(name === "gpu" ? "submit.wholeAmount" : "submit.amount", { least, most });
}

function taskProblems(draft: Draft, known: Known, task: TaskDraft): Problem[] {
  const found: Problem[] = [];
  const described = findComponent(known.providers, task);
  for (const p of described?.inputParam ?? []) {
    const parts = partsOf(draft, known.providers, task);
    const own = (part: { role: string; index: number }) => draft.own[partKey(task.name, part.role, part.index)]?.[p.name];
    // A parameter that every part has for itself need not be given for all.
    const given = parts.length > 0 && parts.every((part) => own(part));
    const error = given && !task.params[p.name] ? undefined : parameterError(p, task.params[p.name] ?? "");
    if (error) found.push({ id: fieldId(task.name, p.name), label: label(task.name, p.name), text: error });
    for (const part of parts) {
      const typed = own(part);
      const wrong = typed ? parse(p, typed).error : undefined;
      if (!wrong) continue;
      const id = fieldId(task.name, p.name, part.role, part.index);
      found.push({ id, label: label(task.name, p.name, `${part.role}.${part.index}`), text: wrong });
    }
  }
  for (const port of described?.inputData ?? []) {
    if (kindOf(port.category) === "model" && !task.input.some((i) => kindOf(i.type) === "model") && !task.params[modelParam]) {
      found.push({ id: fieldId(task.name, port.name), label: label(task.name, port.name), text: t("submit.modelMissing") });
    }
  }
  if (readsDataset(known.providers, task)) found.push(...datasetProblems(draft, known, task));
  return found;
}

function datasetProblems(draft: Draft, known: Known, task: TaskDraft): Problem[] {
  const found: Problem[] = [];
  const parts = partsOf(draft, known.providers, task);
  const add = (role: string, index: number, text: string) =>
    found.push({
      id: fieldId(task.name, "dataset", role, index),
      label: label(task.name, t("submit.datasetOf", { role: `${role}.${index}` })),
      text,
    });
  for (const { role, index, node } of parts) {
    const typed = draft.datasets[partKey(task.name, role, index)] ?? "";
    if (typed === "") continue;
    if (!/^[^#\s]+#[^#\s]+$/.test(typed)) add(role, index, t("submit.datasetForm"));
    else if (node === ownNode.value && !known.datasets.some((d) => `${d.namespace}#${d.name}` === typed)) {
      add(role, index, t("submit.datasetUnknown", { name: typed }));
    }
  }
  const first = parts[0];
  if (first && !parts.some(({ role, index }) => draft.datasets[partKey(task.name, role, index)])) {
    add(first.role, first.index, t("submit.datasetMissing"));
  }
  return found;
}

/** remarksOf returns what is said beside fields: the problems of the form, and what parties warn of or refuse. */
export function remarksOf(problems: Problem[], warnings: Warning[], refusal: string | undefined, draft: Draft): Remarks {
  const remarks: Remarks = new Map();
  const add = (id: string, remark: Remark) => {
    const before = remarks.get(id);
    if (!before) remarks.set(id, remark);
    else if (remark.warning) {
      before.warning = before.warning ? `${before.warning} ${remark.warning}` : remark.warning;
    }
  };
  for (const p of problems) add(p.id, { error: p.text });
  for (const w of warnings) {
    if (!w.task || !w.parameter) continue;
    const [role, index = "0"] = (w.role ?? "").split(".");
    const key = role ? partKey(w.task, role, Number(index)) : "";
    const own = draft.own[key]?.[w.parameter] !== undefined;
    add(own ? fieldId(w.task, w.parameter, role!, index) : fieldId(w.task, w.parameter), { warning: w.message });
  }
  const at = refusal && fieldOfPath(refusal);
  if (at) add(at, { error: refusal });
  return remarks;
}

/** fieldOfPath returns the field that an error of the API names by its path in the document. */
function fieldOfPath(error: string): string | undefined {
  const params = /config\.task_params\.(?:(common)|(\w+)\.(\d+))\.([\w-]+)\.([\w-]+)/.exec(error);
  if (params) {
    const [, common, role, index, task, name] = params;
    if (common) return fieldId(task!, name!);
    return name === "dataset_id" ? fieldId(task!, "dataset", role!, index!) : fieldId(task!, name!, role!, index!);
  }
  const resources = /config\.job_params\.(?:(common)|(\w+)\.(\d+))\.resources\.(cpu|memory|disk|gpu)/.exec(error);
  if (!resources) return undefined;
  const [, common, role, index, name] = resources;
  return fieldId("resources", common ? allParts : resourcesKey(role!, Number(index)), name!);
}
