package scheduler

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/sdk/workflow"

	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/workflows"
)

// applyLimit is how long an application is tried before the job waits for the party.
const applyLimit = 10 * time.Second

// linger is how long a job that stands first at a party keeps what others have granted it: a job that ends gives back its
// room at one party a moment before the next, and who hears of the first would find the next one full. It may keep it, since
// all ask the parties in the same order: what it waits for is not held by one that waits for what it holds.
const linger = 500 * time.Millisecond

// queued is how it stands with a job before its start.
type queued struct {
	waits scheduler.QueueState
	woken bool // something has changed: it may have its turn
	// signals to other jobs that are under way.
	signals  int
	rounds   int                  // how often room was asked for
	deniedBy string               // the party that denied it at last
	silent   map[string]time.Time // since when a party does not answer
	copies   map[string]int
}

// queue waits until the job has its turn at this scheduler and the room that it needs at every party, all or none.
func (j *job) queue(ctx workflow.Context) {
	for wait, times := workflows.FirstPoll, 1; !j.ending(); wait, times = workflows.NextPoll(wait, times), times+1 {
		j.woken = false
		var turn scheduler.QueueState
		if err := workflows.Record(ctx, "enqueue", act.Enqueue,
			scheduler.EnqueueInput{JobID: j.Plan.JobID, At: workflow.Now(ctx)}).Get(ctx, &turn); err != nil {
			j.finish(workflows.OutcomeFailed, &bfia.Failure{Kind: bfia.FailedInternal, Message: "the job could not be queued: " + workflows.Reason(err)})
			return
		}
		if j.deniedBy == "" {
			j.deniedBy = turn.WaitingAt
		}
		if turn.MayReserve {
			denied, reason := j.apply(ctx)
			if denied == "" {
				return
			}
			turn.Reason = denied + ": " + reason
			var next []string
			if err := workflows.Record(ctx, "wait for resources at "+denied, act.Requeue, scheduler.RequeueInput{
				JobID: j.Plan.JobID, Node: denied, Reason: reason, At: workflow.Now(ctx)}).Get(ctx, &next); err != nil {
				j.logger.Error("what the job waits for is not recorded", "error", err)
			}
			j.wake(ctx, next)
			if !j.silent[denied].IsZero() {
				wait = workflows.FirstPoll // it does not tell when it is back
			}
		} else if j.deniedBy != "" {
			// What comes free there is not kept for a job that could not take it; for one that soon may, it is.
			if turn.OnlyCandidatesAhead {
				wait = workflows.FirstPoll // and not for long: nobody tells it when those that ask now have started
			} else {
				j.giveBack(ctx, []string{j.deniedBy})
				j.deniedBy = ""
			}
		}
		j.waits = turn
		j.describe(ctx)
		if workflows.AwaitFor(ctx, wait, func() bool { return j.woken || j.ending() }) {
			wait = workflows.FirstPoll / 2 // it is doubled
		}
	}
}

// apply asks the parties for room, one after the other and all schedulers in the same order, so that no two jobs each hold
// what the other needs. The first that denies ends it, and what others have granted is given back. It answers that party and
// its reason; nothing when all have granted, or the job ends.
func (j *job) apply(ctx workflow.Context) (denied, reason string) {
	j.rounds++
	ctx, cancel := workflow.WithCancel(ctx)
	defer cancel()
	var held []string
	for _, node := range j.Nodes {
		if !j.accepted[node].Reservations {
			continue
		}
		workflow.SetCurrentDetails(ctx, "Asking "+node+" for room\n\n"+j.table())
		grant, err := j.ask(ctx, node, len(held) > 0)
		if j.ending() {
			return "", "" // the job's end gives back what it holds
		}
		_, _, refused := workflows.RefusalCode(err)
		now := workflow.Now(ctx)
		switch {
		case err == nil:
			delete(j.silent, node)
		case j.silent[node].IsZero():
			j.silent[node] = now
		}
		switch {
		case refused, err != nil && now.Sub(j.silent[node]) >= j.Settings.GiveUpAfter:
			j.finish(workflows.OutcomeFailed, workflows.CommandFailure(node, "did not answer the application for room", err))
			return "", ""
		case err != nil:
			// It must not keep what others have granted, nor the turn, for as long as a party may be away.
			grant.Reason = "does not answer: " + workflows.Reason(err)
		case grant.State.Terminal():
			j.finish(workflows.OutcomeStopped, workflows.StoppedBy(node))
			return "", ""
		case grant.Granted:
			held = append(held, node)
			if grant.Parallelism > 0 {
				j.copies[node] = grant.Parallelism
			}
			continue
		}
		// Where it was denied before, it does not wait any more.
		if j.deniedBy != "" && j.deniedBy != node && !slices.Contains(held, j.deniedBy) {
			held = append(held, j.deniedBy)
		}
		j.deniedBy = node
		j.giveBack(ctx, held)
		if reason = grant.Reason; grant.Total > 1 {
			reason += fmt.Sprintf(" (place %d of %d there)", grant.Position, grant.Total)
		}
		return node, reason
	}
	return "", ""
}

