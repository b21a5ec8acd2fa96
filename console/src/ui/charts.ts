// Finds what can be drawn in a report: curves, bars, matrices, tables and numbers. The format of a report is up to
// its vendor. Hutong's reference provider writes an object with a curve, FATE a list of metrics.

export type Point = [number, number];

export interface Series {
  name: string;
  points: Point[];
}

export type CurveKind = "roc" | "ks" | "pr" | "lift" | "gain" | "curve";

export interface LineChart {
  kind: "line";
  what: CurveKind;
  /** What tells the chart from others of its kind, such as the dataset of an evaluation. */
  place: string;
  x: string;
  series: Series[];
  /** Both axes reach from 0 to 1. */
  unit?: boolean;
  /** What a model without knowledge would reach: the diagonal, or this value at each x. */
  chance?: "diagonal" | number;
  /** The value that the curve stands for: AUC or KS. */
  value?: number;
  /** Where two curves are furthest apart. */
  mark?: { x: number; from: number; to: number };
}

export interface BarChart {
  kind: "bar";
  what: "importance" | "weights" | "psi" | "counts";
  place: string;
  /** The names of the values of each bar. */
  groups: string[];
  bars: { name: string; values: number[] }[];
}

/** Confusion counts the rows that score at least a threshold, and those that do not, by label. */
export interface Confusion {
  threshold: number;
  tp: number;
  fp: number;
  fn: number;
  tn: number;
}

export interface MatrixChart {
  kind: "matrix";
  place: string;
  /** By descending threshold. */
  steps: Confusion[];
}

export interface TableChart {
  kind: "table";
  place: string;
  columns: string[];
  rows: (string | number | boolean | null)[][];
}

export type Chart = LineChart | BarChart | MatrixChart | TableChart;

export interface Parsed {
  numbers: [string, number][];
  charts: Chart[];
}

type Fields = Record<string, unknown>;
type Columns = Record<string, number[]>;

export function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

const isNumber = (v: unknown): v is number => typeof v === "number" && Number.isFinite(v);

/** parseReport finds the numbers and charts in a report. */
export function parseReport(report: unknown): Parsed {
  const parsed: Parsed = { numbers: [], charts: [] };
  if (Array.isArray(report)) {
    if (report.every((m) => isFields(m) && typeof m.name === "string" && "data" in m)) {
      parseFATE(report as Fields[], parsed);
    } else if (report.length > 0 && report.every(isFields)) {
      parsed.charts.push(...listCharts("", report));
    }
    return parsed;
  }
  if (isFields(report)) parseObject(report, parsed);
  return parsed;
}

/** parseObject reads a report in the form of the reference provider's, or any object with numbers and lists. */
function parseObject(report: Fields, parsed: Parsed): void {
  const metric = typeof report.metric === "string" ? report.metric : "";
  for (const [name, value] of Object.entries(report)) {
    if (isNumber(value)) parsed.numbers.push([name === "value" && metric ? metric : name, value]);
  }
  for (const [name, value] of Object.entries(report)) {
    if (!Array.isArray(value) || value.length === 0) continue;
    const place = name === "data" || name === "curve" ? "" : name;
    if (value.every(isFields)) {
      const known = rateCharts(place, columnsOf(value), {
        auc: metric === "auc" ? report.value : report.auc,
        ks: metric === "ks" ? report.value : report.ks,
        ones: report.ones,
        zeros: report.zeros,
      });
      parsed.charts.push(...(known.length > 0 ? known : listCharts(place, value)));
    } else if (value.length > 1 && value.every(isNumber)) {
      const points = value.map((y, i): Point => [i + 1, y]);
      parsed.charts.push({ kind: "line", what: "curve", place: "", x: "step", series: [{ name, points }] });
    }
  }
  const counts = Object.entries(report).filter(([n, v]) => /_count$/.test(n) && isNumber(v)) as [string, number][];
  if (counts.length > 1) {
    const bars = counts.map(([name, value]) => ({ name: words(name.replace(/_count$/, "")), values: [value] }));
    parsed.charts.push({ kind: "bar", what: "counts", place: "", groups: [""], bars });
  }
}

