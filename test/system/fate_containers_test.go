package system

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/party"
)

// fateContainer is the argument with which this program behaves as a container of FATE.
const fateContainer = "fate-container"

// runFATEContainer writes its environment to its output, and sends its callback as FATE's BFIA image does: to
// a path with two slashes, and with a state in lower case.
func runFATEContainer() int {
	env := os.Environ()
	slices.Sort(env)
	fmt.Println(strings.Join(env, "\n"))
	callback := strings.Replace(os.Getenv("system.callback"), "/v1/", "//v1/", 1)
	body, err := json.Marshal(map[string]string{"task_id": os.Getenv("config.task_id"), "status": "success",
		"role": os.Getenv("config.self_role")})
	if err != nil {
		return 1
	}
	resp, err := http.Post(callback, "application/json", bytes.NewReader(body))
	if err != nil || resp.StatusCode != http.StatusOK {
		return 2
	}
	return 0
}

// fateProvider registers this program as a provider with a component of FATE's kind.
func (n *testParty) fateProvider(session string) {
	n.t.Helper()
	program, err := os.Executable()
	require.NoError(n.t, err)
	metadata := map[string]any{"command": []string{program, fateContainer}}
	if session != "" {
		metadata["session"] = session
	}
	port := func(name, category string) map[string]any {
		return map[string]any{"name": name, "category": category}
	}
	body, err := json.Marshal(map[string]any{"name": "fate", "version": "1", "device": "process",
		"metadata": metadata, "components_description": map[string]any{"Writer": map[string]any{
			"componentName": "Writer", "title": "", "provider": "fate", "version": "1",
			"roleList": []string{"guest", "host"}, "storageEngine": []string{"file"}, "inputParam": []any{},
			"inputData":  []any{port("in", "dataset")},
			"outputData": []any{port("out", "dataset"), port("note", "report")}, "result": []any{}}}})
	require.NoError(n.t, err)
	env, _ := n.request(http.MethodPost, bfia.PathProviderRegister, body)
	require.True(n.t, env.OK(), env.Text())
}

// fateJob is a job of two parties in which b and c, which run at once, read what a writes.
func fateJob(t *testing.T) []byte {
	t.Helper()
	var components []any
	for _, task := range []string{"a", "b", "c"} {
		input := []any{}
		if task != "a" {
			input = []any{map[string]string{"type": "data", "key": "a.d"}}
		}
		components = append(components, map[string]any{"name": task, "componentName": "Writer",
			"provider": "fate", "version": "1", "input": input, "output": []any{
				map[string]string{"type": "data", "key": "d"}, map[string]string{"type": "summary",
					"key": "m"}}})
	}
	body, err := json.Marshal(map[string]any{"dag": map[string]any{"components": components},
		"config": map[string]any{"initiator": map[string]string{"role": "guest", "node_id": guestNode},
			"role": map[string]any{"guest": []string{guestNode}, "host": []string{hostNode}},
			"task_params": map[string]any{"common": map[string]any{"b": map[string]any{
				"namespace": "experiment", "name": "breast_hetero_guest"}}}}})
	require.NoError(t, err)
	return body
}

// TestFATEContainers runs a job as FATE's pipeline submits it, with containers that behave as FATE's: the
// types of its outputs, parameters that look like a root dataset, callbacks, and a session for each task.
func TestFATEContainers(t *testing.T) {
	t.Parallel()
	program, err := os.Executable()
	require.NoError(t, err)
	pair := newPartyPair(t, func(cfg *party.Config) {
		cfg.Runner.Process.Allow = append(cfg.Runner.Process.Allow, program)
	})
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.start()
	}
	for _, session := range []string{"", bfia.SessionPerTask} {
		t.Run("session "+session, func(t *testing.T) {
			for _, n := range []*testParty{pair.guest, pair.host} {
				n.fateProvider(session)
			}
			jobID := pair.guest.submit(fateJob(t))
			requireSuccess(t, pair.guest.awaitJob(jobID, time.Minute, isFinished))
			ids := map[string]string{}
			for _, task := range pair.guest.status(jobID).Tasks {
				ids[task.Name] = task.TaskID
			}
			for node, n := range map[string]*testParty{"guest-" + guestNode: pair.guest, "host-" +
				hostNode: pair.host} {
				for _, task := range []string{"a", "b", "c"} {
					var log string
					require.Eventually(t, func() bool { // the log may be stored after the callback
						log = n.log(jobID, task)
						return strings.Contains(log, "system.transport=")
					}, time.Minute, 50*time.Millisecond)
					require.Contains(t, log,
						fmt.Sprintf(`runtime.component.output.out={"name": "%s", "namespace": "%s-data-d"}`,
							ids[task], node))
					require.Contains(t, log, node+"-summary-m")
					if task != "a" {
						require.Contains(t, log, fmt.Sprintf(
							`runtime.component.input.in={"name": "%s", "namespace": "%s-data-d"}`, ids["a"], node))
					}
					want := bfia.SessionID(jobID)
					if session == bfia.SessionPerTask {
						want += "_" + ids[task]
					}
					require.Contains(t, log, "config.session_id="+want+"\n")
				}
				log := n.log(jobID, "b")
				require.Contains(t, log, "runtime.component.parameter.namespace=experiment\n")
				require.Contains(t, log, "runtime.component.parameter.name=breast_hetero_guest\n")
			}
		})
	}
}
