package system

import (
	"archive/tar"
	"bytes"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	dockerimage "github.com/docker/docker/api/types/image"
	"github.com/docker/docker/client"
	"github.com/stretchr/testify/require"

	"hutong/activities"
	"hutong/bfia"
	"hutong/internal/image"
	"hutong/internal/party"
	"hutong/store/blob"
	"hutong/test/testenv"
	"hutong/test/testenv/apiclient"
	"hutong/test/testenv/disk"
)

// limitsImage names the provider's image for these tests; no other test uses this tag.
const limitsImage = "hutong-test-limits:1"

// startLimitedPair starts a guest and a host with the Sleep component. With inContainers the host runs it in
// containers.
func startLimitedPair(t *testing.T, inContainers bool, change func(*party.Config)) *partyPair {
	if inContainers {
		dockerClient(t)
	}
	pair := newPartyPair(t, func(cfg *party.Config) {
		if change != nil {
			change(cfg)
		}
		if inContainers && cfg.NodeID == hostNode {
			useContainers(cfg)
		}
	})
	pair.guest.start()
	pair.host.start()
	pair.guest.register(sleepProvider(t), bfia.DeviceProcess)
	if !inContainers {
		pair.host.register(sleepProvider(t), bfia.DeviceProcess)
		return pair
	}
	cli := dockerClient(t)
	require.NoError(t, image.Load(t.Context(), cli, testenv.Binary(t, "provider"), limitsImage))
	pair.host.register(containerProvider(t, limitsImage), bfia.DeviceDocker)
	return pair
}

// useContainers has a party run its tasks in containers on the host network, and no processes.
func useContainers(cfg *party.Config) {
	cfg.Runner.Docker.Enabled, cfg.Runner.Docker.HostNetwork = party.SwitchOn, true
	cfg.Runner.Process.Allow = nil
}

// containerProvider returns the registration [sleepProvider] for containers of an image.
func containerProvider(t testing.TB, name string) []byte {
	return editJSON(t, sleepProvider(t), func(f map[string]any) {
		f["device"], f["metadata"] = "docker", map[string]any{"image": name}
	})
}

// hostJob returns a job of one task with parameters for the host's part; the guest's part ends at once.
func hostJob(t testing.TB, params map[string]any) []byte {
	return sleepJob(t, 1, map[string]any{"s1": seconds(0)}, map[string]map[string]any{"host": {"s1": params}})
}

// submitUnrelatedJob submits a job between the same parties. The returned function checks that the job
// succeeded although another one failed meanwhile.
func (pair *partyPair) submitUnrelatedJob() (unharmed func()) {
	pair.t.Helper()
	jobID := pair.guest.submit(sleepJob(pair.t, 2, map[string]any{"s1": seconds(2), "s2": seconds(0)}, nil))
	return func() {
		pair.t.Helper()
		requireSuccess(pair.t, pair.guest.awaitJob(jobID, time.Minute, isFinished))
		requireNoContainers(pair.t, pair.guest, jobID, bfia.DeviceProcess)
		requireNoContainers(pair.t, pair.host, jobID, pair.hostDevice())
	}
}

// hostDevice returns the device on which the host runs its parts.
func (pair *partyPair) hostDevice() bfia.Device {
	if pair.host.cfg.Runner.Docker.Enabled == party.SwitchOn {
		return bfia.DeviceDocker
	}
	return bfia.DeviceProcess
}

// requireFailure awaits a job's end because of its host's part of s1, and gives what is known of it at the
// host.
func (pair *partyPair) requireFailure(jobID string, kind bfia.FailureKind, words ...string) *bfia.Failure {
	pair.t.Helper()
	s := pair.guest.awaitJob(jobID, time.Minute, isFinished)
	require.NotNil(pair.t, s.Failure, "%s", s.Reason)
	require.Equal(pair.t, kind, s.Failure.Kind, "%s", s.Reason)
	require.Equal(pair.t, [...]string{hostNode, "host.0", "s1"},
		[...]string{s.Failure.NodeID, s.Failure.Role, s.Failure.Task})
	at := pair.host.awaitJob(jobID, time.Minute, isFinished)
	require.Equal(pair.t, kind, at.Failure.Kind)
	for _, word := range words {
		require.Contains(pair.t, at.Failure.Text(),
			word) // the guest gets only the kind, unless the host shares more
	}
	require.NotEmpty(pair.t, at.Failure.Hint)
	requireNoContainers(pair.t, pair.host, jobID, pair.hostDevice())
	requireNoContainers(pair.t, pair.guest, jobID, bfia.DeviceProcess)
	return at.Failure
}

