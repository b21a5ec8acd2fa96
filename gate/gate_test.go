package gate_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/gate"
	"hutong/internal/identity"
)

// party is a gate with containers at loopback addresses: a caller binds to the address of its container.
type party struct {
	keys   gate.Keys
	gate   *gate.Gate
	server *httptest.Server

	mu         sync.Mutex
	containers []gate.Container
	listErr    error
	lists      int
	listTakes  time.Duration // what a driver takes for a list
	onList     func()        // before each list
	reports    []bfia.TaskReport
	reportErr  error
	calls      []call // of the transport
}

// call is what the transport got.
type call struct {
	path   string
	header http.Header
	caller identity.Principal
	body   string
}

const (
	jobID = "202611290230000000001"
	taskA = "7b1f6f0e-58b8-5c0e-9d55-000000000001"
	taskB = "7b1f6f0e-58b8-5c0e-9d55-000000000002"
)

func newParty(t *testing.T, change ...func(*gate.Config)) *party {
	t.Helper()
	keys, err := gate.NewKeys(bytes.Repeat([]byte{7}, 32))
	require.NoError(t, err)
	p := &party{keys: keys, containers: []gate.Container{
		container("a", "127.0.0.2", taskA, "guest.0", ""),
		container("b", "127.0.0.3", taskB, "guest.0", ""),
		container("a-host", "127.0.0.4", taskA, "host.0", ""),
		container("retry", "127.0.0.5", taskB, "host.0", bfia.SessionID(jobID)+"_"+taskB),
		container("process", "", taskA, "arbiter.0", ""),
	}}
	cfg := gate.Config{Node: "A", Keys: keys, Containers: p.list, Describe: describe, Report: p.report,
		Transport: http.HandlerFunc(p.transport), Logger: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&cfg)
	}
	p.gate, err = gate.New(cfg)
	require.NoError(t, err)
	p.server = httptest.NewUnstartedServer(nil)
	p.server.Config = p.gate.Server().Server
	p.server.Start()
	t.Cleanup(p.server.Close)
	return p
}

func container(name, address, task, role, session string) gate.Container {
	if session == "" {
		session = bfia.SessionID(jobID)
	}
	return gate.Container{Name: name, ID: "id of " + name, Address: address, Addressed: name != "process",
		Labels: map[string]string{"task": task, "role": role, "session": session}}
}

func describe(_ context.Context, c gate.Container) (gate.Run, error) {
	return gate.Run{Run: identity.Run{JobID: jobID, TaskID: c.Labels["task"], Role: c.Labels["role"],
		Session: c.Labels["session"]}}, nil
}

func (p *party) list(context.Context) ([]gate.Container, error) {
	time.Sleep(p.listTakes)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lists++
	if p.onList != nil {
		p.onList()
	}
	return append([]gate.Container{}, p.containers...), p.listErr
}

func (p *party) report(_ context.Context, r bfia.TaskReport) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reportErr == nil {
		p.reports = append(p.reports, r)
	}
	return p.reportErr
}

func (p *party) transport(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	p.mu.Lock()
	p.calls = append(p.calls, call{r.URL.Path, r.Header.Clone(), identity.From(r.Context()), string(body)})
	p.mu.Unlock()
	_, _ = io.WriteString(w, `{"code":"E0000000000"}`)
}

// from returns a client whose requests come from an address.
func from(address string) *http.Client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	return &http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
}

