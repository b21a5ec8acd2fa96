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
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"

	"hutong/workflows"
	"hutong/workflows/housekeeping"
	"hutong/workflows/participant"
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

func replay(t *testing.T, text []byte) error {
	t.Helper()
	history, err := client.HistoryFromJSON(bytes.NewReader(text), client.HistoryJSONOptions{})
	require.NoError(t, err)

	r := worker.NewWorkflowReplayer()
	r.RegisterWorkflowWithOptions(scheduler.Job, workflow.RegisterOptions{Name: workflows.SchedulerJobType})
	r.RegisterWorkflowWithOptions(participant.Job,
		workflow.RegisterOptions{Name: workflows.ParticipantJobType})
	r.RegisterWorkflowWithOptions(housekeeping.Run,
		workflow.RegisterOptions{Name: workflows.HousekeepingType})

	return r.ReplayWorkflowHistory(log.NewStructuredLogger(slog.New(slog.DiscardHandler)), history)
}

var workflowType = regexp.MustCompile(`"workflowType":\{"name":"(\w+)"\}`)

// TestReplay replays every saved history: a job that runs while its party is upgraded continues.
func TestReplay(t *testing.T) {
	kinds := map[string]bool{}
	for _, file := range histories(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			require.NoError(t, replay(t, text))
			for _, kind := range workflowType.FindAllSubmatch(text, -1) {
				kinds[string(kind[1])] = true
			}
		})
	}
	for _, kind := range []string{workflows.SchedulerJobType, workflows.ParticipantJobType,
		workflows.HousekeepingType} {
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
