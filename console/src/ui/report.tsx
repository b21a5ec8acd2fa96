// Shows what reports hold. What is not recognised is shown as it is.
import { useMemo } from "preact/hooks";
import { format, parseReport } from "./charts";
import { ChartView, chartTitle } from "./plot";

/** Report shows what a report holds. file is the beginning of the names of files that it exports. */
export function Report({ report, file }: { report: unknown; file: string }) {
  const { numbers, charts } = useMemo(() => parseReport(report), [report]);
  if (numbers.length === 0 && charts.length === 0) return <pre tabIndex={0}>{JSON.stringify(report, null, 2)}</pre>;
  return (
    <>
      {numbers.length > 0 && (
        <dl class="summary">
          {numbers.map(([name, value]) => (
            <div key={name}>
              <dt translate={false}>{name.replace(/_/g, " ")}</dt>
              <dd class="number">{format(value)}</dd>
            </div>
          ))}
        </dl>
      )}
      <div class="plots">
        {charts.map((c, i) => (
          <ChartView key={`${chartTitle(c)} ${i}`} chart={c} file={file} />
        ))}
      </div>
    </>
  );
}
