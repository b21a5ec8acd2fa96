package system

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/party"
	"hutong/store/storetest"
	"hutong/test/testenv/relay"
	"hutong/workflows"
)

// databaseBehind puts a party's database on a PostgreSQL server of its own, behind a relay that can cut it
// off. direct is the address without the relay.
func databaseBehind(t *testing.T, cfg *party.Config) (front *relay.Relay, back func(), direct party.Secret) {
	t.Helper()
	server := storetest.StartServer(t, nil)
	front = relay.New(t, "127.0.0.1", "unix", server.Socket())
	cfg.Database.URL = party.Secret("postgres://postgres@" + front.Address() + "/postgres?sslmode=disable")
	return front, func() { front.Lead("unix", server.Socket()) }, party.Secret(server.Address())
}

// The machine of the host's runner is cut off from the database, which the host's other processes reach. The
// runner has the job's workflow show and record what it waits for, so the status of both parties says it.
func testWaitForDatabaseOfRunner(t *testing.T) {
	var front *relay.Relay
	var back func()
	var direct party.Secret
	pair := newPartyPair(t, func(c *party.Config) {
		c.Jobs.PollAfter, c.Jobs.PollEvery = time.Second, time.Second
		if c.NodeID == hostNode {
			front, back, direct = databaseBehind(t, c)
		}
	})
	ofRunner := *pair.host.cfg
	pair.host.cfg.Database.URL = direct
	pair.guest.start()
	pair.host.startAs(party.Roles{API: true, Control: true, Transport: true})
	runner := *pair.host
	runner.cfg = &ofRunner
	runner.startAs(party.Roles{Runner: true})
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.register(sleepProvider(t), bfia.DeviceProcess)
	}

	front.Cut()
	jobID := pair.guest.submit(sleepFor(t, time.Hour, nil))
	w := expectedWait{kind: bfia.WaitsForDatabase, node: hostNode, words: "the database does not answer",
		workflow: workflows.ParticipantJobID(jobID)}
	pair.host.requireShownWait(jobID, w)
	w.words = "comes from the job's workflow in Temporal"
	pair.host.requireShownWait(jobID, w)
	atGuest := w
	atGuest.words, atGuest.workflow = "waits for the database", workflows.SchedulerJobID(jobID)
	pair.guest.requireShownWait(jobID, atGuest)

	back()
	pair.host.requireNoWait(jobID, w, isTaskRunning("s1"))
	pair.guest.requireNoWait(jobID, atGuest, isTaskRunning("s1"))
	pair.endJob(jobID)
}

// The host's database is away for all its processes when a container ends. Temporal shows what the part waits
// for, the host's API says where to look, and the guest's status says that the host does not answer.
func testWaitForDatabaseOfParty(t *testing.T) {
	var front *relay.Relay
	var back func()
	pair := newPartyPair(t, func(c *party.Config) {
		c.Jobs.PollAfter, c.Jobs.PollEvery = time.Second, time.Second
		allowShell(c)
		if c.NodeID == hostNode {
			front, back, _ = databaseBehind(t, c)
		}
	})
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.start()
		n.registerShell("Run", "first", "out", "model")
	}
	gate := filepath.Join(t.TempDir(), "gate")
	jobID := pair.guest.submit(shellJob(t, map[string]string{"a": gate}))
	db := pair.host.database()
	require.Eventually(t, func() bool { // its container has started
		tasks, err := db.Tasks(t.Context(), jobID)
		return err == nil && tasks[0].ContainerID != "" && tasks[0].State == bfia.TaskRunning
	}, time.Minute, 50*time.Millisecond)
	front.Cut()
	require.NoError(t, os.WriteFile(gate, nil, 0o600))

	atHost := expectedWait{kind: bfia.WaitsForDatabase, node: hostNode,
		words: "the database does not answer", workflow: workflows.ParticipantJobID(jobID)}
	pair.host.requireWaitInTemporal(atHost)
	text, err := pair.host.hutong("job", "status", jobID)
	require.Error(t, err)
	require.Contains(t, text, "the database does not answer; until it does, Temporal's UI of "+hostNode)
	require.Contains(t, text, workflows.ParticipantJobID(jobID))
	text, err = pair.host.hutong("job", "list")
	require.Error(t, err)
	require.Contains(t, text, "Temporal's UI of "+hostNode)
	atGuest := expectedWait{kind: bfia.WaitsForPartner, node: hostNode,
		words: hostNode + " does not say what its part does: ", workflow: workflows.SchedulerJobID(jobID)}
	pair.guest.requireShownWait(jobID, atGuest)

	back()
	requireSuccess(t, pair.guest.awaitJob(jobID, 2*time.Minute, isFinished))
	pair.host.requireNoWait(jobID, atHost, isFinished)
	pair.guest.requireNoWait(jobID, atGuest, isFinished)
}
