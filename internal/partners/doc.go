// Package partners knows who a party's partners are, in both directions: which node makes a request, and how
// this party proves to a partner who it is.
//
// A [Directory] holds the partners of the configuration, and those with which the party has a contract. For
// what partners send, [Directory.Server] ends mutual TLS, and [Directory.Require] determines the principal of
// each request before any handler runs. For what the party sends, [Directory.Transport] opens connections
// that prove both sides, with one pool for each partner.
//
// Each partner has exactly one [Auth]. A partner with a certificate can't be impersonated by a method that is
// weaker: a request that proves who it is in another way than the route says is refused.
//
// A change applies at once. When a partner is removed, or its key changes, the directory closes its open
// connections.
package partners
