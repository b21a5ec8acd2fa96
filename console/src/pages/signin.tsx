import { useEffect, useState } from "preact/hooks";
import type { LoginMethods } from "../api/types";
import { t } from "../i18n";
import { begin } from "../oidc";
import { load, signIn } from "../session";

/** SignIn asks for a token, or leads to the party's OpenID provider. */
export function SignIn({ login, reason }: { login?: LoginMethods; reason?: string }) {
  const [token, setToken] = useState("");
  const [error, setError] = useState(reason ?? "");
  const [busy, setBusy] = useState(false);
  useEffect(() => {
    document.title = `${t("signIn.title")} · Hutong`;
  }, []);

  async function submit(e: Event) {
    e.preventDefault();
    setBusy(true);
    setError(await signIn(token.trim()));
    setBusy(false);
  }
  async function atProvider() {
    setBusy(true);
    try {
      await begin(login!.oidc!);
    } catch (e) {
      setError(e instanceof Error ? e.message : String(e));
      setBusy(false);
    }
  }

  return (
    <main class="sign-in">
      <h1>{t("signIn.title")}</h1>
      {login && <p class="muted">{t("signIn.party", { node: login.node_id })}</p>}
      {error && (
        <p class="error" role="alert">
          {error}
        </p>
      )}
      {!login && (
        <button type="button" onClick={() => void load()}>
          {t("error.retry")}
        </button>
      )}
      {login?.oidc && (
        <>
          <button type="button" class="primary" disabled={busy} onClick={() => void atProvider()}>
            {t("signIn.oidc", { issuer: new URL(login.oidc.issuer).host })}
          </button>
          <p class="muted">{t("signIn.or")}</p>
        </>
      )}
      {login && (
        <form onSubmit={(e) => void submit(e)}>
          <label class="field">
            {t("signIn.token")}
            <input
              type="password"
              autocomplete="off"
              spellcheck={false}
              required
              value={token}
              onInput={(e) => setToken(e.currentTarget.value)}
            />
          </label>
          <p class="muted">{t("signIn.tokenHelp")}</p>
          <button type="submit" class={login.oidc ? "" : "primary"} disabled={busy}>
            {t("signIn.button")}
          </button>
        </form>
      )}
    </main>
  );
}