// TestOutOfMemory gives a container less memory than it needs.
func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	pair := startLimitedPair(t, true, nil)
	unharmed := pair.submitUnrelatedJob()
	jobID := pair.guest.submit(
		editJSON(t, hostJob(t, map[string]any{"seconds": 60, "memory_mib": 256}), func(f map[string]any) {
			f["config"].(map[string]any)["job_params"].(map[string]any)["host"] =
				map[string]any{"0": map[string]any{"resources": map[string]any{"memory": 0.0625}}}
		}),
	)
	failure := pair.requireFailure(jobID, bfia.FailedMemory, "out of memory", "the limit is 64 MiB")
	require.Contains(t, failure.Hint, "config.job_params.host.0.resources.memory")
	unharmed()
}

// TestImageMissing names an image that the host does not have.
func TestImageMissing(t *testing.T) {
	t.Parallel()
	pair := startLimitedPair(t, true, nil)
	unharmed := pair.submitUnrelatedJob()
	const absent = "hutong-test-limits:absent"
	pair.host.register(
		editJSON(t, containerProvider(t, absent), func(f map[string]any) { f["name"] = "absent" }),
		bfia.DeviceDocker,
	)
	pair.guest.register(editJSON(t, sleepProvider(t), func(f map[string]any) { f["name"] = "absent" }),
		bfia.DeviceProcess)
	jobID := pair.guest.submit(withProvider(t, hostJob(t, seconds(0)), "absent"))
	failure := pair.requireFailure(jobID, bfia.FailedImage, absent, "not on runner ", "of machine ")
	require.Contains(t, failure.Hint, "load the image")
	unharmed()
}

// TestImageCannotStart uses an image without the program that it names.
func TestImageCannotStart(t *testing.T) {
	t.Parallel()
	pair := startLimitedPair(t, true, nil)
	unharmed := pair.submitUnrelatedJob()
	const broken = "hutong-test-limits:broken"
	importEmptyImage(t, dockerClient(t), broken, "/no/such/program")
	pair.host.register(
		editJSON(t, containerProvider(t, broken), func(f map[string]any) { f["name"] = "broken" }),
		bfia.DeviceDocker,
	)
	pair.guest.register(editJSON(t, sleepProvider(t), func(f map[string]any) { f["name"] = "broken" }),
		bfia.DeviceProcess)
	jobID := pair.guest.submit(withProvider(t, hostJob(t, seconds(0)), "broken"))
	pair.requireFailure(jobID, bfia.FailedStart, "could not be started", "/no/such/program")
	unharmed()
}

// withProvider returns a job with all components of another provider.
func withProvider(t testing.TB, document []byte, name string) []byte {
	return editJSON(t, document, func(f map[string]any) {
		for _, c := range f["dag"].(map[string]any)["components"].([]any) {
			c.(map[string]any)["provider"] = name
		}
	})
}

// importEmptyImage creates an image that names a program and does not contain it.
func importEmptyImage(t *testing.T, cli *client.Client, tag, program string) {
	t.Helper()
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	require.NoError(t, w.WriteHeader(&tar.Header{Name: "empty/", Typeflag: tar.TypeDir, Mode: 0o755}))
	require.NoError(t, w.Close())
	progress, err := cli.ImageImport(t.Context(), dockerimage.ImportSource{Source: &files, SourceName: "-"},
		tag, dockerimage.ImportOptions{Changes: []string{`ENTRYPOINT ["` + program + `"]`}})
	require.NoError(t, err)
	_, err = io.Copy(io.Discard, progress)
	require.NoError(t, err)
	require.NoError(t, progress.Close())
}

// TestIgnoresStop stops a job whose containers ignore SIGTERM: they are killed after the grace period.
func TestIgnoresStop(t *testing.T) {
	t.Parallel()
	pair := startLimitedPair(t, true, nil)
	jobID := pair.guest.submit(
		sleepJob(t, 1, map[string]any{"s1": map[string]any{"seconds": 600, "ignore_stop": true}}, nil),
	)
	unharmed := pair.submitUnrelatedJob()
	for _, n := range []*testParty{pair.guest, pair.host} {
		require.Eventually(t, func() bool { return strings.Contains(n.log(jobID, "s1"), "sleeping, second") },
			time.Minute, 50*time.Millisecond)
	}
	begun := time.Now()
	pair.guest.mustRequest(http.MethodPost, bfia.PathPlatformStopAll, []byte(`{"job_id":"`+jobID+`"}`), nil)
	for _, n := range []*testParty{pair.guest, pair.host} {
		s := n.awaitJob(jobID, time.Minute, isFinished)
		require.Equal(t, bfia.FailedStopped, s.Failure.Kind)
	}
	requireNoContainers(t, pair.guest, jobID, bfia.DeviceProcess)
	requireNoContainers(t, pair.host, jobID, bfia.DeviceDocker)
	require.GreaterOrEqual(t, time.Since(begun), pair.host.cfg.Runner.StopGrace,
		"killed before the end of the grace period")
	require.Less(t, time.Since(begun), pair.host.cfg.Runner.StopGrace+2*time.Minute, "they sleep for ten")
	unharmed()
}

