// Package housekeeping holds the activities of a party's housekeeping: the end of lost jobs, the retention of
// results, and the sweep of the storage.
package housekeeping

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"hutong/activities"
	"hutong/store"
	"hutong/store/blob"
)

// Activities holds the activities of housekeeping. One workflow runs them one after the other. Each can be
// repeated and resumes where it stopped. All exported methods are registered with Temporal.
type Activities struct {
	Node  string
	Store *store.Store
	Blobs blob.Store
	// Keep is the retention of a job after its end. 0 keeps jobs for ever.
	Keep time.Duration
	// Scheduled and Participating ask Temporal for a job's workflow at its scheduler and at a participant.
	Scheduled, Participating activities.JobRunning
	// DeleteWorkflows deletes what Temporal holds of a job.
	DeleteWorkflows func(ctx context.Context, jobID string) error
	// OnRemoved is called with what was removed or ended, and how much of it. It may be nil.
	OnRemoved func(what string, n int64)
	Logger    *slog.Logger

	projectsRecorded atomic.Bool // those of all jobs, in this process
}

// What is given to OnRemoved.
const (
	RemovedJobs         = "expired_jobs"
	RemovedObjects      = "objects"
	RemovedBytes        = "bytes"
	EndedLostJobs       = "lost_jobs"
	ReleasedReservation = "reservations"
)

// removed reports what was removed.
func (a *Activities) removed(what string, n int64) {
	if a.OnRemoved != nil && n > 0 {
		a.OnRemoved(what, n)
	}
}
