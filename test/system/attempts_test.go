package system

import (
	"encoding/json"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gopkg.in/yaml.v3"

	"hutong/bfia"
	"hutong/internal/party"
	"hutong/store"
	"hutong/test/testenv"
)

// TestKilledFromOutside kills the host's container of a task in which both parties exchange messages. The
// task is tried again at both parties, in a session of its own, and the job succeeds with the usual results.
func TestKilledFromOutside(t *testing.T) {
	t.Parallel()
	cli := dockerClient(t)
	pair := newPartyPair(t, func(cfg *party.Config) {
		cfg.Runner.Docker.Enabled, cfg.Runner.Docker.HostNetwork = party.SwitchOn, true
	})
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.start()
		n.register(readVector(t, "provider_register.request.json"), bfia.DeviceDocker)
	}
	pair.guest.upload("guest.csv", "testspace", "test_guest")
	pair.host.upload("host.csv", "testspace", "test_host")
	jobID := pair.guest.submit(referenceJob(t, true))
	first := bfia.TaskID(jobID, "intersect_rsa_1")
	db := pair.host.database()
	require.Eventually(t, func() bool { // as soon as it exists
		tasks, err := db.TasksByID(t.Context(), first)
		return err == nil && len(tasks) > 0 && tasks[0].ContainerID != "" &&
			cli.ContainerKill(t.Context(), tasks[0].ContainerID, "KILL") == nil
	}, time.Minute, 5*time.Millisecond)
	s := pair.guest.awaitJob(jobID, 2*time.Minute, isFinished)
	requireSuccess(t, s)
	require.Equal(t, 2, s.Tasks[0].Attempt)
	require.Equal(t, bfia.AttemptID(jobID, "intersect_rsa_1", 2), s.Tasks[0].TaskID)
	require.Zero(t, s.Tasks[1].Attempt)
	pair.host.awaitJob(jobID, time.Minute, isFinished)
	requireResults(t, pair.guest, pair.host, jobID)
	for _, n := range []*testParty{pair.guest, pair.host} {
		requireNoContainers(t, n, jobID, bfia.DeviceDocker)
	}
}

// TestTemporaryFailure checks that a task whose component exits with code 75 (EX_TEMPFAIL) is tried again.
func TestTemporaryFailure(t *testing.T) {
	t.Parallel()
	pair := startSleepPair(t, nil)
	jobID := pair.guest.submit(
		sleepJob(t, 1, map[string]any{"s1": seconds(0)},
			map[string]map[string]any{"host": {"s1": map[string]any{"seconds": 0, "exit_code": 75}}}),
	)
	s := pair.guest.awaitJob(jobID, time.Minute, isFinished)
	require.Equal(t, bfia.FailedTemporary, s.Failure.Kind)
	require.Equal(t, 3, s.Tasks[0].Attempt)
	requireAttempts(t, &s, bfia.FailedTemporary, pair.host.cfg.NodeID, "host.0")

	// The host knows its own parts, and completely.
	own := pair.host.awaitJob(jobID, time.Minute, isFinished)
	requireAttempts(t, &own, bfia.FailedTemporary, pair.host.cfg.NodeID, "host.0")
	text, ok := pair.guest.command("job", "status", jobID)
	require.False(t, ok, "the job failed")
	require.Contains(t, text, "s1 attempt 2 ended at ")
	require.Contains(t, text, pair.host.cfg.NodeID+" (host.0): ")
}

// requireAttempts checks the history of the first task: its attempts follow each other, and each but the
// latest ended with a failure of this kind.
func requireAttempts(t *testing.T, s *bfia.JobStatus, kind bfia.FailureKind, node, role string) {
	t.Helper()
	task := s.Tasks[0]
	require.Len(t, task.Attempts, task.Attempt-1)
	for i, a := range task.Attempts {
		require.Equal(t, i+1, a.Attempt)
		require.Equal(t, bfia.AttemptID(s.JobID, task.Name, a.Attempt), a.TaskID)
		require.NotNil(t, a.Failure, "attempt %d", a.Attempt)
		require.Equal(t, kind, a.Failure.Kind)
		require.NotNil(t, a.StartedAt)
		require.NotNil(t, a.EndedAt)
		require.False(t, a.EndedAt.Before(*a.StartedAt))
		for _, p := range a.Parties {
			require.True(t, p.State.Terminal(), "%s of attempt %d", p.Role, a.Attempt)
			failed := p.NodeID == node && bfia.Part{Role: p.Role, Index: p.Index}.Self() == role
			require.Equal(t, failed, p.Failure != nil && p.Failure.Kind == kind)
		}
	}
}

// TestKilledAgainAndAgain kills each attempt. The job fails and reports that its container was killed.
func TestKilledAgainAndAgain(t *testing.T) {
	t.Parallel()
	pair := newPartyPair(t, func(cfg *party.Config) { cfg.Jobs.MaxAttempts = 2 })
	pair.guest.start()
	pair.host.start()
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.register(sleepProvider(t), bfia.DeviceProcess)
	}
	jobID := pair.guest.submit(sleepJob(t, 1, map[string]any{"s1": seconds(60)}, nil))
	for attempt := range 2 {
		pid := pair.host.pid(bfia.AttemptID(jobID, "s1", attempt+1))
		require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
	}
	s := pair.guest.awaitJob(jobID, time.Minute, isFinished)
	require.Equal(t, bfia.FailedKilled, s.Failure.Kind)
	require.Equal(t, bfia.TaskFailed, s.Tasks[0].State)
	require.Equal(t, 2, s.Tasks[0].Attempt)
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.awaitJob(jobID, time.Minute, isFinished)
		requireNoContainers(t, n, jobID, bfia.DeviceProcess)
	}
}

