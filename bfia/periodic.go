package bfia

import (
	"encoding/json"
	"maps"
	"time"
)

// The paths of periodic jobs, Hutong's addition.
const (
	PathPeriodicAdd    = "/v2/periodic/add"
	PathPeriodicQuery  = "/v2/periodic/query"
	PathPeriodicChange = "/v2/periodic/change"
	PathPeriodicPause  = "/v2/periodic/pause"
	PathPeriodicResume = "/v2/periodic/resume"
	PathPeriodicRun    = "/v2/periodic/run"
	PathPeriodicDelete = "/v2/periodic/delete"
)

// Overlap says what a periodic job does at a scheduled time while its last job has not ended. The values are
// those of Temporal's ScheduleOverlapPolicy with the same meaning.
type Overlap string

// The overlap policies.
const (
	OverlapSkip     Overlap = "skip"       // submit nothing
	OverlapBuffer   Overlap = "buffer_one" // submit one job after the end of the last one
	OverlapAllowAll Overlap = "allow_all"  // submit at once
)

// Overlaps returns all overlap policies.
func Overlaps() []Overlap { return []Overlap{OverlapSkip, OverlapBuffer, OverlapAllowAll} }

// Recurrence says when a periodic job submits its job, and when it does not.
type Recurrence struct {
	// Cron has the five fields of cron, a name such as @daily, or @every with a duration.
	Cron string `json:"cron"`
	// Timezone is the IANA name of the time zone in which Cron is read. Empty: UTC.
	Timezone string  `json:"timezone,omitempty"`
	Overlap  Overlap `json:"overlap,omitempty"` // empty: skip
	// CatchupSeconds is how late a run may start, if the party was not running at its time. 0: the default.
	CatchupSeconds int `json:"catchup_seconds,omitempty"`
	// PauseOnFailure pauses after this many failures in a row. 0: never.
	PauseOnFailure int `json:"pause_on_failure,omitempty"`
	// Count is how many scheduled jobs are submitted in all. 0: no limit.
	Count int `json:"count,omitempty"`
	// EndsAt is the time after which nothing is submitted.
	EndsAt *time.Time `json:"ends_at,omitempty"`
}

// AddPeriodic is the body of requests to [PathPeriodicAdd] and [PathPeriodicChange].
type AddPeriodic struct {
	Name string `json:"name"`
	// Document is the document of each job, without a job_id. A change may leave it out. Placeholders such as
	// {{date}} in its texts become the scheduled time of the run.
	Document json.RawMessage `json:"document,omitempty"`
	// Project is that of a new periodic job and its jobs, as in a submission. It never changes.
	Project string `json:"project,omitempty"`
	Recurrence
}

// PausePeriodic is the body of a request to [PathPeriodicPause].
type PausePeriodic struct {
	Name   string `json:"name"`
	Reason string `json:"reason,omitempty"`
}

// PeriodicRef names a periodic job.
type PeriodicRef struct {
	Name string `json:"name"`
}

// RunPeriodic is the body of a request to [PathPeriodicRun].
type RunPeriodic struct {
	Name string `json:"name"`
	// RequestID names the request: repeated with the same id, it starts no second job. Empty: each starts
	// one.
	RequestID string `json:"request_id,omitempty"`
}

// PeriodicState is the state of a periodic job.
type PeriodicState string

// The states of a periodic job.
const (
	PeriodicActive PeriodicState = "ACTIVE"
	PeriodicPaused PeriodicState = "PAUSED"
	PeriodicEnded  PeriodicState = "ENDED" // its count or its end is reached
)

// PeriodicOutcome is what became of a run of a periodic job. The outcome of a job is one too.
type PeriodicOutcome string

// The outcomes of runs that are not those of a job.
const (
	RunWaiting   PeriodicOutcome = "WAITING"   // for the end of the job before
	RunSubmitted PeriodicOutcome = "SUBMITTED" // its job has not ended
	RunSkipped   PeriodicOutcome = "SKIPPED"   // the job before had not ended
	RunMissed    PeriodicOutcome = "MISSED"    // the party was not running
	RunRefused   PeriodicOutcome = "REFUSED"   // its job was not accepted
	RunUnknown   PeriodicOutcome = "UNKNOWN"   // its job was deleted before its end was seen
)

// Open reports whether a run has not ended.
func (o PeriodicOutcome) Open() bool { return o == RunWaiting || o == RunSubmitted }

// Failed reports whether a run counts as a failure.
func (o PeriodicOutcome) Failed() bool {
	switch o {
	case RunRefused, PeriodicOutcome(OutcomeFailed), PeriodicOutcome(OutcomeRejected):
		return true
	}
	return false
}

// PeriodicRun is one scheduled time of a periodic job, or a run that a client has started.
type PeriodicRun struct {
	ScheduledAt time.Time       `json:"scheduled_at"`
	Manual      bool            `json:"manual,omitempty"` // a client has started it
	JobID       string          `json:"job_id,omitempty"`
	Outcome     PeriodicOutcome `json:"outcome"`
	Reason      string          `json:"reason,omitempty"`
	// Count is how many scheduled times a record of missed runs covers.
	Count   int        `json:"count,omitempty"`
	EndedAt *time.Time `json:"ended_at,omitempty"`
}

// Periodic is a periodic job.
type Periodic struct {
	Name    string `json:"name"`
	Project string `json:"project,omitempty"` // empty: default
	Recurrence
	Owner string        `json:"owner,omitempty"` // in whose name the jobs are submitted
	State PeriodicState `json:"state"`
	// Reason says why it is paused or has ended.
	Reason string     `json:"reason,omitempty"`
	NextAt *time.Time `json:"next_at,omitempty"`
	// Submitted counts the scheduled jobs, Failures the last ones that failed in a row.
	Submitted int           `json:"submitted"`
	Failures  int           `json:"failures,omitempty"`
	CreatedAt time.Time     `json:"created_at"`
	UpdatedAt time.Time     `json:"updated_at"`
	LastRuns  []PeriodicRun `json:"last_runs"` // latest first
	Upcoming  []time.Time   `json:"upcoming,omitempty"`
	FlowID    string        `json:"flow_id,omitempty"`
	Parties   []string      `json:"parties,omitempty"`
	// Document is the document of each job, if the answer is about one periodic job.
	Document json.RawMessage `json:"document,omitempty"`
}

// PeriodicAdded is the data of the answer to [PathPeriodicAdd] and [PathPeriodicChange].
type PeriodicAdded struct {
	Name     string      `json:"name"`
	Upcoming []time.Time `json:"upcoming"`
	Warnings []Warning   `json:"warnings,omitempty"`
}

// PeriodicStarted is the data of the answer to [PathPeriodicRun].
type PeriodicStarted struct {
	JobID string `json:"job_id"`
}

// WithoutJobID returns a copy without a job id.
func (d *Document) WithoutJobID() *Document {
	c := *d
	c.JobID, c.fields = "", maps.Clone(d.fields)
	delete(c.fields, "job_id")
	return &c
}
