// A job as the form of submission has it, and the document that is made of it.
import type { Component, Param, Provider } from "../api/party";
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

export interface Draft {
  flow: string;
  /** The parties of each role. */
  roles: Record<string, string[]>;
  initiatorRole: string;
  tasks: TaskDraft[];
  /** The datasets of tasks without inputs: by task, role and index. */
  datasets: Record<string, string>;
  /** The document of the earlier job, of which the form keeps what it does not show. */
  base?: JobDocument;
}

export function datasetKey(task: string, role: string, index: number): string {
  return `${task}\n${role}\n${index}`;
}

export function emptyDraft(own: string): Draft {
  return { flow: "", roles: { guest: [own], host: [] }, initiatorRole: "guest", tasks: [], datasets: {} };
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
    // Each input gets the nearest earlier output that fits.
    input: c.inputData.flatMap((port) => {
      const source = [...others].reverse().flatMap((o) => sourcesOf(o, kindOf(port.category)))[0];
      return source ? [source] : [];
    }),
    output: c.outputData.map((o) => ({ type: o.category, key: o.name })),
    params: {},
  };
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
  const datasets = Object.fromEntries(
    Object.entries(draft.datasets).map(([k, v]) => [k.startsWith(`${from}\n`) ? to + k.slice(from.length) : k, v]),
  );
  return { ...draft, tasks, datasets };
}

type ByTask = Record<string, Record<string, unknown>>;
type ByRole = Record<string, Record<string, ByTask>>;

/** draftOf returns the form of a document. */
export function draftOf(doc: JobDocument): Draft {
  const { common = {}, ...byRole } = doc.config.task_params as { common?: ByTask } & ByRole;
  const datasets: Record<string, string> = {};
  for (const [role, parts] of Object.entries(byRole as ByRole)) {
    for (const [index, tasks] of Object.entries(parts)) {
      for (const [task, params] of Object.entries(tasks)) {
        if (typeof params.dataset_id === "string") datasets[datasetKey(task, role, Number(index))] = params.dataset_id;
      }
    }
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
      params: Object.fromEntries(Object.entries((common as ByTask)[c.name] ?? {}).map(([k, v]) => [k, text(v)])),
    })),
    datasets,
    base: doc,
  };
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
  const names = new Set(draft.tasks.map((x) => x.name));
  const before = (base?.config.task_params ?? {}) as { common?: ByTask } & ByRole;
  const common: ByTask = {};
  for (const task of draft.tasks) {
    const described = findComponent(providers, task);
    const params: Record<string, unknown> = {};
    for (const [name, typed] of Object.entries(task.params)) {
      // A text that the earlier job gave as such stays so, also if it is empty.
      const earlier = before.common?.[task.name]?.[name];
      if (earlier !== undefined && text(earlier) === typed) params[name] = earlier;
      else if (typed.trim() !== "") params[name] = valueOf(described?.inputParam.find((p) => p.name === name), typed);
    }
    if (Object.keys(params).length > 0) common[task.name] = params;
  }
  const task_params: Record<string, unknown> = { common };
  const job_params: Record<string, unknown> = { common: base?.config.job_params.common ?? {} };
  for (const [role, nodes] of Object.entries(draft.roles)) {
    const parts: Record<string, ByTask> = {};
    const resources: Record<string, unknown> = {};
    nodes.forEach((_, index) => {
      const tasks: ByTask = {};
      for (const name of names) {
        const { dataset_id: _, ...rest } = before[role]?.[index]?.[name] ?? {};
        const dataset = draft.datasets[datasetKey(name, role, index)];
        if (dataset) rest.dataset_id = dataset;
        if (Object.keys(rest).length > 0) tasks[name] = rest;
      }
      if (Object.keys(tasks).length > 0) parts[index] = tasks;
      const part = (base?.config.job_params[role] as Record<string, unknown> | undefined)?.[index];
      if (part) resources[index] = part;
    });
    if (Object.keys(parts).length > 0) task_params[role] = parts;
    if (Object.keys(resources).length > 0) job_params[role] = resources;
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
