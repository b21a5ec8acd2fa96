package limits

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"hutong/internal/identity"
)

const (
	// maxWait bounds how long a message waits for its caller's rate. It is far below the minute for which
	// gateways and senders wait for an answer.
	maxWait = 5 * time.Second
	// maxDelay bounds how long those that wait take together. It leaves time for messages of sessions with
	// few, which are served before.
	maxDelay = 4 * time.Second
	// MaxWaiting bounds the messages of one caller that wait. Each has a goroutine, over HTTP/1.1 a
	// connection, and over HTTP/2 the window of a stream. It is a quarter of the default of
	// limits.connections_per_address, and half of the connections of a link: the rest is for those that are
	// served, and for commands.
	MaxWaiting = 512
)

// Wait counts a message of a caller's session. Beyond the caller's rate the message waits until it is served,
// in the order of [fairQueue], for atMost and [maxWait]; 0 is no other bound than that. Messages have a
// budget apart from that of requests, with the same rate, so that neither holds up the other.
//
// The error is an [*Exceeded] if the message has waited too long, or if so many wait that it could. It is
// ctx's if that has ended before. waited reports whether the message had to wait.
func (l *Limiter) Wait(ctx context.Context, p identity.Principal, sessionID string, atMost time.Duration,
) (waited bool, err error) {
	c, m, err := l.enqueue(p, sessionID)
	if m == nil {
		return false, err
	}
	bound := maxWait
	if atMost > 0 {
		bound = min(bound, atMost)
	}
	timer := time.NewTimer(bound)
	defer timer.Stop()
	select {
	case <-m.admitted:
		return true, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-timer.C:
	}

	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case !c.waiting.remove(m) && err == nil: // admitted at the last moment
		return true, nil
	case err == nil:
		err = l.tooManyMessages(p, c)
	}
	return true, err
}

// Pace counts a further message of a stream, as Wait does, but waits as long as it takes: the stream's sender
// is slowed down, and nothing is refused. The error is ctx's.
func (l *Limiter) Pace(ctx context.Context, p identity.Principal, sessionID string) (waited bool, err error) {
	for {
		again, err := l.Wait(ctx, p, sessionID, 0)
		waited = waited || again
		exceeded, ok := errors.AsType[*Exceeded](err)
		if !ok {
			return waited, err
		}
		waited = true
		timer := time.NewTimer(exceeded.After)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return true, ctx.Err()
		}
	}
}

// enqueue counts a message, and adds it to its caller's queue if it must wait. Otherwise the message is nil.
func (l *Limiter) enqueue(p identity.Principal, sessionID string) (*caller, *message, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := l.budget(p)
	if c == nil || c.waiting.length == 0 && c.messages.AllowN(l.now(), 1) {
		return c, nil, nil
	}
	m := c.waiting.push(sessionID, places(c.messages))
	if m == nil {
		return c, nil, l.tooManyMessages(p, c)
	}
	l.schedule(c)
	return c, m, nil
}

// places returns how many messages may wait for a rate: no more than it serves within [maxDelay].
func places(r *rate.Limiter) int {
	return int(min(MaxWaiting, float64(r.Limit())*maxDelay.Seconds()))
}

// tooManyMessages refuses a message until those that wait now have been served. The caller holds the lock.
func (l *Limiter) tooManyMessages(p identity.Principal, c *caller) *Exceeded {
	after := nextIn(c.messages, l.now()) +
		time.Duration(float64(c.waiting.length)/float64(c.messages.Limit())*float64(time.Second))
	return &Exceeded{Field: fieldRequests, After: after,
		What: fmt.Sprintf("too many messages of %s, of which %d wait", p, c.waiting.length)}
}

// schedule has a caller's queue served when its rate permits the next message. The caller holds the lock.
func (l *Limiter) schedule(c *caller) {
	if c.waiting.scheduled || c.waiting.length == 0 {
		return
	}
	c.waiting.scheduled = true
	time.AfterFunc(nextIn(c.messages, l.now()), func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		c.waiting.scheduled = false
		now := l.now()
		for c.waiting.length > 0 && c.messages.AllowN(now, 1) {
			close(c.waiting.pop().admitted)
		}
		l.schedule(c)
	})
}

// nextIn returns the time after which a rate permits the next one.
func nextIn(r *rate.Limiter, now time.Time) time.Duration {
	next := r.ReserveN(now, 1)
	defer next.CancelAt(now)
	return next.DelayFrom(now)
}
