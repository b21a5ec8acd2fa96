// A job as the form of submission has it, and the document that is made of it.
import type { Component, Param, Port, Provider } from "../api/party";
import type { JobDocument, PortRef } from "../api/document";
import { parse, text } from "../ui/params";

export interface TaskDraft {
  name: string;
  provider: string;
  version: string;
  component: string;
  input: PortRef[];
  output: PortRef[];
  /** What is typed for the parameters, by name. An empty text leaves the parameter out. */
  params: Record<string, string>;
}

/** resourceNames are the resources of a container, as documents name them, in the order of the form. */
export const resourceNames = ["cpu", "memory", "disk", "gpu"] as const;

export type ResourceName = (typeof resourceNames)[number];

/** Resources are what each container of a part gets: cores, GiB, GPUs. An empty text leaves it to the runner. */
export type Resources = Record<ResourceName, string>;

export const noResources: Resources = { cpu: "", memory: "", disk: "", gpu: "" };

export interface Draft {
  flow: string;
  /** The parties of each role. */
  roles: Record<string, string[]>;
  initiatorRole: string;
  tasks: TaskDraft[];
  /** The datasets of tasks without inputs: by task, role and index. */
  datasets: Record<string, string>;
  /** What is typed for the parameters of one part, by task, role and index, and by name. It counts before the task's. */
  own: Record<string, Record<string, string>>;
  /** What is typed for the resources of parts, by role and index, and of all parts. */
  resources: Record<string, Resources>;
  /** The document of the earlier job, of which the form keeps what it does not show. */
  base?: JobDocument;
}

/** partKey names the part of a task that a party plays. */
export function partKey(task: string, role: string, index: number): string {
  return `${task}\n${role}\n${index}`;
}

/** allParts names the resources of every part. */
export const allParts = "common";

/** resourcesKey names the resources of the part that a party plays in all tasks. */
export function resourcesKey(role: string, index: number): string {
  return `${role}.${index}`;
}

/** modelParam is the parameter that names the model of an earlier job. */
export const modelParam = "model_id";

export function emptyDraft(own: string): Draft {
  return { flow: "", roles: { guest: [own], host: [] }, initiatorRole: "guest", tasks: [], datasets: {}, own: {}, resources: {} };
}

/** findComponent returns the description of a task's component, if the provider is registered here. */
export function findComponent(providers: Provider[], task: TaskDraft): Component | undefined {
  return providers.find((p) => p.name === task.provider && p.version === task.version)?.components_description[task.component];
}

/** kindOf returns what a category or type of the wire is: data, a model, or a report. */
export function kindOf(type: string): "data" | "model" | "report" {
  if (/data|training_set|test_set|validate_set/.test(type)) return "data";
  return type.includes("model") ? "model" : "report";
}

/** taskOf returns a new task of a component, with a name that no other task has. */
export function taskOf(provider: Provider, c: Component, others: TaskDraft[]): TaskDraft {
  const base = c.componentName.replace(/([a-z0-9])([A-Z])/g, "$1_$2").toLowerCase();
  let n = 1;
  while (others.some((o) => o.name === `${base}_${n}`)) n++;
  return {
    name: `${base}_${n}`,
    provider: provider.name,
    version: provider.version,
    component: c.componentName,
    input: nearest(c.inputData, others),
    output: c.outputData.map((o) => ({ type: o.category, key: o.name })),
    params: {},
  };
}

/** nearest gives each input the nearest earlier output that fits, and two inputs different ones if there are two. */
function nearest(ports: Port[], others: TaskDraft[]): PortRef[] {
  const chosen: PortRef[] = [];
  for (const port of ports) {
    const sources = [...others].reverse().flatMap((o) => sourcesOf(o, kindOf(port.category)));
    const source = sources.find((s) => !chosen.some((c) => c.key === s.key)) ?? sources[0];
    if (source) chosen.push(source);
  }
  return chosen;
}

