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

// callback returns the report of a part's end to a scheduler that speaks BFIA.
func (j *job) callback(part *taskPart) participant.SendCallbackInput {
	shared := part.failure.ForPartners(j.Settings.FailureSharing)

	return participant.SendCallbackInput{Node: j.Scheduler,
		Report: bfia.TaskReport{TaskID: part.taskID, Status: part.state, Role: part.part.Role,
			Reason: shared.Text(), Failure: shared}}
}

// reportEnd reports the end of a part to the scheduler, unless the activity that recorded it has done so. On
// a failure, the scheduler learns of the end by polling.
func (j *job) reportEnd(ctx workflow.Context, t *task, part *taskPart, tried *participant.EndPartResult) {
	send := workflows.SendLocalFirst
	if tried != nil {
		if tried.Refused != "" {
			j.warnUnreported(part, tried.Refused)

			return
		}
		if tried.Reported {
			j.silence.heard++

			return
		}
		send = workflows.SendCommand
	}

	var sent workflow.Future
	if j.FateFlow {
		if part.beginReport != nil {
			// FATE-Flow ignores the end of a part that it does not know to be running.
			_ = part.beginReport.Get(ctx, nil)
		}
		sent = j.reportToFateFlow(ctx, t, part, part.state)
	} else {
		id := part.reportID(t, part.state)
		sent = send(ctx, id, j.Settings.GiveUpAfter, act.SendCallback, j.callback(part))
	}
	if err := sent.Get(ctx, nil); err != nil {
		j.warnUnreported(part, workflows.Reason(err))

		return
	}
	j.silence.heard++
}

func (j *job) warnUnreported(part *taskPart, reason string) {
	j.logger.Warn("failed to send a callback to the scheduler",
		"task_id", part.taskID, "role", part.part.Self(), "reason", reason)
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
