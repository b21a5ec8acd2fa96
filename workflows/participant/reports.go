package participant

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/fateflow"
	"hutong/workflows"
)

// report tells the scheduler a part's end.
func (p *job) report(ctx workflow.Context, t *task, part *taskPart) {
	id := part.reportID(t, part.state)
	var told workflow.Future
	if p.FateFlow {
		if part.begun != nil {
			_ = part.begun.Get(ctx, nil) // FATE-Flow lets nothing end of which it has not heard that it runs
		}
		told = workflows.SendLocalFirst(ctx, id, p.Settings.GiveUpAfter, act.SendFateReport,
			participant.SendFateReportInput{Node: p.Scheduler, Report: p.fateReport(t, part, part.state)})
	} else {
		shared := part.failure.ForPartners(p.Settings.FailureSharing)
		told = workflows.SendLocalFirst(ctx, id, p.Settings.GiveUpAfter, act.SendCallback,
			participant.SendCallbackInput{Node: p.Scheduler, Report: bfia.TaskReport{
				TaskID: part.taskID, Status: part.state, Role: part.part.Role, Reason: shared.Text(), Failure: shared}})
	}
	if err := told.Get(ctx, nil); err != nil {
		// It will ask: polling is the safety net.
		p.logger.Warn("the scheduler did not take a callback", "task_id", part.taskID, "role", part.part.Self(), "reason", workflows.Reason(err))
	}
}

func (part *taskPart) reportID(t *task, state bfia.TaskState) string {
	id := fmt.Sprintf("report %s %s of %s", part.part.Self(), state, t.plan.Name)
	if part.attempt > 1 {
		id += fmt.Sprintf(" (attempt %d)", part.attempt)
	}
	return id
}

// tellBegin tells a FATE-Flow that speaks its own protocol that parts run; others know it.
func (p *job) tellBegin(ctx workflow.Context, t *task, parts []*taskPart) {
	if !p.FateFlow {
		return
	}
	for _, part := range parts {
		part.begun = workflows.SendLocalFirst(ctx, part.reportID(t, bfia.TaskRunning), p.Settings.GiveUpAfter, act.SendFateReport,
			participant.SendFateReportInput{Node: p.Scheduler, Report: p.fateReport(t, part, bfia.TaskRunning)})
	}
}

// resume takes over what has become of a part before the job ended.
func (p *job) resume(b workflows.PartBefore) {
	t, ok := p.tasks[b.Task]
	if !ok || b.Attempt == 0 {
		return
	}
	t.id, t.attempt = b.TaskID, b.Attempt
	for _, part := range t.parts {
		if part.part.Self() == b.Part {
			part.state, part.taskID, part.attempt, part.failure = b.State, b.TaskID, b.Attempt, b.Failure
		}
	}
}

func (p *job) fateReport(t *task, part *taskPart, state bfia.TaskState) fateflow.Report {
	return fateflow.NewReport(p.Plan.JobID, t.plan.Name, part.attempt, part.part, state)
}
