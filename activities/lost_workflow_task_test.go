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

// A workflow task records that a task runs, and is lost before it completes.
// Temporal repeats it with the job's stop in front, so the workflow ends without knowing of the task's start.
// The rows of the task must not stay RUNNING for ever.
func TestRowsOfLostWorkflowTask(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"print"}, []string{"print"})
		ctx, at := t.Context(), time.Now()
		h.claimTaskA() // the party has claimed a runner for task a
		require.NoError(t, h.scheduler.RecordScheduleJob(ctx,
			scheduler.RecordScheduleJobInput{Plan: h.plan, Nodes: []string{"A", "B"}, At: at}))
		running := scheduler.TaskProgress{TaskID: bfia.TaskID(jobID, "a"), Name: "a", State: bfia.TaskRunning,
			Parts: []scheduler.PartProgress{{Part: guestA, State: bfia.TaskRunning},
				{Part: hostB, State: bfia.TaskRunning}}}
		_, err := h.scheduler.RecordProgress(ctx,
			scheduler.Progress{JobID: jobID, State: bfia.JobRunning, Tasks: []scheduler.TaskProgress{running},
				At: at})
		require.NoError(t, err)

		for range 2 {
			_, err = h.scheduler.RecordProgress(ctx, scheduler.Progress{JobID: jobID, State: bfia.JobFinished,
				Failure: &bfia.Failure{Kind: bfia.FailedStopped, By: "B"}, At: at})
			require.NoError(t, err)
			_, err = h.participant.ReleaseReservation(ctx,
				participant.ReleaseReservationInput{JobID: jobID, At: at, Ended: "stopped by B"})
			require.NoError(t, err)
		}
		tasks, err := h.db.ScheduleTasks(ctx, jobID)
		require.NoError(t, err)
		require.Equal(t, []bfia.TaskState{bfia.TaskFailed, bfia.TaskReady},
			[]bfia.TaskState{tasks[0].State, tasks[1].State})
		parts, err := h.db.ScheduleParts(ctx, jobID)
		require.NoError(t, err)
		for _, p := range parts {
			if p.TaskID == tasks[0].TaskID {
				require.Equal(t, bfia.TaskFailed, p.State)
				require.Equal(t, &bfia.Failure{Kind: bfia.FailedStopped,
					Message: "the job was stopped: stopped by B"}, p.Failure)
			} else {
				require.Equal(t, bfia.TaskReady, p.State)
			}
		}
		require.Equal(t, bfia.TaskFailed, h.taskRow("a").State)
		require.Equal(t, "stopped by B", h.taskRow("a").Reason)
		require.Equal(t, bfia.TaskReady, h.taskRow("b").State)
		slots, err := h.db.ReservedSlots(ctx, jobID)
		require.NoError(t, err)
		require.Empty(t, slots)
	})
}

// Releasing a reservation while the job continues changes nothing of its tasks.
func TestReleaseKeepsTasksRunning(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"print"}, []string{"print"})
		h.claimTaskA()
		_, err := h.participant.ReleaseReservation(t.Context(),
			participant.ReleaseReservationInput{JobID: jobID, At: time.Now()})
		require.NoError(t, err)
		require.Equal(t, bfia.TaskRunning, h.taskRow("a").State)
	})
}

// A workflow task records that a job runs, and is lost before it completes. Its repetition enqueues the job
// again. That must not fail the job, which proceeds, but a job that has ended stays out of the queue.
func TestEnqueueAfterLostWorkflowTask(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"print"}, []string{"print"})
		ctx, at := t.Context(), time.Now()
		require.NoError(t, h.scheduler.RecordScheduleJob(ctx,
			scheduler.RecordScheduleJobInput{Plan: h.plan, Nodes: []string{"A", "B"}, At: at}))
		enqueue := scheduler.EnqueueInput{JobID: jobID, At: at}
		state, err := h.scheduler.Enqueue(ctx, enqueue)
		require.NoError(t, err)
		require.True(t, state.MayReserve)
		_, err = h.scheduler.RecordProgress(ctx,
			scheduler.Progress{JobID: jobID, State: bfia.JobRunning, At: at})
		require.NoError(t, err)

		state, err = h.scheduler.Enqueue(ctx, enqueue)
		require.NoError(t, err)
		require.True(t, state.MayReserve)

		_, err = h.scheduler.RecordProgress(ctx,
			scheduler.Progress{JobID: jobID, State: bfia.JobFinished, At: at})
		require.NoError(t, err)
		_, err = h.scheduler.Enqueue(ctx, enqueue)
		require.ErrorContains(t, err, "no longer waits for its start")
	})
}
