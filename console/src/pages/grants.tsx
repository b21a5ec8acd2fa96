import { get, post } from "../api/client";
import { partyPaths, type Grant, type GrantRequest } from "../api/party";
import { known, t } from "../i18n";
import { ofKinds, useResource } from "../resource";
import { Loaded, Section } from "../ui/basic";
import { count } from "../ui/format";
import { ActionTable, type Action, type Column } from "../ui/table";
import { absolute, Time } from "../ui/time";

/** Grants shows what partners may compute on which datasets, and who has asked for it. */
export function Grants() {
  const requests = useResource(
    "grant-requests",
    (abort) => get<GrantRequest[]>(partyPaths.grantRequests, {}, abort),
    ofKinds("partner"),
  );
  const grants = useResource("grants", (abort) => get<Grant[]>(partyPaths.grants, {}, abort), ofKinds("partner"));
  function reload() {
    requests.reload();
    grants.reload();
  }
  return (
    <>
      <Section title={t("grants.requests")}>
        <Loaded resource={requests}>
          {(list) =>
            list.length === 0 ? (
              <p class="muted">{t("grants.noRequests")}</p>
            ) : (
              <ActionTable
                rows={[...list].reverse()}
                id={(r) => r.audit_id + r.partner}
                name={(r) => r.dataset}
                columns={requestColumns()}
                actions={(r) => (!r.sent && isOpen(r) ? [decide(r, "approve"), decide(r, "refuse")] : [])}
                done={reload}
              />
            )
          }
        </Loaded>
      </Section>
      <Section title={t("grants.grants")}>
        <Loaded resource={grants}>
          {(list) =>
            list.length === 0 ? (
              <p class="muted">{t("grants.none")}</p>
            ) : (
              <ActionTable
                rows={[...list].reverse()}
                id={(g) => g.grant_id}
                name={(g) => g.dataset}
                columns={grantColumns()}
                actions={(g) => (g.revoked_at || isSpent(g) ? [] : [revoke(g)])}
                done={reload}
              />
            )
          }
        </Loaded>
      </Section>
    </>
  );
}

function bounds(until: string | null, times: number, used?: number): string {
  const parts = [until ? t("grants.until", { time: absolute(until) }) : t("grants.noEnd")];
  if (times > 0) {
    parts.push(
      used === undefined
        ? t("grants.times", { n: count(times) })
        : t("grants.usedOf", { used: count(used), n: count(times) }),
    );
  } else if (used !== undefined) {
    parts.push(t("grants.used", { n: count(used) }));
  }
  return parts.join(", ");
}

/** isOpen returns whether a request awaits a decision. */
function isOpen(r: GrantRequest): boolean {
  return r.state === "APPLIED";
}

function requestColumns(): Column<GrantRequest>[] {
  return [
    { title: t("grants.dataset"), cell: (r) => r.dataset },
    {
      title: t("grants.partner"),
      cell: (r) => (
        <>
          {r.partner} <span class="muted">{t(r.sent ? "grants.sent" : "grants.received")}</span>
        </>
      ),
    },
    { title: t("grants.components"), cell: (r) => r.components.join(", ") },
    { title: t("grants.bounds"), cell: (r) => bounds(r.until, r.times) },
    {
      title: t("grants.state"),
      cell: (r) => (
        <>
          <span class={`tag ${isOpen(r) ? "tag-wait" : ""}`}>{known("grants.state", r.state)}</span>{" "}
          <span class="muted">
            <Time at={r.updated_at} />
          </span>
        </>
      ),
    },
  ];
}

function decide(r: GrantRequest, act: "approve" | "refuse"): Action {
  return {
    button: t(`action.${act}`),
    title: t(`grants.${act}Title`, { id: r.dataset, partner: r.partner }),
    text: t(`grants.${act}Text`, { components: r.components.join(", "), bounds: bounds(r.until, r.times) }),
    primary: act === "approve",
    danger: act === "refuse",
    do: () =>
      post(act === "approve" ? partyPaths.approveGrant : partyPaths.denyGrant, { audit_id: r.audit_id, partner: r.partner }),
  };
}

/** isSpent returns whether a grant has ended, by time or by use. */
function isSpent(g: Grant): boolean {
  return (g.until !== null && Date.parse(g.until) < Date.now()) || (g.times > 0 && g.used >= g.times);
}

function grantColumns(): Column<Grant>[] {
  return [
    { title: t("grants.dataset"), cell: (g) => g.dataset },
    { title: t("grants.partner"), cell: (g) => g.partner },
    { title: t("grants.components"), cell: (g) => g.component },
    {
      title: t("grants.bounds"),
      cell: (g) => (
        <>
          {bounds(g.until, g.times, g.used)}{" "}
          {g.revoked_at ? (
            <span class="tag tag-bad">{t("grants.revoked")}</span>
          ) : (
            isSpent(g) && <span class="tag">{t("grants.over")}</span>
          )}
        </>
      ),
    },
    {
      title: t("grants.made"),
      cell: (g) => (
        <>
          <Time at={g.created_at} /> <span class="muted">{g.created_by}</span>
        </>
      ),
    },
  ];
}

function revoke(g: Grant): Action {
  return {
    button: t("grants.revoke"),
    title: t("grants.revokeTitle", { id: g.dataset, partner: g.partner }),
    text: t("grants.revokeText"),
    danger: true,
    do: () => post(partyPaths.revokeGrant, { grant_id: g.grant_id }),
  };
}