/** columnsOf returns the numbers of a list of objects, by field. A field that is no number everywhere is left out. */
function columnsOf(list: Fields[]): Columns {
  const columns: Columns = {};
  for (const name of Object.keys(list[0] ?? {})) {
    const values = list.map((p) => p[name]);
    if (values.every(isNumber)) columns[name] = values;
  }
  return columns;
}

const abscissae = ["step", "round", "tree", "epoch", "iteration", "threshold", "cuts", "fpr", "recall", "x"];

/** listCharts returns a curve for the numbers of a list of objects, or bars or a table of names and numbers. */
function listCharts(place: string, list: Fields[]): Chart[] {
  const columns = columnsOf(list);
  const numbers = Object.keys(columns);
  const texts = Object.keys(list[0]!).filter((n) => list.every((p) => typeof p[n] === "string"));
  if (texts.length === 1 && numbers.length === 1) {
    const bars = list.map((p) => ({ name: String(p[texts[0]!]), values: [Number(p[numbers[0]!])] }));
    const what = /importance|gain|split/.test(`${place} ${numbers[0]!}`) ? "importance" : "counts";
    return [{ kind: "bar", what, place, groups: [words(numbers[0]!)], bars }];
  }
  if (texts.length > 0 || numbers.length < 2) {
    const names = [...new Set(list.flatMap((p) => Object.keys(p)))];
    return names.length > 0 ? [table(place, names, list.map((p) => names.map((n) => p[n])))] : [];
  }
  const x = abscissae.find((n) => numbers.includes(n)) ?? numbers[0]!;
  const series = numbers.filter((n) => n !== x).map((name) => ({ name: words(name), points: zip(columns[x]!, columns[name]!) }));
  return [{ kind: "line", what: "curve", place, x: words(x), series }];
}

function table(place: string, columns: string[], rows: unknown[][]): TableChart {
  const cell = (v: unknown) =>
    v === null || v === undefined ? null : typeof v === "object" ? JSON.stringify(v) : (v as string | number | boolean);
  return { kind: "table", place, columns, rows: rows.map((r) => r.map(cell)) };
}

/** rateCharts draws the rates by threshold of a binary classifier: ROC, KS and, with shares or counts, the others. */
function rateCharts(place: string, c: Columns, known: Record<"auc" | "ks" | "ones" | "zeros", unknown>): Chart[] {
  const { tpr, fpr } = c;
  if (!tpr || !fpr || tpr.length < 2) return [];
  const ends = (points: Point[], first: Point, last?: Point) => {
    const out = [...points];
    if (out[0]![0] !== first[0] || out[0]![1] !== first[1]) out.unshift(first);
    const end = out.at(-1)!;
    if (last && (end[0] !== last[0] || end[1] !== last[1])) out.push(last);
    return out;
  };
  const share = c.share ?? c.cuts;
  const charts: Chart[] = [];
  const roc = ends(zip(fpr, tpr), [0, 0], [1, 1]);
  charts.push({
    kind: "line", what: "roc", place, x: "false positive rate", unit: true, chance: "diagonal",
    series: [{ name: "true positive rate", points: roc }], value: isNumber(known.auc) ? known.auc : area(roc),
  });
  if (share && share[0]! > 0) {
    charts.push(ksChart(place, "share of rows", [0, ...share], [0, ...tpr], [0, ...fpr], known.ks));
  } else {
    charts.push(ksChart(place, share ? "share of rows" : "threshold", share ?? c.threshold ?? fpr, tpr, fpr, known.ks));
  }
  if (c.precision) {
    const points = zip(tpr, c.precision);
    charts.push({
      kind: "line", what: "pr", place, x: "recall", unit: true,
      series: [{ name: "precision", points: ends(points, [0, c.precision[0]!]) }],
      ...(isNumber(known.ones) && isNumber(known.zeros) ? { chance: known.ones / (known.ones + known.zeros) } : {}),
    });
  }
  if (c.share) {
    charts.push(gainChart(place, [{ name: "gain", points: ends(zip(c.share, tpr), [0, 0], [1, 1]) }]));
    const lift = c.share.map((s, i): Point => [s, tpr[i]! / s]).filter(([s]) => s > 0);
    charts.push(liftChart(place, [{ name: "lift", points: lift }]));
  }
  if (isNumber(known.ones) && isNumber(known.zeros) && c.threshold) {
    const { ones, zeros } = known as { ones: number; zeros: number };
    const steps = c.threshold.map((threshold, i) => {
      const tp = Math.round(tpr[i]! * ones);
      const fp = Math.round(fpr[i]! * zeros);
      return { threshold, tp, fp, fn: ones - tp, tn: zeros - fp };
    });
    charts.push({ kind: "matrix", place, steps });
  }
  return charts;
}

