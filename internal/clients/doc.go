// Package clients determines which client of a party makes a request, from the proof in it:
//
//   - a bearer token of the party (token.go), of which the party stores the hash only;
//   - a signature of FATE-Flow's client authentication (app.go), with the token of an app;
//   - an id token of an OpenID provider (oidc.go), whose claims name the roles;
//   - a certificate of mutual TLS (certificate.go), to which the configuration gives roles.
//
// A request without a proof is anonymous. A proof that does not hold is refused, and never falls back to
// another one.
package clients
