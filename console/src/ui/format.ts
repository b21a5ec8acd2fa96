import { language } from "../i18n";

/** bytes returns a size, such as 58 KiB. */
export function bytes(n: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let i = 0;
  while (n >= 1024 && i < units.length - 1) {
    n /= 1024;
    i++;
  }
  return `${i === 0 || n >= 100 ? Math.round(n) : n.toFixed(1)} ${units[i]}`;
}

/** count returns a number with its thousands apart. */
export function count(n: number): string {
  return n.toLocaleString(language.value === "zh" ? "zh-CN" : "en-GB", { maximumFractionDigits: 2 });
}

/** iso returns a time in Unix milliseconds as the API's other times. */
export function iso(ms: number): string {
  return new Date(ms).toISOString();
}