// log returns this party's log of a job's task, or "" while there is none.
func (n *testParty) log(jobID, task string) string {
	n.t.Helper()
	for _, s := range n.status(jobID).Tasks {
		if s.Name != task {
			continue
		}
		env, _ := n.request(http.MethodGet, bfia.PathPlatformLog+"?log_level=debug&task_id="+s.TaskID, nil)
		var log struct{ Data string }
		if env.OK() {
			require.NoError(n.t, json.Unmarshal(env.Data, &log))
		}
		return log.Data
	}
	return ""
}

// TestLargeParameter submits a parameter of 50 MB, more than a document may have. Where the operator allows
// large documents, it submits one of more bytes than Linux allows an environment variable.
func TestLargeParameter(t *testing.T) {
	t.Parallel()
	t.Run("document", func(t *testing.T) {
		pair := startLimitedPair(t, false, nil)
		unharmed := pair.submitUnrelatedJob()
		document := hostJob(t, map[string]any{"seconds": 0, "note": strings.Repeat("x", 50_000_000)})
		var answer apiclient.Answer
		require.Eventually(t, func() bool { // the party hangs up: what it answered may be lost on the way
			var err error
			answer, err = pair.guest.client.Send(t.Context(), http.MethodPost,
				pair.guest.url+bfia.PathPlatformCreateAll, document)
			return err == nil
		}, time.Minute, 100*time.Millisecond)
		require.Equal(t, http.StatusRequestEntityTooLarge, answer.Status)
		for _, word := range []string{"jobs.max_document_bytes", "1048576"} {
			require.Contains(t, answer.Text(), word)
		}
		unharmed()
	})
	for _, device := range []bfia.Device{bfia.DeviceProcess, bfia.DeviceDocker} {
		t.Run(string(device), func(t *testing.T) {
			pair := startLimitedPair(t, device == bfia.DeviceDocker,
				func(cfg *party.Config) { cfg.Jobs.MaxDocumentBytes = 100 << 20 })
			unharmed := pair.submitUnrelatedJob()
			env, status := pair.guest.request(http.MethodPost, bfia.PathPlatformCreateAll,
				hostJob(t, map[string]any{"seconds": 0, "note": strings.Repeat("x", 200_000)}))
			require.Equal(t, http.StatusRequestEntityTooLarge, status)
			for _, word := range []string{"task s1", "host.0", "note takes 200033 bytes", "131071"} {
				require.Contains(t, env.Text(), word)
			}
			unharmed()
		})
	}
}

// TestLogFlood has both parts of a task log 100,000 lines a second. Both succeed. Each party keeps the
// beginning and the end of its log, with a note of how many lines are skipped between them.
func TestLogFlood(t *testing.T) {
	t.Parallel()
	pair := startLimitedPair(t, true, nil)
	const lines = 300_000
	jobID := pair.guest.submit(
		sleepJob(t, 1,
			map[string]any{"s1": map[string]any{"seconds": 0, "lines": lines, "lines_per_second": 100_000}},
			nil),
	)
	unharmed := pair.submitUnrelatedJob()
	requireSuccess(t, pair.guest.awaitJob(jobID, 2*time.Minute, isFinished))
	unharmed()
	for _, n := range []*testParty{pair.guest, pair.host} {
		db := n.database()
		var run string
		require.Eventually(t, func() bool {
			tasks, err := db.Tasks(t.Context(), jobID)
			require.NoError(t, err)
			run = tasks[0].ContainerName
			return tasks[0].ExitCode != nil
		}, time.Minute, 50*time.Millisecond)
		storage, err := blob.Open(t.Context(), n.cfg.Storage.URL.Reveal())
		require.NoError(t, err)
		log, err := activities.ReadLog(t.Context(), storage, run)
		require.NoError(t, err)
		text, err := io.ReadAll(log)
		require.NoError(t, err)
		require.NoError(t, log.Close())
		require.Less(t, len(text), 66<<20)
		kept := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
		require.Contains(t, string(kept[0]), fmt.Sprintf("line 1 of %d", lines))
		end := bytes.Join(kept[len(kept)-5:], []byte("\n"))
		require.Contains(t, string(end), fmt.Sprintf("line %d of %d", lines, lines))
		note := regexp.MustCompile(`lines skipped here" lines=(\d+)`).FindSubmatch(text)
		require.NotNil(t, note, "%s has %d lines of %d bytes", n.cfg.NodeID, len(kept), len(text))
		left, err := strconv.Atoi(string(note[1]))
		require.NoError(t, err)
		require.GreaterOrEqual(t, len(kept)-1+left, lines, "%s: the note counts too few missing lines",
			n.cfg.NodeID)
	}
	requireNoContainers(t, pair.guest, jobID, bfia.DeviceProcess)
	requireNoContainers(t, pair.host, jobID, bfia.DeviceDocker)
}