/** sourcesOf returns the outputs of a task that can be inputs of a kind. */
export function sourcesOf(task: TaskDraft, kind: "data" | "model" | "report"): PortRef[] {
  return task.output
    .filter((o) => kindOf(o.type) === kind)
    .map((o) => ({ type: o.type, key: `${task.name}.${o.key}` }));
}

/** rename changes the name of a task, also where others refer to it. */
export function rename(draft: Draft, from: string, to: string): Draft {
  const tasks = draft.tasks.map((x) => ({
    ...x,
    name: x.name === from ? to : x.name,
    input: x.input.map((i) => (i.key.startsWith(`${from}.`) ? { ...i, key: to + i.key.slice(from.length) } : i)),
  }));
  const moved = <T,>(byPart: Record<string, T>): Record<string, T> =>
    Object.fromEntries(Object.entries(byPart).map(([k, v]) => [k.startsWith(`${from}\n`) ? to + k.slice(from.length) : k, v]));
  return { ...draft, tasks, datasets: moved(draft.datasets), own: moved(draft.own) };
}

type ByTask = Record<string, Record<string, unknown>>;
type ByRole = Record<string, Record<string, ByTask>>;

/** ofIndex returns what a role's entries say of one index. A key may name several, such as 0|1. */
function ofIndex<T extends object>(entries: Record<string, T> | undefined, index: number): T | undefined {
  const found = Object.entries(entries ?? {}).filter(([key]) => key.split("|").includes(String(index)));
  return found.length ? Object.assign({}, ...found.map(([, value]) => value)) as T : undefined;
}

/** draftOf returns the form of a document. */
export function draftOf(doc: JobDocument): Draft {
  const { common = {}, ...byRole } = doc.config.task_params as { common?: ByTask } & ByRole;
  const datasets: Draft["datasets"] = {};
  const own: Draft["own"] = {};
  const resources: Draft["resources"] = { [allParts]: typedResources(doc.config.job_params.common) };
  for (const [role, nodes] of Object.entries(doc.config.role)) {
    nodes.forEach((_, index) => {
      for (const [task, { dataset_id, ...params }] of Object.entries(ofIndex((byRole as ByRole)[role], index) ?? {})) {
        if (typeof dataset_id === "string") datasets[partKey(task, role, index)] = dataset_id;
        if (Object.keys(params).length > 0) own[partKey(task, role, index)] = typedParams(params);
      }
      resources[resourcesKey(role, index)] = typedResources(
        ofIndex(doc.config.job_params[role] as Record<string, object> | undefined, index),
      );
    });
  }
  return {
    flow: doc.flow_id ?? "",
    roles: structuredClone(doc.config.role),
    initiatorRole: doc.config.initiator.role,
    tasks: doc.dag.components.map((c) => ({
      name: c.name,
      provider: c.provider,
      version: c.version,
      component: c.componentName,
      input: c.input ?? [],
      output: c.output ?? [],
      params: typedParams((common as ByTask)[c.name] ?? {}),
    })),
    datasets,
    own,
    resources,
    base: doc,
  };
}

function typedParams(params: Record<string, unknown>): Record<string, string> {
  return Object.fromEntries(Object.entries(params).map(([k, v]) => [k, text(v)]));
}

type JobParams = { resources?: Record<string, number | null> | null };

/** typedAmount returns an amount as it is typed. -1 is none, as 0 is except for GPUs: a part may have fewer than the others. */
function typedAmount(name: ResourceName, n: number | null | undefined): string {
  return typeof n === "number" && (n > 0 || (n === 0 && name === "gpu")) ? String(n) : "";
}

/** typedResources returns the resources of job parameters as they are typed. */
function typedResources(params: unknown): Resources {
  const given = (params as JobParams | undefined)?.resources ?? {};
  return Object.fromEntries(resourceNames.map((name) => [name, typedAmount(name, given[name])])) as Resources;
}

