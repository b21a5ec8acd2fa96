package workflows_test

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/sdk/trace"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/contrib/opentelemetry"
	"go.temporal.io/sdk/interceptor"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"hutong/workflows"
	"hutong/workflows/housekeeping"
	"hutong/workflows/participant"
	"hutong/workflows/periodic"
	"hutong/workflows/scheduler"
)

// histories returns the saved histories of all workflows, which test/system records from a real server.
func histories(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "histories", "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files)

	return files
}

// replay replays a history, with the interceptors of a worker.
func replay(t *testing.T, text []byte, with ...interceptor.WorkerInterceptor) error {
	t.Helper()
	history, err := client.HistoryFromJSON(bytes.NewReader(text), client.HistoryJSONOptions{})
	require.NoError(t, err)

	r, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{Interceptors: with,
		DisableDeadlockDetection: true}) // its second is short on a busy machine
	require.NoError(t, err)
	for _, name := range []string{workflows.SchedulerJobType, workflows.QueuedSchedulerJobType} {
		r.RegisterWorkflowWithOptions(scheduler.Job, workflow.RegisterOptions{Name: name})
	}
	for _, name := range []string{workflows.ParticipantJobType, workflows.ReadyParticipantJobType} {
		r.RegisterWorkflowWithOptions(participant.Job, workflow.RegisterOptions{Name: name})
	}
	r.RegisterWorkflowWithOptions(housekeeping.Run,
		workflow.RegisterOptions{Name: workflows.HousekeepingType})
	r.RegisterWorkflowWithOptions(periodic.Job, workflow.RegisterOptions{Name: workflows.PeriodicJobType})

	return r.ReplayWorkflowHistory(log.NewStructuredLogger(slog.New(slog.DiscardHandler)), history)
}

var workflowType = regexp.MustCompile(`"workflowType":\{"name":"(\w+)"\}`)

// TestReplay replays every saved history: a job that runs while its party is upgraded continues.
func TestReplay(t *testing.T) {
	kinds := map[string]bool{}
	traces, err := opentelemetry.NewTracingInterceptor(opentelemetry.TracerOptions{
		Tracer: trace.NewTracerProvider().Tracer("test")})
	require.NoError(t, err)
	for _, file := range histories(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			require.NoError(t, replay(t, text))
			require.NoError(t, replay(t, text, traces), "with tracing")
			for _, kind := range workflowType.FindAllSubmatch(text, -1) {
				kinds[string(kind[1])] = true
			}
		})
	}
	for _, kind := range []string{workflows.SchedulerJobType, workflows.QueuedSchedulerJobType,
		workflows.ParticipantJobType, workflows.ReadyParticipantJobType, workflows.HousekeepingType,
		workflows.PeriodicJobType} {
		require.True(t, kinds[kind], "%s has histories", kind)
	}
}

// TestReplayDetectsChange checks that a history that the code would not have made is refused.
func TestReplayDetectsChange(t *testing.T) {
	for _, file := range histories(t) {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, name := range []string{"RecordScheduleJob", "RecordJob"} {
			other := bytes.Replace(text, []byte(`"activityType":{"name":"`+name+`"}`),
				[]byte(`"activityType":{"name":"Other"}`), 1)
			if !bytes.Equal(text, other) {
				require.Error(t, replay(t, other), "%s, %s", file, name)
			}
		}
	}
}

// TestReplayOfOlderWorker checks that a job replays whose older worker ignored the suggestion to continue as
// new: it must not continue as new at that point.
func TestReplayOfOlderWorker(t *testing.T) {
	started := []byte(`"workflowTaskStartedEventAttributes":{`)
	jobs := 0
	for _, file := range histories(t) {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		if bytes.Contains(text, []byte(`"PeriodicJob"`)) || bytes.Contains(text, []byte(`"Housekeeping"`)) ||
			bytes.Contains(text, []byte(`"suggestContinueAsNew":true`)) {
			continue
		}
		suggested := bytes.ReplaceAll(text, started, append(started, `"suggestContinueAsNew":true,`...))
		require.NotEqual(t, text, suggested, file)
		require.NoError(t, replay(t, suggested), file)
		jobs++
	}
	require.Positive(t, jobs)
}
