import { useEffect, useState } from "preact/hooks";
import { get, post } from "../api/client";
import { partyPaths, type Notification, type NotificationList, type NotificationTestResult } from "../api/party";
import { known, t } from "../i18n";
import { jobHref, Link } from "../router";
import { ofKinds, useResource } from "../resource";
import { can } from "../session";
import { Empty, Loaded, Section } from "../ui/basic";
import { ActionTable, type Action, type Column } from "../ui/table";
import { Time } from "../ui/time";

// A delivery is no change that the party reports, so the list is also read again at this interval.
const again = 5_000;

/** Notifications shows who gets messages, and what became of the last ones. */
export function Notifications() {
  const all = useResource(
    "notifications",
    (abort) => get<NotificationList>(partyPaths.notifications, {}, abort),
    ofKinds("job"),
  );
  useEffect(() => {
    const timer = setInterval(() => !document.hidden && all.reload(), again);
    return () => clearInterval(timer);
  }, []);
  return (
    <Loaded resource={all}>
      {({ receivers, notifications }) =>
        receivers.length === 0 && notifications.length === 0 ? (
          <Empty title={t("notifications.empty")}>
            <p>{t("notifications.emptyText")}</p>
          </Empty>
        ) : (
          <>
            <Section title={t("notifications.last")}>
              {notifications.length === 0 ? (
                <p class="muted">{t("notifications.none")}</p>
              ) : (
                <ActionTable
                  rows={notifications}
                  id={(n) => n.notification_id}
                  columns={deliveryColumns()}
                  actions={(n) => (can("operator") && isOver(n) ? [resend(n)] : [])}
                  done={all.reload}
                />
              )}
            </Section>
            <Section title={t("notifications.receivers")}>
              <ActionTable
                rows={receivers}
                id={(r) => r.name}
                columns={receiverColumns()}
                aside={(r) => can("operator") && <TestButton receiver={r.name} />}
              />
            </Section>
          </>
        )
      }
    </Loaded>
  );
}

type Receiver = NotificationList["receivers"][number];

const tags: Record<string, string> = { NEW: "tag-wait", SENDING: "tag-wait", DELIVERED: "tag-good", FAILED: "tag-bad" };

function receiverColumns(): Column<Receiver>[] {
  return [
    { title: t("notifications.receiver"), cell: (r) => r.name },
    {
      title: t("notifications.target"),
      cell: (r) => (
        <>
          {r.target} <span class="muted">{known("notifications.channel", r.channel)}</span>
        </>
      ),
    },
    { title: t("notifications.events"), cell: (r) => r.events.map((e) => known("notifications.event", e)).join(", ") },
  ];
}

function deliveryColumns(): Column<Notification>[] {
  return [
    {
      title: t("notifications.event"),
      cell: (n) => (
        <>
          {known("notifications.event", n.event)}{" "}
          {n.job_id ? <Link to={jobHref(n.job_id)}>{n.job_id}</Link> : <span class="muted">{n.object_id}</span>}
        </>
      ),
    },
    { title: t("notifications.receiver"), cell: (n) => n.receiver },
    {
      title: t("notifications.state"),
      cell: (n) => (
        <>
          <span class={`tag ${tags[n.state] ?? ""}`}>{known("notifications.state", n.state)}</span>{" "}
          <span class="muted">{t("notifications.attempts", { n: n.attempts })}</span>
          {n.last_error && <div class={n.state === "FAILED" ? "invalid" : "muted"}>{n.last_error}</div>}
        </>
      ),
    },
    { title: t("notifications.time"), cell: (n) => <Time at={n.delivered_at ?? n.occurred_at} /> },
  ];
}

/** isOver returns whether a message is no longer being delivered. */
function isOver(n: Notification): boolean {
  return n.state === "DELIVERED" || n.state === "FAILED";
}

function resend(n: Notification): Action {
  return {
    button: t("notifications.resend"),
    title: t("notifications.resendTitle", { receiver: n.receiver }),
    text: t("notifications.resendText"),
    do: () => post(partyPaths.resendNotification, { notification_id: n.notification_id }),
  };
}

function TestButton({ receiver }: { receiver: string }) {
  const [result, setResult] = useState<{ good: boolean; text: string }>();
  const [busy, setBusy] = useState(false);
  async function test() {
    setBusy(true);
    try {
      const r = await post<NotificationTestResult>(partyPaths.testNotification, { receiver });
      setResult({ good: r.delivered, text: r.answer });
    } catch (e) {
      setResult({ good: false, text: e instanceof Error ? e.message : String(e) });
    }
    setBusy(false);
  }
  return (
    <>
      <button type="button" class="small" disabled={busy} onClick={() => void test()}>
        {t("notifications.test")}
        <span class="sr"> {receiver}</span>
      </button>
      <div role="status" class={result && !result.good ? "invalid" : "muted"}>
        {result?.text}
      </div>
    </>
  );
}