// TestStorageFull fills the host's storage while its part runs, and the part then ends with exit code 0. It
// fails, since its outputs may be incomplete. A later job succeeds.
func TestStorageFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	disk.Mount(t, dir, "16m")
	pair := startLimitedPair(t, false, func(cfg *party.Config) {
		if cfg.NodeID == hostNode {
			cfg.Storage.URL = party.Secret("file://" + dir)
		}
	})
	jobID := pair.guest.submit(hostJob(t, map[string]any{"seconds": 10, "write_mib": 1}))
	require.Eventually(t, func() bool { return strings.Contains(pair.host.log(jobID, "s1"), "sleeping") },
		time.Minute, 20*time.Millisecond)
	empty := disk.Fill(t, dir)
	failure := pair.requireFailure(jobID, bfia.FailedOutput, activities.StorageFullMessage)
	require.Contains(t, failure.Hint, "free space on its disk")
	require.NotContains(t, pair.host.outputs(jobID), "s1 host.0 out")
	empty()
	requireSuccess(t, pair.guest.awaitJob(pair.guest.submit(hostJob(t, seconds(0))), time.Minute, isFinished))
}

// TestDiskFull fills the disk with all of the host's data, its database too. A task that writes more than
// fits fails and reports it. Jobs that run meanwhile wait until there is free space again, and succeed.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	disk.Mount(t, dir, "64m")
	pair := startLimitedPair(t, false, func(cfg *party.Config) {
		if cfg.NodeID == hostNode {
			cfg.DataDir = filepath.Join(dir, hostNode)
		}
	})
	unharmed := pair.submitUnrelatedJob()
	failure := pair.requireFailure(
		pair.guest.submit(hostJob(t, map[string]any{"seconds": 60, "write_mib": 200})), bfia.FailedExit)
	require.Contains(t, strings.Join(failure.Log, "\n"), "no space left on device")
	unharmed()

	jobID := pair.guest.submit(
		sleepJob(t, 2, map[string]any{"s2": map[string]any{"seconds": 0, "write_mib": 1}},
			map[string]map[string]any{"guest": {"s1": seconds(3)}, "host": {"s1": seconds(30)}}),
	)
	db := pair.host.database()
	require.Eventually(t, func() bool {
		tasks, err := db.Tasks(t.Context(), jobID)
		return err == nil && tasks[0].ContainerID != ""
	}, time.Minute, 20*time.Millisecond)
	empty := disk.Fill(t, dir)
	// The guest's part has ended. The host's part runs on: it would fail if it ended now.
	pair.guest.awaitJob(jobID, time.Minute, func(s bfia.JobStatus) bool {
		return slices.ContainsFunc(s.Tasks[0].Parties,
			func(p bfia.PartStatus) bool { return p.NodeID == guestNode && p.State == bfia.TaskSuccess })
	})
	env, status := pair.host.request(
		http.MethodPost,
		bfia.PathProviderRegister,
		editJSON(t, sleepProvider(t), func(f map[string]any) {
			f["name"], f["metadata"] = "another", map[string]any{
				"command": []string{testenv.Binary(t, "provider")}, "note": strings.Repeat("x", 500_000)}
		}),
	)
	require.Equal(t, http.StatusServiceUnavailable, status, env.Text())
	require.Contains(t, env.Text(), "no space left on its disk")
	require.False(t, isFinished(pair.guest.status(jobID)))
	empty()
	requireSuccess(t, pair.guest.awaitJob(jobID, 2*time.Minute, isFinished))
	require.EqualValues(t, 1<<20, pair.host.outputs(jobID)["s2 host.0 out"].Bytes)
	file, err := sql.Open(
		"sqlite",
		"file:"+strings.TrimPrefix(pair.host.cfg.Database.URL.Reveal(),
			"sqlite://")+"?_pragma=busy_timeout(10000)",
	)
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	var sound string
	require.NoError(t, file.QueryRow("PRAGMA integrity_check").Scan(&sound))
	require.Equal(t, "ok", sound)
	requireSuccess(t, pair.guest.awaitJob(pair.guest.submit(hostJob(t, seconds(0))), time.Minute, isFinished))
}
