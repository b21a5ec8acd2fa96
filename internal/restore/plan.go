package restore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"hutong/bfia"
	"hutong/workflows"
)

// Job is a job on one side of this party, which has not ended in the database or in Temporal, and can't
// continue after a restore.
type Job struct {
	JobID     string `json:"job_id"`
	Scheduled bool   `json:"scheduled"` // this party schedules it; else it takes part
	// InDatabase reports whether the database has the job as unfinished, and InTemporal whether its workflow
	// runs.
	InDatabase bool `json:"in_database"`
	InTemporal bool `json:"in_temporal"`
	// Outcome is how the job ended by Temporal's record, if its workflow has ended there.
	Outcome string `json:"outcome,omitempty"`
	// Nodes are the participants, Scheduler is the scheduler of a job in which this party takes part.
	Nodes     []string `json:"nodes,omitempty"`
	Scheduler string   `json:"scheduler,omitempty"`
}

func (j Job) workflowID() string {
	if j.Scheduled {
		return workflows.SchedulerJobID(j.JobID)
	}
	return workflows.ParticipantJobID(j.JobID)
}

// Plan is what [Services.Finish] does.
type Plan struct {
	Marks    Marks    `json:"-"`
	Problems []string `json:"problems"`
	Jobs     []Job    `json:"jobs"` // to end, by id
	// Lost are outputs, models and datasets whose content is missing in the storage, or is not whole.
	Lost []Lost `json:"lost"`
}

// Plan compares the services. It changes nothing.
func (s *Services) Plan(ctx context.Context) (p Plan, err error) {
	if p.Marks, err = s.Marks(ctx); err != nil {
		return p, err
	}
	p.Problems = p.Marks.Problems()
	if p.Jobs, err = s.unfinished(ctx); err != nil {
		return p, err
	}
	p.Lost, err = s.lost(ctx)
	return p, err
}

// unfinished returns the jobs that have not ended in the database or in Temporal.
func (s *Services) unfinished(ctx context.Context) ([]Job, error) {
	jobs := map[string]*Job{} // by workflow id
	for _, scheduled := range []bool{true, false} {
		ids, err := s.unfinishedRows(ctx, scheduled)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			j := &Job{JobID: id, Scheduled: scheduled, InDatabase: true}
			if err := s.readRow(ctx, j); err != nil {
				return nil, err
			}
			jobs[j.workflowID()] = j
		}
	}
	// Temporal's list may lag behind, so the jobs of the database are asked for one by one.
	for _, j := range jobs {
		if err := s.describe(ctx, j); err != nil {
			return nil, err
		}
	}
	running, err := s.runningWorkflows(ctx, workflows.SchedulerJobType, workflows.QueuedSchedulerJobType,
		workflows.ParticipantJobType, workflows.ReadyParticipantJobType)
	if err != nil {
		return nil, err
	}
	for _, id := range running {
		if jobs[id] != nil {
			continue
		}
		j := &Job{Scheduled: strings.HasPrefix(id, workflows.SchedulerJobID(""))}
		j.JobID = strings.TrimPrefix(strings.TrimPrefix(id, workflows.SchedulerJobID("")),
			workflows.ParticipantJobID(""))
		if err := s.describe(ctx, j); err != nil {
			return nil, err
		}
		if !j.InTemporal { // it has just ended
			continue
		}
		if err := s.readInput(ctx, j); err != nil {
			return nil, err
		}
		jobs[id] = j
	}
	all := make([]Job, 0, len(jobs))
	for _, j := range jobs {
		all = append(all, *j)
	}
	slices.SortFunc(all, func(a, b Job) int {
		return strings.Compare(a.JobID+a.workflowID(), b.JobID+b.workflowID())
	})
	return all, nil
}

// batch is the number of rows that are read at once.
const batch = 500

