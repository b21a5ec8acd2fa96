package transport

import (
	"context"
	"errors"
	"slices"
)

// messageOverhead is charged for each message beside its bytes, so that a flood
// of empty messages is bounded too.
const messageOverhead = 256

// account counts what one session holds in one direction: what came in and was
// not read, or what is under way to partners. They are apart so that a session
// whose inbox is full can still send, which is what empties inboxes elsewhere.
type account struct {
	session *session
	fixed   int64 // queues' own memory, charged without asking
	used    int64 // bodies
	waiting []*claim
}

// claim is a reservation that waits for room. Its fields are guarded by the
// broker's lock until ready is closed.
type claim struct {
	n     int64
	ready chan struct{}
	err   error
}

// hold is room that was reserved. It is released once; later calls do nothing.
type hold struct {
	b *broker
	a *account
	n int64 // guarded by b.mu
}

// reserve takes n bytes of an account before they exist, and waits for room
// until ctx ends: CodeBufferFull at its deadline, ctx's error when it is cancelled.
// Claims of one account are served in their order, so a large one isn't starved.
func (b *broker) reserve(ctx context.Context, a *account, n int64) (*hold, error) {
	b.mu.Lock()
	if err := b.refusal(a.session); err != nil {
		b.mu.Unlock()
		return nil, err
	}
	h := &hold{b: b, a: a, n: n}
	if len(a.waiting) == 0 && b.fits(a, n) {
		b.charge(a, n)
		b.mu.Unlock()
		return h, nil
	}
	if len(a.waiting) == 0 {
		b.starved = append(b.starved, a)
	}
	c := &claim{n: n, ready: make(chan struct{})}
	a.waiting = append(a.waiting, c)
	b.claims++
	b.mu.Unlock()

	select {
	case <-c.ready:
		if c.err != nil {
			return nil, c.err
		}
		return h, nil
	case <-ctx.Done():
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if i := slices.Index(a.waiting, c); i >= 0 {
		a.waiting = slices.Delete(a.waiting, i, i+1)
		b.claims--
		b.feed() // the next in line may be smaller
	} else if c.err != nil {
		return nil, c.err
	} else {
		b.credit(a, n)
	}
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return nil, ctx.Err()
	}
	return nil, refuse(CodeBufferFull, "no room for %d bytes: session %s holds %d of %d, all sessions %d of %d; the reader must pop",
		n, a.session.id, a.used+a.fixed, b.limits.SessionBytes, b.used, b.limits.TotalBytes)
}

// fits tells whether n more bytes may be taken. A session that already holds
// something may hold at most as much as it leaves free: every further session
// that is stuck takes at most half of what was left, never all.
func (b *broker) fits(a *account, n int64) bool {
	total := b.used + n
	own := a.used + a.fixed + n
	switch {
	case total > b.limits.TotalBytes || own > b.limits.SessionBytes:
		return false
	case a.used == 0:
		return true
	default:
		return own <= b.limits.TotalBytes-total
	}
}

// shrink gives back all but n bytes.
func (h *hold) shrink(n int64) {
	h.b.mu.Lock()
	defer h.b.mu.Unlock()
	if n < h.n {
		h.b.credit(h.a, h.n-n)
		h.n = n
	}
}

func (h *hold) release() {
	h.b.mu.Lock()
	defer h.b.mu.Unlock()
	h.releaseLocked()
}

func (h *hold) releaseLocked() {
	if h.n > 0 {
		h.b.credit(h.a, h.n)
		h.n = 0
	}
}

func (b *broker) charge(a *account, n int64) {
	a.used += n
	b.used += n
	b.peak = max(b.peak, b.used)
}

func (b *broker) credit(a *account, n int64) {
	a.used -= n
	b.used -= n
	b.feed()
}

// feed grants waiting claims, account by account in the order in which they
// began to wait, each account's in their own order.
func (b *broker) feed() {
	b.starved = slices.DeleteFunc(b.starved, func(a *account) bool {
		for len(a.waiting) > 0 && b.fits(a, a.waiting[0].n) {
			c := a.waiting[0]
			a.waiting = slices.Delete(a.waiting, 0, 1)
			b.claims--
			b.charge(a, c.n)
			close(c.ready)
		}
		return len(a.waiting) == 0
	})
}

// fail ends all waiting claims of an account.
func (b *broker) fail(a *account, err error) {
	for _, c := range a.waiting {
		c.err = err
		b.claims--
		close(c.ready)
	}
	a.waiting = nil
}
