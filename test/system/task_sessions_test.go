package system

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/party"
)

const (
	// exchangeContainer is the argument with which this program is a container that exchanges messages.
	exchangeContainer = "exchange-container"
	// exchanged is the number of messages in each direction.
	exchanged = 100
)

// runExchangeContainer exchanges messages with the other party's container, and fails if it gets one of
// another task. Its topics do not name the task, like those of FATE's components.
func runExchangeContainer() int {
	x := exchange{task: os.Getenv("runtime.component.parameter.task"),
		folder: os.Getenv("runtime.component.parameter.folder"), self: os.Getenv("config.self_role"),
		guest: os.Getenv("config.node_id.guest.0"), host: os.Getenv("config.node_id.host.0")}
	if err := x.run(); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// exchange is what a container does. The containers of both tasks note in a folder what they have done, and
// wait for each other there.
type exchange struct{ task, folder, self, guest, host string }

func (x exchange) run() error {
	x.note("is there")
	for _, task := range []string{"x", "y"} { // so all four run at the same time
		for _, part := range []string{"guest.0", "host.0"} {
			if err := x.await(task, part, "is there"); err != nil {
				return err
			}
		}
	}
	if err := x.overtake(); err != nil {
		return err
	}
	x.note("has overtaken")
	other := map[string]string{"x": "y", "y": "x"}[x.task]
	if err := x.await(other, x.self, "has overtaken"); err != nil {
		return err
	}
	// Now everything at once, in both directions.
	failed := make(chan error, 2)
	if x.self == "guest.0" {
		go func() { failed <- x.send("forth") }()
		go func() { failed <- x.receive("back") }()
	} else {
		go func() { failed <- x.send("back") }()
		go func() { failed <- x.receive("forth") }()
	}
	return errors.Join(<-failed, <-failed)
}

// overtake has both guests push to one topic, that of x first, and both hosts pop, that of y first. In one
// session, the host of y would get the messages of x.
func (x exchange) overtake() error {
	var err error
	switch x.task + " " + x.self {
	case "y guest.0":
		err = x.await("x", "guest.0", "has sent")
	case "y host.0":
		err = x.await("y", "guest.0", "has sent")
	case "x host.0":
		err = x.await("y", "host.0", "has received")
	}
	if err != nil {
		return err
	}
	if x.self == "guest.0" {
		if err := x.send("gradients"); err != nil {
			return err
		}
		x.note("has sent")
		return nil
	}
	if err := x.receive("gradients"); err != nil {
		return err
	}
	x.note("has received")
	return nil
}

// note notes that this container has done something.
func (x exchange) note(what string) {
	if err := os.WriteFile(filepath.Join(x.folder, x.task+" "+x.self+" "+what), nil, 0o600); err != nil {
		fmt.Println(err) // those who wait say that it is missing
	}
}

// await waits until another container has done something.
func (x exchange) await(task, part, what string) error {
	deadline := time.Now().Add(time.Minute)
	for {
		_, err := os.Stat(filepath.Join(x.folder, task+" "+part+" "+what))
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("failed to wait until %s of task %s %s: %w", part, task, what, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// send pushes numbered messages of this task to a topic at the other party.
func (x exchange) send(topic string) error {
	to := x.host
	if x.self == "host.0" {
		to = x.guest
	}
	for i := range exchanged {
		if _, err := x.call("push", to, topic, x.message(i)); err != nil {
			return err
		}
	}
	return nil
}

// receive pops the messages of this task from a topic, and fails if it gets another.
func (x exchange) receive(topic string) error {
	own := x.guest
	if x.self == "host.0" {
		own = x.host
	}
	for i := range exchanged {
		got, err := x.call("pop", own, topic, "")
		if err != nil {
			return err
		}
		if got != x.message(i) {
			return fmt.Errorf("failed to receive %q: got %q", x.message(i), got)
		}
	}
	return nil
}

func (x exchange) message(i int) string { return fmt.Sprintf("message %d of task %s", i, x.task) }

// call sends a request to the party's transport.
func (x exchange) call(verb, node, topic, payload string) (string, error) {
	body, err := json.Marshal(map[string]any{"topic": topic, "payload": []byte(payload), "timeout": 60_000})
	if err != nil {
		return "", err
	}
	base := os.Getenv("system.transport")
	if !strings.Contains(base, "://") {
		base = "http://" + base
	}
	r, err := http.NewRequest(http.MethodPost, base+"/v1/interconn/chan/"+verb, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	for name, value := range map[string]string{"Content-Type": "application/json",
		"x-ptp-tech-provider-code": "TEST", "x-ptp-trace-id": os.Getenv("config.trace_id"),
		"x-ptp-token": os.Getenv("config.token"), "x-ptp-session-id": os.Getenv("config.session_id"),
		"x-ptp-source-node-id": os.Getenv("config.node_id." + x.self), "x-ptp-target-node-id": node,
		"x-ptp-message-id": uuid.NewString()} {
		r.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	var answer struct {
		Code             string
		Content, Payload []byte
	}
	if err := json.Unmarshal(text, &answer); err != nil || answer.Code != "E0000000000" {
		return "", fmt.Errorf("failed to %s: HTTP %d: %s", verb, resp.StatusCode, text)
	}
	return string(append(answer.Content, answer.Payload...)), nil
}

// exchangeJob is a job of two tasks of one component, which run in parallel.
func exchangeJob(t *testing.T) []byte { return exchangeJobIn(t, t.TempDir()) }

// exchangeJobIn is an exchangeJob whose containers note in a folder what they have done.
func exchangeJobIn(t *testing.T, folder string) []byte {
	t.Helper()
	var components []any
	params := map[string]any{}
	for _, task := range []string{"x", "y"} {
		components = append(components, map[string]any{"name": task, "componentName": "Exchange",
			"provider": "exchange", "version": "1", "input": []any{}, "output": []any{}})
		params[task] = map[string]any{"task": task, "folder": folder}
	}
	body, err := json.Marshal(map[string]any{"dag": map[string]any{"components": components},
		"config": map[string]any{"initiator": map[string]string{"role": "guest", "node_id": guestNode},
			"role":        map[string]any{"guest": []string{guestNode}, "host": []string{hostNode}},
			"task_params": map[string]any{"common": params}}})
	require.NoError(t, err)
	return body
}

// exchangeProvider registers this program as the component Exchange.
func (n *testParty) exchangeProvider(session string) {
	n.t.Helper()
	program, err := os.Executable()
	require.NoError(n.t, err)
	param := func(name string) map[string]any {
		return map[string]any{"name": name, "title": name, "description": "", "type": "string"}
	}
	body, err := json.Marshal(map[string]any{"name": "exchange", "version": "1", "device": "process",
		"metadata": map[string]any{"command": []string{program, exchangeContainer}, "session": session},
		"components_description": map[string]any{"Exchange": map[string]any{
			"componentName": "Exchange", "title": "", "provider": "exchange", "version": "1",
			"roleList": []string{"guest", "host"}, "storageEngine": []string{"file"},
			"inputParam": []any{param("task"), param("folder")}, "inputData": []any{},
			"outputData": []any{}, "result": []any{}}}})
	require.NoError(n.t, err)
	env, _ := n.request(http.MethodPost, bfia.PathProviderRegister, body)
	require.True(n.t, env.OK(), env.Text())
}

// TestParallelTasksWithAlikeTopics runs two tasks of one component in one job at the same time. Their topics
// have the same names. With a session for each task, each gets its own messages, in their order. In the
// session of the job they get each other's, so the test would notice it.
func TestParallelTasksWithAlikeTopics(t *testing.T) {
	t.Parallel()
	program, err := os.Executable()
	require.NoError(t, err)
	pair := newPartyPair(t, func(cfg *party.Config) {
		cfg.Runner.Process.Allow = append(cfg.Runner.Process.Allow, program)
	})
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.start()
	}
	run := func(t *testing.T, session string) bfia.JobStatus {
		t.Helper()
		for _, n := range []*testParty{pair.guest, pair.host} {
			n.exchangeProvider(session)
		}
		return pair.guest.awaitJob(pair.guest.submit(exchangeJob(t)), 3*time.Minute, isFinished)
	}
	t.Run("a session for each task", func(t *testing.T) {
		requireSuccess(t, run(t, bfia.SessionPerTask))
	})
	t.Run("one session", func(t *testing.T) {
		s := run(t, bfia.SessionPerJob)
		require.Equal(t, bfia.OutcomeFailed, s.Outcome)
		mixed := `failed to receive "message 0 of task y": got "message 0 of task x"`
		require.Eventually(t, func() bool { return strings.Contains(pair.host.log(s.JobID, "y"), mixed) },
			time.Minute, 50*time.Millisecond)
	})
}
