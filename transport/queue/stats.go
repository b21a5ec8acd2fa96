package queue

// Stats counts what a broker holds now and has done since Open.
type Stats struct {
	// Sessions and Queues are those that hold or remember something, or are in use.
	Sessions, Queues int
	// Messages are unread.
	Messages int
	// Bytes are charged for all bodies and queues. PeakBytes is their maximum so far.
	Bytes, PeakBytes int64
	// Readers are pops that wait for a message. Writers are pushes that wait for an allocation.
	Readers, Writers int
	// Released is the number of released sessions that are remembered.
	Released int
	// Pushed, Popped and Returned count messages into, out of, and back into queues. Duplicates counts
	// messages that were dropped because their id was seen before.
	Pushed, Popped, Returned, Duplicates uint64
}

// SessionStats counts what one session holds.
type SessionStats struct {
	// Queues are its topics. Messages are the unread ones.
	Queues, Messages int
	// InboundBytes are charged for bodies that are being received or unread, and for queues. OutboundBytes
	// are charged for bodies in transit to partners.
	InboundBytes, OutboundBytes int64
}

// Stats returns a snapshot.
func (b *Broker) Stats() Stats {
	b.mu.Lock()
	defer b.mu.Unlock()

	st := Stats{
		Sessions:   len(b.sessions),
		Bytes:      b.used,
		PeakBytes:  b.peak,
		Writers:    b.waiting,
		Released:   len(b.released.ids),
		Pushed:     b.counters.pushed,
		Popped:     b.counters.popped,
		Returned:   b.counters.requeued,
		Duplicates: b.counters.duplicates,
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

// SessionStats returns a snapshot of one session. ok is false if the session holds nothing.
func (b *Broker) SessionStats(id string) (st SessionStats, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, ok := b.sessions[id]
	if !ok {
		return st, false
	}

	st.InboundBytes, st.OutboundBytes = s.in.used+s.in.overhead, s.out.used
	st.Queues = len(s.queues)
	for _, q := range s.queues {
		st.Messages += q.unread()
	}
	return st, true
}
