import { useState } from "preact/hooks";
import { get, post } from "../api/client";
import { partyPaths, type Grant, type GrantRequest } from "../api/party";
import { known, t } from "../i18n";
import { ofKinds, useResource } from "../resource";
import { Ask, Loaded, Section } from "../ui/basic";
import { count } from "../ui/format";
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
              <table class="stack">
                <thead>
                  <tr>
                    <th scope="col">{t("grants.dataset")}</th>
                    <th scope="col">{t("grants.partner")}</th>
                    <th scope="col">{t("grants.components")}</th>
                    <th scope="col">{t("grants.bounds")}</th>
                    <th scope="col">{t("grants.state")}</th>
                    <th scope="col">
                      <span class="sr">{t("jobs.actions")}</span>
                    </th>
                  </tr>
                </thead>
                <tbody>
                  {[...list].reverse().map((r) => (
                    <RequestRow key={r.audit_id + r.partner} request={r} reload={reload} />
                  ))}
                </tbody>
              </table>
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
              <table class="stack">
                <thead>
                  <tr>
                    <th scope="col">{t("grants.dataset")}</th>
                    <th scope="col">{t("grants.partner")}</th>
                    <th scope="col">{t("grants.components")}</th>
                    <th scope="col">{t("grants.bounds")}</th>
                    <th scope="col">{t("grants.made")}</th>
                    <th scope="col">
                      <span class="sr">{t("jobs.actions")}</span>
                    </th>
                  </tr>
                </thead>
                <tbody>
                  {[...list].reverse().map((g) => (
                    <GrantRow key={g.grant_id} grant={g} reload={reload} />
                  ))}
                </tbody>
              </table>
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

function RequestRow({ request: r, reload }: { request: GrantRequest; reload: () => void }) {
  const [act, setAct] = useState<"approve" | "refuse">();
  return (
    <tr>
      <th scope="row">{r.dataset}</th>
      <td data-label={t("grants.partner")}>
        {r.partner} <span class="muted">{t(r.sent ? "grants.sent" : "grants.received")}</span>
      </td>
      <td data-label={t("grants.components")}>{r.components.join(", ")}</td>
      <td data-label={t("grants.bounds")}>{bounds(r.until, r.times)}</td>
      <td data-label={t("grants.state")}>
        <span>
          <span class={`tag ${isOpen(r) ? "tag-wait" : ""}`}>{known("grants.state", r.state)}</span>{" "}
          <span class="muted">
            <Time at={r.updated_at} />
          </span>
        </span>
      </td>
      <td class="row-actions">
        {!r.sent && isOpen(r) && (
          <span class="job-actions">
            <button type="button" class="small primary" onClick={() => setAct("approve")}>
              {t("action.approve")}
              <span class="sr"> {r.dataset}</span>
            </button>
            <button type="button" class="small" onClick={() => setAct("refuse")}>
              {t("action.refuse")}
              <span class="sr"> {r.dataset}</span>
            </button>
          </span>
        )}
        {act && (
          <Ask
            title={t(`grants.${act}Title`, { id: r.dataset, partner: r.partner })}
            text={t(`grants.${act}Text`, { components: r.components.join(", "), bounds: bounds(r.until, r.times) })}
            button={t(`action.${act}`)}
            danger={act === "refuse"}
            close={() => setAct(undefined)}
            do={async () => {
              const ref = { audit_id: r.audit_id, partner: r.partner };
              await post(act === "approve" ? partyPaths.approveGrant : partyPaths.denyGrant, ref);
              reload();
            }}
          />
        )}
      </td>
    </tr>
  );
}

function GrantRow({ grant: g, reload }: { grant: Grant; reload: () => void }) {
  const [asking, setAsking] = useState(false);
  const over = g.until !== null && Date.parse(g.until) < Date.now();
  const spent = g.times > 0 && g.used >= g.times;
  return (
    <tr>
      <th scope="row">{g.dataset}</th>
      <td data-label={t("grants.partner")}>{g.partner}</td>
      <td data-label={t("grants.components")}>{g.component}</td>
      <td data-label={t("grants.bounds")}>
        <span>
          {bounds(g.until, g.times, g.used)}{" "}
          {g.revoked_at ? (
            <span class="tag tag-bad">{t("grants.revoked")}</span>
          ) : (
            (over || spent) && <span class="tag">{t("grants.over")}</span>
          )}
        </span>
      </td>
      <td data-label={t("grants.made")}>
        <span>
          <Time at={g.created_at} /> <span class="muted">{g.created_by}</span>
        </span>
      </td>
      <td class="row-actions">
        {!g.revoked_at && !over && !spent && (
          <button type="button" class="small" onClick={() => setAsking(true)}>
            {t("grants.revoke")}
            <span class="sr"> {g.dataset}</span>
          </button>
        )}
        {asking && (
          <Ask
            title={t("grants.revokeTitle", { id: g.dataset, partner: g.partner })}
            text={t("grants.revokeText")}
            button={t("grants.revoke")}
            danger
            close={() => setAsking(false)}
            do={async () => {
              await post(partyPaths.revokeGrant, { grant_id: g.grant_id });
              reload();
            }}
          />
        )}
      </td>
    </tr>
  );
}
