import { current, href, Link } from "../router";

/** Tabs are links to the parts of a page; the chosen one is in the query. */
export function Tabs({ path, tabs, label }: { path: string; tabs: { name: string; title: string }[]; label: string }) {
  const chosen = chosenTab(tabs.map((x) => x.name));
  return (
    <nav class="tabs" aria-label={label}>
      {tabs.map((x, i) => (
        <Link
          key={x.name}
          to={href(path, { tab: i === 0 ? undefined : x.name })}
          aria-current={x.name === chosen ? "page" : undefined}
        >
          {x.title}
        </Link>
      ))}
    </nav>
  );
}

/** chosenTab returns the part of a page that its address names, or the first. */
export function chosenTab(names: string[]): string {
  const tab = current.value.query.get("tab") ?? "";
  return names.includes(tab) ? tab : (names[0] ?? "");
}
