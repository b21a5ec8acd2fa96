package bfia

import (
	"fmt"
	"time"
)

// JobRef is the body of job/start, job/stop, job/stop_all, job/stop_task and status requests (part 2, 3.3,
// 3.5 to 3.7).
type JobRef struct {
	JobID    string `json:"job_id"`
	TaskName string `json:"task_name,omitempty"`
	// Undo is Hutong's addition to job/stop: the job was not created at every party, so the receiver removes
	// it. Other implementations ignore it and keep a finished job that never ran.
	Undo bool `json:"undo,omitempty"`
	// State is Hutong's addition to job/stop: REJECTED if a party has not approved the job. Reason says which
	// party, and why. Other implementations ignore both.
	State JobState `json:"job_status,omitempty"`
	// Reason says why the request was denied. Position and Total locate the job in the party's queue.
	Reason string `json:"reason,omitempty"`
	// Failure is Hutong's addition to job/stop at the end of a failed job.
	Failure *Failure `json:"failure,omitempty"`
}

// JobAccepted holds Hutong's additions to the answer to job/create. Other implementations send none of them.
type JobAccepted struct {
	// State is PENDING if someone must approve the job first. The scheduler then waits for audit_confirm.
	State JobState `json:"job_status,omitempty"`
	// Callbacks is set if the party reports the ends of its tasks.
	Callbacks bool `json:"callbacks,omitempty"`
	// Reuses lists the tasks for which the party still has outputs of old_job_id, from the same parameters
	// and inputs.
	Reuses []string `json:"reuses,omitempty"`
	// Attempts is set if the party accepts a task/start of a further attempt.
	Attempts bool `json:"attempts,omitempty"`
	// Reservations is set if the scheduler must reserve resources before it starts the job; see
	// [ReserveRequest].
	Reservations bool `json:"reservations,omitempty"`
	// Grant answers the reservation request that came with job/create; see [ReserveRequest.Query]. It is nil
	// if none came, or if someone must approve the job first.
	Grant *Grant `json:"grant,omitempty"`
}

// Audit is the body of audit_confirm (part 2, 3.10 of earlier versions of the specification, and FATE-Flow):
// READY approves a job, REJECTED rejects it. Reason is Hutong's addition; other implementations ignore it.
type Audit struct {
	JobID  string   `json:"job_id"`
	Status JobState `json:"status"`
	Reason string   `json:"reason,omitempty"`
}

