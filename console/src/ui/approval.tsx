// What an approver of this party decides on.
import { get } from "../api/client";
import { paths } from "../api/paths";
import type { Approval } from "../api/types";
import { known, t } from "../i18n";
import { ofJob, useResource } from "../resource";
import { jobHref, Link } from "../router";
import { canSomewhere } from "../session";
import { Loaded } from "./basic";
import { DifferenceTable, Near, parameterTexts } from "./rules";

/** ApprovalView shows what a job reads of this party, who gets which outputs, and what differs from the last one. */
export function ApprovalView({ id }: { id: string }) {
  const approval = useResource(
    `approval ${id}`,
    (abort) => get<Approval>(paths.approval, { job_id: id }, abort),
    ofJob(id),
  );
  return (
    <Loaded resource={approval}>
      {(a) => (
        <div class="approval">
          <h3>{t("approval.reads")}</h3>
          {a.reads.length === 0 && <p>{t("approval.readsNothing")}</p>}
          <ul class="approval-reads">
            {a.reads.map((r) => (
              <li key={`${r.task_name} ${r.role}`}>
                <Read read={r} />
              </li>
            ))}
          </ul>
          <h3>{t("approval.makes")}</h3>
          <p class="help">{t(a.makes?.length ? "approval.makesHelp" : "approval.makesNothing")}</p>
          <ul class="approval-reads">
            {a.makes?.map((m, i) => (
              <li key={i}>
                <Made made={m} node={a.node_id} />
              </li>
            ))}
          </ul>
          <h3>{t("approval.differences")}</h3>
          <Differences approval={a} />
          {a.near_rule && <Near rule={a.near_rule} />}
          {a.rule && (
            <>
              <h3>{t("rule.approved")}</h3>
              <p>
                {a.rule.note || a.rule.rule_id} <span class="muted">{a.rule.created_by}</span>
              </p>
            </>
          )}
        </div>
      )}
    </Loaded>
  );
}

function Read({ read: r }: { read: Approval["reads"][number] }) {
  const named = r.named_columns.length > 0;
  const parameters = parameterTexts(r.parameters);
  return (
    <>
      <p>
        <strong>{r.task_name}</strong> <span class="muted">{`${r.role} · ${r.component}, ${r.provider}`}</span>
        {r.title && <Quote text={r.title} inline />}
      </p>
      {!r.dataset && !r.model && r.derived.length === 0 && <p class="muted">{t("approval.partReadsNothing")}</p>}
      <dl class="approval-list">
        {r.dataset && (
          <div>
            <dt>{t("job.dataset")}</dt>
            <dd>
              {r.dataset}
              {r.columns.length === 0 ? `: ${t("approval.allColumns")}` : `, ${t("job.rows", { n: r.rows ?? 0 })}`}
            </dd>
          </div>
        )}
        {named && (
          <div>
            <dt>{t("approval.named")}</dt>
            <dd>{r.named_columns.join(", ")}</dd>
          </div>
        )}
        {r.columns.length > 0 && (
          <div>
            <dt>{t("approval.columns")}</dt>
            <dd>{r.columns.join(", ")}</dd>
          </div>
        )}
        {r.model && (
          <div>
            <dt>{t("approval.model")}</dt>
            <dd>{r.model}</dd>
          </div>
        )}
        {r.derived.length > 0 && (
          <div>
            <dt>{t("approval.derived")}</dt>
            <dd>{r.derived.join(", ")}</dd>
          </div>
        )}
        {parameters.length > 0 && (
          <div>
            <dt>{t("rule.parameters")}</dt>
            <dd>{parameters.join(", ")}</dd>
          </div>
        )}
        {r.images.map((i) => (
          <div key={i.device}>
            <dt>
              {t("approval.runs")} <span class="muted">({i.device})</span>
            </dt>
            <dd>
              {i.command?.length ? <code>{i.command.join(" ")}</code> : i.image}
              {i.image_ids?.map((image) => (
                <code key={image} class="approval-id">
                  {image}
                </code>
              ))}
              {i.image_ids?.length === 0 && <span class="muted"> {t("approval.unresolved")}</span>}
            </dd>
          </div>
        ))}
      </dl>
    </>
  );
}

// A provider's text must not push what Hutong says off the page.
const quoted = 400;

/** Quote shows a text that a provider wrote, so that nobody takes it for one of Hutong. */
function Quote({ text, inline }: { text: string; inline?: boolean }) {
  const characters = [...text];
  return (
    <span class={inline ? "approval-quote inline" : "approval-quote"} translate={false}>
      <bdi>{characters.length > quoted ? `${characters.slice(0, quoted).join("")}…` : text}</bdi>
    </span>
  );
}

/** Made shows in words what a task makes, of which data of this party, and who gets it. */
function Made({ made: m, node }: { made: Approval["makes"][number]; node: string }) {
  const isOwn = (party: string) => party === node || party.startsWith(`${node} `);
  const from = [...m.own, ...m.own_models.map((model) => t("approval.ownModel", { model }))];
  const others = m.parties.filter((p) => !isOwn(p));
  const roles = m.parties.filter(isOwn).map((p) => /\((.*)\)$/.exec(p)?.[1] ?? p);
  return (
    <>
      <p>
        <strong>{m.task_name}</strong> <span class="muted">{`${m.component}, ${m.provider}`}</span>
        {m.title && <Quote text={m.title} inline />}
      </p>
      {m.description && <Quote text={m.description} />}
      <dl class="approval-list">
        <div>
          <dt>{t("approval.own")}</dt>
          <dd>{from.join(", ") || t("approval.ownNothing")}</dd>
        </div>
        <div>
          <dt>{t("approval.getsOwn")}</dt>
          <dd>{roles.join(", ") || t("approval.nobody")}</dd>
        </div>
        <div>
          <dt>{t("approval.getsOther")}</dt>
          <dd>{others.length > 0 ? <strong>{others.join(", ")}</strong> : t("approval.nobody")}</dd>
        </div>
        {m.outputs.map((o) => (
          <div key={o.key}>
            <dt>
              <span class="tag">{t(`approval.kind.${o.kind}`)}</span> <span class="mono">{o.key}</span>
            </dt>
            <dd>
              {t(`approval.holds.${o.kind}`)}
              {o.description && <Quote text={o.description} />}
            </dd>
          </div>
        ))}
      </dl>
    </>
  );
}

function Differences({ approval: a }: { approval: Approval }) {
  if (!a.previous) return <p>{a.flow_id ? t("approval.noEarlier", { flow: a.flow_id }) : t("approval.noFlow")}</p>;
  const previous = canSomewhere("viewer") ? <Link to={jobHref(a.previous)}>{a.previous}</Link> : a.previous;
  if (a.differences.length === 0) {
    return (
      <p>
        {t("approval.equal")} {previous}
      </p>
    );
  }
  return (
    <>
      <p>
        {t("approval.differsFrom")} {previous}
      </p>
      <DifferenceTable
        now={t("approval.now")}
        was={t("approval.was")}
        rows={a.differences.map((d) => ({
          where: [d.task_name, d.role],
          field: `${known("approval.field", d.field)} ${d.parameter ?? ""}`,
          now: d.now,
          was: d.was,
        }))}
      />
    </>
  );
}
