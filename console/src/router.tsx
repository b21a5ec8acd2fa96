// The address of the page: a path below /console/ and a query, both of which can be linked to.
import { signal } from "@preact/signals";
import type { ComponentChildren, JSX } from "preact";

export const prefix = "/console/";

interface Location {
  path: string;
  query: URLSearchParams;
}

function read(): Location {
  let path = location.pathname;
  if (path.length > prefix.length) path = path.replace(/\/+$/, "");
  return { path, query: new URLSearchParams(location.search) };
}

export const current = signal<Location>(read());

addEventListener("popstate", () => {
  current.value = read();
});

/** href returns an address within the console: href("jobs/1", {role: "guest"}). */
export function href(path: string, query: Record<string, string | undefined> = {}): string {
  const params = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) if (value) params.set(name, value);
  const text = params.toString();
  return prefix + path + (text ? `?${text}` : "");
}

export function jobHref(id: string): string {
  return href(`jobs/${encodeURIComponent(id)}`);
}

export function taskHref(id: string, task: string, query: Record<string, string | undefined> = {}): string {
  return href(`jobs/${encodeURIComponent(id)}/tasks/${encodeURIComponent(task)}`, query);
}

export function navigate(to: string, replace = false): void {
  const before = current.value.path;
  if (replace) history.replaceState(null, "", to);
  else history.pushState(null, "", to);
  current.value = read();
  if (current.value.path !== before) scrollTo(0, 0);
}

/** setQuery changes parameters of the address. It replaces the entry of the history. */
export function setQuery(changes: Record<string, string>): void {
  const query = new URLSearchParams(current.value.query);
  for (const [name, value] of Object.entries(changes)) {
    if (value) query.set(name, value);
    else query.delete(name);
  }
  const text = query.toString();
  navigate(current.value.path + (text ? `?${text}` : ""), true);
}

type LinkProps = Omit<JSX.IntrinsicElements["a"], "href" | "role"> & { to: string; children?: ComponentChildren };

/** Link leads to another page of the console without loading it again. */
export function Link({ to, children, ...rest }: LinkProps) {
  return (
    <a
      {...rest}
      href={to}
      onClick={(e) => {
        if (e.defaultPrevented || e.button !== 0 || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
        e.preventDefault();
        navigate(to);
      }}
    >
      {children}
    </a>
  );
}

/** match returns the parameters of a path such as /console/jobs/:id, or undefined. */
export function match(pattern: string, path: string): Record<string, string> | undefined {
  const want = pattern.split("/");
  const have = path.split("/");
  if (want.length !== have.length) return undefined;
  const params: Record<string, string> = {};
  for (let i = 0; i < want.length; i++) {
    const w = want[i]!;
    const h = have[i]!;
    if (w.startsWith(":")) {
      try {
        params[w.slice(1)] = decodeURIComponent(h);
      } catch {
        return undefined;
      }
    } else if (w !== h) {
      return undefined;
    }
  }
  return params;
}
