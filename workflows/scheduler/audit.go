package scheduler

import (
	"slices"
	"strings"

	"go.temporal.io/sdk/workflow"

	"hutong/bfia"
	"hutong/workflows"
)

// awaitApprovals waits, for as long as it takes, until those parties have approved the job that said that they must. The
// acceptance of all others is their approval. One rejection is enough to end it.
func (j *job) awaitApprovals(ctx workflow.Context) {
	for nodes := j.unapproved(); len(nodes) > 0 && !j.ending(); nodes = j.unapproved() {
		workflow.SetCurrentDetails(ctx, "Waiting for the approval of "+strings.Join(nodes, ", "))
		_ = workflow.Await(ctx, func() bool { return j.ending() || len(j.unapproved()) < len(nodes) })
	}
	if !j.ending() {
		j.state = j.state.Next(bfia.JobReady) // the queue records it
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

// receiveAudits takes the parties' approvals and rejections. What comes after all have approved changes nothing.
func (j *job) receiveAudits(ctx workflow.Context) {
	ch := workflow.GetSignalChannel(ctx, workflows.SignalAudit)
	for {
		var a workflows.Audit
		if !ch.Receive(ctx, &a) {
			return
		}
		if j.state != bfia.JobPending || j.ending() || !slices.Contains(j.Nodes, a.Node) {
			j.logger.Info("audit changes nothing", "from", a.Node, "status", a.Status, "state", j.state)
			continue
		}
		j.audits[a.Node] = a.Status
		if a.Status == bfia.JobRejected {
			j.finish(workflows.OutcomeRejected, a.Rejection())
		}
	}
}
