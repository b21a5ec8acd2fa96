package system

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	commonpb "go.temporal.io/api/common/v1"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/proxy"
	"go.temporal.io/sdk/client"

	"hutong/bfia"
	"hutong/internal/codec"
	"hutong/internal/party"
	"hutong/test/testenv"
	"hutong/workflows"
)

// canaryWord is in a parameter, in the log lines of its task and in the words of the job's failure.
const canaryWord = "canary-4711-not-for-temporal"

// addKey adds a key to a folder of keys and chooses it.
func addKey(t *testing.T, dir, id string, algorithm codec.Algorithm) {
	t.Helper()
	_, err := codec.CreateKey(dir, id, algorithm)
	require.NoError(t, err)
	require.NoError(t, codec.UseKey(dir, id))
}

// keysOf gives each party a folder with one key, k1.
func keysOf(t *testing.T, algorithm codec.Algorithm) func(*party.Config) {
	return func(cfg *party.Config) {
		cfg.Temporal.Encryption.KeysDir = filepath.Join(t.TempDir(), cfg.NodeID)
		addKey(t, cfg.Temporal.Encryption.KeysDir, "k1", algorithm)
	}
}

// TestTemporalStoresNoSecrets searches the database of Temporal for words of a job that failed at two real
// parties, with each algorithm and, so that the search proves something, without encryption.
func TestTemporalStoresNoSecrets(t *testing.T) {
	t.Parallel()
	for _, algorithm := range append(codec.Algorithms(), "") {
		t.Run("algorithm "+string(algorithm), func(t *testing.T) {
			address, dir := testenv.OwnTemporal(t)
			pair := startSleepPair(t, func(cfg *party.Config) {
				cfg.Temporal.Address, cfg.Jobs.ShareFailure = address, bfia.ShareLog
				if algorithm != "" {
					keysOf(t, algorithm)(cfg)
				}
			})
			jobID := pair.guest.submit(hostJob(t, map[string]any{"seconds": canaryWord}))
			for _, n := range []*testParty{pair.guest, pair.host} {
				failure := n.awaitJob(jobID, time.Minute, isFinished).Failure
				require.NotNil(t, failure)
				require.Contains(t, failure.Text()+strings.Join(failure.Log, "\n"), canaryWord,
					"the parties know it")
				requireNoContainers(t, n, jobID, bfia.DeviceProcess)
			}
			found := 0
			require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
				if errors.Is(err, fs.ErrNotExist) {
					return nil
				}
				if err != nil || d.IsDir() {
					return err
				}
				content, err := os.ReadFile(path)
				if errors.Is(err, fs.ErrNotExist) {
					return nil // Temporal has just removed it
				}
				found += bytes.Count(content, []byte(canaryWord))
				return err
			}))
			if algorithm == "" {
				assert.Positive(t, found, "without encryption Temporal stores it")
				return
			}
			assert.Zero(t, found)
		})
	}
}

// TestKeyRotation goes over to another key and another algorithm while a job runs. The cleanup of the pair
// replays its histories, which need both keys.
func TestKeyRotation(t *testing.T) {
	t.Parallel()
	withKeys := keysOf(t, codec.AES256GCM)
	pair := newPartyPair(t, func(cfg *party.Config) { withKeys(cfg); allowShell(cfg) })
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.start()
		n.registerShell("Run", "first", "out", "model")
	}
	gate := filepath.Join(t.TempDir(), "gate")
	jobID := pair.guest.submit(shellJob(t, map[string]string{"a": gate}))
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.awaitLog(jobID, "a", "first")
		addKey(t, n.cfg.Temporal.Encryption.KeysDir, "k2", codec.SM4GCM)
	}
	time.Sleep(2 * time.Second) // at least: a party reads its keys again once a second
	require.NoError(t, os.WriteFile(gate, nil, 0o600))
	for _, n := range []*testParty{pair.guest, pair.host} {
		requireSuccess(t, n.awaitJob(jobID, time.Minute, isFinished))
		keys := n.keysInHistory(workflows.ParticipantJobID(jobID))
		assert.Positive(t, keys["k1"], n.cfg.NodeID)
		assert.Positive(t, keys["k2"], n.cfg.NodeID)
		assert.Zero(t, keys[""], "payloads that are not encrypted")
	}
}

