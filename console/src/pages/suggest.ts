// What the form of a job suggests to type: the columns of own datasets, and what earlier jobs used of partners' data.
import type { Dataset, Param, PartnerData } from "../api/party";
import { known as words, t } from "../i18n";
import { ownNode } from "../session";
import { choices, isObject } from "../ui/params";
import { day } from "../ui/time";
import type { Draft, TaskDraft } from "./draft";

/** Suggestion is a text that may be typed, and where it is from. */
export interface Suggestion {
  value: string;
  from: string;
}

/** jobOf names the job that a partner's dataset was used in, as far as a person recognizes it. */
export function jobOf(d: PartnerData): string {
  const flow = d.flow_id ? t("submit.ofFlow", { flow: d.flow_id }) : t("submit.ofJob", { job: d.job_id });
  const ended = d.outcome && d.outcome !== "SUCCESS" ? words("state", d.outcome) : "";
  return [flow, day(d.created_at), ended].filter(Boolean).join(", ");
}

/** datasetsOf returns what earlier jobs named as datasets of a partner, newest first. */
export function datasetsOf(partnerData: PartnerData[], node: string): PartnerData[] {
  return partnerData.filter((d) => d.node_id === node);
}

/** namesColumn returns whether a typed parameter names columns, as far as its description says so. */
export function namesColumn(p: Param): boolean {
  if (choices(p) || isObject(p)) return false;
  return /\bcolumns?\b|列名|数据列|特征列|字段/i.test([p.name, p.title, p.description, p.groupTag].join(" "));
}

/**
 * columns returns what may be typed for a parameter of a task that names columns: columns of the own datasets that the
 * job reads, and what earlier jobs gave the component at the partners. nodes are the parties whose parts get it.
 */
export function columns(p: Param, task: TaskDraft, nodes: string[], draft: Draft, known: Sources): Suggestion[] {
  if (!namesColumn(p)) return [];
  const found = new Map<string, string[]>();
  const add = (value: string, from: string) => found.set(value, [...new Set([...(found.get(value) ?? []), from])]);
  if (nodes.includes(ownNode.value)) {
    for (const d of known.datasets) {
      const name = `${d.namespace}#${d.name}`;
      if (Object.values(draft.datasets).includes(name)) for (const c of d.columns) add(c.name, name);
    }
  }
  for (const d of known.partnerData) {
    if (!nodes.includes(d.node_id)) continue;
    for (const used of d.parameters) {
      if (used.provider === task.provider && used.component === task.component && used.name === p.name) {
        add(used.value, `${d.node_id}, ${jobOf(d)}`);
      }
    }
  }
  return [...found].map(([value, from]) => ({ value, from: from.slice(0, shownSources).join("; ") }));
}

// A text that many jobs used needs not all of them beside it.
const shownSources = 2;

interface Sources {
  datasets: Dataset[];
  partnerData: PartnerData[];
}
