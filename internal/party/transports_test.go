package party

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/bfia/client"
	"hutong/gate"
	"hutong/internal/httpclient"
	"hutong/internal/identity"
	"hutong/internal/placement"
	"hutong/store"
	"hutong/store/storetest"
	"hutong/test/testenv/ports"
	"hutong/transport/status"
	"hutong/transport/wire"
)

// transportProcess is a transport of a party in a process of its own.
type transportProcess struct {
	t                       *testing.T
	file                    string
	program                 string // of another version; empty for this one
	listen, partners, spool string

	mu     sync.Mutex
	cmd    *exec.Cmd
	in     io.WriteCloser
	stderr bytes.Buffer
}

// awaitEnd waits until the process has ended, with an error, and returns what it says.
func (p *transportProcess) awaitEnd() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	select {
	case err := <-ended:
		require.Error(p.t, err)
	case <-time.After(time.Minute):
		require.Fail(p.t, "the transport did not end")
	}
	p.cmd = nil
	return p.stderr.String()
}

func (p *transportProcess) signal(s os.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	require.NoError(p.t, p.cmd.Process.Signal(s))
}

func (p *transportProcess) start() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cmd = exec.Command(os.Args[0])
	p.cmd.Env = append(os.Environ(), transportConfig+"="+p.file)
	if p.program != "" {
		p.cmd = exec.Command(p.program, "transport", "--config", p.file)
	}
	p.stderr.Reset()
	p.cmd.Stderr = io.MultiWriter(&p.stderr, os.Stderr)
	var err error
	p.in, err = p.cmd.StdinPipe()
	require.NoError(p.t, err)
	require.NoError(p.t, p.cmd.Start())
}

func (p *transportProcess) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	_ = p.in.Close()
	p.cmd = nil
}

// transportParty is a party with several transports, each in a process of its own.
type transportParty struct {
	t          *testing.T
	node       string
	database   string
	db         *store.Store
	keys       gate.Keys
	front      string // the address for partners
	transports []*transportProcess
	next       atomic.Int64
}

func newTransportParty(t *testing.T, node, database string) *transportParty {
	t.Helper()
	p := &transportParty{t: t, node: node, database: database, db: storetest.Open(t, database)}
	secret, err := p.db.Secret(t.Context(), gateSecret)
	require.NoError(t, err)
	p.keys, err = gate.NewKeys(secret)
	require.NoError(t, err)
	front := httptest.NewServer(http.HandlerFunc(p.balance))
	t.Cleanup(front.Close)
	p.front = front.URL
	return p
}

// balance passes a partner's request on to the transports in turn, as the party's load balancer does.
func (p *transportParty) balance(w http.ResponseWriter, r *http.Request) {
	n := int(p.next.Add(1)) % len(p.transports)
	(&httputil.ReverseProxy{
		Rewrite: func(pr *httputil.ProxyRequest) {
			pr.SetURL(&url.URL{Scheme: "http", Host: p.transports[n].partners})
		},
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			w.WriteHeader(http.StatusBadGateway)
		},
	}).ServeHTTP(w, r)
}

// add configures a transport with a spool, and starts it. It is a standby if another one has used the spool.
func (p *transportParty) add(spool string, several bool, partner *transportParty) *transportProcess {
	p.t.Helper()
	_, err := os.Stat(filepath.Join(spool, "volume"))
	standby := err == nil
	dir := p.t.TempDir()
	tr := &transportProcess{t: p.t, file: filepath.Join(dir, "party.yaml"), spool: spool}
	for _, address := range []*string{&tr.listen, &tr.partners} {
		*address, err = ports.Address()
		require.NoError(p.t, err)
	}
	settings := map[string]any{"listen": tr.listen, "partner_plain_listen": tr.partners, "spool_dir": spool}
	if several {
		settings["several"], settings["name"], settings["standby"] = true, filepath.Base(spool), standby
	} else {
		tr.program = os.Getenv(olderProgram)
	}
	document, err := yaml.Marshal(map[string]any{
		"node_id": p.node, "data_dir": dir, "database": map[string]any{"url": p.database},
		"transport": settings,
		"routes": map[string]any{partner.node: map[string]any{"url": "http://127.0.0.1:1",
			"transport_url": partner.front, "auth": "none", "from": []string{"127.0.0.0/8"}}},
	})
	require.NoError(p.t, err)
	require.NoError(p.t, os.WriteFile(tr.file, document, 0o600))
	p.transports = append(p.transports, tr)
	tr.start()
	p.t.Cleanup(tr.kill)
	return tr
}

