package api

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/serviceerror"

	"hutong/bfia"
	"hutong/workflows"
)

// errGone is Temporal's error for a workflow that has ended.
var errGone = serviceerror.NewNotFound("workflow execution already completed")

// A party with manual approval reports that at creation, and starts nothing before the approval.
func TestApprovalByHand(t *testing.T) {
	p := newParty(t, func(c *Config) { c.Approval = true }).withProvider().withData()
	for range 2 {
		r := p.good(post(bfia.PathCreate, job(t, "j1")).from(guest))
		require.JSONEq(t, `{"job_status":"PENDING","callbacks":true,"attempts":true,"reservations":true}`,
			string(r.Data))
	}
	task := bfia.TaskRef{JobID: "j1", TaskID: bfia.TaskID("j1", first), TaskName: first}
	p.bad(post(bfia.PathStart, bfia.JobRef{JobID: "j1"}).from(guest), 200, bfia.CodeConflict,
		"j1 waits for an approval at "+guest)
	p.bad(post(bfia.PathTaskStart, task).from(guest), 200, bfia.CodeConflict, "waits for an approval")
	require.Empty(t, p.engine.takeSignals())

	p.bad(post(bfia.PathPlatformAudit, bfia.Audit{JobID: "nobody", Status: bfia.JobReady}), 404,
		bfia.CodeNotFound, "nobody")
	p.bad(post(bfia.PathPlatformAudit, bfia.Audit{JobID: "j1", Status: bfia.JobRunning}), 400,
		bfia.CodeBadRequest, `status: is "RUNNING", must be READY`)
	p.bad(post(bfia.PathPlatformAudit, bfia.Audit{Status: bfia.JobReady}), 400, bfia.CodeBadRequest,
		"job_id: is required")
	p.good(post(bfia.PathPlatformAudit, bfia.Audit{JobID: "j1", Status: bfia.JobRejected, Reason: "no"}))
	p.good(post(bfia.PathPlatformAudit, map[string]string{"job_id": "j1", "status": "APPROVED"}))
	id := workflows.ParticipantJobID("j1")
	require.Equal(t, []signal{
		{id, workflows.UpdateAudit, workflows.Audit{Node: guest, Status: bfia.JobRejected, Reason: "no"}},
		{id, workflows.UpdateAudit, workflows.Audit{Node: guest, Status: bfia.JobReady}},
	}, p.engine.takeSignals())

	p.engine.set(nil, errDown)
	p.bad(post(bfia.PathPlatformAudit, bfia.Audit{JobID: "j1", Status: bfia.JobReady}), 503,
		bfia.CodeUnavailable, "Temporal of")
	p.engine.set(errGone, nil) // the workflow has ended: what its row says is the answer
	require.NoError(t, p.store.UpdateJob(t.Context(), "j1", bfia.JobRejected, "rejected by "+guest,
		time.Now()))
	p.good(post(bfia.PathPlatformAudit, bfia.Audit{JobID: "j1", Status: bfia.JobRejected}))
	p.engine.set(errGone, nil)
	p.bad(post(bfia.PathPlatformAudit, bfia.Audit{JobID: "j1", Status: bfia.JobReady}), 409,
		bfia.CodeConflict, "is REJECTED")
}

func TestAuditConfirm(t *testing.T) {
	p := newParty(t).withProvider().withData()
	p.good(post(bfia.PathCreateAll, withHost(t, "j1")).from(guest))
	audit := func(status bfia.JobState) call {
		return post(bfia.PathAuditConfirm, bfia.Audit{JobID: "j1", Status: status, Reason: "words"})
	}
	p.good(audit(bfia.JobReady).from(host))
	p.good(audit(bfia.JobRejected).with("x_node_id", host))
	id := workflows.SchedulerJobID("j1")
	require.Equal(t, []signal{
		{id, workflows.SignalAudit, workflows.Audit{Node: host, Status: bfia.JobReady, Reason: "words"}},
		{id, workflows.SignalAudit, workflows.Audit{Node: host, Status: bfia.JobRejected, Reason: "words"}},
	}, p.engine.takeSignals())
	p.bad(audit(bfia.JobReady).unnamed(), 200, bfia.CodeForbidden, "this request proves none")
	p.bad(audit(bfia.JobReady).from("JG99"), 200, bfia.CodeNotFound,
		"knows no job j1 in which JG99 takes part")
	p.bad(audit(bfia.JobFinished).from(host), 200, bfia.CodeBadRequest, "status:")
	p.bad(post(bfia.PathAuditConfirm, bfia.Audit{JobID: "no", Status: bfia.JobReady}).from(host), 200,
		bfia.CodeNotFound, "knows no job no")

	require.NoError(t, p.store.UpdateScheduleJob(t.Context(), "j1", bfia.JobRunning, "", time.Now()))
	p.good(audit(bfia.JobReady).from(host)) // late, or again
	p.bad(audit(bfia.JobRejected).from(host), 200, bfia.CodeConflict, "is RUNNING; it can be stopped")
	require.Empty(t, p.engine.takeSignals())
}

// Kuscia's task/stop identifies the task by its id.
func TestTaskStop(t *testing.T) {
	p := running(t, "j1")
	id := bfia.TaskID("j1", first)
	stop := post(bfia.PathTaskStop, bfia.TaskStop{TaskID: id}).from(guest)
	p.bad(stop, 200, bfia.CodeNotFound, "knows no task "+id)
	_, err := p.store.StartTask(t.Context(), "j1", first, id, 1, time.Now())
	require.NoError(t, err)
	p.engine.takeSignals()
	p.good(stop)
	require.Equal(t, []signal{{workflows.ParticipantJobID("j1"), workflows.SignalStop,
		workflows.Stop{Task: first, By: guest}}}, p.engine.takeSignals())
	p.bad(post(bfia.PathTaskStop, bfia.TaskStop{TaskID: id}).from("JG99"), 200, bfia.CodeNotFound,
		"knows no task "+id)
}
