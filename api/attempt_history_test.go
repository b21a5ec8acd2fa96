package api

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/store"
)

// TestAttemptHistory reads the attempts of a task: a party's own users see all about its own parts, and
// partners see what it shares.
func TestAttemptHistory(t *testing.T) {
	p := running(t, "j1")
	id, next := bfia.TaskID("j1", first), bfia.AttemptID("j1", first, 2)
	begun := time.Now().Add(-time.Minute)
	_, err := p.store.StartTask(t.Context(), "j1", first, id, 1, begun)
	require.NoError(t, err)
	key := store.TaskKey{JobID: "j1", Name: first, Role: "guest"}
	require.NoError(t, p.store.SetTaskWaiting(t.Context(), key, id, &bfia.Waiting{Kind: bfia.WaitsForImage,
		NodeID: guest, Message: "pulls secret.registry/psi", Since: begun}, false))
	require.NoError(t, p.store.SetTaskWaiting(t.Context(), key, id, nil, false))
	full := &bfia.Failure{Kind: bfia.FailedTemporary, NodeID: guest, Role: "guest.0", Task: first,
		ExitCode: 75, Message: "secret-licence does not answer"}
	require.NoError(t, p.store.SetTaskFailure(t.Context(), key, id, full))
	require.NoError(t, p.store.EndTask(t.Context(), key, id, bfia.TaskFailed, full.Text(),
		begun.Add(time.Second)))
	require.NoError(t, p.store.UpdateScheduleTasks(t.Context(), []store.ScheduleTaskChange{{TaskID: id,
		State: bfia.TaskRunning, Parts: []store.SchedulePartChange{{Role: "guest", State: bfia.TaskRunning},
			{Role: "host", State: bfia.TaskRunning}}}}, begun))
	shared := full.ForPartners(bfia.ShareKind)
	lost := store.LostAttempt{StartedAt: begun, EndedAt: begun.Add(2 * time.Second), Failure: shared}
	require.NoError(t, p.store.RestartScheduleTask(t.Context(), "j1", first, next, 2, lost, time.Now()))
	_, err = p.store.StartTask(t.Context(), "j1", first, next, 2, time.Now())
	require.NoError(t, err)

	var own bfia.JobStatus
	p.good(get(bfia.PathPlatformStatusAll + "?job_id=j1")).into(&own)
	require.Empty(t, own.Tasks[1].Attempts)
	require.Len(t, own.Tasks[0].Attempts, 1)
	a := own.Tasks[0].Attempts[0]
	require.Equal(t, 1, a.Attempt)
	require.Equal(t, id, a.TaskID)
	require.Equal(t, 2*time.Second, a.EndedAt.Sub(*a.StartedAt))
	require.Equal(t, full.WithHint(guest, "j1"), a.Failure)
	require.Len(t, a.Parties, 2)
	for _, part := range a.Parties {
		require.Equal(t, bfia.TaskFailed, part.State)
		require.Equal(t, part.Role == "guest", part.Failure != nil)
		if part.Role == "guest" {
			require.Equal(t, full.Text(), part.Reason)
			require.Equal(t, "pulls secret.registry/psi", part.Waits[0].Message)
		}
	}

	r := p.good(get(bfia.PathStatusAll + "?job_id=j1").from(guest))
	require.NotContains(t, string(r.Body), "secret", "what partners may not know")
	var theirs bfia.JobStatus
	r.into(&theirs)
	require.Equal(t, shared.Kind, theirs.Tasks[0].Attempts[0].Failure.Kind)
}

// TestAttemptHistoryAtAParticipant reads the attempts of a participant's own part. It learns from the
// scheduler why an attempt failed elsewhere; schedulers of older versions don't report it.
func TestAttemptHistoryAtAParticipant(t *testing.T) {
	p := newParty(t).withProvider().withData()
	p.good(post(bfia.PathCreate, job(t, "j1")).from(host))
	partner := &bfia.Failure{Kind: bfia.FailedPartner, NodeID: guest, Role: "guest.0", Task: first,
		ExitCode: 69}
	for attempt := 1; attempt <= 2; attempt++ {
		_, err := p.store.StartTask(t.Context(), "j1", first, bfia.AttemptID("j1", first, attempt), attempt,
			time.Now())
		require.NoError(t, err)
		if attempt == 1 {
			key, id := store.TaskKey{JobID: "j1", Name: first, Role: "guest"}, bfia.AttemptID("j1", first, 1)
			require.NoError(t, p.store.SetTaskFailure(t.Context(), key, id, partner))
			require.NoError(t, p.store.EndTask(t.Context(), key, id, bfia.TaskFailed, partner.Text(),
				time.Now()))
		}
	}
	own, err := p.server.ownStatus(t.Context(), "j1")
	require.NoError(t, err)
	require.Len(t, own.Tasks[0].Attempts, 1)
	a := own.Tasks[0].Attempts[0]
	require.Equal(t, bfia.FailedPartner, a.Failure.Kind)
	require.NotNil(t, a.EndedAt)
	for _, part := range a.Parties {
		require.Equal(t, guest, part.NodeID)
		require.Equal(t, bfia.TaskFailed, part.State)
	}

	cause := &bfia.Failure{Kind: bfia.FailedTemporary, NodeID: host, Role: "host.0", Task: first,
		ExitCode: 75, Message: "the licence server does not answer"}
	require.NoError(t, p.store.ExplainAttempt(t.Context(), bfia.TaskRef{JobID: "j1", TaskName: first,
		Attempt: 2, Lost: cause}))
	var status bfia.JobStatus
	p.good(get(bfia.PathPlatformStatusAll + "?job_id=j1")).into(&status)
	a = status.Tasks[0].Attempts[0]
	require.Equal(t, cause.WithHint(guest, "j1"), a.Failure)
	for _, part := range a.Parties {
		require.Equal(t, part.Role == "guest", part.Failure != nil, "what the part itself says stays")
	}
}
