package system

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/party"
	"hutong/test/testenv"
)

// fateEnvironment returns the virtual environment in which make fate has installed FATE. Without it the test
// is skipped.
func fateEnvironment(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("HUTONG_FATE")
	if dir == "" {
		t.Skip("run 'make fate', which installs FATE and sets HUTONG_FATE")
	}
	return dir
}

// fateVersion is the version of FATE that the tests register.
const fateVersion = "2.2.0"

// startFATEPair starts a guest and a host with FATE's and the reference provider's components as processes,
// and the demo's data.
func startFATEPair(t *testing.T) *partyPair {
	t.Helper()
	program := filepath.Join(fateEnvironment(t), "bin", "hutong-fate")
	pair := newPartyPair(t, func(cfg *party.Config) {
		cfg.Runner.Process.Allow = append(cfg.Runner.Process.Allow, program)
	})
	registration, err := exec.CommandContext(t.Context(), program, "register", "--command", program).Output()
	require.NoError(t, err)
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.start()
		env, _ := n.request(http.MethodPost, bfia.PathProviderRegister, registration)
		require.True(t, env.OK(), env.Text())
		n.register(readVector(t, "provider_register.request.json"), bfia.DeviceProcess)
	}
	pair.guest.upload("guest.csv", "demo", "breast_guest")
	pair.host.upload("host.csv", "demo", "breast_host")
	return pair
}

// fateTask is a task of a job of the tests.
type fateTask struct {
	name, component string
	provider        string         // FATE's if empty
	inputs, outputs []string       // kind:key
	parameters      map[string]any // of all roles
	guest, host     map[string]any // parameters of one role
	root            bool           // reads the demo's data
}

// fateJobOf returns the document of a job.
func fateJobOf(t *testing.T, arbiter bool, tasks ...fateTask) []byte {
	t.Helper()
	ports := func(list []string) []any {
		out := []any{}
		for _, p := range list {
			kind, key, _ := strings.Cut(p, ":")
			out = append(out, map[string]string{"type": kind, "key": key})
		}
		return out
	}
	var components []any
	common, guest, host := map[string]any{}, map[string]any{}, map[string]any{}
	for _, task := range tasks {
		provider, version := "fate", fateVersion
		if task.provider != "" {
			provider, version, _ = strings.Cut(task.provider, ":")
		}
		components = append(components, map[string]any{"name": task.name, "componentName": task.component,
			"provider": provider, "version": version, "input": ports(task.inputs),
			"output": ports(task.outputs)})
		if task.parameters != nil {
			common[task.name] = task.parameters
		}
		if task.root {
			task.guest = map[string]any{"dataset_id": "demo#breast_guest"}
			task.host = map[string]any{"dataset_id": "demo#breast_host"}
		}
		if task.guest != nil {
			guest[task.name], host[task.name] = task.guest, task.host
		}
	}
	roles := map[string]any{"guest": []string{guestNode}, "host": []string{hostNode}}
	if arbiter {
		roles["arbiter"] = []string{hostNode}
	}
	body, err := json.Marshal(map[string]any{
		"dag": map[string]any{"components": components, "version": "2.0"},
		"config": map[string]any{"initiator": map[string]string{"role": "guest", "node_id": guestNode},
			"role": roles, "version": "2.0.0", "task_params": map[string]any{"common": common,
				"guest": map[string]any{"0": guest}, "host": map[string]any{"0": host}}}})
	require.NoError(t, err)
	return body
}

// The tasks of the tests, with the parameters that FATE's own run gets as well.
var (
	fatePSI = fateTask{name: "psi", component: "psi", outputs: []string{"dataset:d", "report:m"}, root: true}
	fateSBT = fateTask{name: "sbt", component: "hetero_secureboost", inputs: []string{"dataset:psi.d"},
		outputs:    []string{"dataset:d", "model:model", "report:m"},
		parameters: map[string]any{"num_trees": 2, "max_depth": 3}}
	fateLR = fateTask{name: "lr", component: "coordinated_lr", inputs: []string{"dataset:psi.d"},
		outputs: []string{"dataset:d", "model:model", "report:m"},
		parameters: map[string]any{"epochs": 3, "batch_size": nil, "init_param": map[string]any{
			"fit_intercept": true}}}
	fateSSHE = fateTask{name: "sshe", component: "sshe_lr", inputs: []string{"dataset:psi.d"},
		outputs:    []string{"dataset:d", "model:model", "report:m"},
		parameters: map[string]any{"epochs": 3, "init_param": map[string]any{"fit_intercept": true}}}
)

