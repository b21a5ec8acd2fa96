import { useState } from "preact/hooks";
import { get } from "../api/client";
import { partyPaths, type Entry, type Trail } from "../api/party";
import { verify, type Verdict } from "../api/trail";
import { known, t } from "../i18n";
import { current, jobHref, Link, setQuery } from "../router";
import { useResource } from "../resource";
import { Loaded } from "../ui/basic";
import { count } from "../ui/format";
import { ActionTable, type Column } from "../ui/table";
import { absolute } from "../ui/time";

const page = 200;

/**
 * TrailView shows the audit trail, and whether the entries that are shown are what they were. It loads only when
 * asked, since each reading is an entry of the trail too.
 */
export function TrailView() {
  const query = current.value.query;
  const filter = { principal: query.get("principal") ?? "", act: query.get("act") ?? "", outcome: query.get("outcome") ?? "" };
  const [limit, setLimit] = useState(page);
  const key = JSON.stringify([filter, limit]);
  const trail = useResource(key, async (abort) => {
    const data = await get<Trail>(partyPaths.trail, { ...filter, limit }, abort);
    return { ...data, verdict: await verify(data, Object.values(filter).some(Boolean)) };
  });
  return (
    <>
      <form
        class="filters"
        role="search"
        onSubmit={(e) => {
          e.preventDefault();
          const form = new FormData(e.currentTarget);
          setLimit(page);
          setQuery({
            principal: String(form.get("principal")).trim(),
            act: String(form.get("act")).trim(),
            outcome: String(form.get("outcome")),
          });
        }}
      >
        <label class="filter">
          {t("trail.principal")}
          <input type="search" name="principal" defaultValue={filter.principal} />
        </label>
        <label class="filter">
          {t("trail.act")}
          <input type="search" name="act" defaultValue={filter.act} placeholder="job.stop, job" />
        </label>
        <label class="filter">
          {t("trail.outcome")}
          <select name="outcome" defaultValue={filter.outcome}>
            <option value="">{t("jobs.any")}</option>
            {["allowed", "refused", "failed"].map((o) => (
              <option key={o} value={o}>
                {known("trail.outcome", o)}
              </option>
            ))}
          </select>
        </label>
        <button type="submit">{t("trail.search")}</button>
        <button type="button" onClick={trail.reload}>
          {t("trail.reload")}
        </button>
      </form>
      <Loaded resource={trail}>
        {({ entries, head, base, verdict }) => (
          <>
            <VerdictNote verdict={verdict} />
            <p class="muted">
              {t("trail.head", { seq: count(head.seq) })} <span class="hash">{head.hash}</span>
            </p>
            <ActionTable rows={entries} id={(e) => String(e.seq)} columns={columns()} />
            {base && entries.length < limit && (
              <p class="muted">{t("trail.archived", { seq: count(base.seq), time: absolute(base.time) })}</p>
            )}
            {entries.length === limit && (
              <button type="button" onClick={() => setLimit(Math.min(5000, limit * 4))} disabled={limit >= 5000}>
                {t("more")}
              </button>
            )}
          </>
        )}
      </Loaded>
    </>
  );
}

function VerdictNote({ verdict: v }: { verdict: Verdict }) {
  if (v.state === "bad") {
    return (
      <p class="error" role="alert">
        {t(`trail.bad.${v.why}`, { seq: v.seq })}
      </p>
    );
  }
  return (
    <p class={v.hashed ? "note" : "stale"}>
      {t(v.hashed ? "trail.good" : "trail.linked", { n: count(v.entries) })} {v.gaps && t("trail.gaps")}
    </p>
  );
}

function columns(): Column<Entry>[] {
  return [
    { title: t("trail.seq"), cell: (e) => e.seq },
    { title: t("trail.time"), cell: (e) => absolute(e.time) },
    {
      title: t("trail.principal"),
      hint: (e) => [e.proof, e.credential].filter(Boolean).join(" "),
      cell: (e) => (
        <span>
          {e.name || e.node || e.run?.job_id || t("trail.nobody")}{" "}
          <span class="muted">{[e.kind, e.address].filter(Boolean).join(" · ")}</span>
        </span>
      ),
    },
    { title: t("trail.act"), cell: (e) => <span translate={false}>{e.act}</span> },
    {
      title: t("trail.object"),
      cell: (e) => (
        <span translate={false}>
          <span class="muted">{e.object?.kind}</span>{" "}
          {e.object?.kind === "job" && e.object.id ? <Link to={jobHref(e.object.id)}>{e.object.id}</Link> : e.object?.id}
        </span>
      ),
    },
    {
      title: t("trail.outcome"),
      cell: (e) => (
        <span>
          <span class={`tag ${e.outcome === "allowed" ? "" : "tag-bad"}`}>{known("trail.outcome", e.outcome)}</span>{" "}
          {e.count > 1 && <span class="muted">× {count(e.count)}</span>} {e.reason}
        </span>
      ),
    },
  ];
}