function ksChart(place: string, xName: string, x: number[], tpr: number[], fpr: number[], value: unknown): LineChart {
  let at = 0;
  for (let i = 1; i < tpr.length; i++) if (tpr[i]! - fpr[i]! > tpr[at]! - fpr[at]!) at = i;
  return {
    kind: "line", what: "ks", place, x: xName, unit: x.every((v) => v >= 0 && v <= 1),
    series: [
      { name: "true positive rate", points: zip(x, tpr) },
      { name: "false positive rate", points: zip(x, fpr) },
    ],
    value: isNumber(value) ? value : tpr[at]! - fpr[at]!,
    mark: { x: x[at]!, from: fpr[at]!, to: tpr[at]! },
  };
}

const gainChart = (place: string, series: Series[]): LineChart => ({
  kind: "line", what: "gain", place, x: "share of rows", unit: true, chance: "diagonal", series });

const liftChart = (place: string, series: Series[]): LineChart => ({
  kind: "line", what: "lift", place, x: "share of rows", chance: 1, series });

function zip(xs: number[], ys: number[]): Point[] {
  return xs.slice(0, ys.length).map((x, i): Point => [x, ys[i]!]);
}

/** area returns the area below a curve. */
function area(points: Point[]): number {
  let sum = 0;
  for (let i = 1; i < points.length; i++) {
    sum += ((points[i]![0] - points[i - 1]![0]) * (points[i]![1] + points[i - 1]![1])) / 2;
  }
  return Math.abs(sum);
}

const words = (name: string) => name.replace(/_/g, " ");

/** parseFATE reads the metrics of FATE's components. */
function parseFATE(metrics: Fields[], parsed: Parsed): void {
  // The curves of an evaluation are metrics of their own, which belong together by their groups.
  const evaluations = new Map<string, Map<string, Point[]>>();
  for (const m of metrics) {
    const groups = Array.isArray(m.groups) ? m.groups.filter(isFields) : [];
    const place = groups.map((g) => `${g.name} ${g.index ?? ""}`.trim()).filter(Boolean).join(" ");
    const name = String(m.name);
    const label = [words(name), place].filter(Boolean).join(" ");
    const { data } = m;
    if (isFields(data)) {
      parseNested(name === "evaluation" ? place : label, data, 1, parsed);
    } else if (Array.isArray(data) && data.length > 0 && data.every(isPair)) {
      const of = evaluations.get(place) ?? new Map<string, Point[]>();
      evaluations.set(place, of.set(name.toLowerCase(), data as Point[]));
    } else if (Array.isArray(data)) {
      const points = data.filter(isFields).flatMap((p): Point[] => {
        const value = Array.isArray(p.metric) ? p.metric[0] : p.metric;
        return isNumber(p.step) && isNumber(value) ? [[p.step, value]] : [];
      });
      if (points.length === 0) continue;
      const x = words(String(m.step_axis ?? "step"));
      parsed.charts.push({ kind: "line", what: "curve", place: "", x, series: [{ name: label, points }] });
    }
  }
  for (const [place, curves] of evaluations) parsed.charts.push(...pairCharts(place, curves));
}

const isPair = (p: unknown): p is Point => Array.isArray(p) && p.length === 2 && p.every(isNumber);

