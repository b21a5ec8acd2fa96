package workflows

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"go.temporal.io/sdk/workflow"
)

// histories are saved runs of all workflows against a real server; test/system records them, see docs/architecture.md.
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
	r.RegisterWorkflowWithOptions(Job, workflow.RegisterOptions{Name: JobName})
	r.RegisterWorkflowWithOptions(PartyJob, workflow.RegisterOptions{Name: PartyJobName})
	r.RegisterWorkflowWithOptions(Housekeeping, workflow.RegisterOptions{Name: HousekeepingName})
	return r.ReplayWorkflowHistory(log.NewStructuredLogger(slog.New(slog.DiscardHandler)), history)
}

// The workflows still do what they did in every saved history: a job that runs while its party is upgraded goes on.
func TestReplay(t *testing.T) {
	kinds := map[string]bool{}
	for _, file := range histories(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".json"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			require.NoError(t, replay(t, text))
			for _, kind := range []string{JobName, PartyJobName, HousekeepingName} {
				if bytes.Contains(text, []byte(`"workflowType":{"name":"`+kind+`"}`)) {
					kinds[kind] = true
				}
			}
		})
	}
	require.Len(t, kinds, 3, "each workflow has histories")
}

// A history that the code would not have made is refused, so that TestReplay means something.
func TestReplayNotices(t *testing.T) {
	for _, file := range histories(t) {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, name := range []string{"RecordScheduleJob", "RecordJob"} {
			other := bytes.Replace(text, []byte(`"activityType":{"name":"`+name+`"}`), []byte(`"activityType":{"name":"Other"}`), 1)
			if !bytes.Equal(text, other) {
				require.Error(t, replay(t, other), "%s, %s", file, name)
			}
		}
	}
}