// post sends a request from an address and returns the status and the answer.
func (p *party) post(t *testing.T, address, path, body string, headers ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(
		t.Context(),
		http.MethodPost,
		p.server.URL+path,
		strings.NewReader(body),
	)
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := from(address).Do(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer.StatusCode, string(text)
}

func reportOf(task, role string, state bfia.TaskState) string {
	text, _ := json.Marshal(bfia.TaskReport{TaskID: task, Role: role, Status: state})
	return string(text)
}

// A container uses the session of its attempt and those derived from it.
func TestSessionIsOfTheOwnAttempt(t *testing.T) {
	p := newParty(t)
	own := bfia.SessionID(jobID)
	for name, test := range map[string]struct {
		address, session string
		status           int
	}{
		"the job's session":               {"127.0.0.2", own, 200},
		"derived":                         {"127.0.0.2", own + "_fold_1", 200},
		"derived for its own task":        {"127.0.0.2", own + "_" + taskA, 200},
		"derived for another task":        {"127.0.0.2", own + "_" + taskB, 403},
		"below that of another task":      {"127.0.0.2", own + "_" + taskB + "_fold_1", 403},
		"another job's":                   {"127.0.0.2", "session_202611290230000000002", 403},
		"longer":                          {"127.0.0.2", own + "1", 403},
		"a later attempt's own":           {"127.0.0.5", own + "_" + taskB, 200},
		"derived from a later attempt's":  {"127.0.0.5", own + "_" + taskB + "_fold_1", 200},
		"a later attempt, the job's":      {"127.0.0.5", own, 403},
		"a later attempt, derived of job": {"127.0.0.5", own + "_fold_1", 403},
		"nobody":                          {"127.0.0.9", own, 403},
	} {
		t.Run(name, func(t *testing.T) {
			for _, op := range []string{"push", "pop", "peek", "release"} {
				for _, contentType := range []string{"application/json", "application/x-protobuf"} {
					p.calls = nil
					status, answer := p.post(t, test.address, "/v1/interconn/chan/"+op, `{"topic":"t"}`,
						"x-ptp-session-id", test.session, "Content-Type", contentType)
					require.Equal(t, test.status, status, answer)
					if status == 200 {
						require.Len(t, p.calls, 1)
						require.Equal(t, identity.KindContainer, p.calls[0].caller.Kind)
						require.Equal(t, jobID, p.calls[0].caller.Run.JobID)
						require.NotEmpty(t, p.calls[0].caller.Run.Session)
						require.Equal(t, `{"topic":"t"}`, p.calls[0].body)
					} else {
						require.Contains(t, answer, "E0000000403")
						require.Empty(t, p.calls)
					}
				}
			}
		})
	}
}

// The transport gets one spelling of each header, and nothing that only the party may say.
func TestChannelHeaders(t *testing.T) {
	p := newParty(t)
	own, foreign := bfia.SessionID(jobID), "session_1"
	status, _ := p.post(t, "127.0.0.2", "/v1/interconn/chan/push", "{}", "x-ptp-session-id", own,
		"X-Ptp-Source-Node-Id", "B", "x_ptp_from_node_id", "B", "x-ptp-token", p.keys.Token("a"),
		"x-ptp-target-node-id", "B", "X-Hutong-Caller", "forged", "x-ptp-topic", "t")
	require.Equal(t, 200, status)
	header := p.calls[0].header
	require.Equal(t, []string{"A"}, header.Values("x-ptp-source-node-id"))
	require.Equal(t, []string{"B"}, header.Values("x-ptp-target-node-id"))
	require.Equal(t, []string{own}, header.Values("x-ptp-token"), "the token stays here")
	require.Empty(t, header.Values("x-ptp-from-node-id"))
	require.Empty(t, header.Values("X-Hutong-Caller"))
	require.NotContains(t, fmt.Sprint(header), p.keys.Token("a"))

	for _, headers := range [][]string{
		{"x-ptp-session-id", own, "x-ptp-final", "true"}, {"x-ptp-session-id", own, "x_ptp_final", "derived"},
		{"x-ptp-session-id", own, "X_PTP-Session_ID", foreign}, {"X_PTP_SESSION_ID", foreign},
	} {
		status, answer := p.post(t, "127.0.0.2", "/v1/interconn/chan/release", "{}", headers...)
		require.Equal(t, 403, status, "%v: %s", headers, answer)
	}
	for _, path := range []string{"/v1/interconn/chan/invoke", "/v1/interconn/chan/transport",
		"/org.ppc.ptp.PrivateTransferProtocol/invoke", "/v1/interconn/chan/",
		"/v1/interconn/schedule/job/stop"} {
		status, _ := p.post(t, "127.0.0.2", path, "{}", "x-ptp-session-id", own)
		require.Equal(t, 404, status, path)
	}
	require.Len(t, p.calls, 1)
}

// The address of an ended container is that of the next one from the moment it starts.
func TestAddressIsUsedAgain(t *testing.T) {
	p := newParty(t)
	send := func(task string) int {
		status, _ := p.post(
			t,
			"127.0.0.2",
			gate.CallbackPath(""),
			reportOf(task, "guest.0", bfia.TaskRunning),
		)
		return status
	}
	for i := range 20 {
		require.Equal(t, 200, send(taskA))
		end := p.gate.BeginStart()
		p.mu.Lock()
		p.containers[0] = container(fmt.Sprint("new", i), "127.0.0.2", taskB, "guest.0", "")
		p.mu.Unlock()
		require.Equal(t, 200, send(taskB), "also before its start has returned")
		require.Equal(t, 403, send(taskA))
		end()
		require.Equal(t, 200, send(taskB))
		end = p.gate.BeginStart()
		p.mu.Lock()
		p.containers[0] = container(fmt.Sprint("a", i), "127.0.0.2", taskA, "guest.0", "")
		p.mu.Unlock()
		end()
	}
}

// A container may call before its driver lists it. Many calls share few lists.
func TestListsAreShared(t *testing.T) {
	p := newParty(t)
	p.listTakes = 20 * time.Millisecond
	p.gate.BeginStart()()
	p.containers = append(p.containers, container("late", "", taskA, "guest.0", ""))
	p.onList = func() {
		if p.lists == 10 { // the earlier ones do not have its address
			p.containers[len(p.containers)-1].Address = "127.0.0.8"
		}
	}
	var ok atomic.Int32
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			status, _ := p.post(
				t,
				"127.0.0.8",
				gate.CallbackPath(""),
				reportOf(taskA, "guest.0", bfia.TaskRunning),
			)
			if status == 200 {
				ok.Add(1)
			}
		})
	}
	all.Wait()
	require.EqualValues(t, 50, ok.Load())
	p.mu.Lock()
	defer p.mu.Unlock()
	require.GreaterOrEqual(t, p.lists, 10)
	require.Less(t, p.lists, 30)
}

