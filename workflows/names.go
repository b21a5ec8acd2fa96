package workflows

import (
	"time"

	"go.temporal.io/sdk/temporal"

	"hutong/bfia"
)

// The names under which the workflows are registered, and their ids.
const (
	JobName      = "Job"
	PartyJobName = "PartyJob"
)

// JobID is the id of a job's workflow at its scheduler.
func JobID(jobID string) string { return "job/" + jobID }

// PartyJobID is the id of a job's workflow at a participant.
func PartyJobID(jobID string) string { return "party-job/" + jobID }

// Updates and signals.
const (
	// UpdateCreate answers once the job is created (Job: on every party; PartyJob: here), or why it isn't.
	UpdateCreate = "create"
	// SignalCallback tells the scheduler's workflow a part's state: a [Callback].
	SignalCallback = "callback"
	// SignalStop stops a job, or a task and what follows it: a [Stop].
	SignalStop = "stop"
	// SignalAudit tells the scheduler's workflow a party's approval or rejection: an [Audit].
	SignalAudit = "audit"
	// UpdateAudit approves or rejects a job at a participant: an [Audit]. It answers once that is recorded.
	UpdateAudit = "audit"
	// SignalQueueChanged tells the scheduler's workflow of a job that waits for its start that something has changed; it carries nothing.
	SignalQueueChanged = "turn"
	// SignalCapacityHint tells a participant's workflow of a job that waits for room that there may be some; it carries nothing.
	SignalCapacityHint = "free"
	// UpdatePriority changes the priority of a job that waits: an int. It answers once that is recorded.
	UpdatePriority = "priority"
	// UpdateReserve asks a participant for room: a bfia.ReserveRequest, answered by a bfia.Grant. UpdateRelease gives it back: a bfia.ReleaseRequest.
	UpdateReserve = "apply"
	UpdateRelease = "return"
	// SignalStart is job/start at a participant; it carries nothing.
	SignalStart = "start"
	// SignalTaskStart is task/start at a participant: a bfia.TaskRef.
	SignalTaskStart = "task-start"
	// SignalTaskCallback is a container's own word: a bfia.TaskReport.
	SignalTaskCallback = "task-callback"
)

// Search attributes of both workflows.
var (
	AttributeJobID  = temporal.NewSearchAttributeKeyKeyword("HutongJobID")
	AttributeFlowID = temporal.NewSearchAttributeKeyKeyword("HutongFlowID")
	AttributeNodeID = temporal.NewSearchAttributeKeyKeyword("HutongNodeID")
	AttributeRoles  = temporal.NewSearchAttributeKeyKeywordList("HutongRoles")
	AttributeState  = temporal.NewSearchAttributeKeyKeyword("HutongState")
)

// What AttributeState says of a job that has ended, beside the job's states: FINISHED alone would not tell an operator
// whether it went well.
const (
	OutcomeSuccess  = "SUCCESS"
	OutcomeFailed   = "FAILED"
	OutcomeStopped  = "STOPPED"
	OutcomeRejected = string(bfia.JobRejected)
)

// Settings are what a party's configuration says about its jobs; they are fixed when a job is created.
type Settings struct {
	// PollAfter is how long the scheduler waits for a callback before it asks.
	PollAfter time.Duration `json:"poll_after"`
	// PollEvery is how often it asks then.
	PollEvery time.Duration `json:"poll_every"`
	// GiveUpAfter is how long a command to a party is tried, and how long a party may be out of reach.
	GiveUpAfter time.Duration `json:"give_up_after"`
	// StopGrace is what a container gets between SIGTERM and SIGKILL.
	StopGrace time.Duration `json:"stop_grace"`
	// TasksInFlight bounds the tasks of one job that run at once.
	TasksInFlight int `json:"tasks_in_flight"`
	// Attempts is how often a task is begun at most, where nothing of its own doing ended the one before.
	Attempts int `json:"attempts,omitempty"`
	// RunnerLostAfter is the silence after which a host with a task's run is given up, if another one is there.
	RunnerLostAfter time.Duration `json:"host_lost_after,omitempty"`
	// FailureSharing is how much of a failure partners are told.
	FailureSharing bfia.FailureSharing `json:"share,omitempty"`
}

// JobInput starts [Job].
type JobInput struct {
	Plan  bfia.Plan `json:"plan"`
	Node  string    `json:"node"`
	Nodes []string  `json:"nodes"` // the participants, also those that run no task
	// Reuse are the tasks for which old_job_id may stand, as the scheduler knows; each party says what it holds of them.
	Reuse    []string `json:"reuse,omitempty"`
	Settings Settings `json:"settings"`
}

// PartyJobInput starts [PartyJob]. Its plan has only the tasks and parts of this node.
type PartyJobInput struct {
	Plan      bfia.Plan `json:"plan"`
	Node      string    `json:"node"`
	Scheduler string    `json:"scheduler"`
	Roles     []string  `json:"roles"`
	Settings  Settings  `json:"settings"`
	// Approval: someone must approve the job here before it starts.
	Approval bool `json:"approval,omitempty"`
	// Fate: the scheduler is a FATE-Flow that speaks its own protocol.
	FateFlow bool `json:"fate,omitempty"`
	// Before, where the job has ended here and its scheduler runs it again, is what has become of its parts.
	Before []PartBefore `json:"before,omitempty"`
}

// PartBefore is what has become of a part of a task in a run of its job that has ended.
type PartBefore struct {
	Task    string         `json:"task"`
	Part    string         `json:"part"` // guest.0
	TaskID  string         `json:"task_id,omitempty"`
	Attempt int            `json:"attempt,omitempty"`
	State   bfia.TaskState `json:"state"`
	Failure *bfia.Failure  `json:"failure,omitempty"`
}

// Audit is an approval (READY) or a rejection (REJECTED) of a job.
type Audit struct {
	Node   string        `json:"node"`
	Status bfia.JobState `json:"status"`
	Reason string        `json:"reason,omitempty"`
}

// Callback is a part's state as its party tells it.
type Callback struct {
	Node    string         `json:"node"`
	TaskID  string         `json:"task_id"`
	Role    string         `json:"role"` // guest, guest.0, or empty: all parts of the node
	State   bfia.TaskState `json:"state"`
	Failure *bfia.Failure  `json:"failure,omitempty"` // why it FAILED, as far as the party tells
}

// Stop asks to end a job, or a task and what follows it.
type Stop struct {
	Task string `json:"task,omitempty"`
	By   string `json:"by"`
	// Attempt, where it is set, is the one attempt of the task that is meant, without what follows it: a further one may begin.
	Attempt int `json:"attempt,omitempty"`
	// Undo: the job was not created everywhere; nothing of it shall be kept.
	Undo bool `json:"undo,omitempty"`
	// Rejected: a party has not approved the job; Reason says who, and why.
	Rejected bool   `json:"rejected,omitempty"`
	Reason   string `json:"reason,omitempty"`
	// Failure is why the job did not go well, as its scheduler tells.
	Failure *bfia.Failure `json:"failure,omitempty"`
}

// Result is what a workflow ends with.
type Result struct {
	State   bfia.JobState `json:"state"`
	Outcome string        `json:"outcome"`
	Reason  string        `json:"reason,omitempty"`
}
