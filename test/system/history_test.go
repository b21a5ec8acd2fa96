package system

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/history/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/log"
	"go.temporal.io/sdk/worker"
	"google.golang.org/protobuf/encoding/protojson"

	"hutong/internal/party"
	hutongworker "hutong/worker"
)

// replayHistories replays the history of every workflow of a namespace, which fails if a workflow is not
// deterministic. With HUTONG_RECORD_HISTORIES it saves the histories in that folder, for the tests of later
// versions.
func replayHistories(t *testing.T, cfg *party.Config) {
	t.Helper()
	namespace, node := cfg.Temporal.Namespace, cfg.NodeID
	ctx := context.Background()
	quiet := log.NewStructuredLogger(slog.New(slog.DiscardHandler))
	options, err := party.TemporalOptions(cfg, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	c, err := client.NewLazyClient(options)
	require.NoError(t, err)
	defer c.Close()
	list, err := c.ListWorkflow(ctx,
		&workflowservice.ListWorkflowExecutionsRequest{Namespace: namespace, PageSize: 100})
	require.NoError(t, err)
	for _, e := range list.Executions {
		var h history.History
		deleted := false
		events := c.GetWorkflowHistory(ctx, e.Execution.WorkflowId, e.Execution.RunId, false,
			enums.HISTORY_EVENT_FILTER_TYPE_ALL_EVENT)
		for events.HasNext() {
			event, err := events.Next()
			var gone *serviceerror.NotFound
			if deleted = errors.As(err, &gone); deleted {
				break // the list still has a workflow that a test has deleted
			}
			require.NoError(t, err)
			h.Events = append(h.Events, event)
		}
		if deleted || len(h.Events) < 3 {
			continue // or it has not started, such as the next housekeeping
		}
		r, err := worker.NewWorkflowReplayerWithOptions(worker.WorkflowReplayerOptions{
			DataConverter: options.DataConverter, FailureConverter: options.FailureConverter,
			DisableDeadlockDetection: true}) // its second is short on a busy machine
		require.NoError(t, err)
		hutongworker.RegisterWorkflows(r)
		require.NoError(t, r.ReplayWorkflowHistory(quiet, &h), "%s in %s", e.Execution.WorkflowId, namespace)
		if dir := os.Getenv("HUTONG_RECORD_HISTORIES"); dir != "" {
			saveHistory(t, dir, node, e.Type.Name, &h)
		}
	}
}

// processName matches the identity of workers and clients, a process and a machine, which saved histories
// leave out.
var processName = regexp.MustCompile(`"identity":"[^"]*"`)

func saveHistory(t *testing.T, dir, node, kind string, h *history.History) {
	t.Helper()
	text, err := protojson.Marshal(h)
	require.NoError(t, err)
	text = processName.ReplaceAll(bytes.ReplaceAll(text, []byte(`": `), []byte(`":`)),
		[]byte(`"identity":"worker"`))
	// Two of each kind are enough: the jobs of a test may end in different ways.
	for _, n := range []string{"", "-2"} {
		name := filepath.Join(dir, strings.ReplaceAll(t.Name(), "/", "-")+"-"+kind+"-"+node+n+".json")
		if _, err := os.Stat(name); err == nil {
			continue
		}
		require.NoError(t, os.WriteFile(name, append(text, '\n'), 0o600))
		return
	}
}
