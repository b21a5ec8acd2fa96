package scheduler

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/workflows"
)

const (
	// reserveLimit bounds the retries of a reservation request, before the job waits for the party.
	reserveLimit = 10 * time.Second
	// holdGrace is how long a job keeps its reservations at other parties while it waits at the head of one
	// party's queue. A job that ends releases its reservations at its parties a moment apart. The next job is
	// notified by the first party that releases, while the second party could still deny it. Holding cannot
	// deadlock, since all schedulers ask the parties in the same order.
	holdGrace = 500 * time.Millisecond
)

// queueWait is the key of the wait in the queue.
const queueWait = "queue"

// queueing is the state of a job that is queued.
type queueing struct {
	queueChanged bool                 // the job must look at the queue before its next poll
	notifying    int                  // signals to other jobs that are under way
	generation   int                  // the fencing token of the last reservation requests
	deniedBy     string               // the party that denied the last one
	silentSince  map[string]time.Time // parties that do not answer
	parallelism  map[string]int       // granted, by node
	releasing    int                  // releases that a party has not answered
	polls        int                  // of the queue
	pollWait     time.Duration        // the interval before the next one
}

// queue waits until the job may leave the queue of this scheduler, and has its reservations: at all parties
// or at none. It returns true if the job waits on and must continue as new.
func (j *job) queue(ctx workflow.Context) (again bool) {
	if again = j.awaitTurn(ctx); !again {
		j.waits.End(queueWait)
	}

	return again
}

func (j *job) awaitTurn(ctx workflow.Context) (again bool) {
	for ; !j.ending(); j.pollWait, j.polls = workflows.NextPoll(j.pollWait, j.polls), j.polls+1 {
		if j.mustContinueAsNew(ctx) {
			return true
		}
		j.queueChanged = false
		var state scheduler.QueueState
		if err := workflows.Record(ctx, "enqueue", act.Enqueue,
			scheduler.EnqueueInput{JobID: j.Plan.JobID, At: workflow.Now(ctx)}).Get(ctx, &state); err != nil {
			j.finish(workflows.OutcomeFailed, &bfia.Failure{Kind: bfia.FailedInternal,
				Message: "failed to enqueue the job: " + workflows.Reason(err)})

			return false
		}
		if j.deniedBy == "" {
			j.deniedBy = state.WaitingAt
		}
		if !state.MayReserve { // others are before it
			j.releaseFromCreation(ctx)
		}

		switch {
		case state.MayReserve:
			denied, reason, quota := j.reserve(ctx)
			if denied == "" {
				return false
			}
			state.Reason = denied + ": " + reason
			j.requeue(ctx, denied, reason, quota)
			if !j.silentSince[denied].IsZero() {
				j.pollWait = workflows.FirstPoll // a party that was unreachable sends no hint when it is back
			}
		case j.deniedBy != "" && state.OnlyCandidatesAhead:
			// It keeps its position at that party, but not for long: nobody notifies it once the jobs that
			// reserve now have started.
			j.pollWait = workflows.FirstPoll
		case j.deniedBy != "":
			// The party must not hold resources for a job that could not use them.
			j.release(ctx, []string{j.deniedBy})
			j.deniedBy = ""
		}

		j.waits.Begin(ctx, queueWait, bfia.Waiting{Kind: bfia.WaitsForQueue, NodeID: j.deniedBy,
			Message: "waits in the queue: " + state.Reason})
		j.describe(ctx)
		pause := max(j.pollWait, state.Poll)
		if workflows.AwaitFor(ctx, pause, func() bool { return j.queueChanged || j.ending() }) {
			j.pollWait = workflows.FirstPoll / 2 // doubled before the next wait
		}
	}

	return false
}

// mustContinueAsNew reports whether the history of a job that waits is long enough, and nothing is under way
// that only this run of the workflow knows. A job may wait for months.
func (j *job) mustContinueAsNew(ctx workflow.Context) bool {
	if !workflow.GetInfo(ctx).GetContinueAsNewSuggested() || !workflows.MayContinueAsNew(ctx) {
		return false
	}
	workflows.DrainSignals(ctx) // the next run does not get those that have arrived

	return !j.ending() && j.notifying == 0 && j.releasing == 0 && j.unwritten.empty() && j.waits.Settled() &&
		workflow.AllHandlersFinished(ctx)
}

// continueAsNew returns the error that makes the workflow continue with a new history.
func (j *job) continueAsNew(ctx workflow.Context) error {
	next := j.SchedulerJobInput
	next.Queued = &workflows.QueuedJob{CreatedAt: j.createdAt, Accepted: j.accepted, Generation: j.generation,
		DeniedBy: j.deniedBy, SilentSince: j.silentSince, Polls: j.polls, Poll: j.pollWait,
		Waits: j.waits.Save()}

	return workflow.NewContinueAsNewError(ctx, workflows.QueuedSchedulerJobType, next)
}

