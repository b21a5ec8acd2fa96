package transport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/test/testenv/ports"
	"hutong/transport/queue"
	"hutong/transport/status"
	"hutong/transport/wire"
)

// asProcess is the environment variable with which this test binary runs a transport: node id, spool, address
// and routes.
const asProcess = "HUTONG_TEST_TRANSPORT"

func TestMain(m *testing.M) {
	if spec := os.Getenv(asProcess); spec != "" {
		if err := runAsProcess(strings.Split(spec, "|")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func runAsProcess(spec []string) error {
	routes := map[string]string{}
	for _, r := range spec[3:] {
		id, url, _ := strings.Cut(r, "=")
		routes[id] = url
	}
	tr, err := New(
		Config{NodeID: spec[0], Spool: spec[1], Logger: quiet(), Route: func(id string) (string, bool) {
			url, ok := routes[id]
			return url, ok
		}},
	)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", spec[2])
	if err != nil {
		return err
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the test
		os.Exit(0)
	}()
	return tr.Server().Serve(l)
}

// process is a transport that can be killed and started again.
type process struct {
	t    *testing.T
	spec string
	url  string
	mu   sync.Mutex
	cmd  *exec.Cmd
	in   io.WriteCloser
}

func (p *process) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), asProcess+"="+p.spec)
	p.cmd.Stderr = os.Stderr
	var err error
	p.in, err = p.cmd.StdinPipe()
	require.NoError(p.t, err)
	require.NoError(p.t, p.cmd.Start())
}

func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	_ = p.in.Close()
}

// startProcesses starts two transports that know each other.
func startProcesses(t *testing.T) (a, b *process) {
	t.Helper()
	var addresses []string
	for range 2 {
		address, err := ports.Address()
		require.NoError(t, err)
		addresses = append(addresses, address)
	}
	for i, id := range []string{"A", "B"} {
		spec := []string{id, t.TempDir(), addresses[i], "A=http://" + addresses[0],
			"B=http://" + addresses[1]}
		p := &process{t: t, spec: strings.Join(spec, "|"), url: "http://" + addresses[i]}
		p.start()
		t.Cleanup(p.kill)
		a, b = b, p
	}
	return a, b
}

// insist repeats a call with the same id until it succeeds.
func (c *caller) insist(ctx context.Context, id, path, target string, body []byte) (wire.Answer, error) {
	c = c.with(wire.HeaderMessageID, id)
	for {
		_, out, err := c.post(ctx, path, target, body)
		if err == nil && (out.Code == status.OK || out.Code == status.Forbidden) {
			return out, nil
		}
		select {
		case <-ctx.Done():
			return out, fmt.Errorf("%s: %w, %s %s", path, errors.Join(ctx.Err(), err), out.Code, out.Message)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// killQueue is a queue between two processes that are killed while messages pass through it.
type killQueue struct {
	t              *testing.T
	number         int
	from, to       *process
	target         string
	session, topic string
}

// newKillQueue returns a queue from a to b, from b to a, or within b.
func newKillQueue(t *testing.T, number int, a, b *process) *killQueue {
	q := &killQueue{t: t, number: number, from: a, to: b, target: "B",
		session: fmt.Sprint("session_", number%2), topic: fmt.Sprint("topic-", number)}
	switch number % 3 {
	case 1:
		q.from, q.to, q.target = b, a, "A"
	case 2:
		q.from = b
	}
	return q
}

func (q *killQueue) payload(i int) []byte {
	text := fmt.Sprintf("%d/%d|", q.number, i)
	if (q.number+i)%7 == 0 {
		return append([]byte(text), bytes.Repeat([]byte{byte(i)}, queue.InlineBytes+i)...)
	}
	return []byte(text)
}

func (q *killQueue) container(p *process) *caller {
	c := (&node{url: p.url}).container(q.t, q.session).protobuf()
	c.client.Transport.(*http.Transport).ResponseHeaderTimeout = 5 * time.Second
	return c
}

// push pushes all messages.
func (q *killQueue) push(ctx context.Context, messages int) {
	c := q.container(q.from)
	for i := range messages {
		id := fmt.Sprintf("push-%d-%d", q.number, i)
		if _, err := c.insist(ctx, id, pathPush, q.target, c.pushBody(q.topic, q.payload(i))); err != nil {
			q.t.Error(err)
			return
		}
	}
}

// pop pops all messages and checks them.
func (q *killQueue) pop(ctx context.Context, cancel func(), messages int, arrived *atomic.Int64) {
	c := q.container(q.to)
	for i := range messages {
		id := fmt.Sprintf("pop-%d-%d", q.number, i)
		out, err := c.insist(ctx, id, pathPop, "", c.readBody(q.topic, time.Second))
		if err != nil {
			q.t.Error(err)
			return
		}
		if want := q.payload(i); !bytes.Equal(want, out.Payload) {
			q.t.Errorf("queue %d: message %d is %.10q", q.number, i, out.Payload)
			cancel()
			return
		}
		arrived.Add(1)
	}

	// There are no duplicates: the queue is empty after the last message.
	if _, out, err := c.post(ctx, pathPeek, "", c.readBody(q.topic, 0)); err == nil && out.HasPayload {
		q.t.Errorf("queue %d: %.10q came after the last message", q.number, out.Payload)
	}
}

// TestKilledAtAnyMoment kills two transports again and again. What containers on both sides push must arrive
// once and in order for each session and topic.
func TestKilledAtAnyMoment(t *testing.T) {
	seed := uint64(1)
	rng := rand.New(rand.NewPCG(seed, 0))
	a, b := startProcesses(t)
	const queues, messages = 6, 60
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()

	var wg sync.WaitGroup
	var arrived atomic.Int64
	for number := range queues {
		q := newKillQueue(t, number, a, b)
		wg.Go(func() { q.push(ctx, messages) })
		wg.Go(func() { q.pop(ctx, cancel, messages, &arrived) })
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()

	kills := 0
	for running := true; running; {
		// The next kill waits for some messages, so that there is progress even on a slow machine.
		next := arrived.Load() + 5 + rng.Int64N(20)
		for running && arrived.Load() < next {
			select {
			case <-done:
				running = false
			case <-time.After(time.Duration(rng.IntN(10)) * time.Millisecond):
			}
		}
		if running {
			p := []*process{a, b}[rng.IntN(2)]
			p.kill()
			p.start()
			kills++
		}
	}
	require.EqualValues(t, queues*messages, arrived.Load())
	require.GreaterOrEqual(t, kills, 5)
	t.Logf("seed %d: %d messages, %d kills", seed, arrived.Load(), kills)
}
