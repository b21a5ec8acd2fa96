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

// asProcess makes this test binary a transport: node id, spool, address and routes.
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
	tr, err := New(Config{NodeID: spec[0], Spool: spec[1], Logger: quiet(), Route: func(id string) (string, bool) {
		url, ok := routes[id]
		return url, ok
	}})
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
		spec := []string{id, t.TempDir(), addresses[i], "A=http://" + addresses[0], "B=http://" + addresses[1]}
		p := &process{t: t, spec: strings.Join(spec, "|"), url: "http://" + addresses[i]}
		p.start()
		t.Cleanup(p.kill)
		a, b = b, p
	}
	return a, b
}

// insist repeats a call with one id until it is answered for good.
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

// Two transports are killed at any moment, again and again: what containers on
// both sides push arrives once and in order for each session and topic.
func TestKilledAtAnyMoment(t *testing.T) {
	seed := uint64(1)
	rng := rand.New(rand.NewPCG(seed, 0))
	a, b := startProcesses(t)
	const lanes, messages = 6, 60
	payload := func(lane, i int) []byte {
		text := fmt.Sprintf("%d/%d|", lane, i)
		if (lane+i)%7 == 0 {
			return append([]byte(text), bytes.Repeat([]byte{byte(i)}, queue.InlineBytes+i)...)
		}
		return []byte(text)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	var wg, readers sync.WaitGroup
	var arrived atomic.Int64
	for lane := range lanes {
		from, to, target := a, b, "B"
		switch lane % 3 {
		case 1:
			from, to, target = b, a, "A"
		case 2:
			from = b // within one node
		}
		session, topic := fmt.Sprint("session_", lane%2), fmt.Sprint("topic-", lane)
		container := func(p *process) *caller {
			c := (&node{url: p.url}).container(t, session).protobuf()
			c.client.Transport.(*http.Transport).ResponseHeaderTimeout = 5 * time.Second
			return c
		}
		wg.Go(func() {
			c := container(from)
			for i := range messages {
				if _, err := c.insist(ctx, fmt.Sprintf("push-%d-%d", lane, i), pathPush, target, c.pushBody(topic, payload(lane, i))); err != nil {
					t.Error(err)
					return
				}
			}
		})
		readers.Go(func() {
			c := container(to)
			for i := range messages {
				out, err := c.insist(ctx, fmt.Sprintf("pop-%d-%d", lane, i), pathPop, "", c.readBody(topic, time.Second))
				if err != nil {
					t.Error(err)
					return
				}
				if want := payload(lane, i); !bytes.Equal(want, out.Payload) {
					t.Errorf("lane %d: message %d is %.10q", lane, i, out.Payload)
					cancel()
					return
				}
				arrived.Add(1)
			}
			// Nothing came twice: after the last there is none.
			if _, out, err := c.post(ctx, pathPeek, "", c.readBody(topic, 0)); err == nil && out.HasPayload {
				t.Errorf("lane %d: %.10q came after the last message", lane, out.Payload)
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); readers.Wait(); close(done) }()
	kills := 0
	for running := true; running; {
		// The next kill comes some messages later, so that there is progress however slow the machine is.
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
	require.EqualValues(t, lanes*messages, arrived.Load())
	require.GreaterOrEqual(t, kills, 5)
	t.Logf("seed %d: %d messages, %d kills", seed, arrived.Load(), kills)
}
