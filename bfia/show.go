package bfia

import "encoding/json"

// JobView is all that a party knows of a job before it runs: what its approver decides on.
type JobView struct {
	JobID     string    `json:"job_id"`
	FlowID    string    `json:"flow_id"`
	State     JobState  `json:"job_status"`
	Waiting   []Waiting `json:"waiting,omitempty"`
	Self      string    `json:"node_id"` // this party
	Initiator Initiator `json:"initiator"`
	Scheduler string    `json:"scheduler"`
	// SubmittedBy are the clients of the own party that submitted the job.
	SubmittedBy []string `json:"submitted_by,omitempty"`
	// Periodic is the periodic job of the own party that submitted the job.
	Periodic string `json:"periodic,omitempty"`
	// Workflows are those of the job at the own party, for clients that operate.
	Workflows []WorkflowView  `json:"workflows,omitempty"`
	Parts     []Part          `json:"parts"` // the roles of all parties
	Tasks     []TaskView      `json:"tasks"`
	Document  json.RawMessage `json:"document"` // as it was submitted
}

// WorkflowView is a workflow of a job, and where Temporal's UI shows it.
type WorkflowView struct {
	Side       string `json:"side"` // scheduler or participant
	WorkflowID string `json:"workflow_id"`
	URL        string `json:"url"`
}

// TaskView is a task of a [JobView].
type TaskView struct {
	Name      string `json:"task_name"`
	Component string `json:"component"`
	Provider  string `json:"provider"` // name:version
	// Title and Description are the provider's own texts on the component.
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`
	// Images are what this party runs for the component, by device.
	Images    []ImageView  `json:"images"`
	DependsOn []string     `json:"depends_on"`
	Parts     []PartView   `json:"parts"`
	Outputs   []OutputView `json:"outputs"`
}

// ImageView is what a provider runs on a device: an image, or a command.
type ImageView struct {
	Device string `json:"device"`
	Image  string `json:"image,omitempty"`
	// ImageIDs are the ids of the image, of which each container runs one; none while no runner has resolved
	// the reference. They are absent for devices that do not run ids.
	ImageIDs []string `json:"image_ids,omitzero"`
	Command  []string `json:"command,omitempty"`
}

// ProviderImage is an image of a provider for Docker.
type ProviderImage struct {
	Reference string `json:"reference"`
	// IDs are the ids to which runners have resolved the reference since the registration, by runner.
	IDs map[string]string `json:"ids"`
}

// PartView is a part of a task, with what it gets.
type PartView struct {
	NodeID     string                     `json:"node_id"`
	Role       string                     `json:"role"` // guest.0
	Parameters map[string]json.RawMessage `json:"parameters"`
	Dataset    *DatasetView               `json:"dataset,omitempty"`
	Model      *InputModelView            `json:"model,omitempty"`
}

// InputModelView is the model of an earlier job that a part uses. What trained it is known of the models that
// this party has a part of.
type InputModelView struct {
	Model     string `json:"model"`  // job:task.output, as model_id names it
	JobID     string `json:"job_id"` // that trained it
	Task      string `json:"task_name"`
	Component string `json:"component,omitempty"`
	Provider  string `json:"provider,omitempty"` // name:version
}

// DatasetView is a dataset that a part reads. This party knows the columns and rows of its own datasets only.
type DatasetView struct {
	Namespace string       `json:"namespace"`
	Name      string       `json:"name"`
	Columns   []ColumnView `json:"columns,omitempty"`
	Rows      int64        `json:"rows,omitempty"`
	// Generation is that of the columns, if this party knows them.
	Generation string `json:"-"`
}

// ColumnView is a column of a dataset.
type ColumnView struct {
	Name string `json:"name"`
	Type string `json:"type"`
}

// OutputView is an output of a task, with the parties that get it: each stores that of its own part.
type OutputView struct {
	Type string `json:"type"`
	Key  string `json:"key"`
	// Description is the provider's own text on the output.
	Description string   `json:"description,omitempty"`
	Parties     []string `json:"parties"` // JG0100001100000010 (guest.0)
}
