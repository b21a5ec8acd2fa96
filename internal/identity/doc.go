// Package identity names who calls a party. Each listener determines the [Principal] of a request before any
// handler runs; handlers, rules, limits and the audit trail use it, and nothing else, as the caller.
package identity
