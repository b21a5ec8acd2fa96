import { get, open, post } from "../api/client";
import { paths } from "../api/paths";
import { partyPaths, type Capacity, type Partner, type Runner } from "../api/party";
import { known, t, type Key } from "../i18n";
import { ofKinds, useResource } from "../resource";
import { can, canSomewhere, ownNode } from "../session";
import { Empty, Loaded, Page } from "../ui/basic";
import { count } from "../ui/format";
import { ActionTable, type Action, type Column } from "../ui/table";
import { chosenTab, Tabs } from "../ui/tabs";
import { absolute, duration, Time } from "../ui/time";
import { contacts } from "./contacts";
import { Grants } from "./grants";
import { Notifications } from "./notifications";
import "./pages.css";
import { TrailView } from "./trail";

/** Operation shows the runners, partners, grants and the audit trail of this party. */
export function Operation() {
  const tabs = canSomewhere("viewer") ? ["runners", "partners"] : [];
  if (can("viewer")) tabs.push("notifications");
  if (can("admin")) tabs.push("grants");
  if (can("auditor")) tabs.push("trail");
  tabs.push("version");
  const tab = chosenTab(tabs);
  return (
    <Page title={t("nav.operation")}>
      {!canSomewhere("viewer") && <p class="stale">{t("app.partial", { role: "viewer" })}</p>}
      <Tabs
        path="operation"
        label={t("nav.operation")}
        tabs={tabs.map((name) => ({ name, title: t(`operation.${name}` as Key) }))}
      />
      {tab === "runners" && <Runners />}
      {tab === "partners" && <Partners />}
      {tab === "notifications" && <Notifications />}
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
          <ActionTable
            rows={list}
            id={(r) => r.runner_id}
            columns={runnerColumns()}
            actions={(r) => (can("runner-admin") && r.state !== "deregistered" ? [drain(r)] : [])}
            done={runners.reload}
          />
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

function runnerColumns(): Column<Runner>[] {
  return [
    {
      title: t("runners.runner"),
      cell: (r) => (
        <>
          {r.runner_id} <span class="muted">{r.devices.join(", ")}</span>
        </>
      ),
    },
    {
      title: t("runners.state"),
      cell: (r) => (
        <>
          <span class={`tag ${runnerTags[r.state] ?? ""}`}>{known("runner", r.state)}</span>
          <div class="muted">{t("runners.running", { n: r.running })}</div>
        </>
      ),
    },
    { title: t("runners.inUse"), cell: (r) => <CapacityBars used={r.used} total={r.total} /> },
    {
      title: t("runners.labels"),
      cell: (r) => {
        const labels = Object.entries(r.labels);
        return labels.length === 0 ? (
          <span class="muted">{t("none")}</span>
        ) : (
          labels.map(([k, v]) => (
            <span key={k} class="tag">
              {k}={v}
            </span>
          ))
        );
      },
    },
    {
      title: t("runners.heartbeat"),
      cell: (r) => (
        <>
          <Time at={r.heartbeat_at} />
          {Math.abs(r.clock_skew) > skew && (
            <div class="invalid">{t("runners.skew", { s: r.clock_skew.toFixed(1) })}</div>
          )}
        </>
      ),
    },
  ];
}

function drain(r: Runner): Action {
  const act = r.draining ? "undrain" : "drain";
  return {
    button: t(`runners.${act}`),
    title: t(`runners.${act}Title`, { id: r.runner_id }),
    text: t(`runners.${act}Text`),
    do: () => post(partyPaths.drain, { runner_id: r.runner_id, draining: !r.draining }),
  };
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
          <ActionTable rows={list} id={(p) => p.node_id + p.state} columns={partnerColumns(seen)} />
        )
      }
    </Loaded>
  );
}

function partnerColumns(seen: Map<string, string | null> | undefined): Column<Partner>[] {
  const contact: Column<Partner> = { title: t("partners.contact"), cell: (p) => <Time at={seen?.get(p.node_id)} /> };
  return [
    {
      title: t("partners.partner"),
      cell: (p) => (
        <>
          {p.node_id}
          {(p.name || p.institution) && <div class="muted">{[p.name, p.institution].filter(Boolean).join(", ")}</div>}
        </>
      ),
    },
    {
      title: t("partners.contract"),
      cell: (p) => (
        <>
          <span class={`tag ${p.state === "APPROVED" ? "tag-good" : "tag-wait"}`}>{known("contract", p.state)}</span>{" "}
          <span class="muted">
            {known("partners.source", p.source)}
            {p.contract_end && ` · ${t("partners.until", { time: absolute(p.contract_end) })}`}
          </span>
        </>
      ),
    },
    {
      title: t("partners.route"),
      cell: (p) => (
        <>
          <span class="mono">{p.address ?? t("none")}</span> <span class="muted">{p.auth}</span>
          {p.transport_address && (
            <div class="mono muted">
              {p.transport_address} ({t("partners.transport")})
            </div>
          )}
        </>
      ),
    },
    ...(seen ? [contact] : []),
    { title: t("partners.certificate"), cell: (p) => <Expiry end={p.certificate_end} /> },
  ];
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
