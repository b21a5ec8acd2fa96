package bfia

import (
	"fmt"
	"time"
)

// JobRef is the body of job/start, job/stop, job/stop_all, job/stop_task and status requests (part 2, 3.3, 3.5 to 3.7).
type JobRef struct {
	JobID    string `json:"job_id"`
	TaskName string `json:"task_name,omitempty"`
	// Undo, Hutong's addition to job/stop: the job was not created everywhere, so nothing of it shall be kept.
	// Others ignore it and keep a finished job that never ran.
	Undo bool `json:"undo,omitempty"`
	// State, Hutong's addition to job/stop: REJECTED when a party has not approved the job; Reason says who, and why. Others
	// ignore both.
	State  JobState `json:"job_status,omitempty"`
	Reason string   `json:"reason,omitempty"`
	// Failure, Hutong's addition to job/stop at a job's end: why it did not go well.
	Failure *Failure `json:"failure,omitempty"`
}

// JobAccepted is what Hutong answers to job/create, beside the code; others answer nothing of it.
type JobAccepted struct {
	// State is PENDING where someone must approve the job first; the scheduler then waits for audit_confirm.
	State JobState `json:"job_status,omitempty"`
	// Callbacks: the party tells the ends of its tasks by itself.
	Callbacks bool `json:"callbacks,omitempty"`
	// Reuses are the tasks for which the party still holds what old_job_id left, from the same parameters and inputs.
	Reuses []string `json:"reuses,omitempty"`
	// Attempts: the party takes a task/start of a further attempt.
	Attempts bool `json:"attempts,omitempty"`
	// Applications: the party is to be asked for room before the job starts; see [ReserveRequest].
	Reservations bool `json:"reservations,omitempty"`
}

// Audit is the body of audit_confirm (part 2, 3.10 of the specification's earlier versions, and FATE-Flow): READY is a
// party's approval, REJECTED its rejection. Reason is Hutong's addition; others ignore it.
type Audit struct {
	JobID  string   `json:"job_id"`
	Status JobState `json:"status"`
	Reason string   `json:"reason,omitempty"`
}

// Check tells what is wrong with an audit that came from outside, and reads the word of the management layer for READY.
func (a *Audit) Check() error {
	if err := CheckID("job_id", a.JobID); err != nil {
		return err
	}
	switch a.Status {
	case "APPROVED": // part 1, 8.2
		a.Status = JobReady
	case JobReady, JobRejected:
	default:
		return Errorf(CodeBadRequest, "status: %q is neither READY, which approves, nor REJECTED", a.Status)
	}
	return nil
}

// TaskStop is the body of Kuscia's task/stop.
type TaskStop struct {
	TaskID string `json:"task_id"`
}

// TaskRef is the body of task/start (part 2, 3.4).
type TaskRef struct {
	JobID    string `json:"job_id"`
	TaskID   string `json:"task_id"`
	TaskName string `json:"task_name"`
	// Reuse, Hutong's addition: the task does not run, the outputs of old_job_id stand for its own. Only parties that said
	// in job/create that they hold them are told so.
	Reuse bool `json:"reuse,omitempty"`
	// Attempt, Hutong's addition, counts from 1; 0 is 1. A further one has a task id of its own, ends the containers of the
	// one before, and is told only to parties that said at job/create that they know of it.
	Attempt int `json:"attempt,omitempty"`
}

// MaxAttempts bounds the attempts of a task that a scheduler may start.
const MaxAttempts = 1000

// AttemptNumber is the attempt that a reference means.
func (r TaskRef) AttemptNumber() int { return max(r.Attempt, 1) }

// TaskPoll is the body of task/poll (part 2, 3.8). An empty role asks for all roles that the node holds.
type TaskPoll struct {
	TaskID string `json:"task_id"`
	Role   string `json:"role"`
}

// TaskReport is the body of both callbacks (part 2, 3.9 and 4.1): a container's to its party, a party's to the
// scheduler. Reason and Failure are Hutong's additions: why it failed; others ignore them.
type TaskReport struct {
	TaskID  string    `json:"task_id"`
	Status  TaskState `json:"status"`
	Role    string    `json:"role"`
	Reason  string    `json:"reason,omitempty"`
	Failure *Failure  `json:"failure,omitempty"`
}

// PollResult is the data of task/poll.
type PollResult struct {
	Status  TaskState `json:"status"`
	Reason  string    `json:"reason,omitempty"`
	Failure *Failure  `json:"failure,omitempty"`
}

// JobCreated is the data of create_all. Warnings is Hutong's addition: what of the parameters contradicts the
// descriptions of their components.
type JobCreated struct {
	JobID    string    `json:"job_id"`
	Warnings []Warning `json:"warnings,omitempty"`
}

// JobStatus is the data of status_all: the protocol's two fields, and what a person wants to know beside them.
type JobStatus struct {
	JobID     string               `json:"job_id"`
	FlowID    string               `json:"flow_id"`
	State     JobState             `json:"job_status"`
	Status    map[string]TaskState `json:"status"` // north-south by task_id (5.3), east-west by task name (as FATE-Flow has it)
	Reason    string               `json:"reason"`
	Failure   *Failure             `json:"failure,omitempty"`
	Scheduler string               `json:"scheduler"`
	Queued    *Queued              `json:"queued,omitempty"` // while it waits for its start
	CreatedAt *time.Time           `json:"created_at"`
	StartedAt *time.Time           `json:"started_at"`
	EndedAt   *time.Time           `json:"ended_at"`
	Tasks     []TaskStatus         `json:"tasks"`
}