/** pairCharts draws the curves of an evaluation that has each curve as pairs. */
function pairCharts(place: string, curves: Map<string, Point[]>): Chart[] {
  const charts: Chart[] = [];
  const take = (...names: string[]) => {
    const found = names.map((n) => curves.get(n));
    if (found.some((c) => !c)) return undefined;
    for (const n of names) curves.delete(n);
    return found as Point[][];
  };
  const ys = (c: Point[]) => c.map((p) => p[1]);
  const roc = take("roc")?.[0];
  if (roc) {
    charts.push({
      kind: "line", what: "roc", place, x: "false positive rate", unit: true, chance: "diagonal",
      series: [{ name: "true positive rate", points: roc }], value: area(roc),
    });
  }
  const ks = take("ks_tpr", "ks_fpr");
  if (ks) {
    const [tpr, fpr] = ks as [Point[], Point[]];
    charts.push(ksChart(place, "share of rows", tpr.map((p) => p[0]), ys(tpr), ys(fpr), undefined));
  }
  const rates = take("precision", "recall");
  if (rates) {
    const [precision, recall] = rates as [Point[], Point[]];
    const points = zip(ys(recall), ys(precision)).sort((a, b) => a[0] - b[0]);
    charts.push({ kind: "line", what: "pr", place, x: "recall", unit: true, series: [{ name: "precision", points }] });
  }
  const gain = take("gain")?.[0];
  if (gain) charts.push(gainChart(place, [{ name: "gain", points: gain }]));
  const lift = take("lift")?.[0];
  if (lift) charts.push(liftChart(place, [{ name: "lift", points: lift }]));
  for (const [name, points] of curves) {
    charts.push({ kind: "line", what: "curve", place, x: "x", series: [{ name: words(name), points }] });
  }
  return charts;
}

/**
 * parseNested reads numbers, and the results of FATE's evaluation: for each task and each part of its data a list of
 * {metric, val}, where val is a number or a table of columns.
 */
function parseNested(place: string, data: Fields, depth: number, parsed: Parsed): void {
  for (const [key, value] of Object.entries(data)) {
    const inner = [place, words(key)].filter(Boolean).join(" ");
    if (isNumber(value)) parsed.numbers.push([inner, value]);
    else if (isFields(value) && depth < 3) parseNested(inner, value, depth + 1, parsed);
    else if (Array.isArray(value) && value.length > 0) {
      const results = value.flat().filter((r): r is Fields => isFields(r) && typeof r.metric === "string" && "val" in r);
      if (results.length > 0) parseEvaluation(inner, results, parsed);
      else if (value.every(isFields)) parsed.charts.push(...listCharts(inner, value));
    }
  }
}

function parseEvaluation(place: string, results: Fields[], parsed: Parsed): void {
  const values = new Map<string, number>();
  const tables = new Map<string, Columns>();
  const raw = new Map<string, Fields>();
  for (const r of results) {
    const name = String(r.metric);
    if (isNumber(r.val)) {
      values.set(name, r.val);
      parsed.numbers.push([`${place} ${words(name)}`, r.val]);
    } else if (isFields(r.val)) {
      raw.set(name, r.val);
      const columns = Object.entries(r.val).filter(([, v]) => Array.isArray(v) && v.every(isNumber));
      tables.set(name, Object.fromEntries(columns) as Columns);
    }
  }
  const rates = tables.get("ks_table");
  const charts = parsed.charts;
  if (rates) {
    charts.push(...rateCharts(place, rates, { auc: values.get("auc"), ks: values.get("ks"), ones: undefined, zeros: undefined }));
  }
  const precision = tables.get("biclass_precision_table");
  const recall = tables.get("biclass_recall_table");
  if (precision?.p && recall?.r) {
    const points = zip(recall.r, precision.p);
    charts.push({ kind: "line", what: "pr", place, x: "recall", unit: true, series: [{ name: "precision", points }] });
  }
  for (const [name, chart] of [["gain", gainChart], ["lift", liftChart]] as const) {
    const series = byLabel(name, raw.get(name));
    if (series.length > 0) charts.push(chart(place, series));
  }
  const confusion = tables.get("confusion_matrix");
  if (confusion?.threshold && confusion.tp && confusion.fp && confusion.fn && confusion.tn) {
    const { threshold, tp, fp, fn, tn } = confusion;
    const steps = threshold.map((t, i) => ({ threshold: t, tp: tp[i]!, fp: fp[i]!, fn: fn[i]!, tn: tn[i]! }));
    charts.push({ kind: "matrix", place, steps });
  }
  for (const [name, column] of [["biclass_accuracy_table", "accuracy"], ["fscore_table", "f_score"]] as const) {
    const c = tables.get(name);
    if (!c?.threshold || !c[column]) continue;
    const points = zip(c.threshold, c[column]).sort((a, b) => a[0] - b[0]);
    charts.push({ kind: "line", what: "curve", place, x: "threshold", series: [{ name: words(column), points }] });
  }
  const psi = tables.get("psi_table");
  if (psi?.expected_percentage && psi.actual_percentage) {
    const names = Array.isArray(raw.get("psi_table")!.interval) ? (raw.get("psi_table")!.interval as unknown[]) : [];
    const bars = psi.expected_percentage.map((v, i) => ({
      name: typeof names[i] === "string" ? names[i] : String(i + 1), values: [v, psi.actual_percentage![i]!] }));
    charts.push({ kind: "bar", what: "psi", place, groups: ["expected", "actual"], bars });
  }
  const drawn = ["ks_table", "biclass_precision_table", "biclass_recall_table", "gain", "lift", "confusion_matrix",
    "biclass_accuracy_table", "fscore_table", "psi_table"];
  for (const [name, columns] of raw) {
    if (drawn.includes(name)) continue;
    const names = Object.keys(columns).filter((n) => Array.isArray(columns[n]));
    const length = Math.max(0, ...names.map((n) => (columns[n] as unknown[]).length));
    if (length === 0) continue;
    const rows = Array.from({ length }, (_, i) => names.map((n) => (columns[n] as unknown[])[i]));
    charts.push(table(`${place} ${words(name)}`, names, rows));
  }
}

