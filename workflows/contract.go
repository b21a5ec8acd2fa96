package workflows

import (
	"fmt"
	"strings"
	"time"

	"hutong/bfia"
)

// Types under which the workflows are registered.
const (
	SchedulerJobType   = "SchedulerJob"
	ParticipantJobType = "ParticipantJob"
	HousekeepingType   = "Housekeeping"
	// QueuedSchedulerJobType and ReadyParticipantJobType are the types of jobs that continue with a new
	// history before they start. An older version knows neither, so its workers leave these jobs alone: as
	// jobs of the other types it would create them again.
	QueuedSchedulerJobType  = "QueuedSchedulerJob"
	ReadyParticipantJobType = "ReadyParticipantJob"
	NotificationsType       = "Notifications"
	NotificationType        = "Notification"
)

// SchedulerJobID returns the workflow id of a job at its scheduler.
func SchedulerJobID(jobID string) string { return "scheduler-job/" + jobID }

// ParticipantJobID returns the workflow id of a job at a participant.
func ParticipantJobID(jobID string) string { return "participant-job/" + jobID }

// Updates and signals of a job at its scheduler.
const (
	// UpdateCreate returns once the job is created at every party, or with the reason why it isn't. It has no
	// input.
	UpdateCreate = "create"
	// UpdateCreateCompact is [UpdateCreate] for a job that keeps its histories short: see [IsUnknownUpdate].
	UpdateCreateCompact = "create-compact"
	// UpdateCreateMerged is [UpdateCreateCompact] for a job that also reserves as it is created, and writes
	// and reports an end in one activity: a [CreateRequest], answered by a [CreateResult].
	UpdateCreateMerged = "create-merged"
	// UpdatePriority changes the priority of a queued job: an int. It returns once that is recorded.
	UpdatePriority = "priority"
	// SignalCallback reports a part's state: a [Callback].
	SignalCallback = "callback"
	// SignalStop stops a job, or a task and all that depends on it: a [Stop].
	SignalStop = "stop"
	// SignalAudit reports a party's approval or rejection: an [Audit].
	SignalAudit = "audit"
	// SignalTaskWait reports to a job, also at a participant, what a part waits for: an activities.PartWait.
	SignalTaskWait = "task-wait"
	// SignalQueueChanged makes a queued job look at the queue again, before its next poll. It has no input.
	SignalQueueChanged = "queue-changed"
)

// Updates and signals of a job at a participant. It also has [UpdateCreate], [UpdateCreateCompact] and
// [UpdateCreateMerged], which return once the job is created here, [SignalStop] and [SignalTaskWait].
const (
	// UpdateAudit approves or rejects a job: an [Audit]. It returns once that is recorded.
	UpdateAudit = "audit"
	// UpdateReserve reserves resources: a bfia.ReserveRequest, answered by a bfia.Grant.
	UpdateReserve = "reserve"
	// UpdateRelease releases the reservation, or withdraws the request: a bfia.ReleaseRequest.
	UpdateRelease = "release"
	// SignalCapacityHint hints to a job that waits for a reservation that it may be granted now. It has no
	// input.
	SignalCapacityHint = "capacity-hint"
	// SignalStart is job/start. It has no input.
	SignalStart = "start"
	// SignalTaskStart is task/start: a bfia.TaskRef.
	SignalTaskStart = "task-start"
	// SignalTaskCallback is a container's callback: a bfia.TaskReport.
	SignalTaskCallback = "task-callback"
)

// Outcomes of a job that has ended. [AttributeState] has them in place of the state FINISHED, which does not
// show whether the job succeeded.
const (
	OutcomeSuccess  = bfia.OutcomeSuccess
	OutcomeFailed   = bfia.OutcomeFailed
	OutcomeStopped  = bfia.OutcomeStopped
	OutcomeRejected = bfia.OutcomeRejected
	OutcomeRefused  = bfia.OutcomeRefused
)