// Check returns an error if an audit from outside is not valid. It translates APPROVED, the management
// layer's name (part 1, 8.2), to READY.
func (a *Audit) Check() error {
	if err := CheckID("job_id", a.JobID); err != nil {
		return err
	}
	switch a.Status {
	case "APPROVED":
		a.Status = JobReady
	case JobReady, JobRejected:
	default:
		return Errorf(CodeBadRequest, "status: is %q, must be READY (approves the job) or REJECTED", a.Status)
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
	// Reuse is Hutong's addition: the task does not run, since the outputs of old_job_id replace its own.
	// Only parties that listed the task in [JobAccepted.Reuses] receive it.
	Reuse bool `json:"reuse,omitempty"`
	// Attempt is Hutong's addition. It counts from 1, and 0 means 1. A further attempt has a task id of its
	// own and ends the containers of the one before. Only parties that set [JobAccepted.Attempts] receive it.
	Attempt int `json:"attempt,omitempty"`
	// Lost is Hutong's addition to a further attempt: why the one before ended, as its party shares it.
	Lost *Failure `json:"lost,omitempty"`
}

// MaxAttempts bounds the attempts of a task that a scheduler may start.
const MaxAttempts = 1000

// AttemptNumber returns the attempt, counted from 1.
func (r TaskRef) AttemptNumber() int { return max(r.Attempt, 1) }

// TaskPoll is the body of task/poll (part 2, 3.8). An empty role asks for all roles of the node.
type TaskPoll struct {
	TaskID string `json:"task_id"`
	Role   string `json:"role"`
}

// TaskReport is the body of both callbacks (part 2, 3.9 and 4.1): from a container to its party, and from a
// party to the scheduler. Reason and Failure are Hutong's additions; other implementations ignore them.
type TaskReport struct {
	TaskID  string    `json:"task_id"`
	Status  TaskState `json:"status"`
	Role    string    `json:"role"`
	Reason  string    `json:"reason,omitempty"`
	Failure *Failure  `json:"failure,omitempty"`
}

// PollResult is the data of the answer to task/poll.
type PollResult struct {
	Status  TaskState `json:"status"`
	Reason  string    `json:"reason,omitempty"`
	Failure *Failure  `json:"failure,omitempty"`
	Waiting *Waiting  `json:"waiting,omitempty"` // Hutong's addition: why it does not proceed
}

// JobCheck is the data of the answer to a check of a job, which creates nothing: what each party would do
// with it.
type JobCheck struct {
	Warnings []Warning    `json:"warnings,omitempty"`
	Parties  []PartyCheck `json:"parties"`
}

// PartyCheck is what one party would do with a job.
type PartyCheck struct {
	NodeID string `json:"node_id,omitempty"`
	// Accepts says whether the party would accept the job now. Empty: it could not be asked, for Reason.
	Accepts  *bool     `json:"accepts,omitempty"`
	Reason   string    `json:"reason,omitempty"` // why it would not, or could not be asked
	Warnings []Warning `json:"warnings,omitempty"`
}

// JobCreated is the data of the answer to create_all. Warnings is Hutong's addition: the parameters that
// contradict the descriptions of their components, and the fields without effect.
type JobCreated struct {
	JobID    string    `json:"job_id"`
	Warnings []Warning `json:"warnings,omitempty"`
}

// JobStatus is the data of the answer to status_all: the protocol's two fields, and Hutong's additions for
// people.
type JobStatus struct {
	JobID     string               `json:"job_id"`
	FlowID    string               `json:"flow_id"`
	State     JobState             `json:"job_status"`
	Status    map[string]TaskState `json:"status"`            // by task_id north-south (5.3), by task name east-west (as in FATE-Flow)
	Outcome   Outcome              `json:"outcome,omitempty"` // once it has ended
	Reason    string               `json:"reason"`
	Failure   *Failure             `json:"failure,omitempty"`
	Waiting   []Waiting            `json:"waiting,omitempty"` // why it does not proceed
	Scheduler string               `json:"scheduler"`
	// Project is that of the own party; empty: default. Partners don't get it.
	Project string `json:"project,omitempty"`
	// The clients of the own party that submitted, approved and rejected the job. Partners don't get them.
	SubmittedBy []string `json:"submitted_by,omitempty"`
	ApprovedBy  []string `json:"approved_by,omitempty"`
	RejectedBy  []string `json:"rejected_by,omitempty"`
	// ApprovalRule is the rule by which the own party approved the job; ApprovedBy has who made it.
	ApprovalRule string       `json:"approval_rule,omitempty"`
	Queued       *Queued      `json:"queued,omitempty"` // while it is queued
	CreatedAt    *time.Time   `json:"created_at"`
	StartedAt    *time.Time   `json:"started_at"`
	EndedAt      *time.Time   `json:"ended_at"`
	Tasks        []TaskStatus `json:"tasks"`
}

// TaskStatus is one task of [JobStatus], in the plan's order.
type TaskStatus struct {
	TaskID    string       `json:"task_id"`
	Name      string       `json:"task_name"`
	Component string       `json:"component"`
	Provider  string       `json:"provider"`
	Attempt   int          `json:"attempt,omitempty"` // above 1 if earlier ones were lost
	State     TaskState    `json:"status"`
	Reason    string       `json:"reason"`
	Waiting   *Waiting     `json:"waiting,omitempty"` // why it has not started
	DependsOn []string     `json:"depends_on"`
	StartedAt *time.Time   `json:"started_at"`
	EndedAt   *time.Time   `json:"ended_at"`
	Parties   []PartStatus `json:"parties"`
	// Attempts are those before the latest, which the other fields describe. A participant knows its own
	// parts only.
	Attempts []AttemptStatus `json:"attempts,omitempty"`
}

// AttemptStatus is an attempt of a task that another one has followed.
type AttemptStatus struct {
	Attempt   int        `json:"attempt"`
	TaskID    string     `json:"task_id"`
	StartedAt *time.Time `json:"started_at"`
	EndedAt   *time.Time `json:"ended_at"`
	// Failure is why it ended: that of the part that failed first. A participant may not know it.
	Failure *Failure     `json:"failure,omitempty"`
	Parties []PartStatus `json:"parties"`
}

// PartStatus is one part of a task.
type PartStatus struct {
	NodeID  string    `json:"node_id"`
	Role    string    `json:"role"`
	Index   int       `json:"index"`
	State   TaskState `json:"status"`
	Reason  string    `json:"reason"`
	Failure *Failure  `json:"failure,omitempty"`
	Waiting *Waiting  `json:"waiting,omitempty"` // why its container does not run yet
	Waits   []Waited  `json:"waits,omitempty"`   // what it has waited for
	// Progress is the component's own report on a running part. Only the part's own party has it.
	Progress string `json:"progress,omitempty"`
	// ReusedFrom is the job whose outputs replace those of the part. Only the part's own party has it.
	ReusedFrom string     `json:"reused_from,omitempty"`
	StartedAt  *time.Time `json:"started_at"`
	EndedAt    *time.Time `json:"ended_at"`
}

// JobSummary is one row of a job list.
type JobSummary struct {
	JobID     string     `json:"job_id"`
	FlowID    string     `json:"flow_id"`
	Project   string     `json:"project,omitempty"` // of this party; empty: default
	State     JobState   `json:"job_status"`
	Outcome   Outcome    `json:"outcome,omitempty"` // once it has ended
	Reason    string     `json:"reason"`            // of an outcome other than SUCCESS
	Failure   *Failure   `json:"failure,omitempty"`
	Waiting   []Waiting  `json:"waiting,omitempty"` // why it does not proceed
	Roles     []string   `json:"roles"`             // of this party
	Parties   []string   `json:"parties"`           // node ids of all parties
	Initiator string     `json:"initiator"`
	Scheduler string     `json:"scheduler"`
	CreatedAt *time.Time `json:"created_at"`
	StartedAt *time.Time `json:"started_at"`
	EndedAt   *time.Time `json:"ended_at"`
}

// JobList is the data of the answer to query_job_list (5.6): states by job id, and the rows, newest first.
type JobList struct {
	JobList map[string]JobState `json:"job_list"`
	Jobs    []JobSummary        `json:"jobs"`
	Next    string              `json:"next,omitempty"` // the parameter "before" of the next page; empty on the last one

	// SearchedTo is the creation of the last job that was searched, on a page with a next one. Such a page
	// can have fewer jobs than its limit, or none.
	SearchedTo *time.Time `json:"searched_to,omitempty"`
}

// Output is an object that a finished task wrote to the party's storage.
type Output struct {
	TaskName  string `json:"task_name"`
	TaskID    string `json:"task_id"`
	Role      string `json:"role"` // guest.0
	Type      string `json:"type"`
	Key       string `json:"key"`    // the key in the DAG
	Output    string `json:"output"` // the name in the component's description
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Bytes     int64  `json:"bytes"`
}

// ReserveRequest asks a party to reserve the resources of a job before it starts. It is Hutong's addition,
// for parties that set [JobAccepted.Reservations]. FATE-Flow does the same internally (apply_job_resource).
type ReserveRequest struct {
	JobID    string `json:"job_id"`
	Priority int    `json:"priority,omitempty"`
	// Created is the time at which the scheduler accepted the job. All parties use it to decide which job has
	// waited longest.
	Created time.Time `json:"created_at"`
	// Generation is the fencing token: it counts the requests for a job. A late request of an earlier
	// generation has no effect.
	Generation int `json:"generation"`
}

// MaxGeneration bounds [ReserveRequest.Generation]; no job sends as many requests.
const MaxGeneration = 1_000_000_000

// Grant is the answer to a [ReserveRequest].
type Grant struct {
	Granted bool `json:"granted"`
	// State is the state of the job at the party. The scheduler must not start a job that has ended there.
	State JobState `json:"job_status,omitempty"`
	// Parallelism is the number of tasks of the job that can run at once at the party. 0 is no limit, or a
	// party that runs none of them.
	Parallelism int `json:"parallelism,omitempty"`
	// Generation is set if the party has already answered a later request: it decided nothing, and a
	// scheduler that has lost count continues from this generation.
	Generation int `json:"generation,omitempty"`
	// Reason says why the request was denied. Position and Total locate the job in the party's queue.
	Reason   string `json:"reason,omitempty"`
	Position int    `json:"position,omitempty"`
	Total    int    `json:"total,omitempty"`
	// Quota: the reason concerns some of the scheduler's jobs only, since these exceed a quota at the party.
	Quota bool `json:"quota,omitempty"`
}

// ReleaseRequest releases a reservation, since another party denied its resources.
type ReleaseRequest struct {
	JobID      string `json:"job_id"`
	Generation int    `json:"generation"` // of the request that was granted
}

// SetPriority changes the priority of a queued job.
type SetPriority struct {
	JobID    string `json:"job_id"`
	Priority int    `json:"priority"`
}

// Queued is the position of a job in its scheduler's queue.
type Queued struct {
	Priority int        `json:"priority"`
	Position int        `json:"position"`
	Total    int        `json:"total"`
	Reason   string     `json:"reason"`
	Since    *time.Time `json:"since,omitempty"`
}

// Waiting describes what a queued job waits for. node is the party that denied it a reservation, or "".
func (q *Queued) Waiting(node string) Waiting {
	w := Waiting{Kind: WaitsForQueue, NodeID: node, Message: fmt.Sprintf(
		"waits at position %d of %d in the queue, with priority %d: %s", q.Position, q.Total, q.Priority,
		q.Reason)}
	if q.Since != nil {
		w.Since = *q.Since
	}
	return w
}
