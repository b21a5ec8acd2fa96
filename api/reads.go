package api

import (
	"sync"
	"time"
)

// maxReads bounds the reads that are remembered.
const maxReads = 10_000

// recentReads remembers which reads were recorded in the audit trail within the last readInterval.
type recentReads struct {
	mu sync.Mutex
	at map[string]time.Time
}

// recent reports whether a read was recorded within the last readInterval.
func (r *recentReads) recent(key string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, known := r.at[key]
	return known && now.Sub(at) < readInterval
}

// add remembers a read that was recorded.
func (r *recentReads) add(key string, now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.at) >= maxReads {
		for k, at := range r.at {
			if now.Sub(at) >= readInterval {
				delete(r.at, k)
			}
		}
		if len(r.at) >= maxReads {
			clear(r.at) // further reads are recorded more often
		}
	}
	if r.at == nil {
		r.at = map[string]time.Time{}
	}
	r.at[key] = now
}
