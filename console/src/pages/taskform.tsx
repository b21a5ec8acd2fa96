// The form of one task of a job, made of the description of its component.
import type { Dataset, Model, Param, PartnerData, Port, Provider } from "../api/party";
import type { PortRef } from "../api/document";
import { t } from "../i18n";
import { ownNode } from "../session";
import { Field, type Remark } from "../ui/field";
import { choices, isObject, isOptional, shown } from "../ui/params";
import { findComponent, kindOf, modelParam, partKey, rename, sourcesOf, type Draft, type TaskDraft } from "./draft";
import { fieldId, partsOf, readsDataset, type Remarks } from "./draftcheck";
import { columns, datasetsOf, jobOf, type Suggestion } from "./suggest";

interface Props {
  draft: Draft;
  change: (draft: Draft) => void;
  remarks: Remarks;
  index: number;
  task: TaskDraft;
  providers: Provider[];
  datasets: Dataset[];
  models: Model[];
  partnerData: PartnerData[];
}

/** partnerDatasets is the id of the list of datasets that earlier jobs read of a partner. */
export function partnerDatasets(node: string): string {
  return `datasets-of-${node}`;
}

export function TaskForm(props: Props) {
  const { draft, change, remarks, index, task, providers } = props;
  const described = findComponent(providers, task);
  const update = (next: TaskDraft) => change({ ...draft, tasks: draft.tasks.map((x, i) => (i === index ? next : x)) });
  const setParam = (name: string, typed: string) => update({ ...task, params: { ...task.params, [name]: typed } });
  const [first, rest] = grouped(described?.inputParam ?? [], task, remarks);
  const ports = described?.inputData ?? [];
  const choosesModel = ports.some((p) => kindOf(p.category) === "model");
  const undescribed = Object.keys(task.params).filter(
    (k) => !described?.inputParam.some((p) => p.name === k) && !(choosesModel && k === modelParam),
  );
  const parameter = (p: Param) => (
    <ParamField
      key={p.name}
      id={fieldId(task.name, p.name)}
      param={p}
      typed={task.params[p.name] ?? ""}
      set={(v) => setParam(p.name, v)}
      remark={remarks.get(fieldId(task.name, p.name))}
      suggestions={columns(p, task, partsOf(draft, providers, task).map((x) => x.node), draft, props)}
    />
  );
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
        {ports.map((port) => (
          <PortField key={port.name} port={port} ports={ports} {...props} update={update} />
        ))}
        {readsDataset(providers, task) && <Datasets {...props} />}
        {first.map(parameter)}
        {undescribed.map((name) => (
          <Field key={name} id={fieldId(task.name, name)} label={name} remark={remarks.get(fieldId(task.name, name))}>
            {(shared) => <input {...shared} value={task.params[name]} onInput={(e) => setParam(name, e.currentTarget.value)} />}
          </Field>
        ))}
      </div>
      {rest.length > 0 && (
        <details>
          <summary>{t("submit.moreParams", { n: rest.length })}</summary>
          <div class="fields">{rest.map(parameter)}</div>
        </details>
      )}
      {described && described.inputParam.length > 0 && <OwnParams {...props} list={described.inputParam} />}
    </fieldset>
  );
}

const storedModel = "model:";

/** PortField chooses where an input comes from: from an earlier task, from uploaded datasets, or a stored model. */
function PortField(props: Props & { port: Port; ports: Port[]; update: (task: TaskDraft) => void }) {
  const { port, task, update, remarks } = props;
  const kind = kindOf(port.category);
  const sources = props.draft.tasks.slice(0, props.index).flatMap((e) => sourcesOf(e, kind));
  // Of several inputs of a kind, the first port has the first.
  const place = props.ports.filter((p) => kindOf(p.category) === kind).indexOf(port);
  const have = task.input.filter((r) => kindOf(r.type) === kind)[place];
  const models = kind === "model" ? modelsFor(props.models, task) : [];
  const model = kind === "model" ? (task.params[modelParam] ?? "") : "";
  const id = fieldId(task.name, port.name);
  function choose(value: string) {
    const { [modelParam]: _, ...params } = task.params;
    const stored = value.startsWith(storedModel);
    update({
      ...task,
      input: connect(task.input, kind, place, sources.find((s) => s.key === value)),
      params: kind !== "model" ? task.params : stored ? { ...params, [modelParam]: value.slice(storedModel.length) } : params,
    });
  }
  return (
    <Field id={id} label={port.name} remark={remarks.get(id)} help={port.description}>
      {(shared) => (
        <select {...shared} value={have?.key ?? (model && storedModel + model)} onChange={(e) => choose(e.currentTarget.value)}>
          <option value="">{t(kind === "data" ? "submit.uploaded" : kind === "model" ? "submit.chooseModel" : "none")}</option>
          {sources.map((s) => (
            <option key={s.key} value={s.key}>
              {t("submit.ofTask", { output: s.key })}
            </option>
          ))}
          {models.map((m) => (
            <option key={m.model} value={storedModel + m.model}>
              {m.model} – {m.component}
            </option>
          ))}
          {model && !models.some((m) => m.model === model) && <option value={storedModel + model}>{model}</option>}
        </select>
      )}
    </Field>
  );
}

/**
 * modelsFor returns the stored models that a component may apply, each once: those of its provider, and of them those of
 * the component of the same name without _predict, if there are any.
 */
function modelsFor(models: Model[], task: TaskDraft): Model[] {
  const names = new Set<string>();
  const once = models.filter((m) => !names.has(m.model) && names.add(m.model));
  const same = once.filter((m) => m.provider.split(":")[0] === task.provider);
  const trained = same.filter((m) => `${m.component}_predict` === task.component);
  return trained.length ? trained : same;
}

