// Pieces that all pages use.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "../api/client";
import { t } from "../i18n";

/** Page is the frame of a page: its title, what may be done with it, and its content. */
export function Page(props: { title: string; heading?: ComponentChildren; actions?: ComponentChildren; children: ComponentChildren }) {
  const heading = useRef<HTMLHeadingElement>(null);
  useEffect(() => {
    document.title = `${props.title} · Hutong`;
  }, [props.title]);
  return (
    <>
      <header class="page-head">
        <h1 ref={heading} tabIndex={-1}>
          {props.heading ?? props.title}
        </h1>
        {props.actions && <div class="page-actions">{props.actions}</div>}
      </header>
      {props.children}
    </>
  );
}

/** Section is a titled part of a page. */
export function Section(props: { title: string; aside?: ComponentChildren; children: ComponentChildren; id?: string }) {
  return (
    <section class="section" id={props.id}>
      <div class="section-head">
        <h2>{props.title}</h2>
        {props.aside}
      </div>
      {props.children}
    </section>
  );
}

/** Empty says that there is nothing, and why. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return (
    <div class="empty">
      <p class="empty-title">{title}</p>
      {children}
    </div>
  );
}

/** ErrorBox shows why something could not be loaded. */
export function ErrorBox({ error, retry }: { error: Error; retry?: () => void }) {
  const offline = error instanceof ApiError && error.status === 0;
  return (
    <div class="error" role="alert">
      <strong>{t("error.title")}</strong>
      <p>{offline ? t("error.offline") : error.message}</p>
      {retry && (
        <button type="button" onClick={retry}>
          {t("error.retry")}
        </button>
      )}
    </div>
  );
}

/** Loading shows that something is being loaded, once that takes a moment. */
export function Loading() {
  return (
    <p class="loading muted" role="status">
      {t("loading")}…
    </p>
  );
}

/**
 * Loaded shows what a resource has loaded, or that it is loading, or why it could not be. An error while there is
 * data is a note above it.
 */
export function Loaded<T>(props: {
  resource: { data: T | undefined; error: Error | undefined; reload: () => void };
  children: (data: T) => ComponentChildren;
}) {
  const { data, error, reload } = props.resource;
  if (data === undefined) return error ? <ErrorBox error={error} retry={reload} /> : <Loading />;
  return (
    <>
      {error && <p class="stale">{t("error.stale", { message: error.message })}</p>}
      {props.children(data)}
    </>
  );
}

/** Details is a part of a page whose content is made when it is opened. */
export function Details(props: { summary: ComponentChildren; class?: string; children: () => ComponentChildren }) {
  const [open, setOpen] = useState(false);
  return (
    <details class={props.class} onToggle={(e) => setOpen(e.currentTarget.open)}>
      <summary>{props.summary}</summary>
      {open && props.children()}
    </details>
  );
}

/** Copy is a button that copies a text. */
export function Copy({ text, label }: { text: string; label?: string }) {
  const [done, setDone] = useState(false);
  return (
    <button
      type="button"
      class="small"
      onClick={() => {
        void navigator.clipboard.writeText(text).then(() => {
          setDone(true);
          setTimeout(() => setDone(false), 1500);
        });
      }}
    >
      <span aria-live="polite">{done ? t("copied") : (label ?? t("copy"))}</span>
    </button>
  );
}

/** Dialog is a modal dialog. It is open while it is rendered. */
export function Dialog(props: { title: string; close: () => void; children: ComponentChildren }) {
  const ref = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    const dialog = ref.current;
    const before = document.activeElement;
    dialog?.showModal();
    return () => {
      dialog?.close();
      // A dialog that has left the page does not give the focus back.
      if (document.activeElement === document.body && before instanceof HTMLElement) before.focus();
    };
  }, []);
  return (
    <dialog ref={ref} onClose={props.close} aria-label={props.title}>
      <h2>{props.title}</h2>
      {props.children}
    </dialog>
  );
}

/** NotDone says why something was not done. */
export function NotDone({ error }: { error: string | undefined }) {
  if (!error) return null;
  return (
    <div class="error" role="alert">
      <strong>{t("error.action")}</strong>
      <p>{error}</p>
    </div>
  );
}

/**
 * Ask is a dialog that asks before something is done. do does it; if it throws, the dialog shows why and stays.
 */
export function Ask(props: {
  title: string;
  text: string;
  button: string;
  danger?: boolean;
  close: () => void;
  do: () => Promise<unknown>;
  children?: ComponentChildren;
}) {
  const [error, setError] = useState<string>();
  const [busy, setBusy] = useState(false);
  async function go(e: Event) {
    e.preventDefault();
    setBusy(true);
    setError(undefined);
    try {
      await props.do();
      props.close();
    } catch (e) {
      setError(e instanceof Error ? e.message : String(e));
      setBusy(false);
    }
  }
  return (
    <Dialog title={props.title} close={props.close}>
      <form onSubmit={(e) => void go(e)}>
        <p>{props.text}</p>
        {props.children}
        <NotDone error={error} />
        <div class="buttons">
          <button type="button" onClick={props.close}>
            {t("cancel")}
          </button>
          <button type="submit" class={props.danger ? "danger" : "primary"} disabled={busy}>
            {props.button}
          </button>
        </div>
      </form>
    </Dialog>
  );
}
