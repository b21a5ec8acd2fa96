package audit

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"hutong/internal/identity"
)

// The bounds on refusals in the trail of one process.
const (
	// Window is the time for which the bounds count.
	Window = time.Minute
	// PerPrincipal is how many refusals of one caller get an entry of their own within a window.
	PerPrincipal = 20
	// PerProcess is how many refusals of all callers do.
	PerProcess = 400
	// maxPrincipals is how many callers are counted apart. Further ones are counted together.
	maxPrincipals = 256
)

// Limiter bounds the entries of refusals: further ones are counted, and the counts become summary entries. It
// is safe for concurrent use. The zero value is ready.
type Limiter struct {
	mu     sync.Mutex
	began  time.Time
	total  int
	counts map[string]*count
}

type count struct {
	principal identity.Principal
	own       int   // refusals with an entry of their own
	further   int64 // refusals that the summary counts
}

// Admit counts a refusal of a caller. It returns whether the refusal gets an entry of its own, and the
// summaries of an earlier window that has ended.
func (l *Limiter) Admit(p identity.Principal, now time.Time) (own bool, due []Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	due = l.end(now, false)
	c := l.of(p, now)
	if c.own >= PerPrincipal || l.total >= PerProcess {
		c.further++
		return false, due
	}
	c.own++
	l.total++
	return true, due
}

// Return counts an entry that could not be written for the next summary of its caller.
func (l *Limiter) Return(e Entry, now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of(e.principal(), now).further += max(e.Count, 1)
}

// of returns the counts of a caller in the present window.
func (l *Limiter) of(p identity.Principal, now time.Time) *count {
	if l.counts == nil {
		l.counts, l.began, l.total = map[string]*count{}, now, 0
	}
	key := principalKey(p)
	c := l.counts[key]
	if c == nil && len(l.counts) >= maxPrincipals {
		key, p = "", identity.Principal{Address: "further addresses"}
		c = l.counts[key]
	}
	if c == nil {
		c = &count{principal: p}
		l.counts[key] = c
	}
	return c
}

// Due returns the summaries of a window that has ended, or with all also those of the current one, which then
// ends.
func (l *Limiter) Due(now time.Time, all bool) []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.end(now, all)
}

func (l *Limiter) end(now time.Time, all bool) []Entry {
	if l.counts == nil || !all && now.Sub(l.began) < Window {
		return nil
	}
	var due []Entry
	for _, key := range slices.Sorted(maps.Keys(l.counts)) {
		c := l.counts[key]
		if c.further == 0 {
			continue
		}
		e := New(c.principal, Refusals, Object{}, Refused, now)
		e.Count = c.further
		e.Reason = fmt.Sprintf("further refusals since %s", l.began.UTC().Format(time.RFC3339))
		due = append(due, e)
	}
	l.counts = nil
	return due
}

// principalKey distinguishes callers, those without a name by their address.
func principalKey(p identity.Principal) string {
	key := fmt.Sprintf("%s\x00%s\x00%s\x00%s\x00%s", p.Kind, p.Node, p.Name, p.Run.TaskID, p.Run.Role)
	if p.Kind == identity.KindAnonymous || p.Proof == identity.ByNothing {
		key += "\x00" + p.Address
	}
	return key
}