// TestFATEComponents runs FATE's PSI, SecureBoost with a prediction, and logistic regressions between two
// parties, and compares each model with that of FATE's own federation on the same rows.
func TestFATEComponents(t *testing.T) {
	pair := startFATEPair(t)
	tasks := []fateTask{fatePSI, fateSBT, fateLR,
		{name: "predict", component: "hetero_secureboost_predict",
			inputs: []string{"dataset:psi.d", "model:sbt.model"}, outputs: []string{"dataset:d"}},
		{name: "evaluation", component: "evaluation", inputs: []string{"dataset:sbt.d"},
			outputs: []string{"report:m"}}}
	models := []fateTask{fateSBT, fateLR}
	if os.Getenv("HUTONG_FATE_SHORT") == "" {
		tasks, models = append(tasks, fateSSHE), append(models, fateSSHE)
	}
	begun := time.Now()
	jobID := pair.guest.submit(fateJobOf(t, true, tasks...))
	pair.requireFATESuccess(jobID, 5*time.Minute)
	t.Logf("the job of %d tasks took %.1f s", len(tasks), time.Since(begun).Seconds())
	g, h := pair.guest.outputs(jobID), pair.host.outputs(jobID)
	guest := pair.guest.download(g["psi guest.0 output_data"])
	host := pair.host.download(h["psi host.0 output_data"])
	ids := readIDs(t, guest)
	require.Len(t, ids, 509)
	require.ElementsMatch(t, ids, readIDs(t, host))

	trained, predicted := pair.guest.download(g["sbt guest.0 train_output_data"]),
		pair.guest.download(g["predict guest.0 test_output_data"])
	require.InDelta(t, aucOf(t, trained), aucOf(t, predicted), 1e-6)
	require.Contains(t, pair.guest.download(g["evaluation guest.0 metric"]), "auc")
	for _, task := range models {
		name := task.name + " guest.0 train_output_data"
		here, own := aucOf(t, pair.guest.download(g[name])), standaloneAUC(t, task, guest, host)
		t.Logf("%s: AUC %.6f here, %.6f on FATE's own federation", task.component, here, own)
		require.InDelta(t, own, here, 0.002, task.component)
	}
	for _, n := range []*testParty{pair.guest, pair.host} {
		for _, task := range tasks {
			n.awaitLog(jobID, task.name, "component "+task.component)
			log := n.log(jobID, task.name)
			for _, id := range ids {
				require.NotContains(t, log, id, "the log of %s", task.name)
			}
		}
	}
	pair.guest.awaitLog(jobID, "sbt", "metric: ")
}

// TestFATEFurther runs FATE's components that prepare data, and a cross validation, each once.
func TestFATEFurther(t *testing.T) {
	if os.Getenv("HUTONG_FATE_SHORT") != "" {
		t.Skip("run 'make fate' without SHORT=1")
	}
	pair := startFATEPair(t)
	data, model := []string{"dataset:d"}, []string{"dataset:d", "model:m"}
	from := func(keys ...string) []string { return keys }
	standard := map[string]any{"method": "standard"}
	tasks := []fateTask{fatePSI,
		{name: "scale", component: "feature_scale", inputs: from("dataset:psi.d"), outputs: model,
			parameters: standard},
		{name: "scaled", component: "feature_scale_predict", inputs: from("dataset:psi.d", "model:scale.m"),
			outputs: data},
		{name: "bin", component: "hetero_feature_binning", inputs: from("dataset:scale.d"), outputs: model,
			parameters: map[string]any{"method": "quantile", "transform_method": "bin_idx"}},
		{name: "binned", component: "hetero_feature_binning_predict",
			inputs: from("dataset:scale.d", "model:bin.m"), outputs: data,
			parameters: map[string]any{"transform_method": "bin_idx"}},
		{name: "statistics", component: "statistics", inputs: from("dataset:scale.d"),
			outputs: []string{"model:m"}},
		{name: "select", component: "hetero_feature_selection",
			inputs: from("dataset:scale.d", "model:statistics.m"), outputs: model,
			parameters: map[string]any{"method": []string{"statistics"}, "statistic_param": map[string]any{
				"metrics": []string{"mean"}, "filter_type": "top_k", "threshold": 3}}},
		{name: "selected", component: "hetero_feature_selection_predict",
			inputs: from("dataset:scale.d", "model:select.m"), outputs: data},
		{name: "correlation", component: "feature_correlation", inputs: from("dataset:scale.d"),
			outputs: []string{"model:m"}},
		{name: "split", component: "data_split", inputs: from("dataset:psi.d"),
			outputs:    []string{"dataset:train", "dataset:validate", "dataset:test"},
			parameters: map[string]any{"train_size": 0.6, "validate_size": 0.2, "test_size": 0.2}},
		{name: "union", component: "union", inputs: from("dataset:split.train", "dataset:split.test"),
			outputs: data},
		{name: "folds", component: "hetero_secureboost_cv", inputs: from("dataset:psi.d"), outputs: data,
			parameters: map[string]any{"num_trees": 1, "max_depth": 2,
				"cv_param": map[string]any{"n_splits": 2}}},
	}
	jobID := pair.guest.submit(fateJobOf(t, false, tasks...))
	pair.requireFATESuccess(jobID, 10*time.Minute)
	g := pair.guest.outputs(jobID)
	for name, n := range map[string]*testParty{"guest.0": pair.guest, "host.0": pair.host} {
		outputs := n.outputs(jobID)
		for _, pair := range [][2]string{{"scale", "scaled"}, {"bin", "binned"}, {"select", "selected"}} {
			require.Equal(t, n.download(outputs[pair[0]+" "+name+" train_output_data"]),
				n.download(outputs[pair[1]+" "+name+" test_output_data"]), "%s at %s", pair[1], name)
		}
	}
	require.Len(t, readIDs(t, pair.guest.download(g["scaled guest.0 test_output_data"])), 509)
	train := readIDs(t, pair.guest.download(g["split guest.0 train_output_data"]))
	test := readIDs(t, pair.guest.download(g["split guest.0 test_output_data"]))
	require.ElementsMatch(t, slices.Concat(train, test),
		readIDs(t, pair.guest.download(g["union guest.0 output_data"])))
	require.Len(t, readIDs(t, pair.guest.download(g["folds guest.0 cv_output_datas"])), 2*509)
}

