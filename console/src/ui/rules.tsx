// Approval rules: what they allow, how near one is to a job, and to make one of a job.
import type { JSX } from "preact";
import type { Dispatch, StateUpdater } from "preact/hooks";
import { get } from "../api/client";
import { paths } from "../api/paths";
import type { Approval, ApprovalScope, ApprovalUse, NearRule } from "../api/types";
import { known, t } from "../i18n";
import { ofJob, useResource } from "../resource";
import { Loaded } from "./basic";

/** ScopeView shows what a rule allows. */
export function ScopeView({ scope: s }: { scope: ApprovalScope }) {
  const any = s.any ?? [];
  const rows: [string, string][] = [
    [t("rule.initiator"), s.initiator],
    [t("rule.scheduler"), s.scheduler],
    [t("rule.flow"), any.includes("flow") ? t("rule.any") : s.flow_id || t("rule.noFlow")],
    [t("rule.parties"), any.includes("parties") ? t("rule.any") : s.parties.join(", ") || t("none")],
  ];
  return (
    <div class="approval">
      <Rows rows={rows} />
      <ul class="approval-reads">
        {s.uses.map((u, i) => (
          <li key={i}>
            <p>
              <strong>{u.component}</strong>{" "}
              <span class="muted">{[u.role, u.provider + (u.version ? `:${u.version}` : "")].join(" · ")}</span>
            </p>
            <Rows rows={useRows(u)} />
          </li>
        ))}
      </ul>
      <Rows
        rows={
          any.includes("outputs")
            ? [[t("rule.outputs"), t("rule.any")]]
            : s.learns.map((l) => [
                t("rule.outputsOf", { party: l.node_id }),
                t("rule.output", { type: l.type, key: l.key, component: l.component }),
              ])
        }
      />
    </div>
  );
}

function useRows(u: ApprovalUse): [string, string][] {
  const any = u.any ?? [];
  const rows: [string, string][] = [];
  if (any.includes("version")) rows.push([t("rule.version"), t("rule.any")]);
  else rows.push([t("rule.images"), any.includes("image") ? t("rule.any") : (u.images ?? []).join(", ")]);
  if (u.dataset) {
    rows.push([t("rule.dataset"), u.dataset]);
    rows.push([t("rule.columns"), any.includes("columns") ? t("rule.any") : (u.columns ?? []).join(", ")]);
    if (u.named_columns?.length) rows.push([t("rule.named"), u.named_columns.join(", ")]);
  }
  if (u.derived?.length) rows.push([t("rule.derived"), u.derived.join(", ")]);
  if (any.includes("model") || u.model) {
    rows.push([t("rule.model"), any.includes("model") ? t("rule.any") : (u.model ?? "")]);
  }
  const parameters = parameterTexts(u.parameters);
  rows.push([
    t("rule.parameters"),
    any.includes("parameters") ? t("rule.any") : parameters.join(", ") || t("none"),
  ]);
  return rows;
}

function Rows({ rows }: { rows: [string, string][] }): JSX.Element | null {
  if (rows.length === 0) return null;
  return (
    <dl class="approval-list">
      {rows.map(([name, value], i) => (
        <div key={i}>
          <dt>{name}</dt>
          <dd>{value}</dd>
        </div>
      ))}
    </dl>
  );
}

/** Near shows the rule that comes nearest to a job that waits, and what differs. */
export function Near({ rule: n }: { rule: NearRule }) {
  return (
    <>
      <h3>{t("rule.near")}</h3>
      <p>
        {n.note || n.rule_id} <span class="muted">{n.created_by}</span>
      </p>
      {n.mismatches.length === 0 ? (
        <p>{t("rule.later")}</p>
      ) : (
        <DifferenceTable
          now={t("rule.ofJob")}
          was={t("rule.allows")}
          rows={n.mismatches.map((m) => ({
            where: [m.task_name, m.role],
            field: `${known("rule.field", m.field)} ${m.parameter ?? ""}`,
            now: m.job,
            was: m.rule,
          }))}
        />
      )}
    </>
  );
}

interface Difference {
  where: (string | undefined)[];
  field: string;
  now: string | undefined;
  was: string | undefined;
}

/** DifferenceTable compares a job with something, field by field. now and was are the titles of the two sides. */
export function DifferenceTable(props: { now: string; was: string; rows: Difference[] }) {
  return (
    <div class="scroll">
      <table class="approval-differences">
        <thead>
          <tr>
            <th scope="col">{t("approval.where")}</th>
            <th scope="col">{t("approval.field")}</th>
            <th scope="col">{props.now}</th>
            <th scope="col">{props.was}</th>
          </tr>
        </thead>
        <tbody>
          {props.rows.map((d, i) => (
            <tr key={i}>
              <td>{d.where.filter(Boolean).join(", ")}</td>
              <th scope="row">{d.field}</th>
              <td>{d.now || t("none")}</td>
              <td>{d.was || t("none")}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}

/** Like is what is asked for a rule that approves the like of a job. */
export interface Like {
  until: string; // of an input of a date
  note: string;
  scope?: ApprovalScope;
}

type Set = Dispatch<StateUpdater<Like | undefined>>;

/** day returns a date in so many days, as an input of a date has it. */
export function day(ahead: number): string {
  const d = new Date(Date.now() + ahead * 86_400_000);
  return [d.getFullYear(), String(d.getMonth() + 1).padStart(2, "0"), String(d.getDate()).padStart(2, "0")].join("-");
}

/** LikeForm asks whether to approve the like of a job, and until when. It shows what the rule will allow. */
export function LikeForm({ id, like, set }: { id: string; like?: Like; set: Set }) {
  return (
    <>
      <label class="check">
        <input
          type="checkbox"
          checked={like !== undefined}
          onChange={(e) => set(e.currentTarget.checked ? { until: day(30), note: "" } : undefined)}
        />{" "}
        {t("rule.like")}
      </label>
      {like && <LikeFields id={id} like={like} set={set} />}
    </>
  );
}

function LikeFields({ id, like, set }: { id: string; like: Like; set: Set }) {
  const approval = useResource(
    `approval ${id}`,
    async (abort) => {
      const a = await get<Approval>(paths.approval, { job_id: id }, abort);
      set((old) => old && { ...old, ...(a.scope ? { scope: a.scope } : {}) });
      return a;
    },
    ofJob(id),
  );
  return (
    <>
      <label class="field">
        {t("rule.until")}
        <input
          type="date"
          required
          min={day(1)}
          value={like.until}
          onInput={(e) => set({ ...like, until: e.currentTarget.value })}
        />
      </label>
      <label class="field">
        {t("rule.note")}
        <input type="text" maxLength={160} value={like.note} onInput={(e) => set({ ...like, note: e.currentTarget.value })} />
      </label>
      <Loaded resource={approval}>
        {(a) => (
          <details>
            <summary>{t("rule.allowsWhat")}</summary>
            {a.scope && <ScopeView scope={a.scope} />}
          </details>
        )}
      </Loaded>
    </>
  );
}

/** parameterTexts returns parameters as in a job's document, by name. */
export function parameterTexts(parameters: Record<string, unknown> = {}): string[] {
  return Object.entries(parameters)
    .map(([name, value]) => `${name} = ${JSON.stringify(value)}`)
    .sort();
}
