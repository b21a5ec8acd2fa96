// Draws charts as SVG: curves, bars and matrices, each with its values as a table and as CSV.
import type { ComponentChildren } from "preact";
import { useMemo, useState } from "preact/hooks";
import { saveBlob } from "../api/client";
import { known, t } from "../i18n";
import { Details } from "./basic";
import {
  csv, format, thin, type BarChart, type Chart, type Confusion, type LineChart, type MatrixChart, type Point, type TableChart,
} from "./charts";

/** chartTitle names a chart, and what it is of. */
export function chartTitle(c: Chart): string {
  const name = chartName(c);
  return [name, c.place].filter(Boolean).join(": ");
}

function chartName(c: Chart): string {
  if (c.kind === "matrix") return t("plot.confusion");
  if (c.kind === "table") return c.place ? "" : t("plot.table");
  if (c.what !== "curve") return t(`plot.${c.what}`);
  return t("report.by", { name: c.series.map((s) => known("axis", s.name)).join(", "), x: known("axis", c.x) });
}

/** ChartView draws a chart. file is the beginning of the name of its CSV file. */
export function ChartView({ chart, file }: { chart: Chart; file: string }) {
  switch (chart.kind) {
    case "line":
      return <LinePlot chart={chart} file={file} />;
    case "bar":
      return <BarPlot chart={chart} file={file} />;
    case "matrix":
      return <Matrix chart={chart} file={file} />;
    case "table":
      return <TablePlot chart={chart} file={file} />;
  }
}

type Cell = string | number | boolean | null;

function Frame(props: { title: string; file: string; rows: () => Cell[][]; children: ComponentChildren; wide?: boolean }) {
  const name = `${props.file}-${props.title}`.replace(/[^\p{L}\p{N}._-]+/gu, "-");
  return (
    <figure class={props.wide ? "plot plot-wide" : "plot"}>
      <div class="plot-head">
        <figcaption>{props.title}</figcaption>
        <button
          type="button"
          class="small"
          aria-label={t("plot.csvOf", { name: props.title })}
          onClick={() => saveBlob(new Blob([csv(props.rows())], { type: "text/csv" }), `${name}.csv`)}
        >
          CSV
        </button>
      </div>
      {props.children}
    </figure>
  );
}

// More rows of a table are in its CSV only.
const mostRows = 500;

