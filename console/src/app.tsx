// The frame of all pages: navigation, language, theme, and who has signed in.
import { useEffect, useRef } from "preact/hooks";
import { language, setLanguage, t } from "./i18n";
import { mode } from "./live";
import { allowed, pages, type PageEntry } from "./pages";
import { SignIn } from "./pages/signin";
import { current, href, Link, match } from "./router";
import { canSomewhere, ownNode, ownProjects, roles, session, signOut } from "./session";
import { setTheme, theme, themes, type Theme } from "./theme";
import { Loading, Page } from "./ui/basic";

export function App() {
  const s = session.value;
  switch (s.state) {
    case "loading":
      return <Loading />;
    case "out":
      return <SignIn {...s} />;
    case "in":
      return <Frame />;
  }
}

function Frame() {
  const { path } = current.value;
  const main = useRef<HTMLElement>(null);
  const first = useRef(true);
  // A new page begins at its heading, for the keyboard and for screen readers.
  useEffect(() => {
    if (first.current) first.current = false;
    else main.current?.querySelector<HTMLElement>("h1")?.focus({ preventScroll: true });
  }, [path]);

  const entries = pages.filter((p) => p.nav && allowed(p));
  // On a narrow screen the navigation is scrolled: the current entry is in its middle.
  const nav = useRef<HTMLElement>(null);
  useEffect(() => {
    const entry = nav.current?.querySelector<HTMLElement>("[aria-current]");
    if (entry) nav.current!.scrollLeft = entry.offsetLeft - (nav.current!.clientWidth - entry.offsetWidth) / 2;
  }, [path, language.value]);

  return (
    <div class="frame">
      <a class="skip" href="#content">
        {t("app.skip")}
      </a>
      <header class="side">
        <div class="brand">
          <Link to={href("")} class="logo">
            <Mark />
            Hutong
          </Link>
          <span class="node" title={t("app.party")}>
            {ownNode}
          </span>
        </div>
        {entries.length > 0 && (
          <nav ref={nav} aria-label={t("app.nav")}>
            <ul>
              {entries.map((p) => (
                <li key={p.path}>
                  <Link to={p.path} aria-current={isCurrent(p.path, path) ? "page" : undefined}>
                    {t(p.nav!)}
                  </Link>
                </li>
              ))}
            </ul>
          </nav>
        )}
        <Settings />
      </header>
      <main id="content" ref={main} tabIndex={-1}>
        <Current key={path} path={path} />
      </main>
    </div>
  );
}

function isCurrent(page: string, path: string): boolean {
  return path === page || (page !== "/console/" && path.startsWith(`${page}/`));
}

function Current({ path }: { path: string }) {
  for (const p of pages) {
    const params = match(p.path, path);
    if (!params) continue;
    return allowed(p) ? <p.view params={params} /> : <Refused page={p} />;
  }
  return (
    <Page title={t("app.notFound")}>
      <p>{t("app.notFoundText", { path })}</p>
      <p>
        <Link to={href("jobs")}>{t("nav.jobs")}</Link>
      </p>
    </Page>
  );
}

/** Refused says which role a page requires, and where the client's roles lead. */
function Refused({ page }: { page: PageEntry }) {
  const open = pages.filter((p) => p.nav && allowed(p));
  return (
    <Page title={page.nav ? t(page.nav) : "Hutong"}>
      <p>{t("app.lacksRole", { role: page.roles[0]! })}</p>
      <p>{roles.value.length > 0 ? t("app.yourRoles", { roles: roles.value.join(", ") }) : t("app.noRoles")}</p>
      {open.length > 0 && (
        <>
          <p>{t("app.canOpen")}</p>
          <ul>
            {open.map((p) => (
              <li key={p.path}>
                <Link to={p.path}>{t(p.nav!)}</Link>
              </li>
            ))}
          </ul>
        </>
      )}
    </Page>
  );
}

function Mark() {
  return (
    <svg width="20" height="20" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="7" class="mark" />
      <path d="M9 7v18M23 7v18M9 16h14" class="mark-line" />
    </svg>
  );
}

function Settings() {
  const s = session.value;
  return (
    <div class="settings">
      {canSomewhere("viewer") && (
        <p class={`live live-${mode.value}`} role="status">
          <svg width="10" height="10" viewBox="0 0 10 10" aria-hidden="true">
            {mode.value === "offline" ? <path d="M1 1l8 8M9 1 1 9" /> : <circle cx="5" cy="5" r="3.5" />}
          </svg>
          {t(`app.live.${mode.value}`)}
        </p>
      )}
      <label>
        <span class="sr">{t("app.language")}</span>
        <select value={language.value} onChange={(e) => setLanguage(e.currentTarget.value as "en" | "zh")}>
          <option value="en">English</option>
          <option value="zh">中文</option>
        </select>
      </label>
      <label>
        <span class="sr">{t("app.theme")}</span>
        <select value={theme.value} onChange={(e) => setTheme(e.currentTarget.value as Theme)}>
          {themes.map((v) => (
            <option key={v} value={v}>
              {t(`app.theme.${v}`)}
            </option>
          ))}
        </select>
      </label>
      {s.state === "in" && (
        <p class="who" title={t("app.roles", { roles: s.who.roles.join(", ") })}>
          {s.who.name || t("app.anonymous")}
          {ownProjects.value.length > 0 && (
            <span class="muted" translate={false}>
              {" "}
              · <span class="sr">{t("project.title")} </span>
              {ownProjects.value.join(", ")}
            </span>
          )}
        </p>
      )}
      {s.state === "in" && s.who.proof !== "nothing" && (
        <button type="button" class="small" onClick={signOut}>
          {t("app.signOut")}
        </button>
      )}
    </div>
  );
}
