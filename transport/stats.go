package transport

import (
	"sync/atomic"

	"hutong/transport/queue"
)

// Stats counts what a transport holds now and has done since New.
type Stats struct {
	queue.Stats
	// Relayed counts calls that were relayed to the transport of the party that holds their session.
	Relayed uint64
	// Forwarded counts pushes that a partner accepted. Retries counts the tries that failed.
	Forwarded, Retries uint64
}

// SessionStats counts what one session holds.
type SessionStats = queue.SessionStats

type forwardCounters struct {
	forwarded, retries, relayed atomic.Uint64
}

// Stats returns a snapshot.
func (t *Transport) Stats() Stats {
	return Stats{
		Stats:     t.broker.Stats(),
		Relayed:   t.counters.relayed.Load(),
		Forwarded: t.counters.forwarded.Load(),
		Retries:   t.counters.retries.Load(),
	}
}

// SessionStats returns a snapshot of one session. ok is false if the session holds nothing.
func (t *Transport) SessionStats(sessionID string) (st SessionStats, ok bool) {
	return t.broker.SessionStats(sessionID)
}