// Without isolation, for development, a caller that nothing identifies may report and use sessions, but those
// that are known may do no more than before.
func TestUnidentifiedCallers(t *testing.T) {
	p := newParty(t, func(c *gate.Config) { c.Unidentified = true })
	status, answer := p.post(
		t,
		"127.0.0.1",
		gate.CallbackPath(""),
		reportOf(taskA, "guest", bfia.TaskSuccess),
	)
	require.Equal(t, 200, status, answer)
	require.Equal(t, "guest", p.reports[0].Role)
	status, _ = p.post(t, "127.0.0.1", "/v1/interconn/chan/pop", "{}", "x-ptp-session-id", "session_any")
	require.Equal(t, 200, status)
	require.Equal(t, identity.ByNothing, p.calls[0].caller.Proof)
	status, _ = p.post(t, "127.0.0.1", "/v1/interconn/chan/release", "{}", "x-ptp-session-id", "session_any",
		"x-ptp-final", "true")
	require.Equal(t, 403, status)
	status, _ = p.post(t, "127.0.0.1", gate.CallbackPath(p.keys.Token("process")),
		reportOf(taskB, "arbiter.0", bfia.TaskSuccess))
	require.Equal(t, 403, status)
}

// Between processes of the party the caller is sealed.
func TestSealedCaller(t *testing.T) {
	keys, err := gate.NewKeys(bytes.Repeat([]byte{7}, 32))
	require.NoError(t, err)
	others, err := gate.NewKeys(bytes.Repeat([]byte{8}, 32))
	require.NoError(t, err)
	_, err = gate.NewKeys(make([]byte, 31))
	require.Error(t, err)

	caller := identity.Principal{Kind: identity.KindContainer, Node: "A", Proof: identity.ByAddress,
		Run: identity.Run{JobID: jobID, TaskID: taskA, Role: "guest.0", Session: "s"}}
	now := time.Now()
	value := keys.Seal(caller, now)
	got, err := keys.Open(value, now.Add(time.Minute))
	require.NoError(t, err)
	require.Equal(t, caller, got)
	for name, open := range map[string]func() error{
		"another secret": func() error { _, err := others.Open(value, now); return err },
		"old":            func() error { _, err := keys.Open(value, now.Add(time.Hour)); return err },
		"future":         func() error { _, err := keys.Open(value, now.Add(-time.Hour)); return err },
		"empty":          func() error { _, err := keys.Open("", now); return err },
		"changed":        func() error { _, err := keys.Open("A"+value, now); return err },
		"cut":            func() error { _, err := keys.Open(value[:len(value)-1], now); return err },
	} {
		require.Error(t, open(), name)
	}
	require.NotEqual(t, keys.Token("x"), others.Token("x"))
	require.NotEqual(t, keys.StoragePassword("x"), strings.TrimPrefix(keys.Token("x"), "x."))
}

