// Reads models of Hutong's reference provider: what one party's part of a model says. It holds no rows of data.
import { isFields, type BarChart } from "./charts";

export interface TreeNode {
  /** Of a leaf. */
  weight?: number;
  /** Of an inner node: the role whose feature decides. */
  owner?: string;
  /** Both only of an own feature. */
  feature?: string;
  threshold?: number;
  /** The number by which the partner knows its rule. */
  split?: number;
  gain?: number;
  /** Rows whose value is at most the threshold go left. */
  left?: TreeNode;
  right?: TreeNode;
}

export type ModelPart =
  | { kind: "trees"; role: string; trees: TreeNode[]; importance: BarChart }
  | { kind: "splits"; splits: { feature: string; threshold: number }[]; importance: BarChart }
  | { kind: "linear"; weights: BarChart; intercept?: number };

type Fields = Record<string, unknown>;

const isNumber = (v: unknown): v is number => typeof v === "number" && Number.isFinite(v);

/** parseModel returns what a party's part of a model says, or undefined for a format that is not known. */
export function parseModel(model: unknown): ModelPart | undefined {
  if (!isFields(model)) return undefined;
  if (Array.isArray(model.trees)) return parseTrees(model);
  if (Array.isArray(model.splits)) return parseSplits(model.splits);
  if (Array.isArray(model.weights)) {
    const bars = model.weights.filter(isFields).flatMap((w) =>
      typeof w.feature === "string" && isNumber(w.weight) ? [{ name: w.feature, values: [w.weight] }] : []);
    if (bars.length < model.weights.length) return undefined;
    return {
      kind: "linear",
      weights: { kind: "bar", what: "weights", place: "", groups: ["weight"], bars },
      ...(isNumber(model.intercept) ? { intercept: model.intercept } : {}),
    };
  }
  return undefined;
}

function parseTrees(model: Fields): ModelPart | undefined {
  const role = String(model.role ?? "");
  const gains = new Map<string, number>();
  const splits = new Map<string, number>();

  // In a tree each node has one parent, so a node that is reached again is part of no tree.
  function node(nodes: Fields[], at: unknown, reached: Set<number>): TreeNode | undefined {
    const n = isNumber(at) && !reached.has(at) ? nodes[at] : undefined;
    if (!n) return undefined;
    reached.add(at as number);
    if (!isFields(n.rule)) return { weight: isNumber(n.weight) ? n.weight : 0 };
    const { owner, feature, threshold, split, gain } = n.rule;
    const left = node(nodes, n.left, reached);
    const right = node(nodes, n.right, reached);
    if (!left || !right) return undefined;
    const name = typeof feature === "string" ? feature : String(owner ?? "");
    splits.set(name, (splits.get(name) ?? 0) + 1);
    if (isNumber(gain)) gains.set(name, (gains.get(name) ?? 0) + gain);
    return {
      owner: String(owner ?? ""), left, right,
      ...(typeof feature === "string" ? { feature } : {}),
      ...(isNumber(threshold) ? { threshold } : {}),
      ...(isNumber(split) ? { split } : {}),
      ...(isNumber(gain) ? { gain } : {}),
    };
  }

  const trees: TreeNode[] = [];
  for (const tree of model.trees as unknown[]) {
    const root = isFields(tree) && Array.isArray(tree.nodes) ? node(tree.nodes as Fields[], 0, new Set()) : undefined;
    if (!root) return undefined;
    trees.push(root);
  }
  return { kind: "trees", role, trees, importance: gains.size > 0 ? importance("gain of splits", gains) : importance("splits", splits) };
}

function parseSplits(list: unknown[]): ModelPart | undefined {
  const splits = list.filter(isFields).flatMap((s) =>
    typeof s.feature === "string" && isNumber(s.threshold) ? [{ feature: s.feature, threshold: s.threshold }] : []);
  if (splits.length < list.length) return undefined;
  const counts = new Map<string, number>();
  for (const s of splits) counts.set(s.feature, (counts.get(s.feature) ?? 0) + 1);
  return { kind: "splits", splits, importance: importance("splits", counts) };
}

function importance(group: string, by: Map<string, number>): BarChart {
  const bars = [...by].map(([name, value]) => ({ name, values: [value] }));
  return { kind: "bar", what: "importance", place: "", groups: [group], bars };
}
