package scheduler

import (
	"fmt"
	"strings"

	"go.temporal.io/sdk/workflow"

	"hutong/bfia"
	"hutong/workflows"
)

// maxTableRows bounds the table of a job's tasks in Temporal's UI.
const maxTableRows = 50

// describe shows in Temporal's UI what the job does and waits for.
func (j *job) describe(ctx workflow.Context) { workflow.SetCurrentDetails(ctx, j.table()) }

// table returns the state of the job, its tasks and their parts, in Markdown.
func (j *job) table() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Job %s is %s\n\n", j.Plan.JobID, j.state)
	b.WriteString(j.waits.Markdown())
	b.WriteString("| task | state | after | parts |\n| --- | --- | --- | --- |\n")
	for i, t := range j.tasks {
		if i == maxTableRows {
			fmt.Fprintf(&b, "| … %d more | | | |\n", len(j.tasks)-i)

			break
		}

		state := string(t.state)
		if t.attempt > 1 {
			state += fmt.Sprintf(" (attempt %d)", t.attempt)
		}
		if waiting := j.waitsForSlot(t); waiting != nil {
			state += ": " + waiting.String()
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n",
			t.plan.Name, state, strings.Join(t.plan.DependsOn, ", "), strings.Join(t.partDetails(), "; "))
	}

	return b.String()
}

func (t *task) partDetails() (parts []string) {
	for k, p := range t.plan.Parts {
		text := fmt.Sprintf("%s at %s: %s", p.Self(), p.NodeID, t.parts[k])
		if waiting := t.waits[p.NodeID]; waiting != nil && t.parts[k] == bfia.TaskRunning {
			text += ": " + waiting.String()
		}
		if why := t.failures[k].Text(); why != "" && t.failures[k].Kind != bfia.FailedStopped {
			text += " (" + why + ")"
		}
		parts = append(parts, workflows.Cell(text))
	}

	return parts
}
