import { signal } from "@preact/signals";
import { language, t } from "../i18n";

/** now is the time, every few seconds. */
export const now = signal(Date.now());
setInterval(() => {
  if (!document.hidden) now.value = Date.now();
}, 5_000);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden) now.value = Date.now();
});

/** relative returns how long ago a time is. */
export function relative(at: number, from: number): string {
  const s = Math.round((from - at) / 1000);
  if (s < -5) return t("time.in", { d: duration(-s * 1000) });
  if (s < 10) return t("time.now");
  if (s < 60) return t("time.seconds", { n: s });
  if (s < 3600) return t("time.minutes", { n: Math.floor(s / 60) });
  if (s < 48 * 3600) return t("time.hours", { n: Math.floor(s / 3600) });
  return t("time.days", { n: Math.floor(s / 86400) });
}

/** duration returns a span of time, such as 1 h 03 min. */
export function duration(ms: number): string {
  if (ms < 0) ms = 0;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 60) return `${Math.floor(s)} s`;
  const two = (n: number) => String(n).padStart(2, "0");
  const minutes = Math.floor(s / 60);
  if (minutes < 60) return `${minutes} min ${two(Math.floor(s % 60))} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${two(minutes % 60)} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** absolute returns a time to the second, in the zone of the browser. */
export function absolute(at: string | number): string {
  return new Date(at).toLocaleString(language.value === "zh" ? "zh-CN" : "en-GB", {
    dateStyle: "medium",
    timeStyle: "medium",
  });
}

/** day returns the day of a time, in the zone of the browser. */
export function day(at: string): string {
  return new Date(at).toLocaleDateString(language.value === "zh" ? "zh-CN" : "en-GB", { dateStyle: "medium" });
}

/** Time shows how long ago something was; its title is the time itself. */
export function Time({ at }: { at: string | null | undefined }) {
  if (!at) return <span class="muted">{t("time.never")}</span>;
  return (
    <time dateTime={at} title={absolute(at)}>
      {relative(Date.parse(at), now.value)}
    </time>
  );
}

/** Duration shows how long something took, or has taken so far. */
export function Duration({ from, to }: { from: string | null | undefined; to?: string | null | undefined }) {
  if (!from) return <span class="muted">–</span>;
  const end = to ? Date.parse(to) : Math.max(now.value, Date.parse(from));
  return <span class="number">{duration(end - Date.parse(from))}</span>;
}
