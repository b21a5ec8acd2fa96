package workflows_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// TestIsUnknownUpdate checks how Temporal's SDK rejects an update that a workflow of an older worker does not
// know.
func TestIsUnknownUpdate(t *testing.T) {
	env := flowtest.NewEnv()
	var rejected error
	env.RegisterDelayedCallback(func() {
		env.UpdateWorkflow(workflows.UpdateCreateCompact, "1", &testsuite.TestUpdateCallback{
			OnAccept: func() {}, OnReject: func(err error) { rejected = err },
			OnComplete: func(any, error) {},
		})
	}, 0)
	env.ExecuteWorkflow(func(ctx workflow.Context) error {
		create := func(workflow.Context) error { return nil }
		if err := workflow.SetUpdateHandler(ctx, workflows.UpdateCreate, create); err != nil {
			return err
		}

		return workflow.Sleep(ctx, time.Second)
	})
	require.NoError(t, env.GetWorkflowError())
	require.Error(t, rejected)

	converter := temporal.GetDefaultFailureConverter()
	require.True(t, workflows.IsUnknownUpdate(converter.FailureToError(converter.ErrorToFailure(rejected))))
	require.False(t, workflows.IsUnknownUpdate(nil))
	require.False(t, workflows.IsUnknownUpdate(workflows.Refuse(0, "unknown job")))
}
