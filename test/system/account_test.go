package system

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/party"
)

// account returns a party's account of a job, once its traffic is recorded, and the file that a partner gets.
func (n *testParty) account(jobID string) (a bfia.JobAccount, file string) {
	n.t.Helper()
	var text string
	require.Eventually(n.t, func() bool {
		out, err := n.hutong("job", "account", jobID, "-o", "json")
		require.NoError(n.t, err, out)
		text, a = out, bfia.JobAccount{}
		require.NoError(n.t, json.Unmarshal([]byte(out), &a))
		return a.TrafficComplete
	}, time.Minute, 200*time.Millisecond, "the session of %s is not released", n.cfg.NodeID)
	file = filepath.Join(n.t.TempDir(), n.cfg.NodeID+".json")
	require.NoError(n.t, os.WriteFile(file, []byte(text), 0o600))
	return a, file
}

// TestAccountOfAProbe runs a job whose containers send each other a message of 1 MiB, as processes, and holds
// the accounts of both parties against each other.
func TestAccountOfAProbe(t *testing.T) {
	t.Parallel()
	pair := newPartyPair(t, nil)
	pair.guest.start()
	pair.host.start()
	pair.registerReference(bfia.DeviceProcess)
	out, err := pair.probe(hostNode)
	require.NoError(t, err, out)
	jobs := pair.guest.listedIDs(nil)
	require.Len(t, jobs, 1)
	jobID := jobs[0]

	accounts := map[string]bfia.JobAccount{}
	files := map[string]string{}
	for _, n := range []*testParty{pair.guest, pair.host} {
		a, file := n.account(jobID)
		accounts[n.cfg.NodeID], files[n.cfg.NodeID] = a, file
		require.Len(t, a.Parts, 1)
		p := a.Parts[0]
		require.Equal(t, "process", p.Device)
		require.Equal(t, bfia.TaskID(jobID, "probe"), p.TaskID)
		require.False(t, p.AtLeast, "the supervisor measures the end")
		require.Positive(t, *p.CPUSeconds)
		require.Positive(t, *p.ContainerSeconds)
		require.Greater(t, *p.PeakMemory, int64(1<<20), "it holds the message in memory")
		require.Len(t, a.Traffic, 1, "all messages are those of the task: %v", a.Traffic)
		require.Equal(t, "probe", a.Traffic[0].Task)
		for _, bytes := range []int64{a.Traffic[0].Sent, a.Traffic[0].Received} {
			require.Greater(t, bytes, int64(1<<20))
			require.Less(t, bytes, int64(2<<20))
		}
	}
	a, b := accounts[guestNode].Traffic[0], accounts[hostNode].Traffic[0]
	require.Equal(t, a.Sent, b.Received)
	require.Equal(t, a.SentMessages, b.ReceivedMessages)
	require.Equal(t, b.Sent, a.Received)

	out, err = pair.guest.hutong("job", "account", jobID, "--compare", files[hostNode])
	require.NoError(t, err, out)
	require.Contains(t, out, "agree  task probe, attempt 1, from "+guestNode+" to "+hostNode)
	require.Contains(t, out, "agree  task probe, attempt 1, from "+hostNode+" to "+guestNode)
	out, err = pair.guest.hutong("job", "status", jobID)
	require.NoError(t, err, out)
	require.Regexp(t, `used at `+guestNode+`: CPU [0-9.]+ s, peak memory .*; sent 1\.\d MiB, received 1\.`, out)
	out, err = pair.guest.hutong("job", "account", jobID)
	require.NoError(t, err, out)
	require.Regexp(t, `probe +guest\.0 +1 +process`, out)

	// A partner that claims another number, or no account at all, is found out.
	forged, err := os.ReadFile(files[hostNode])
	require.NoError(t, err)
	wrong := filepath.Join(t.TempDir(), "wrong.json")
	require.NoError(t, os.WriteFile(wrong, []byte(strings.Replace(string(forged), `"received_bytes": 1`,
		`"received_bytes": 2`, 1)), 0o600))
	out, err = pair.guest.hutong("job", "account", jobID, "--compare", wrong)
	require.Error(t, err)
	require.Contains(t, out, "DIFFER task probe, attempt 1, from "+guestNode+" to "+hostNode)
	out, err = pair.guest.hutong("job", "account", jobID, "--compare", files[guestNode])
	require.Error(t, err)
	require.Contains(t, out, "both accounts are of "+guestNode)

	// The account stays when the job is deleted.
	out, err = pair.guest.hutong("job", "delete", jobID)
	require.NoError(t, err, out)
	kept, _ := pair.guest.account(jobID)
	require.Equal(t, accounts[guestNode].Traffic, kept.Traffic)
	require.Equal(t, accounts[guestNode].Parts, kept.Parts)
}

// TestAccountOfARetry kills a container of the first attempt of a task with Docker. Both attempts are in the
// accounts, each with its own bytes, and the accounts of both parties agree about the bytes of both.
func TestAccountOfARetry(t *testing.T) {
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
	require.Eventually(t, func() bool {
		tasks, err := db.TasksByID(t.Context(), first)
		return err == nil && len(tasks) > 0 && tasks[0].ContainerID != "" &&
			cli.ContainerKill(t.Context(), tasks[0].ContainerID, "KILL") == nil
	}, time.Minute, 5*time.Millisecond)
	requireSuccess(t, pair.guest.awaitJob(jobID, 2*time.Minute, isFinished))
	pair.host.awaitJob(jobID, time.Minute, isFinished)

	var file string
	for _, n := range []*testParty{pair.guest, pair.host} {
		var a bfia.JobAccount
		a, file = n.account(jobID)
		attempts := map[string]int{}
		for _, p := range a.Parts {
			require.Equal(t, "docker", p.Device)
			require.Equal(t, p.Attempt, max(attempts[p.Task]+1, p.Attempt))
			attempts[p.Task] = p.Attempt
			require.NotNil(t, p.ContainerSeconds, "%s, attempt %d", p.Task, p.Attempt)
			if p.CPUSeconds != nil {
				require.Positive(t, *p.CPUSeconds)
				require.True(t, p.AtLeast, "Docker forgets the cgroup with the container's last process")
			}
		}
		require.Equal(t, map[string]int{"intersect_rsa_1": 2, "hetero_secureboost_1": 1}, attempts)
		traffic := map[int]int64{}
		for _, x := range a.Traffic {
			if x.Task == "intersect_rsa_1" {
				traffic[x.Attempt] += x.Sent
			}
		}
		require.Positive(t, traffic[2])
		require.Positive(t, a.Totals.Sent)
	}
	out, err := pair.guest.hutong("job", "account", jobID, "--compare", file)
	require.NoError(t, err, out)
	require.Contains(t, out, "task intersect_rsa_1, attempt 2, from "+guestNode+" to "+hostNode)
	require.Contains(t, out, "task hetero_secureboost_1, attempt 1, from "+hostNode+" to "+guestNode)
	t.Log(out)
	out, err = pair.host.hutong("job", "account", jobID)
	require.NoError(t, err, out)
	t.Log(out)
}
