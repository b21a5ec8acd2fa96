package runner

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/activity"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/bfia"
)

// noteWait records why a part's container does not run yet, or that it no longer waits if w is nil. It also
// notifies the job's workflow of the beginning and the end of a wait that lasts. The workflow keeps the first
// message; later ones are those of the pending activity.
func (t *taskRun) noteWait(ctx context.Context, w *bfia.Waiting) {
	row, err := t.Store.Task(ctx, t.req.Key.Row())
	if err == nil {
		if w != nil {
			w.NodeID, w.Since = t.req.Part.NodeID, time.Now().UTC()
			if row.Waiting != nil && row.Waiting.Kind == w.Kind {
				w.Since = row.Waiting.Since
			}
		}
		shown := t.showWait(ctx, w, row.WaitingShown)
		err = t.Store.SetTaskWaiting(ctx, t.req.Key.Row(), t.req.TaskID, w, shown)
	}
	if err != nil {
		t.log.Warn("failed to record what the part waits for", "error", err)
	}
}

// showWait reports to the job's workflow what a part waits for, if it should show another wait than it does.
// It reports whether the workflow now shows a wait.
func (t *taskRun) showWait(ctx context.Context, w *bfia.Waiting, shown bool) bool {
	lasts := w != nil && time.Since(w.Since) >= activities.ShowWaitAfter
	if lasts == shown || t.OnWait == nil {
		return shown
	}
	wait := activities.PartWait{TaskID: t.req.TaskID, NodeID: t.req.Part.NodeID,
		Part: t.req.Part.Self()}
	if lasts {
		wait.Waiting = w
	}
	if err := t.OnWait(ctx, t.req.Key.JobID, wait); err != nil {
		t.log.Warn("failed to notify the job's workflow of what the part waits for", "error", err)

		return shown
	}

	return lasts
}

// waitAfter describes the wait for the next try of RunTask after an error that another try may not have.
func waitAfter(err error) *bfia.Waiting {
	kind, unavailable := bfia.WaitsForRetry, (*bfia.Error)(nil)
	switch {
	case errors.Is(err, driver.ErrNoImage):
		kind = bfia.WaitsForImage
	case errors.As(err, &unavailable) && unavailable.Code == bfia.CodeUnavailable:
		kind = bfia.WaitsForDatabase
	}

	return &bfia.Waiting{Kind: kind, Message: "tries again: " + err.Error()}
}

// workerStops reports whether the worker shuts down. Another worker continues then.
func workerStops(ctx context.Context) bool {
	select {
	case <-activity.GetWorkerStopChannel(ctx):
		return true
	default:
		return false
	}
}
