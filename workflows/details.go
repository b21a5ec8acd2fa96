package workflows

import (
	"strings"

	"go.temporal.io/sdk/workflow"

	"hutong/bfia"
)

// memoFailure is the memo in which a workflow that failed says why, for readers of Temporal's lists.
const memoFailure = "failure"

// SetFailureMemo puts a failure where Temporal's lists and pages show it.
func SetFailureMemo(ctx workflow.Context, f *bfia.Failure) {
	if f != nil {
		_ = workflow.UpsertMemo(ctx, map[string]any{memoFailure: f.String()})
	}
}

// EndDetails returns the beginning of the details of a workflow that has ended: its outcome, why, the last
// lines of the log, and what to try.
func EndDetails(outcome bfia.Outcome, f *bfia.Failure, self, jobID string) string {
	lines := []string{string(outcome)}
	if reason := f.String(); reason != "" {
		lines = append(lines, reason)
	}
	if f != nil && len(f.Log) > 0 {
		lines = append(lines, "```\n"+strings.ReplaceAll(strings.Join(f.Log, "\n"), "```", "'''")+"\n```")
	}
	if hint := f.WithHint(self, jobID); hint != nil && hint.Hint != "" {
		lines = append(lines, "What to try: "+hint.Hint)
	}

	return strings.Join(lines, "\n\n") + "\n\n"
}

// Cell escapes a text from elsewhere for a cell of a table.
func Cell(text string) string { return strings.NewReplacer("|", "/", "\n", " ").Replace(text) }