// The credentials of a container that has no address yet are refused elsewhere, and are good once it has one.
func TestStartingContainer(t *testing.T) {
	p := newParty(t)
	p.containers = append(p.containers, container("starting", "", taskA, "guest.0", ""))
	token := p.keys.Token("starting")
	status, _ := p.post(
		t,
		"127.0.0.9",
		gate.CallbackPath(token),
		reportOf(taskA, "guest.0", bfia.TaskRunning),
	)
	require.Equal(t, 403, status)
	end := p.gate.BeginStart()
	time.AfterFunc(200*time.Millisecond, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.containers[len(p.containers)-1].Address = "127.0.0.9"
	})
	status, _ = p.post(t, "127.0.0.9", gate.CallbackPath(token), reportOf(taskA, "guest.0", bfia.TaskRunning))
	require.Equal(t, 200, status)
	end()
	require.Len(t, p.reports, 1)
}

// A database that restarts while a container starts fails none of its calls. An error that will not pass is
// answered at once.
func TestDescriptionIsAwaited(t *testing.T) {
	away := bfia.Unavailable(bfia.WaitsForDatabase, io.ErrUnexpectedEOF, "the database does not answer")
	var asked atomic.Int32
	p := newParty(t, func(c *gate.Config) {
		c.Describe = func(ctx context.Context, c gate.Container) (gate.Run, error) {
			switch n := asked.Add(1); {
			case c.Name == "b":
				return gate.Run{}, io.ErrUnexpectedEOF
			case n <= 3:
				return gate.Run{}, fmt.Errorf("failed to read the document: %w", away)
			}
			return describe(ctx, c)
		}
	})
	report := reportOf(taskA, "guest.0", bfia.TaskRunning)
	status, text := p.post(t, "127.0.0.2", gate.CallbackPath(""), report)
	require.Equal(t, 200, status, text)
	require.EqualValues(t, 4, asked.Load())

	report = reportOf(taskB, "guest.0", bfia.TaskRunning)
	status, text = p.post(t, "127.0.0.3", gate.CallbackPath(""), report)
	require.NotEqual(t, 200, status, text)
	require.EqualValues(t, 5, asked.Load())
}

// However many calls of a container wait for a service that is away, the gate asks it once at a time. A gate
// that stops answers them.
func TestCallsWaitTogether(t *testing.T) {
	away := bfia.Unavailable(bfia.WaitsForDatabase, io.ErrUnexpectedEOF, "the database does not answer")
	var asking, most atomic.Int32
	p := newParty(t, func(c *gate.Config) {
		c.Describe = func(context.Context, gate.Container) (gate.Run, error) {
			defer asking.Add(-1)
			most.Store(max(most.Load(), asking.Add(1)))
			return gate.Run{}, away
		}
	})
	report := reportOf(taskA, "guest.0", bfia.TaskRunning)
	var calls sync.WaitGroup
	for range 20 {
		calls.Go(func() {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost,
				p.server.URL+gate.CallbackPath(""), strings.NewReader(report))
			assert.NoError(t, err)
			r.Header.Set("Content-Type", "application/json")
			answer, err := from("127.0.0.2").Do(r)
			if err != nil { // it came when the gate had stopped
				return
			}
			_ = answer.Body.Close()
			assert.NotEqual(t, 200, answer.StatusCode)
		})
	}
	require.Eventually(t, func() bool { return most.Load() > 0 }, 10*time.Second, time.Millisecond)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	began := time.Now()
	require.NoError(t, p.server.Config.Shutdown(ctx))
	require.Less(t, time.Since(began), 10*time.Second)
	calls.Wait()
	require.EqualValues(t, 1, most.Load())
}

// A container that the process before has begun to start calls the gate of the next one, whose driver lists
// it a moment later.
func TestContainerOfTheProcessBefore(t *testing.T) {
	p := newParty(t)
	p.onList = func() {
		if p.lists == 3 {
			p.containers = append(p.containers, container("before", "127.0.0.9", taskA, "guest.0", ""))
		}
	}
	report := reportOf(taskA, "guest.0", bfia.TaskRunning)
	status, text := p.post(t, "127.0.0.9", gate.CallbackPath(p.keys.Token("before")), report)
	require.Equal(t, 200, status, text)
}

// A gate that stops answers the calls that wait, so that the container repeats them.
func TestShutdownAnswersWaitingCalls(t *testing.T) {
	waiting := make(chan struct{})
	p := newParty(t, func(c *gate.Config) {
		c.Transport = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			close(waiting)
			<-r.Context().Done()
		})
	})
	done := make(chan string)
	go func() {
		_, answer := p.post(t, "127.0.0.2", "/v1/interconn/chan/pop", "{}", "x-ptp-session-id",
			bfia.SessionID(jobID))
		done <- answer
	}()
	<-waiting
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	require.NoError(t, p.server.Config.Shutdown(ctx))
	require.Contains(t, <-done, "E0000000602")
}