// restore sets what the workflow's run before this one has handed over.
func (j *job) restore(q *workflows.QueuedJob) {
	j.created, j.createdAt, j.state = true, q.CreatedAt, bfia.JobReady
	j.accepted = q.Accepted
	j.generation, j.deniedBy, j.polls, j.pollWait = q.Generation, q.DeniedBy, q.Polls, q.Poll
	if q.SilentSince != nil {
		j.silentSince = q.SilentSince
	}
	j.waits.Restore(q.Waits)
}

// requeue records that the job waits for a party, and notifies the jobs that may reserve instead.
func (j *job) requeue(ctx workflow.Context, denied, reason string, quota bool) {
	var next []string
	in := scheduler.RequeueInput{JobID: j.Plan.JobID, Node: denied, Reason: reason, Quota: quota,
		At: workflow.Now(ctx)}
	err := workflows.Record(ctx, "wait for resources at "+denied, act.Requeue, in).Get(ctx, &next)
	if err != nil {
		j.logger.Error("failed to record what the job waits for", "error", err)
	}
	j.notifyJobs(ctx, next)
}

// reserve asks the parties for reservations, one after the other. All schedulers ask in the same order, so no
// two jobs each hold what the other needs. At the first denial it releases what other parties have granted,
// and returns the party that denied, its reason, and whether that is a quota. It returns nothing if all have
// granted, or if the job ends.
func (j *job) reserve(ctx workflow.Context) (denied, reason string, quota bool) {
	if j.answeredAtCreation() {
		return j.takeGrants(ctx)
	}

	j.generation++
	ctx, cancel := workflow.WithCancel(ctx)
	defer cancel()

	var granted []string
	for _, node := range j.Nodes {
		if !j.accepted[node].Reservations {
			continue
		}

		workflow.SetCurrentDetails(ctx, "Reserving resources at "+node+"\n\n"+j.table())
		grant, err := j.reserveAt(ctx, node, len(granted) > 0)
		if j.ending() {
			return "", "", false // the job's end releases its reservations
		}
		if err = j.giveUpReserving(ctx, node, err); j.ending() {
			return "", "", false
		}

		switch {
		case err != nil:
			// The job must not hold reservations, nor block the queue, for as long as a party may be
			// unreachable.
			grant.Reason = "does not answer: " + workflows.Reason(err)
		case grant.State.Terminal():
			j.finish(workflows.OutcomeStopped, workflows.StoppedBy(node))

			return "", "", false
		case grant.Granted:
			granted = append(granted, node)
			if grant.Parallelism > 0 {
				j.parallelism[node] = grant.Parallelism
			}

			continue
		}

		// The job no longer waits at the party that denied it before, so it also withdraws its request there.
		toRelease := granted
		if j.deniedBy != "" && j.deniedBy != node && !slices.Contains(granted, j.deniedBy) {
			toRelease = append(toRelease, j.deniedBy)
		}
		j.deniedBy = node
		j.release(ctx, toRelease)

		return node, denial(grant), grant.Quota
	}

	return "", "", false
}

// giveUpReserving ends the job if a party has refused its request, or has been unreachable for too long. It
// returns err.
func (j *job) giveUpReserving(ctx workflow.Context, node string, err error) error {
	_, _, refused := workflows.RefusalCode(err)
	now := workflow.Now(ctx)
	switch {
	case err == nil:
		delete(j.silentSince, node)

		return nil
	case j.silentSince[node].IsZero():
		j.silentSince[node] = now
	}
	if refused || now.Sub(j.silentSince[node]) >= j.Settings.GiveUpAfter {
		failure := workflows.CommandFailure(node, "did not answer the reservation request", err)
		j.finish(workflows.OutcomeFailed, failure)
	}

	return err
}

// reserveAt asks a party for a reservation. If the job holds others and is the head of this party's queue, it
// waits for a hint of the party within [holdGrace], and asks again.
func (j *job) reserveAt(ctx workflow.Context, node string, holdsOthers bool) (grant bfia.Grant, err error) {
	var until time.Time
	adopted := false
	for {
		f := workflows.SendLocalFirst(workflows.WithoutWaits(ctx), "reserve at "+node, reserveLimit,
			act.SendReserve,
			scheduler.SendReserveInput{Node: node, Request: *j.reserveRequest()})
		_ = workflow.Await(ctx, func() bool { return f.IsReady() || j.ending() })
		if j.ending() {
			return grant, nil
		}

		grant = bfia.Grant{}
		err = f.Get(ctx, &grant)
		later := grant.Generation > j.generation && grant.Generation <= bfia.MaxGeneration
		if err == nil && later && !adopted {
			// The workflow task that used the later generation was lost before it completed.
			j.generation, adopted = grant.Generation, true

			continue
		}
		if err != nil || grant.Granted || grant.State.Terminal() || !holdsOthers || grant.Position != 1 {
			return grant, err
		}

		now := workflow.Now(ctx)
		if until.IsZero() {
			until = now.Add(holdGrace)
		}
		hinted := now.Before(until) &&
			workflows.AwaitFor(ctx, until.Sub(now), func() bool { return j.queueChanged || j.ending() })
		if !hinted || j.ending() {
			return grant, nil
		}
		j.queueChanged = false
	}
}

