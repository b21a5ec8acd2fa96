package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gofiber/fiber/v2"

	"hutong/activities"
	"hutong/bfia"
	"hutong/internal/identity"
	"hutong/store"
)

const (
	// eventPing is the interval of comments in an idle stream, which keep proxies from closing it.
	eventPing = 15 * time.Second
	// eventLook is the pause between two looks for changes. A look that takes long is followed by a pause
	// that is lookShare times as long, up to eventLookMax, so that a busy database is looked at less often.
	eventLook, eventLookMax = 300 * time.Millisecond, 700 * time.Millisecond
	lookShare               = 4
	// eventAuthCheck is the interval in which the tokens of all readers are checked, with one query.
	eventAuthCheck = time.Second
	// eventBuffer bounds the events that a reader may lag behind. A slower one is dropped.
	eventBuffer = 256
	// eventBatch bounds the changes of one look that are reported one by one.
	eventBatch = 100
)

// eventStream is the media type of server-sent events.
const eventStream = "text/event-stream"

// eventHub sends what changes to the readers of events. One watcher serves all readers of the process; it
// runs only while there are any.
type eventHub struct {
	open   func(ctx context.Context) (watcher, error)
	ended  func(ctx context.Context, tokenIDs []string) ([]string, error)
	logger *slog.Logger
	ping   time.Duration

	mu      sync.Mutex
	readers map[*eventReader]struct{}
	closed  bool
	running bool // the goroutine of watch
	ready   bool // the watcher reports what changes from now on
	// epoch names a time in which the hub has seen all changes. Events of another epoch, or another process,
	// can't be continued.
	epoch  string
	seq    uint64
	recent []bfia.Event // the last events of the epoch, at most eventBuffer
	cancel context.CancelFunc
	done   sync.WaitGroup
	// projects holds the projects of jobs of late, by id.
	projects map[string]string
}

// watcher notices changes; see [store.Watcher].
type watcher interface {
	Next(ctx context.Context, silentAfter time.Duration) ([]bfia.Change, error)
	Close() error
}

// eventReader is one open stream.
type eventReader struct {
	caller identity.Principal
	// events is closed when the hub ends the stream.
	events chan bfia.Event
}

func newEventHub(s *store.Store, logger *slog.Logger) *eventHub {
	return &eventHub{ended: s.EndedTokens, logger: logger, ping: eventPing,
		readers: map[*eventReader]struct{}{},
		open: func(ctx context.Context) (watcher, error) {
			return s.Watch(ctx, activities.RunnerSilentAfter)
		}}
}

// streamEvents reports what changes at this party, as server-sent events, until the client leaves, its
// credentials end, or the server shuts down.
func (s *Server) streamEvents(c *fiber.Ctx) error {
	c.Set(fiber.HeaderContentType, eventStream)
	c.Set(fiber.HeaderCacheControl, "no-store")
	c.Set("X-Accel-Buffering", "no") // nginx would hold events back
	if c.Method() == http.MethodHead {
		return nil
	}
	caller := identity.From(c.UserContext())
	release, err := s.Callers.Stream(caller)
	if err != nil {
		return tooMany(err)
	}
	reader, err := s.events.join(caller, c.Get("Last-Event-ID"))
	if err != nil {
		release()
		return err
	}
	sees := s.seesEvent(c.UserContext(), reader)
	c.Context().SetBodyStreamWriter(func(w *bufio.Writer) {
		defer release()
		defer s.events.leave(reader)
		s.events.send(w, reader, sees)
	})
	return nil
}

