// Package brokertest is a transport for tests: the channel's push, pop and release over real HTTP, with queues by node,
// session and topic, as a party's transport has them. It stands in for the transports of all parties at once. It records
// what passed, and can be told to misbehave.
package brokertest

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

// Message is what one push carried.
type Message struct {
	Session, Source, Target, Topic string
	Payload                        []byte
}

type queueKey struct{ node, session, topic string }

// Broker keeps queues in memory.
type Broker struct {
	// Fault is asked before each request with its verb and how many requests there were before; it may answer in the
	// broker's place by returning true. Set it before use.
	Fault func(verb string, n int, w http.ResponseWriter, r *http.Request) bool
	// Lose tells for each request that was done whether its answer gets lost: the connection breaks instead.
	Lose func(verb string, n int) bool
	// ForgetIDs is a transport that does not know message ids.
	ForgetIDs bool
	// PayloadName answers with "payload" as the field's name instead of "content".
	PayloadName bool

	server *httptest.Server

	mu       sync.Mutex
	changed  chan struct{} // closed and replaced with each push
	queues   map[queueKey][][]byte
	seen     map[string]bool   // pushes, by x-ptp-message-id
	given    map[string][]byte // pops, by x-ptp-message-id
	messages []Message
	requests int
	waiting  int
	released []string
	headless []string
}

// New starts a broker that ends with the test.
func New(t testing.TB) *Broker {
	b := &Broker{
		changed: make(chan struct{}),
		queues:  map[queueKey][][]byte{},
		seen:    map[string]bool{},
		given:   map[string][]byte{},
	}
	b.server = httptest.NewServer(b)
	t.Cleanup(func() {
		b.server.CloseClientConnections()
		b.server.Close()
	})
	return b
}

// SetFault sets Fault, for who asks from other processes: nothing but the broker's lock orders those after the setting.
func (b *Broker) SetFault(fault func(verb string, n int, w http.ResponseWriter, r *http.Request) bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.Fault = fault
}

// Address is host:port, for system.transport.
func (b *Broker) Address() string { return strings.TrimPrefix(b.server.URL, "http://") }

// Messages is a copy of all that was pushed.
func (b *Broker) Messages() []Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Message(nil), b.messages...)
}

// Left is how many messages nobody has taken.
func (b *Broker) Left() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := 0
	for _, q := range b.queues {
		n += len(q)
	}
	return n
}

// Waiting is how many pops wait for a message.
func (b *Broker) Waiting() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.waiting
}

// Released is the topics that were released.
func (b *Broker) Released() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.released...)
}

// Headless is the required headers that requests lacked.
func (b *Broker) Headless() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.headless...)
}

// ServeHTTP implements http.Handler.
func (b *Broker) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	verb := strings.TrimPrefix(r.URL.Path, "/v1/interconn/chan/")
	b.mu.Lock()
	n := b.requests
	b.requests++
	for _, h := range []string{"tech-provider-code", "trace-id", "token", "session-id", "source-node-id", "target-node-id", "message-id"} {
		if r.Header.Get("x-ptp-"+h) == "" {
			b.headless = append(b.headless, verb+" lacks "+h)
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
		answer(w, "E0000000400", nil, "content")
		return
	}
	key := queueKey{r.Header.Get("x-ptp-target-node-id"), r.Header.Get("x-ptp-session-id"), in.Topic}
	id := r.Header.Get("x-ptp-message-id")
	if b.ForgetIDs {
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
	if b.Lose != nil && b.Lose(verb, n) {
		panic(http.ErrAbortHandler)
	}
	field := "content"
	if b.PayloadName {
		field = "payload"
	}
	answer(w, code, content, field)
}

func answer(w http.ResponseWriter, code string, content []byte, field string) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"code": code, "message": code, field: content})
}

func (b *Broker) push(key queueKey, id, source string, payload []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.seen[id] {
		return
	}
	b.seen[id] = true
	b.messages = append(b.messages, Message{key.session, source, key.node, key.topic, payload})
	b.queues[key] = append(b.queues[key], payload)
	close(b.changed)
	b.changed = make(chan struct{})
}

func (b *Broker) pop(r *http.Request, key queueKey, id string, timeout time.Duration) []byte {
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
		if m, again := b.given[id]; again {
			b.mu.Unlock()
			return m
		}
		if q := b.queues[key]; len(q) > 0 && r.Context().Err() == nil {
			b.queues[key] = q[1:]
			b.given[id] = q[0]
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
