// Draws what reports hold: numbers, and curves with a table of their points. The format of a report is up to its
// vendor, so what is not recognised is shown as it is.
import { t } from "../i18n";

export interface Curve {
  name: string;
  x: string;
  points: [number, number][];
}

export interface Parsed {
  numbers: [string, number][];
  curves: Curve[];
}

type Fields = Record<string, unknown>;

const abscissae = ["step", "round", "tree", "epoch", "iteration", "threshold", "fpr", "recall", "x"];

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** parseReport finds the numbers and curves in a report of Hutong's reference provider, or of FATE. */
export function parseReport(report: unknown): Parsed {
  const parsed: Parsed = { numbers: [], curves: [] };
  if (Array.isArray(report)) {
    for (const m of report) if (isFields(m)) parseFATE(m, parsed);
    return parsed;
  }
  if (!isFields(report)) return parsed;
  const metric = typeof report.metric === "string" ? report.metric : "";
  for (const [name, value] of Object.entries(report)) {
    if (typeof value === "number") parsed.numbers.push([name === "value" && metric ? metric : name, value]);
  }
  for (const field of ["data", "curve"]) {
    if (Array.isArray(report[field])) parsed.curves.push(...fieldCurves(report[field]));
  }
  return parsed;
}

function fieldCurves(list: unknown[]): Curve[] {
  const first = list[0];
  if (!isFields(first)) return [];
  const names = Object.keys(first).filter((n) => typeof first[n] === "number");
  const x = abscissae.find((n) => names.includes(n)) ?? names[0];
  if (!x) return [];
  // A curve of rates by threshold, such as that of KS, is a ROC curve too.
  const roc: Curve[] =
    x === "threshold" && names.includes("tpr") && names.includes("fpr")
      ? [{ name: "ROC: tpr", x: "fpr", points: list.filter(isFields).map((p): [number, number] => [Number(p.fpr), Number(p.tpr)]) }]
      : [];
  const curves = names
    .filter((n) => n !== x)
    .map((name) => ({
      name,
      x,
      points: list.filter(isFields).map((p): [number, number] => [Number(p[x]), Number(p[name])]),
    }));
  return [...roc, ...curves];
}

function parseFATE(metric: Fields, parsed: Parsed): void {
  const groups = Array.isArray(metric.groups) ? metric.groups.filter(isFields) : [];
  const name = [String(metric.name ?? ""), ...groups.map((g) => `${g.name} ${g.index ?? ""}`)].join(" ").trim();
  const { data } = metric;
  if (isFields(data)) {
    flatten(name, data, 1, parsed);
  } else if (Array.isArray(data) && data.every((p) => Array.isArray(p) && p.length === 2)) {
    parsed.curves.push({ name, x: "x", points: data.map((p): [number, number] => [Number(p[0]), Number(p[1])]) });
  } else if (Array.isArray(data)) {
    const points = data.filter(isFields).map((p): [number, number] => {
      const value = Array.isArray(p.metric) ? p.metric[0] : p.metric;
      return [Number(p.step), Number(value)];
    });
    parsed.curves.push({ name, x: String(metric.step_axis ?? "step"), points });
  }
}

function flatten(place: string, data: Fields, depth: number, parsed: Parsed): void {
  for (const [key, value] of Object.entries(data)) {
    if (typeof value === "number") parsed.numbers.push([`${place} ${key}`, value]);
    else if (isFields(value) && depth < 3) flatten(`${place} ${key}`, value, depth + 1, parsed);
  }
}

export function format(n: number): string {
  return Number.isInteger(n) ? String(n) : n.toPrecision(5).replace(/\.?0+$/, "");
}

/** Report shows what a report holds. */
export function Report({ report }: { report: unknown }) {
  const { numbers, curves } = parseReport(report);
  const known = curves
    .map((c) => ({ ...c, points: c.points.filter(([x, y]) => Number.isFinite(x) && Number.isFinite(y)) }))
    .filter((c) => c.points.length > 0);
  if (numbers.length === 0 && known.length === 0) return <pre tabIndex={0}>{JSON.stringify(report, null, 2)}</pre>;
  return (
    <>
      {numbers.length > 0 && (
        <dl class="summary">
          {numbers.map(([name, value]) => (
            <div key={name}>
              <dt>{name.replace(/_/g, " ")}</dt>
              <dd class="number">{format(value)}</dd>
            </div>
          ))}
        </dl>
      )}
      <div class="plots">
        {known.map((c) => (
          <Plot key={c.name} curve={c} />
        ))}
      </div>
    </>
  );
}

const w = 360;
const h = 200;
const left = 56;
const bottom = 32;

/** Plot draws a curve. Its table has the points for screen readers, and for who wants the numbers. */
export function Plot({ curve }: { curve: Curve }) {
  const xs = curve.points.map((p) => p[0]);
  const ys = curve.points.map((p) => p[1]);
  const [x0, x1] = bounds(xs);
  const [y0, y1] = bounds(ys);
  const px = (x: number) => left + ((x - x0) / (x1 - x0)) * (w - left - 12);
  const py = (y: number) => h - bottom - ((y - y0) / (y1 - y0)) * (h - bottom - 12);
  return (
    <figure class="plot">
      <figcaption>{t("report.by", { name: curve.name, x: curve.x })}</figcaption>
      <svg viewBox={`0 0 ${w} ${h}`} role="img" aria-label={t("report.by", { name: curve.name, x: curve.x })}>
        {[y0, (y0 + y1) / 2, y1].map((y) => (
          <g key={y}>
            <path class="grid" d={`M${left} ${py(y)}H${w - 12}`} />
            <text x={left - 6} y={py(y) + 4} text-anchor="end">
              {format(y)}
            </text>
          </g>
        ))}
        {[x0, x1].map((x, i) => (
          <text key={x} x={px(x)} y={h - bottom + 18} text-anchor={i ? "end" : "start"}>
            {format(x)}
          </text>
        ))}
        <text x={(left + w) / 2} y={h - bottom + 18} text-anchor="middle">
          {curve.x}
        </text>
        <path class="curve" d={`M${curve.points.map(([x, y]) => `${px(x).toFixed(1)} ${py(y).toFixed(1)}`).join("L")}`} />
        {curve.points.length <= 40 &&
          curve.points.map(([x, y], i) => <circle key={i} class="dot" cx={px(x)} cy={py(y)} r="2.6" />)}
      </svg>
      <details>
        <summary>{t("report.table", { n: curve.points.length })}</summary>
        <div class="scroll points">
          <table>
            <thead>
              <tr>
                <th scope="col" class="number">{curve.x}</th>
                <th scope="col" class="number">{curve.name}</th>
              </tr>
            </thead>
            <tbody>
              {curve.points.map(([x, y], i) => (
                <tr key={i}>
                  <td class="number">{format(x)}</td>
                  <td class="number">{format(y)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
      </details>
    </figure>
  );
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
