package periodic

import (
	"fmt"
	"slices"
	"time"

	"go.temporal.io/sdk/workflow"

	"hutong/activities/periodic"
	"hutong/bfia"
	"hutong/internal/calendar"
	"hutong/store"
	"hutong/workflows"
)

var act *periodic.Activities

const (
	// maxOpen bounds the jobs of a periodic job that run at once, with the policy allow_all.
	maxOpen = 20
	// maxTicks bounds the scheduled times in one history.
	maxTicks = 500
)

// job is the state of the workflow.
type job struct {
	in  workflows.PeriodicJobInput
	row store.PeriodicJob // as it is to be recorded

	loaded  bool
	open    []*run // without the waiting one
	waiting *run   // for the end of the open ones
	// requested are the last runs that clients have started with a named request.
	requested []*run
	due       []*run // to be started after the record
	// unrecorded are runs that the next record writes.
	unrecorded []store.PeriodicRun

	// changed wakes the loop. wanted counts the changes, recorded those that are recorded.
	changed          bool
	wanted, recorded int
	nextKnown        bool // row.NextAt holds for row.AfterAt
	ticks            int
	deleting         bool
	deleted          bool
	ending           bool // the workflow ends or continues as new
}

// Job runs a periodic job.
func Job(ctx workflow.Context, in workflows.PeriodicJobInput) error {
	j := &job{in: in}
	for _, r := range in.Requests {
		j.requested = append(j.requested, &run{row: store.PeriodicRun{JobID: r.JobID}, answered: true,
			refusal: r.Doubt, request: r.RequestID})
	}
	if err := j.handleUpdates(ctx); err != nil {
		return err
	}
	if err := j.load(ctx); err != nil {
		return workflows.AwaitHandlers(ctx, err)
	}

	runs, stopRuns := workflow.WithCancel(ctx)
	j.resumeRuns(runs)
	again, err := j.loop(ctx, runs)
	j.ending = true
	stopRuns()
	if err := workflows.AwaitHandlers(ctx, err); err != nil || !again {
		return err
	}

	in.Requests = nil
	for _, r := range j.requested {
		in.Requests = append(in.Requests, workflows.PeriodicRequest{RequestID: r.request, JobID: r.row.JobID,
			Doubt: r.refusal})
	}

	return workflow.NewContinueAsNewError(ctx, workflows.PeriodicJobType, in)
}

// load reads the state from which the workflow continues.
func (j *job) load(ctx workflow.Context) error {
	var loaded periodic.Loaded
	err := workflows.Record(ctx, "read the periodic job", act.LoadPeriodicJob, j.in.PeriodicID).
		Get(ctx, &loaded)
	j.loaded = true
	if err != nil {
		j.deleted, j.ending = true, true
		if code, _, refused := workflows.RefusalCode(err); refused && code == bfia.CodeNotFound {
			return nil
		}

		return err
	}
	j.row = loaded.Job
	for _, r := range loaded.Runs {
		known := &run{row: r}
		if r.Outcome == bfia.RunWaiting {
			j.waiting = known
		} else {
			j.open = append(j.open, known)
		}
	}

	return nil
}

// resumeRuns waits again for the runs of the workflow's earlier run.
func (j *job) resumeRuns(ctx workflow.Context) {
	for _, r := range slices.Clone(j.open) {
		workflow.Go(ctx, func(ctx workflow.Context) { j.execute(ctx, r) })
	}
}

