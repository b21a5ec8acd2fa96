package docker

import (
	"context"
	"errors"
	"io"
	"sync"
	"syscall"
	"time"

	"hutong/activities/driver"
)

const (
	// outageMargin is added to both ends of an outage: Docker Engine is noticed late, and when it is back it
	// records the ends of the containers that it finds dead.
	outageMargin = 5 * time.Second

	// outageGap is the time without an outage after which the next one is another.
	outageGap = time.Minute
)

// outage is the last time during which Docker Engine did not answer this process. Docker Engine records
// [unseenCode] for a container that ended meanwhile if its runtime died with it; the program may have ended
// well.
type outage struct {
	mu       sync.Mutex
	from, to time.Time // to is zero while it lasts
}

// note records whether Docker Engine has answered, by the error of a request.
func (o *outage) note(err error, now time.Time) {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return // the caller gave up
	}

	o.mu.Lock()
	defer o.mu.Unlock()

	switch lasts := !o.from.IsZero() && o.to.IsZero(); {
	case !isBroken(err):
		if lasts {
			o.to = now
		}
	case !lasts:
		if o.from.IsZero() || now.Sub(o.to) > outageGap {
			o.from = now
		}
		o.to = time.Time{}
	}
}

// covers reports whether Docker Engine was away at a time.
func (o *outage) covers(at time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()

	if o.from.IsZero() || at.Before(o.from.Add(-outageMargin)) {
		return false
	}

	return o.to.IsZero() || at.Before(o.to.Add(outageMargin))
}

// isBroken reports whether an error is that of a connection, not an answer.
func isBroken(err error) bool {
	return err != nil && ((*Driver)(nil).IsUnreachable(err) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) ||
		errors.Is(err, syscall.EPIPE))
}

// unseen marks the end of a container that Docker Engine has not seen.
func (d *Driver) unseen(exit driver.Exit) driver.Exit {
	if exit.Code == unseenCode && !exit.Killed && d.outage.covers(exit.FinishedAt) {
		exit.Killed = true
		exit.Reason = "it ended while Docker Engine was away, which has not seen how"
	}

	return exit
}
