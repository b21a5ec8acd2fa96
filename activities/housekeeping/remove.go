package housekeeping

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"go.temporal.io/api/common/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"hutong/activities"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/blob"
	"hutong/store/model"
)

// Remover removes ended jobs with all that they left at a party: outputs, logs, workflows, rows and
// documents. Outputs that another job reuses stay as long as that job. Datasets stay.
type Remover struct {
	Node  string
	Store *store.Store
	Blobs blob.Store
	// DeleteWorkflows deletes what Temporal holds of a job.
	DeleteWorkflows func(ctx context.Context, jobID string) error
	// Heartbeat is called before each step.
	Heartbeat func()
	Logger    *slog.Logger
}

// WorkflowDeleter returns a function that deletes the ended workflows of a job from Temporal, with their
// histories. ids returns the ids of the workflows.
func WorkflowDeleter(c client.Client, namespace string, ids func(jobID string) []string,
) func(ctx context.Context, jobID string) error {
	return func(ctx context.Context, jobID string) error {
		var failed []error
		for _, id := range ids(jobID) {
			failed = append(failed, deleteWorkflow(ctx, c, namespace, id))
		}
		return errors.Join(failed...)
	}
}

// listWait bounds the wait until Temporal lists the end of a workflow.
const listWait = 10 * time.Second

// deleteWorkflow deletes all runs of a workflow. Temporal lists the end of a run some time after it. A run
// that is deleted before that would stay in the list, so deleteWorkflow waits for it.
func deleteWorkflow(ctx context.Context, c client.Client, namespace, id string) error {
	newest := ""
	found, err := c.DescribeWorkflowExecution(ctx, id, "")
	var gone *serviceerror.NotFound
	switch {
	case err == nil:
		newest = found.GetWorkflowExecutionInfo().GetExecution().GetRunId()
	case !errors.As(err, &gone):
		return fmt.Errorf("failed to describe workflow %s: %w", id, err)
	}

	runs, err := listRuns(ctx, c, namespace, id, newest)
	if err != nil {
		return fmt.Errorf("failed to list the runs of workflow %s: %w", id, err)
	}
	for _, run := range runs {
		_, err := c.WorkflowService().DeleteWorkflowExecution(ctx,
			&workflowservice.DeleteWorkflowExecutionRequest{Namespace: namespace,
				WorkflowExecution: &common.WorkflowExecution{WorkflowId: id, RunId: run}})
		if err != nil && !errors.As(err, &gone) {
			return fmt.Errorf("failed to delete workflow %s: %w", id, err)
		}
	}
	return nil
}

