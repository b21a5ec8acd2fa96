// Signs in at an OpenID provider: the authorization code flow with PKCE (RFC 7636).
import { setToken } from "./api/client";
import type { LoginMethods } from "./api/types";
import { prefix } from "./router";

const storageKey = "hutong.oidc";

interface Attempt {
  state: string;
  verifier: string;
  issuer: string;
  clientID: string;
  back: string;
}

interface Discovery {
  authorization_endpoint: string;
  token_endpoint: string;
}

async function discover(issuer: string): Promise<Discovery> {
  const response = await fetch(`${issuer.replace(/\/$/, "")}/.well-known/openid-configuration`);
  if (!response.ok) throw new Error(`${issuer}: ${response.status}`);
  return (await response.json()) as Discovery;
}

function redirectAddress(): string {
  return location.origin + prefix;
}

function encode(bytes: Uint8Array): string {
  return btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
}

function random(): string {
  return encode(crypto.getRandomValues(new Uint8Array(32)));
}

/** begin leads the browser to the provider. */
export async function begin(provider: NonNullable<LoginMethods["oidc"]>): Promise<void> {
  const found = await discover(provider.issuer);
  const attempt: Attempt = {
    state: random(),
    verifier: random(),
    issuer: provider.issuer,
    clientID: provider.client_id,
    back: location.pathname + location.search,
  };
  const challenge = encode(
    new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(attempt.verifier))),
  );
  sessionStorage.setItem(storageKey, JSON.stringify(attempt));
  const to = new URL(found.authorization_endpoint);
  const scopes = provider.scopes.includes("openid") ? provider.scopes : ["openid", ...provider.scopes];
  for (const [name, value] of Object.entries({
    response_type: "code",
    client_id: provider.client_id,
    redirect_uri: redirectAddress(),
    scope: scopes.join(" "),
    state: attempt.state,
    code_challenge: challenge,
    code_challenge_method: "S256",
  })) {
    to.searchParams.set(name, value);
  }
  location.assign(to);
}

/** finish exchanges the code with which the provider has sent the browser back, if it has. */
export async function finish(): Promise<void> {
  const query = new URLSearchParams(location.search);
  const stored = sessionStorage.getItem(storageKey);
  if (!stored || !query.has("state") || (!query.has("code") && !query.has("error"))) return;
  sessionStorage.removeItem(storageKey);
  const attempt = JSON.parse(stored) as Attempt;
  history.replaceState(null, "", attempt.back);
  dispatchEvent(new PopStateEvent("popstate"));
  if (query.get("state") !== attempt.state) throw new Error("the answer is not for this sign-in");
  if (query.has("error")) throw new Error(query.get("error_description") ?? query.get("error") ?? "");
  const found = await discover(attempt.issuer);
  const response = await fetch(found.token_endpoint, {
    method: "POST",
    body: new URLSearchParams({
      grant_type: "authorization_code",
      code: query.get("code") ?? "",
      redirect_uri: redirectAddress(),
      client_id: attempt.clientID,
      code_verifier: attempt.verifier,
    }),
  });
  const answer = (await response.json()) as { id_token?: string; error_description?: string; error?: string };
  if (!response.ok || !answer.id_token) {
    throw new Error(answer.error_description ?? answer.error ?? `${attempt.issuer}: ${response.status}`);
  }
  setToken(answer.id_token);
}
