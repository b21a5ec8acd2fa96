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
	"go.temporal.io/api/enums/v1"
	events "go.temporal.io/api/history/v1"
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

// histories returns the saved histories of all workflows, which test/system has recorded from a real server:
// those of jobs that have accepted [workflows.UpdateCreateMerged] or [workflows.UpdateCreateCompact], and
// those of jobs of older workers.
func histories(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "*", "*.json"))
	require.NoError(t, err)
	require.NotEmpty(t, files)

	return files
}

// replay replays a history, with the interceptors of a worker.
func replay(t *testing.T, text []byte, with ...interceptor.WorkerInterceptor) error {
	t.Helper()
	history, err := client.HistoryFromJSON(bytes.NewReader(text), client.HistoryJSONOptions{})
	require.NoError(t, err)

	return replayHistory(history, with...)
}

func replayHistory(history *events.History, with ...interceptor.WorkerInterceptor) error {
	r, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{Interceptors: with,
		DisableDeadlockDetection: true}) // its second is short on a busy machine
	if err != nil {
		return err
	}
	for _, name := range []string{workflows.SchedulerJobType, workflows.QueuedSchedulerJobType} {
		r.RegisterWorkflowWithOptions(scheduler.Job, workflow.RegisterOptions{Name: name})
	}
	for _, name := range []string{workflows.ParticipantJobType, workflows.ReadyParticipantJobType} {
		r.RegisterWorkflowWithOptions(participant.Job, workflow.RegisterOptions{Name: name})
	}
	r.RegisterWorkflowWithOptions(housekeeping.Run,
		workflow.RegisterOptions{Name: workflows.HousekeepingType})
	r.RegisterWorkflowWithOptions(housekeeping.Mark,
		workflow.RegisterOptions{Name: workflows.RestoreMarkType})
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

// acceptsShortHistory matches the updates that keep older workers away.
var acceptsShortHistory = regexp.MustCompile(
	`"name":"(` + workflows.UpdateCreateCompact + `|` + workflows.UpdateCreateMerged + `)"`)

// TestOlderWorkerLeavesCompactJobs checks that a worker that does not know [workflows.UpdateCreateCompact] or
// [workflows.UpdateCreateMerged] cannot continue a job that has accepted it, once its first workflow task is
// replayed: also not one without a timer, as of a FATE-Flow. The worker gets the update under another name.
func TestOlderWorkerLeavesCompactJobs(t *testing.T) {
	jobs := map[string]int{}
	for _, file := range histories(t) {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		accepted := acceptsShortHistory.FindSubmatch(text)
		if accepted == nil {
			continue
		}
		jobs[string(accepted[1])]++
		require.NoError(t, replayHistory(firstTasks(t, text, "", false)), file)
		require.Error(t, replayHistory(firstTasks(t, text, "unknown", false)), file)
		// The first workflow task of these has no other timer than that of the silence of the scheduler, and
		// the second does the same for a FATE-Flow. That of a merged one starts a task, which it reports.
		if strings.Contains(file, "TestReferenceJob-process-ParticipantJob") &&
			string(accepted[1]) == workflows.UpdateCreateCompact {
			require.NoError(t, replayHistory(firstTasks(t, text, "", true)), file)
			require.Error(t, replayHistory(firstTasks(t, text, "unknown", true)), file)
		}
	}
	require.Positive(t, jobs[workflows.UpdateCreateCompact])
	require.Positive(t, jobs[workflows.UpdateCreateMerged])
}

// firstTasks returns a history up to the start of its third workflow task: the replayer compares the commands
// of those before the second. Update, if set, replaces the name of the first update.
func firstTasks(t *testing.T, text []byte, update string, fateFlow bool) *events.History {
	t.Helper()
	history, err := client.HistoryFromJSON(bytes.NewReader(text), client.HistoryJSONOptions{})
	require.NoError(t, err)
	var first events.History
	tasks, left := 0, int64(0) // left out
	for _, e := range history.Events {
		if a := e.GetWorkflowExecutionStartedEventAttributes(); a != nil && fateFlow {
			data := a.Input.Payloads[0].Data
			a.Input.Payloads[0].Data = append(data[:len(data)-1:len(data)-1], `,"fateflow":true}`...)
		}
		if a := e.GetWorkflowExecutionUpdateAcceptedEventAttributes(); a != nil && update != "" &&
			strings.HasPrefix(a.AcceptedRequest.Input.Name, workflows.UpdateCreate+"-") {
			a.AcceptedRequest.Input.Name = update
		}
		if e.EventType == enums.EVENT_TYPE_TIMER_STARTED && fateFlow {
			left = 1

			continue
		}
		e.EventId -= left
		if a := e.GetWorkflowTaskStartedEventAttributes(); a != nil {
			a.ScheduledEventId -= left
		}
		if a := e.GetWorkflowTaskCompletedEventAttributes(); a != nil {
			a.ScheduledEventId, a.StartedEventId = a.ScheduledEventId-left, a.StartedEventId-left
		}
		if a := e.GetWorkflowExecutionUpdateAcceptedEventAttributes(); a != nil {
			a.AcceptedRequestSequencingEventId -= left
		}
		first.Events = append(first.Events, e)
		if e.EventType == enums.EVENT_TYPE_WORKFLOW_TASK_COMPLETED {
			tasks++
		}
		if e.EventType == enums.EVENT_TYPE_WORKFLOW_TASK_STARTED && tasks == 2 {
			break
		}
	}

	return &first
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
			bytes.Contains(text, []byte(`"RestoreMark"`)) ||
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
