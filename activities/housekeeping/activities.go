// Package housekeeping holds the activities of a party's housekeeping: the end of lost jobs, the retention of results, and the
// sweep of the storage.
package housekeeping

import (
	"log/slog"
	"time"

	"hutong/activities"
	"hutong/store"
	"hutong/store/blob"
)

// Activities see to it that a party keeps nothing for longer than it should, and that each job comes to an end. Its
// activities run one after the other, in one workflow; made again each goes on where it was.
type Activities struct {
	Node  string
	Store *store.Store
	Blobs blob.Store
	// Keep is how long a job is kept after its end; 0 is for ever.
	Keep time.Duration
	// Scheduled and TakenPart ask for a job's workflow at its scheduler and at a participant.
	Scheduled, TakenPart activities.JobRunning
	Logger               *slog.Logger
}
