import type { Dataset, Model, PartnerData, Provider } from "../api/party";
import { t } from "../i18n";
import { ownNode } from "../session";
import { Field } from "../ui/field";
import { allParts, noResources, resourceNames, resourcesKey, taskOf, type Draft } from "./draft";
import { fieldId, type Remarks } from "./draftcheck";
import { datasetsOf, jobOf } from "./suggest";
import { partnerDatasets, TaskForm } from "./taskform";

interface Props {
  draft: Draft;
  change: (draft: Draft) => void;
  remarks: Remarks;
}

/** Roles lets parties be chosen for each role that the tasks' components have. */
export function Roles({ draft, change, remarks, parties }: Props & { parties: string[] }) {
  const roles = [...new Set(["guest", "host", "arbiter", ...Object.keys(draft.roles)])];
  const listed = [...new Set([...parties, ...Object.values(draft.roles).flat()])];
  const own = roles.filter((r) => draft.roles[r]?.includes(ownNode.value));
  const wrong = remarks.get(fieldId("roles"));
  return (
    <>
      <div class="fields" id={fieldId("roles")} tabIndex={-1}>
        {roles.map((role) => (
          <fieldset key={role}>
            <legend class="field">{role}</legend>
            {listed.map((node) => (
              <label key={node} class="check">
                <input
                  type="checkbox"
                  checked={draft.roles[role]?.includes(node) ?? false}
                  onChange={(e) => {
                    const before = draft.roles[role] ?? [];
                    const after = e.currentTarget.checked ? [...before, node] : before.filter((n) => n !== node);
                    const all = { ...draft.roles, [role]: after };
                    const first = roles.find((r) => all[r]?.includes(ownNode.value));
                    const initiatorRole = all[draft.initiatorRole]?.includes(ownNode.value)
                      ? draft.initiatorRole
                      : (first ?? draft.initiatorRole);
                    change({ ...draft, roles: all, initiatorRole });
                  }}
                />
                {node} {node === ownNode.value && <span class="muted">({t("failure.own")})</span>}
              </label>
            ))}
          </fieldset>
        ))}
      </div>
      {wrong?.error && (
        <p class="invalid" role="alert">
          {wrong.error}
        </p>
      )}
      {own.length > 1 && (
        <label class="field">
          {t("submit.initiatorRole")}
          <select
            value={draft.initiatorRole}
            onChange={(e) => change({ ...draft, initiatorRole: e.currentTarget.value })}
          >
            {own.map((r) => (
              <option key={r}>{r}</option>
            ))}
          </select>
        </label>
      )}
    </>
  );
}

/** ResourcesForm lets the resources of the containers be chosen: those of all parts, or of one. */
export function ResourcesForm({ draft, change, remarks }: Props) {
  const parts = Object.entries(draft.roles).flatMap(([role, nodes]) =>
    nodes.map((node, i) => ({ key: resourcesKey(role, i), label: `${role}.${i} ${node}` })),
  );
  const common = draft.resources[allParts];
  return (
    <>
      <p class="help">{t("submit.resourcesHelp")}</p>
      {[{ key: allParts, label: t("submit.everyPart") }, ...parts].map(({ key, label }) => {
        const typed = draft.resources[key] ?? noResources;
        return (
          <fieldset key={key} class="part-form">
            <legend>{label}</legend>
            <div class="fields">
              {resourceNames.map((name) => (
                <Field
                  key={name}
                  id={fieldId("resources", key, name)}
                  label={t(`submit.${name}`)}
                  remark={remarks.get(fieldId("resources", key, name))}
                >
                  {(shared) => (
                    <input
                      {...shared}
                      inputMode="decimal"
                      value={typed[name]}
                      placeholder={(key !== allParts && common?.[name]) || t(`submit.without.${name}`)}
                      onInput={(e) =>
                        change({ ...draft, resources: { ...draft.resources, [key]: { ...typed, [name]: e.currentTarget.value } } })
                      }
                    />
                  )}
                </Field>
              ))}
            </div>
          </fieldset>
        );
      })}
    </>
  );
}

/** Tasks lets tasks be added, connected and given parameters. */
export function Tasks(
  props: Props & { providers: Provider[]; datasets: Dataset[]; models: Model[]; partnerData: PartnerData[] },
) {
  const { draft, change, providers, datasets, partnerData } = props;
  const options = providers.flatMap((p) => Object.values(p.components_description).map((c) => ({ p, c })));
  return (
    <>
      <datalist id="own-datasets">
        {datasets.map((d) => (
          <option key={`${d.namespace}#${d.name}`} value={`${d.namespace}#${d.name}`} />
        ))}
      </datalist>
      {[...new Set(partnerData.map((d) => d.node_id))].map((node) => (
        <datalist key={node} id={partnerDatasets(node)}>
          {datasetsOf(partnerData, node).map((d) => (
            <option key={d.dataset} value={d.dataset} label={jobOf(d)} />
          ))}
        </datalist>
      ))}
      {draft.tasks.map((task, i) => (
        <TaskForm key={i} index={i} task={task} {...props} />
      ))}
      {options.length === 0 ? (
        <p class="muted">{t("providers.empty")}</p>
      ) : (
        <label class="field">
          {t("submit.addTask")}
          <select
            id={fieldId("add")}
            value=""
            onChange={(e) => {
              const chosen = options[Number(e.currentTarget.value)];
              e.currentTarget.value = "";
              if (chosen) change({ ...draft, tasks: [...draft.tasks, taskOf(chosen.p, chosen.c, draft.tasks)] });
            }}
          >
            <option value="">{t("submit.choose")}</option>
            {options.map(({ p, c }, i) => (
              <option key={i} value={i}>
                {p.name} {p.version}: {c.componentName} – {c.title}
              </option>
            ))}
          </select>
        </label>
      )}
    </>
  );
}
