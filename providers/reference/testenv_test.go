package main

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong-reference/component"
	"hutong-reference/transporttest"
)

// program is the path of the binary, built as for the image.
var program string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "provider")
		if err != nil {
			panic(err)
		}
		defer func() { _ = os.RemoveAll(dir) }()
		program = filepath.Join(dir, "provider")
		build := exec.Command("go", "build", "-trimpath", "-o", program, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			panic(fmt.Sprintf("%v: %s", err, out))
		}
		return m.Run()
	}())
}

// testEnv runs real provider processes of several parties against one in-memory transport. It includes a
// scheduler that receives callbacks. Roles are written as "guest" for number 0, and as "host.1" for others.
type testEnv struct {
	t         *testing.T
	transport *transporttest.Transport
	nodes     map[string]string // by role
	storage   map[string]string // address, by role
	callback  string
	mu        sync.Mutex
	callbacks []map[string]string
}

// newTestEnv returns an environment with one storage folder per node.
func newTestEnv(t *testing.T, nodes map[string]string) *testEnv {
	b := &testEnv{t: t, transport: transporttest.New(t), nodes: nodes, storage: map[string]string{}}
	folders := map[string]string{}
	for role, node := range nodes {
		if folders[node] == "" {
			folders[node] = "file://" + t.TempDir()
		}
		b.storage[role] = folders[node]
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPost {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		var c map[string]string
		assert.NoError(t, json.NewDecoder(r.Body).Decode(&c))
		b.mu.Lock()
		b.callbacks = append(b.callbacks, c)
		b.mu.Unlock()
		_, _ = w.Write([]byte(`{"code":0,"msg":"success"}`))
	}))
	t.Cleanup(s.Close)
	b.callback = s.URL + "/v1/platform/schedule/task/callback"
	return b
}

func pair(guestNode, hostNode string) map[string]string {
	return map[string]string{"guest": guestNode, "host": hostNode}
}

func numberedRole(role string) string {
	if strings.Contains(role, ".") {
		return role
	}
	return role + ".0"
}

func (b *testEnv) takeCallbacks() []map[string]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.callbacks
	b.callbacks = nil
	return c
}

// upload writes a file of testdata to a party's storage, split into partitions.
func (b *testEnv) upload(role, file string, partitions int) {
	data, err := os.ReadFile(filepath.Join("..", "..", "testdata", "breast", file))
	require.NoError(b.t, err)
	b.uploadRows(role, strings.Split(strings.TrimSpace(string(data)), "\n"), partitions)
}

func (b *testEnv) uploadRows(role string, lines []string, partitions int) {
	store := b.openStore(role)
	put := func(name, content string) {
		require.NoError(b.t, store.Write(b.t.Context(), "testspace/test_"+role+"/"+name, []byte(content)))
	}
	rows := lines[1:]
	for p := range partitions {
		part := append([]string{lines[0]}, rows[len(rows)*p/partitions:len(rows)*(p+1)/partitions]...)
		put("data_"+strconv.Itoa(p), strings.Join(part, "\n")+"\n")
	}
	put(
		"metadata",
		fmt.Sprintf(
			`{"column_info":[],"partitions":%d,"count":%d,"file_type":"csv","create_time":1.5}`, partitions,
			len(rows),
		),
	)
}

func (b *testEnv) openStore(role string) component.Store {
	store, err := component.OpenStore(b.storage[role])
	require.NoError(b.t, err)
	return store
}

func addressJSON(name, namespace string) string {
	return fmt.Sprintf(`{"name": %q, "namespace": %q}`, name, namespace)
}

func (b *testEnv) output(role, task, output string) (name, namespace string) {
	return task, role + "-" + b.nodes[role] + "-" + output
}

// read returns the content of a task's output.
func (b *testEnv) read(role, task, output string) []byte {
	name, namespace := b.output(role, task, output)
	data, err := b.openStore(role).Read(b.t.Context(), namespace+"/"+name+"/data_0")
	require.NoError(b.t, err)
	return data
}

func (b *testEnv) readCSV(role, task, output string) [][]string {
	rows, err := csv.NewReader(bytes.NewReader(b.read(role, task, output))).ReadAll()
	require.NoError(b.t, err)
	return rows
}

func (b *testEnv) readJSON(role, task, output string, v any) {
	require.NoError(b.t, json.Unmarshal(b.read(role, task, output), v))
}