// Settings are a party's settings for its jobs. They are fixed when a job is created.
type Settings struct {
	// PollAfter is the silence after which the scheduler polls for a task's state, in place of its callback.
	PollAfter time.Duration `json:"poll_after"`
	// PollEvery is the polling interval.
	PollEvery time.Duration `json:"poll_every"`
	// GiveUpAfter bounds the retries of a command to a party, and the time that a party may be unreachable.
	GiveUpAfter time.Duration `json:"give_up_after"`
	// StopGrace is the time between SIGTERM and SIGKILL when a container is stopped.
	StopGrace time.Duration `json:"stop_grace"`
	// TasksInFlight bounds the tasks of one job that run at once.
	TasksInFlight int `json:"tasks_in_flight"`
	// Attempts bounds the attempts of a task whose failures are retryable.
	Attempts int `json:"attempts,omitempty"`
	// RunnerLostAfter is the silence after which a task leaves its runner for another one that is online.
	RunnerLostAfter time.Duration `json:"runner_lost_after,omitempty"`
	// FailureSharing bounds what partners learn of a failure.
	FailureSharing bfia.FailureSharing `json:"share,omitempty"`
}

// SchedulerJobInput is the input of a job's workflow at its scheduler.
type SchedulerJobInput struct {
	Plan  bfia.Plan `json:"plan"`
	Node  string    `json:"node"`
	Nodes []string  `json:"nodes"` // the participants, also those without tasks
	// Reuse names the tasks that may take their outputs from old_job_id, by the scheduler's rows. Each party
	// decides about its own parts.
	Reuse    []string `json:"reuse,omitempty"`
	Settings Settings `json:"settings"`
	// Queued is what the run of the workflow before this one has handed over, if the job continues as new.
	Queued *QueuedJob `json:"queued,omitempty"`
}

// CreateRequest is the input of [UpdateCreateMerged].
type CreateRequest struct {
	// AsksToReserve makes a scheduler ask the parties to reserve as they create the job.
	AsksToReserve bool `json:"asks_to_reserve,omitempty"`
	// Reserve is the reservation request that a participant got with job/create.
	Reserve *bfia.ReserveRequest `json:"reserve,omitempty"`
}

// CreateResult is the result of [UpdateCreateMerged].
type CreateResult struct {
	// Grant answers [CreateRequest.Reserve]. It is nil if someone must approve the job first.
	Grant *bfia.Grant `json:"grant,omitempty"`
}

// QueuedJob is what a scheduler knows of a job that is READY, all parties of which have accepted and approved
// it. It holds no reservation.
type QueuedJob struct {
	CreatedAt time.Time                   `json:"created_at"`
	Accepted  map[string]bfia.JobAccepted `json:"accepted"` // the answers to the creation, by node
	// Generation is that of the last reservation requests.
	Generation int `json:"generation,omitempty"`
	// DeniedBy is the party in whose queue the job waits.
	DeniedBy string `json:"denied_by,omitempty"`
	// SilentSince holds the parties that do not answer reservation requests.
	SilentSince map[string]time.Time `json:"silent_since,omitempty"`
	Polls       int                  `json:"polls"`
	Poll        time.Duration        `json:"poll"` // the interval before the next poll
	Waits       SavedWaits           `json:"waits"`
}

// ParticipantJobInput is the input of a job's workflow at a participant. Its plan has only this party's tasks
// and parts.
type ParticipantJobInput struct {
	Plan      bfia.Plan `json:"plan"`
	Node      string    `json:"node"`
	Scheduler string    `json:"scheduler"`
	Nodes     []string  `json:"nodes"` // all parties of the job
	Roles     []string  `json:"roles"`
	Settings  Settings  `json:"settings"`
	// Approval reports that someone must approve the job here before it starts.
	Approval bool `json:"approval,omitempty"`
	// FateFlow reports that the scheduler is a FATE-Flow that speaks its own protocol.
	FateFlow bool `json:"fateflow,omitempty"`
	// Before holds the parts of a job that has ended here and is rerun by its scheduler.
	Before []PartBefore `json:"before,omitempty"`
	// Ready is what the run of the workflow before this one has handed over, if the job continues as new.
	Ready *ReadyJob `json:"ready,omitempty"`
}

