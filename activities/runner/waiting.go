package runner

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/activity"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/bfia"
	"hutong/store"
)

// unrecordedWait is a wait that the database did not take. RunTask keeps it in its heartbeat, so that its
// next try knows it, also that of another worker.
type unrecordedWait struct {
	Kind  bfia.WaitingKind `json:"kind,omitempty"`
	Since time.Time        `json:"since,omitzero"`
	// Shown is the kind of the wait that the job's workflow shows and records; "": none.
	Shown bfia.WaitingKind `json:"shown,omitempty"`
}

// noteWait records why a part's container does not run yet, or that it no longer waits if w is nil. It also
// notifies the job's workflow of the beginning and the end of a wait that lasts. The workflow keeps the first
// message; later ones are those of the pending activity. If the database does not take the wait, the workflow
// shows it all the same, and records it.
func (t *taskRun) noteWait(ctx context.Context, w *bfia.Waiting) {
	row, err := t.Store.Task(ctx, t.req.Key.Row())
	if err == nil {
		err = t.recordWait(ctx, row, w)
	}
	if err != nil {
		t.log.Warn("failed to record what the part waits for", "error", err)
		t.handOver(ctx, w)
	}
}

// recordWait writes a wait to the part's row, and shows it once it has lasted.
func (t *taskRun) recordWait(ctx context.Context, row store.Task, w *bfia.Waiting) error {
	if w != nil {
		w.NodeID, w.Since = t.req.Part.NodeID, time.Now().UTC()
		switch {
		case row.Waiting != nil && row.Waiting.Kind == w.Kind:
			w.Since = row.Waiting.Since
		case t.unrecorded.Kind == w.Kind:
			w.Since = t.unrecorded.Since
		}
	}
	shown := t.showWait(ctx, w, row.WaitingShown || t.unrecorded.Shown != "")
	if err := t.Store.SetTaskWaiting(ctx, t.req.Key.Row(), t.req.TaskID, w, shown); err != nil {
		return err
	}
	t.keepUnrecorded(ctx, unrecordedWait{})

	return nil
}

// showWait reports to the job's workflow what a part waits for, if it should show another wait than it does.
// It reports whether the workflow now shows a wait.
func (t *taskRun) showWait(ctx context.Context, w *bfia.Waiting, shown bool) bool {
	lasts := w != nil && time.Since(w.Since) >= activities.ShowWaitAfter
	if lasts == shown {
		return shown
	}
	if !lasts {
		w = nil
	}
	if !t.notify(ctx, activities.PartWait{Waiting: w}) {
		return shown
	}

	return lasts
}

// handOver has the job's workflow show and record a wait that the database did not take, once the wait has
// lasted.
func (t *taskRun) handOver(ctx context.Context, w *bfia.Waiting) {
	known := t.unrecorded
	if w == nil {
		if known.Shown != "" && t.notify(ctx, activities.PartWait{Unrecorded: true}) {
			t.keepUnrecorded(ctx, unrecordedWait{})
		}

		return
	}

	w.NodeID, w.Since = t.req.Part.NodeID, time.Now().UTC()
	if known.Kind == w.Kind {
		w.Since = known.Since
	}
	now := unrecordedWait{Kind: w.Kind, Since: w.Since, Shown: known.Shown}
	if time.Since(w.Since) >= activities.ShowWaitAfter && known.Shown != w.Kind {
		handed := *w
		handed.Message += fmt.Sprintf("; as long as its runner can't record that in the database of %s, this "+
			"comes from the job's workflow in Temporal", w.NodeID)
		if t.notify(ctx, activities.PartWait{Waiting: &handed, Unrecorded: true}) {
			now.Shown = w.Kind
		}
	}
	t.keepUnrecorded(ctx, now)
}

// notify sends the job's workflow what the part waits for, and reports whether it has it.
func (t *taskRun) notify(ctx context.Context, wait activities.PartWait) bool {
	if t.OnWait == nil {
		return false
	}
	wait.TaskID, wait.NodeID, wait.Part = t.req.TaskID, t.req.Part.NodeID, t.req.Part.Self()
	if err := t.OnWait(ctx, t.req.Key.JobID, wait); err != nil {
		t.log.Warn("failed to notify the job's workflow of what the part waits for", "error", err)

		return false
	}

	return true
}

// keepUnrecorded keeps a wait that the database did not take for the next try.
func (t *taskRun) keepUnrecorded(ctx context.Context, w unrecordedWait) {
	if w != t.unrecorded {
		t.unrecorded = w
		t.heartbeat(ctx)
	}
}

// heartbeat reports that the activity runs, with what its next try must know.
func (t *taskRun) heartbeat(ctx context.Context) { activity.RecordHeartbeat(ctx, t.unrecorded) }

// readHeartbeat reads what the try before has kept.
func (t *taskRun) readHeartbeat(ctx context.Context) {
	if !activity.HasHeartbeatDetails(ctx) {
		return
	}
	if err := activity.GetHeartbeatDetails(ctx, &t.unrecorded); err != nil {
		t.log.Warn("failed to read the heartbeat of the try before", "error", err)
	}
}

// waitAfter describes the wait for the next try of RunTask after an error that another try may not have. Its
// kind is the service that caused the error, if one did.
func (t *taskRun) waitAfter(err error) *bfia.Waiting {
	kind := bfia.WaitsForRetry
	if errors.Is(err, driver.ErrNoImage) {
		kind = bfia.WaitsForImage
	} else if service := t.serviceOf(err); service != "" {
		kind = service
	}

	return &bfia.Waiting{Kind: kind, Message: "tries again: " + err.Error()}
}

// servers are the services behind devices. Docker's errors have types of their own, so it comes first.
var servers = []struct {
	device  bfia.Device
	service bfia.WaitingKind
}{{bfia.DeviceDocker, bfia.WaitsForDocker}, {bfia.DeviceKubernetes, bfia.WaitsForKubernetes}}

// serviceOf returns the service whose absence caused err, or "" if none did.
func (t *taskRun) serviceOf(err error) bfia.WaitingKind {
	if service := bfia.ServiceOf(err); service != "" {
		return service
	}
	var ofDriver *driver.Error
	if errors.As(err, &ofDriver) {
		for _, s := range servers {
			if d, ok := t.Drivers[string(s.device)].(driver.Server); ok && d.IsUnreachable(err) {
				return s.service
			}
		}
	}
	var away *serviceerror.Unavailable
	var late *serviceerror.DeadlineExceeded
	if errors.As(err, &away) || errors.As(err, &late) {
		return bfia.WaitsForTemporal
	}

	return ""
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
