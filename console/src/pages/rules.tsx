import { get, post } from "../api/client";
import { paths } from "../api/paths";
import type { ApprovalRule } from "../api/types";
import { t } from "../i18n";
import { ofKinds, useResource } from "../resource";
import { can, canIn } from "../session";
import { Details, Loaded, Section } from "../ui/basic";
import { count } from "../ui/format";
import { ScopeView } from "../ui/rules";
import { ActionTable, type Action, type Column } from "../ui/table";
import { absolute, Time } from "../ui/time";

/** Rules lists the active rules that approve jobs, each with what it allows. */
export function Rules({ loads }: { loads: number }) {
  const rules = useResource(
    `approval-rules ${loads}`,
    (abort) => get<ApprovalRule[]>(paths.rules, {}, abort),
    ofKinds("approval", "job"),
  );
  return (
    <Section title={t("rules.title")}>
      <Loaded resource={rules}>
        {(list) => {
          const active = list.filter((r) => !r.removed_at && Date.parse(r.until) > Date.now());
          return active.length === 0 ? (
            <p class="muted">{t("rules.none")}</p>
          ) : (
            <ActionTable
              rows={[...active].reverse()}
              id={(r) => r.rule_id}
              name={nameOf}
              columns={columns()}
              actions={(r) => ((r.project ? canIn("approver", r.project) : can("approver")) ? [remove(r)] : [])}
              more={(r) => <Details summary={t("rule.allowsWhat")}>{() => <ScopeView scope={r.scope} />}</Details>}
              done={rules.reload}
            />
          );
        }}
      </Loaded>
    </Section>
  );
}

/** nameOf returns what people call a rule. */
function nameOf(r: ApprovalRule): string {
  return r.note || r.scope.flow_id || r.rule_id;
}

function columns(): Column<ApprovalRule>[] {
  return [
    { title: t("rules.rule"), cell: nameOf },
    { title: t("rule.initiator"), cell: (r) => r.scope.initiator },
    { title: t("rules.until"), cell: (r) => absolute(r.until) },
    { title: t("rules.use"), cell: (r) => t("rules.used", { n: count(r.used) }) },
    {
      title: t("grants.made"),
      cell: (r) => (
        <>
          <Time at={r.created_at} /> <span class="muted">{r.created_by}</span>
        </>
      ),
    },
  ];
}

function remove(r: ApprovalRule): Action {
  return {
    button: t("rules.remove"),
    title: t("rules.removeTitle", { name: nameOf(r) }),
    text: t("rules.removeText"),
    danger: true,
    do: () => post(paths.removeRule, { rule_id: r.rule_id }),
  };
}
