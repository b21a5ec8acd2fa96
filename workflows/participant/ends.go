package participant

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/workflow"

	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/workflows"
)

// endPart ends a part: first in the party's rows, so that a poll reads the same, then at the scheduler.
func (j *job) endPart(
	ctx workflow.Context, t *task, part *taskPart, state bfia.TaskState, failure *bfia.Failure,
) {
	if part.state.Terminal() {
		return
	}

	if failure != nil {
		located := *failure
		located.NodeID, located.Role, located.Task = j.Node, part.part.Self(), t.plan.Name
		part.failure = &located
	}
	part.state = state
	j.describe(ctx)

	sent, err := j.recordEnd(ctx, t, part)
	if err != nil && state == bfia.TaskSuccess && part.run != nil && !part.run.IsReady() {
		// Its runner makes the outputs readable for the party once the container has ended.
		workflows.AwaitFor(ctx, exitWait, part.run.IsReady)
		sent, err = j.recordEnd(ctx, t, part)
	}
	if err != nil && state == bfia.TaskSuccess {
		// Nobody could read what it wrote, so it has not succeeded.
		part.state = bfia.TaskFailed
		part.failure = &bfia.Failure{Kind: bfia.FailedOutput, NodeID: j.Node, Role: part.part.Self(),
			Task: t.plan.Name, Message: workflows.Reason(err)}
		j.describe(ctx)
		sent, err = j.recordEnd(ctx, t, part)
	}
	if err != nil {
		j.logger.Error("failed to record the end of a task",
			"task_id", part.taskID, "role", part.part.Self(), "error", err)
	}
	j.reportEnd(ctx, t, part, sent)
}

// recordEnd writes the end of a part, and the outputs of one that succeeded. A job that merges these reports
// the end in the same activity, and recordEnd returns what became of the report. Otherwise it returns nil.
func (j *job) recordEnd(ctx workflow.Context, t *task, part *taskPart) (*participant.EndPartResult, error) {
	end := participant.RecordTaskEndInput{Key: j.key(part), Part: part.part, TaskID: part.taskID,
		State: part.state, Failure: part.failure, At: workflow.Now(ctx)}
	summary := fmt.Sprintf("record %s %s of %s", part.part.Self(), part.state, t.plan.Name)
	if !j.merged || j.FateFlow {
		return nil, workflows.Record(ctx, summary, act.RecordTaskEnd, end).Get(ctx, nil)
	}

	var sent participant.EndPartResult
	in := participant.EndPartInput{End: end, Callback: j.callback(part)}
	if err := workflows.Record(ctx, summary, act.EndPart, in).Get(ctx, &sent); err != nil {
		return nil, err
	}

	return &sent, nil
}

// endAtOnce records the job's end and releases what it held in one activity, if the job merges these and
// nothing of it runs. If it returns false, they are to be done one after the other. ended is why parts that
// were running have failed, see [participant.ReleaseReservationInput].
func (j *job) endAtOnce(ctx workflow.Context, outcome bfia.Outcome, failure *bfia.Failure, ended string,
) bool {
	if !j.merged || j.active > 0 || j.reservation.mutex.IsLocked() {
		return false
	}

	j.reservation.lock(ctx)
	defer j.reservation.mutex.Unlock()
	now := workflow.Now(ctx)
	in := participant.EndJobInput{
		State: participant.RecordJobStateInput{JobID: j.Plan.JobID, State: j.state, Outcome: outcome,
			Failure: failure, At: now},
		Release:  participant.ReleaseReservationInput{JobID: j.Plan.JobID, At: now, Ended: ended},
		Sessions: j.allSessions(),
	}
	var left participant.EndJobResult
	if err := workflows.Record(ctx, "end the job", act.EndJob, in).Get(ctx, &left); err != nil {
		j.logger.Error("failed to end the job at once", "error", err)

		return false
	}
	workflows.SetFailureMemo(ctx, failure)
	j.sendHints(ctx, left.Waiting)
	send := workflows.SendCommand // each was tried once
	if len(left.Waiting) > 0 {
		send = workflows.SendLocalFirst
	}
	j.releaseSessions(ctx, left.Sessions, send)
	_ = workflow.Await(ctx, func() bool { return j.active == 0 })

	return true
}

// allSessions returns the sessions of the job at the party's transport.
func (j *job) allSessions() []string {
	return append([]string{bfia.SessionID(j.Plan.JobID)}, j.sessions...)
}

// releaseSessions releases sessions at the party's transport by commands.
func (j *job) releaseSessions(ctx workflow.Context, sessions []string,
	send func(workflow.Context, string, time.Duration, any, any) workflow.Future) {
	var released []workflow.Future
	for i, session := range sessions {
		id := "release the session"
		if i > 0 {
			id += fmt.Sprintf(" (%d)", i+1)
		}
		released = append(released, send(ctx, id, time.Minute, act.ReleaseSession,
			participant.ReleaseSessionInput{Session: session}))
	}
	for _, f := range released {
		if err := f.Get(ctx, nil); err != nil {
			j.logger.Warn("failed to release a session; it expires when it has been idle",
				"reason", workflows.Reason(err))
		}
	}
}
