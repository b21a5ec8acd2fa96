package party

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"hutong/gate"
	"hutong/internal/placement"
	"hutong/store"
	"hutong/transport"
)

const (
	// relayCheck is the interval in which the transports of relayed calls are checked while there are any.
	relayCheck = 2 * time.Second
	// relayProbe bounds a probe of one that sends no heartbeats.
	relayProbe = 4 * time.Second
	// relayProbes is the number of probes in a row that must fail before its calls are ended: a machine may
	// be busy for some seconds.
	relayProbes = 2
	// relayListAge is the age at which the list of transports says nothing of their heartbeats.
	relayListAge = 5 * relayCheck
	// relayPause is how long calls are refused at once after the last failed probe.
	relayPause = 5 * time.Second
	// maxIdleTargets bounds the transports that are remembered without a call.
	maxIdleTargets = 1000
)

// relays relays calls to the party's transports. A transport that is frozen keeps its connections, so its
// callers would wait for as long as it is: a pop for days. Therefore calls are ended with a retryable answer
// when another process has taken over the volume, or when a transport neither sends heartbeats nor answers.
type relays struct {
	remote    *gate.Remote
	directory transportList
	prober    http.RoundTripper
	logger    *slog.Logger
	check     time.Duration // relayCheck; less in tests

	mu       sync.Mutex
	targets  map[relayTarget]*relayedCalls
	calls    int // of all targets
	watching bool
}

// transportList is the part of a [placement.Directory] that relays need.
type transportList interface {
	Listed(volume string) (t store.Transport, found bool, readAt time.Time)
	Refresh()
}

// relayTarget is a process that serves a volume.
type relayTarget struct{ volume, address, instance string }

func targetOf(t store.Transport) relayTarget { return relayTarget{t.VolumeID, t.Address, t.Instance} }

func (t relayTarget) url() *url.URL {
	return &url.URL{Scheme: "http", Host: t.address, Path: transport.RelayPath(t.volume)}
}

// relayedCalls are the calls in progress to a target. The relays' lock guards it.
type relayedCalls struct {
	handler http.Handler
	ends    map[*context.CancelCauseFunc]struct{}
	// failures counts the probes in a row that failed, the last one at failedAt.
	failures int
	failedAt time.Time
}

func newRelays(remote *gate.Remote, directory transportList, prober http.RoundTripper, logger *slog.Logger,
) *relays {
	return &relays{remote: remote, directory: directory, prober: prober, logger: logger, check: relayCheck,
		targets: map[relayTarget]*relayedCalls{}}
}

// errTargetGone ends a relayed call.
var errTargetGone = errors.New("the transport that holds the session does not answer; try again")

// to returns the handler of a transport.
func (r *relays) to(at store.Transport) http.Handler {
	target := targetOf(at)
	return http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		ctx, end := context.WithCancelCause(req.Context())
		defer end(nil)
		handler, leave := r.enter(target, end)
		if handler == nil {
			gate.RefuseUnread(w, req, errTargetGone.Error())
			return
		}
		defer leave()
		answer := &firstAnswer{ResponseWriter: w}
		handler.ServeHTTP(answer, req.WithContext(ctx))
		if !answer.started && errors.Is(context.Cause(ctx), errTargetGone) {
			gate.RefuseUnread(w, req, errTargetGone.Error())
		}
	})
}

// enter registers a call, and returns nil if its target has just not answered.
func (r *relays) enter(target relayTarget, end context.CancelCauseFunc) (handler http.Handler, leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.targets[target]
	if c == nil {
		if len(r.targets) >= maxIdleTargets {
			r.forgetIdle()
		}
		c = &relayedCalls{handler: r.remote.To(target.url()), ends: map[*context.CancelCauseFunc]struct{}{}}
		r.targets[target] = c
	}
	if c.failures >= relayProbes && time.Since(c.failedAt) < relayPause {
		return nil, nil
	}
	c.ends[&end] = struct{}{}
	r.calls++
	if !r.watching {
		r.watching = true
		go r.watch()
	}
	return c.handler, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(c.ends, &end)
		r.calls--
	}
}

func (r *relays) forgetIdle() {
	for target, c := range r.targets {
		if len(c.ends) == 0 {
			delete(r.targets, target)
		}
	}
}

// watch checks the targets until no call is in progress.
func (r *relays) watch() {
	ticker := time.NewTicker(r.check)
	defer ticker.Stop()
	for range ticker.C {
		r.mu.Lock()
		if r.watching = r.calls > 0; !r.watching {
			r.mu.Unlock()
			return
		}
		var active []relayTarget
		for target, c := range r.targets {
			if len(c.ends) > 0 {
				active = append(active, target)
			}
		}
		r.mu.Unlock()
		r.checkTargets(active)
	}
}

// checkTargets ends the calls to targets that were replaced, and to those that neither send heartbeats nor
// answer. It asks only those without heartbeats, and all of them while the database does not answer.
func (r *relays) checkTargets(active []relayTarget) {
	r.directory.Refresh()
	var probes sync.WaitGroup
	for _, target := range active {
		t, found, readAt := r.directory.Listed(target.volume)
		switch fresh := time.Since(readAt) < relayListAge; {
		case found && targetOf(t) != target:
			r.end(target, "another process serves its volume")
		case found && fresh && placement.Live(t):
			r.note(target, nil)
		default:
			probes.Go(func() { r.note(target, r.probe(target)) })
		}
	}
	probes.Wait()
}

// probe returns an error if a target does not answer.
func (r *relays) probe(target relayTarget) error {
	ctx, cancel := context.WithTimeout(context.Background(), relayProbe)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.url().String()+"/", http.NoBody)
	if err != nil {
		return err
	}
	req.Close = true // a connection that is kept may be one of before
	resp, err := r.prober.RoundTrip(req)
	if err == nil {
		_ = resp.Body.Close() // it has no such route, which it must be awake to say
	}
	return err
}

// note records whether a target answers.
func (r *relays) note(target relayTarget, err error) {
	r.mu.Lock()
	c := r.targets[target]
	if c == nil || err == nil && c.failures == 0 {
		r.mu.Unlock()
		return
	}
	c.failures++
	c.failedAt = time.Now()
	if err == nil {
		c.failures = 0
	}
	gone := c.failures >= relayProbes
	r.mu.Unlock()
	if gone {
		r.end(target, err.Error())
	}
}

// end ends the calls to a target.
func (r *relays) end(target relayTarget, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.targets[target]
	if c == nil || len(c.ends) == 0 {
		return
	}
	r.logger.Warn("ends the calls that were relayed to a transport", "address", target.address,
		"volume", target.volume, "calls", len(c.ends), "reason", reason)
	for end := range c.ends {
		(*end)(errTargetGone)
	}
}

// firstAnswer records whether an answer was started.
type firstAnswer struct {
	http.ResponseWriter
	started bool
}

// WriteHeader implements [http.ResponseWriter].
func (w *firstAnswer) WriteHeader(status int) {
	w.started = true
	w.ResponseWriter.WriteHeader(status)
}

// Write implements [http.ResponseWriter].
func (w *firstAnswer) Write(b []byte) (int, error) {
	w.started = true
	return w.ResponseWriter.Write(b)
}

// Unwrap lets [http.ResponseController] reach the connection.
func (w *firstAnswer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
