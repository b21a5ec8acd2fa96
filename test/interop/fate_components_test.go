package interop

import (
	"encoding/csv"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/test/testenv"
)

// fateJobTimeout is enough for a job of FATE's components, which start Python for each task.
const fateJobTimeout = 15 * time.Minute

// registerFATE registers FATE's components, from the image that make fate-interop has built, at both parties.
// Without that image the test is skipped.
func (env *environment) registerFATE(t *testing.T) {
	t.Helper()
	image := fateImage(t)
	made, err := env.docker.ContainerCreate(t.Context(), &container.Config{Image: image,
		Cmd: []string{"register", "--image", image}}, nil, nil, nil, "")
	require.NoError(t, err)
	defer func() {
		_ = env.docker.ContainerRemove(t.Context(), made.ID, container.RemoveOptions{Force: true})
	}()
	require.NoError(t, env.docker.ContainerStart(t.Context(), made.ID, container.StartOptions{}))
	ended, failed := env.docker.ContainerWait(t.Context(), made.ID, container.WaitConditionNotRunning)
	select {
	case err := <-failed:
		require.NoError(t, err)
	case <-ended:
	}
	logs, err := env.docker.ContainerLogs(t.Context(), made.ID, container.LogsOptions{ShowStdout: true})
	require.NoError(t, err)
	defer func() { _ = logs.Close() }()
	var registration strings.Builder
	_, err = stdcopy.StdCopy(&registration, os.Stderr, logs)
	require.NoError(t, err)
	for _, e := range []endpoint{env.hutong.endpoint, env.fateFlow.endpoint} {
		e.mustRequest(t, http.MethodPost, bfia.PathProviderRegister, []byte(registration.String()), nil)
	}
}

func fateImage(t *testing.T) string {
	t.Helper()
	image := os.Getenv("HUTONG_FATE_IMAGE")
	if image == "" {
		t.Skip("run 'make fate-interop', which builds an image of FATE's components and sets HUTONG_FATE_IMAGE")
	}
	return image
}

// fateJob is a PSI of FATE, a training, and a prediction with its model.
func fateJob(t *testing.T, d direction) []byte {
	port := func(kind, key string) map[string]string { return map[string]string{"type": kind, "key": key} }
	ports := func(list ...map[string]string) []map[string]string {
		return append([]map[string]string{}, list...)
	}
	task := func(name, component string, in, out []map[string]string) map[string]any {
		return map[string]any{"name": name, "componentName": component, "provider": "fate",
			"version": "2.2.0", "input": in, "output": out}
	}
	roots := map[string]any{"common": map[string]any{"psi": map[string]any{},
		"sbt": map[string]any{"num_trees": "2", "max_depth": "3"}, "predict": map[string]any{}}}
	for _, role := range []string{"guest", "host"} {
		data := map[string]any{"dataset_id": "interop#" + role}
		roots[role] = map[string]any{"0": map[string]any{"psi": data}}
	}
	return marshal(t, map[string]any{
		"flow_id": "interop",
		"dag": map[string]any{"version": "2.0", "components": []any{
			task("psi", "psi", ports(), ports(port("dataset", "d"))),
			task("sbt", "hetero_secureboost", ports(port("dataset", "psi.d")),
				ports(port("dataset", "d"), port("model", "m"), port("report", "r"))),
			task("predict", "hetero_secureboost_predict", ports(port("dataset", "psi.d"),
				port("model", "sbt.m")), ports(port("dataset", "d")))}},
		"config": map[string]any{"version": "2.0.0",
			"initiator":   map[string]string{"role": "guest", "node_id": d.guest},
			"role":        map[string]any{"guest": []string{d.guest}, "host": []string{d.host}},
			"job_params":  map[string]any{"common": map[string]any{"sync_type": "poll"}},
			"task_params": roots},
	})
}

