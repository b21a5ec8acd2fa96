// Package periodic holds the activities of periodic jobs: they read and write a periodic job's rows, submit
// its jobs in the name of its owner, and wait for their ends.
package periodic

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.temporal.io/sdk/activity"

	"hutong/activities"
	"hutong/bfia"
	"hutong/internal/calendar"
	"hutong/store"
)

// Submit submits a job of a periodic job as its owner would: with the same checks, limits and records. It
// returns a refusal as an error, also that of an owner who may not submit jobs any more.
type Submit func(ctx context.Context, periodic string, owner store.PeriodicDocument,
	doc *bfia.Document) error

// Activities holds the activities of periodic jobs. All exported methods are registered with Temporal.
type Activities struct {
	Store  *store.Store
	Submit Submit
	Logger *slog.Logger
}

// Run names a run of a periodic job.
type Run struct {
	PeriodicID  string    `json:"periodic_id"`
	ScheduledAt time.Time `json:"scheduled_at"`
	Manual      bool      `json:"manual,omitempty"` // a client has started it
}

func (r Run) row() store.PeriodicRun {
	return store.PeriodicRun{PeriodicID: r.PeriodicID, ScheduledAt: r.ScheduledAt, Manual: r.Manual}
}

// Loaded is a periodic job as its rows describe it, with the runs that have not ended.
type Loaded struct {
	Job  store.PeriodicJob   `json:"job"`
	Runs []store.PeriodicRun `json:"runs,omitempty"`
}

// LoadPeriodicJob reads a periodic job, from which its workflow continues.
func (a *Activities) LoadPeriodicJob(ctx context.Context, id string) (Loaded, error) {
	job, err := a.Store.PeriodicJob(ctx, id)
	if err != nil {
		return Loaded{}, activities.Classify(err)
	}
	runs, err := a.Store.OpenPeriodicRuns(ctx, id)

	return Loaded{Job: job, Runs: runs}, activities.Classify(err)
}

// RecordPeriodicJobInput is the input of [Activities.RecordPeriodicJob].
type RecordPeriodicJobInput struct {
	Job  store.PeriodicJob   `json:"job"`
	Runs []store.PeriodicRun `json:"runs,omitempty"` // new ones, and those whose outcome has changed
}

// RecordPeriodicJob records the state of a periodic job.
func (a *Activities) RecordPeriodicJob(ctx context.Context, in RecordPeriodicJobInput) error {
	return activities.Classify(a.Store.WritePeriodicJob(ctx, in.Job, in.Runs))
}

// DeletePeriodicJob deletes a periodic job with its history.
func (a *Activities) DeletePeriodicJob(ctx context.Context, id string) error {
	return activities.Classify(a.Store.DeletePeriodicJob(ctx, id))
}

// SubmitPeriodicRunInput is the input of [Activities.SubmitPeriodicRun].
type SubmitPeriodicRunInput struct {
	Run  Run    `json:"run"`
	Name string `json:"name"` // of the periodic job
	// Timezone is that of its calendar, in which the placeholders of its document are written.
	Timezone string `json:"timezone,omitempty"`
}

// SubmittedRun is the result of [Activities.SubmitPeriodicRun].
type SubmittedRun struct {
	JobID string `json:"job_id,omitempty"`
	// Refused is why the job was refused, or empty.
	Refused string `json:"refused,omitempty"`
}

// SubmitPeriodicRun submits the job of a run, and records a refusal. The run has the id of its job before the
// job is submitted, and the submission of one job twice creates it once: so this activity may run again.
func (a *Activities) SubmitPeriodicRun(ctx context.Context, in SubmitPeriodicRunInput) (SubmittedRun, error) {
	run, err := a.Store.ClaimPeriodicRun(ctx, in.Run.row(), jobIDs(in.Run, time.Now()))
	if err != nil {
		return SubmittedRun{}, activities.Classify(err)
	}
	out := SubmittedRun{JobID: run.JobID}
	switch {
	case run.Outcome == bfia.RunRefused:
		out.Refused = run.Reason

		return out, nil
	case run.Accepted:
		return out, nil
	}

	stop := heartbeat(ctx) // if this worker dies, another one submits again soon
	err = a.submit(ctx, in, run)
	stop()
	if err == nil {
		return out, activities.Classify(a.Store.AcceptPeriodicRun(ctx, run))
	}
	log := a.Logger.With("job_id", run.JobID, "periodic", in.Name, "error", err)
	switch bfia.CodeOf(err) {
	case bfia.CodeInternal, bfia.CodeUnavailable, bfia.CodeTooMany, bfia.CodePartnerDown:
		log.Warn("failed to submit the job of a periodic job; it is tried again")

		return out, err
	}
	log.Warn("failed to submit the job of a periodic job: it was refused")
	out.Refused = bfia.MessageOf(err)
	run.Outcome, run.Reason = bfia.RunRefused, out.Refused

	return out, activities.Classify(a.Store.EndPeriodicRun(ctx, run))
}

