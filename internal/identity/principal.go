package identity

import (
	"context"
	"slices"
	"time"
)

// Kind is the kind of a caller.
type Kind string

// The kinds of callers. The zero value is an unknown caller, who may use public endpoints only.
const (
	KindAnonymous Kind = ""
	KindClient    Kind = "client"    // a user of this party, or a program in a user's name
	KindPartner   Kind = "partner"   // a party, by its node id; also this party's own processes
	KindContainer Kind = "container" // a container of this party, by its run
)

// Proof says how a caller proved who it is.
type Proof string

// The proofs.
const (
	ByNothing     Proof = "nothing"     // development mode: everybody who reaches the listener
	ByProcess     Proof = "process"     // the party's own process, over memory
	ByToken       Proof = "token"       // a bearer token of this party
	ByOIDC        Proof = "oidc"        // an id token of an OpenID provider
	ByCertificate Proof = "certificate" // a certificate of mutual TLS
	BySignature   Proof = "signature"   // the header x-auth-sign
	ByFATE        Proof = "fate"        // FATE-Flow's site or client authentication
	ByAddress     Proof = "address"     // the address, of a container or a partner without credentials
	ByRule        Proof = "rule"        // an approval rule that a client made, by its id; only in records
)

// Run identifies one attempt of a task in a container.
type Run struct {
	JobID, TaskID, Role string
	// Session is the transport session of the attempt. The container may use it, and those derived from it.
	Session string
}

// Principal is the caller of a request. It is a value: a handler can't change whom another one sees.
type Principal struct {
	Kind Kind
	// Node is the node id of a partner.
	Node string
	// Name is the name of a client: that of its token, or its subject at the OpenID provider.
	Name string
	// Roles are the roles of a client.
	Roles []Role
	// Run is the run of a container.
	Run Run
	// Proof says how the caller proved this.
	Proof Proof
	// Credential identifies the proof without revealing it: a token's id, a certificate's fingerprint, an
	// address. It is recorded in the audit trail.
	Credential string
	// Expires is when the proof ends; zero if it does not, or if the caller proves itself with each request.
	Expires time.Time
	// Address is the host from which the request came.
	Address string
}

// Can returns whether a client has a role in all projects. An administrator has every role. See
// [Principal.ProjectsWith] for roles in single projects.
func (p Principal) Can(role Role) bool {
	return p.Kind == KindClient && (slices.Contains(p.Roles, role) || slices.Contains(p.Roles, Admin))
}

// String returns a short form for logs and the audit trail, such as "client alice" or "partner JG01".
func (p Principal) String() string {
	switch p.Kind {
	case KindClient:
		return "client " + p.Name
	case KindPartner:
		return "partner " + p.Node
	case KindContainer:
		return "container of task " + p.Run.TaskID + ", " + p.Run.Role
	}
	return "anonymous"
}

type contextKey struct{}

// With returns a context of a request that p has made.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, contextKey{}, p)
}

// From returns the principal of a request's context. Without one it returns the zero value, which may do
// nothing.
func From(ctx context.Context) Principal {
	p, _ := ctx.Value(contextKey{}).(Principal)
	return p
}