// pid waits until a task runs at this party and returns its process id.
func (n *testParty) pid(taskID string) int {
	n.t.Helper()
	db := n.database()
	var record struct{ PID int }
	require.Eventually(n.t, func() bool {
		tasks, err := db.TasksByID(n.t.Context(), taskID)
		if err != nil || len(tasks) == 0 || tasks[0].ContainerName == "" {
			return false
		}
		b, err := os.ReadFile(filepath.Join(n.cfg.DataDir, "runs", tasks[0].ContainerName, "pid.json"))
		return err == nil && json.Unmarshal(b, &record) == nil && record.PID > 0
	}, time.Minute, 20*time.Millisecond, "task %s did not start at %s", taskID, n.cfg.NodeID)
	return record.PID
}

// lostRunner is a runner of the host whose worker was killed while its container runs.
type lostRunner struct {
	*testParty // with the data folder of the runner
	jobID      string
	row        store.Task // of the container
	pid        int
	restart    func()
}

// loseRunner runs a task of 40 s, and kills the worker of the runner at the host that runs it: a process of
// its own, with its own data folder. Another runner of the host is online.
func loseRunner(t *testing.T) (*partyPair, lostRunner) {
	t.Helper()
	pair := newPartyPair(t, func(cfg *party.Config) { cfg.Jobs.RunnerLostAfter = 3 * time.Second })
	pair.guest.start()
	pair.host.startAs(party.Roles{API: true, Control: true, Transport: true})
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.register(sleepProvider(t), bfia.DeviceProcess)
	}
	cfg := *pair.host.cfg
	cfg.DataDir = t.TempDir()
	file := filepath.Join(t.TempDir(), "party.yaml")
	document, err := yaml.Marshal(
		map[string]any{"node_id": cfg.NodeID, "listen": cfg.Listen, "data_dir": cfg.DataDir,
			"containers": map[string]any{"listen": testenv.FreeAddress(t)},
			"transport":  map[string]any{"listen": cfg.Transport.Listen},
			"temporal": map[string]any{"address": cfg.Temporal.Address,
				"namespace": cfg.Temporal.Namespace},
			"runner": map[string]any{"docker": map[string]any{"enabled": "false"}, "stop_grace": "2s",
				"unsafe": true, "slots": 2, "process": map[string]any{"allow": cfg.Runner.Process.Allow}}},
	)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(file, document, 0o600))
	env := []string{"HUTONG_DATABASE_URL=" + cfg.Database.URL.Reveal(),
		"HUTONG_STORAGE_URL=" + cfg.Storage.URL.Reveal()}
	lost := startHutong(t, env, "worker", "--only", "runner", "--config", file)
	lost.awaitOutput("is ready")

	jobID := pair.guest.submit(sleepJob(t, 1, map[string]any{"s1": seconds(40)}, nil))
	first := &testParty{t: t, cfg: &cfg}
	pid := first.pid(bfia.TaskID(jobID, "s1"))
	db := pair.host.database()
	began, err := db.TasksByID(t.Context(), bfia.TaskID(jobID, "s1"))
	require.NoError(t, err)
	lost.kill(syscall.SIGKILL)
	pair.host.startAs(party.Roles{Runner: true})
	return pair, lostRunner{first, jobID, began[0], pid, func() {
		startHutong(t, env, "worker", "--only", "runner", "--config", file).awaitOutput("is ready")
	}}
}

// TestRunnerLost kills the worker of the runner that runs a task. Another runner of the party runs the task,
// as a new attempt. When the first runner is online again, it ends what it still runs.
func TestRunnerLost(t *testing.T) {
	t.Parallel()
	pair, lost := loseRunner(t)
	jobID, db := lost.jobID, pair.host.database()
	second := bfia.AttemptID(jobID, "s1", 2)
	require.Eventually(t, func() bool {
		tasks, err := db.TasksByID(t.Context(), second)
		return err == nil && len(tasks) > 0 && tasks[0].ContainerID != ""
	}, 90*time.Second, 50*time.Millisecond, "the second attempt did not start")
	tasks, err := db.TasksByID(t.Context(), second)
	require.NoError(t, err)
	require.Equal(t, 2, tasks[0].Attempt)
	require.NotEqual(t, lost.row.RunnerID, tasks[0].RunnerID)

	lost.restart()
	require.Eventually(t, func() bool { return syscall.Kill(lost.pid, 0) != nil }, time.Minute,
		50*time.Millisecond, "the lost runner is online again, and its old process still runs")
	s := pair.guest.awaitJob(jobID, time.Minute, isFinished)
	requireSuccess(t, s)
	require.Equal(t, 2, s.Tasks[0].Attempt)
	pair.host.awaitJob(jobID, time.Minute, isFinished)
	requireNoContainers(t, lost.testParty, jobID, bfia.DeviceProcess)
	requireNoContainers(t, pair.host, jobID, bfia.DeviceProcess)
}

// TestRunnerLostWithReport checks that a part whose container has reported its success is not run again if
// its runner is lost before it has passed that on.
func TestRunnerLostWithReport(t *testing.T) {
	t.Parallel()
	pair, lost := loseRunner(t)
	require.NoError(t, pair.host.database().SetTaskReport(t.Context(), lost.row.Key(), lost.row.TaskID,
		bfia.TaskSuccess)) // by the worker, just before its end
	s := pair.guest.awaitJob(lost.jobID, 90*time.Second, isFinished)
	requireSuccess(t, s)
	require.Less(t, s.Tasks[0].Attempt, 2)
	requireSuccess(t, pair.host.awaitJob(lost.jobID, time.Minute, isFinished))
	lost.restart()
	requireNoContainers(t, lost.testParty, lost.jobID, bfia.DeviceProcess)
}
