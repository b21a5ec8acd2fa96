package system

import (
	"encoding/json"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/party"
	"hutong/test/testenv"
)

// TestModelOfEarlierJob uses models of processes, whose storage is a folder.
func TestModelOfEarlierJob(t *testing.T) {
	t.Parallel()
	testModelOfEarlierJob(t, bfia.DeviceProcess, func(*party.Config) {})
}

// TestModelInContainers uses models of containers, which see the folder of their model only.
func TestModelInContainers(t *testing.T) {
	dockerClient(t)
	testModelOfEarlierJob(t, bfia.DeviceDocker, func(cfg *party.Config) { onDocker(t, cfg) })
}

// TestModelOnS3 uses models that are in a bucket, of processes and of containers. The latter reach it through
// the gate.
func TestModelOnS3(t *testing.T) {
	address := os.Getenv("HUTONG_TEST_S3")
	if address == "" {
		t.Skip("HUTONG_TEST_S3 names no S3 server")
	}
	server, err := url.Parse(address)
	require.NoError(t, err)
	for _, device := range []bfia.Device{bfia.DeviceProcess, bfia.DeviceDocker} {
		t.Run(string(device), func(t *testing.T) {
			if device == bfia.DeviceDocker {
				dockerClient(t)
			}
			testModelOfEarlierJob(t, device, func(cfg *party.Config) {
				onBucket(cfg, server)
				if device == bfia.DeviceDocker {
					onDocker(t, cfg)
				}
			})
		})
	}
}

// testModelOfEarlierJob trains a model at two parties and predicts with it: the rows of the training get the
// scores of the training. The model outlives its job where it is kept, and no party that lacks its part
// accepts a job that uses it.
func testModelOfEarlierJob(t *testing.T, device bfia.Device, change func(*party.Config)) {
	pair := newPartyPair(t, func(cfg *party.Config) {
		cfg.Jobs.Retention = time.Hour
		change(cfg)
	})
	guest, host := pair.guest, pair.host
	guest.start()
	host.start()
	pair.registerReference(device)
	guest.upload("guest.csv", "demo", "breast_guest")
	host.upload("host.csv", "demo", "breast_host")
	guest.upload("guest.csv", "ward", "new")
	host.upload("host.csv", "shop", "new")
	document, err := os.ReadFile(filepath.Join(testenv.Root(t), "deploy", "demo", "job.json"))
	require.NoError(t, err)
	trained := guest.submit(document)
	requireSuccess(t, guest.awaitJob(trained, 2*time.Minute, isFinished))
	requireSuccess(t, host.awaitJob(trained, time.Minute, isFinished))

	const task = "hetero_secureboost_1"
	model := trained + ":" + task
	for n, role := range map[*testParty]string{guest: "guest.0", host: "host.0"} {
		var views []bfia.ModelView
		shown := n.mustCommand("model", "show", trained, "-o", "json")
		require.NoError(t, json.Unmarshal([]byte(shown), &views))
		require.Len(t, views, 1)
		require.Equal(t, model+".model0", views[0].Model)
		require.Equal(t, role, views[0].Role)
		require.Equal(t, "hutong:1.0.0", views[0].Provider)
		require.Len(t, views[0].Datasets, 1)
		require.Regexp(t, `^demo#breast_(guest|host)@.+`, views[0].Datasets[0])
		if device == bfia.DeviceProcess {
			require.Contains(t, views[0].Images[0], "provider", "the command")
		} else {
			require.Regexp(t, `^sha256:[0-9a-f]{64}$`, views[0].Images[0])
		}
		require.Positive(t, views[0].Bytes)
		require.NotEmpty(t, views[0].Parameters["tree_param"])
	}

	flags := []string{"job", "predict", "--model", trained, "--data", "guest.0=ward#new", "--data",
		host.cfg.NodeID + "=shop#new"}
	predict := func() string {
		t.Helper()
		jobID := lastLine(guest.mustCommand(flags...))
		requireSuccess(t, guest.awaitJob(jobID, 2*time.Minute, isFinished))
		require.Contains(t, host.mustCommand("job", "show", jobID), "  model    "+model+".model0"+
			", which job "+trained+" trained with HeteroSecureBoost of hutong:1.0.0\n")
		return guest.download(guest.outputs(jobID)[task+" guest.0 predictions"])
	}
	want := guest.download(guest.outputs(trained)[task+" guest.0 train_data"])
	require.Greater(t, strings.Count(want, "\n"), 500)
	require.Equal(t, want, predict())

	// Kept at both parties, the model is there after its job is gone: deleted at the guest, and removed at
	// the host after its retention.
	archive := filepath.Join(t.TempDir(), "model.zip")
	host.mustCommand("model", "export", model, "-o", archive)
	for _, n := range []*testParty{guest, host} {
		require.Contains(t, n.mustCommand("model", "keep", model), "is kept")
	}
	guest.mustCommand("job", "delete", trained)
	host.backdate(trained, "ended_at", 2)
	require.Eventually(t, func() bool { return host.runHousekeeping().Removed.Jobs > 0 }, time.Minute,
		100*time.Millisecond, "its workflow may still be releasing reservations")
	for _, n := range []*testParty{guest, host} {
		_, err := n.database().Job(t.Context(), trained)
		require.Equal(t, bfia.CodeNotFound, bfia.CodeOf(err))
	}
	require.Equal(t, want, predict())

	// Without the host's part nobody predicts, and the refusal names the host.
	require.Contains(t, host.mustCommand("model", "delete", model), "deleted")
	lacks := host.cfg.NodeID + " has no part of model " + model + ".model0 as host.0"
	out, ok := guest.command(flags...)
	require.False(t, ok)
	require.Contains(t, out, lacks)
	out, ok = guest.command(append(flags, "--dry-run")...)
	require.False(t, ok)
	require.Contains(t, out, lacks)

	require.Contains(t, host.mustCommand("model", "import", archive),
		"imported, signed by "+host.cfg.NodeID+" with the key ")
	require.Equal(t, want, predict())

	// Other parties than those of the training.
	var printed map[string]any
	out = guest.mustCommand(append(flags, "--print")...)
	require.NoError(t, json.Unmarshal([]byte(out[strings.Index(out, "\n{")+1:]), &printed))
	config := printed["config"].(map[string]any)
	config["role"].(map[string]any)["host"] = []string{guest.cfg.NodeID}
	of := config["task_params"].(map[string]any)["host"].(map[string]any)["0"].(map[string]any)
	of["intersect_rsa_1"].(map[string]any)["dataset_id"] = "ward#new"
	body, err := json.Marshal(printed)
	require.NoError(t, err)
	env, status := guest.request(http.MethodPost, bfia.PathPlatformCreateAll, body)
	require.Equal(t, http.StatusConflict, status)
	require.Contains(t, env.Text(), "the parties must be the same")
}
