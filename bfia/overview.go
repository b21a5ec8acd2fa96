package bfia

import "time"

// PathOverview is the endpoint of the state of a party at a glance. It is Hutong's addition.
const PathOverview = "/v2/overview"

// Overview is the state of a party at a glance, with what needs a person.
type Overview struct {
	NodeID string    `json:"node_id"`
	Time   time.Time `json:"time"` // by the database's clock
	// Approvals are the jobs that wait for the approval of this party, oldest first; at most
	// [OverviewJobs], of ApprovalCount.
	Approvals     []OverviewJob `json:"approvals"`
	ApprovalCount int           `json:"approval_count"`
	// Failed are the jobs that failed in the last 24 hours, latest first; at most [OverviewJobs], of
	// FailedCount.
	Failed      []OverviewJob `json:"failed"`
	FailedCount int           `json:"failed_count"`
	// SilentRunners are the ids of runners that send no heartbeats.
	SilentRunners []string `json:"silent_runners"`
	// SilentPartners do not answer commands for which jobs wait.
	SilentPartners []SilentPartner `json:"silent_partners"`
	// Storage is the disk of the storage; nil if it is not known, as with S3.
	Storage *StorageSpace `json:"storage"`

	Jobs     map[JobState]int `json:"jobs"` // how many are in each state
	Queued   int              `json:"queued"`
	Capacity OverviewCapacity `json:"capacity"`
	Partners []PartnerContact `json:"partners"`
}

// OverviewJobs bounds the jobs of a list in an [Overview].
const OverviewJobs = 50

// OverviewJob is a job that needs a person.
type OverviewJob struct {
	JobID     string     `json:"job_id"`
	Project   string     `json:"project,omitempty"` // at this party; empty: default
	FlowID    string     `json:"flow_id"`
	Initiator string     `json:"initiator"`
	Since     time.Time  `json:"since"`            // it waits, or it failed
	Until     *time.Time `json:"until,omitempty"`  // it fails without an approval
	NodeID    string     `json:"node_id,omitzero"` // the party at which it failed
	Task      string     `json:"task_name,omitzero"`
	Reason    string     `json:"reason"`
	Failure   *Failure   `json:"failure,omitempty"`
}

// SilentPartner is a partner for whose answer jobs wait.
type SilentPartner struct {
	NodeID string    `json:"node_id"`
	Since  time.Time `json:"since"` // of the oldest wait
	Jobs   int       `json:"jobs"`
	Reason string    `json:"reason"` // of the oldest wait
}

// StorageSpace is the disk of a party's storage.
type StorageSpace struct {
	FreeBytes  int64 `json:"free_bytes"`
	TotalBytes int64 `json:"total_bytes"`
	// NearlyFull: less than 1 GiB or 5 % is free.
	NearlyFull bool `json:"nearly_full"`
}

// OverviewCapacity sums up the runners that are online or draining.
type OverviewCapacity struct {
	Runners int            `json:"runners"`
	Running int            `json:"running"` // containers
	Total   RunnerCapacity `json:"total"`
	Used    RunnerCapacity `json:"used"` // reserved by jobs
}

// PartnerContact is a partner with the time of its last request to this party.
type PartnerContact struct {
	NodeID    string     `json:"node_id"`
	Name      string     `json:"name,omitempty"`
	ContactAt *time.Time `json:"contact_at"` // nil: it has made none
}
