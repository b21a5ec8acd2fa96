package activities_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/activities/participant"
	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/store/storetest"
)

// A workflow's step writes that a task runs and is cut off before it counts; done anew, the job's stop is in it, and comes
// first: the workflow ends and knows nothing of the task's start. Its rows must not say for ever that it runs.
func TestRowsOfAStepThatDidNotCount(t *testing.T) {
	eachDevice(t, func(t *testing.T, d device) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"print"}, []string{"print"})
		ctx, at := t.Context(), time.Now()
		h.begin() // the party has claimed a host for task a
		require.NoError(t, h.jobs.RecordScheduleJob(ctx, scheduler.RecordScheduleJobInput{Plan: h.plan, Nodes: []string{"A", "B"}, At: at}))
		running := scheduler.TaskProgress{TaskID: bfia.TaskID(jobID, "a"), Name: "a", State: bfia.TaskRunning,
			Parts: []scheduler.PartProgress{{Part: guestA, State: bfia.TaskRunning}, {Part: hostB, State: bfia.TaskRunning}}}
		_, err := h.jobs.RecordProgress(ctx, scheduler.Progress{JobID: jobID, State: bfia.JobRunning, Tasks: []scheduler.TaskProgress{running}, At: at})
		require.NoError(t, err)

		for range 2 {
			_, err = h.jobs.RecordProgress(ctx, scheduler.Progress{JobID: jobID, State: bfia.JobFinished,
				Failure: &bfia.Failure{Kind: bfia.FailedStopped, By: "B"}, At: at})
			require.NoError(t, err)
			_, err = h.parts.ReleaseReservation(ctx, participant.ReleaseReservationInput{JobID: jobID, At: at, Ended: "stopped by B"})
			require.NoError(t, err)
		}
		tasks, err := h.db.ScheduleTasks(ctx, jobID)
		require.NoError(t, err)
		require.Equal(t, []bfia.TaskState{bfia.TaskFailed, bfia.TaskReady}, []bfia.TaskState{tasks[0].State, tasks[1].State})
		parts, err := h.db.ScheduleParts(ctx, jobID)
		require.NoError(t, err)
		for _, p := range parts {
			if p.TaskID == tasks[0].TaskID {
				require.Equal(t, bfia.TaskFailed, p.State)
				require.Equal(t, &bfia.Failure{Kind: bfia.FailedStopped, Message: "the job was stopped: stopped by B"}, p.Failure)
			} else {
				require.Equal(t, bfia.TaskReady, p.State)
			}
		}
		require.Equal(t, bfia.TaskFailed, h.row("a").State)
		require.Equal(t, "stopped by B", h.row("a").Reason)
		require.Equal(t, bfia.TaskReady, h.row("b").State)
		seats, err := h.db.ReservedSlots(ctx, jobID)
		require.NoError(t, err)
		require.Empty(t, seats)
	})
}

// Room that is given back while the job goes on changes nothing of its tasks.
func TestReleaseLeavesTasksAlone(t *testing.T) {
	eachDevice(t, func(t *testing.T, d device) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"print"}, []string{"print"})
		h.begin()
		_, err := h.parts.ReleaseReservation(t.Context(), participant.ReleaseReservationInput{JobID: jobID, At: time.Now()})
		require.NoError(t, err)
		require.Equal(t, bfia.TaskRunning, h.row("a").State)
	})
}
