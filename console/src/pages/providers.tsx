import { get } from "../api/client";
import { partyPaths, type Component, type Param, type Port, type Provider } from "../api/party";
import { known, t } from "../i18n";
import { ofKinds, useResource } from "../resource";
import { Empty, Loaded, Page, Section } from "../ui/basic";
import { count, iso } from "../ui/format";
import { JobLinks } from "../ui/joblinks";
import { isOptional, shown } from "../ui/params";
import { ActionTable } from "../ui/table";
import { Time } from "../ui/time";
import "./pages.css";

/** Providers shows the registered providers and what their components say of themselves. */
export function Providers() {
  const providers = useResource(
    "providers",
    (abort) => get<Provider[]>(partyPaths.providers, { jobs: "true" }, abort),
    ofKinds("data"),
  );
  return (
    <Page title={t("nav.providers")}>
      <Loaded resource={providers}>
        {(list) =>
          list.length === 0 ? (
            <Empty title={t("providers.empty")}>
              <p>{t("providers.emptyText")}</p>
            </Empty>
          ) : (
            <>
              {list.map((p) => (
                <ProviderSection key={p.provider_name} provider={p} />
              ))}
            </>
          )
        }
      </Loaded>
    </Page>
  );
}

function ProviderSection({ provider: p }: { provider: Provider }) {
  const components = Object.values(p.components_description);
  const source = p.metadata.image ?? p.metadata.command;
  return (
    <Section
      title={`${p.name} ${p.version}`}
      aside={
        <>
          <span class="tag">{p.device}</span>
          <span class="tag">{p.protocol}</span>
          {p.allowed.root && <span class="tag tag-wait">{t("providers.root")}</span>}
          {p.allowed.writable && <span class="tag tag-wait">{t("providers.writable")}</span>}
          <span class="muted">
            {t("providers.registered")} <Time at={iso(p.update_time)} />
          </span>
        </>
      }
    >
      {source !== undefined && <p class="mono muted">{shown(source)}</p>}
      {p.jobs && (
        <details>
          <summary>{t("data.jobCount", { n: p.jobs.length })}</summary>
          <div class="more-of">
            <JobLinks jobs={p.jobs} />
          </div>
        </details>
      )}
      {components.map((c) => (
        <ComponentDetails key={c.componentName} component={c} />
      ))}
    </Section>
  );
}

function ComponentDetails({ component: c }: { component: Component }) {
  return (
    <details class="component">
      <summary>
        <strong>{c.componentName}</strong> {c.title} <span class="muted">· {c.roleList.join(", ")}</span>
      </summary>
      <div class="more-of">
        {c.description && <p>{c.description}</p>}
        <dl class="facts">
          <dt>{t("providers.inputs")}</dt>
          <dd>
            <Ports list={c.inputData} />
          </dd>
          <dt>{t("providers.outputs")}</dt>
          <dd>
            <Ports list={c.outputData} />
          </dd>
        </dl>
        {c.inputParam.length > 0 && (
          <>
            <h3>
              {t("providers.parameters")} <span class="count">{count(c.inputParam.length)}</span>
            </h3>
            <Parameters list={c.inputParam} />
          </>
        )}
      </div>
    </details>
  );
}

function Ports({ list }: { list: Port[] }) {
  if (list.length === 0) return <span class="muted">{t("none")}</span>;
  return (
    <ul>
      {list.map((o) => (
        <li key={o.name}>
          <span class="mono" translate={false}>
            {o.name}
          </span>{" "}
          <span class="muted">{known("output", o.category)}</span> <span translate={false}>{o.description}</span>
        </li>
      ))}
    </ul>
  );
}

function Parameters({ list }: { list: Param[] }) {
  return (
    <ActionTable
      rows={list}
      id={(p) => p.name}
      columns={[
        { title: t("providers.parameter"), cell: (p) => <span class="mono">{p.name}</span> },
        {
          title: t("providers.type"),
          cell: (p) => (
            <>
              {p.type} {!isOptional(p) && <span class="tag">{t("providers.required")}</span>}
            </>
          ),
        },
        { title: t("providers.default"), cell: (p) => <span class="mono">{shown(p.defaultValue)}</span> },
        {
          title: t("providers.valid"),
          cell: (p) => (
            <span class="mono">
              {p.bindingData?.length ? p.bindingData.map((b) => shown(b.value)).join(", ") : (p.validator ?? "")}
            </span>
          ),
        },
        {
          title: t("providers.description"),
          cell: (p) => (
            <>
              {p.title && <strong>{p.title}</strong>} {p.description}
            </>
          ),
        },
      ]}
    />
  );
}
