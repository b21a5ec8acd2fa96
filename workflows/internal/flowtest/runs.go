package flowtest

import (
	"errors"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"
)

// Timetable holds what a test does at times after the start of a workflow. What has not come up when a run
// continues as new happens in the next run.
type Timetable struct{ entries []*entry }

type entry struct {
	at   time.Time
	do   func()
	done bool
}

// At has something done in an environment after some time.
func (t *Timetable) At(env *testsuite.TestWorkflowEnvironment, after time.Duration, do func()) {
	e := &entry{at: env.Now().Add(after), do: do}
	t.entries = append(t.entries, e)
	e.register(env)
}

func (e *entry) register(env *testsuite.TestWorkflowEnvironment) {
	env.RegisterDelayedCallback(func() { e.done = true; e.do() }, max(0, e.at.Sub(env.Now())))
}

// NextRun reports whether the workflow of an environment has continued as new, as a workflow of a type. It
// then stores the input of the next run in input, and returns its environment. The clock of that one
// continues.
func (t *Timetable) NextRun(test T, env *testsuite.TestWorkflowEnvironment,
	workflowType string, input any) (*testsuite.TestWorkflowEnvironment, bool) {
	test.Helper()
	var again *workflow.ContinueAsNewError
	if !errors.As(env.GetWorkflowError(), &again) {
		return nil, false
	}
	require.Equal(test, workflowType, again.WorkflowType.Name)
	require.NoError(test, converter.GetDefaultDataConverter().FromPayloads(again.Input, input))
	next := NewEnv()
	next.SetStartTime(env.Now())
	for _, e := range t.entries {
		if !e.done {
			e.register(next)
		}
	}

	return next, true
}
