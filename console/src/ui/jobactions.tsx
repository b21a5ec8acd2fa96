// What may be done with a job, by the roles of the client and the state of the job.
import { useState } from "preact/hooks";
import { post } from "../api/client";
import { paths } from "../api/paths";
import type { Waiting } from "../api/types";
import { t } from "../i18n";
import { can, canIn, defaultProject, ownNode } from "../session";
import { Ask } from "./basic";
import { LikeForm, type Like } from "./rules";
import { ended, type State } from "./state";

interface Job {
  job_id: string;
  state: State;
  waiting: Waiting[] | undefined;
  initiator?: string;
  project?: string | undefined;
}

type Act = "stop" | "priority" | "approve" | "refuse";

/** awaitsOwn returns whether a job waits for this party's approval. */
export function awaitsOwn(job: { state: State; waiting: Waiting[] | undefined }): boolean {
  return (
    job.state === "PENDING" &&
    (job.waiting ?? []).some((w) => w.kind === "approval" && (!w.node_id || w.node_id === ownNode.value))
  );
}

function offered(job: Job): Act[] {
  const acts: Act[] = [];
  if (canIn("approver", job.project) && awaitsOwn(job)) acts.push("approve", "refuse");
  if (canIn("operator", job.project)) {
    if (job.state === "READY" && (!job.initiator || job.initiator === ownNode.value)) acts.push("priority");
    if (!ended(job.state)) acts.push("stop");
  }
  return acts;
}

/** JobActions shows buttons for what the client may do with a job. done is called afterwards. */
export function JobActions({ job, done, small }: { job: Job; done: () => void; small?: boolean }) {
  const [act, setAct] = useState<Act>();
  const acts = offered(job);
  if (acts.length === 0 && !act) return null;
  return (
    <span class="job-actions">
      {acts.map((a) => (
        <button
          key={a}
          type="button"
          class={`${small ? "small" : ""} ${a === "approve" ? "primary" : ""}`}
          onClick={() => setAct(a)}
        >
          {t(`action.${a}`)}
          <span class="sr"> {job.job_id}</span>
        </button>
      ))}
      {act && <JobDialog act={act} id={job.job_id} project={job.project} close={() => setAct(undefined)} done={done} />}
    </span>
  );
}

interface DialogProps {
  act: Act;
  id: string;
  project: string | undefined;
  close: () => void;
  done: () => void;
}

function JobDialog({ act, id, project, close, done }: DialogProps) {
  const [reason, setReason] = useState("");
  const [priority, setPriority] = useState(5);
  const [like, setLike] = useState<Like>();
  const [added, setAdded] = useState(false);

  async function go() {
    const ref = { job_id: id };
    switch (act) {
      case "stop":
        await post(paths.stop, ref);
        break;
      case "priority":
        await post(paths.priority, { ...ref, priority });
        break;
      case "approve":
        // The rule first: if it can't be made, nothing is approved, and the dialog shows why.
        if (like && !added) {
          if (!like.scope) throw new Error(t("rule.noScope"));
          const until = new Date(`${like.until}T23:59:59`).toISOString();
          // A rule of an approver of all projects is for the jobs of all.
          const of = can("approver") ? {} : { project: project ?? defaultProject };
          await post(paths.addRule, { scope: like.scope, until, note: like.note, ...ref, ...of });
          setAdded(true);
        }
        await post(paths.audit, { ...ref, status: "READY" });
        break;
      case "refuse":
        await post(paths.audit, { ...ref, status: "REJECTED", ...(reason ? { reason } : {}) });
    }
    done();
  }

  return (
    <Ask
      title={t(`action.${act}Title`, { id })}
      text={t(`action.${act}Text`)}
      button={act === "priority" ? t("action.set") : t(`action.${act}`)}
      danger={act === "stop" || act === "refuse"}
      close={close}
      do={go}
    >
      {act === "priority" && (
        <label class="field">
          {t("action.priorityLabel")}
          <input
            type="number"
            min={0}
            max={9}
            required
            value={priority}
            onInput={(e) => setPriority(e.currentTarget.valueAsNumber)}
          />
        </label>
      )}
      {act === "approve" && <LikeForm id={id} {...(like ? { like } : {})} set={setLike} />}
      {act === "refuse" && (
        <label class="field">
          {t("action.reason")}
          <textarea rows={3} value={reason} onInput={(e) => setReason(e.currentTarget.value)} />
        </label>
      )}
    </Ask>
  );
}