func (s *Services) unfinishedRows(ctx context.Context, scheduled bool) (all []string, err error) {
	list := s.Store.UnfinishedJobs
	if scheduled {
		list = s.Store.UnfinishedScheduleJobs
	}
	for after := ""; ; {
		// Also those of a clock that was ahead.
		ids, err := list(ctx, time.Now().Add(24*time.Hour), after, batch)
		if err != nil {
			return nil, err
		}
		all = append(all, ids...)
		if len(ids) < batch {
			return all, nil
		}
		after = ids[len(ids)-1]
	}
}

// readRow reads the parties of an unfinished job from its row.
func (s *Services) readRow(ctx context.Context, j *Job) error {
	if j.Scheduled {
		row, err := s.Store.ScheduleJob(ctx, j.JobID)
		j.Nodes = row.ParticipantNodes
		return err
	}
	row, err := s.Store.Job(ctx, j.JobID)
	j.Scheduler = row.SchedulerNode
	return err
}

// describe asks Temporal for the workflow of a job.
func (s *Services) describe(ctx context.Context, j *Job) error {
	found, err := s.Temporal.DescribeWorkflow(ctx, j.workflowID(), "")
	var missing *serviceerror.NotFound
	if errors.As(err, &missing) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("failed to describe workflow %s: %w", j.workflowID(), err)
	}
	j.InTemporal = found.Status == enums.WORKFLOW_EXECUTION_STATUS_RUNNING
	if !j.InTemporal {
		j.Outcome, _ = found.TypedSearchAttributes.GetKeyword(workflows.AttributeState)
	}
	return nil
}

// readInput reads the parties of a job that the database does not have from the input of its workflow.
func (s *Services) readInput(ctx context.Context, j *Job) error {
	if known, err := s.ended(ctx, j); known || err != nil {
		return err // partners have its end
	}
	events := s.Temporal.GetWorkflowHistory(ctx, j.workflowID(), "", false,
		enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
	first, err := events.Next()
	if err != nil {
		return fmt.Errorf("failed to read the history of workflow %s: %w", j.workflowID(), err)
	}
	var in struct {
		Nodes     []string `json:"nodes"`
		Scheduler string   `json:"scheduler"`
	}
	if err := s.converter().FromPayloads(first.GetWorkflowExecutionStartedEventAttributes().GetInput(),
		&in); err != nil {
		return fmt.Errorf("failed to read the input of workflow %s: %w", j.workflowID(), err)
	}
	if j.Scheduled {
		j.Nodes = in.Nodes
	} else {
		j.Scheduler = in.Scheduler
	}
	return nil
}

// ended reports whether the database has a job as ended.
func (s *Services) ended(ctx context.Context, j *Job) (bool, error) {
	var err error
	if j.Scheduled {
		_, err = s.Store.ScheduleJob(ctx, j.JobID)
	} else {
		_, err = s.Store.Job(ctx, j.JobID)
	}
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return false, nil
	}
	return err == nil, err
}

// runningWorkflows returns the ids of the running workflows of some types.
func (s *Services) runningWorkflows(ctx context.Context, types ...string) (ids []string, err error) {
	query := "ExecutionStatus = 'Running' AND WorkflowType IN ('" + strings.Join(types, "', '") + "')"
	for page := []byte(nil); ; {
		list, err := s.Temporal.ListWorkflow(ctx, &workflowservice.ListWorkflowExecutionsRequest{
			Namespace: s.Namespace, Query: query, NextPageToken: page})
		if err != nil {
			return nil, fmt.Errorf("failed to list the running workflows: %w", err)
		}
		for _, e := range list.GetExecutions() {
			ids = append(ids, e.GetExecution().GetWorkflowId())
		}
		if page = list.GetNextPageToken(); len(page) == 0 {
			return ids, nil
		}
	}
}

// terminate terminates a workflow, if it runs.
func terminate(ctx context.Context, c client.Client, id, reason string) error {
	err := c.TerminateWorkflow(ctx, id, "", reason)
	var missing *serviceerror.NotFound
	if err != nil && !errors.As(err, &missing) {
		return fmt.Errorf("failed to terminate workflow %s: %w", id, err)
	}
	return nil
}
