package transport

import "sync/atomic"

// Stats is what a transport holds now, and has done since it was made.
type Stats struct {
	// Sessions and Queues are those that hold or remember something, or are in use.
	Sessions, Queues int
	// Messages are unread.
	Messages int
	// Bytes is the room charged for all bodies and queues, PeakBytes the most there was.
	Bytes, PeakBytes int64
	// Readers are pops that wait, Writers pushes that wait for room.
	Readers, Writers int
	// Released is how many released sessions are remembered.
	Released int
	// Pushed, Popped and Returned count messages into, out of, and back into
	// queues here; Duplicates those dropped because their id was known.
	Pushed, Popped, Returned, Duplicates uint64
	// Forwarded counts pushes that a partner took, Retries the tries that failed.
	Forwarded, Retries uint64
}

// SessionStats is what one session holds.
type SessionStats struct {
	// Queues are its topics, Messages the unread ones.
	Queues, Messages int
	// InboundBytes is room charged for bodies being read or unread and for
	// queues, OutboundBytes for bodies on their way to partners.
	InboundBytes, OutboundBytes int64
}

type sentCounts struct {
	forwarded, retries atomic.Uint64
}

// Stats is a snapshot.
func (t *Transport) Stats() Stats {
	b := t.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	st := Stats{
		Sessions:   len(b.sessions),
		Bytes:      b.used,
		PeakBytes:  b.peak,
		Writers:    b.claims,
		Released:   len(b.released.ids),
		Pushed:     b.counts.pushed,
		Popped:     b.counts.popped,
		Returned:   b.counts.returned,
		Duplicates: b.counts.duplicates,
		Forwarded:  t.sent.forwarded.Load(),
		Retries:    t.sent.retries.Load(),
	}
	for _, s := range b.sessions {
		st.Queues += len(s.queues)
		for _, q := range s.queues {
			st.Messages += q.unread()
			st.Readers += len(q.readers)
		}
	}
	return st
}

// SessionStats is a snapshot of one session; ok is false if it holds nothing.
func (t *Transport) SessionStats(sessionID string) (st SessionStats, ok bool) {
	b := t.broker
	b.mu.Lock()
	defer b.mu.Unlock()
	s, ok := b.sessions[sessionID]
	if !ok {
		return st, false
	}
	st.InboundBytes, st.OutboundBytes = s.in.used+s.in.fixed, s.out.used
	st.Queues = len(s.queues)
	for _, q := range s.queues {
		st.Messages += q.unread()
	}
	return st, true
}
