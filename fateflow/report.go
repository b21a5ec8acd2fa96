package fateflow

import (
	"context"

	"hutong/bfia"
)

// Report is a participant's report of the state of its part of a task: the body of task/report to the
// scheduler, and the data of the answer to task/collect.
type Report struct {
	JobID       string `json:"job_id"`
	TaskID      string `json:"task_id"`
	TaskVersion int    `json:"task_version"`
	Role        string `json:"role"`
	PartyID     string `json:"party_id"`
	Status      string `json:"status"`
}

// NewReport returns the report of one attempt of a part of a task.
func NewReport(jobID, task string, attempt int, part bfia.Part, state bfia.TaskState) Report {
	return Report{JobID: jobID, TaskID: TaskID(jobID, task), TaskVersion: attempt - 1, Role: part.Role,
		PartyID: part.NodeID, Status: StateOf(state)}
}

// Stop asks a FATE-Flow scheduler to stop a job at all parties.
type Stop struct {
	JobID  string `json:"job_id"`
	Status string `json:"stop_status"` // the state in which the job ends
}

// Sender posts a request to another party; [hutong/bfia/client.Client] implements it.
type Sender interface {
	// Post sends body as JSON to a path of a node. An answer whose code is not success is an error.
	Post(ctx context.Context, node, path, traceID string, body any) error
}

// SendReport reports the state of a part of a task to a FATE-Flow scheduler.
func SendReport(ctx context.Context, s Sender, scheduler string, report Report) error {
	return s.Post(ctx, scheduler, PathSchedulerTaskReport, report.TaskID, report)
}

// SendStop asks a FATE-Flow scheduler to stop a job at all parties.
func SendStop(ctx context.Context, s Sender, scheduler, jobID string) error {
	return s.Post(ctx, scheduler, PathSchedulerJobStop, jobID, Stop{JobID: jobID, Status: "canceled"})
}
