// Light or dark: as the browser says, or as the switch says.
import { signal } from "@preact/signals";

export type Theme = "auto" | "light" | "dark";
export const themes: Theme[] = ["auto", "light", "dark"];

const storageKey = "hutong.theme";

function stored(): Theme {
  const value = localStorage.getItem(storageKey);
  return themes.find((t) => t === value) ?? "auto";
}

export const theme = signal<Theme>(stored());

export function setTheme(value: Theme): void {
  theme.value = value;
  localStorage.setItem(storageKey, value);
  apply();
}

function apply(): void {
  document.documentElement.dataset.theme = theme.value;
}

apply();