// ReadyJob is what a participant knows of a job that is READY, and whose approval its scheduler knows. The
// job holds no reservation.
type ReadyJob struct {
	CreatedAt  time.Time `json:"created_at"`
	ReadySince time.Time `json:"ready_since"`
	Decision   Audit     `json:"decision"` // of an approver of this party
	// Generation is that of the scheduler's last reservation request. Denied is why it was denied, if it was.
	Generation  int       `json:"generation,omitempty"`
	Denied      string    `json:"denied,omitempty"`
	DeniedSince time.Time `json:"denied_since"`
	Hints       int       `json:"hints,omitempty"`
	// Asks counts the questions to a silent scheduler. Ask is the silence before the next one.
	Asks       int           `json:"asks"`
	Ask        time.Duration `json:"ask"`
	Unanswered bool          `json:"unanswered,omitempty"` // the last question
	Waits      SavedWaits    `json:"waits"`
}

// PartBefore is the state of a part when its job ended, before the scheduler reruns it.
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

// Rejection returns the failure of a job that a party has rejected.
func (a Audit) Rejection() *bfia.Failure {
	return &bfia.Failure{Kind: bfia.FailedRejected, NodeID: a.Node, By: a.Node,
		Message: strings.TrimSuffix("rejected by "+a.Node+": "+a.Reason, ": ")}
}

// Callback is the state of a part as its party reports it.
type Callback struct {
	Node    string         `json:"node"`
	TaskID  string         `json:"task_id"`
	Role    string         `json:"role"` // guest, guest.0, or empty for all parts of the node
	State   bfia.TaskState `json:"state"`
	Failure *bfia.Failure  `json:"failure,omitempty"` // why it FAILED, as far as the party shares it
}

// Stop ends a job, or a task and all that depends on it.
type Stop struct {
	Task string `json:"task,omitempty"`
	By   string `json:"by"`
	// Attempt, if set, names the only attempt of the task to stop. Its dependents are not stopped, and
	// another attempt may follow.
	Attempt int `json:"attempt,omitempty"`
	// Undo removes the job, which was not created at every party.
	Undo bool `json:"undo,omitempty"`
	// Rejected reports that a party has rejected the job; Reason says which one, and why.
	Rejected bool   `json:"rejected,omitempty"`
	Reason   string `json:"reason,omitempty"`
	// Failure is why the job ended early, as its scheduler reports it.
	Failure *bfia.Failure `json:"failure,omitempty"`
}

// StoppedBy returns the failure of a job that someone stopped.
func StoppedBy(who string) *bfia.Failure { return &bfia.Failure{Kind: bfia.FailedStopped, By: who} }

// Result is the result of a job's workflow.
type Result struct {
	State   bfia.JobState `json:"state,omitempty"`
	Outcome bfia.Outcome  `json:"outcome"`
	Reason  string        `json:"reason,omitempty"`
}

const (
	// HousekeepingID is the workflow id of the party's housekeeping. A run starts at each tick of
	// HousekeepingCron, never two at once.
	HousekeepingID   = "housekeeping"
	HousekeepingCron = "@every 10m"
	// HousekeepingLimit bounds one run; the next continues with the rest.
	HousekeepingLimit = 2 * time.Hour
)

// NotificationsID is the workflow id of the party's notifications.
const NotificationsID = "notifications"

// NotificationID returns the workflow id of the delivery of a round of a notification.
func NotificationID(id string, round int) string { return fmt.Sprintf("notification/%s/%d", id, round) }