// loop does what is due until the periodic job ends. again reports that the history is long enough.
func (j *job) loop(ctx, runs workflow.Context) (again bool, err error) {
	for !j.deleted {
		j.changed = false
		if j.deleting {
			return false, j.delete(ctx)
		}
		j.tick(ctx)
		j.startWaiting()
		j.end()
		if err := j.record(ctx); err != nil {
			return false, err
		}
		if j.deleted {
			return false, nil
		}
		for _, r := range j.due {
			workflow.Go(runs, func(ctx workflow.Context) { j.execute(ctx, r) })
		}
		j.due = nil
		workflow.SetCurrentDetails(ctx, j.details())
		switch {
		case j.changed: // while the record was written
			continue
		case j.row.State == bfia.PeriodicEnded:
			return false, nil
		case (j.ticks >= maxTicks || workflow.GetInfo(ctx).GetContinueAsNewSuggested()) && !j.submitting():
			return true, nil
		}
		j.await(ctx)
	}

	return false, nil
}

// await waits for the next scheduled time or for a change.
func (j *job) await(ctx workflow.Context) {
	changed := func() bool { return j.changed }
	if j.row.State != bfia.PeriodicActive || j.row.NextAt == nil {
		_ = workflow.Await(ctx, changed)

		return
	}
	workflows.AwaitFor(ctx, j.row.NextAt.Sub(workflow.Now(ctx)), changed)
}

// due is the result of the side effect that reads the calendar.
type due struct {
	calendar.Due
	Failure string `json:"failure,omitempty"`
}

// tick decides what becomes of the scheduled times that are due.
func (j *job) tick(ctx workflow.Context) {
	now := workflow.Now(ctx)
	if j.row.State != bfia.PeriodicActive {
		return
	}
	if j.full() {
		j.row.NextAt, j.nextKnown = nil, true

		return
	}
	if j.nextKnown && (j.row.NextAt == nil || now.Before(*j.row.NextAt)) {
		return
	}
	due := j.readCalendar(ctx, now)
	if due.Failure != "" { // such as a time zone that does not exist any more
		j.pause("the times of its runs can't be computed: " + due.Failure)

		return
	}
	j.row.NextAt, j.nextKnown = due.Next, true
	j.wanted++
	if due.Missed > 0 {
		j.row.AfterAt = due.Last
		j.note(store.PeriodicRun{ScheduledAt: due.First, Outcome: bfia.RunMissed, Count: due.Missed,
			Reason: missedReason(due.Due)}, now)
	}
	if due.Run != nil {
		j.row.AfterAt = *due.Run
		j.ticks++
		j.fire(*due.Run, now)
		if j.full() {
			j.row.NextAt = nil
		}
	}
}

// readCalendar returns what is due at a time.
func (j *job) readCalendar(ctx workflow.Context, now time.Time) (result due) {
	recurrence, after := j.row.Recurrence, j.row.AfterAt
	value := workflow.SideEffect(ctx, func(workflow.Context) any {
		c, err := calendar.Parse(recurrence)
		if err != nil {
			return due{Failure: bfia.MessageOf(err)}
		}

		return due{Due: c.Due(after, now)}
	})
	if err := value.Get(&result); err != nil {
		result.Failure = err.Error()
	}

	return result
}

func missedReason(due calendar.Due) string {
	if due.Missed == 1 {
		return "the party was not running at this time, or not until it was too late"
	}

	return fmt.Sprintf("%d runs from %s to %s: the party was not running at these times", due.Missed,
		due.First.UTC().Format(time.RFC3339), due.Last.UTC().Format(time.RFC3339))
}

// full reports whether no more scheduled runs follow.
func (j *job) full() bool {
	return j.row.Recurrence.Count > 0 && j.row.Submitted >= j.row.Recurrence.Count
}

// fire starts the run of a scheduled time, or lets it wait, or skips it.
func (j *job) fire(at, now time.Time) {
	row := store.PeriodicRun{ScheduledAt: at, Revision: j.row.Revision, Outcome: bfia.RunSubmitted}
	busy := len(j.open) > 0 || j.waiting != nil
	switch overlap := j.row.Recurrence.Overlap; {
	case !busy, overlap == bfia.OverlapAllowAll && len(j.open) < maxOpen:
		j.row.Submitted++
		j.start(&run{row: row})
	case overlap == bfia.OverlapBuffer && j.waiting == nil:
		j.row.Submitted++
		row.Outcome, row.Reason = bfia.RunWaiting, "waits for the end of "+j.openJobs()
		j.waiting = &run{row: row}
		j.unrecorded = append(j.unrecorded, row)
	default:
		row.Outcome, row.Reason = bfia.RunSkipped, j.openJobs()+" had not ended"
		if j.waiting != nil {
			row.Reason = "a run was already waiting for the end of " + j.openJobs()
		}
		j.note(row, now)
	}
}

