package workflows

import (
	"strings"

	"go.temporal.io/sdk/workflow"

	"hutong/bfia"
)

// memoExplanation is the memo in which a workflow that did not go well says why, for those who look into the engine.
const memoExplanation = "explanation"

// explainInMemo puts a failure where the engine's own lists and pages show it.
func explainInMemo(ctx workflow.Context, f *bfia.Failure) {
	if f != nil {
		_ = workflow.UpsertMemo(ctx, map[string]any{memoExplanation: f.String()})
	}
}

// ended begins the details of a workflow that has ended: how and why, the last lines of the log, what to try.
func ended(outcome, reason string, f *bfia.Failure, self, jobID string) string {
	lines := []string{outcome}
	if reason != "" {
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

// cell makes one cell of a table of a text that comes from elsewhere.
func cell(text string) string { return strings.NewReplacer("|", "/", "\n", " ").Replace(text) }