// seesEvent returns whether the caller of a request may read an event. Those of a job are for who may see the
// job. The others name nothing. If that can't be found out, it ends the reader's stream, so that the client
// reads all again.
func (s *Server) seesEvent(ctx context.Context, r *eventReader) func(bfia.Event) bool {
	if _, all := store.ProjectsOf(ctx); all {
		return func(bfia.Event) bool { return true }
	}
	return func(e bfia.Event) bool {
		if e.JobID == "" {
			return true
		}
		project, recorded, err := s.events.projectOf(ctx, s.store, e.JobID)
		if err != nil {
			s.logger.Warn("failed to read the project of a job; an event stream ends", "job_id", e.JobID,
				"error", err)
			s.events.leave(r)
		}
		return err == nil && recorded && store.InProject(ctx, project)
	}
}

// maxEventProjects bounds the jobs of which a hub remembers the projects.
const maxEventProjects = 10_000

// projectOf returns the project of a job, and reads it once for all readers: it never changes once it is
// recorded.
func (h *eventHub) projectOf(ctx context.Context, s *store.Store, jobID string) (project string,
	recorded bool, err error) {
	h.mu.Lock()
	project, recorded = h.projects[jobID]
	h.mu.Unlock()
	if recorded {
		return project, true, nil
	}
	if project, recorded, err = s.JobProject(ctx, jobID); err != nil || !recorded {
		return project, false, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.projects == nil || len(h.projects) >= maxEventProjects {
		h.projects = map[string]string{}
	}
	h.projects[jobID] = project
	return project, true, nil
}

// send writes the events of a reader that it sees, until one of both ends.
func (h *eventHub) send(w *bufio.Writer, r *eventReader, sees func(bfia.Event) bool) {
	ping := time.NewTicker(h.ping)
	defer ping.Stop()
	if writeEvents(w, ":\n\n") != nil { // the headers arrive with it
		return
	}
	for {
		text := ":\n\n"
		select {
		case e, open := <-r.events:
			if !open {
				return
			}
			text = h.format(e, sees)
			for more := len(r.events); more > 0; more-- {
				if e, open = <-r.events; !open {
					break
				}
				text += h.format(e, sees)
			}
			if text == "" {
				continue
			}
		case <-ping.C:
		}
		if writeEvents(w, text) != nil {
			return // the client has left, or does not read
		}
	}
}

func writeEvents(w *bufio.Writer, text string) error {
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	return w.Flush()
}

// format returns the text of an event, or "" if the reader does not see it.
func (h *eventHub) format(e bfia.Event, sees func(bfia.Event) bool) string {
	if !sees(e) {
		return ""
	}
	data, _ := json.Marshal(e) // always marshals
	return fmt.Sprintf("id: %s\nevent: change\ndata: %s\n\n", h.eventID(e.Seq), data)
}

func (h *eventHub) eventID(seq uint64) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.epoch + "-" + strconv.FormatUint(seq, 10)
}

// join adds a reader. last is the id of the last event that it has read, or empty. If it has missed events
// that are not known any more, or if it is new, the first event asks it to read all again.
func (h *eventHub) join(caller identity.Principal, last string) (*eventReader, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil, bfia.Errorf(bfia.CodeUnavailable, "this process shuts down; connect again")
	}
	r := &eventReader{caller: caller, events: make(chan bfia.Event, eventBuffer)}
	h.readers[r] = struct{}{}
	if h.ready { // otherwise it gets an event when the watcher is ready
		for _, e := range h.missed(last) {
			r.events <- e
		}
	}
	if !h.running {
		ctx, cancel := context.WithCancel(context.Background())
		h.running, h.cancel = true, cancel
		h.done.Go(func() { h.watch(ctx) })
	}
	return r, nil
}

// missed returns the events after one, or one event that says that all may have changed. The caller holds
// the lock.
func (h *eventHub) missed(last string) []bfia.Event {
	epoch, number, _ := strings.Cut(last, "-")
	seq, err := strconv.ParseUint(number, 10, 64)
	oldest := h.seq - uint64(len(h.recent)) // of which everything after it is known
	if err != nil || epoch != h.epoch || seq > h.seq || seq < oldest {
		return []bfia.Event{{Seq: h.seq, Change: bfia.Change{Kind: bfia.ChangedAll}}}
	}
	return h.recent[seq-oldest:]
}

