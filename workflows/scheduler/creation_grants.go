package scheduler

import (
	"go.temporal.io/sdk/workflow"

	"hutong/bfia"
)

// A job that no other precedes in the queue asks its parties to reserve as they create it, which saves each
// of them a workflow task. The queue decides as for any other job. Unless all parties have granted, and the
// queue lets the job start, it releases what they reserved before it waits for anything, and then asks
// again, in the order of all schedulers. So two jobs that are created at once hold what the other needs for
// a moment only.

// reserveRequest returns the reservation request of the current generation.
func (j *job) reserveRequest() *bfia.ReserveRequest {
	return &bfia.ReserveRequest{JobID: j.Plan.JobID, Priority: j.Plan.Priority, Created: j.createdAt,
		Generation: j.generation}
}

// grantedAtCreation reports whether all parties that make reservations have granted theirs as they created
// the job, and none must approve it first.
func (j *job) grantedAtCreation() bool {
	for _, node := range j.Nodes {
		accepted := j.accepted[node]
		if accepted.Reservations && (accepted.Grant == nil || !accepted.Grant.Granted) {
			return false
		}
	}

	return len(j.unapproved()) == 0
}

// takeGrants makes the grants of the creation the job's reservations, if it still has them all.
func (j *job) takeGrants() bool {
	if !j.grantedAtCreation() {
		return false
	}
	for _, node := range j.Nodes {
		if grant := j.accepted[node].Grant; grant != nil && grant.Parallelism > 0 {
			j.parallelism[node] = grant.Parallelism
		}
	}
	j.forgetGrants()

	return true
}

// releaseFromCreation releases what parties have reserved as they created the job, and withdraws the requests
// that they have denied.
func (j *job) releaseFromCreation(ctx workflow.Context) {
	var nodes []string
	for _, node := range j.Nodes {
		if grant := j.accepted[node].Grant; grant != nil && !grant.State.Terminal() {
			nodes = append(nodes, node)
		}
	}
	j.forgetGrants()
	if len(nodes) > 0 && !j.ending() { // its end releases its reservations
		j.release(ctx, nodes)
	}
}

func (j *job) forgetGrants() {
	for _, node := range j.Nodes {
		accepted := j.accepted[node]
		accepted.Grant = nil
		j.accepted[node] = accepted
	}
}
