package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong-reference/probe"
)

func (b *testEnv) probe(task string, roles []string, parameters map[string]string) map[string]*process {
	return b.startAll(roles, task, "Probe", parameters, nil, []string{"probe"})
}

func (b *testEnv) readProbe(role, task string) (rep probe.Report, byName map[string]probe.Check) {
	b.readJSON(role, task, "probe", &rep)
	byName = map[string]probe.Check{}
	for _, c := range rep.Checks {
		byName[strings.TrimSpace(c.Name+" "+c.Peer)] = c
	}
	require.Len(b.t, byName, len(rep.Checks))
	require.Equal(b.t, rep.OK, rep.Failed == 0)
	require.Equal(b.t, len(rep.Checks), rep.Passed+rep.Failed)
	return rep, byName
}

func TestProbe(t *testing.T) {
	for name, s3 := range map[string]bool{"file": false, "S3": true} {
		t.Run(name, func(t *testing.T) {
			b := newTestEnv(t, map[string]string{"guest": "A", "host": "B", "host.1": "C", "arbiter": "A"})
			if s3 {
				useS3(b)
			}
			roles := []string{"guest", "host", "host.1", "arbiter"}
			b.succeed(b.probe("task-1", roles, nil))
			for _, role := range roles {
				rep, checks := b.readProbe(role, "task-1")
				require.True(t, rep.OK, "%+v", rep)
				require.Len(t, checks, 3+3*3)
				require.Equal(t, b.nodes[role], rep.NodeID)
				require.Positive(t, *checks["storage"].Milliseconds)
				for _, other := range roles {
					if other == role {
						continue
					}
					to := checks["transport_to "+numberedRole(other)]
					clock := checks["clock "+numberedRole(other)]
					require.Equal(t, b.nodes[other], to.PeerNodeID)
					require.Positive(t, *to.Milliseconds)
					require.InDelta(t, 0, *clock.Offset, *clock.Uncertainty+1, "all parties share one clock")
				}
			}
			require.Zero(t, b.transport.Unread())
		})
	}
}