// listRuns returns the ids of a workflow's runs, once the newest one is listed as ended.
func listRuns(ctx context.Context, c client.Client, namespace, id, newest string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, listWait)
	defer cancel()
	for {
		list, err := c.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{Namespace: namespace,
			Query: fmt.Sprintf("WorkflowId = '%s'", id)})
		if err != nil {
			return nil, err
		}
		ended := newest == ""
		var runs []string
		for _, e := range list.GetExecutions() {
			runs = append(runs, e.GetExecution().GetRunId())
			ended = ended || e.GetExecution().GetRunId() == newest && e.GetCloseTime() != nil
		}
		if ended {
			return runs, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// RemoveJob removes one job and returns what it removed. Data goes first and rows last, so that a repetition
// after a crash finds the rest.
func (a Remover) RemoveJob(ctx context.Context, jobID string) (RemovalProgress, error) {
	done := RemovalProgress{}
	if err := a.removeJob(ctx, jobID, &done); err != nil {
		return done, fmt.Errorf("failed to remove job %s: %w", jobID, err)
	}
	done.Jobs = 1
	a.Logger.Info("removed a job", "job_id", jobID, "objects", done.Objects, "bytes", done.Bytes)
	return done, nil
}

func (a Remover) removeJob(ctx context.Context, jobID string, done *RemovalProgress) error {
	if err := a.Store.MarkRemoving(ctx, jobID); err != nil {
		return err
	}
	prefixes, err := a.dataPrefixes(ctx, jobID)
	if err != nil {
		return err
	}
	for _, prefix := range prefixes {
		a.Heartbeat()
		objects, err := a.Blobs.List(ctx, prefix)
		if err != nil {
			return err
		}
		// Even without objects, since a folder may be left.
		if err := a.Blobs.DeletePrefix(ctx, prefix); err != nil {
			return err
		}
		for _, o := range objects {
			done.Objects++
			done.Bytes += o.Size
		}
	}
	if err := a.DeleteWorkflows(ctx, jobID); err != nil {
		// Temporal removes them after its own retention; a party may lack the right to do it.
		a.Logger.Warn("failed to delete the workflows of a removed job", "job_id", jobID, "error", err)
	}
	if err := a.Store.RemoveJob(ctx, jobID); err != nil {
		return err
	}
	return model.New(a.Node, a.Blobs, a.Store).Sweep(ctx, jobID, time.Now().Add(-orphanAge))
}

// dataPrefixes returns the storage prefixes of a job's outputs and logs that no other job needs, each once.
func (a Remover) dataPrefixes(ctx context.Context, jobID string) ([]string, error) {
	tasks, err := a.Store.Tasks(ctx, jobID)
	if err != nil {
		return nil, err
	}
	outputs, err := a.Store.Outputs(ctx, jobID)
	if err != nil {
		return nil, err
	}
	ports, err := a.ports(ctx, jobID)
	if err != nil {
		return nil, err
	}
	var prefixes []string
	inUse := map[string]bool{}
	add := func(at bfia.Address) error {
		used, asked := inUse[at.Name]
		if !asked {
			if used, err = a.Store.OutputsInUse(ctx, jobID, at.Name); err != nil {
				return err
			}
			inUse[at.Name] = used
		}
		prefix := at.Namespace + "/" + at.Name
		if used || at.Name == "" || blob.CheckKey(prefix) != nil || slices.Contains(prefixes, prefix) {
			return nil
		}
		// A model outlives its job's outputs, if it is kept; what nobody needs is swept.
		if held, err := a.Store.HoldsModel(ctx, at); held || err != nil {
			return err
		}
		// Task ids come from partners. None may name an uploaded dataset of this party.
		if _, err := a.Store.DataTable(ctx, at.Namespace, at.Name); bfia.CodeOf(err) != bfia.CodeNotFound {
			return err
		}
		prefixes = append(prefixes, prefix)
		return nil
	}
	for _, o := range outputs {
		if err := add(bfia.Address{Namespace: o.Namespace, Name: o.Name}); err != nil {
			return nil, err
		}
	}
	for _, t := range tasks {
		part := bfia.Part{Role: t.Role, Index: t.RoleIndex, NodeID: a.Node}
		// Outputs of a failed container, and of earlier attempts, are not recorded.
		for _, id := range outputTaskIDs(t) {
			for _, port := range ports[t.Name] {
				if err := add(bfia.OutputAddress(id, part, port)); err != nil {
					return nil, err
				}
			}
		}
		for attempt := 1; attempt <= t.Attempt; attempt++ {
			name := activities.PartRequest{Key: activities.TaskKey{JobID: jobID, Task: t.Name}, Part: part,
				Attempt: attempt}.ContainerName()
			prefixes = append(prefixes, activities.LogPrefix(name))
		}
		if t.ContainerName != "" {
			prefixes = append(prefixes, activities.LogPrefix(t.ContainerName))
		}
	}
	earlier, err := a.Store.EarlierAttemptsOfJob(ctx, jobID)
	if err != nil {
		return nil, err
	}
	for _, e := range earlier {
		if e.ContainerName != "" {
			prefixes = append(prefixes, activities.LogPrefix(e.ContainerName))
		}
	}
	slices.Sort(prefixes)
	return slices.Compact(prefixes), nil
}

// outputTaskIDs returns the task ids of a part's outputs, including those of earlier attempts.
func outputTaskIDs(t store.Task) []string {
	ids := []string{t.TaskID, t.ReusedTaskID}
	for attempt := 1; attempt < t.Attempt; attempt++ {
		ids = append(ids, bfia.AttemptID(t.JobID, t.Name, attempt))
	}
	return ids
}

// ports returns the output ports of a job's tasks, or none if its document is gone.
func (a Remover) ports(ctx context.Context, jobID string) (map[string][]bfia.Port, error) {
	doc, err := document(ctx, a.Store, jobID)
	if doc == nil || err != nil {
		return nil, err
	}
	ports := map[string][]bfia.Port{}
	for _, c := range doc.DAG.Components {
		ports[c.Name] = c.Output
	}
	return ports, nil
}

// document returns a job's document, or nil if it is gone.
func document(ctx context.Context, db *store.Store, jobID string) (*bfia.Document, error) {
	body, err := db.Document(ctx, jobID)
	if err != nil {
		return nil, ignoreNotFound(err)
	}
	return bfia.ParseDocument(body)
}
