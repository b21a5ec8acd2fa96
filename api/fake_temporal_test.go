package api

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/stretchr/testify/mock"
	temporal "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/mocks"
	failure "go.temporal.io/sdk/temporal"

	"hutong/activities/participant"
	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/workflows"
)

// fakeTemporal records a server's requests to Temporal. Starting a workflow writes its rows, as real
// workflows do. Tests do the rest.
type fakeTemporal struct {
	grant bfia.Grant // what reservation requests are answered
	mocks.Client
	jobs  *scheduler.Activities
	parts *participant.Activities

	mu      sync.Mutex
	signals []signal
	created []string
	party   workflows.ParticipantJobInput // of the last one
	request workflows.CreateRequest       // of the last one
	refuse  error                         // of the next workflow's create
	down    error
	older   bool // its workers know no update but create
}

type signal struct {
	Workflow, Name string
	Arg            any
}

type operation struct {
	temporal.WithStartWorkflowOperation
	id string
	in any
}

func (e *fakeTemporal) NewWithStartWorkflowOperation(o temporal.StartWorkflowOptions, _ any,
	args ...any) temporal.WithStartWorkflowOperation {
	return operation{id: o.ID, in: args[0]}
}

func (e *fakeTemporal) UpdateWithStartWorkflow(ctx context.Context,
	o temporal.UpdateWithStartWorkflowOptions) (temporal.WorkflowUpdateHandle, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down != nil {
		return nil, e.down
	}
	op := o.StartWorkflowOperation.(operation)
	handle := &mocks.WorkflowUpdateHandle{}
	err := e.refuse
	if e.older && o.UpdateOptions.UpdateName != workflows.UpdateCreate {
		// The workflow rejects the update, and runs.
		handle.On("Get", mock.Anything, mock.Anything).Return(failure.NewApplicationError(
			"unknown update "+o.UpdateOptions.UpdateName+". KnownUpdates=[create]", ""))

		return handle, nil
	}
	if err == nil {
		if !slices.Contains(e.created, op.id) { // otherwise it is the one that runs
			e.created = append(e.created, op.id)
		}
		switch in := op.in.(type) {
		case workflows.SchedulerJobInput:
			err = e.jobs.RecordScheduleJob(ctx,
				scheduler.RecordScheduleJobInput{Plan: in.Plan, Nodes: in.Nodes, At: time.Now()})
		case workflows.ParticipantJobInput:
			state := bfia.JobReady
			if in.Approval {
				state = bfia.JobPending
			}
			e.party = in
			if in.Before != nil {
				err = e.parts.ReopenJob(ctx, participant.ReopenJobInput{JobID: in.Plan.JobID})
			} else {
				err = e.parts.RecordJob(ctx, participant.RecordJobInput{
					Plan: in.Plan, Roles: in.Roles, Nodes: in.Nodes, Scheduler: in.Scheduler, State: state,
					At: time.Now()})
			}
		}
	}
	e.refuse = nil
	e.request = workflows.CreateRequest{}
	if len(o.UpdateOptions.Args) > 0 {
		e.request = o.UpdateOptions.Args[0].(workflows.CreateRequest)
	}
	answer := workflows.CreateResult{}
	if e.request.Reserve != nil && !e.party.Approval {
		grant := e.grant
		answer.Grant = &grant
	}
	handle.On("Get", mock.Anything, mock.Anything).Run(func(args mock.Arguments) {
		if result, wanted := args.Get(1).(*workflows.CreateResult); wanted {
			*result = answer
		}
	}).Return(err)
	return handle, nil
}

func (e *fakeTemporal) UpdateWorkflow(_ context.Context,
	o temporal.UpdateWorkflowOptions) (temporal.WorkflowUpdateHandle, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down != nil {
		return nil, e.down
	}
	handle := &mocks.WorkflowUpdateHandle{}
	grant := e.grant
	handle.On("Get", mock.Anything, mock.Anything).Run(func(args mock.Arguments) {
		switch result := args.Get(1).(type) {
		case *bfia.Grant:
			*result = grant
		case *string:
			*result = "202611290200000000001" // a run of a periodic job
		}
	}).Return(e.refuse)
	if e.refuse == nil {
		s := signal{Workflow: o.WorkflowID, Name: o.UpdateName}
		if len(o.Args) > 0 {
			s.Arg = o.Args[0]
		}
		e.signals = append(e.signals, s)
	}
	e.refuse = nil
	return handle, nil
}

// ExecuteWorkflow starts the workflow of a periodic job.
func (e *fakeTemporal) ExecuteWorkflow(_ context.Context, o temporal.StartWorkflowOptions, _ any, _ ...any,
) (temporal.WorkflowRun, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down != nil {
		return nil, e.down
	}
	e.created = append(e.created, o.ID)
	return &mocks.WorkflowRun{}, nil
}

// GetWorkflow returns a run that has ended.
func (e *fakeTemporal) GetWorkflow(context.Context, string, string) temporal.WorkflowRun {
	run := &mocks.WorkflowRun{}
	run.On("Get", mock.Anything, mock.Anything).Return(nil)
	return run
}

func (e *fakeTemporal) SignalWorkflow(_ context.Context, id, _, name string, arg any) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.down != nil {
		return e.down
	}
	e.signals = append(e.signals, signal{id, name, arg})
	return nil
}

func (e *fakeTemporal) CheckHealth(context.Context,
	*temporal.CheckHealthRequest) (*temporal.CheckHealthResponse,
	error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return &temporal.CheckHealthResponse{}, e.down
}

// takeSignals returns the signals so far and forgets them.
func (e *fakeTemporal) takeSignals() []signal {
	e.mu.Lock()
	defer e.mu.Unlock()
	s := e.signals
	e.signals = nil
	return s
}

func (e *fakeTemporal) started() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string{}, e.created...)
}

func (e *fakeTemporal) set(refuse, down error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.refuse, e.down = refuse, down
}