// TestFATEComponents runs FATE's own algorithms in jobs of Hutong and a FATE-Flow, each in containers of its
// own, in both directions. Training and prediction agree, and separate the classes.
func TestFATEComponents(t *testing.T) {
	fateImage(t)
	env := sharedEnvironment(t)
	env.registerFATE(t)
	for _, d := range directions {
		t.Run(d.name, func(t *testing.T) {
			began := time.Now()
			id := d.at(env, "guest").submit(t, fateJob(t, d))
			env.awaitEnd(t, d, id)
			t.Logf("the job took %.1f s", time.Since(began).Seconds())
			env.requireSuccess(t, id, "psi", "sbt", "predict")
			env.requireNoContainers(t, id)
			trained, predicted := env.fateRows(t, d, id, "sbt", "train_output_data"),
				env.fateRows(t, d, id, "predict", "test_output_data")
			const score = "predict_score"
			require.Equal(t, readColumn(t, trained, score), readColumn(t, predicted, score))
			require.Len(t, readColumn(t, predicted, "id"), 509)
			require.Greater(t, shareRight(t, predicted), 0.9)
		})
	}
}

// awaitEnd waits until a job has ended at its scheduler.
func (env *environment) awaitEnd(t *testing.T, d direction, id string) {
	t.Helper()
	require.Eventually(t, func() bool {
		if d == fateFlowSchedules {
			return env.fateFlow.scheduledState(t, id) == bfia.JobFinished
		}
		return env.hutong.status(t, id).State == bfia.JobFinished
	}, fateJobTimeout, pollInterval, "job %s has not ended", id)
}

// fateRows returns an output of the guest, whose key in the job is d.
func (env *environment) fateRows(t *testing.T, d direction, id, task, port string) []byte {
	t.Helper()
	if d.guest == hutongNode {
		a, found := env.hutong.outputs(t, id)["guest.0 "+task+" "+port]
		require.True(t, found, port)
		return readOutput(t, openStorage(t, env.hutong.storage), a.Namespace, a.Name)
	}
	a, found := env.fateFlow.outputs(t, id)["guest "+task+" dataset d"]
	require.True(t, found, task)
	return readOutput(t, openStorage(t, env.fateFlow.storage), a.Namespace, a.Name)
}

// shareRight returns the share of the rows that are predicted as they are.
func shareRight(t *testing.T, data []byte) float64 {
	t.Helper()
	rows, err := csv.NewReader(strings.NewReader(string(data))).ReadAll()
	require.NoError(t, err)
	label, result := readColumn(t, data, "label"), readColumn(t, data, "predict_result")
	right := 0
	for i := range label {
		a, err := strconv.ParseFloat(label[i], 64)
		require.NoError(t, err)
		b, err := strconv.ParseFloat(result[i], 64)
		require.NoError(t, err)
		if a == b {
			right++
		}
	}
	return float64(right) / float64(len(rows)-1)
}

// TestFATEPipelineWithFATEFlow has FATE's pipeline, with Hutong as its server, run FATE's PSI and SecureBoost
// together with a FATE-Flow, predict with the deployed model, and flow ask about the job.
func TestFATEPipelineWithFATEFlow(t *testing.T) {
	fateImage(t)
	client := os.Getenv("HUTONG_FATE_CLIENT")
	if client == "" {
		t.Skip("run 'make fate-interop', which installs FATE's client and sets HUTONG_FATE_CLIENT")
	}
	env := sharedEnvironment(t)
	env.registerFATE(t)
	run := func(program string, args ...string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(client, "bin", program), args...)
		cmd.Dir = t.TempDir()
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		return string(out)
	}
	ip, port, _ := strings.Cut(env.hutong.api, ":")
	run("flow", "init", "--ip", ip, "--port", port)
	script := filepath.Join(testenv.Root(t), "test", "fateclient", "testdata", "fate_components.py")
	out := run("python", script, hutongNode, fateFlowNode, "interop", "guest", "host", "partner")
	_, text, found := strings.Cut(out, "results: ")
	require.True(t, found, out)
	var results struct {
		Job, Prediction            string
		Joined, Trained, Predicted map[string]int
	}
	require.NoError(t, json.Unmarshal([]byte(text), &results), out)
	require.Equal(t, map[string]int{"output_data": 509}, results.Joined)
	require.Equal(t, map[string]int{"train_output_data": 509}, results.Trained)
	require.Equal(t, map[string]int{"test_output_data": 509}, results.Predicted)
	tasks := run("flow", "task", "query", "-j", results.Job, "-r", "guest", "-p", hutongNode)
	require.Equal(t, 2, strings.Count(tasks, `"status": "success"`), tasks)
	env.requireSuccess(t, results.Job, "psi_0", "sbt_0")
	env.requireSuccess(t, results.Prediction, "psi_0", "sbt_0")
}
