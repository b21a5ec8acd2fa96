package activities

import (
	"time"

	"hutong/bfia"
)

// Task queues. Workflows, commands to parties and records run on the control queue; a container is started, watched and
// stopped on the queues of the host that it runs on, so that a worker that comes back finds its own.
const ControlQueue = "control"

// TaskQueueOfRunner is the queue of a host's runs.
func TaskQueueOfRunner(hostID string) string { return "host/" + hostID }

// StopQueueOfRunner is the queue on which runs of a host are stopped. It is apart from the runs' queue: a stop must never wait
// for a slot that only a stop can free.
func StopQueueOfRunner(hostID string) string { return "host/" + hostID + "/stop" }

// The names under which activities are registered. Workflows call them by name, so that they need nothing of their
// implementation; a name that changes breaks jobs that run.
const (
	RecordScheduleJobName = "RecordScheduleJob"
	RecordProgressName    = "RecordProgress"
	ForgetScheduleJobName = "ForgetScheduleJob"

	RecordJobName      = "RecordJob"
	RecordJobStateName = "RecordJobState"
	ClaimTaskName      = "ClaimTask"
	ReuseTaskName      = "ReuseTask"
	RecordTaskEndName  = "RecordTaskEnd"
	ReopenJobName      = "ReopenJob"
	ForgetJobName      = "ForgetJob"
	RequestStopName    = "RequestStop"

	DequeueName            = "TakeTurn"
	RequeueName            = "EndTurn"
	SetPriorityName        = "SetPriority"
	ReserveName            = "Admit"
	ReleaseReservationName = "Release"

	SendCreateName       = "SendCreate"
	SendStartName        = "SendStart"
	SendTaskStartName    = "SendTaskStart"
	SendStopName         = "SendStop"
	SendStopAgainName    = "SendStopAgain"
	SendCallbackName     = "SendCallback"
	SendFateReportName   = "SendFateReport"
	PollTaskName         = "PollTask"
	ReleaseSessionName   = "ReleaseSession"
	SendAuditName        = "SendAudit"
	SendReserveName      = "SendApply"
	SendReleaseName      = "SendReturn"
	SendCapacityHintName = "SendFree"

	RunTaskName  = "RunTask"
	StopTaskName = "StopTask"
)

// Failure types of activities that are not retried.
const (
	// FailureRefused: a party answered and said no.
	FailureRefused = "Refused"
	// FailureUnreachable: a party could not be reached, or what became of the request is not known: it is tried again.
	FailureUnreachable = "Unreachable"
)

// Progress is what the scheduler knows newly of a job: any of the job's state, tasks' and parts' states. States only
// move forward, so the same progress twice changes nothing.
type Progress struct {
	JobID   string         `json:"job_id"`
	State   bfia.JobState  `json:"state,omitempty"`
	Reason  string         `json:"reason,omitempty"`
	Failure *bfia.Failure  `json:"failure,omitempty"`
	Tasks   []TaskProgress `json:"tasks,omitempty"`
	At      time.Time      `json:"at"`
}

// TaskProgress is a task's state and those of its parts that changed.
type TaskProgress struct {
	TaskID string `json:"task_id"`
	Name   string `json:"task_name,omitempty"`
	// Attempt is the one that TaskID names. The first write of a further one replaces the rows of the one before.
	Attempt int            `json:"attempt,omitempty"`
	State   bfia.TaskState `json:"state"`
	Reason  string         `json:"reason,omitempty"`
	Parts   []PartProgress `json:"parts,omitempty"`
}

// PartProgress is one part's state.
type PartProgress struct {
	Part    bfia.Part      `json:"part"`
	State   bfia.TaskState `json:"state"`
	Failure *bfia.Failure  `json:"failure,omitempty"`
}

// TaskKey names one part of one task of a job at this party.
type TaskKey struct {
	JobID string `json:"job_id"`
	Task  string `json:"task"`
	Role  string `json:"role"`
	Index int    `json:"index"`
}

// Claim is what [Records.ClaimTask] found for one part: the host that runs it, and how it is with a run that has begun.
type Claim struct {
	Part     bfia.Part `json:"part"`
	RunnerID string    `json:"host_id,omitempty"`
	Attempt  int       `json:"attempt"`
	// Begun: the run has begun on the host, and stays there. This and what follows is told of a claim that avoids a host.
	Begun bool `json:"begun,omitempty"`
	// HeartbeatAt is when the host of a run that has begun was last heard of; zero when it is not known any more.
	HeartbeatAt time.Time `json:"seen,omitzero"`
	// Elsewhere: another host is there that could run it.
	Elsewhere bool `json:"elsewhere,omitempty"`
	// Ended is how the run ended, where that is recorded.
	Ended *PartResult `json:"ended,omitempty"`
}

// PartRequest asks a host to run one attempt of one part of a task.
type PartRequest struct {
	Key     TaskKey   `json:"key"`
	Part    bfia.Part `json:"part"`
	TaskID  string    `json:"task_id"`
	Attempt int       `json:"attempt"`
}

// PartResult is how it ended.
type PartResult struct {
	Failure *bfia.Failure `json:"failure,omitempty"` // nil when it went well
}

// PollRequest asks for the state of a task at the nodes that have not told its end.
type PollRequest struct {
	JobID  string        `json:"job_id"`
	TaskID string        `json:"task_id"`
	Nodes  []string      `json:"nodes"`
	Every  time.Duration `json:"every"`
	// GiveUpAfter is how long a node may be out of reach before its part counts as failed.
	GiveUpAfter time.Duration `json:"give_up_after"`
}

// PollResult is a node whose part of the task has ended.
type PollResult struct {
	Node    string         `json:"node"`
	State   bfia.TaskState `json:"state"`
	Failure *bfia.Failure  `json:"failure,omitempty"`
}
