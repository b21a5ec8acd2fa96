package main

import (
	"bytes"
	"encoding/binary"
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
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/deploy/provider/boost"
	"hutong/deploy/provider/brokertest"
	"hutong/deploy/provider/outcome"
)

// program is the binary as it goes into the image.
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

// bench is two parties that run real provider processes against one broker, and a scheduler that takes callbacks.
type bench struct {
	t         *testing.T
	broker    *brokertest.Broker
	storage   map[string]string // by role
	nodes     map[string]string
	callback  string
	mu        sync.Mutex
	callbacks []map[string]string
}

func newBench(t *testing.T, guestNode, hostNode string) *bench {
	b := &bench{
		t: t, broker: brokertest.New(t),
		storage: map[string]string{"guest": t.TempDir(), "host": t.TempDir()},
		nodes:   map[string]string{"guest": guestNode, "host": hostNode},
	}
	if guestNode == hostNode {
		b.storage["host"] = b.storage["guest"]
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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

func (b *bench) take() []map[string]string {
	b.mu.Lock()
	defer b.mu.Unlock()
	c := b.callbacks
	b.callbacks = nil
	return c
}

// upload cuts a file of testdata into partitions at a party's storage.
func (b *bench) upload(role, file string, partitions int) {
	data, err := os.ReadFile(filepath.Join("..", "..", "testdata", "breast", file))
	require.NoError(b.t, err)
	b.uploadRows(role, strings.Split(strings.TrimSpace(string(data)), "\n"), partitions)
}

func (b *bench) uploadRows(role string, lines []string, partitions int) {
	dir := filepath.Join(b.storage[role], "testspace", "test_"+role)
	require.NoError(b.t, os.MkdirAll(dir, 0o755))
	rows := lines[1:]
	for p := range partitions {
		part := append([]string{lines[0]}, rows[len(rows)*p/partitions:len(rows)*(p+1)/partitions]...)
		require.NoError(b.t, os.WriteFile(filepath.Join(dir, "data_"+strconv.Itoa(p)), []byte(strings.Join(part, "\n")+"\n"), 0o644))
	}
	meta := fmt.Sprintf(`{"column_info":[],"partitions":%d,"count":%d,"file_type":"csv","create_time":1.5}`, partitions, len(rows))
	require.NoError(b.t, os.WriteFile(filepath.Join(dir, "metadata"), []byte(meta), 0o644))
}

func addressJSON(name, namespace string) string {
	return fmt.Sprintf(`{"name": %q, "namespace": %q}`, name, namespace)
}

func (b *bench) output(role, task, output string) (name, namespace string) {
	return task, role + "-" + b.nodes[role] + "-" + output
}

func (b *bench) outputPath(role, task, output string) string {
	name, namespace := b.output(role, task, output)
	return filepath.Join(b.storage[role], namespace, name, "data_0")
}

// environ is what a scheduler gives one container.
func (b *bench) environ(role, task, component string, parameters, inputs map[string]string, outputs []string) []string {
	env := map[string]string{
		"system.storage":         "file://" + b.storage[role],
		"system.transport":       b.broker.Address(),
		"system.callback":        b.callback,
		"config.self_role":       role + ".0",
		"config.task_id":         task,
		"config.session_id":      "session_202611220000000000001",
		"config.trace_id":        "trace-1",
		"config.token":           "session_202611220000000000001",
		"config.log.path":        "/var/log",
		"config.node_id.guest.0": b.nodes["guest"],
		"config.node_id.host.0":  b.nodes["host"],
		"config.inst_id.guest.0": b.nodes["guest"],
		"config.inst_id.host.0":  b.nodes["host"],
		"runtime.component.name": component,
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

func (b *bench) start(env []string) *process {
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

func (p *process) end(t *testing.T, limit time.Duration) int {
	select {
	case <-p.done:
		return p.code
	case <-time.After(limit):
		require.Fail(t, "a process did not end in time")
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

func (b *bench) intersection(task string) (guest, host *process) {
	start := func(role string) *process {
		return b.start(b.environ(role, task, "Intersection", intersectionParameters,
			map[string]string{"train_data": addressJSON("test_"+role, "testspace")},
			[]string{"train_data", "train-intersection"}))
	}
	return start("guest"), start("host")
}

func (b *bench) boost(task, from string) (guest, host *process) {
	start := func(role string) *process {
		return b.start(b.environ(role, task, "HeteroSecureBoost", boostParameters,
			map[string]string{"train_data": addressJSON(b.output(role, from, "train_data"))},
			[]string{"train_data", "model", "train-loss", "train-auc", "train-ks"}))
	}
	return start("guest"), start("host")
}

func (b *bench) succeed(guest, host *process) {
	b.t.Helper()
	began := time.Now()
	for _, p := range []*process{guest, host} {
		if !assert.Zero(b.t, p.end(b.t, 3*time.Minute)) {
			b.t.Log(p.logs.String())
		}
	}
	b.t.Logf("both ended after %s", time.Since(began).Round(time.Millisecond))
	var roles []string
	for _, c := range b.take() {
		assert.Equal(b.t, "SUCCESS", c["status"])
		roles = append(roles, c["role"])
	}
	slices.Sort(roles)
	assert.Equal(b.t, []string{"guest.0", "host.0"}, roles)
}

func readCSV(t *testing.T, path string) [][]string {
	f, err := os.Open(path)
	require.NoError(t, err)
	defer func() { _ = f.Close() }()
	rows, err := csv.NewReader(f).ReadAll()
	require.NoError(t, err)
	return rows
}

func readJSON(t *testing.T, path string, v any) {
	data, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(data, v))
}

func column(rows [][]string, c int) []string {
	var out []string
	for _, row := range rows[1:] {
		out = append(out, row[c])
	}
	return out
}

// The seed's job on the breast data: intersection, then boosting.
func TestSeedJob(t *testing.T) {
	for name, nodes := range map[string][2]string{
		"two nodes": {"JG0100001100000010", "JG0100001200000020"},
		"one node":  {"JG0100001100000010", "JG0100001100000010"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, nodes[0], nodes[1])
			b.upload("guest", "guest.csv", 3)
			b.upload("host", "host.csv", 1)
			b.succeed(b.intersection("task-1"))

			guest := readCSV(t, b.outputPath("guest", "task-1", "train_data"))
			host := readCSV(t, b.outputPath("host", "task-1", "train_data"))
			require.Len(t, guest, 510)
			require.Equal(t, column(guest, 0), column(host, 0), "both sides' rows lie alike")
			require.Equal(t, "id,y,x0,x1,x2,x3,x4,x5,x6,x7,x8,x9", strings.Join(guest[0], ","))
			require.Len(t, host[0], 21)
			var counts map[string]any
			readJSON(t, b.outputPath("guest", "task-1", "train-intersection"), &counts)
			require.Equal(t, 509.0, counts["intersect_count"])
			require.Equal(t, 539.0, counts["partner_count"])

			b.succeed(b.boost("task-2", "task-1"))
			b.checkBoost("task-2", guest, host)
			b.checkSecrecy(guest, host)
			require.Empty(t, b.broker.Headless())
			require.Zero(t, b.broker.Left())
		})
	}
}

func (b *bench) checkBoost(task string, guest, host [][]string) {
	t := b.t
	var auc, ks struct {
		Value     float64
		Threshold float64
		Curve     []outcome.Point
	}
	readJSON(t, b.outputPath("guest", task, "train-auc"), &auc)
	readJSON(t, b.outputPath("guest", task, "train-ks"), &ks)
	t.Logf("auc %.4f ks %.4f", auc.Value, ks.Value)
	require.GreaterOrEqual(t, auc.Value, 0.99)
	require.Less(t, auc.Value, 1.0000001)
	require.Greater(t, ks.Value, 0.9)
	require.NotEmpty(t, ks.Curve)

	predictions := readCSV(t, b.outputPath("guest", task, "train_data"))
	require.Equal(t, []string{"id", "y", "predict_score", "predict_result"}, predictions[0])
	require.Equal(t, column(guest, 0), column(predictions, 0))
	require.Equal(t, column(host, 0), column(readCSV(t, b.outputPath("host", task, "train_data")), 0))

	// The AUC by its definition: how often a row of label 1 scores above one of label 0.
	var ones, zeros []float64
	for _, row := range predictions[1:] {
		score, err := strconv.ParseFloat(row[2], 64)
		require.NoError(t, err)
		require.Equal(t, row[3] == "1", score >= 0.5)
		if row[1] == "1" {
			ones = append(ones, score)
		} else {
			zeros = append(zeros, score)
		}
	}
	won := 0.0
	for _, a := range ones {
		for _, z := range zeros {
			if a > z {
				won++
			} else if a == z {
				won += 0.5
			}
		}
	}
	require.InDelta(t, won/float64(len(ones)*len(zeros)), auc.Value, 1e-12)

	// The two parts of the model, put together, give the same scores from the raw features.
	var model boost.Model
	var hostModel boost.HostModel
	readJSON(t, b.outputPath("guest", task, "model"), &model)
	readJSON(t, b.outputPath("host", task, "model"), &hostModel)
	require.Len(t, model.Trees, 2)
	require.NotEmpty(t, hostModel.Splits, "the host's features are of use")
	for i := range predictions[1:] {
		score, err := model.Score(cells(guest, i+1), boost.HostRow{Model: hostModel, Row: cells(host, i+1)})
		require.NoError(t, err)
		require.Equal(t, predictions[i+1][2], strconv.FormatFloat(score, 'g', -1, 64))
	}
	var loss struct {
		Data []struct{ Loss float64 }
	}
	readJSON(t, b.outputPath("guest", task, "train-loss"), &loss)
	require.Len(t, loss.Data, 2)
	require.Less(t, loss.Data[1].Loss, loss.Data[0].Loss)

	for _, report := range []string{"train-loss", "train-auc", "train-ks"} {
		var marker map[string]string
		readJSON(t, b.outputPath("host", task, report), &marker)
		require.Equal(t, "host.0", marker["role"])
	}
}

func cells(rows [][]string, i int) map[string]float64 {
	out := map[string]float64{}
	for c, name := range rows[0] {
		if v, err := strconv.ParseFloat(rows[i][c], 64); err == nil {
			out[name] = v
		}
	}
	return out
}

// checkSecrecy looks for ids, feature values and column names in what crossed, and for ciphertexts that are alike.
func (b *bench) checkSecrecy(guest, host [][]string) {
	t := b.t
	var crossed []byte
	ciphertexts := map[string]bool{}
	for _, m := range b.broker.Messages() {
		crossed = append(append(crossed, m.Topic...), m.Payload...)
		require.Greater(t, len(m.Payload), 22)
		n := binary.BigEndian.Uint32(m.Payload[18:]) // no message here is longer than one chunk
		require.LessOrEqual(t, int(n), len(m.Payload)-22)
		head, body := m.Payload[22:22+n], m.Payload[22+n:]
		var fields map[string]any
		require.NoError(t, json.Unmarshal(head, &fields), "every message begins with a JSON head")
		for _, word := range []string{`"y"`, "label", `"x0"`, `"x12"`, "threshold", "leaf", "weight"} {
			require.NotContains(t, string(head), word)
		}
		if op := fields["op"]; op == "tree" {
			require.Len(t, body, 509*512)
			for ; len(body) > 0; body = body[512:] {
				require.False(t, ciphertexts[string(body[:512])], "equal gradients must not look alike")
				ciphertexts[string(body[:512])] = true
			}
		}
	}
	require.Len(t, ciphertexts, 2*509)
	require.False(t, bytes.Contains(crossed, []byte("wdbc")), "no raw id")
	for _, rows := range [][][]string{guest, host} {
		for _, row := range rows[1:] {
			for _, cell := range row {
				if len(cell) >= 8 { // every feature value is
					require.False(t, bytes.Contains(crossed, []byte(cell)), "no feature value")
				}
			}
		}
	}
}

// What fails on one side ends both at once, and both say why.
func TestPartnerFails(t *testing.T) {
	b := newBench(t, "A", "B")
	b.upload("guest", "guest.csv", 1) // the host's dataset is missing
	guest, host := b.intersection("task-1")
	require.Equal(t, 1, host.end(t, 20*time.Second))
	require.Equal(t, 1, guest.end(t, 20*time.Second))
	require.Contains(t, host.logs.String(), "its metadata")
	require.Contains(t, guest.logs.String(), "host.0 failed: an error of its own")
	require.NotContains(t, guest.logs.String(), b.storage["host"], "paths stay at home")
	for _, c := range b.take() {
		require.Equal(t, "FAILED", c["status"])
		require.Equal(t, "task-1", c["task_id"])
	}
}

func TestPartnerHasOtherParameters(t *testing.T) {
	b := newBench(t, "A", "A")
	b.upload("guest", "guest.csv", 1)
	b.upload("host", "host.csv", 1)
	input := func(role string) map[string]string {
		return map[string]string{"train_data": addressJSON("test_"+role, "testspace")}
	}
	raw := maps.Clone(intersectionParameters)
	raw["intersect_method"] = "raw"
	guest := b.start(b.environ("guest", "task-1", "Intersection", raw, input("guest"), nil))
	host := b.start(b.environ("host", "task-1", "Intersection", intersectionParameters, input("host"), nil))
	require.Equal(t, 1, guest.end(t, 20*time.Second))
	require.Equal(t, 1, host.end(t, 20*time.Second))
	require.Contains(t, host.logs.String(), `guest.0 failed: parameter intersect_method: \"raw\" is not supported; supported: rsa`)

	// Rows that do not lie alike are found before anything is computed.
	boostWith := func(role string) *process {
		return b.start(b.environ(role, "task-2", "HeteroSecureBoost", boostParameters, input(role), nil))
	}
	guest, host = boostWith("guest"), boostWith("host")
	require.Equal(t, 1, guest.end(t, 30*time.Second))
	require.Equal(t, 1, host.end(t, 30*time.Second))
	require.Contains(t, guest.logs.String(), "run Intersection first")
	require.Contains(t, host.logs.String(), "run Intersection first")
}

// A side that is stopped while the other waits for it.
func TestStop(t *testing.T) {
	b := newBench(t, "A", "B")
	b.upload("guest", "guest.csv", 1)
	b.upload("host", "host.csv", 1)
	guest := b.start(b.environ("guest", "task-1", "Intersection", intersectionParameters,
		map[string]string{"train_data": addressJSON("test_guest", "testspace")}, nil))
	require.Eventually(t, func() bool { return b.broker.Waiting() >= 2 }, 10*time.Second, 5*time.Millisecond,
		"the guest waits for the host's key and its failure")
	began := time.Now()
	require.NoError(t, guest.Process.Signal(syscall.SIGTERM))
	require.Equal(t, 143, guest.end(t, 5*time.Second))
	require.Less(t, time.Since(began), 3*time.Second)
	require.Empty(t, b.take(), "who stops a task knows that it ended")
	require.Contains(t, guest.logs.String(), "stopped by a signal")
	require.NotContains(t, guest.logs.String(), "wdbc")

	host := b.start(b.environ("host", "task-1", "Intersection", intersectionParameters,
		map[string]string{"train_data": addressJSON("test_host", "testspace")}, nil))
	require.Equal(t, 1, host.end(t, 10*time.Second))
	require.Contains(t, host.logs.String(), "guest.0 failed: it was stopped")
}

func TestAlone(t *testing.T) {
	b := newBench(t, "A", "B")
	for _, c := range []struct {
		name       string
		component  string
		parameters map[string]string
		code       int
		status     string
		log        string
	}{
		{"callback only", "CallbackOnly", nil, 0, "SUCCESS", "done"},
		{"unknown", "Magic", nil, 1, "FAILED", "this provider has CallbackOnly, HeteroSecureBoost, Intersection, Sleep"},
		{"sleep", "Sleep", map[string]string{"seconds": "0.01"}, 0, "SUCCESS", "sleeping, second 1"},
		{"sleep wrong", "Sleep", map[string]string{"seconds": "long"}, 1, "FAILED", "parameter seconds"},
		{"crash", "Sleep", map[string]string{"seconds": "0.01", "exit_code": "7"}, 7, "", "exits as it was told"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := b.start(b.environ("guest", "task-1", c.component, c.parameters, nil, nil))
			require.Equal(t, c.code, p.end(t, 10*time.Second))
			require.Contains(t, p.logs.String(), c.log)
			got := b.take()
			if c.status == "" {
				require.Empty(t, got)
				return
			}
			require.Equal(t, []map[string]string{{"task_id": "task-1", "status": c.status, "role": "guest.0"}}, got)
		})
	}
}