/** Datasets names the dataset that each part reads. */
function Datasets({ draft, change, remarks, task, providers, partnerData }: Props) {
  return (
    <>
      {partsOf(draft, providers, task).map(({ role, index, node }) => {
        const id = fieldId(task.name, "dataset", role, index);
        const key = partKey(task.name, role, index);
        const own = node === ownNode.value;
        const earlier = datasetsOf(partnerData, node);
        const help = own
          ? t("failure.own")
          : earlier[0]
            ? t("submit.partnerDatasets", { dataset: earlier[0].dataset, job: jobOf(earlier[0]) })
            : t("submit.partnerDataset");
        return (
          <Field
            key={key}
            id={id}
            label={t("submit.datasetOf", { role: `${role}.${index}` })}
            remark={remarks.get(id)}
            help={`${node}: ${help}`}
          >
            {(shared) => (
              <input
                {...shared}
                value={draft.datasets[key] ?? ""}
                list={own ? "own-datasets" : earlier.length > 0 ? partnerDatasets(node) : undefined}
                placeholder="namespace#name"
                onInput={(e) => change({ ...draft, datasets: { ...draft.datasets, [key]: e.currentTarget.value.trim() } })}
              />
            )}
          </Field>
        );
      })}
    </>
  );
}

/** OwnParams lets one part have other parameters than the task's. */
function OwnParams(props: Props & { list: Param[] }) {
  const { draft, change, remarks, task, providers, list } = props;
  const parts = partsOf(draft, providers, task);
  const count = parts.reduce((n, p) => n + Object.keys(draft.own[partKey(task.name, p.role, p.index)] ?? {}).length, 0);
  const wrong = parts.some((p) => list.some((x) => remarks.has(fieldId(task.name, x.name, p.role, p.index))));
  return (
    <details open={wrong || undefined}>
      <summary>{t("submit.ownParams", { n: count })}</summary>
      {parts.map(({ role, index, node }) => {
        const key = partKey(task.name, role, index);
        const own = draft.own[key] ?? {};
        const set = (params: Record<string, string>) => change({ ...draft, own: { ...draft.own, [key]: params } });
        const known = list.filter((p) => own[p.name] !== undefined);
        const undescribed = Object.keys(own).filter((name) => !list.some((p) => p.name === name));
        return (
          <fieldset key={key} class="part-form">
            <legend>
              {role}.{index} {node}
            </legend>
            <div class="fields">
              {[...known, ...undescribed.map((name): Param => ({ name, type: "", optional: true }))].map((p) => {
                const id = fieldId(task.name, p.name, role, index);
                return (
                  <ParamField
                    key={p.name}
                    id={id}
                    param={p}
                    typed={own[p.name] ?? ""}
                    standard={task.params[p.name]}
                    set={(v) => set({ ...own, [p.name]: v })}
                    remark={remarks.get(id)}
                    suggestions={columns(p, task, [node], draft, props)}
                  />
                );
              })}
              <label class="field">
                {t("submit.addOwnParam")}
                <select
                  value=""
                  onChange={(e) => {
                    const name = e.currentTarget.value;
                    e.currentTarget.value = "";
                    if (name) set({ ...own, [name]: task.params[name] ?? "" });
                  }}
                >
                  <option value="">{t("submit.chooseParam")}</option>
                  {list
                    .filter((p) => own[p.name] === undefined)
                    .map((p) => (
                      <option key={p.name} value={p.name}>
                        {p.name} {p.title}
                      </option>
                    ))}
                </select>
              </label>
            </div>
          </fieldset>
        );
      })}
    </details>
  );
}

/** connect replaces the input at a place among those of a kind. */
function connect(input: PortRef[], kind: string, place: number, chosen: PortRef | undefined): PortRef[] {
  const same = input.filter((r) => kindOf(r.type) === kind);
  const after = chosen ? [chosen] : [];
  return [...input.filter((r) => kindOf(r.type) !== kind), ...same.slice(0, place), ...after, ...same.slice(place + 1)];
}

/** grouped returns the parameters to show at once: what is required, given, remarked on or not hidden; and the rest. */
function grouped(list: Param[], task: TaskDraft, remarks: Remarks): [Param[], Param[]] {
  const hidden = (p: Param) =>
    isOptional(p) &&
    task.params[p.name] === undefined &&
    !remarks.has(fieldId(task.name, p.name)) &&
    /不显示|hidden|advanced/i.test(p.groupTag ?? "");
  return [list.filter((p) => !hidden(p)), list.filter(hidden)];
}

/** ParamField is the control of a parameter. standard is what counts without a text. */
function ParamField(props: {
  id: string;
  param: Param;
  typed: string;
  standard?: string | undefined;
  set: (typed: string) => void;
  remark: Remark | undefined;
  suggestions: Suggestion[];
}) {
  const { param: p, typed, set, suggestions } = props;
  const listId = `${props.id}-list`;
  const options = choices(p);
  const standard = props.standard || shown(p.defaultValue);
  return (
    <Field
      id={props.id}
      label={
        <>
          <span class="param-name">{p.title || p.name}</span> {p.title && <span class="help mono">{p.name}</span>}
        </>
      }
      remark={props.remark}
      help={
        <>
          {p.description} {p.validator && <span class="mono">{p.validator}</span>}
        </>
      }
    >
      {(shared) =>
        options ? (
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
          <>
            <input
              {...shared}
              value={typed}
              placeholder={standard}
              list={suggestions.length > 0 ? listId : undefined}
              onInput={(e) => set(e.currentTarget.value)}
            />
            {suggestions.length > 0 && (
              <datalist id={listId}>
                {suggestions.map((s) => (
                  <option key={s.value} value={s.value} label={s.from} />
                ))}
              </datalist>
            )}
          </>
        )
      }
    </Field>
  );
}
