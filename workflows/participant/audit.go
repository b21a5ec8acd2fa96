package participant

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/workflows"
)

// audit takes the word of someone of this party: READY approves the job, REJECTED ends it. It answers when that is
// recorded. The same word again changes nothing.
func (p *job) audit(ctx workflow.Context, a workflows.Audit) error {
	_ = workflow.Await(ctx, func() bool { return p.created })
	switch {
	case p.decision.Status == a.Status:
		_ = workflow.Await(ctx, func() bool { return p.decided })
		return nil
	case p.state == bfia.JobPending && p.stopped == "" && p.decision.Status == "":
	case a.Status == bfia.JobReady && p.stopped == "" && (p.state == bfia.JobReady || p.state == bfia.JobRunning):
		return nil // it needs no approval
	case p.decision.Status == bfia.JobRejected:
		return workflows.Refuse(bfia.CodeConflict, fmt.Sprintf("job_id: job %s is rejected already", p.Plan.JobID))
	case p.stopped != "":
		return workflows.Refuse(bfia.CodeConflict, fmt.Sprintf("job_id: job %s was ended by %s already", p.Plan.JobID, p.stopped))
	default:
		return workflows.Refuse(bfia.CodeConflict, fmt.Sprintf("job_id: job %s is %s and waits for no approval; it can be stopped", p.Plan.JobID, p.state))
	}
	p.decision = a
	if a.Status == bfia.JobRejected {
		p.failure = a.Rejection()
	}
	p.recordEnd(ctx, a.Status, p.failure)
	p.decided = true
	if p.stopped != "" && p.state != bfia.JobPending {
		return nil // it has ended otherwise meanwhile
	}
	p.state = a.Status
	_ = workflow.UpsertTypedSearchAttributes(ctx, workflows.AttributeState.ValueSet(string(p.state)))
	p.describe(ctx)
	if a.Status == bfia.JobRejected && p.stopped == "" {
		p.stopped = p.Node
	}
	return nil
}

// tellAudit tells the scheduler what was decided, for as long as that matters to it.
func (p *job) tellAudit(ctx workflow.Context) {
	p.active++
	defer func() { p.active-- }()
	over := func() bool { // the scheduler has heard of it, or goes another way
		return p.stopped != "" && p.stopped != p.Node || p.state == bfia.JobRunning || !p.Approval
	}
	_ = workflow.Await(ctx, func() bool { return p.decided || over() })
	if over() {
		return
	}
	commandCtx, cancel := workflow.WithCancel(ctx)
	defer cancel()
	f := workflows.SendCommand(commandCtx, "audit_confirm "+string(p.decision.Status), workflows.RunLimit, act.SendAudit,
		participant.SendAuditInput{Node: p.Scheduler, Audit: bfia.Audit{JobID: p.Plan.JobID, Status: p.decision.Status, Reason: p.decision.Reason}})
	_ = workflow.Await(ctx, func() bool { return f.IsReady() || over() })
	if !f.IsReady() {
		return
	}
	if err := f.Get(ctx, nil); err != nil {
		p.logger.Warn("the scheduler did not take the audit", "status", p.decision.Status, "reason", workflows.Reason(err))
	}
}

// endRejected ends a job that was rejected here or elsewhere: nothing of it ran.
func (p *job) endRejected(ctx workflow.Context) (workflows.Result, error) {
	_ = workflow.UpsertTypedSearchAttributes(ctx, workflows.AttributeState.ValueSet(workflows.OutcomeRejected))
	p.recordEnd(ctx, p.state, p.failure)
	workflows.SetFailureMemo(ctx, p.failure)
	workflow.SetCurrentDetails(ctx, workflows.EndDetails(workflows.OutcomeRejected, p.failure, p.Node, p.Plan.JobID))
	_ = workflow.Await(ctx, func() bool { return p.active == 0 })
	p.releaseSessions(ctx)
	return workflows.Result{State: p.state, Outcome: workflows.OutcomeRejected, Reason: p.failure.String()}, workflows.AwaitHandlers(ctx, nil)
}
