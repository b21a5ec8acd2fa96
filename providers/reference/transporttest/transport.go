// Package transporttest provides an in-memory transport for tests of components. It implements the BFIA
// channel's push, pop and release over real HTTP, with queues by node, session and topic. One instance
// replaces the transports of all parties. It records all messages and can simulate faults.
package transporttest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// Message holds the content of one push.
type Message struct {
	Session, Source, Target, Topic string
	Payload                        []byte
}

type queueKey struct{ node, session, topic string }

// Transport is an HTTP server with queues in memory.
type Transport struct {
	// Fault is called before each request, with its verb and the number of earlier requests. If it returns
	// true, it has written the response itself. Set it before use.
	Fault func(verb string, n int, w http.ResponseWriter, r *http.Request) bool
	// DropResponse decides for each processed request whether to break the connection in place of the
	// response.
	DropResponse func(verb string, n int) bool
	// IgnoreMessageIDs simulates a transport that does not support message ids.
	IgnoreMessageIDs bool
	// UsePayloadField returns messages in the field "payload" in place of "content".
	UsePayloadField bool

	server *httptest.Server

	mu             sync.Mutex
	changed        chan struct{} // closed and replaced with each push
	queues         map[queueKey][][]byte
	pushed         map[string]bool   // pushes, by x-ptp-message-id
	delivered      map[string][]byte // pops, by x-ptp-message-id
	messages       []Message
	requests       int
	waiting        int
	released       []string
	missingHeaders []string
}

// New starts a transport that stops at the end of the test.
func New(t testing.TB) *Transport {
	b := &Transport{
		changed:   make(chan struct{}),
		queues:    map[queueKey][][]byte{},
		pushed:    map[string]bool{},
		delivered: map[string][]byte{},
	}
	b.server = httptest.NewServer(b)
	t.Cleanup(func() {
		b.server.CloseClientConnections()
		b.server.Close()
	})
	return b
}

// SetFault sets Fault under the lock, for tests whose clients are other processes.
func (b *Transport) SetFault(fault func(verb string, n int, w http.ResponseWriter, r *http.Request) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Fault = fault
}

// Address returns host:port, for system.transport.
func (b *Transport) Address() string { return strings.TrimPrefix(b.server.URL, "http://") }

// Messages returns a copy of all messages that were pushed.
func (b *Transport) Messages() []Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Message(nil), b.messages...)
}

// Unread returns the number of messages that nobody has popped.
func (b *Transport) Unread() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, q := range b.queues {
		n += len(q)
	}
	return n
}

// Waiting returns the number of pops that wait for a message.
func (b *Transport) Waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting
}

// Released returns the topics that were released.
func (b *Transport) Released() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.released...)
}

// MissingHeaders returns the required headers that were missing in requests.
func (b *Transport) MissingHeaders() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.missingHeaders...)
}

// ServeHTTP implements http.Handler.
func (b *Transport) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	verb := strings.TrimPrefix(r.URL.Path, "/v1/interconn/chan/")
	b.mu.Lock()
	n := b.requests
	b.requests++
	for _, h := range []string{
		"tech-provider-code", "trace-id", "token", "session-id", "source-node-id", "target-node-id",
		"message-id",
	} {
		if r.Header.Get("x-ptp-"+h) == "" {
			b.missingHeaders = append(b.missingHeaders, verb+" without "+h)
		}
	}

	b.mu.Unlock()
	if b.Fault != nil && b.Fault(verb, n, w, r) {
		return
	}
	var in struct {
		Topic   string `json:"topic"`
		Payload []byte `json:"payload"`
		Timeout int64  `json:"timeout"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		respond(w, "E0000000400", nil, "content")
		return
	}
	key := queueKey{r.Header.Get("x-ptp-target-node-id"), r.Header.Get("x-ptp-session-id"), in.Topic}
	id := r.Header.Get("x-ptp-message-id")
	if b.IgnoreMessageIDs {
		id = uuid.NewString()
	}
	code, content := "E0000000000", []byte(nil)
	switch verb {
	case "push":
		b.push(key, id, r.Header.Get("x-ptp-source-node-id"), in.Payload)
	case "pop":
		content = b.pop(r, key, id, time.Duration(in.Timeout)*time.Millisecond)
		if content == nil {
			code = "E0000000601"
		}
	case "release":
		b.mu.Lock()
		delete(b.queues, key)
		b.released = append(b.released, in.Topic)
		b.mu.Unlock()
	default:
		code = "E0000000404"
	}

	if b.DropResponse != nil && b.DropResponse(verb, n) {
		panic(http.ErrAbortHandler)
	}
	field := "content"
	if b.UsePayloadField {
		field = "payload"
	}
	respond(w, code, content, field)
}

func respond(w http.ResponseWriter, code string, content []byte, field string) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"code": code, "message": code, field: content})
}

func (b *Transport) push(key queueKey, id, source string, payload []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.pushed[id] {
		return
	}
	b.pushed[id] = true
	b.messages = append(b.messages, Message{key.session, source, key.node, key.topic, payload})
	b.queues[key] = append(b.queues[key], payload)
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *Transport) pop(r *http.Request, key queueKey, id string, timeout time.Duration) []byte {
	end := time.NewTimer(timeout)
	defer end.Stop()
	b.mu.Lock()
	b.waiting++
	b.mu.Unlock()
	defer func() {
		b.mu.Lock()
		b.waiting--
		b.mu.Unlock()
	}()
	for {
		b.mu.Lock()
		if m, again := b.delivered[id]; again {
			b.mu.Unlock()
			return m
		}
		if q := b.queues[key]; len(q) > 0 && r.Context().Err() == nil {
			b.queues[key] = q[1:]
			b.delivered[id] = q[0]
			b.mu.Unlock()
			return q[0]
		}
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-changed:
		case <-end.C:
			return nil
		case <-r.Context().Done():
			return nil
		}
	}
}