// awaitLive waits until a number of transports are live.
func (p *transportParty) awaitLive(n int) {
	p.t.Helper()
	require.Eventually(p.t, func() bool {
		all, err := p.db.Transports(p.t.Context())
		live := 0
		for _, t := range all {
			if placement.Live(t) {
				live++
			}
		}
		return err == nil && live >= n
	}, 2*time.Minute, 10*time.Millisecond, "transports of %s", p.node)
}

// container calls the transports of its party in turn, whichever holds its session.
type container struct {
	p      *transportParty
	client *http.Client
	run    identity.Run
	next   int
}

func (p *transportParty) container(job string) *container {
	pool := httpclient.Direct()
	pool.ResponseHeaderTimeout = 20 * time.Second
	p.t.Cleanup(pool.CloseIdleConnections)
	run := identity.Run{JobID: job, TaskID: "task", Session: bfia.SessionID(job)}
	return &container{p: p, run: run, client: &http.Client{Transport: p.keys.Sender(identity.Principal{
		Kind: identity.KindContainer, Proof: identity.ByToken, Node: p.node, Run: run}, pool)}}
}

// call sends one call to the next transport.
func (c *container) call(ctx context.Context, id, op, target, topic string, payload []byte) (wire.Answer,
	error) {
	c.next++
	tr := c.p.transports[c.next%len(c.p.transports)]
	body, err := json.Marshal(map[string]any{"topic": topic, "timeout": 1000,
		"payload": base64.StdEncoding.EncodeToString(payload)})
	if err != nil {
		return wire.Answer{}, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+tr.listen+"/v1/interconn/chan/"+op,
		bytes.NewReader(body))
	if err != nil {
		return wire.Answer{}, err
	}
	for name, value := range map[string]string{"Content-Type": "application/json",
		wire.HeaderSessionID: c.run.Session, wire.HeaderTargetNodeID: target, wire.HeaderMessageID: id} {
		r.Header.Set(name, value)
	}
	resp, err := c.client.Do(r)
	if err != nil {
		return wire.Answer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return wire.Answer{}, err
	}
	return wire.JSON.DecodeAnswer(answer)
}

