import { useState } from "preact/hooks";
import { get, open, post } from "../api/client";
import { paths } from "../api/paths";
import { partyPaths, type Capacity, type Partner, type Runner } from "../api/party";
import { known, t, type Key } from "../i18n";
import { ofKinds, useResource } from "../resource";
import { can, ownNode } from "../session";
import { Ask, Empty, Loaded, Page } from "../ui/basic";
import { count } from "../ui/format";
import { chosenTab, Tabs } from "../ui/tabs";
import { absolute, duration, Time } from "../ui/time";
import { contacts } from "./contacts";
import { Grants } from "./grants";
import "./pages.css";
import { TrailView } from "./trail";

/** Operation shows the runners, partners, grants and the audit trail of this party. */
export function Operation() {
  const tabs = can("viewer") ? ["runners", "partners"] : [];
  if (can("admin")) tabs.push("grants");
  if (can("auditor")) tabs.push("trail");
  tabs.push("version");
  const tab = chosenTab(tabs);
  return (
    <Page title={t("nav.operation")}>
      {!can("viewer") && <p class="stale">{t("app.partial", { role: "viewer" })}</p>}
      <Tabs
        path="operation"
        label={t("nav.operation")}
        tabs={tabs.map((name) => ({ name, title: t(`operation.${name}` as Key) }))}
      />
      {tab === "runners" && <Runners />}
      {tab === "partners" && <Partners />}
      {tab === "grants" && <Grants />}
      {tab === "trail" && <TrailView />}
      {tab === "version" && <Version />}
    </Page>
  );
}

function Runners() {
  const runners = useResource("runners", (abort) => get<Runner[]>(paths.runners, {}, abort), ofKinds("runner", "job"));
  return (
    <Loaded resource={runners}>
      {(list) =>
        list.length === 0 ? (
          <Empty title={t("runners.empty")}>
            <p>{t("runners.emptyText")}</p>
          </Empty>
        ) : (
          <table class="stack">
            <thead>
              <tr>
                <th scope="col">{t("runners.runner")}</th>
                <th scope="col">{t("runners.state")}</th>
                <th scope="col">{t("runners.inUse")}</th>
                <th scope="col">{t("runners.labels")}</th>
                <th scope="col">{t("runners.heartbeat")}</th>
                <th scope="col">
                  <span class="sr">{t("jobs.actions")}</span>
                </th>
              </tr>
            </thead>
            <tbody>
              {list.map((r) => (
                <RunnerRow key={r.runner_id} runner={r} reload={runners.reload} />
              ))}
            </tbody>
          </table>
        )
      }
    </Loaded>
  );
}

const runnerTags: Record<string, string> = {
  online: "tag-good", draining: "tag-wait", drained: "tag-wait", silent: "tag-bad", deregistered: "",
};

// A clock that is further off than this is shown.
const skew = 1;

function RunnerRow({ runner: r, reload }: { runner: Runner; reload: () => void }) {
  const [asking, setAsking] = useState(false);
  const act = r.draining ? "undrain" : "drain";
  return (
    <tr>
      <th scope="row">
        {r.runner_id} <span class="muted">{r.devices.join(", ")}</span>
      </th>
      <td data-label={t("runners.state")}>
        <span class={`tag ${runnerTags[r.state] ?? ""}`}>{known("runner", r.state)}</span>
        <div class="muted">{t("runners.running", { n: r.running })}</div>
      </td>
      <td data-label={t("runners.inUse")}>
        <CapacityBars used={r.used} total={r.total} />
      </td>
      <td data-label={t("runners.labels")}>
        {Object.entries(r.labels).map(([k, v]) => (
          <span key={k} class="tag">
            {k}={v}
          </span>
        ))}
        {Object.keys(r.labels).length === 0 && <span class="muted">{t("none")}</span>}
      </td>
      <td data-label={t("runners.heartbeat")}>
        <span>
          <Time at={r.heartbeat_at} />
          {Math.abs(r.clock_skew) > skew && (
            <div class="invalid">{t("runners.skew", { s: r.clock_skew.toFixed(1) })}</div>
          )}
        </span>
      </td>
      <td class="row-actions">
        {can("runner-admin") && r.state !== "deregistered" && (
          <button type="button" class="small" onClick={() => setAsking(true)}>
            {t(`runners.${act}`)}
            <span class="sr"> {r.runner_id}</span>
          </button>
        )}
        {asking && (
          <Ask
            title={t(`runners.${act}Title`, { id: r.runner_id })}
            text={t(`runners.${act}Text`)}
            button={t(`runners.${act}`)}
            close={() => setAsking(false)}
            do={async () => {
              await post(partyPaths.drain, { runner_id: r.runner_id, draining: !r.draining });
              reload();
            }}
          />
        )}
      </td>
    </tr>
  );
}

