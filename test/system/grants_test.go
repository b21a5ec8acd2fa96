package system

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/party"
	"hutong/test/testenv"
)

// endGrant moves the end of a grant into the past.
func (n *testParty) endGrant(id string) {
	n.t.Helper()
	db := openSQLite(n.t, strings.TrimPrefix(n.cfg.Database.URL.Reveal(), "sqlite://"))
	then := time.Now().Add(-time.Minute).UTC().Format("2006-01-02 15:04:05.999999-07:00")
	ended, err := db.ExecContext(n.t.Context(), "UPDATE t_grant SET until = ? WHERE grant_id = ?", then, id)
	require.NoError(n.t, err)
	rows, err := ended.RowsAffected()
	require.NoError(n.t, err)
	require.EqualValues(n.t, 1, rows)
}

// TestGrants submits jobs to a partner that requires grants: with none, and with grants that are for other
// things, that have ended, are used up or revoked. Each refusal reaches the submitter and says what is
// missing and which command grants it.
func TestGrants(t *testing.T) {
	t.Parallel()
	dead := "https://" + testenv.FreeAddress(t)
	pair := startSleepPair(t, func(cfg *party.Config) {
		if cfg.NodeID == hostNode {
			cfg.Grants = party.GrantsRequired
		} else {
			cfg.Routes[attackerNode] = party.Route{URL: dead}
		}
	})
	pair.host.upload("host.csv", "bank", "train")
	pair.host.upload("host.csv", "bank", "test")
	document := func(dataset string) []byte {
		return sleepJob(t, 2, map[string]any{"s1": seconds(0), "s2": seconds(0)},
			map[string]map[string]any{"host": {"s1": map[string]any{"dataset_id": dataset}}})
	}
	refused := func(dataset string, words ...string) {
		t.Helper()
		jobID := bfia.NewJobID(time.Now(), 5)
		body := []byte(withJobID(t, document(dataset), jobID))
		env, status := pair.guest.request(http.MethodPost, bfia.PathPlatformCreateAll, body)
		require.Equal(t, http.StatusForbidden, status, env.Text())
		for _, w := range words {
			require.Contains(t, env.Text(), w)
		}
		var check bfia.JobCheck
		pair.guest.mustRequest(http.MethodPost, bfia.PathPlatformCheck, body, &check)
		for _, p := range check.Parties {
			require.Equal(t, p.NodeID == guestNode, *p.Accepts, p.Reason)
			if p.NodeID == hostNode {
				require.Contains(t, p.Reason, words[0], "job check says the same")
			}
		}
		requireNoRows(t, pair.host, jobID)
	}
	run := func(dataset string) string {
		t.Helper()
		jobID := pair.guest.submit(document(dataset))
		requireSuccess(t, pair.guest.awaitJob(jobID, time.Minute, isFinished))
		return jobID
	}
	add := func(args ...string) string {
		t.Helper()
		out := pair.host.mustCommand(append([]string{"grant", "add", "--partner", guestNode}, args...)...)
		_, id, found := strings.Cut(strings.TrimSpace(out), "hutong grant revoke ")
		require.True(t, found, out)
		return id
	}
	uses := func(id string) int {
		t.Helper()
		var grants []bfia.DataGrant
		require.NoError(t, json.Unmarshal([]byte(pair.host.mustCommand("grant", "list", "--json")), &grants))
		for _, g := range grants {
			if g.ID == id {
				return g.Used
			}
		}
		t.Fatalf("grant %s is not listed", id)
		return 0
	}

	refused("bank#train", "partner: "+guestNode+" has no grant at "+hostNode,
		"hutong grant add --partner "+guestNode+" --component test/Sleep --dataset 'bank#train'")
	// A partner without a grant does not learn which datasets exist.
	refused("bank#unknown", "partner: "+guestNode+" has no grant at "+hostNode)

	add("--component", "Other", "--dataset", "*")
	refused("bank#train", "component: "+guestNode+" has no grant for test/Sleep at "+hostNode)

	add("--component", "test:1/Sleep", "--dataset", "bank#te*")
	refused("bank#train", "dataset: "+guestNode+" has no grant for test/Sleep on dataset bank#train")
	testJob := run("bank#test")

	// Granted, but no dataset: the output of another job, and one that is not registered.
	short := add("--component", "Sleep", "--dataset", "*", "--until", "1h")
	output := bfia.OutputAddress(bfia.TaskID(testJob, "s1"), bfia.Part{Role: "host", NodeID: hostNode},
		bfia.Port{Type: "dataset", Key: "out"}).String()
	for dataset, words := range map[string]string{output: "belongs to job " + testJob,
		"bank#unknown": hostNode + ` has no dataset "bank#unknown"`} {
		env, _ := pair.guest.request(http.MethodPost, bfia.PathPlatformCreateAll, document(dataset))
		require.False(t, env.OK())
		require.Contains(t, env.Text(), words)
	}
	pair.host.endGrant(short)
	refused("bank#train", "grant: that of "+guestNode+" for test/Sleep on dataset bank#train at "+hostNode+
		" ended at ")

	// Twice: the two tasks of a job, and its repetition, count once.
	limited := add("--component", "test/Sleep", "--dataset", "bank#train", "--times", "2")
	jobID := bfia.NewJobID(time.Now(), 6)
	for range 2 {
		pair.guest.submit([]byte(withJobID(t, document("bank#train"), jobID)))
	}
	requireSuccess(t, pair.guest.awaitJob(jobID, time.Minute, isFinished))
	require.Equal(t, 1, uses(limited))

	// A job that the host accepts and another party does not, so that it never starts, does not count.
	undone := editJSON(t, document("bank#train"), func(f map[string]any) {
		f["config"].(map[string]any)["role"].(map[string]any)["host"] = []string{hostNode, attackerNode}
	})
	env, _ := pair.guest.request(http.MethodPost, bfia.PathPlatformCreateAll, undone)
	require.False(t, env.OK(), "the other party is down")
	require.Eventually(t, func() bool { return uses(limited) == 1 }, time.Minute, 200*time.Millisecond)

	run("bank#train")
	require.Equal(t, 2, uses(limited))
	refused("bank#train", "grant: that of "+guestNode, "was for 2 jobs, which have run")

	// Revoked between two jobs.
	unlimited := add("--component", "Sleep", "--dataset", "bank#*")
	run("bank#train")
	pair.host.mustCommand("grant", "revoke", unlimited)
	refused("bank#train", "grant: that of "+guestNode, "was revoked at ")

	// The host's own jobs need none, and the guest requires none.
	own := editJSON(t, document("bank#train"), func(f map[string]any) {
		f["config"].(map[string]any)["initiator"] = map[string]string{"role": "host", "node_id": hostNode}
	})
	requireSuccess(t, pair.host.awaitJob(pair.host.submit(own), time.Minute, isFinished))
}
