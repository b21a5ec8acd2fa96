package participant

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/fateflow"
	"hutong/workflows"
)

// reportBegin reports to a FATE-Flow that speaks its own protocol that parts run. Other schedulers know that
// already.
func (j *job) reportBegin(ctx workflow.Context, t *task, parts []*taskPart) {
	if !j.FateFlow {
		return
	}
	for _, part := range parts {
		part.beginReport = j.reportToFateFlow(ctx, t, part, bfia.TaskRunning)
	}
}

// reportEnd reports the end of a part to the scheduler. On a failure, the scheduler learns of the end by
// polling.
func (j *job) reportEnd(ctx workflow.Context, t *task, part *taskPart) {
	var sent workflow.Future
	if j.FateFlow {
		if part.beginReport != nil {
			// FATE-Flow ignores the end of a part that it does not know to be running.
			_ = part.beginReport.Get(ctx, nil)
		}
		sent = j.reportToFateFlow(ctx, t, part, part.state)
	} else {
		shared := part.failure.ForPartners(j.Settings.FailureSharing)
		report := bfia.TaskReport{TaskID: part.taskID, Status: part.state, Role: part.part.Role,
			Reason: shared.Text(), Failure: shared}
		id := part.reportID(t, part.state)
		sent = workflows.SendLocalFirst(ctx, id, j.Settings.GiveUpAfter, act.SendCallback,
			participant.SendCallbackInput{Node: j.Scheduler, Report: report})
	}
	if err := sent.Get(ctx, nil); err != nil {
		j.logger.Warn("failed to send a callback to the scheduler",
			"task_id", part.taskID, "role", part.part.Self(), "reason", workflows.Reason(err))

		return
	}
	j.silence.heard++
}

func (j *job) reportToFateFlow(ctx workflow.Context, t *task, part *taskPart, state bfia.TaskState,
) workflow.Future {
	report := fateflow.NewReport(j.Plan.JobID, t.plan.Name, part.attempt, part.part, state)

	return workflows.SendLocalFirst(ctx, part.reportID(t, state), j.Settings.GiveUpAfter, act.SendFateReport,
		participant.SendFateReportInput{Node: j.Scheduler, Report: report})
}

func (part *taskPart) reportID(t *task, state bfia.TaskState) string {
	id := fmt.Sprintf("report %s %s of %s", part.part.Self(), state, t.plan.Name)
	if part.attempt > 1 {
		id += fmt.Sprintf(" (attempt %d)", part.attempt)
	}

	return id
}
