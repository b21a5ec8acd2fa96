package fateclient

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"hutong/test/testenv"
)

// TestPipeline uploads a file and trains twice with FATE's pipeline: trees, and a regression with an arbiter.
func TestPipeline(t *testing.T) {
	e := newEnvironment(t)
	ip, port, _ := strings.Cut(e.guest, ":")
	e.flow("init", "--ip", ip, "--port", port)
	require.Zero(t, *e.flow("provider", "register", "-c", e.path("provider.json")).Code)

	script := filepath.Join(testenv.Root(t), "test", "fateclient", "testdata", "pipeline.py")
	out := e.run("python", script, e.path("provider.json"), guestNode, hostNode, e.data("guest.csv"))
	require.Equal(t, 3, strings.Count(out, "Job is success"), "the upload, and two trainings: %s", out)
	_, text, found := strings.Cut(out, "results: ")
	require.True(t, found, out)
	var results map[string]struct {
		Joined, Predictions int
		Model               bool
		Metrics             []string
	}
	require.NoError(t, json.Unmarshal([]byte(text), &results), out)
	for name, want := range map[string][]string{"boost": {"train-auc", "train-ks", "train-loss"},
		"lr": {"train-auc", "train-ks", "train-loss"}} {
		r := results[name]
		require.Greater(t, r.Joined, 100, "%s: %s", name, out)
		require.Equal(t, r.Joined, r.Predictions, "%s: %s", name, out)
		require.True(t, r.Model, "%s: %s", name, out)
		require.Equal(t, want, r.Metrics, "%s: %s", name, out)
	}
}
