package system

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/party"
)

// shellProgram is a component in a shell script. It copies its input, if it has one, to its output, writes a
// model, and waits until a file exists that the parameter gate names.
const shellProgram = `
get() { tr "\0" "\n" < /proc/$$/environ | sed -n "s/^$1=//p"; }
place() { get "$1" | sed 's/.*"name": *"\([^"]*\)".*"namespace": *"\([^"]*\)".*/\2\/\1/'; }
storage=$(get system.storage); storage=${storage#file://}
echo "%s"
for port in out model; do
	[ -n "$(get runtime.component.output.$port)" ] || continue
	to=$storage/$(place runtime.component.output.$port); mkdir -p "$to"
	in=$(get runtime.component.input.in)
	if [ -n "$in" ] && [ $port = out ]; then
		cp "$storage/$(place runtime.component.input.in)"/* "$to"
	else
		printf 'id,x\n1,%s\n' > "$to/data_0"
		printf '{"partitions":1,"file_type":"csv"}' > "$to/metadata"
	fi
done
gate=$(get runtime.component.parameter.gate)
while [ -n "$gate" ] && [ ! -e "$gate" ]; do sleep 0.05; done
`

// allowShell lets a party run shell scripts.
func allowShell(cfg *party.Config) {
	cfg.Runner.Process.Allow = append(cfg.Runner.Process.Allow, "/bin/sh")
}

// shellParties starts a guest and a host that may run shell scripts, and registers the component Run.
func shellParties(t *testing.T) *partyPair {
	t.Helper()
	pair := newPartyPair(t, allowShell)
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.start()
		n.registerShell("Run", "first", "out", "model")
	}
	return pair
}

// registerShell registers the provider sh with one component, whose script prints a text and writes it to its
// outputs.
func (n *testParty) registerShell(component, text, data, model string) {
	n.t.Helper()
	script := filepath.Join(n.t.TempDir(), "run.sh")
	require.NoError(n.t, os.WriteFile(script, fmt.Appendf(nil, shellProgram, text, text), 0o600))
	registration, err := json.Marshal(map[string]any{"name": "sh", "version": "1", "device": "process",
		"protocol": "bfia", "metadata": map[string]any{"command": []string{"/bin/sh", script}},
		"components_description": map[string]any{component: map[string]any{
			"componentName": component, "title": "Run", "provider": "sh", "version": "1",
			"roleList": []string{"guest", "host"}, "storageEngine": []string{"file"}, "inputParam": []any{},
			"inputData": []any{map[string]any{"name": "in", "category": "dataset"}},
			"outputData": []any{map[string]any{"name": data, "category": "dataset"},
				map[string]any{"name": model, "category": "model"}}, "result": []any{}}}})
	require.NoError(n.t, err)
	n.mustRequest(http.MethodPost, bfia.PathProviderRegister, registration, nil)
}

// shellJob returns a job of two tasks: b copies what a writes. Both wait for their gate.
func shellJob(t *testing.T, gates map[string]string) []byte {
	t.Helper()
	outputs := []any{map[string]string{"type": "dataset", "key": "d"},
		map[string]string{"type": "model", "key": "m"}}
	task := func(name string, input ...any) map[string]any {
		return map[string]any{"name": name, "componentName": "Run", "provider": "sh", "version": "1",
			"input": append([]any{}, input...), "output": outputs}
	}
	params := map[string]any{}
	for name, gate := range gates {
		params[name] = map[string]string{"gate": gate}
	}
	job, err := json.Marshal(map[string]any{"flow_id": "fixed",
		"dag": map[string]any{"version": "2.0", "components": []any{
			task("a"), task("b", map[string]string{"type": "dataset", "key": "a.d"})}},
		"config": map[string]any{"version": "2.0.0",
			"initiator":   map[string]string{"role": "guest", "node_id": guestNode},
			"role":        map[string]any{"guest": []string{guestNode}, "host": []string{hostNode}},
			"job_params":  map[string]any{"common": map[string]any{"sync_type": "callback"}},
			"task_params": map[string]any{"common": params}}})
	require.NoError(t, err)
	return job
}

// A job is fixed at its creation: whatever becomes of its provider while a task runs, or between two tasks,
// it runs what was registered when it was created, and all that its tasks wrote can be read.
func TestJobKeepsItsProvider(t *testing.T) {
	t.Parallel()
	pair := shellParties(t)
	parties := []*testParty{pair.guest, pair.host}
	remove := func(n *testParty) {
		n.mustRequest(http.MethodPost, bfia.PathProviderDelete,
			[]byte(`{"name":"sh","version":"1","device":"process","force":true}`), nil)
	}
	for name, change := range map[string]func(*testParty){
		"deleted": remove,
		"registered again without the component": func(n *testParty) {
			n.registerShell("Other", "second", "out", "model")
		},
		"registered again with renamed outputs": func(n *testParty) {
			n.registerShell("Run", "second", "x", "y")
		},
		"registered again with another program": func(n *testParty) {
			n.registerShell("Run", "second", "out", "model")
		},
	} {
		for when, first := range map[string]string{"while a task runs": "a", "between two tasks": "b"} {
			t.Run(name+" "+when, func(t *testing.T) {
				for _, n := range parties {
					n.registerShell("Run", "first", "out", "model")
				}
				gates := map[string]string{"a": filepath.Join(t.TempDir(), "a"),
					"b": filepath.Join(t.TempDir(), "b")}
				open := func(task string) { require.NoError(t, os.WriteFile(gates[task], nil, 0o600)) }
				jobID := pair.guest.submit(shellJob(t, gates))
				if first == "b" { // the first task has ended, and the second one has not
					pair.guest.awaitJob(jobID, time.Minute, isTaskRunning("a"))
					open("a")
				}
				pair.guest.awaitJob(jobID, time.Minute, isTaskRunning(first))
				for _, n := range parties {
					change(n)
				}
				for task := range gates {
					open(task)
				}
				requireSuccess(t, pair.guest.awaitJob(jobID, time.Minute, isFinished))
				for _, n := range parties {
					requireSuccess(t, n.awaitJob(jobID, time.Minute, isFinished))
					outputs := n.outputs(jobID)
					require.Len(t, outputs, 4)
					for place, o := range outputs {
						require.Equal(t, "id,x\n1,first\n", n.download(o), place)
					}
				}
			})
		}
	}
}