/** Rows shows a table of values; the first row has the names. */
function Rows({ label, rows }: { label: string; rows: Cell[][] }) {
  const [head, ...body] = rows;
  const numeric = head!.map((_, i) => body.every((r) => r[i] === null || typeof r[i] === "number"));
  return (
    <>
      <div class="scroll points" tabIndex={0} role="region" aria-label={label}>
        <table>
          <thead>
            <tr>
              {head!.map((name, i) => (
                <th key={i} scope="col" class={numeric[i] ? "number" : undefined}>{String(name)}</th>
              ))}
            </tr>
          </thead>
          <tbody>
            {body.slice(0, mostRows).map((r, i) => (
              <tr key={i}>
                {r.map((v, k) => (
                  <td key={k} class={numeric[k] ? "number" : undefined} translate={typeof v === "string" ? false : undefined}>
                    {typeof v === "number" ? format(v) : String(v ?? "")}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {body.length > mostRows && <p class="muted">{t("plot.rowsShown", { n: mostRows, all: body.length })}</p>}
    </>
  );
}

const w = 380;
const h = 236;
const left = 52;
const right = 14;
const top = 10;
const bottom = 40;
const columns = w - left - right;

/** LinePlot draws curves. A pointer over it, or the arrow keys, show the values at one place. */
function LinePlot({ chart, file }: { chart: LineChart; file: string }) {
  const [at, setAt] = useState<number>();
  const title = chartTitle(chart);
  const xName = known("axis", chart.x);
  const { x0, x1, y0, y1, xs, lines } = useMemo(() => {
    const all = chart.series.flatMap((s) => s.points);
    const [x0, x1] = chart.unit ? [0, 1] : bounds(all.map((p) => p[0]));
    const ys = all.map((p) => p[1]);
    if (typeof chart.chance === "number") ys.push(chart.chance);
    if (chart.what === "lift") ys.push(0);
    const [y0, y1] = chart.unit ? [0, 1] : bounds(ys);
    const xs = [...new Set(all.map((p) => p[0]))].sort((a, b) => a - b);
    const px = scaleX(x0, x1);
    const py = scaleY(y0, y1);
    const lines = chart.series.map((s) => {
      const points = thin(s.points, x0, x1, columns);
      return { d: pathOf(points, px, py), dots: points.length <= 40 ? points : [] };
    });
    return { x0, x1, y0, y1, xs, lines };
  }, [chart]);
  const px = scaleX(x0, x1);
  const py = scaleY(y0, y1);
  const cursor = at === undefined ? undefined : Math.min(at, xs.length - 1);
  const here = cursor === undefined ? undefined : chart.series.map((s) => nearest(s.points, xs[cursor]!));
  const readout =
    here && `${xName} ${format(xs[cursor!]!)}: ${here.map((p, i) => `${seriesName(chart, i)} ${format(p[1])}`).join(", ")}`;

  function point(e: PointerEvent & { currentTarget: HTMLElement }) {
    const box = e.currentTarget.getBoundingClientRect();
    const x = x0 + (((e.clientX - box.left) / box.width) * (x1 - x0));
    setAt(indexOf(xs, x));
  }
  function key(e: KeyboardEvent) {
    const last = xs.length - 1;
    const from = cursor ?? -1;
    const to = { ArrowRight: from + 1, ArrowUp: from + 1, ArrowLeft: from - 1, ArrowDown: from - 1, PageUp: from + 10,
      PageDown: from - 10, Home: 0, End: last }[e.key];
    if (e.key === "Escape") setAt(undefined);
    if (to === undefined) return;
    e.preventDefault();
    setAt(Math.max(0, Math.min(last, to)));
  }
  return (
    <Frame title={title} file={file} rows={() => lineRows(chart)}>
      <div class="plot-box">
        <svg viewBox={`0 0 ${w} ${h}`} role="img" aria-label={title}>
          {ticks(y0, y1).map((y) => (
            <g key={`y${y}`}>
              <path class="grid" d={`M${left} ${py(y)}H${w - right}`} />
              <text x={left - 6} y={py(y) + 4} text-anchor="end">{format(y)}</text>
            </g>
          ))}
          {ticks(x0, x1, chart.series[0]!.points.every((p) => Number.isInteger(p[0]))).map((x) => (
            <g key={`x${x}`}>
              <path class="grid" d={`M${px(x)} ${h - bottom}v4`} />
              <text x={px(x)} y={h - bottom + 16} text-anchor="middle">{format(x)}</text>
            </g>
          ))}
          <path class="axis" d={`M${left} ${top}V${h - bottom}H${w - right}`} />
          <text x={(left + w - right) / 2} y={h - 6} text-anchor="middle">{xName}</text>
          {chart.chance === "diagonal" && <path class="chance" d={`M${px(x0)} ${py(y0)}L${px(x1)} ${py(y1)}`} />}
          {typeof chart.chance === "number" && <path class="chance" d={`M${px(x0)} ${py(chart.chance)}H${px(x1)}`} />}
          {lines.map((l, i) => (
            <g key={i} class={`series series-${i % 5}`}>
              <path class="curve" d={l.d} />
              {l.dots.map(([x, y], k) => <circle key={k} class="dot" cx={px(x)} cy={py(y)} r="2.4" />)}
            </g>
          ))}
          {chart.mark && (
            <g class="mark-ks">
              <path d={`M${px(chart.mark.x)} ${py(chart.mark.from)}V${py(chart.mark.to)}`} />
              <circle cx={px(chart.mark.x)} cy={py(chart.mark.from)} r="3.2" />
              <circle cx={px(chart.mark.x)} cy={py(chart.mark.to)} r="3.2" />
            </g>
          )}
          {here && (
            <g class="cursor">
              <path d={`M${px(xs[cursor!]!)} ${top}V${h - bottom}`} />
              {here.map(([x, y], i) => <circle key={i} cx={px(x)} cy={py(y)} r="3.6" />)}
            </g>
          )}
        </svg>
        <div
          class="plot-cursor"
          role="slider"
          tabIndex={0}
          aria-label={t("plot.values", { name: title })}
          aria-valuemin={0}
          aria-valuemax={xs.length - 1}
          aria-valuenow={cursor ?? 0}
          aria-valuetext={readout ?? t("plot.noValue")}
          style={{
            left: `${(left / w) * 100}%`, right: `${(right / w) * 100}%`,
            top: `${(top / h) * 100}%`, bottom: `${(bottom / h) * 100}%`,
          }}
          onPointerMove={point}
          onPointerDown={point}
          onPointerLeave={() => setAt(undefined)}
          onKeyDown={key}
          onBlur={() => setAt(undefined)}
        />
      </div>
      <p class="readout number">{readout ?? ""}</p>
      <Legend chart={chart} />
      <Details summary={t("report.table", { n: longest(chart) })}>
        {() => <Rows label={t("plot.tableOf", { name: title })} rows={lineRows(chart)} />}
      </Details>
    </Frame>
  );
}

const longest = (c: LineChart) => Math.max(...c.series.map((s) => s.points.length));

function seriesName(chart: LineChart, i: number): string {
  return known("axis", chart.series[i]!.name);
}

function Legend({ chart }: { chart: LineChart }) {
  const values = { roc: "AUC", ks: "KS" } as Record<string, string>;
  const value = chart.value === undefined ? "" : `${values[chart.what] ?? ""} ${chart.value.toFixed(4)}`;
  return (
    <ul class="legend">
      {chart.series.map((_, i) => (
        <li key={i} class={`series series-${i % 5}`}>
          <svg width="26" height="10" viewBox="0 0 26 10" aria-hidden="true">
            <path class="curve" d="M1 5H25" />
          </svg>
          {seriesName(chart, i)}
          {chart.what === "roc" && value && <strong class="number">{value}</strong>}
        </li>
      ))}
      {chart.mark && (
        <li>
          <svg width="26" height="10" viewBox="0 0 26 10" aria-hidden="true" class="mark-ks">
            <path d="M13 0V10" />
            <circle cx="13" cy="5" r="3" />
          </svg>
          <strong class="number">{value}</strong> {t("plot.ksAt", { x: known("axis", chart.x), v: format(chart.mark.x) })}
        </li>
      )}
      {chart.chance !== undefined && (
        <li>
          <svg width="26" height="10" viewBox="0 0 26 10" aria-hidden="true">
            <path class="chance" d="M1 5H25" />
          </svg>
          {t("plot.chance")}
        </li>
      )}
    </ul>
  );
}

function lineRows(chart: LineChart): Cell[][] {
  const names = chart.series.map((_, i) => seriesName(chart, i));
  const x = known("axis", chart.x);
  const first = chart.series[0]!.points;
  const same = chart.series.every((s) => s.points.length === first.length && s.points.every((p, i) => p[0] === first[i]![0]));
  if (same) return [[x, ...names], ...first.map((p, i): Cell[] => [p[0], ...chart.series.map((s) => s.points[i]![1])])];
  return [
    [t("plot.series"), x, t("plot.value")],
    ...chart.series.flatMap((s, i) => s.points.map((p): Cell[] => [names[i]!, p[0], p[1]])),
  ];
}

const scaleX = (x0: number, x1: number) => (x: number) => left + ((x - x0) / (x1 - x0)) * columns;
const scaleY = (y0: number, y1: number) => (y: number) => h - bottom - ((y - y0) / (y1 - y0)) * (h - bottom - top);

function pathOf(points: Point[], px: (x: number) => number, py: (y: number) => number): string {
  let d = "";
  for (const [x, y] of points) d += `${d ? "L" : "M"}${px(x).toFixed(1)} ${py(y).toFixed(1)}`;
  return d;
}

/** indexOf returns the position of the number that is nearest to x in a sorted list. */
function indexOf(sorted: number[], x: number): number {
  let low = 0;
  let high = sorted.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]! < x) low = middle + 1;
    else high = middle;
  }
  return low > 0 && x - sorted[low - 1]! < sorted[low]! - x ? low - 1 : low;
}

/** nearest returns the point that is nearest to x; of several, the highest. */
function nearest(points: Point[], x: number): Point {
  let best = points[0]!;
  for (const p of points) {
    const closer = Math.abs(p[0] - x) - Math.abs(best[0] - x);
    if (closer < 0 || (closer === 0 && p[1] > best[1])) best = p;
  }
  return best;
}

function bounds(list: number[]): [number, number] {
  let low = Infinity;
  let high = -Infinity;
  for (const n of list) {
    low = Math.min(low, n);
    high = Math.max(high, n);
  }
  return low === high ? [low - 0.5, high + 0.5] : [low, high];
}

/** ticks returns three to six round numbers within bounds. */
function ticks(low: number, high: number, whole = false): number[] {
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999)!;
  if (whole) step = Math.max(1, Math.ceil(step));
  const out: number[] = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) out.push(Number((i * step).toPrecision(12)));
  return out;
}

// The first bars are enough to see what matters.
const firstBars = 20;

/** BarPlot draws bars in a table, so that the values are there without another one. */
export function BarPlot({ chart, file, note }: { chart: BarChart; file: string; note?: ComponentChildren }) {
  const [all, setAll] = useState(false);
  const title = chartTitle(chart);
  const ordered = useMemo(() => {
    if (chart.what !== "importance" && chart.what !== "weights") return chart.bars;
    return [...chart.bars].sort((a, b) => Math.abs(b.values[0]!) - Math.abs(a.values[0]!));
  }, [chart]);
  const values = chart.bars.flatMap((b) => b.values);
  const low = Math.min(0, ...values);
  const span = Math.max(0, ...values) - low || 1;
  const shown = all ? ordered : ordered.slice(0, firstBars);
  const names = chart.groups.map((g) => known("axis", g));
  return (
    <Frame title={title} file={file} rows={() => [[t("plot.name"), ...names.map((n) => n || t("plot.value"))], ...ordered.map((b) => [b.name, ...b.values])]}>
      {note}
      <table class="bars">
        <caption class="sr">{title}</caption>
        <thead class={chart.groups.length > 1 ? undefined : "sr-head"}>
          <tr>
            <th scope="col">{t("plot.name")}</th>
            <td />
            {names.map((n, i) => (
              <th key={i} scope="col" class={`number series-${i}`}>
                {names.length > 1 && <span class="swatch" aria-hidden="true" />}
                {n || t("plot.value")}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {shown.map((b, i) => (
            <tr key={i}>
              <th scope="row" translate={false}>{b.name}</th>
              <td class="bar-track">
                <svg viewBox={`0 0 100 ${8 * b.values.length}`} preserveAspectRatio="none" aria-hidden="true" style={{ height: `${8 * b.values.length}px` }}>
                  {b.values.map((v, k) => (
                    <rect
                      key={k}
                      class={`series-${k}${v < 0 ? " below" : ""}`}
                      x={((Math.min(v, 0) - low) / span) * 100}
                      width={(Math.abs(v) / span) * 100}
                      y={8 * k + 0.5}
                      height="7"
                    />
                  ))}
                  {low < 0 && <path class="axis" d={`M${(-low / span) * 100} 0V${8 * b.values.length}`} />}
                </svg>
              </td>
              {b.values.map((v, k) => <td key={k} class="number">{format(v)}</td>)}
            </tr>
          ))}
        </tbody>
      </table>
      {ordered.length > firstBars && (
        <button type="button" class="small" aria-expanded={all} onClick={() => setAll(!all)}>
          {all ? t("plot.fewer") : t("plot.all", { n: ordered.length })}
        </button>
      )}
    </Frame>
  );
}

/** Matrix shows a confusion matrix at a threshold that can be chosen. */
function Matrix({ chart, file }: { chart: MatrixChart; file: string }) {
  const steps = chart.steps;
  // Most components decide at 0.5. The rows that score that much are those of the last threshold that is not lower.
  const [at, setAt] = useState(() => Math.max(0, steps.findIndex((s) => s.threshold < 0.5) - 1));
  const s: Confusion = steps[Math.min(at, steps.length - 1)]!;
  const title = chartTitle(chart);
  const all = s.tp + s.fp + s.fn + s.tn || 1;
  const cell = (n: number, good: boolean) => (
    <td class={`number cell ${good ? "good" : "bad"}`}>
      {n} <span class="muted">{`${((n / all) * 100).toFixed(1)} %`}</span>
    </td>
  );
  return (
    <Frame
      title={title}
      file={file}
      rows={() => [["threshold", "tp", "fp", "fn", "tn"], ...steps.map((x) => [x.threshold, x.tp, x.fp, x.fn, x.tn])]}
    >
      {steps.length > 1 && (
        <label class="field matrix-at">
          <span>
            {known("axis", "threshold")} <span class="number">{format(s.threshold)}</span>
          </span>
          <input
            type="range"
            min={0}
            max={steps.length - 1}
            value={at}
            aria-valuetext={format(s.threshold)}
            onInput={(e) => setAt(Number(e.currentTarget.value))}
          />
        </label>
      )}
      <table class="matrix">
        <caption class="sr">{title}</caption>
        <thead>
          <tr>
            <td />
            <th scope="col" class="number">{t("plot.predicted", { v: 1 })}</th>
            <th scope="col" class="number">{t("plot.predicted", { v: 0 })}</th>
          </tr>
        </thead>
        <tbody>
          <tr>
            <th scope="row">{t("plot.actual", { v: 1 })}</th>
            {cell(s.tp, true)}
            {cell(s.fn, false)}
          </tr>
          <tr>
            <th scope="row">{t("plot.actual", { v: 0 })}</th>
            {cell(s.fp, false)}
            {cell(s.tn, true)}
          </tr>
        </tbody>
      </table>
      <p class="readout number">
        {[
          `${known("axis", "precision")} ${rate(s.tp, s.tp + s.fp)}`,
          `${known("axis", "recall")} ${rate(s.tp, s.tp + s.fn)}`,
          `${known("axis", "accuracy")} ${rate(s.tp + s.tn, all)}`,
        ].join(" · ")}
      </p>
    </Frame>
  );
}

const rate = (n: number, of: number) => (of === 0 ? "–" : (n / of).toFixed(4));

function TablePlot({ chart, file }: { chart: TableChart; file: string }) {
  const rows = useMemo(() => [chart.columns as Cell[], ...chart.rows], [chart]);
  const title = chartTitle(chart);
  return (
    <Frame title={title} file={file} rows={() => rows} wide>
      <Rows label={t("plot.tableOf", { name: title })} rows={rows} />
    </Frame>
  );
}
