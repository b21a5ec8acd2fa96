package api

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
)

// A party's own users see all about its own parts. Partners see what it shares.
func TestExplanation(t *testing.T) {
	p := running(t, "j1")
	id := bfia.TaskID("j1", first)
	_, err := p.store.StartTask(t.Context(), "j1", first, id, 1, time.Now())
	require.NoError(t, err)
	full := &bfia.Failure{Kind: bfia.FailedExit, NodeID: guest, Role: "guest.0", Task: first, ExitCode: 1,
		Message: "row 17 is odd", Log: []string{"secret row"}}
	key := store.TaskKey{JobID: "j1", Name: first, Role: "guest"}
	require.NoError(t, p.store.SetTaskFailure(t.Context(), key, id, full))
	require.NoError(t, p.store.EndTask(t.Context(), key, id, bfia.TaskFailed, full.Text(), time.Now()))
	shared := full.ForPartners(bfia.ShareKind)
	require.NoError(t, p.store.SetSchedulePartFailure(t.Context(), id, "guest", 0, shared))
	require.NoError(t, p.store.UpdateScheduleTasks(t.Context(),
		[]store.ScheduleTaskChange{{TaskID: id, State: bfia.TaskFailed,
			Parts: []store.SchedulePartChange{{Role: "guest", State: bfia.TaskFailed,
				Reason: shared.Text()}}}}, time.Now()))
	require.NoError(t, p.store.SetScheduleJobFailure(t.Context(), "j1", shared))
	require.NoError(t, p.store.UpdateScheduleJob(t.Context(), "j1", bfia.JobFinished, shared.String(),
		time.Now()))

	var own bfia.JobStatus
	p.good(get(bfia.PathPlatformStatusAll + "?job_id=j1")).into(&own)
	require.Equal(t, full.WithHint(guest, "j1"), own.Failure)
	require.Equal(t, full.String(), own.Reason)
	require.Equal(t, full.WithHint(guest, "j1"), own.Tasks[0].Parties[0].Failure)

	for _, c := range []call{get(bfia.PathStatusAll + "?job_id=j1"),
		post(bfia.PathTaskPoll, bfia.TaskPoll{TaskID: id})} {
		r := p.good(c.from(guest))
		require.NotContains(t, string(r.Body), full.Message, "what partners may not know")
		require.NotContains(t, string(r.Body), "secret")
		require.Contains(t, string(r.Body), `"exit_code":1`)
	}
	p.server.Settings.FailureSharing = bfia.ShareLog
	require.Contains(t, string(p.good(post(bfia.PathTaskPoll, bfia.TaskPoll{TaskID: id}).from(guest)).Body),
		"secret row")
}

// The initiator of a job that another party schedules returns the scheduler's status. If the scheduler does
// not answer, it returns the status of its own parts.
func TestStatusOfSchedulerElsewhere(t *testing.T) {
	p := newParty(t).withProvider().withData()
	p.good(post(bfia.PathCreate, job(t, "j1")).from(host))
	var status bfia.JobStatus
	ask := get(bfia.PathPlatformStatusAll + "?job_id=j1")
	p.good(ask).into(&status)
	require.Equal(t, bfia.JobReady, status.State, "the scheduler has no route")

	answer, err := json.Marshal(map[string]any{"code": 0, "msg": "success",
		"data": bfia.JobStatus{JobID: "j1", State: bfia.JobRunning,
			Tasks: []bfia.TaskStatus{{TaskID: "t1", Name: first, State: bfia.TaskFailed,
				Parties: []bfia.PartStatus{
					{NodeID: host, Role: "host", State: bfia.TaskFailed,
						Failure: &bfia.Failure{Kind: bfia.FailedMemory, NodeID: host, Role: "host.0",
							Task: first}}}}}}})
	require.NoError(t, err)
	p.answering(host, 200, string(answer))
	p.good(ask).into(&status)
	require.Equal(t, bfia.JobRunning, status.State)
	require.Equal(t, host, status.Scheduler)
	require.Equal(t, map[string]bfia.TaskState{"t1": bfia.TaskFailed}, status.Status)
	require.Equal(t, bfia.FailedMemory, status.Tasks[0].Parties[0].Failure.Kind)

	// FATE-Flow's
	p.answering(host, 200,
		`{"code":0,"msg":"success","data":{"job_status":"RUNNING","status":{"`+first+`":"RUNNING"}}}`)
	p.good(ask).into(&status)
	require.Equal(t, bfia.JobReady, status.State)
	require.Equal(t, first, status.Tasks[0].Name)
}
