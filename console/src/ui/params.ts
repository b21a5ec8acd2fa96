// Reads what components say of their parameters, and what is typed for them.
import type { Param } from "../api/party";
import { t } from "../i18n";

/** isOptional returns whether a job may leave a parameter out. Providers write the flag as text too. */
export function isOptional(p: Param): boolean {
  return p.optional === true || p.optional === "true";
}

/** shown returns a value as a person reads it. */
export function shown(value: unknown): string {
  if (value === undefined || value === null) return "";
  if (typeof value === "string") return value;
  if (Array.isArray(value) && value.every((v) => typeof v === "string")) return value.join(" ");
  return JSON.stringify(value);
}

/** isObject returns whether values of a parameter are written as JSON. */
export function isObject(p: Param): boolean {
  return /object|array|list|map|json|dict/i.test(p.type);
}

function isNumber(p: Param): boolean {
  return /^(int|float|double|number|long)/i.test(p.type);
}

function isBoolean(p: Param): boolean {
  return /^bool/i.test(p.type);
}

/** choices returns the values that a parameter is chosen from, or nothing if it is typed. */
export function choices(p: Param): { label: string; value: string }[] | undefined {
  if (p.bindingData?.length) {
    return p.bindingData.map((b) => ({ label: b.label ?? shown(b.value), value: shown(b.value) }));
  }
  if (isBoolean(p)) return [{ label: "true", value: "true" }, { label: "false", value: "false" }];
  return undefined;
}

/** text returns a value as it is typed. */
export function text(value: unknown): string {
  if (value === undefined || value === null) return "";
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** parse returns the value of a typed text, or what is wrong with it. An empty text is no value. */
export function parse(p: Param, typed: string): { value?: unknown; error?: string } {
  const s = typed.trim();
  if (s === "") return isOptional(p) ? {} : { error: t("param.required") };
  if (isBoolean(p)) {
    return s === "true" || s === "false" ? { value: s === "true" } : { error: t("param.boolean") };
  }
  if (isNumber(p)) {
    const n = Number(s);
    if (Number.isNaN(n)) return p.bindingData?.length || isWord(p, s) ? { value: s } : { error: t("param.number") };
    if (/^(int|long)/i.test(p.type) && !Number.isInteger(n)) return { error: t("param.integer") };
    const range = rangeOf(p.validator);
    return range && !range(n) ? { error: t("param.range", { range: p.validator! }) } : { value: n };
  }
  if (isObject(p)) {
    try {
      return { value: JSON.parse(s) };
    } catch (e) {
      // Some objects may be given by a word, such as the name of a method.
      if (/^[\w.-]+$/.test(s)) return { value: s };
      return { error: t("param.json", { why: e instanceof Error ? e.message : String(e) }) };
    }
  }
  return { value: s };
}

/** isWord returns whether a description of a number names a word as a value too, such as all. */
function isWord(p: Param, s: string): boolean {
  return /^[A-Za-z_]+$/.test(s) && new RegExp(`(^|\\W)${s}(\\W|$)`).test(p.description ?? "");
}

/** rangeOf reads a validator such as (0,10]. Other validators are the party's to check. */
function rangeOf(validator: string | undefined): ((n: number) => boolean) | undefined {
  const m = /^([[(])\s*([-+\d.eE]*)\s*,\s*([-+\d.eE]*)\s*([\])])$/.exec(validator ?? "");
  if (!m) return undefined;
  const low = m[2] ? Number(m[2]) : -Infinity;
  const high = m[3] ? Number(m[3]) : Infinity;
  if (Number.isNaN(low) || Number.isNaN(high)) return undefined;
  return (n) => (m[1] === "[" ? n >= low : n > low) && (m[4] === "]" ? n <= high : n < high);
}
