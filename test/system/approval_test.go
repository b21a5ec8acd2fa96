package system

import (
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/party"
)

// audit approves or rejects a job at a party.
func (n *testParty) audit(jobID string, status bfia.JobState, reason string) (bfia.Envelope, int) {
	n.t.Helper()
	body, err := json.Marshal(bfia.Audit{JobID: jobID, Status: status, Reason: reason})
	require.NoError(n.t, err)
	return n.request(http.MethodPost, bfia.PathPlatformAudit, body)
}

func hasState(state bfia.JobState) func(bfia.JobStatus) bool {
	return func(s bfia.JobStatus) bool { return s.State == state }
}

// TestApproval has a host that approves its jobs by hand. Nothing runs before the approval, and a rejected
// job is REJECTED at both parties. Both parties restart while a job waits for approval.
func TestApproval(t *testing.T) {
	t.Parallel()
	pair := newPartyPair(t, func(cfg *party.Config) {
		if cfg.NodeID == hostNode {
			cfg.Jobs.Approval = party.ApprovalManual
		}
	})
	stopGuest, stopHost := pair.guest.start(), pair.host.start()
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.register(sleepProvider(t), bfia.DeviceProcess)
	}
	document := sleepJob(t, 1, map[string]any{"s1": seconds(0)}, nil)
	approved, rejected := pair.guest.submit(document), pair.guest.submit(document)
	for _, id := range []string{approved, rejected} {
		require.Equal(t, bfia.JobPending, pair.guest.status(id).State)
		require.Equal(t, bfia.JobPending, pair.host.status(id).State)
		for _, n := range []*testParty{pair.guest, pair.host} {
			requireWait(t, n.awaitJob(id, time.Minute, isWaiting(bfia.WaitsForApproval)).Waiting,
				bfia.WaitsForApproval, hostNode, "hutong job approve "+id)
			requireWait(t, n.listed(id, url.Values{}).Waiting,
				bfia.WaitsForApproval, hostNode, "hutong job approve "+id)
		}
	}
	requireShown(t, pair.host, approved)
	// A scheduler that starts the job without the approval is refused.
	env := pair.guest.post(pair.host, bfia.PathStart, `{"job_id":"`+approved+`"}`)
	require.Equal(t, bfia.CodeConflict, env.Code, env.Text())

	stopGuest() // the scheduler is down while the host decides
	env, _ = pair.host.audit(approved, bfia.JobReady, "")
	require.True(t, env.OK(), env.Text())
	env, _ = pair.host.audit(rejected, bfia.JobRejected, "not this month")
	require.True(t, env.OK(), env.Text())
	require.Equal(t, bfia.JobReady, pair.host.status(approved).State)
	require.Equal(t, bfia.JobRejected, pair.host.status(rejected).State)
	stopHost()
	pair.host.start()
	pair.guest.start()

	requireSuccess(t, pair.guest.awaitJob(approved, time.Minute, isFinished))
	for _, n := range []*testParty{pair.guest, pair.host} {
		s := n.awaitJob(rejected, time.Minute, hasState(bfia.JobRejected))
		require.Equal(t, "rejected by "+hostNode+": not this month", s.Reason)
		for _, task := range s.Tasks {
			require.Equal(t, bfia.TaskReady, task.State)
		}
		// The participant's own row is REJECTED too, also at the party that schedules the job.
		db := n.database()
		require.Eventually(t, func() bool {
			row, err := db.Job(t.Context(), rejected)
			return err == nil && row.State == bfia.JobRejected
		}, time.Minute, 50*time.Millisecond, "at %s", n.cfg.NodeID)
	}
	env, status := pair.host.audit(approved, bfia.JobRejected, "")
	require.Equal(t, http.StatusConflict, status, env.Text())
	env, _ = pair.host.audit(rejected, bfia.JobRejected, "again")
	require.True(t, env.OK(), env.Text())
	env, status = pair.guest.as("bob").audit(rejected, bfia.JobReady, "")
	require.Equal(t, http.StatusConflict, status, env.Text())
	env, status = pair.guest.audit(rejected, bfia.JobReady, "")
	require.Equal(t, http.StatusForbidden, status, "who submitted the job: %s", env.Text())
}

// isWaiting reports whether a job waits for a kind of thing.
func isWaiting(kind bfia.WaitingKind) func(bfia.JobStatus) bool {
	return func(s bfia.JobStatus) bool {
		return slices.ContainsFunc(s.Waiting, func(w bfia.Waiting) bool { return w.Kind == kind })
	}
}

// requireWait checks that a job waits for one thing, with the party, the reason and a time.
func requireWait(t *testing.T, waits []bfia.Waiting, kind bfia.WaitingKind, node, text string) {
	t.Helper()
	require.Len(t, waits, 1)
	require.Equal(t, kind, waits[0].Kind)
	require.Equal(t, node, waits[0].NodeID)
	require.Contains(t, waits[0].Message, text)
	require.WithinDuration(t, time.Now(), waits[0].Since, time.Minute)
}

// requireShown checks what an approver sees of the job.
func requireShown(t *testing.T, n *testParty, jobID string) {
	t.Helper()
	var view bfia.JobView
	n.mustRequest(http.MethodGet, bfia.PathJobShow+"?job_id="+jobID, nil, &view)
	require.Equal(t, n.cfg.NodeID, view.Self)
	require.Len(t, view.Waiting, 1)
	require.Len(t, view.Tasks, 1)
	task := view.Tasks[0]
	require.Equal(t, "Sleep", task.Component)
	require.Equal(t, "test:1", task.Provider)
	require.Equal(t, string(bfia.DeviceProcess), task.Images[0].Device)
	require.NotEmpty(t, task.Images[0].Command)
	require.Len(t, task.Parts, 2)
	require.JSONEq(t, "0", string(task.Parts[0].Parameters["seconds"]))
	require.Equal(t, []bfia.OutputView{{Type: "dataset", Key: "out",
		Parties: []string{guestNode + " (guest.0)", hostNode + " (host.0)"}}}, task.Outputs)
	require.Contains(t, string(view.Document), `"componentName"`)
}