// ask asks a party for room. A job that holds some elsewhere already, and stands first here, asks again when it is told soon
// that something has got free.
func (j *job) ask(ctx workflow.Context, node string, holds bool) (grant bfia.Grant, err error) {
	var until time.Time
	counted := false
	for {
		ask := bfia.ReserveRequest{JobID: j.Plan.JobID, Priority: j.Plan.Priority, Created: j.createdAt, Generation: j.rounds}
		f := workflows.SendLocalFirst(ctx, "apply at "+node, applyLimit, act.SendReserve,
			scheduler.SendReserveInput{Node: node, Request: ask})
		_ = workflow.Await(ctx, func() bool { return f.IsReady() || j.ending() })
		if j.ending() {
			return grant, nil
		}
		grant = bfia.Grant{}
		err = f.Get(ctx, &grant)
		if err == nil && grant.Generation > j.rounds && grant.Generation <= bfia.MaxGeneration && !counted {
			// A step in which more rounds were asked for has not counted.
			j.rounds, counted = grant.Generation, true
			continue
		}
		if err != nil || grant.Granted || grant.State.Terminal() || !holds || grant.Position != 1 {
			return grant, err
		}
		now := workflow.Now(ctx)
		if until.IsZero() {
			until = now.Add(linger)
		}
		if !now.Before(until) || !workflows.AwaitFor(ctx, until.Sub(now), func() bool { return j.woken || j.ending() }) || j.ending() {
			return grant, nil
		}
		j.woken = false
	}
}

// giveBack returns what parties have granted, and the job's place where it waited, and waits for a while until they have taken
// that. One that does not answer is told later: of an earlier round, that changes nothing for a later one.
func (j *job) giveBack(ctx workflow.Context, nodes []string) {
	back := bfia.ReleaseRequest{JobID: j.Plan.JobID, Generation: j.rounds}
	var returned []workflow.Future
	for _, node := range nodes {
		delete(j.copies, node)
		returned = append(returned, workflows.SendLocalFirst(ctx, fmt.Sprintf("return at %s (%d)", node, j.rounds), j.Settings.GiveUpAfter, act.SendRelease,
			scheduler.SendReleaseInput{Node: node, Request: back}))
	}
	left := len(returned)
	for i, f := range returned {
		workflow.Go(ctx, func(ctx workflow.Context) {
			if err := f.Get(ctx, nil); err != nil {
				j.logger.Warn("a party did not take back its room; it has it at the job's end", "party", nodes[i], "reason", workflows.Reason(err))
			}
			left--
		})
	}
	workflows.AwaitFor(ctx, applyLimit, func() bool { return left == 0 || j.ending() })
}

// wake tells jobs that their turn may have come.
func (j *job) wake(ctx workflow.Context, jobIDs []string) {
	for _, id := range jobIDs {
		if id == j.Plan.JobID {
			j.woken = true
			continue
		}
		j.signals++ // the engine drops those of a workflow that has ended
		f := workflow.SignalExternalWorkflow(ctx, workflows.SchedulerJobID(id), "", workflows.SignalQueueChanged, nil)
		workflow.Go(ctx, func(ctx workflow.Context) {
			_ = f.Get(ctx, nil) // one that is gone needs no word
			j.signals--
		})
	}
}

// receiveTurns takes the word that something has changed for the job.
func (j *job) receiveTurns(ctx workflow.Context) {
	for workflow.GetSignalChannel(ctx, workflows.SignalQueueChanged).Receive(ctx, nil) {
		j.woken = true
	}
}

// prioritise changes the priority while the job waits.
func (j *job) prioritise(ctx workflow.Context, priority int) error {
	_ = workflow.Await(ctx, func() bool { return j.created })
	var next []string
	if err := workflows.Record(ctx, fmt.Sprintf("change the priority to %d", priority), act.SetPriority,
		scheduler.SetPriorityInput{JobID: j.Plan.JobID, Priority: priority, At: workflow.Now(ctx)}).Get(ctx, &next); err != nil {
		return err
	}
	j.Plan.Priority = priority
	j.woken = true // where it waits for room, the party should know
	j.wake(ctx, next)
	return nil
}

// fits tells whether one more task may be in flight: within the job's own bound, and within what its parties have granted.
func (j *job) fits(t *scheduledTask) bool {
	if j.running >= j.Settings.TasksInFlight {
		return false
	}
	for _, node := range t.nodes {
		if copies := j.copies[node]; copies > 0 && j.inFlight[node] >= copies {
			return false
		}
	}
	return true
}

// hold counts a task in flight; the function that it gives back ends that.
func (j *job) hold(t *scheduledTask) (release func()) {
	j.running++
	for _, node := range t.nodes {
		j.inFlight[node]++
	}
	return func() {
		j.running--
		for _, node := range t.nodes {
			j.inFlight[node]--
		}
	}
}

// waiting tells people what a job that has not started waits for.
func (j *job) waiting() string {
	if j.state != bfia.JobReady || j.waits.Position == 0 {
		return ""
	}
	return fmt.Sprintf("Waiting for its start, at place %d of %d: %s\n\n", j.waits.Position, j.waits.Total, strings.TrimSpace(j.waits.Reason))
}
