// Shows this party's part of a model: trees, splits or weights.
import { useState } from "preact/hooks";
import { address, open } from "../api/client";
import { paths } from "../api/paths";
import type { Output } from "../api/types";
import { known, t } from "../i18n";
import { useResource } from "../resource";
import { Details, Loaded } from "./basic";
import { format } from "./charts";
import { parseModel, type ModelPart, type TreeNode } from "./modeldata";
import { BarPlot, ChartView } from "./plot";

const largestModel = 16 << 20;

/** ModelOf loads the model of an output when it is opened. Its role is the one that downloads outputs. */
export function ModelOf({ output: o }: { output: Output }) {
  return <Details summary={t("model.show")}>{() => <LoadedModel output={o} />}</Details>;
}

function LoadedModel({ output: o }: { output: Output }) {
  const model = useResource(`model ${o.namespace} ${o.name} ${o.bytes}`, async (abort) => {
    if (o.bytes > largestModel) throw new Error(t("model.tooLarge"));
    const response = await open(address(paths.download, { namespace: o.namespace, name: o.name }), { signal: abort });
    try {
      return { part: parseModel(JSON.parse(await response.text()) as unknown) };
    } catch (e) {
      if (e instanceof SyntaxError) return { part: undefined }; // a vendor may write what it likes
      throw e;
    }
  });
  const file = [o.task_name, o.role, o.output || o.key].join("-");
  return (
    <Loaded resource={model}>
      {({ part }) => (part ? <Part part={part} file={file} /> : <p class="muted">{t("model.unknown")}</p>)}
    </Loaded>
  );
}

function Part({ part, file }: { part: ModelPart; file: string }) {
  switch (part.kind) {
    case "linear":
      return (
        <div class="plots">
          <BarPlot
            chart={part.weights}
            file={file}
            note={part.intercept !== undefined && (
              <p>
                {t("model.intercept")} <strong class="number">{format(part.intercept)}</strong>
              </p>
            )}
          />
        </div>
      );
    case "splits":
      return (
        <>
          <p class="muted">{t("model.splitsText")}</p>
          <div class="plots">
            <BarPlot chart={part.importance} file={file} />
            <ChartView
              chart={{
                kind: "table", place: t("model.splits"), columns: [t("model.split"), t("model.feature"), t("axis.threshold")],
                rows: part.splits.map((s, i) => [i, s.feature, s.threshold]),
              }}
              file={file}
            />
          </div>
        </>
      );
    case "trees":
      return (
        <>
          <div class="plots">
            <BarPlot chart={part.importance} file={file} />
          </div>
          <Trees trees={part.trees} role={part.role} />
        </>
      );
  }
}

function Trees({ trees, role }: { trees: TreeNode[]; role: string }) {
  const [at, setAt] = useState(0);
  const tree = trees[Math.min(at, trees.length - 1)];
  if (!tree) return <p class="muted">{t("model.noTrees")}</p>;
  return (
    <>
      <label class="filter">
        {t("model.tree")}
        <select value={at} onChange={(e) => setAt(Number(e.currentTarget.value))}>
          {trees.map((_, i) => (
            <option key={i} value={i}>
              {t("model.treeOf", { n: i + 1, all: trees.length })}
            </option>
          ))}
        </select>
      </label>
      <ul class="tree" key={at}>
        <Node node={tree} role={role} />
      </ul>
    </>
  );
}

/** Node is a leaf with its weight, or a rule with what follows if it holds and if not. */
function Node({ node: n, role, branch }: { node: TreeNode; role: string; branch?: string }) {
  const prefix = branch && <span class="branch">{branch}</span>;
  if (!n.left || !n.right) {
    return (
      <li>
        {prefix}
        <span class="leaf">
          {t("model.leaf")} <strong class="number">{format(n.weight ?? 0)}</strong>
        </span>
      </li>
    );
  }
  const own = n.feature !== undefined && n.threshold !== undefined;
  return (
    <li>
      <details open>
        <summary>
          {prefix}
          {own ? (
            <>
              <strong translate={false}>{n.feature}</strong> ≤ <span class="number">{format(n.threshold!)}</span>
            </>
          ) : (
            <em>{t("model.partners", { role: n.owner || role, n: n.split ?? "?" })}</em>
          )}
          {n.gain !== undefined && <span class="muted number"> · {known("axis", "gain of split")} {format(n.gain)}</span>}
        </summary>
        <ul>
          <Node node={n.left} role={role} branch={t("model.yes")} />
          <Node node={n.right} role={role} branch={t("model.no")} />
        </ul>
      </details>
    </li>
  );
}
