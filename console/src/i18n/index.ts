// The words of the pages, in the language of the browser or of the switch.
import { signal } from "@preact/signals";
import { en } from "./en";
import { zh } from "./zh";

export type Language = "en" | "zh";
export type Key = keyof typeof en;

const storageKey = "hutong.language";
const catalogues: Record<Language, Record<Key, string>> = { en, zh };

function initial(): Language {
  const stored = localStorage.getItem(storageKey);
  if (stored === "en" || stored === "zh") return stored;
  return navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en";
}

export const language = signal<Language>(initial());

export function setLanguage(value: Language): void {
  language.value = value;
  localStorage.setItem(storageKey, value);
}

language.subscribe((l) => {
  document.documentElement.lang = l === "zh" ? "zh-CN" : "en";
});

/** t returns a text in the language of the page. {name} in it is replaced by the parameter of that name. */
export function t(key: Key, params: Record<string, string | number> = {}): string {
  return catalogues[language.value][key].replace(/\{(\w+)\}/g, (all, name: string) =>
    name in params ? String(params[name]) : all,
  );
}

/** known returns a text whose key is made of a value of the API, or the value if there is no such text. */
export function known(prefix: string, value: string): string {
  const key = `${prefix}.${value}`;
  return key in en ? t(key as Key) : value;
}
