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
	fmt.Fprintf(&b, "Job %s, scheduled by %s, is %s here\n\n", j.Plan.JobID, j.Scheduler, j.state)
	b.WriteString(j.waits.Markdown())
	if waiting := j.unstarted(); waiting != nil {
		fmt.Fprintf(&b, "- It %s\n\n", waiting)
	}
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

// unstarted returns why the job has not started, or nil. The status derives the same from the rows.
func (j *job) unstarted() *bfia.Waiting {
	var waiting bfia.Waiting
	switch denied := j.reservation.denied; {
	case j.stoppedBy != "" || j.state != bfia.JobReady && j.state != bfia.JobRunning:
		return nil
	case !j.reservation.granted && denied != "":
		waiting = bfia.WaitForResources(j.Node, denied, j.reservation.deniedSince)
	case j.state == bfia.JobReady:
		waiting = bfia.WaitForScheduler(j.Scheduler, j.readySince)
	default:
		return nil
	}

	return &waiting
}

func (part *taskPart) details() string {
	text := string(part.state)
	if part.waiting != nil && !part.state.Terminal() {
		text += ": " + workflows.Cell(part.waiting.String())
	}
	if part.attempt > 1 {
		text += fmt.Sprintf(" in attempt %d", part.attempt)
	}
	if why := part.failure.Text(); why != "" && part.failure.Kind != bfia.FailedStopped {
		text += " (" + workflows.Cell(why) + ")"
	}

	return text
}