// requireFATESuccess waits for a job's success at both parties, or fails with the logs of its tasks.
func (p *partyPair) requireFATESuccess(jobID string, within time.Duration) {
	p.t.Helper()
	status := p.guest.awaitJob(jobID, within, isFinished)
	for _, task := range status.Tasks {
		if task.State == bfia.TaskFailed {
			p.t.Logf("guest's log of %s:\n%s", task.Name, p.guest.log(jobID, task.Name))
			p.t.Logf("host's log of %s:\n%s", task.Name, p.host.log(jobID, task.Name))
		}
	}
	requireSuccess(p.t, status)
	requireSuccess(p.t, p.host.awaitJob(jobID, time.Minute, isFinished))
}

// TestFATEMixed runs FATE's PSI before the reference provider's SecureBoost, and the reverse.
func TestFATEMixed(t *testing.T) {
	pair := startFATEPair(t)
	reference := readProvider(t)
	jobID := pair.guest.submit(fateJobOf(t, false, fatePSI,
		fateTask{name: "boost", component: "HeteroSecureBoost", provider: reference,
			inputs: []string{"dataset:psi.d"}, outputs: []string{"dataset:d", "model:model"},
			parameters: map[string]any{"id": "id", "label": "y", "num_trees": 2}}))
	other := pair.guest.submit(fateJobOf(t, false,
		fateTask{name: "psi", component: "Intersection", provider: reference, outputs: []string{"dataset:d"},
			parameters: map[string]any{"id": "id"}, root: true}, fateSBT))
	pair.requireFATESuccess(jobID, 3*time.Minute)
	pair.requireFATESuccess(other, 3*time.Minute)
	boosted := pair.guest.outputs(jobID)["boost guest.0 train_data"]
	require.Greater(t, aucOf(t, pair.guest.download(boosted)), 0.98)
	boosted = pair.guest.outputs(other)["sbt guest.0 train_output_data"]
	require.Greater(t, aucOf(t, pair.guest.download(boosted)), 0.98)
}

// TestFATEFails checks that a parameter which FATE refuses fails the task with FATE's message, and that a
// process of FATE which is killed leads to another attempt.
func TestFATEFails(t *testing.T) {
	pair := startFATEPair(t)
	wrong := fatePSI
	wrong.parameters = map[string]any{"protocol": "none"}
	jobID := pair.guest.submit(fateJobOf(t, false, wrong))
	status := pair.guest.awaitJob(jobID, time.Minute, isFinished)
	require.Equal(t, bfia.TaskFailed, status.Tasks[0].State)
	pair.awaitLog(jobID, "psi", "failed: ")

	bad := fateSBT
	bad.inputs, bad.root, bad.parameters = nil, true, map[string]any{"num_trees": 0}
	jobID = pair.guest.submit(fateJobOf(t, false, bad))
	status = pair.guest.awaitJob(jobID, time.Minute, isFinished)
	require.Equal(t, bfia.TaskFailed, status.Tasks[0].State)
	pair.awaitLog(jobID, "sbt", "parameter num_trees: ensure this value is greater than 0")

	jobID = pair.guest.submit(fateJobOf(t, false, fatePSI))
	taskID := pair.guest.awaitJob(jobID, time.Minute, isTaskRunning("psi")).Tasks[0].TaskID
	pid := pair.guest.pid(taskID)
	worker := awaitDescendant(t, pid, "hutong_fate.worker")
	require.NoError(t, syscall.Kill(worker, syscall.SIGKILL))
	status = pair.guest.awaitJob(jobID, 2*time.Minute, isFinished)
	requireSuccess(t, status)
	require.Equal(t, 2, status.Tasks[0].Attempt)
	require.Len(t, readIDs(t, pair.guest.download(pair.guest.outputs(jobID)["psi guest.0 output_data"])), 509)
}