// release releases reservations, and withdraws the request where the job was denied. It waits a limited time
// for the parties: a release that arrives late changes nothing for a later generation.
func (j *job) release(ctx workflow.Context, nodes []string) {
	request := bfia.ReleaseRequest{JobID: j.Plan.JobID, Generation: j.generation}
	left := len(nodes)
	for _, node := range nodes {
		delete(j.parallelism, node)
		id := fmt.Sprintf("release at %s (%d)", node, j.generation)
		f := workflows.SendLocalFirst(workflows.WithoutWaits(ctx), id, j.Settings.GiveUpAfter,
			act.SendRelease,
			scheduler.SendReleaseInput{Node: node, Request: request})
		j.releasing++
		workflow.Go(ctx, func(ctx workflow.Context) {
			if err := f.Get(ctx, nil); err != nil {
				j.logger.Warn("failed to release a reservation; the job's end releases it",
					"party", node, "reason", workflows.Reason(err))
			}
			left--
			j.releasing--
		})
	}
	workflows.AwaitFor(ctx, reserveLimit, func() bool { return left == 0 || j.ending() })
}

// notifyJobs makes other queued jobs look at the queue.
func (j *job) notifyJobs(ctx workflow.Context, jobIDs []string) {
	for _, id := range jobIDs {
		if id == j.Plan.JobID {
			j.queueChanged = true

			continue
		}

		j.notifying++ // Temporal drops the signals of a workflow that has ended
		f := workflow.SignalExternalWorkflow(
			ctx, workflows.SchedulerJobID(id), "", workflows.SignalQueueChanged, nil)
		workflow.Go(ctx, func(ctx workflow.Context) {
			_ = f.Get(ctx, nil) // a job that has ended needs no signal
			j.notifying--
		})
	}
}

func (j *job) receiveQueueChanges(ctx workflow.Context) {
	for workflow.GetSignalChannel(ctx, workflows.SignalQueueChanged).Receive(ctx, nil) {
		j.queueChanged = true
	}
}

// setPriority handles an update of the priority of a queued job.
func (j *job) setPriority(ctx workflow.Context, priority int) error {
	ctx = workflows.Disconnect(ctx, nil)
	_ = workflow.Await(ctx, func() bool { return j.created })

	var next []string
	in := scheduler.SetPriorityInput{JobID: j.Plan.JobID, Priority: priority, At: workflow.Now(ctx)}
	summary := fmt.Sprintf("change the priority to %d", priority)
	if err := workflows.Record(ctx, summary, act.SetPriority, in).Get(ctx, &next); err != nil {
		return err
	}
	j.Plan.Priority = priority
	j.queueChanged = true // a party that denied it must learn the priority
	j.notifyJobs(ctx, next)

	return nil
}

// inFlight counts the tasks that run.
type inFlight struct {
	total  int
	byNode map[string]int
}

func (c *inFlight) add(t *task) {
	c.total++
	for _, node := range t.nodes {
		c.byNode[node]++
	}
}

func (c *inFlight) remove(t *task) {
	c.total--
	for _, node := range t.nodes {
		c.byNode[node]--
	}
}

// fits reports whether one more task may run, within the job's own limit and the parallelism that parties
// have granted.
func (j *job) fits(t *task) bool {
	_, limit := j.limitOf(t)

	return limit == 0
}

// limitOf returns the limit that keeps a task from starting now, and the party whose limit it is: "" for the
// job's own. It returns 0 if there is none.
func (j *job) limitOf(t *task) (node string, limit int) {
	if j.total >= j.Settings.TasksInFlight {
		return "", j.Settings.TasksInFlight
	}
	for _, node := range t.nodes {
		if limit := j.parallelism[node]; limit > 0 && j.byNode[node] >= limit {
			return node, limit
		}
	}

	return "", 0
}

// waitsForSlot returns why a task whose inputs exist does not start, or nil. The status derives the same from
// the rows.
func (j *job) waitsForSlot(t *task) *bfia.Waiting {
	if j.state != bfia.JobRunning || t.state != bfia.TaskReady || j.ending() || t.stopReason != "" {
		return nil
	}
	since := j.runningSince
	for _, d := range t.plan.DependsOn {
		up := j.byName[d]
		if up.state != bfia.TaskSuccess {
			return nil
		}
		if up.endedAt.After(since) {
			since = up.endedAt
		}
	}

	node, limit := j.limitOf(t)
	if limit == 0 {
		return nil
	}
	waiting := bfia.WaitForSlot(node, limit, since)

	return &waiting
}
