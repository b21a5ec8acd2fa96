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

// A record that fails is told; a refusal, which a workflow answers, and a command, which tells by itself, are not.
func TestTellFailures(t *testing.T) {
	for _, c := range []struct {
		name string
		err  error
		told bool
	}{
		{"RecordJob", errors.New("no such column: progress"), true},
		{"RecordJob", temporal.NewNonRetryableApplicationError("no", activities.FailureRefused, nil), false},
		{"SendStart", errors.New("out of reach"), false},
		{"RecordJob", nil, false},
	} {
		var out bytes.Buffer
		var suite testsuite.WorkflowTestSuite
		suite.SetLogger(sdklog.NewStructuredLogger(slog.New(slog.NewTextHandler(&out, &slog.HandlerOptions{Level: slog.LevelWarn}))))
		env := suite.NewTestActivityEnvironment()
		env.SetWorkerOptions(worker.Options{Interceptors: []interceptor.WorkerInterceptor{&failureLogger{}}})
		f := func(context.Context) error { return c.err }
		env.RegisterActivityWithOptions(f, activity.RegisterOptions{Name: c.name})
		_, err := env.ExecuteLocalActivity(f)
		require.Equal(t, c.err != nil, err != nil)
		if c.told {
			assert.Contains(t, out.String(), "a record failed; it is tried again")
			assert.Contains(t, out.String(), c.err.Error())
		} else {
			assert.NotContains(t, out.String(), "a record failed")
		}
	}
}
