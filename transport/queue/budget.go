package queue

import (
	"context"
	"errors"
	"slices"

	"hutong/transport/status"
)

// MessageOverhead is charged for each message in addition to its bytes, so that a flood of empty messages is
// bounded too.
const MessageOverhead = 256

// Direction selects one of a session's budgets. They are separate so that a session with a full inbox can
// still send, which is what empties inboxes elsewhere.
type Direction int

const (
	// Inbound counts messages that arrived and are unread.
	Inbound Direction = iota
	// Outbound counts messages in transit to partners.
	Outbound
)

// budget counts the bytes of one session in one direction. It acts as a weighted semaphore with a FIFO queue.
type budget struct {
	session  *Session
	overhead int64 // memory of queues, charged without waiting
	used     int64 // bodies
	waiting  []*waiter
}

// waiter is an allocation that waits for bytes. Broker.mu guards its fields until ready is closed.
type waiter struct {
	n     int64
	from  string
	ready chan struct{}
	err   error
}

// Allocation is a number of bytes taken from a budget.
type Allocation struct {
	b      *Broker
	budget *budget
	from   string
	n      int64 // guarded by b.mu
}

// Allocate takes n bytes of a budget before they are written. It waits for them until ctx ends, and then
// returns status.BufferFull if the deadline passed and ctx's error if ctx was cancelled. from is the partner
// that sends them, whose quota they count against; "" is this party. Allocations of one budget are granted in
// order, so a large one does not starve; only those of a partner that has used up its quota are passed over.
func (s *Session) Allocate(ctx context.Context, d Direction, n int64, from string) (*Allocation, error) {
	u := &s.in
	if d == Outbound {
		u = &s.out
	}
	return s.b.allocate(ctx, u, n, from)
}

// allocate implements [Session.Allocate]: it charges n bytes to the budget, or queues a waiter for them.
func (b *Broker) allocate(ctx context.Context, u *budget, n int64, from string) (*Allocation, error) {
	b.mu.Lock()
	if err := b.refusal(u.session); err != nil {
		b.mu.Unlock()
		return nil, err
	}

	a := &Allocation{b: b, budget: u, from: from, n: n}
	if len(u.waiting) == 0 && b.fits(u, n) && b.fitsQuota(from, n) {
		b.charge(u, from, n)
		b.mu.Unlock()
		return a, nil
	}

	if len(u.waiting) == 0 {
		b.starved = append(b.starved, u)
	}
	w := &waiter{n: n, from: from, ready: make(chan struct{})}
	u.waiting = append(u.waiting, w)
	b.waiting++
	b.grantWaiting() // it may pass those that wait for their quota
	b.mu.Unlock()

	select {
	case <-w.ready:
		if w.err != nil {
			return nil, w.err
		}
		return a, nil
	case <-ctx.Done():
		return nil, b.stopWaiting(ctx, u, w)
	}
}

// stopWaiting withdraws a waiter whose context ended, and returns the reason.
func (b *Broker) stopWaiting(ctx context.Context, u *budget, w *waiter) error {
	b.mu.Lock()
	defer b.mu.Unlock()

	if i := slices.Index(u.waiting, w); i >= 0 {
		u.waiting = slices.Delete(u.waiting, i, i+1)
		b.waiting--
		b.grantWaiting() // the next one may be smaller
	} else if w.err != nil {
		return w.err
	} else {
		b.refund(u, w.from, w.n) // granted at the same moment
	}

	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ctx.Err()
	}
	if !b.fitsQuota(w.from, w.n) {
		return status.Errorf(status.BufferFull,
			"no space for %d bytes: messages of %s hold %d of %d bytes in all sessions; their readers must pop",
			w.n, w.from, b.partners[w.from], b.limits.PartnerBytes)
	}
	return status.Errorf(status.BufferFull,
		"no space for %d bytes: session %s holds %d of %d bytes, all sessions %d of %d; the reader must pop",
		w.n, u.session.id, u.used+u.overhead, b.limits.SessionBytes, b.used, b.limits.TotalBytes)
}

// fits reports whether n more bytes may be taken. A session that already holds something may hold at most as
// much as it leaves free: each further session that is stuck takes at most half of what was left, never all.
func (b *Broker) fits(u *budget, n int64) bool {
	total := b.used + n
	own := u.used + u.overhead + n
	switch {
	case total > b.limits.TotalBytes || own > b.limits.SessionBytes:
		return false
	case u.used == 0:
		return true
	default:
		return own <= b.limits.TotalBytes-total
	}
}

// fitsQuota reports whether a partner may hold n more bytes. Without the quota one partner could fill the
// spool, in many sessions, and stop the jobs of all others.
func (b *Broker) fitsQuota(from string, n int64) bool {
	return from == "" || b.partners[from]+n <= b.limits.PartnerBytes
}

// Shrink returns all but n bytes.
func (a *Allocation) Shrink(n int64) {
	a.b.mu.Lock()
	defer a.b.mu.Unlock()
	if n < a.n {
		a.b.refund(a.budget, a.from, a.n-n)
		a.n = n
	}
}

// Release returns all bytes. Later calls do nothing.
func (a *Allocation) Release() {
	a.b.mu.Lock()
	defer a.b.mu.Unlock()
	a.releaseLocked()
}

func (a *Allocation) releaseLocked() {
	if a.n > 0 {
		a.b.refund(a.budget, a.from, a.n)
		a.n = 0
	}
}

func (b *Broker) charge(u *budget, from string, n int64) {
	u.used += n
	b.used += n
	b.peak = max(b.peak, b.used)
	b.chargePartner(from, n)
}

// chargePartner charges n bytes to the quota of a partner; n is negative for a refund.
func (b *Broker) chargePartner(from string, n int64) {
	if from == "" {
		return
	}
	b.partners[from] += n
	if b.partners[from] == 0 {
		delete(b.partners, from)
	}
}

func (b *Broker) refund(u *budget, from string, n int64) {
	u.used -= n
	b.used -= n
	b.chargePartner(from, -n)
	b.grantWaiting()
}

// grantWaiting grants the waiting allocations that fit: budget by budget in the order in which they began to
// wait, and first in, first out within each. It passes over those that wait for their partner's quota.
func (b *Broker) grantWaiting() {
	b.starved = slices.DeleteFunc(b.starved, func(u *budget) bool {
		for i := 0; i < len(u.waiting); {
			w := u.waiting[i]
			if !b.fitsQuota(w.from, w.n) {
				i++
				continue
			}
			if !b.fits(u, w.n) {
				break
			}
			u.waiting = slices.Delete(u.waiting, i, i+1)
			b.waiting--
			b.charge(u, w.from, w.n)
			close(w.ready)
		}
		return len(u.waiting) == 0
	})
}

// failWaiting fails all waiting allocations of a budget.
func (b *Broker) failWaiting(u *budget, err error) {
	for _, w := range u.waiting {
		w.err = err
		b.waiting--
		close(w.ready)
	}
	u.waiting = nil
}
