package participant

import (
	"go.temporal.io/sdk/workflow"

	"hutong/bfia"
	"hutong/workflows"
)

// awaitStop waits until the job is stopped. It returns true if the job has not started, and must continue as
// new: a job may wait for months, and each reservation request of its scheduler is an update of its history.
func (j *job) awaitStop(ctx workflow.Context) (again bool) {
	for {
		_ = workflow.Await(ctx, func() bool { return j.stoppedBy != "" || j.mustContinueAsNew(ctx) })
		if j.stoppedBy == "" && !workflows.MayContinueAsNew(ctx) {
			_ = workflow.Await(ctx, func() bool { return j.stoppedBy != "" })
		}
		if j.stoppedBy != "" {
			return false
		}
		workflows.DrainSignals(ctx) // the next run does not get those that have arrived
		if j.stoppedBy == "" && j.mustContinueAsNew(ctx) {
			return true
		}
	}
}

// mustContinueAsNew reports whether the history of a job that is READY is long enough, and nothing is under
// way that only this run of the workflow knows.
func (j *job) mustContinueAsNew(ctx workflow.Context) bool {
	r := &j.reservation

	return workflow.GetInfo(ctx).GetContinueAsNewSuggested() &&
		j.state == bfia.JobReady && !r.granted && !r.mutex.IsLocked() && j.active == 0 &&
		!j.silence.asking && j.waits.Settled() && workflow.AllHandlersFinished(ctx)
}

// continueAsNew returns the error that makes the workflow continue with a new history.
func (j *job) continueAsNew(ctx workflow.Context) error {
	next := j.ParticipantJobInput
	next.Ready = &workflows.ReadyJob{CreatedAt: j.createdAt, ReadySince: j.readySince, Decision: j.decision,
		Generation: j.reservation.generation, Denied: j.reservation.denied,
		DeniedSince: j.reservation.deniedSince, Hints: j.reservation.hints,
		Asks: j.silence.asks, Ask: j.silence.ask, Unanswered: j.silence.unanswered, Waits: j.waits.Save()}

	return workflow.NewContinueAsNewError(ctx, workflows.ReadyParticipantJobType, next)
}

// restore sets what the workflow's run before this one has handed over.
func (j *job) restore(r *workflows.ReadyJob) {
	j.created, j.createdAt, j.state, j.readySince = true, r.CreatedAt, bfia.JobReady, r.ReadySince
	j.decision, j.decisionRecorded = r.Decision, r.Decision.Status != ""
	j.reservation.generation, j.reservation.hints = r.Generation, r.Hints
	j.reservation.denied, j.reservation.deniedSince = r.Denied, r.DeniedSince
	j.silence = silence{asks: r.Asks, ask: r.Ask, unanswered: r.Unanswered}
	j.waits.Restore(r.Waits)
}