// TestUnknownKey has a runner encrypt with a key that the control worker lacks. The job waits, and the log
// names the key. It continues when the key is there.
func TestUnknownKey(t *testing.T) {
	t.Parallel()
	pair := newPartyPair(t, keysOf(t, codec.AES256GCM))
	log := &testenv.Buffer{}
	pair.guest.start()
	rest := party.Roles{API: true, Control: true, Transport: true}
	p, err := party.Start(t.Context(), pair.host.cfg, rest, slog.New(slog.NewTextHandler(log, nil)))
	require.NoError(t, err)
	t.Cleanup(func() { p.Stop(context.WithoutCancel(t.Context())) })

	control := pair.host.cfg.Temporal.Encryption.KeysDir
	ahead := *pair.host
	cfg := *pair.host.cfg
	cfg.Temporal.Encryption.KeysDir = filepath.Join(t.TempDir(), "ahead")
	ahead.cfg = &cfg
	require.NoError(t, os.CopyFS(cfg.Temporal.Encryption.KeysDir, os.DirFS(control)))
	require.NoError(t, os.Chmod(filepath.Join(cfg.Temporal.Encryption.KeysDir, "k1.key"), 0o600))
	addKey(t, cfg.Temporal.Encryption.KeysDir, "k9", codec.AES256GCM)
	ahead.startAs(party.Roles{Runner: true})
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.register(sleepProvider(t), bfia.DeviceProcess)
	}

	// Without a callback the job needs the runner's result.
	jobID := pair.guest.submit(hostJob(t, map[string]any{"seconds": 0, "exit_code": 3}))
	require.Eventually(t, func() bool {
		return strings.Contains(log.String(), `encrypted with key \"k9\"`)
	}, time.Minute, 50*time.Millisecond, "the log names the key")
	require.False(t, isFinished(pair.host.status(jobID)), "the job waits for the key")

	text, err := os.ReadFile(filepath.Join(cfg.Temporal.Encryption.KeysDir, "k9.key"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(control, "k9.key"), text, 0o600))
	for _, n := range []*testParty{pair.host, pair.guest} {
		failure := n.awaitJob(jobID, 2*time.Minute, isFinished).Failure
		require.NotNil(t, failure)
		require.Equal(t, bfia.FailedExit, failure.Kind, "the result of the runner, not a failure to read it")
	}
}

// TestEncryptionOfRunningJob begins to encrypt while a job runs: what was stored before stays readable.
func TestEncryptionOfRunningJob(t *testing.T) {
	t.Parallel()
	pair := newPartyPair(t, allowShell)
	stop := pair.guest.start()
	pair.host.start()
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.registerShell("Run", "first", "out", "model")
	}
	gate := filepath.Join(t.TempDir(), "gate")
	jobID := pair.guest.submit(shellJob(t, map[string]string{"a": gate}))
	pair.guest.awaitLog(jobID, "a", "first")
	stop()
	keysOf(t, codec.AES256GCM)(pair.guest.cfg)
	pair.guest.start()
	require.NoError(t, os.WriteFile(gate, nil, 0o600))
	requireSuccess(t, pair.guest.awaitJob(jobID, time.Minute, isFinished))
	keys := pair.guest.keysInHistory(workflows.ParticipantJobID(jobID))
	assert.Positive(t, keys[""])
	assert.Positive(t, keys["k1"])
}

// keysInHistory counts the payloads of a workflow's history by their keys; "" are those without encryption.
func (n *testParty) keysInHistory(workflowID string) map[string]int {
	n.t.Helper()
	c, err := client.Dial(client.Options{HostPort: n.cfg.Temporal.Address,
		Namespace: n.cfg.Temporal.Namespace})
	require.NoError(n.t, err)
	defer c.Close()
	keys := map[string]int{}
	events := c.GetWorkflowHistory(n.t.Context(), workflowID, "", false,
		enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	for events.HasNext() {
		event, err := events.Next()
		require.NoError(n.t, err)
		require.NoError(n.t, proxy.VisitPayloads(n.t.Context(), event, proxy.VisitPayloadsOptions{
			SkipSearchAttributes: true,
			Visitor: func(_ *proxy.VisitPayloadsContext, ps []*commonpb.Payload,
			) ([]*commonpb.Payload, error) {
				for _, p := range ps {
					keys[string(p.GetMetadata()[codec.MetadataKey])]++
				}
				return ps, nil
			}}))
	}
	return keys
}
