package scheduler

import (
	"go.temporal.io/sdk/workflow"

	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/workflows"
)

// unwritten is what changed and is not yet recorded.
type unwritten struct {
	progress   scheduler.Progress // the job's state and failure; the tasks are added when it is written
	dirty      map[*task]map[int]bool
	dirtyOrder []*task
	writing    bool
}

func newUnwritten() unwritten { return unwritten{dirty: map[*task]map[int]bool{}} }

// empty reports whether all that changed is recorded.
func (u *unwritten) empty() bool { return !u.writing && !u.pending() }

func (u *unwritten) pending() bool { return len(u.dirty) > 0 || u.progress.State != "" }

// markDirty marks a part's state as unwritten.
func (u *unwritten) markDirty(t *task, k int) {
	if u.dirty[t] == nil {
		u.dirtyOrder = append(u.dirtyOrder, t)
		u.dirty[t] = map[int]bool{}
	}
	u.dirty[t][k] = true
}

// take returns what is unwritten, and forgets it.
func (u *unwritten) take() scheduler.Progress {
	p := u.progress
	for _, t := range u.dirtyOrder {
		tp := scheduler.TaskProgress{TaskID: t.id, State: t.state, Reason: t.reason()}
		if t.attempt > 1 {
			tp.Name, tp.Attempt, tp.Lost = t.plan.Name, t.attempt, t.before
			t.before = nil
		}
		for k := range t.parts {
			if u.dirty[t][k] {
				tp.Parts = append(tp.Parts, scheduler.PartProgress{
					Part: t.plan.Parts[k], State: t.parts[k], Failure: t.failures[k]})
			}
		}
		p.Tasks = append(p.Tasks, tp)
	}
	*u = newUnwritten()

	return p
}

// recordProgress writes what changed to the rows that users read. Changes that come together become one
// write.
func (j *job) recordProgress(ctx workflow.Context) {
	for {
		if err := workflow.Await(ctx, func() bool { return j.created && j.pending() }); err != nil {
			return
		}

		if j.compact {
			// What follows from a change, such as the start of the next task, is written with it.
			workflows.DrainSignals(ctx)
		}
		p := j.take()
		p.JobID, p.At = j.Plan.JobID, workflow.Now(ctx)
		j.writing = true
		var next []string
		err := workflows.Record(ctx, "record progress", act.RecordProgress, p).Get(ctx, &next)
		if err != nil {
			j.logger.Error("failed to record progress", "error", err)
		}
		j.notifyJobs(ctx, next)
		j.writing = false
	}
}

// keepWaits shows and records what the job waits for.
func (j *job) keepWaits(ctx workflow.Context) {
	j.waits.Keep(ctx, func() { j.describe(ctx) }, func(ctx workflow.Context, now []bfia.Waiting) {
		in := scheduler.RecordScheduleWaitsInput{JobID: j.Plan.JobID, Waiting: now}
		if err := workflows.Record(ctx, "record what it waits for", act.RecordScheduleWaits, in).
			Get(ctx, nil); err != nil {
			j.logger.Error("failed to record what the job waits for", "error", err)
		}
	})
}