// TestProbeFindsFaults checks an absent party, a direction that loses all messages, and a storage that can't
// be written. Each fault appears in the report of the party that sees it.
func TestProbeFindsFaults(t *testing.T) {
	short := map[string]string{"timeout": "6"}
	t.Run("absent", func(t *testing.T) {
		t.Parallel()
		b := newTestEnv(t, map[string]string{"guest": "A", "host": "B", "arbiter": "C"})
		started := b.probe("task-1", []string{"guest", "arbiter"}, short)
		// A scheduler stops a task at all parties once one has failed. All reports must exist by then.
		first, second := started["guest"], started["arbiter"]
		select {
		case <-first.done:
		case <-second.done:
			first, second = second, first
		case <-time.After(time.Minute):
			require.Fail(t, "no party ended")
		}

		_ = second.Process.Kill()
		require.Equal(t, 1, first.wait(t, time.Minute))
		second.wait(t, time.Minute)
		for role, p := range started {
			rep, checks := b.readProbe(role, "task-1")
			require.Equal(t, 2, rep.Failed)
			require.Contains(t, checks["transport_from host.0"].Why, "no message arrived within 6s")
			require.Contains(t, checks["transport_to host.0"].Why, "sent no receipt")
			require.Contains(t, p.logs.String(), "level=WARN msg=\"check failed\"")
		}

		lines := strings.Split(strings.TrimSpace(first.logs.String()), "\n")
		require.Contains(t, lines[len(lines)-1], "2 of 8 checks failed: transport_from host.0: ")
		for _, c := range b.takeCallbacks() {
			require.Equal(t, "FAILED", c["status"])
		}
	})

	t.Run("one direction", func(t *testing.T) {
		t.Parallel()
		b := newTestEnv(t, pair("A", "B"))
		b.transport.SetFault(func(verb string, _ int, w http.ResponseWriter, r *http.Request) bool {
			if verb == "push" && r.Header.Get("x-ptp-target-node-id") == "B" {
				body, _ := io.ReadAll(r.Body)
				if bytes.Contains(body, []byte("/hello")) { // lose it
					_, _ = w.Write([]byte(`{"code":"E0000000000"}`))
					return true
				}
				r.Body = io.NopCloser(bytes.NewReader(body))
			}
			return false
		})

		started := b.probe("task-1", []string{"guest", "host"}, short)
		for _, p := range started {
			require.Equal(t, 1, p.wait(t, time.Minute))
		}
		_, guest := b.readProbe("guest", "task-1")
		require.True(t, guest["transport_from host.0"].OK)
		require.Contains(t, guest["transport_to host.0"].Why, "host.0 reports")
		_, host := b.readProbe("host", "task-1")
		require.Contains(t, host["transport_from guest.0"].Why, "no message arrived")
		require.True(t, host["transport_to guest.0"].OK)
	})

	t.Run("own side", func(t *testing.T) {
		t.Parallel()
		b := newTestEnv(t, pair("A", "B"))
		env := func(role string) []string {
			return b.environ(role, "task-1", "Probe", short, nil, []string{"probe"})
		}
		host := b.start(env("host"))
		gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet {
				w.WriteHeader(http.StatusBadGateway)
			}
		}))
		defer gateway.Close()
		guest := b.start(
			append(env("guest"), "system.storage=file:///proc/no/place", "system.callback="+gateway.URL,
				"config.session_id="),
		)
		require.Equal(t, 1, guest.wait(t, time.Minute))
		logs := guest.logs.String()
		for _, want := range []string{
			"missing: config.session_id", "check=storage", "check=callback", "report: ",
		} {
			require.Contains(t, logs, want)
		}
		require.Equal(t, 1, host.wait(t, time.Minute))
	})

	t.Run("parameters", func(t *testing.T) {
		b := newTestEnv(t, pair("A", "B"))
		p := b.probe("task-1", []string{"guest"}, map[string]string{"max_clock_offset": "-1"})["guest"]
		require.Equal(t, 1, p.wait(t, time.Minute))
		require.Contains(t, p.logs.String(), "parameter max_clock_offset")
	})
}

// TestControlPort queries the status of a running component (API_SPECS, part 3, section 3.2.1).
func TestControlPort(t *testing.T) {
	b := newTestEnv(t, pair("A", "B"))
	// The kernel could give a port of its own range to a connection, even to one of the queries below.
	var port int
	for free := false; !free; {
		port = 12_000 + rand.IntN(10_000)
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		free = err == nil && l.Close() == nil
	}
	env := append(b.environ("host", "task-1", "Sleep", map[string]string{"seconds": "600"}, nil, nil),
		fmt.Sprint("system.control_port=", port))
	b.start(env)
	var answer struct {
		Code         int
		Status, Role string
	}
	require.Eventually(t, func() bool {
		resp, err := http.Post(
			fmt.Sprintf("http://127.0.0.1:%d/v1/platform/algorithm/task/query", port), "application/json",
			strings.NewReader(`{"task_id":"task-1"}`),
		)
		if err != nil {
			return false
		}
		defer func() { _ = resp.Body.Close() }()
		return json.NewDecoder(resp.Body).Decode(&answer) == nil
	}, time.Minute, 10*time.Millisecond)
	require.Equal(t, "RUNNING", answer.Status)
	require.Equal(t, "host", answer.Role)
	require.Zero(t, answer.Code)

	// A port in use does not fail the task.
	q := b.start(
		append(b.environ("guest", "task-1", "Sleep", map[string]string{"seconds": "0.01"}, nil, nil),
			fmt.Sprint("system.control_port=", port)),
	)
	require.Zero(t, q.wait(t, time.Minute))
	require.Contains(t, q.logs.String(), "system.control_port")
}
