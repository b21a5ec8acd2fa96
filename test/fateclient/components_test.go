package fateclient

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/test/testenv"
)

// TestFATEPipeline trains FATE's own components with FATE's pipeline in a DAG of kind fate, deploys them,
// predicts with the deployed model, and runs a cross validation.
func TestFATEPipeline(t *testing.T) {
	dir := os.Getenv("HUTONG_FATE")
	if dir == "" {
		t.Skip("HUTONG_FATE is not set; make fate installs FATE and sets it")
	}
	program := filepath.Join(dir, "bin", "hutong-fate")
	e := newEnvironment(t, program)
	registration, err := exec.CommandContext(t.Context(), program, "register", "--command", program).Output()
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(e.path("fate.json"), registration, 0o600))
	for _, address := range []string{e.guest, e.host} {
		e.hutong("provider", "register", "--file", e.path("fate.json"), "--url", "http://"+address)
	}
	e.hutong("data", "upload", "--file", e.data("guest.csv"), "--namespace", "demo", "--name", "breast_guest",
		"--id", "id", "--label", "y", "--url", "http://"+e.guest)
	ip, port, _ := strings.Cut(e.guest, ":")
	e.flow("init", "--ip", ip, "--port", port)

	script := filepath.Join(testenv.Root(t), "test", "fateclient", "testdata", "fate_components.py")
	const started = "Job id is "
	out, err := e.try("python", script, guestNode, hostNode, "demo", "breast_guest", "breast_host")
	if err != nil { // the pipeline shows no reason
		job, _, _ := strings.Cut(out[max(0, strings.LastIndex(out, started))+len(started):], "\n")
		for _, address := range []string{e.guest, e.host} {
			logs, _ := exec.CommandContext(t.Context(), testenv.Binary(t, "hutong"), "job", "logs", "--url",
				"http://"+address, strings.TrimSpace(job)).CombinedOutput()
			t.Logf("logs at %s:\n%s", address, logs)
		}
	}
	require.NoError(t, err, out)
	require.Equal(t, 3, strings.Count(out, "Job is success"), "training, prediction, validation: %s", out)
	_, text, found := strings.Cut(out, "results: ")
	require.True(t, found, out)
	type results struct {
		Joined, Predictions map[string]int
		Model, Metrics      []string
	}
	var all struct {
		Train, Predict, CV results
		Columns            []string
		Evaluated          int
	}
	require.NoError(t, json.Unmarshal([]byte(text), &all), out)
	joined := map[string]int{"output_data": 509}
	require.Equal(t, results{Joined: joined, Predictions: map[string]int{"train_output_data": 509},
		Model: []string{"output_model"}, Metrics: []string{"sbt_loss"}}, all.Train)
	require.Positive(t, all.Evaluated)
	require.Equal(t, results{Joined: joined, Predictions: map[string]int{"test_output_data": 509}},
		all.Predict)
	require.Equal(t, results{Joined: joined, Predictions: map[string]int{"cv_output_datas": 2 * 509}}, all.CV)
	require.Subset(t, all.Columns, []string{"predict_result", "predict_score"})
}
