package audit

import (
	"context"
	"sync"
	"time"

	"hutong/internal/identity"
)

// Pending is the entry of the request that is being served, which the act itself writes: in its transaction,
// if it is one of the database, or else before it.
type Pending struct {
	principal identity.Principal
	act       string
	digest    func() string

	mu       sync.Mutex
	object   Object
	recorded bool
}

// NewPending returns the pending entry of a request. digest returns the digest of the request; it is called
// when the entry is written.
func NewPending(p identity.Principal, act string, digest func() string) *Pending {
	return &Pending{principal: p, act: act, digest: digest}
}

// Act returns the act.
func (p *Pending) Act() string { return p.act }

// SetAct changes the act, where the body of the request decides on it.
func (p *Pending) SetAct(act string) { p.act = act }

// On sets the object of the act. The pending entry may be nil.
func (p *Pending) On(kind ObjectKind, id string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.object = Object{Kind: kind, ID: id}
}

// Entry returns the entry with an outcome.
func (p *Pending) Entry(outcome Outcome, reason string) Entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := New(p.principal, p.act, p.object, outcome, time.Now())
	e.Reason, e.Digest = reason, p.digest()
	return e
}

// Recorded returns whether the entry is written, and is safe to call on nil, where nothing is to be written.
func (p *Pending) Recorded() bool {
	if p == nil {
		return true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.recorded
}

// SetRecorded marks the entry as written.
func (p *Pending) SetRecorded() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.recorded = true
}

type contextKey struct{}

// With returns a context in which an act is pending.
func With(ctx context.Context, p *Pending) context.Context {
	return context.WithValue(ctx, contextKey{}, p)
}

// From returns the pending act of a context, or nil.
func From(ctx context.Context) *Pending {
	p, _ := ctx.Value(contextKey{}).(*Pending)
	return p
}
