package api

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"hutong/bfia"
)

const (
	// Temporal takes 10,000 signals of one workflow and then refuses all others, also those that end it. From
	// one source a workflow takes signalBurst signals, and then one each signalEvery: 5,000 in a week.
	signalBurst = 20
	signalEvery = 2 * time.Minute
	// maxSignalSources bounds the sources that are remembered.
	maxSignalSources = 10_000
)

// signalLimits bounds the signals that partners and containers cause. The zero value is ready to use.
type signalLimits struct {
	mu      sync.Mutex
	sources map[string]*rate.Limiter
}

// allow reports whether a source may cause another signal.
func (l *signalLimits) allow(source string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter := l.sources[source]
	if limiter == nil {
		if l.sources == nil {
			l.sources = map[string]*rate.Limiter{}
		}
		l.forget()
		limiter = rate.NewLimiter(rate.Every(signalEvery), signalBurst)
		l.sources[source] = limiter
	}
	return limiter.Allow()
}

// forget makes space for another source: it drops those whose limit is unused again, and if there are none,
// any.
func (l *signalLimits) forget() {
	if len(l.sources) < maxSignalSources {
		return
	}
	for source, limiter := range l.sources {
		if limiter.Tokens() >= signalBurst {
			delete(l.sources, source)
		}
	}
	for source := range l.sources {
		if len(l.sources) < maxSignalSources {
			return
		}
		delete(l.sources, source)
	}
}

// signalLimited sends a signal that a partner or a container causes. source names what causes it within the
// job: the party, and the part or task.
func (s *Server) signalLimited(ctx context.Context, source, id, name string, arg any) (gone bool, err error) {
	if !s.signals.allow(id + "\x00" + name + "\x00" + source) {
		s.logger.Warn("refused a flood of requests", "workflow_id", id, "signal", name, "source", cut(source))
		return false, bfia.Errorf(bfia.CodeUnavailable, "%s has taken %d such requests about this job in a "+
			"short time; it takes the next in %s", s.Node, signalBurst, signalEvery)
	}
	return s.signal(ctx, id, name, arg)
}
