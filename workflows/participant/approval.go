package participant

import (
	"fmt"

	"go.temporal.io/sdk/workflow"

	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/workflows"
)

// audit applies the decision of an approver of this party: READY approves the job, REJECTED ends it. It
// returns once that is recorded. The same decision again has no effect.
func (j *job) audit(ctx workflow.Context, a workflows.Audit) error {
	ctx = workflows.Disconnect(ctx, nil)
	_ = workflow.Await(ctx, func() bool { return j.created })

	running := j.state == bfia.JobReady || j.state == bfia.JobRunning
	switch {
	case j.decision.Status == a.Status:
		_ = workflow.Await(ctx, func() bool { return j.decisionRecorded })

		return nil
	case j.state == bfia.JobPending && j.stoppedBy == "" && j.decision.Status == "":
		j.decide(ctx, a)

		return nil
	case a.Status == bfia.JobReady && j.stoppedBy == "" && running:
		return nil // it needs no approval
	case j.decision.Status == bfia.JobRejected:
		return workflows.Refuse(bfia.CodeConflict,
			fmt.Sprintf("job_id: job %s is already rejected", j.Plan.JobID))
	case j.stoppedBy != "":
		return workflows.Refuse(bfia.CodeConflict,
			fmt.Sprintf("job_id: job %s was already stopped by %s", j.Plan.JobID, j.stoppedBy))
	default:
		return workflows.Refuse(bfia.CodeConflict, fmt.Sprintf(
			"job_id: job %s is %s and does not wait for an approval; stop it instead", j.Plan.JobID, j.state))
	}
}

// decide records a decision and applies it.
func (j *job) decide(ctx workflow.Context, a workflows.Audit) {
	j.decision = a
	if a.Status == bfia.JobRejected {
		j.failure = a.Rejection()
	}
	j.recordState(ctx, a.Status, "", j.failure)
	j.decisionRecorded = true
	j.waits.End(approvalWait)
	if j.stoppedBy != "" && j.state != bfia.JobPending {
		return // rejected elsewhere meanwhile
	}

	j.state, j.readySince = a.Status, workflow.Now(ctx)
	_ = workflow.UpsertTypedSearchAttributes(ctx, workflows.AttributeState.ValueSet(string(j.state)))
	j.describe(ctx)
	if a.Status == bfia.JobRejected && j.stoppedBy == "" {
		j.stoppedBy = j.Node
	}
}

// reportDecision reports this party's decision to the scheduler. It stops retrying once the scheduler knows
// the decision or has ended the job.
func (j *job) reportDecision(ctx workflow.Context) {
	j.active++
	defer func() { j.active-- }()

	over := func() bool { // the scheduler knows the decision, or has ended the job
		return j.stoppedBy != "" && j.stoppedBy != j.Node || j.state == bfia.JobRunning || !j.Approval
	}
	_ = workflow.Await(ctx, func() bool { return j.decisionRecorded || over() })
	if over() {
		return
	}

	commandCtx, cancel := workflow.WithCancel(ctx)
	defer cancel()
	audit := bfia.Audit{JobID: j.Plan.JobID, Status: j.decision.Status, Reason: j.decision.Reason}
	id := "audit_confirm " + string(j.decision.Status)
	f := workflows.SendCommand(commandCtx, id, workflows.RunLimit, act.SendAudit,
		participant.SendAuditInput{Node: j.Scheduler, Audit: audit})
	_ = workflow.Await(ctx, func() bool { return f.IsReady() || over() })
	if !f.IsReady() {
		return
	}
	if err := f.Get(ctx, nil); err != nil {
		j.logger.Warn("failed to report the decision to the scheduler",
			"status", j.decision.Status, "reason", workflows.Reason(err))
	}
}
