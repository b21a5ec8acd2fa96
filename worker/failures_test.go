package worker

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/interceptor"
	sdklog "go.temporal.io/sdk/log"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/worker"

	"hutong/activities"
)

// TestFailureLogger checks that a record that fails is logged. A refusal, which the workflow handles, and a
// command, which logs its own failure, are not.
func TestFailureLogger(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		logs bool
	}{
		{"RecordJob", errors.New("no such column: progress"), true},
		{"RecordJob", temporal.NewNonRetryableApplicationError("no", activities.FailureRefused, nil), false},
		{"SendStart", errors.New("out of reach"), false},
		{"RecordJob", nil, false},
	} {
		var out bytes.Buffer
		var suite testsuite.WorkflowTestSuite
		suite.SetLogger(
			sdklog.NewStructuredLogger(
				slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn})),
			),
		)
		env := suite.NewTestActivityEnvironment()
		env.SetWorkerOptions(worker.Options{Interceptors: []interceptor.WorkerInterceptor{&failureLogger{}}})
		f := func(context.Context) error { return c.err }
		env.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: c.name})
		_, err := env.ExecuteLocalActivity(f)
		require.Equal(t, c.err != nil, err != nil)
		if c.logs {
			assert.Contains(t, out.String(), "failed to write a record; retrying")
			assert.Contains(t, out.String(), c.err.Error())
		} else {
			assert.NotContains(t, out.String(), "failed to write a record")
		}
	}
}