// openJobs names the open jobs for people.
func (j *job) openJobs() string {
	if len(j.open) > 1 {
		return fmt.Sprintf("%d jobs", len(j.open))
	}
	if len(j.open) == 1 && j.open[0].row.JobID != "" {
		return "job " + j.open[0].row.JobID
	}

	return "the job before"
}

// note records a run that has ended without a job.
func (j *job) note(row store.PeriodicRun, now time.Time) {
	row.EndedAt = &now
	j.unrecorded = append(j.unrecorded, row)
}

// start starts a run with the next record.
func (j *job) start(r *run) {
	r.row.Outcome, r.row.Reason = bfia.RunSubmitted, ""
	j.open = append(j.open, r)
	j.due = append(j.due, r)
	j.unrecorded = append(j.unrecorded, r.row)
	j.wanted++
}

// startWaiting starts the waiting run once the others have ended. A pause lets it wait.
func (j *job) startWaiting() {
	if j.waiting != nil && len(j.open) == 0 && j.row.State == bfia.PeriodicActive {
		r := j.waiting
		j.waiting = nil
		j.start(r)
	}
}

// end ends the periodic job after its last run.
func (j *job) end() {
	if j.row.State != bfia.PeriodicActive || !j.nextKnown || j.row.NextAt != nil || len(j.open) > 0 ||
		j.waiting != nil {
		return
	}
	j.row.State, j.row.Reason = bfia.PeriodicEnded, "no scheduled time follows"
	if j.full() {
		j.row.Reason = fmt.Sprintf("it has submitted %d jobs", j.row.Submitted)
	}
	j.wanted++
}

func (j *job) pause(reason string) {
	j.row.State, j.row.Reason, j.row.NextAt, j.nextKnown = bfia.PeriodicPaused, reason, nil, false
	j.wake()
}

// wake makes the loop look at a change of the state, and record it.
func (j *job) wake() {
	j.wanted++
	j.changed = true
}

// record records the state, if it has changed.
func (j *job) record(ctx workflow.Context) error {
	if j.recorded == j.wanted {
		return nil
	}
	wanted, runs := j.wanted, j.unrecorded
	j.unrecorded = nil
	j.row.Version++
	err := workflows.Record(ctx, "record the periodic job", act.RecordPeriodicJob,
		periodic.RecordPeriodicJobInput{Job: j.row, Runs: runs}).Get(ctx, nil)
	if code, _, refused := workflows.RefusalCode(err); refused && code == bfia.CodeNotFound {
		j.deleted = true // its rows are gone

		return nil
	}
	if err != nil {
		return err
	}
	j.recorded = wanted

	return nil
}

// delete deletes the rows.
func (j *job) delete(ctx workflow.Context) error {
	err := workflows.Record(ctx, "delete the periodic job", act.DeletePeriodicJob, j.in.PeriodicID).
		Get(ctx, nil)
	j.deleted = err == nil

	return err
}

// details describes the state for Temporal's UI.
func (j *job) details() string {
	text := fmt.Sprintf("%s: %s", j.row.State, j.row.Recurrence.Cron)
	if j.row.Recurrence.Timezone != "" {
		text += ", " + j.row.Recurrence.Timezone
	}
	if j.row.Reason != "" {
		text += "\n\n" + j.row.Reason
	}
	if j.row.NextAt != nil {
		text += "\n\nNext run: " + j.row.NextAt.UTC().Format(time.RFC3339)
	}

	return text
}
