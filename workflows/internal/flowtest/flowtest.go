// Package flowtest holds what the tests of all workflows share: a test environment with mocked time, plans,
// and parties.
package flowtest

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
	sdk "go.temporal.io/api/sdk/v1"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"
	"pgregory.net/rapid"

	"hutong/activities"
	"hutong/bfia"
	"hutong/workflows"
)

// T is what a *testing.T and a *rapid.T have in common.
type T interface {
	require.TestingT
	Helper()
	Fatalf(format string, args ...any)
}

// The parties of the tests.
const (
	NodeA = "A" // the scheduler, guest
	NodeB = "B" // host
)

// Parts of tasks, at the parties.
var (
	GuestA   = bfia.Part{Role: "guest", NodeID: NodeA}
	HostB    = bfia.Part{Role: "host", NodeID: NodeB}
	HostA    = bfia.Part{Role: "host", NodeID: NodeA}
	TwoNodes = []bfia.Part{GuestA, HostB}
)

// Errors of fake activities, which are retried.
var (
	ErrAway     = errors.New("away")
	ErrDatabase = errors.New("the database is away")
)

// Settings are the settings of the tests' jobs.
var Settings = workflows.Settings{
	PollAfter: 10 * time.Second, PollEvery: 2 * time.Second, GiveUpAfter: 10 * time.Minute,
	StopGrace: 5 * time.Second, TasksInFlight: 100,
}

// NewEnv returns a test environment without logs.
func NewEnv() *testsuite.TestWorkflowEnvironment {
	var suite testsuite.WorkflowTestSuite
	suite.SetLogger(log.NewStructuredLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
	env := suite.NewTestWorkflowEnvironment()
	// Of real time without progress, and in one workflow task: the machine may be busy.
	env.SetTestTimeout(time.Minute)
	env.SetWorkerOptions(worker.Options{DeadlockDetectionTimeout: time.Minute})

	return env
}

// Result returns the result of a job's workflow that has ended: also of one that closed as Failed or
// Canceled. For a job that was not created it returns the refusal as an error.
func Result(env *testsuite.TestWorkflowEnvironment) (workflows.Result, error) {
	var result workflows.Result
	if err := env.GetWorkflowError(); err != nil {
		ended, ok := workflows.ResultOf(err)
		if !ok {
			return result, err
		}
		switch ended.Outcome {
		case workflows.OutcomeFailed, workflows.OutcomeStopped, workflows.OutcomeRejected:
			return ended, nil
		}

		return ended, fmt.Errorf("the workflow of a job that is %s closed with an error: %w", ended.Outcome,
			err)
	}
	if err := env.GetWorkflowResult(&result); err != nil {
		return result, err
	}
	switch result.Outcome {
	case workflows.OutcomeSuccess:
		return result, nil
	case workflows.OutcomeRefused:
		return result, errors.New(result.Reason)
	}

	return result, fmt.Errorf("the workflow of a job that is %s is Completed", result.Outcome)
}

// Plan returns a plan of tasks such as "c<a,b", which is c after a and b, each with the same parts.
func Plan(parts []bfia.Part, tasks ...string) bfia.Plan {
	p := bfia.Plan{JobID: "202609010000001234567", FlowID: "flow",
		Initiator: bfia.Initiator{Role: "guest", NodeID: NodeA}}
	for _, spec := range tasks {
		name, after, _ := strings.Cut(spec, "<")
		t := newTask(name)
		t.Parts = parts
		if after != "" {
			t.DependsOn = strings.Split(after, ",")
		}
		p.Tasks = append(p.Tasks, t)
	}

	return p
}

func newTask(name string) bfia.PlannedTask {
	return bfia.PlannedTask{Name: name, Component: "CallbackOnly", Provider: "p", Version: "1"}
}

// PartKey returns the key of a part in maps: "task guest.0".
func PartKey(task string, p bfia.Part) string { return task + " " + p.Self() }

// RefusedBy returns an activity's error for a refusal.
func RefusedBy(code bfia.Code, text string) error {
	return temporal.NewNonRetryableApplicationError(text, activities.FailureRefused, nil, code)
}

// DrawSeconds draws a duration in seconds.
func DrawSeconds(t *rapid.T, label string, from, to int) time.Duration {
	return time.Duration(rapid.IntRange(from, to).Draw(t, label)) * time.Second
}

// DrawPlan draws a plan with tasks of some of the parts.
func DrawPlan(t *rapid.T, parts []bfia.Part, least, most int) bfia.Plan {
	p := Plan(nil)
	for i := range rapid.IntRange(least, most).Draw(t, "tasks") {
		task := newTask(fmt.Sprintf("t%d", i))
		if i > 0 {
			earlier := rapid.SliceOfNDistinct(rapid.IntRange(0, i-1), 0, min(i, 4), rapid.ID[int])
			for _, k := range earlier.Draw(t, "depends") {
				task.DependsOn = append(task.DependsOn, fmt.Sprintf("t%d", k))
			}
		}
		some := rapid.SliceOfNDistinct(rapid.SampledFrom(parts), 1, len(parts), bfia.Part.Self)
		task.Parts = some.Draw(t, "parts")
		p.Tasks = append(p.Tasks, task)
	}

	return p
}

// Details returns what Temporal's UI shows of a workflow.
func Details(t T, env *testsuite.TestWorkflowEnvironment) string {
	t.Helper()
	value, err := env.QueryWorkflow("__temporal_workflow_metadata")
	require.NoError(t, err)
	var metadata sdk.WorkflowMetadata
	require.NoError(t, value.Get(&metadata))

	return metadata.CurrentDetails
}