/** byLabel returns the curves of FATE's gain or lift, which has a pair for the labels 0 and 1 at each point. */
function byLabel(name: "gain" | "lift", columns: Fields | undefined): Series[] {
  const x = columns?.[`${name}x`];
  const y = columns?.[`${name}y`];
  if (!Array.isArray(x) || !Array.isArray(y)) return [];
  return ["label 0", "label 1"].map((label, k) => ({
    name: label,
    points: x
      .flatMap((v, i): Point[] => {
        const [px, py] = [(v as unknown[])?.[k], (y[i] as unknown[] | undefined)?.[k]];
        // Where no row has a label, FATE writes the largest number that there is.
        return isNumber(px) && isNumber(py) && py < 1e9 ? [[px, py]] : [];
      })
      .sort((a, b) => a[0] - b[0]),
  })).filter((s) => s.points.length > 0);
}

export function format(n: number): string {
  if (Number.isInteger(n) && Math.abs(n) < 1e15) return String(n);
  const text = n.toPrecision(5);
  return text.includes("e") ? text : text.replace(/\.?0+$/, "");
}

/** csv returns rows as comma-separated values (RFC 4180). A text that a spreadsheet would run is quoted as a text. */
export function csv(rows: (string | number | boolean | null)[][]): string {
  const cell = (v: string | number | boolean | null) => {
    if (v === null) return "";
    if (typeof v !== "string") return String(v);
    const text = /^[=+\-@\t\r]/.test(v) ? `'${v}` : v;
    return /[",\r\n]/.test(text) ? `"${text.replace(/"/g, '""')}"` : text;
  };
  return rows.map((r) => r.map(cell).join(",") + "\r\n").join("");
}

/**
 * thin keeps the points that a plot of so many columns of pixels can show: the first and last of each column, and its
 * lowest and highest. The order is kept. A curve that goes back in x, as an ROC curve never does, stays as it is.
 */
export function thin(points: Point[], x0: number, x1: number, columns: number): Point[] {
  if (points.length <= columns * 4) return points;
  const out: Point[] = [];
  let column = -1;
  let first = 0;
  const flush = (end: number) => {
    let low = first;
    let high = first;
    for (let i = first; i < end; i++) {
      if (points[i]![1] < points[low]![1]) low = i;
      if (points[i]![1] > points[high]![1]) high = i;
    }
    for (const i of [...new Set([first, low, high, end - 1])].sort((a, b) => a - b)) out.push(points[i]!);
  };
  for (let i = 0; i < points.length; i++) {
    const at = Math.floor(((points[i]![0] - x0) / (x1 - x0)) * columns);
    if (at === column) continue;
    if (i > 0) flush(i);
    column = at;
    first = i;
  }
  flush(points.length);
  return out;
}
