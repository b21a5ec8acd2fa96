package audit

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"hutong/internal/identity"
)

const (
	// waitingEntries bounds the entries that wait to be written. Further refusals are only counted.
	waitingEntries = 256
	// writeTimeout bounds the writing of refusals.
	writeTimeout = 10 * time.Second
)

// Appender appends to a trail; [hutong/store.Store] implements it.
type Appender interface {
	AppendAudit(ctx context.Context, entries ...Entry) error
}

// Recorder writes the refusals of all listeners of a process to the trail, within the bounds of a [Limiter].
// [Recorder.Record] never waits for the database. It is safe for concurrent use. A nil Recorder only discards
// what it gets.
type Recorder struct {
	trail   Appender
	logger  *slog.Logger
	limiter Limiter
	waiting chan Entry
	closing chan struct{}
	once    sync.Once
	done    chan struct{} // closed when the writer has ended
}

// NewRecorder returns a recorder. Close it to write what waits.
func NewRecorder(trail Appender, logger *slog.Logger) *Recorder {
	r := &Recorder{trail: trail, logger: logger, waiting: make(chan Entry, waitingEntries),
		closing: make(chan struct{}), done: make(chan struct{})}
	go r.run()
	return r
}

// Record takes a refusal of a caller and returns at once. If the caller has had many within a minute, or many
// entries wait, the refusal is only counted.
func (r *Recorder) Record(p identity.Principal, e Entry) {
	if r == nil {
		return
	}
	own, due := r.limiter.Admit(p, time.Now())
	if own {
		due = append(due, e)
	}
	for _, e := range due {
		select {
		case r.waiting <- e:
		default:
			r.limiter.Return(e, time.Now())
		}
	}
}

// Refuse takes the refusal of an act, as Record does. reason must hold neither data nor secrets.
func (r *Recorder) Refuse(p identity.Principal, act string, object Object, reason string) {
	e := New(p, act, object, Refused, time.Now())
	e.Reason = reason
	r.Record(p, e)
}

// Write writes a refusal or failure before it returns, unless the caller has had many within a minute.
func (r *Recorder) Write(p identity.Principal, e Entry) {
	own, due := r.limiter.Admit(p, time.Now())
	if own {
		due = append(due, e)
	}
	r.write(due)
}

// Close writes what waits, and the summaries of what was only counted. It waits for that until ctx ends.
// Nothing is recorded afterwards.
func (r *Recorder) Close(ctx context.Context) error {
	r.once.Do(func() { close(r.closing) })
	select {
	case <-r.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (r *Recorder) run() {
	defer close(r.done)
	ticker := time.NewTicker(Window)
	defer ticker.Stop()
	for {
		select {
		case e := <-r.waiting:
			r.write(r.more(e))
		case <-ticker.C:
			r.write(r.limiter.Due(time.Now(), false))
		case <-r.closing:
			r.write(append(r.more(), r.limiter.Due(time.Now(), true)...))
			return
		}
	}
}

// more returns entries and those that wait.
func (r *Recorder) more(entries ...Entry) []Entry {
	for len(entries) < waitingEntries {
		select {
		case e := <-r.waiting:
			entries = append(entries, e)
		default:
			return entries
		}
	}
	return entries
}

// write writes entries about what was refused or has failed. If it can't, it logs that and counts them for
// the next summary: nothing was allowed.
func (r *Recorder) write(entries []Entry) {
	if len(entries) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
	defer cancel()
	err := r.trail.AppendAudit(ctx, entries...)
	if err == nil {
		return
	}
	r.logger.Error("failed to write refusals to the audit trail", "error", err,
		"caller", entries[0].Principal(), "act", entries[0].Act, "entries", len(entries))
	for _, e := range entries {
		r.limiter.Return(e, time.Now())
	}
}