// awaitLog waits until the log of a task has a text. It may be stored after the callback.
func (n *testParty) awaitLog(jobID, task, want string) { awaitLogOf(n.t, jobID, task, want, n) }

// awaitLog does the same for the log of either party: that of the one that fails first. The other part is
// stopped then.
func (p *partyPair) awaitLog(jobID, task, want string) {
	awaitLogOf(p.t, jobID, task, want, p.guest, p.host)
}

func awaitLogOf(t *testing.T, jobID, task, want string, parties ...*testParty) {
	t.Helper()
	require.Eventually(t, func() bool {
		return slices.ContainsFunc(parties,
			func(n *testParty) bool { return strings.Contains(n.log(jobID, task), want) })
	}, time.Minute, 100*time.Millisecond, "the log of %s lacks %q", task, want)
}

// awaitDescendant waits until a process below another one has an argument, and returns its id.
func awaitDescendant(t *testing.T, pid int, argument string) (found int) {
	t.Helper()
	require.Eventually(t, func() bool {
		processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
		if err != nil {
			return false
		}
		for _, path := range processes {
			line, err := os.ReadFile(path)
			id, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
			if err == nil && bytes.Contains(line, []byte(argument)) && isBelow(id, pid) {
				found = id
				return true
			}
		}
		return false
	}, time.Minute, 20*time.Millisecond, "no process with %s below %d", argument, pid)
	return found
}

// isBelow reports whether a process descends from another one.
func isBelow(id, ancestor int) bool {
	for id > 1 {
		if id == ancestor {
			return true
		}
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(id) + "/stat")
		if err != nil {
			return false
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if id, err = strconv.Atoi(fields[1]); err != nil {
			return false
		}
	}
	return false
}

// readProvider returns the name and version of the registered reference provider.
func readProvider(t *testing.T) string {
	t.Helper()
	var r struct{ Name, Version string }
	require.NoError(t, json.Unmarshal(readVector(t, "provider_register.request.json"), &r))
	return r.Name + ":" + r.Version
}

// standaloneAUC trains a model by FATE's own federation, without Hutong. FATE's SecureBoost is not
// deterministic: the AUC of the same rows was seen to differ by 0.0013.
func standaloneAUC(t *testing.T, task fateTask, guest, host string) float64 {
	t.Helper()
	python := filepath.Join(fateEnvironment(t), "bin", "python")
	script := filepath.Join(testenv.Root(t), "providers", "fate", "tests", "standalone.py")
	dir := t.TempDir()
	parameters, err := json.Marshal(map[string]any{"common": task.parameters, "guest": task.guest,
		"host": task.host})
	require.NoError(t, err)
	for name, rows := range map[string]string{"guest.csv": guest, "host.csv": host} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(rows), 0o600))
	}
	cmd := exec.CommandContext(t.Context(), python, script, task.component, string(parameters), dir)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	rows, err := os.ReadFile(filepath.Join(dir, "scores.csv"))
	require.NoError(t, err)
	return aucOf(t, string(rows))
}

// aucOf returns the area under the curve of the scores in a dataset of predictions.
func aucOf(t *testing.T, text string) float64 {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	require.NoError(t, err)
	label, score := slices.Index(rows[0], "y"), slices.Index(rows[0], "predict_score")
	if label < 0 {
		label = slices.Index(rows[0], "label")
	}
	require.True(t, label >= 0 && score >= 0, "%v", rows[0])
	var ones, zeros []float64
	for _, row := range rows[1:] {
		v, err := strconv.ParseFloat(row[score], 64)
		require.NoError(t, err)
		if y, err := strconv.ParseFloat(row[label], 64); err == nil && y > 0 {
			ones = append(ones, v)
		} else {
			zeros = append(zeros, v)
		}
	}
	require.NotEmpty(t, ones)
	require.NotEmpty(t, zeros)
	wins := 0.0
	for _, a := range ones {
		for _, b := range zeros {
			switch {
			case a > b:
				wins++
			case a == b:
				wins += 0.5
			}
		}
	}
	return wins / float64(len(ones)*len(zeros))
}