/** CapacityBars shows how much of each resource jobs have reserved. */
export function CapacityBars({ used, total }: { used: Capacity; total: Capacity }) {
  const rows: (keyof Capacity)[] = ["slots", "cpu", "memory", "disk"];
  if (total.gpu > 0) rows.push("gpu");
  return (
    <div>
      {rows.map((k) => (
        <div key={k} class="bar">
          <span class="muted">{t(`capacity.${k}`)}</span>
          <svg aria-hidden="true">
            <rect class="all" width="100%" height="100%" rx="2" />
            <rect class="part" width={`${total[k] > 0 ? Math.min(100, (100 * used[k]) / total[k]) : 0}%`} height="100%" rx="2" />
          </svg>
          <span class="number">
            {t(k === "memory" || k === "disk" ? "capacity.ofGib" : "capacity.of", {
              used: count(used[k]),
              total: total[k] > 0 ? count(total[k]) : "?",
            })}
          </span>
        </div>
      ))}
    </div>
  );
}

function Partners() {
  const partners = useResource(
    "partners",
    async (abort) => {
      const [list, seen] = await Promise.all([get<Partner[]>(paths.partners, {}, abort), contacts(abort)]);
      return { list, seen };
    },
    ofKinds("partner"),
  );
  return (
    <Loaded resource={partners}>
      {({ list, seen }) =>
        list.length === 0 ? (
          <Empty title={t("partners.empty")}>
            <p>{t("partners.emptyText")}</p>
          </Empty>
        ) : (
          <table class="stack">
            <thead>
              <tr>
                <th scope="col">{t("partners.partner")}</th>
                <th scope="col">{t("partners.contract")}</th>
                <th scope="col">{t("partners.route")}</th>
                {seen && <th scope="col">{t("partners.contact")}</th>}
                <th scope="col">{t("partners.certificate")}</th>
              </tr>
            </thead>
            <tbody>
              {list.map((p) => (
                <tr key={p.node_id + p.state}>
                  <th scope="row">
                    {p.node_id}
                    {(p.name || p.institution) && (
                      <div class="muted">{[p.name, p.institution].filter(Boolean).join(", ")}</div>
                    )}
                  </th>
                  <td data-label={t("partners.contract")}>
                    <span>
                      <span class={`tag ${p.state === "APPROVED" ? "tag-good" : "tag-wait"}`}>
                        {known("contract", p.state)}
                      </span>{" "}
                      <span class="muted">
                        {known("partners.source", p.source)}
                        {p.contract_end && ` · ${t("partners.until", { time: absolute(p.contract_end) })}`}
                      </span>
                    </span>
                  </td>
                  <td data-label={t("partners.route")}>
                    <span>
                      <span class="mono">{p.address ?? t("none")}</span> <span class="muted">{p.auth}</span>
                      {p.transport_address && (
                        <div class="mono muted">
                          {p.transport_address} ({t("partners.transport")})
                        </div>
                      )}
                    </span>
                  </td>
                  {seen && (
                    <td data-label={t("partners.contact")}>
                      <Time at={seen.get(p.node_id)} />
                    </td>
                  )}
                  <td data-label={t("partners.certificate")}>
                    <Expiry end={p.certificate_end} />
                  </td>
                </tr>
              ))}
            </tbody>
          </table>
        )
      }
    </Loaded>
  );
}

// A certificate that ends within this time should be renewed now.
const soon = 30 * 86400e3;

function Expiry({ end }: { end: string | undefined }) {
  if (!end) return <span class="muted">{t("partners.unknown")}</span>;
  const left = Date.parse(end) - Date.now();
  return (
    <span>
      {absolute(end)}{" "}
      {left < soon && (
        <span class={`tag ${left < 0 ? "tag-bad" : "tag-wait"}`}>
          {left < 0 ? t("partners.expired") : t("partners.expires", { d: duration(left) })}
        </span>
      )}
    </span>
  );
}

interface ServerInfo {
  version: string;
  timestamp: number;
}

function Version() {
  const info = useResource("version", async (abort) => {
    const servers = await get<Record<string, ServerInfo>>(partyPaths.version, {}, abort);
    const clock = Date.now();
    let trouble = "";
    try {
      await open(partyPaths.ready, { signal: abort });
    } catch (e) {
      trouble = e instanceof Error ? e.message : String(e);
    }
    const server = Object.values(servers)[0];
    return { version: server?.version ?? "", offset: server ? server.timestamp - clock : 0, trouble };
  });
  return (
    <Loaded resource={info}>
      {(v) => (
        <dl class="facts">
          <dt>{t("app.party")}</dt>
          <dd>{ownNode}</dd>
          <dt>{t("operation.version")}</dt>
          <dd>{v.version}</dd>
          <dt>{t("version.ready")}</dt>
          <dd>
            {v.trouble ? (
              <>
                <span class="tag tag-bad">{t("version.notReady")}</span> {v.trouble}
              </>
            ) : (
              <span class="tag tag-good">{t("version.isReady")}</span>
            )}
          </dd>
          <dt>{t("version.clock")}</dt>
          <dd>{t("version.offset", { s: (v.offset / 1000).toFixed(1) })}</dd>
          <dt>{t("version.api")}</dt>
          <dd>
            <a href="/openapi.json">openapi.json</a>
          </dd>
        </dl>
      )}
    </Loaded>
  );
}
