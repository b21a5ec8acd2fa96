package workflows

import (
	"context"
	"fmt"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/sdk/client"

	"hutong/activities"
	"hutong/bfia"
)

// PeriodicJobType is the type under which the workflow of periodic jobs is registered.
const PeriodicJobType = "PeriodicJob"

// PeriodicJobID returns the workflow id of a periodic job.
func PeriodicJobID(name string) string { return "periodic-job/" + name }

// Updates of a periodic job. Each returns once the new state is recorded.
const (
	// UpdatePeriodicPause pauses it: the reason, a string.
	UpdatePeriodicPause = "pause"
	// UpdatePeriodicResume resumes it. It has no input.
	UpdatePeriodicResume = "resume"
	// UpdatePeriodicChange changes it: a [PeriodicChange].
	UpdatePeriodicChange = "change"
	// UpdatePeriodicRun submits a job now: a [PeriodicRunInput]. It returns the id of the job.
	UpdatePeriodicRun = "run"
	// UpdatePeriodicDelete deletes it. It has no input. Its jobs run on.
	UpdatePeriodicDelete = "delete"
)

// PeriodicJobInput is the input of a periodic job's workflow. All else that matters for long is in its
// rows, also what it continues from.
type PeriodicJobInput struct {
	PeriodicID string `json:"periodic_id"`
	Name       string `json:"name"`
	// Requests are those that have started the last runs by hand. They are carried over when the workflow
	// continues as new.
	Requests []PeriodicRequest `json:"requests,omitempty"`
}

// PeriodicRequest is a request that has started a run.
type PeriodicRequest struct {
	RequestID string `json:"request_id"`
	JobID     string `json:"job_id,omitempty"`
	// Doubt says why it is not known whether the job was submitted, or is empty.
	Doubt string `json:"doubt,omitempty"`
}

// PeriodicRunInput is the input of [UpdatePeriodicRun].
type PeriodicRunInput struct {
	RequestID string `json:"request_id,omitempty"`
}

// PeriodicChange is a change of a periodic job. Its document is recorded before.
type PeriodicChange struct {
	Recurrence bfia.Recurrence `json:"recurrence"`
	Revision   int             `json:"revision"`
}

// periodicTaskTimeout is the time after which another worker repeats a workflow task whose worker died.
const periodicTaskTimeout = 5 * time.Second

// StartPeriodicJob starts the workflow of a periodic job, unless it runs. With replace it ends one that runs
// under this name, which can only be that of a deleted periodic job.
func StartPeriodicJob(ctx context.Context, c client.Client, in PeriodicJobInput, replace bool) error {
	conflict := enums.WORKFLOW_ID_CONFLICT_POLICY_USE_EXISTING
	if replace {
		conflict = enums.WORKFLOW_ID_CONFLICT_POLICY_TERMINATE_EXISTING
	}
	_, err := c.ExecuteWorkflow(ctx, client.StartWorkflowOptions{
		ID: PeriodicJobID(in.Name), TaskQueue: activities.ControlQueue,
		WorkflowTaskTimeout:      periodicTaskTimeout,
		WorkflowIDConflictPolicy: conflict,
		WorkflowIDReusePolicy:    enums.WORKFLOW_ID_REUSE_POLICY_ALLOW_DUPLICATE,
		StaticSummary:            "Submit the jobs of the periodic job " + in.Name,
	}, PeriodicJobType, in)
	if err != nil {
		return fmt.Errorf("failed to start the workflow of the periodic job %s: %w", in.Name, err)
	}

	return nil
}
