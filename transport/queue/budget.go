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
	ready chan struct{}
	err   error
}

// Allocation is a number of bytes taken from a budget.
type Allocation struct {
	b      *Broker
	budget *budget
	n      int64 // guarded by b.mu
}

// Allocate takes n bytes of a budget before they are written. It waits for them until ctx ends, and then
// returns status.BufferFull if the deadline passed and ctx's error if ctx was cancelled. Allocations of one
// budget are granted in order, so a large one does not starve.
func (s *Session) Allocate(ctx context.Context, d Direction, n int64) (*Allocation, error) {
	u := &s.in
	if d == Outbound {
		u = &s.out
	}
	return s.b.allocate(ctx, u, n)
}

// allocate implements [Session.Allocate]: it charges n bytes to the budget, or queues a waiter for them.
func (b *Broker) allocate(ctx context.Context, u *budget, n int64) (*Allocation, error) {
	b.mu.Lock()
	if err := b.refusal(u.session); err != nil {
		b.mu.Unlock()
		return nil, err
	}

	a := &Allocation{b: b, budget: u, n: n}
	if len(u.waiting) == 0 && b.fits(u, n) {
		b.charge(u, n)
		b.mu.Unlock()
		return a, nil
	}

	if len(u.waiting) == 0 {
		b.starved = append(b.starved, u)
	}
	w := &waiter{n: n, ready: make(chan struct{})}
	u.waiting = append(u.waiting, w)
	b.waiting++
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
		b.refund(u, w.n) // granted at the same moment
	}

	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return ctx.Err()
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

// Shrink returns all but n bytes.
func (a *Allocation) Shrink(n int64) {
	a.b.mu.Lock()
	defer a.b.mu.Unlock()
	if n < a.n {
		a.b.refund(a.budget, a.n-n)
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
		a.b.refund(a.budget, a.n)
		a.n = 0
	}
}

func (b *Broker) charge(u *budget, n int64) {
	u.used += n
	b.used += n
	b.peak = max(b.peak, b.used)
}

func (b *Broker) refund(u *budget, n int64) {
	u.used -= n
	b.used -= n
	b.grantWaiting()
}

// grantWaiting grants the waiting allocations that fit: budget by budget in the order in which they began to
// wait, and first in, first out within each.
func (b *Broker) grantWaiting() {
	b.starved = slices.DeleteFunc(b.starved, func(u *budget) bool {
		for len(u.waiting) > 0 && b.fits(u, u.waiting[0].n) {
			w := u.waiting[0]
			u.waiting = slices.Delete(u.waiting, 0, 1)
			b.waiting--
			b.charge(u, w.n)
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