/** withResources returns job parameters with the typed resources. It keeps what the form does not show. */
function withResources(params: object | undefined, typed: Resources | undefined): object {
  const all = { ...params } as JobParams;
  const resources = { ...all.resources };
  for (const name of resourceNames) {
    const amount = typed?.[name].trim() ?? "";
    if (amount !== "") resources[name] = Number.isNaN(Number(amount)) ? (amount as unknown as number) : Number(amount);
    else if (typedAmount(name, resources[name]) !== "") delete resources[name];
  }
  if (Object.keys(resources).length > 0) all.resources = resources;
  else delete all.resources;
  return all;
}

/** valuesOf returns what typed texts mean. A text that the earlier job gave as such stays so, also if it is empty. */
function valuesOf(
  typed: Record<string, string>, before: Record<string, unknown> | undefined, c: Component | undefined,
): Record<string, unknown> {
  const params: Record<string, unknown> = {};
  for (const [name, t] of Object.entries(typed)) {
    const earlier = before?.[name];
    if (earlier !== undefined && text(earlier) === t) params[name] = earlier;
    else if (t.trim() !== "") params[name] = valueOf(c?.inputParam.find((p) => p.name === name), t);
  }
  return params;
}

/** valueOf returns what a typed text means. For a parameter without a description JSON counts, else the text. */
function valueOf(param: Param | undefined, typed: string): unknown {
  if (param) {
    const { value, error } = parse(param, typed);
    return error ? typed : value;
  }
  try {
    return JSON.parse(typed) as unknown;
  } catch {
    return typed;
  }
}

/** documentOf returns the document of a form. */
export function documentOf(draft: Draft, providers: Provider[], own: string): JobDocument {
  const base = draft.base ? structuredClone(draft.base) : undefined;
  const before = (base?.config.task_params ?? {}) as { common?: ByTask } & ByRole;
  const common: ByTask = {};
  for (const task of draft.tasks) {
    const params = valuesOf(task.params, before.common?.[task.name], findComponent(providers, task));
    if (Object.keys(params).length > 0) common[task.name] = params;
  }
  const task_params: Record<string, unknown> = { common };
  const job_params: Record<string, unknown> = {
    common: withResources(base?.config.job_params.common as object | undefined, draft.resources[allParts]),
  };
  for (const [role, nodes] of Object.entries(draft.roles)) {
    const parts: Record<string, ByTask> = {};
    const ofJob: Record<string, object> = {};
    nodes.forEach((_, index) => {
      const earlier = ofIndex(before[role], index);
      const tasks: ByTask = {};
      for (const task of draft.tasks) {
        const key = partKey(task.name, role, index);
        const params = valuesOf(draft.own[key] ?? {}, earlier?.[task.name], findComponent(providers, task));
        if (draft.datasets[key]) params.dataset_id = draft.datasets[key];
        if (Object.keys(params).length > 0) tasks[task.name] = params;
      }
      if (Object.keys(tasks).length > 0) parts[index] = tasks;
      const params = withResources(
        ofIndex(base?.config.job_params[role] as Record<string, object> | undefined, index),
        draft.resources[resourcesKey(role, index)],
      );
      if (Object.keys(params).length > 0) ofJob[index] = params;
    });
    if (Object.keys(parts).length > 0) task_params[role] = parts;
    if (Object.keys(ofJob).length > 0) job_params[role] = ofJob;
  }
  const { job_id: _, old_job_id: __, ...rest } = base ?? ({} as Partial<JobDocument>);
  return {
    ...rest,
    flow_id: draft.flow,
    dag: {
      version: base?.dag.version ?? "2.0",
      components: draft.tasks.map((x) => ({
        name: x.name,
        componentName: x.component,
        provider: x.provider,
        version: x.version,
        input: x.input,
        output: x.output,
      })),
    },
    config: {
      ...base?.config,
      version: base?.config.version ?? "2.0.0",
      initiator: { role: draft.initiatorRole, node_id: own },
      role: Object.fromEntries(Object.entries(draft.roles).filter(([, nodes]) => nodes.length > 0)),
      job_params,
      task_params,
    },
  };
}