// environ returns the environment that a scheduler sets for one container.
func (b *testEnv) environ(
	role, task, component string, parameters, inputs map[string]string, outputs []string,
) []string {
	env := map[string]string{
		"system.storage":         b.storage[role],
		"system.transport":       b.transport.Address(),
		"system.callback":        b.callback,
		"config.self_role":       numberedRole(role),
		"config.task_id":         task,
		"config.session_id":      "session_202611220000000000001",
		"config.trace_id":        "trace-1",
		"config.token":           "session_202611220000000000001",
		"config.log.path":        "/var/log",
		"runtime.component.name": component,
	}

	for role, node := range b.nodes {
		env["config.node_id."+numberedRole(role)] = node
		env["config.inst_id."+numberedRole(role)] = node
	}
	for name, value := range parameters {
		env["runtime.component.parameter."+name] = value
	}
	for name, value := range inputs {
		env["runtime.component.input."+name] = value
	}
	for _, output := range outputs {
		name, namespace := b.output(role, task, output)
		env["runtime.component.output."+output] = addressJSON(name, namespace)
	}
	var list []string
	for key, value := range env {
		list = append(list, key+"="+value)
	}
	return list
}

type process struct {
	*exec.Cmd
	logs bytes.Buffer
	done chan struct{}
	code int
}

func (b *testEnv) start(env []string) *process {
	p := &process{Cmd: exec.Command(program), done: make(chan struct{})}
	p.Env, p.Stdout, p.Stderr = env, &p.logs, &p.logs
	require.NoError(b.t, p.Start())
	go func() {
		defer close(p.done)
		_ = p.Wait()
		p.code = p.ProcessState.ExitCode()
	}()
	b.t.Cleanup(func() {
		_ = p.Process.Kill()
		<-p.done
	})
	return p
}

func (p *process) wait(t *testing.T, limit time.Duration) int {
	select {
	case <-p.done:
		return p.code
	case <-time.After(limit):
		require.Fail(t, "the process did not end in time")
		return -1
	}
}

var intersectionParameters = map[string]string{
	"id": "id", "intersect_method": "rsa", "only_output_key": "False", "sync_intersect_ids": "True",
	"rsa_params": `{"hash_method": "sha256", "final_hash_method": "sha256", "key_length": 2048}`,
}

var boostParameters = map[string]string{
	"cv_param":              `{"n_splits": 5, "shuffle": false, "random_seed": 103, "need_cv": false}`,
	"early_stopping_rounds": "", "id": "id", "label": "y", "learning_rate": "0.5",
	"metrics": `["auc", "ks"]`, "n_iter_no_change": "True", "num_trees": "2",
	"objective_param": `{"objective": "cross_entropy"}`, "predict_param": `{"threshold": 0.5}`,
	"subsample_feature_rate": "1", "tol": "0.0001", "tree_param": `{"max_depth": 5}`,
}

// startAll starts a component in several roles with the same parameters and outputs.
func (b *testEnv) startAll(roles []string, task, component string, parameters map[string]string,
	input func(role string) (name, namespace string), outputs []string) map[string]*process {
	started := map[string]*process{}
	for _, role := range roles {
		inputs := map[string]string{}
		if input != nil {
			inputs["train_data"] = addressJSON(input(role))
		}
		started[role] = b.start(b.environ(role, task, component, parameters, inputs, outputs))
	}
	return started
}

func uploadedAddress(role string) (name, namespace string) { return "test_" + role, "testspace" }

func (b *testEnv) intersection(task string) map[string]*process {
	var roles []string
	for role := range b.nodes {
		if role != "arbiter" {
			roles = append(roles, role)
		}
	}
	return b.startAll(roles, task, "Intersection", intersectionParameters, uploadedAddress,
		[]string{"train_data", "train-intersection"})
}

// trainingOutputs lists the outputs of the training components.
var trainingOutputs = []string{"train_data", "model", "train-loss", "train-auc", "train-ks"}

// train starts a training component on the output of an earlier task.
func (b *testEnv) train(
	task, component string, parameters map[string]string, from string,
) map[string]*process {
	roles := slices.Collect(maps.Keys(b.nodes))
	return b.startAll(roles, task, component, parameters, func(role string) (string, string) {
		return b.output(role, from, "train_data") // the arbiter has no data there
	}, trainingOutputs)
}

func (b *testEnv) succeed(started map[string]*process) {
	b.t.Helper()
	began := time.Now()
	var want []string
	for role, p := range started {
		want = append(want, numberedRole(role))
		if !assert.Zero(b.t, p.wait(b.t, 3*time.Minute), role) {
			b.t.Log(p.logs.String())
		}
	}
	b.t.Logf("all ended after %s", time.Since(began).Round(time.Millisecond))
	var roles []string
	for _, c := range b.takeCallbacks() {
		assert.Equal(b.t, "SUCCESS", c["status"])
		roles = append(roles, c["role"])
	}
	slices.Sort(roles)
	slices.Sort(want)
	assert.Equal(b.t, want, roles)
}

func column(rows [][]string, c int) []string {
	var out []string
	for _, row := range rows[1:] {
		out = append(out, row[c])
	}
	return out
}
