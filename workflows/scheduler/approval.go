package scheduler

import (
	"slices"

	"go.temporal.io/sdk/workflow"

	"hutong/bfia"
	"hutong/workflows"
)

// awaitApprovals waits without limit until the parties whose answer to the creation was PENDING have approved
// the job. All others approved it by accepting it. One rejection ends the job.
func (j *job) awaitApprovals(ctx workflow.Context) {
	for nodes := j.unapproved(); len(nodes) > 0 && !j.ending(); nodes = j.unapproved() {
		for _, node := range nodes {
			j.waits.Begin(ctx, "approval of "+node,
				bfia.WaitForApproval(j.Plan.JobID, node, workflow.Now(ctx)))
		}
		_ = workflow.Await(ctx, func() bool { return j.ending() || len(j.unapproved()) < len(nodes) })
		for _, node := range nodes {
			if j.ending() || !slices.Contains(j.unapproved(), node) {
				j.waits.End("approval of " + node)
			}
		}
	}
	if !j.ending() {
		j.state = j.state.Next(bfia.JobReady) // recorded when the job is enqueued
	}
}

func (j *job) unapproved() (nodes []string) {
	for _, node := range j.Nodes {
		if j.accepted[node].State == bfia.JobPending && j.audits[node] != bfia.JobReady {
			nodes = append(nodes, node)
		}
	}

	return nodes
}

// receiveAudits receives approvals and rejections. After all have approved, it ignores them.
func (j *job) receiveAudits(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, workflows.SignalAudit)
	for {
		var a workflows.Audit
		if !ch.Receive(ctx, &a) {
			return
		}
		if j.state != bfia.JobPending || j.ending() || !slices.Contains(j.Nodes, a.Node) {
			j.logger.Info("ignored an approval or rejection",
				"from", a.Node, "status", a.Status, "state", j.state)

			continue
		}

		j.audits[a.Node] = a.Status
		if a.Status == bfia.JobRejected {
			j.finish(workflows.OutcomeRejected, a.Rejection())
		}
	}
}