// repeat repeats a call until a transport has decided about it. One whose heartbeat is late, as on a busy
// machine, refuses calls with NoInstance.
func repeat(ctx context.Context, call func() (wire.Answer, error)) (wire.Answer, error) {
	for {
		out, err := call()
		if err == nil && out.Code != status.NoInstance {
			return out, nil
		}
		select {
		case <-ctx.Done():
			return out, fmt.Errorf("%w: %v %s %s", ctx.Err(), err, out.Code, out.Message)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// insist repeats a call until it succeeds.
func (c *container) insist(ctx context.Context, id, op, target, topic string, payload []byte) (wire.Answer,
	error) {
	for {
		out, err := c.call(ctx, id, op, target, topic, payload)
		if err == nil && out.Code == status.OK {
			return out, nil
		}
		if err == nil && (out.Code == status.Forbidden || out.Code == status.BadRequest) {
			return out, fmt.Errorf("%s: %s %s", op, out.Code, out.Message)
		}
		select {
		case <-ctx.Done():
			return out, fmt.Errorf("%s: %w: %v %s %s", op, ctx.Err(), err, out.Code, out.Message)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// stream is one queue between two containers.
type stream struct {
	from, to *container
	topic    string
}

func (s *stream) payload(i int) []byte {
	text := []byte(fmt.Sprint(s.topic, "/", i, "|"))
	if i%7 == 3 { // larger than what a queue's log takes
		text = append(text, bytes.Repeat([]byte{byte(i)}, 70_000)...)
	}
	return text
}

func (s *stream) push(ctx context.Context, from, to int) error {
	for i := from; i < to; i++ {
		if _, err := s.from.insist(ctx, fmt.Sprint("push-", i), "push", s.to.p.node, s.topic,
			s.payload(i)); err != nil {
			return err
		}
	}
	return nil
}

func (s *stream) pop(ctx context.Context, from, to int, popped *atomic.Int64) error {
	for i := from; i < to; i++ {
		out, err := s.to.insist(ctx, fmt.Sprint("pop-", i), "pop", s.to.p.node, s.topic, nil)
		if err != nil {
			return err
		}
		if !bytes.Equal(out.Payload, s.payload(i)) {
			return fmt.Errorf("%s: message %d is %.20q", s.topic, i, out.Payload)
		}
		popped.Add(1)
	}
	return nil
}

// newTransportParties returns two parties with a database at an address each, and the streams of two jobs:
// from A to B, from B to A, and within A. A has two transports, and each holds one of the jobs.
func newTransportParties(t *testing.T, address func(testing.TB) string) (a, b *transportParty,
	streams []*stream) {
	t.Helper()
	a, b = newTransportParty(t, "A", address(t)), newTransportParty(t, "B", address(t))
	a.add(filepath.Join(t.TempDir(), "one"), true, b)
	a.add(filepath.Join(t.TempDir(), "two"), true, b)
	b.add(filepath.Join(t.TempDir(), "only"), false, a)
	a.awaitLive(2)

	held := map[string]bool{}
	directory := placement.New(a.db, quietLog)
	for i := 0; len(held) < 2; i++ {
		require.Less(t, i, 100, "jobs, all at one transport")
		job := fmt.Sprint("J", i)
		var holder store.Transport
		require.Eventually(t, func() (found bool) {
			var err error
			holder, err = directory.Find(t.Context(), bfia.SessionID(job))
			return err == nil
		}, time.Minute, 50*time.Millisecond, "a transport for job %s", job)
		if held[holder.VolumeID] {
			continue
		}
		held[holder.VolumeID] = true
		for _, db := range []*store.Store{a.db, b.db} {
			require.NoError(t, db.CreateJob(t.Context(), store.Job{JobID: job, CreatedAt: time.Now(),
				PartyNodes: []string{"A", "B"}}, nil))
		}
		for _, ends := range [][2]*transportParty{{a, b}, {b, a}, {a, a}} {
			streams = append(streams, &stream{from: ends[0].container(job), to: ends[1].container(job),
				topic: fmt.Sprint(job, " ", ends[0].node, ends[1].node)})
		}
	}
	return a, b, streams
}

// inParallel runs a function for each stream.
func inParallel(t *testing.T, streams []*stream, do func(*stream) error) {
	t.Helper()
	errs := make(chan error, len(streams))
	for _, s := range streams {
		go func() { errs <- do(s) }()
	}
	for range streams {
		require.NoError(t, <-errs)
	}
}

func eachDatabase(t *testing.T, f func(t *testing.T, address func(testing.TB) string)) {
	t.Helper()
	t.Run("sqlite", func(t *testing.T) { t.Parallel(); f(t, storetest.SQLite) })
	t.Run("postgres", func(t *testing.T) { t.Parallel(); f(t, storetest.Postgres) })
}

// TestTwoTransports checks that each call reaches the transport that holds its session, whichever transport
// gets it first; and that messages wait for the process that takes over the spool of one that was killed.
func TestTwoTransports(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, address func(testing.TB) string) {
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
		defer cancel()
		a, b, streams := newTransportParties(t, address)
		var popped atomic.Int64
		const half, all = 10, 20
		inParallel(t, streams, func(s *stream) error { return s.push(ctx, 0, half) })
		inParallel(t, streams, func(s *stream) error { return s.pop(ctx, 0, half/2, &popped) })

		// A standby at another address takes over the spool of one that is killed. The messages are there.
		standby := a.add(a.transports[0].spool, true, b)
		a.transports[0].kill()
		a.transports = []*transportProcess{standby, a.transports[1]}
		inParallel(t, streams, func(s *stream) error { return s.pop(ctx, half/2, half, &popped) })
		inParallel(t, streams, func(s *stream) error { return s.push(ctx, half, all) })
		inParallel(t, streams, func(s *stream) error { return s.pop(ctx, half, all, &popped) })
		for _, s := range streams {
			out, err := s.to.insist(ctx, "peek", "peek", s.to.p.node, s.topic, nil)
			require.NoError(t, err)
			require.False(t, out.HasPayload, "%s: %.20q came after the last message", s.topic, out.Payload)
		}
		require.EqualValues(t, all*len(streams), popped.Load())

		// The party ends a session.
		releaser := newReleaser(a)
		for _, s := range streams {
			require.EventuallyWithT(t, func(c *assert.CollectT) {
				require.NoError(c, releaser.ReleaseSession(ctx,
					participant.ReleaseSessionInput{Session: s.from.run.Session}))
			}, time.Minute, 50*time.Millisecond)
			transfers, complete, err := a.db.Transfers(ctx, s.from.run.JobID)
			require.NoError(t, err)
			require.True(t, complete)
			require.Len(t, transfers, 1, "the bytes for the job's evidence")
			require.Equal(t, "B", transfers[0].NodeID)
			late := a.container(s.from.run.JobID)
			for range a.transports {
				out, err := repeat(ctx, func() (wire.Answer, error) {
					return late.call(ctx, "late", "push", "A", s.topic, nil)
				})
				require.NoError(t, err)
				require.Equal(t, status.SessionReleased, out.Code, "%s", out.Message)
			}
		}
	})
}

// newReleaser returns the activities of a control worker, a process without a transport.
func newReleaser(p *transportParty) *participant.Activities {
	process := &Party{cfg: &Config{NodeID: p.node}, keys: p.keys, placements: placement.New(p.db, quietLog)}
	return &participant.Activities{Node: p.node, Store: p.db, Client: &client.Client{NodeID: p.node},
		Holders: process.sessionHolders, HTTP: process.transportClient(time.Minute), Logger: quietLog}
}

// TestTransportsKilledAtAnyMoment kills the transports of a party again and again. Each message must arrive
// once and in order for its session and topic.
func TestTransportsKilledAtAnyMoment(t *testing.T) {
	t.Parallel()
	eachDatabase(t, func(t *testing.T, address func(testing.TB) string) {
		ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
		defer cancel()
		a, b, streams := newTransportParties(t, address)
		processes := append([]*transportProcess{b.transports[0]}, a.transports...)
		const messages, kills = 24, 6
		var popped atomic.Int64
		done := make(chan struct{})
		go func() {
			defer close(done)
			var wg sync.WaitGroup
			for _, s := range streams {
				wg.Go(func() {
					if err := s.push(ctx, 0, messages); err != nil {
						t.Error(err)
					}
				})
				wg.Go(func() {
					if err := s.pop(ctx, 0, messages, &popped); err != nil {
						t.Error(err)
						cancel()
					}
				})
			}
			wg.Wait()
		}()
		for i := range kills {
			// Each kill waits for progress, so that it strikes while messages pass.
			next := int64(len(streams) * messages * (i + 1) / (kills + 2))
			for running := true; running && popped.Load() < next; {
				select {
				case <-done:
					running = false
				case <-time.After(5 * time.Millisecond):
				}
			}
			p := processes[i%len(processes)]
			p.kill()
			p.start()
		}
		<-done
		require.EqualValues(t, len(streams)*messages, popped.Load())
	})
}

// TestStandby checks that a process with other roles does not keep them waiting for a spool.
func TestStandby(t *testing.T) {
	t.Parallel()
	cfg := &Config{NodeID: "A", Transport: TransportConfig{Standby: true,
		SpoolDir: filepath.Join(t.TempDir(), "not mounted")}}
	p := &Party{cfg: cfg, logger: quietLog, base: quietLog}
	_, err := p.openTransport(t.Context(), Roles{Transport: true, Runner: true})
	require.ErrorContains(t, err, "transport.standby: requires a process of its own")
}