// TaskStatus is one task in [JobStatus], in the plan's order.
type TaskStatus struct {
	TaskID    string       `json:"task_id"`
	Name      string       `json:"task_name"`
	Component string       `json:"component"`
	Provider  string       `json:"provider"`
	Attempt   int          `json:"attempt,omitempty"` // above 1 when earlier ones were lost
	State     TaskState    `json:"status"`
	Reason    string       `json:"reason"`
	DependsOn []string     `json:"depends_on"`
	StartedAt *time.Time   `json:"started_at"`
	EndedAt   *time.Time   `json:"ended_at"`
	Parties   []PartStatus `json:"parties"`
}

// PartStatus is one role's part of a task.
type PartStatus struct {
	NodeID  string    `json:"node_id"`
	Role    string    `json:"role"`
	Index   int       `json:"index"`
	State   TaskState `json:"status"`
	Reason  string    `json:"reason"`
	Failure *Failure  `json:"failure,omitempty"`
	// Progress is a running part's, in the component's words; told of this party's parts.
	Progress string `json:"progress,omitempty"`
	// ReusedFrom is the job whose outputs stand for the part's own; told of this party's parts.
	ReusedFrom string     `json:"reused_from,omitempty"`
	StartedAt  *time.Time `json:"started_at"`
	EndedAt    *time.Time `json:"ended_at"`
}

// JobSummary is one row of a job list.
type JobSummary struct {
	JobID     string     `json:"job_id"`
	FlowID    string     `json:"flow_id"`
	State     JobState   `json:"job_status"`
	CreatedAt *time.Time `json:"created_at"`
	StartedAt *time.Time `json:"started_at"`
	EndedAt   *time.Time `json:"ended_at"`
}

// JobList is the data of query_job_list (5.6): states by job id, and the rows, newest first.
type JobList struct {
	JobList map[string]JobState `json:"job_list"`
	Jobs    []JobSummary        `json:"jobs"`
	Next    string              `json:"next,omitempty"` // the before of the next page; empty at the end
}

// Output is one thing that a finished task left in the party's storage.
type Output struct {
	TaskName  string `json:"task_name"`
	TaskID    string `json:"task_id"`
	Role      string `json:"role"` // guest.0
	Type      string `json:"type"`
	Key       string `json:"key"`    // the DAG's word
	Output    string `json:"output"` // the component's word
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Bytes     int64  `json:"bytes"`
}

// ReserveRequest asks a party for the room that a job needs there before it starts. It is Hutong's own, for parties that answered
// job/create with [JobAccepted.Reservations]; FATE-Flow's engine does the same within itself (apply_job_resource).
type ReserveRequest struct {
	JobID    string `json:"job_id"`
	Priority int    `json:"priority,omitempty"`
	// Created is when the scheduler took the job: all parties go by it when they decide who has waited longest.
	Created time.Time `json:"created_at"`
	// Generation counts the applications of a job: what comes late of an earlier one changes nothing.
	Generation int `json:"generation"`
}

// MaxGeneration bounds [Apply.Generation]: no job asks as often.
const MaxGeneration = 1_000_000_000

// Grant is a party's answer.
type Grant struct {
	Granted bool `json:"granted"`
	// State is the job's at the party: one that has ended there is not to be started.
	State JobState `json:"job_status,omitempty"`
	// Parallelism is how many tasks of the job may run at the party at once; 0 is no bound, and of a party that runs none of it.
	Parallelism int `json:"parallelism,omitempty"`
	// Generation is that of the latest application that the party has answered, where it is a later one than this: nothing was
	// decided, and a scheduler that has lost count goes on from there.
	Generation int `json:"generation,omitempty"`
	// Why not now, and the job's place among those that wait there.
	Reason   string `json:"reason,omitempty"`
	Position int    `json:"position,omitempty"`
	Total    int    `json:"total,omitempty"`
}

// ReleaseRequest gives back what was granted, since another party had no room.
type ReleaseRequest struct {
	JobID      string `json:"job_id"`
	Generation int    `json:"generation"` // of the application that was granted
}

// SetPriority changes the priority of a job that waits for its start.
type SetPriority struct {
	JobID    string `json:"job_id"`
	Priority int    `json:"priority"`
}

// Queued is where a job that has not started stands in its scheduler's queue.
type Queued struct {
	Priority int        `json:"priority"`
	Position int        `json:"position"`
	Total    int        `json:"total"`
	Reason   string     `json:"reason"`
	Since    *time.Time `json:"since,omitempty"`
}

// String tells people what the job waits for; empty when it waits for nothing.
func (q *Queued) String() string {
	if q == nil {
		return ""
	}
	return fmt.Sprintf("waits for its start at place %d of %d, with priority %d: %s", q.Position, q.Total, q.Priority, q.Reason)
}
