import type { Dataset, Param, Provider } from "../api/party";
import type { PortRef } from "../api/document";
import { t } from "../i18n";
import { ownNode } from "../session";
import { choices, isObject, isOptional, parse, shown } from "../ui/params";
import { datasetKey, findComponent, kindOf, rename, sourcesOf, taskOf, type Draft, type TaskDraft } from "./draft";

interface Props {
  draft: Draft;
  change: (draft: Draft) => void;
}

/** Roles lets parties be chosen for each role that the tasks' components have. */
export function Roles({ draft, change, parties }: Props & { parties: string[] }) {
  const roles = [...new Set(["guest", "host", "arbiter", ...Object.keys(draft.roles)])];
  const listed = [...new Set([...parties, ...Object.values(draft.roles).flat()])];
  const own = roles.filter((r) => draft.roles[r]?.includes(ownNode.value));
  return (
    <>
      <div class="fields">
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

/** Tasks lets tasks be added, connected and given parameters. */
export function Tasks({ draft, change, providers, datasets }: Props & { providers: Provider[]; datasets: Dataset[] }) {
  const options = providers.flatMap((p) => Object.values(p.components_description).map((c) => ({ p, c })));
  return (
    <>
      <datalist id="own-datasets">
        {datasets.map((d) => (
          <option key={`${d.namespace}#${d.name}`} value={`${d.namespace}#${d.name}`} />
        ))}
      </datalist>
      {draft.tasks.map((task, i) => (
        <TaskForm key={i} index={i} task={task} draft={draft} change={change} providers={providers} />
      ))}
      {options.length === 0 ? (
        <p class="muted">{t("providers.empty")}</p>
      ) : (
        <label class="field">
          {t("submit.addTask")}
          <select
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

function TaskForm(props: Props & { index: number; task: TaskDraft; providers: Provider[] }) {
  const { draft, change, index, task, providers } = props;
  const described = findComponent(providers, task);
  const earlier = draft.tasks.slice(0, index);
  const update = (next: TaskDraft) => change({ ...draft, tasks: draft.tasks.map((x, i) => (i === index ? next : x)) });
  const setParam = (name: string, typed: string) => update({ ...task, params: { ...task.params, [name]: typed } });
  const [first, rest] = grouped(described?.inputParam ?? [], task);
  const undescribed = Object.keys(task.params).filter((k) => !described?.inputParam.some((p) => p.name === k));
  const ports = described?.inputData ?? [];
  const readsDataset = !task.input.some((i) => kindOf(i.type) === "data") && (ports.length === 0 ? !described : ports.some((p) => kindOf(p.category) === "data"));
  return (
    <fieldset class="task-form">
      <legend class="sr">{task.name}</legend>
      <header>
        <label>
          <span class="sr">{t("submit.taskName")}</span>
          <input
            value={task.name}
            pattern="[A-Za-z0-9_\-]+"
            required
            onChange={(e) => {
              const name = e.currentTarget.value.trim();
              if (name && name !== task.name && !draft.tasks.some((x) => x.name === name)) change(rename(draft, task.name, name));
              else e.currentTarget.value = task.name;
            }}
          />
        </label>
        <strong>{task.component}</strong>
        <span class="muted">
          {task.provider} {task.version}
        </span>
        <button
          type="button"
          class="small"
          onClick={() =>
            change({
              ...draft,
              tasks: draft.tasks
                .filter((_, i) => i !== index)
                .map((x) => ({ ...x, input: x.input.filter((r) => !r.key.startsWith(`${task.name}.`)) })),
            })
          }
        >
          {t("submit.removeTask")}
          <span class="sr"> {task.name}</span>
        </button>
      </header>
      {!described && <p class="stale">{t("submit.undescribed", { provider: `${task.provider} ${task.version}` })}</p>}
      <div class="fields">
        {ports.map((port) => {
          const kind = kindOf(port.category);
          const sources = earlier.flatMap((e) => sourcesOf(e, kind));
          const have = task.input.find((r) => kindOf(r.type) === kind);
          return (
            <label key={port.name} class="field">
              {port.name}
              <select value={have?.key ?? ""} onChange={(e) => update({ ...task, input: connect(task.input, kind, sources, e.currentTarget.value) })}>
                <option value="">{t(kind === "data" ? "submit.uploaded" : "none")}</option>
                {sources.map((s) => (
                  <option key={s.key} value={s.key}>
                    {s.key}
                  </option>
                ))}
              </select>
              <span class="help">{port.description}</span>
            </label>
          );
        })}
        {readsDataset &&
          Object.entries(draft.roles)
            .filter(([role]) => !described || described.roleList.includes(role))
            .flatMap(([role, nodes]) =>
              nodes.map((node, i) => {
                const key = datasetKey(task.name, role, i);
                return (
                  <label key={key} class="field">
                    {t("submit.datasetOf", { role: `${role}.${i}` })}
                    <input
                      value={draft.datasets[key] ?? ""}
                      list={node === ownNode.value ? "own-datasets" : undefined}
                      placeholder="namespace#name"
                      onInput={(e) => change({ ...draft, datasets: { ...draft.datasets, [key]: e.currentTarget.value.trim() } })}
                    />
                    <span class="help">{node}</span>
                  </label>
                );
              }),
            )}
        {first.map((p) => (
          <ParamField key={p.name} task={task.name} param={p} typed={task.params[p.name] ?? ""} set={(v) => setParam(p.name, v)} />
        ))}
        {undescribed.map((name) => (
          <label key={name} class="field">
            {name}
            <input value={task.params[name]} onInput={(e) => setParam(name, e.currentTarget.value)} />
          </label>
        ))}
      </div>
      {rest.length > 0 && (
        <details>
          <summary>{t("submit.moreParams", { n: rest.length })}</summary>
          <div class="fields">
            {rest.map((p) => (
              <ParamField key={p.name} task={task.name} param={p} typed={task.params[p.name] ?? ""} set={(v) => setParam(p.name, v)} />
            ))}
          </div>
        </details>
      )}
    </fieldset>
  );
}

/** connect replaces the input of a kind. */
function connect(input: PortRef[], kind: string, sources: PortRef[], key: string): PortRef[] {
  const rest = input.filter((r) => kindOf(r.type) !== kind);
  const chosen = sources.find((s) => s.key === key);
  return chosen ? [...rest, chosen] : rest;
}

/** grouped returns the parameters to show at once: what is required, given or not hidden; and the rest. */
function grouped(list: Param[], task: TaskDraft): [Param[], Param[]] {
  const hidden = (p: Param) =>
    isOptional(p) && task.params[p.name] === undefined && /不显示|hidden|advanced/i.test(p.groupTag ?? "");
  return [list.filter((p) => !hidden(p)), list.filter(hidden)];
}

function ParamField({ task, param: p, typed, set }: { task: string; param: Param; typed: string; set: (typed: string) => void }) {
  const options = choices(p);
  const standard = shown(p.defaultValue);
  const usesDefault = typed === "" && p.defaultValue !== undefined && p.defaultValue !== null;
  const { error } = usesDefault ? {} : parse(p, typed);
  const id = `help-${task}-${p.name}`;
  const shared = { "aria-invalid": error ? ("true" as const) : undefined, "aria-describedby": id };
  return (
    <label class="field">
      <span>
        <span class="param-name">{p.title || p.name}</span> {p.title && <span class="help mono">{p.name}</span>}
      </span>
      {options ? (
        <select {...shared} value={typed} onChange={(e) => set(e.currentTarget.value)}>
          <option value="">{standard ? t("submit.default", { value: standard }) : t("none")}</option>
          {options.map((o) => (
            <option key={o.value} value={o.value}>
              {o.label}
            </option>
          ))}
          {typed && !options.some((o) => o.value === typed) && <option value={typed}>{typed}</option>}
        </select>
      ) : isObject(p) ? (
        <textarea {...shared} rows={2} class="mono" value={typed} placeholder={standard} onInput={(e) => set(e.currentTarget.value)} />
      ) : (
        <input {...shared} value={typed} placeholder={standard} onInput={(e) => set(e.currentTarget.value)} />
      )}
      <span id={id}>
        {error && (
          <span class="invalid" role="alert">
            {error}{" "}
          </span>
        )}
        <span class="help">
          {p.description} {p.validator && <span class="mono">{p.validator}</span>}
        </span>
      </span>
    </label>
  );
}