// heartbeat records heartbeats of an activity until stop is called. It uses the activity's own context: one
// that is canceled during a heartbeat would make the SDK cancel the activity.
func heartbeat(ctx context.Context) (stop func()) {
	stopping, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(activities.HeartbeatInterval)
		defer tick.Stop()
		for {
			activity.RecordHeartbeat(ctx)
			select {
			case <-stopping:
				return
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()

	return func() { close(stopping); <-ended }
}

// submit submits the job of a run.
func (a *Activities) submit(ctx context.Context, in SubmitPeriodicRunInput, run store.PeriodicRun) error {
	document, err := a.Store.PeriodicDocument(ctx, run.PeriodicID, run.Revision)
	if err != nil {
		return err
	}
	text, err := calendar.Expand(document.Document, run.ScheduledAt, in.Timezone)
	if err != nil {
		return err
	}
	doc, err := bfia.ParseDocument(text)
	if err != nil {
		return err
	}

	return a.Submit(ctx, in.Name, document, doc.WithJobID(run.JobID))
}

// maxIDAge bounds the age of the time in a job's id: parties refuse ids from before their retention.
const maxIDAge = 24 * time.Hour

// jobIDs returns candidates for the id of a run's job, in the form of [bfia.NewJobID]: the scheduled time,
// and seven digits that are derived from the run.
func jobIDs(run Run, now time.Time) []string {
	at := run.ScheduledAt.UTC()
	if now.Sub(at) > maxIDAge {
		at = now.UTC()
	}
	var ids []string
	for i := range 8 {
		sum := sha256.Sum256(fmt.Appendf(nil, "%s %s %t %d", run.PeriodicID,
			run.ScheduledAt.UTC().Format(time.RFC3339Nano), run.Manual, i))
		ids = append(ids, fmt.Sprintf("%s%07d", at.Format("20060102150405"),
			binary.BigEndian.Uint64(sum[:8])%10_000_000))
	}

	return ids
}

// AwaitPeriodicRunInput is the input of [Activities.AwaitPeriodicRun].
type AwaitPeriodicRunInput struct {
	Run Run `json:"run"`
	// JobID is the id of the job, or empty if only the run's row has it.
	JobID string `json:"job_id,omitempty"`
	// Submitted: the job is known to exist. Otherwise Unsubmitted says why it may not.
	Submitted   bool   `json:"submitted,omitempty"`
	Unsubmitted string `json:"unsubmitted,omitempty"`
}

// EndedRun is the result of [Activities.AwaitPeriodicRun].
type EndedRun struct {
	Outcome bfia.PeriodicOutcome `json:"outcome"`
	Reason  string               `json:"reason,omitempty"`
}

// unknownAfter is how often a job must not be found before it counts as deleted.
const unknownAfter = 3

// AwaitPeriodicRun waits until the job of a run has ended, and records the outcome. It reads the rows of the
// job, which any party may schedule.
func (a *Activities) AwaitPeriodicRun(ctx context.Context, in AwaitPeriodicRunInput) (EndedRun, error) {
	unknown := 0
	tick := time.NewTicker(activities.HeartbeatInterval)
	defer tick.Stop()
	for {
		end, known, err := a.endOf(ctx, &in)
		switch {
		case err != nil:
			a.Logger.Warn("failed to read whether the job of a periodic job has ended; it is read again",
				"job_id", in.JobID, "error", err)
		case end.Outcome != "" && !end.Outcome.Open():
			row := in.Run.row()
			row.Outcome, row.Reason = end.Outcome, end.Reason

			return end, activities.Classify(a.Store.EndPeriodicRun(ctx, row))
		case known:
			unknown = 0
		default:
			unknown++
		}
		if in.Submitted = in.Submitted || known; unknown >= unknownAfter {
			return a.endUnknown(ctx, in)
		}

		activity.RecordHeartbeat(ctx)
		select {
		case <-ctx.Done():
			return EndedRun{}, ctx.Err()
		case <-activity.GetWorkerStopChannel(ctx):
			return EndedRun{}, errors.New("the worker is shutting down; another worker continues to wait")
		case <-tick.C:
		}
	}
}

// endUnknown ends a run whose job this party does not know.
func (a *Activities) endUnknown(ctx context.Context, in AwaitPeriodicRunInput) (EndedRun, error) {
	end := EndedRun{Outcome: bfia.RunUnknown, Reason: "the job was deleted"}
	if !in.Submitted {
		end = EndedRun{Outcome: bfia.RunRefused, Reason: in.Unsubmitted}
	}
	row := in.Run.row()
	row.Outcome, row.Reason = end.Outcome, end.Reason

	return end, activities.Classify(a.Store.EndPeriodicRun(ctx, row))
}

// endOf returns how a job has ended, as the row at its scheduler says, or else that of the participant.
func (a *Activities) endOf(ctx context.Context, in *AwaitPeriodicRunInput) (end EndedRun, known bool,
	err error) {
	if in.JobID == "" {
		if in.JobID, err = a.claimedID(ctx, in.Run); err != nil || in.JobID == "" {
			return end, false, err
		}
	}
	scheduled, err := a.Store.ScheduleJob(ctx, in.JobID)
	if err == nil {
		return endedAs(scheduled.State, scheduled.Outcome, scheduled.Reason), true, nil
	}
	if bfia.CodeOf(err) != bfia.CodeNotFound {
		return end, false, err
	}
	job, err := a.Store.Job(ctx, in.JobID)
	if err == nil {
		return endedAs(job.State, job.Outcome, job.Reason), true, nil
	}
	if bfia.CodeOf(err) != bfia.CodeNotFound {
		return end, false, err
	}

	return end, false, nil
}

// claimedID returns the id that a run has for its job, or "".
func (a *Activities) claimedID(ctx context.Context, run Run) (string, error) {
	runs, err := a.Store.OpenPeriodicRuns(ctx, run.PeriodicID)
	for _, r := range runs {
		if r.Manual == run.Manual && r.ScheduledAt.Equal(run.ScheduledAt.Truncate(time.Microsecond)) {
			return r.JobID, err
		}
	}

	return "", err
}

func endedAs(state bfia.JobState, outcome bfia.Outcome, reason string) EndedRun {
	if !state.Terminal() {
		return EndedRun{}
	}
	if outcome == "" {
		outcome = bfia.OutcomeFailed
	}

	return EndedRun{Outcome: bfia.PeriodicOutcome(outcome), Reason: reason}
}
