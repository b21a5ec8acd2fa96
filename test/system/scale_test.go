package system

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"hutong/activities"
	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/test/testenv"
	"hutong/workflows"
	schedulerworkflow "hutong/workflows/scheduler"
)

// Temporal terminates a workflow whose history exceeds these limits.
const (
	maxHistoryEvents = 51_200
	maxHistoryBytes  = 50 << 20
)

// TestThousandTasks runs jobs of 1,000 tasks, as a chain and as a fan-out, on a real Temporal server. Their
// parties report the end of a task at once. The history of the job stays far below Temporal's limits.
func TestThousandTasks(t *testing.T) {
	t.Parallel()
	n := 1000
	if raceEnabled {
		n = 150 // 1,000 take minutes with the race detector; make test also runs them without it
	}
	address := testenv.Temporal(t)
	const namespace = "test-thousand-tasks"
	testenv.Namespace(t, address, namespace)
	c, err := client.Dial(
		client.Options{HostPort: address, Namespace: namespace,
			Logger: log.NewStructuredLogger(slog.New(slog.DiscardHandler))},
	)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	w := worker.New(c, activities.ControlQueue, worker.Options{DeadlockDetectionTimeout: 10 * time.Second})
	options := workflow.RegisterOptions{Name: workflows.SchedulerJobType}
	w.RegisterWorkflowWithOptions(schedulerworkflow.Job, options)
	for name, f := range fakeJobActivities(c) {
		w.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: name})
	}
	require.NoError(t, w.Start())
	t.Cleanup(w.Stop)
	for name, after := range map[string]func(i int) string{
		"deep": func(i int) string { return fmt.Sprintf("t%d", i-1) },
		"wide": func(int) string { return "t0" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in := workflows.SchedulerJobInput{
				Node:  guestNode,
				Nodes: []string{guestNode, hostNode},
				Settings: workflows.Settings{
					PollAfter: time.Minute, PollEvery: time.Second, GiveUpAfter: 10 * time.Minute,
					StopGrace: time.Second, TasksInFlight: 100, Attempts: 3},
			}
			in.Plan = bfia.Plan{JobID: "thousand-" + name, FlowID: "flow",
				Initiator: bfia.Initiator{Role: "guest", NodeID: guestNode}}
			for i := range n {
				task := bfia.PlannedTask{
					Name:      fmt.Sprintf("t%d", i),
					Component: "Sleep",
					Provider:  "test",
					Version:   "1",
					Parts: []bfia.Part{
						{Role: "guest", NodeID: guestNode},
						{Role: "host", NodeID: hostNode},
					},
				}
				if i > 0 {
					task.DependsOn = []string{after(i)}
				}
				in.Plan.Tasks = append(in.Plan.Tasks, task)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
			defer cancel()
			run, err := c.ExecuteWorkflow(
				ctx,
				client.StartWorkflowOptions{
					ID:                    workflows.SchedulerJobID(in.Plan.JobID),
					TaskQueue:             activities.ControlQueue,
					TypedSearchAttributes: in.SearchAttributes(),
				},
				workflows.SchedulerJobType,
				in,
			)
			require.NoError(t, err)
			var result workflows.Result
			require.NoError(t, run.Get(ctx, &result))
			require.Equal(t, workflows.OutcomeSuccess, result.Outcome, result.Reason)
			described, err := c.DescribeWorkflowExecution(ctx, run.GetID(), run.GetRunID())
			require.NoError(t, err)
			info := described.WorkflowExecutionInfo
			t.Logf("%d tasks: %d events, %.1f MB, %s", n, info.HistoryLength,
				float64(info.HistorySizeBytes)/1e6, info.CloseTime.AsTime().Sub(info.StartTime.AsTime()))
			require.Less(t, info.HistoryLength, int64(maxHistoryEvents/2))
			require.Less(t, info.HistorySizeBytes, int64(maxHistoryBytes/4))
		})
	}
}

// fakeJobActivities returns activities of parties that accept every request and report each task as succeeded
// when it is started.
func fakeJobActivities(c client.Client) map[string]any {
	return map[string]any{
		"RecordScheduleJob": func(context.Context, scheduler.RecordScheduleJobInput) error {
			return nil
		},
		"RecordProgress": func(context.Context, scheduler.Progress) error { return nil },
		"Enqueue": func(context.Context, scheduler.EnqueueInput) (scheduler.QueueState, error) {
			return scheduler.QueueState{MayReserve: true}, nil
		},
		"SendCreate": func(context.Context, scheduler.SendCreateInput) (bfia.JobAccepted, error) {
			return bfia.JobAccepted{Callbacks: true, Attempts: true, Reservations: true}, nil
		},
		"SendReserve": func(context.Context, scheduler.SendReserveInput) (bfia.Grant, error) {
			return bfia.Grant{Granted: true, Parallelism: 20}, nil
		},
		"SendStart": func(context.Context, scheduler.SendStartInput) error { return nil },
		"SendStop":  func(context.Context, scheduler.SendStopInput) error { return nil },
		"SendTaskStart": func(ctx context.Context, in scheduler.SendTaskStartInput) error {
			id := workflows.SchedulerJobID(in.Task.JobID)
			return c.SignalWorkflow(ctx, id, "", workflows.SignalCallback,
				workflows.Callback{Node: in.Node, TaskID: in.Task.TaskID, State: bfia.TaskSuccess})
		},
	}
}
