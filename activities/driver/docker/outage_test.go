package docker_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/system"
	"github.com/stretchr/testify/require"

	"hutong/activities/driver"
	"hutong/activities/driver/docker"
)

// scriptedEngine answers as a Docker Engine with one container. Which states a real one leaves behind when it
// is killed depends on its version and on the moment, so tests with a real one would be tests of luck.
type scriptedEngine struct {
	mu    sync.Mutex
	state container.State
	start func(w http.ResponseWriter, state *container.State)
	// breaks ends the connections of requests instead of answering them.
	breaks bool
	starts int

	// memory is the container's limit. The answer to who asks whether it was exceeded is exceeded.
	memory   int64
	exceeded []events.Message
}

const (
	scriptedNode = "JG0100001100000010"
	scriptedName = "hutong-job-task-guest.0-1"
)

func newScriptedEngine(t *testing.T) (*scriptedEngine, *docker.Driver) {
	t.Helper()
	e := &scriptedEngine{state: container.State{Status: container.StateCreated}}
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	d, err := docker.New(docker.Options{NodeID: scriptedNode, HostNetwork: true,
		Host: "tcp://" + server.Listener.Addr().String()})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })

	return e, d
}

func (e *scriptedEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.breaks {
		cut(w)
		return
	}

	w.Header().Set("Content-Type", "application/json")
	switch path.Base(r.URL.Path) {
	case "_ping":
		w.Header().Set("API-Version", "1.41")
	case "info":
		_ = json.NewEncoder(w).Encode(system.Info{ID: "1", NCPU: 1, MemTotal: 1 << 30})
	case "json":
		state := e.state
		_ = json.NewEncoder(w).Encode(container.InspectResponse{
			ContainerJSONBase: &container.ContainerJSONBase{ID: "1", Created: "2026-01-02T12:00:00Z",
				State: &state, HostConfig: &container.HostConfig{
					Resources: container.Resources{Memory: e.memory}}},
			Config: &container.Config{Labels: map[string]string{"hutong.node_id": scriptedNode,
				"hutong.container": scriptedName}},
		})
	case "start":
		e.starts++
		e.start(w, &e.state)
	case "wait":
		w.WriteHeader(http.StatusOK)
		if f, ok := w.(http.Flusher); ok {
			f.Flush()
		}
		e.mu.Unlock()
		<-r.Context().Done()
		e.mu.Lock()
	case "events":
		wanted, err := filters.FromJSON(r.FormValue("filters"))
		if err != nil || !wanted.ExactMatch("container", "1") || !wanted.ExactMatch("event", "oom") {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		for _, m := range e.exceeded {
			_ = json.NewEncoder(w).Encode(m)
		}
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// cut ends the connection without an answer.
func cut(w http.ResponseWriter) {
	hijacker, ok := w.(http.Hijacker)
	if !ok {
		return
	}
	var c net.Conn
	if c, _, _ = hijacker.Hijack(); c != nil {
		_ = c.Close()
	}
}

func (e *scriptedEngine) set(change func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	change()
}

// TestStartIsCutOff is what Docker Engine 20.10 answers for ever about a container that it started when it
// was killed: its runtime has a process that it does not know.
func TestStartIsCutOff(t *testing.T) {
	e, d := newScriptedEngine(t)
	e.start = func(w http.ResponseWriter, state *container.State) {
		state.ExitCode = 128
		state.Error = fmt.Sprintf("task %064x: already exists", 1)
		w.WriteHeader(http.StatusConflict)
		_ = json.NewEncoder(w).Encode(map[string]string{"message": state.Error})
	}

	require.NoError(t, d.Start(t.Context(), scriptedName))
	exit, err := d.Wait(t.Context(), scriptedName)
	require.NoError(t, err)
	require.True(t, exit.Killed, "so that the task starts again: %+v", exit)
	require.Equal(t, "Docker Engine died while it started the container; whether its program ran is unknown",
		exit.Reason)
	require.Equal(t, 255, exit.Code)
	require.False(t, exit.FinishedAt.IsZero())

	require.NoError(t, d.Start(t.Context(), scriptedName), "it has ended")
	require.Equal(t, 1, e.starts, "no container starts twice")
}

// TestEndIsUnseen ends a container with code 255 while Docker Engine answers, and while it does not.
func TestEndIsUnseen(t *testing.T) {
	for _, c := range []struct {
		name   string
		away   bool
		ended  time.Duration // after the outage
		code   int
		killed bool
	}{
		{"while Docker Engine was away", true, 0, 255, true},
		{"with a code that Docker Engine has seen", true, 0, 3, false},
		{"long after Docker Engine was back", true, time.Minute, 255, false},
		{"with Docker Engine there", false, 0, 255, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, d := newScriptedEngine(t)
			began := time.Now().Add(-time.Second)
			e.start = func(w http.ResponseWriter, state *container.State) {
				state.Status, state.Running = container.StateRunning, true
				state.StartedAt = began.UTC().Format(time.RFC3339Nano)
				if c.away {
					e.breaks = true
					cut(w)
				}
			}
			err := d.Start(t.Context(), scriptedName)
			require.Equal(t, c.away, err != nil, "%v", err)
			e.set(func() {
				e.breaks = false
				e.state.Status, e.state.Running, e.state.ExitCode = container.StateExited, false, c.code
				e.state.FinishedAt = time.Now().Add(c.ended).UTC().Format(time.RFC3339Nano)
			})

			require.NoError(t, d.Start(t.Context(), scriptedName))
			exit, err := d.Wait(t.Context(), scriptedName)
			require.NoError(t, err)
			require.Equal(t, c.code, exit.Code)
			require.Equal(t, c.killed, exit.Killed, "%+v", exit)
			require.Equal(t, driver.ExitReason(c.code) != exit.Reason, c.killed, exit.Reason)
			require.Equal(t, 1, e.starts)
		})
	}
}

// TestMemoryIsExceededUnseen kills a container with a memory limit whose state does not have the cause, since
// Docker Engine was notified after the end.
func TestMemoryIsExceededUnseen(t *testing.T) {
	for _, c := range []struct {
		name     string
		code     int
		memory   int64
		events   []events.Message
		exceeded bool
	}{
		{"reported later", 137, 32 << 20, []events.Message{{Type: "container", Action: "oom"}}, true},
		{"killed by somebody", 137, 32 << 20, nil, false},
		{"without a limit", 137, 0, []events.Message{{Type: "container", Action: "oom"}}, false},
		{"another code", 3, 32 << 20, []events.Message{{Type: "container", Action: "oom"}}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, d := newScriptedEngine(t)
			now := time.Now().UTC().Format(time.RFC3339Nano)
			e.memory, e.exceeded = c.memory, c.events
			e.state = container.State{Status: container.StateExited, ExitCode: c.code,
				StartedAt: now, FinishedAt: now}

			exit, err := d.Wait(t.Context(), scriptedName)
			require.NoError(t, err)
			require.Equal(t, c.exceeded, exit.OOMKilled)
			require.Equal(t, c.code == 137 && !c.exceeded, exit.Killed, "so that the task starts again")
			require.Equal(t, c.exceeded, exit.Reason == "out of memory: the limit is 32 MiB", exit.Reason)
		})
	}
}
