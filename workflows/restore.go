package workflows

import (
	"fmt"
	"time"

	"go.temporal.io/sdk/client"

	"hutong/activities"
	"hutong/bfia"
)

const (
	// RestoreMarkType is the type of the workflow that counts up the party's restore mark.
	RestoreMarkType = "RestoreMark"
	// RestoreMarkID is its workflow id.
	RestoreMarkID = "restore-mark"
	// RestoreMarkMemo is the field of its memo that holds Temporal's [RestoreMark].
	RestoreMarkMemo = "restore_mark"
	// SignalMarkNow makes it count at once. It has no input.
	SignalMarkNow = "mark-now"
	// RestoreMarkEvery is the interval at which it counts, and so the age from which on a restored part is
	// found out.
	RestoreMarkEvery = time.Minute
	// RestoreNoticeType is the type of the workflow that notifies partners of the jobs that a restore ended.
	RestoreNoticeType = "RestoreNotice"
)

// RestoreMark is Temporal's restore mark: a number that the party counts up in Temporal, its storage and its
// database, in this order. So the others have Temporal's number or the one before.
type RestoreMark struct {
	Deployment string `json:"deployment"` // the id of the party's database
	Number     int64  `json:"number"`
}

// RestoreMarkOptions returns the options with which the workflow of the restore mark starts.
func RestoreMarkOptions(mark RestoreMark) client.StartWorkflowOptions {
	return client.StartWorkflowOptions{
		ID: RestoreMarkID, TaskQueue: activities.ControlQueue,
		Memo:          map[string]any{RestoreMarkMemo: mark},
		StaticSummary: "counts a number in Temporal, the storage and the database, to find out restored ones",
	}
}

// RestoreNoticeID returns the workflow id of the notices of a restore, by its mark.
func RestoreNoticeID(mark int64, batch int) string {
	return fmt.Sprintf("restore-notice/%d/%d", mark, batch)
}

// RestoreNoticeInput lists jobs that a restore has ended.
type RestoreNoticeInput struct {
	Jobs []RestoredJob `json:"jobs"`
}

// RestoredJob is a job that a restore has ended at this party.
type RestoredJob struct {
	JobID string `json:"job_id"`
	// Nodes are the participants, of a job that this party schedules.
	Nodes []string `json:"nodes,omitempty"`
	// Scheduler is the scheduler of a job in which this party takes part.
	Scheduler string        `json:"scheduler,omitempty"`
	Failure   *bfia.Failure `json:"failure"` // as partners may see it
}
