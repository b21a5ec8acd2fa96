package participant

import (
	"fmt"
	"strings"

	"go.temporal.io/sdk/workflow"

	"hutong/bfia"
	"hutong/workflows"
)

// maxTableRows bounds the table of a job's tasks in Temporal's UI.
const maxTableRows = 50

// describe shows in Temporal's UI what the job does here and waits for.
func (j *job) describe(ctx workflow.Context) { workflow.SetCurrentDetails(ctx, j.table()) }

// table returns the state of the job and of its parts here, in Markdown.
func (j *job) table() string {
	var b strings.Builder
	if j.state == bfia.JobPending {
		fmt.Fprintf(&b, "Waiting for an approver here: hutong job approve %s, or hutong job reject %[1]s\n\n",
			j.Plan.JobID)
	}
	if j.state == bfia.JobRunning && !j.reservation.granted && j.reservation.denied != "" {
		fmt.Fprintf(&b, "Its tasks wait for resources: %s\n\n", j.reservation.denied)
	}
	if !j.silence.since.IsZero() {
		fmt.Fprintf(&b, "The scheduler, %s, has not answered since %s: %s\n\n", j.Scheduler,
			j.silence.since.UTC().Format("2006-01-02 15:04:05 MST"), workflows.Cell(j.silence.reason))
	}
	fmt.Fprintf(&b, "Job %s, scheduled by %s, is %s here\n\n", j.Plan.JobID, j.Scheduler, j.state)
	b.WriteString("| task | part | state | runner |\n| --- | --- | --- | --- |\n")
	for i, planned := range j.Plan.Tasks {
		if i == maxTableRows {
			fmt.Fprintf(&b, "| … %d more | | | |\n", len(j.Plan.Tasks)-i)

			break
		}
		for _, part := range j.tasks[planned.Name].parts {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n",
				planned.Name, part.part.Self(), part.details(), part.claim.RunnerID)
		}
	}

	return b.String()
}

func (part *taskPart) details() string {
	text := string(part.state)
	if part.attempt > 1 {
		text += fmt.Sprintf(" in attempt %d", part.attempt)
	}
	if why := part.failure.Text(); why != "" {
		text += " (" + workflows.Cell(why) + ")"
	}

	return text
}
