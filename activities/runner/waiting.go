package runner

import (
	"context"
	"errors"
	"time"

	"go.temporal.io/sdk/activity"

	"hutong/activities/driver"
	"hutong/bfia"
)

// noteWait records why a part's container does not run yet, or that it no longer waits if w is nil.
func (t *taskRun) noteWait(ctx context.Context, w *bfia.Waiting) {
	if w != nil {
		w.NodeID, w.Since = t.req.Part.NodeID, time.Now().UTC()
	}
	if err := t.Store.SetTaskWaiting(ctx, t.req.Key.Row(), t.req.TaskID, w); err != nil {
		t.log.Warn("failed to record what the part waits for", "error", err)
	}
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
