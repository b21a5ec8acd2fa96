package bfia

import (
	"cmp"
)

// PathEvents is the endpoint that reports to a client what has changed. It is Hutong's addition.
const PathEvents = "/v2/events"

// ChangeKind is the kind of a [Change].
type ChangeKind string

// The kinds of changes.
const (
	ChangedJob      ChangeKind = "job"
	ChangedTask     ChangeKind = "task"     // tasks of a job, their parts, progress and waits
	ChangedApproval ChangeKind = "approval" // a job began or ended to wait for approvals, or waits for others
	ChangedRunner   ChangeKind = "runner"
	ChangedPartner  ChangeKind = "partner"
	ChangedData     ChangeKind = "data" // datasets and kept models
	// ChangedAll says that anything may have changed: the reader must read all again.
	ChangedAll ChangeKind = "all"
)

// Change is something of a party that has changed. It says what to read again, and no more.
type Change struct {
	Kind ChangeKind `json:"kind"`
	// JobID is the job, or empty.
	JobID string `json:"job_id,omitempty"`
}

// Compare orders changes by kind and job.
func (c Change) Compare(other Change) int {
	return cmp.Or(cmp.Compare(c.Kind, other.Kind), cmp.Compare(c.JobID, other.JobID))
}

// Event is a change as a client reads it. Seq counts the events of one process.
type Event struct {
	Seq uint64 `json:"seq"`
	Change
}
