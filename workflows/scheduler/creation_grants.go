package scheduler

import (
	"fmt"
	"slices"

	"go.temporal.io/sdk/workflow"

	"hutong/bfia"
	"hutong/workflows"
)

// A job that no other precedes in the queue asks its parties to reserve as they create it, which saves each
// of them a workflow task. That is its first round of requests, if the queue then lets it reserve and all
// parties have answered. Otherwise it releases everything before it waits for anything, and asks again in
// the order of all schedulers. So two jobs that are created at once hold what the other needs for a moment
// only.

// reserveRequest returns the reservation request of the current generation.
func (j *job) reserveRequest() *bfia.ReserveRequest {
	return &bfia.ReserveRequest{JobID: j.Plan.JobID, Priority: j.Plan.Priority, Created: j.createdAt,
		Generation: j.generation}
}

// answeredAtCreation reports whether all parties that make reservations have answered the request that came
// with the creation, and none must approve the job first. A party that has answered a later request, of a
// workflow task that was lost, has not.
func (j *job) answeredAtCreation() bool {
	for _, node := range j.Nodes {
		accepted := j.accepted[node]
		if accepted.Reservations && (accepted.Grant == nil || accepted.Grant.Generation > j.generation) {
			return false
		}
	}

	return j.generation > 0 && len(j.unapproved()) == 0
}

// takeGrants takes the answers to the creation as those of a round of requests: see [job.reserve]. Only the
// first party that denied keeps the job in its queue.
func (j *job) takeGrants(ctx workflow.Context) (denied, reason string, quota bool) {
	var asked []string
	for _, node := range j.Nodes {
		grant := j.accepted[node].Grant
		switch {
		case grant == nil:
			continue
		case grant.State.Terminal():
			j.finish(workflows.OutcomeStopped, workflows.StoppedBy(node))

			return "", "", false
		case !grant.Granted && denied == "":
			denied, reason, quota = node, denial(*grant), grant.Quota
		case grant.Parallelism > 0:
			j.parallelism[node] = grant.Parallelism
		}
		asked = append(asked, node)
	}
	j.forgetGrants()
	if denied == "" {
		return "", "", false
	}

	j.deniedBy = denied
	j.release(ctx, slices.DeleteFunc(asked, func(node string) bool { return node == denied }))

	return denied, reason, quota
}

// denial returns the reason of a denial, with the position in the party's queue.
func denial(grant bfia.Grant) string {
	if grant.Total > 1 {
		return grant.Reason + fmt.Sprintf(" (position %d of %d there)", grant.Position, grant.Total)
	}

	return grant.Reason
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