// leave removes a reader, also one that the hub has removed.
func (h *eventHub) leave(r *eventReader) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(r)
}

// drop ends a reader's stream. The caller holds the lock.
func (h *eventHub) drop(r *eventReader) {
	if _, joined := h.readers[r]; joined {
		delete(h.readers, r)
		close(r.events)
	}
}

// close ends all streams and the watcher.
func (h *eventHub) close() {
	h.mu.Lock()
	h.closed = true
	for r := range h.readers {
		h.drop(r)
	}
	if h.cancel != nil {
		h.cancel()
	}
	h.mu.Unlock()
	h.done.Wait()
}

// watch reports changes until there are no readers.
func (h *eventHub) watch(ctx context.Context) {
	var w watcher
	var failed error
	var checked time.Time
	defer func() {
		if w != nil {
			_ = w.Close()
		}
	}()
	for h.hasReaders() {
		began := time.Now()
		var err error
		if w == nil {
			var opened watcher
			if opened, err = h.open(ctx); err == nil { // after an error it may hold a nil pointer
				w = opened
				h.begin()
			}
		} else {
			var changes []bfia.Change
			if changes, err = w.Next(ctx, activities.RunnerSilentAfter); err == nil {
				h.publish(changes)
			}
		}
		h.dropExpired()
		if err == nil && time.Since(checked) >= eventAuthCheck {
			if err = h.checkReaders(ctx); err == nil {
				checked = time.Now()
			}
		}
		if err != nil && failed == nil && ctx.Err() == nil {
			h.logger.Warn("failed to look for changes; event streams wait", "error", err)
		}
		failed = err
		pause := min(max(eventLook, lookShare*time.Since(began)), eventLookMax)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// hasReaders returns false, once, when the watcher must end.
func (h *eventHub) hasReaders() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.readers) == 0 {
		h.cancel()
		h.running, h.ready, h.recent = false, false, nil
		return false
	}
	return true
}

// begin starts an epoch: the watcher sees all changes from now on.
func (h *eventHub) begin() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ready, h.epoch = true, strconv.FormatUint(rand.Uint64(), 36)
	h.report(bfia.Change{Kind: bfia.ChangedAll})
}

// publish reports changes to all readers.
func (h *eventHub) publish(changes []bfia.Change) {
	if len(changes) > eventBatch {
		changes = []bfia.Change{{Kind: bfia.ChangedAll}}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range changes {
		h.report(c)
	}
}

// report sends one event to all readers, and drops those that are too slow. The caller holds the lock.
func (h *eventHub) report(c bfia.Change) {
	h.seq++
	e := bfia.Event{Seq: h.seq, Change: c}
	if len(h.recent) == eventBuffer {
		h.recent = slices.Delete(h.recent, 0, 1)
	}
	h.recent = append(h.recent, e)
	for r := range h.readers {
		select {
		case r.events <- e:
		default:
			h.drop(r)
		}
	}
}

// dropExpired ends the streams of readers whose credentials have expired.
func (h *eventHub) dropExpired() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for r := range h.readers {
		if end := r.caller.Expires; !end.IsZero() && !time.Now().Before(end) {
			h.drop(r)
		}
	}
}

// checkReaders ends the streams of readers whose tokens are revoked.
func (h *eventHub) checkReaders(ctx context.Context) error {
	tokens := map[string][]*eventReader{}
	h.mu.Lock()
	for r := range h.readers {
		if r.caller.Proof == identity.ByToken || r.caller.Proof == identity.ByFATE {
			tokens[r.caller.Credential] = append(tokens[r.caller.Credential], r)
		}
	}
	h.mu.Unlock()
	var ids []string
	for id := range tokens {
		ids = append(ids, id)
	}
	ended, err := h.ended(ctx, ids)
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range ended {
		for _, r := range tokens[id] {
			h.drop(r)
		}
	}
	return nil
}
