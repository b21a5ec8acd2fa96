// What a job has used and exchanged at this party.
import type { components } from "../api/schema";
import { t } from "../i18n";
import { partyName } from "./failure";
import { bytes, count } from "./format";

export type JobAccount = components["schemas"]["JobAccount"];

const unknown = "?";

function seconds(n: number | null | undefined, atLeast?: boolean): string {
  return n === null || n === undefined ? unknown : `${atLeast ? "≥ " : ""}${count(n)} s`;
}

function size(n: number | null | undefined, atLeast?: boolean): string {
  return n === null || n === undefined ? unknown : `${atLeast ? "≥ " : ""}${bytes(n)}`;
}

/** Account shows an account: its totals, each attempt, and the bytes by partner. */
export function Account({ account }: { account: JobAccount }) {
  const { totals } = account;
  if (account.parts.length === 0 && account.traffic.length === 0) return <p class="muted">{t("account.none")}</p>;
  return (
    <>
      <dl class="summary">
        <Value name={t("account.container")} value={seconds(totals.container_seconds)} />
        <Value name={t("account.cpu")} value={seconds(totals.cpu_seconds, totals.at_least)} />
        <Value name={t("account.memory")} value={size(totals.peak_memory_bytes, totals.at_least)} />
        <Value name={t("account.sent")} value={size(totals.sent_bytes)} />
        <Value name={t("account.received")} value={size(totals.received_bytes)} />
      </dl>
      {!account.traffic_complete && <p class="muted">{t("account.later")}</p>}
      <details>
        <summary>{t("account.detail")}</summary>
        <div class="scroll">
          <table>
            <thead>
              <tr>
                <th scope="col">{t("job.task")}</th>
                <th scope="col">{t("job.part")}</th>
                <th scope="col">{t("task.attempt")}</th>
                <th scope="col" class="number">{t("account.container")}</th>
                <th scope="col" class="number">{t("account.cpu")}</th>
                <th scope="col" class="number">{t("account.memory")}</th>
              </tr>
            </thead>
            <tbody>
              {account.parts.map((p) => (
                <tr key={`${p.task_name} ${p.role} ${p.attempt}`}>
                  <td>{p.task_name}</td>
                  <td>{p.role}</td>
                  <td>{p.attempt}</td>
                  <td class="number">{seconds(p.container_seconds)}</td>
                  <td class="number">{seconds(p.cpu_seconds, p.at_least)}</td>
                  <td class="number">{size(p.peak_memory_bytes, p.at_least)}</td>
                </tr>
              ))}
            </tbody>
          </table>
        </div>
        {account.traffic.length > 0 && (
          <div class="scroll">
            <table>
              <thead>
                <tr>
                  <th scope="col">{t("job.task")}</th>
                  <th scope="col">{t("account.partner")}</th>
                  <th scope="col">{t("task.attempt")}</th>
                  <th scope="col" class="number">{t("account.sent")}</th>
                  <th scope="col" class="number">{t("account.received")}</th>
                </tr>
              </thead>
              <tbody>
                {account.traffic.map((f) => (
                  <tr key={`${f.task_name} ${f.attempt} ${f.node_id}`}>
                    <td>{f.task_name || unknown}</td>
                    <td>{partyName(f.node_id)}</td>
                    <td>{f.attempt || unknown}</td>
                    <td class="number">{size(f.sent_bytes, f.at_least)}</td>
                    <td class="number">{size(f.received_bytes, f.at_least)}</td>
                  </tr>
                ))}
              </tbody>
            </table>
          </div>
        )}
      </details>
    </>
  );
}

function Value({ name, value }: { name: string; value: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd class="number">{value}</dd>
    </div>
  );
}
