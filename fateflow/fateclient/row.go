package fateclient

import (
	"encoding/json"
	"fmt"
	"time"

	"hutong/bfia"
)

// Protocol is the name of the protocol in rows.
const Protocol = "bfia"

// Parties are the parties of one role, in rows.
type Parties struct {
	Role    string   `json:"role"`
	PartyID []string `json:"party_id"`
}

// PartiesOf returns the parties of a job by role.
func PartiesOf(c *bfia.Config) []Parties {
	list := []Parties{}
	for _, role := range c.Roles() {
		if nodes := c.Role[role]; len(nodes) > 0 {
			list = append(list, Parties{Role: role, PartyID: nodes})
		}
	}
	return list
}

// Job is a row about a job in one of a party's roles. It has all fields of FATE-Flow's; those that have no
// meaning here are empty.
type Job struct {
	JobID              string          `json:"job_id"`
	Role               string          `json:"role"`
	PartyID            string          `json:"party_id"`
	Status             string          `json:"status"`
	Progress           int             `json:"progress"`
	Description        string          `json:"description"`
	FlowID             string          `json:"flow_id"`
	InitiatorPartyID   string          `json:"initiator_party_id"`
	SchedulerPartyID   string          `json:"scheduler_party_id"`
	Parties            []Parties       `json:"parties"`
	Partners           []string        `json:"partners,omitzero"` // in lists only
	Protocol           string          `json:"protocol"`
	DAG                json.RawMessage `json:"dag"`
	CreateTime         int64           `json:"create_time"`
	UpdateTime         int64           `json:"update_time"`
	StartTime          *int64          `json:"start_time"`
	EndTime            *int64          `json:"end_time"`
	Elapsed            int64           `json:"elapsed"`
	ModelID            string          `json:"model_id"`
	ModelVersion       string          `json:"model_version"`
	Tag                string          `json:"tag"`
	UserName           string          `json:"user_name"`
	StatusCode         *int            `json:"status_code"`
	Inheritance        struct{}        `json:"inheritance"`
	EngineName         *string         `json:"engine_name"`
	Cores              int             `json:"cores"`
	Memory             int             `json:"memory"`
	RemainingCores     int             `json:"remaining_cores"`
	RemainingMemory    int             `json:"remaining_memory"`
	ResourceInUse      bool            `json:"resource_in_use"`
	ApplyResourceTime  *int64          `json:"apply_resource_time"`
	ReturnResourceTime *int64          `json:"return_resource_time"`
	SyncType           string          `json:"sync_type"`
}

// ModelVersion is the version of every job's models.
const ModelVersion = "0"

// Times are when something was created, started and ended. Until it has ended, it has run until Now.
type Times struct {
	Created, Now   time.Time
	Started, Ended *time.Time
}

// NewJob returns the row of a job in one role of a party, without what its document says ([Job.Describe]).
func NewJob(jobID, role, party, status string, t Times) Job {
	j := Job{JobID: jobID, Role: role, PartyID: party, Status: status, Protocol: Protocol,
		ModelID: jobID, ModelVersion: ModelVersion, Parties: []Parties{}, DAG: json.RawMessage("{}"),
		CreateTime: t.Created.UnixMilli(), UpdateTime: t.updated(), StartTime: millis(t.Started),
		EndTime: millis(t.Ended), Elapsed: t.elapsed()}
	if t.Ended != nil {
		j.Tag = "job_end"
	}
	if status == Success {
		j.Progress = 100
	}
	return j
}

// Describe adds what a job's document says.
func (j *Job) Describe(doc *bfia.Document) {
	j.DAG = doc.Bytes()
	j.Parties = PartiesOf(&doc.Config)
	j.SyncType = doc.Config.SyncType()
}

// updated returns the time of the last change that is known.
func (t Times) updated() int64 {
	switch {
	case t.Ended != nil:
		return t.Ended.UnixMilli()
	case t.Started != nil:
		return t.Started.UnixMilli()
	}
	return t.Created.UnixMilli()
}

// elapsed returns how long it has run, in milliseconds.
func (t Times) elapsed() int64 {
	switch {
	case t.Started == nil:
		return 0
	case t.Ended == nil:
		return max(0, t.Now.Sub(*t.Started).Milliseconds())
	}
	return max(0, t.Ended.Sub(*t.Started).Milliseconds())
}

func millis(t *time.Time) *int64 {
	if t == nil {
		return nil
	}
	ms := t.UnixMilli()
	return &ms
}

// Task is a row about one part of a task.
type Task struct {
	JobID               string                     `json:"job_id"`
	TaskID              string                     `json:"task_id"`
	TaskName            string                     `json:"task_name"`
	TaskVersion         int                        `json:"task_version"`
	Role                string                     `json:"role"`
	PartyID             string                     `json:"party_id"`
	Component           string                     `json:"component"`
	ProviderName        string                     `json:"provider_name"`
	Status              string                     `json:"status"`
	PartyStatus         string                     `json:"party_status"`
	ErrorReport         string                     `json:"error_report"`
	StartTime           *int64                     `json:"start_time"`
	EndTime             *int64                     `json:"end_time"`
	Elapsed             int64                      `json:"elapsed"`
	CreateTime          int64                      `json:"create_time"`
	UpdateTime          int64                      `json:"update_time"`
	ExecutionID         string                     `json:"execution_id"`
	SchedulerPartyID    string                     `json:"scheduler_party_id"`
	Protocol            string                     `json:"protocol"`
	SyncType            string                     `json:"sync_type"`
	ComponentParameters map[string]json.RawMessage `json:"component_parameters"`
	TaskParameters      struct{}                   `json:"task_parameters"`
	TaskRun             struct{}                   `json:"task_run"`
	EngineConf          struct{}                   `json:"engine_conf"`
	Cmd                 struct{}                   `json:"cmd"`
	KillStatus          bool                       `json:"kill_status"`
	ResourceInUse       bool                       `json:"resource_in_use"`
	TaskCores           int                        `json:"task_cores"`
	Memory              int                        `json:"memory"`
	LauncherName        *string                    `json:"launcher_name"`
	RunIP               *string                    `json:"run_ip"`
	RunPort             *int                       `json:"run_port"`
	RunPID              *int                       `json:"run_pid"`
	StatusCode          *int                       `json:"status_code"`
	Timeout             *int                       `json:"timeout"`
	WorkerID            *string                    `json:"worker_id"`
	ProgressText        string                     `json:"progress,omitempty"` // as the component reports it
}

// NewTask returns the row of a part of a task. version counts from 0.
func NewTask(jobID, taskID, name string, version int, role, party, status string, t Times) Task {
	return Task{JobID: jobID, TaskID: taskID, TaskName: name, TaskVersion: version, Role: role,
		PartyID: party,
		Status:  status, PartyStatus: status, Protocol: Protocol,
		ExecutionID: fmt.Sprintf("%s_%d_%s_%s", taskID, version, role, party),
		CreateTime:  t.Created.UnixMilli(), UpdateTime: t.updated(), StartTime: millis(t.Started),
		EndTime: millis(t.Ended), Elapsed: t.elapsed()}
}
