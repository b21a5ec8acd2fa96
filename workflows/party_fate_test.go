package workflows

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/activities"
	"hutong/bfia"
	"hutong/fateflow"
)

// fateReport is FATE-Flow's scheduler, which is told of each version's begin and end.
func (c *courtyard) fateReport(_ context.Context, node string, r fateflow.Report) error {
	defer c.enter()()
	if err := c.errors[activities.SendFateReportName]; err != nil {
		return err
	}
	if node != nodeB || r.JobID != c.in.Plan.JobID || r.PartyID != nodeA {
		c.breaks("%s was told %+v", node, r)
	}
	c.happens(fmt.Sprintf("report %s %s %d %s", r.TaskID[len(r.JobID)+1:], r.Role, r.TaskVersion, r.Status))
	return nil
}

func (c *courtyard) reopen(_ context.Context, jobID string) error {
	defer c.enter()()
	c.job = bfia.JobReady
	for _, t := range c.in.Plan.Tasks {
		for _, part := range t.Parts {
			c.rows[partKey(t.Name, part)] = bfia.TaskReady
		}
	}
	for _, b := range c.in.Before {
		c.rows[b.Task+" "+b.Part] = b.State
	}
	c.happens("reopen " + jobID)
	return nil
}

// fateStart is task/start of a version of a task.
func (c *courtyard) fateStart(task string, version int) {
	c.mu.Lock()
	c.versions[task] = version
	for _, t := range c.in.Plan.Tasks {
		for _, part := range t.Parts {
			if key := partKey(t.Name, part); t.Name == task { // as StartTask does with the rows
				c.rows[key], c.requested[key] = bfia.TaskReady, false
			}
		}
	}
	c.mu.Unlock()
	c.env.SignalWorkflow(SignalTaskStart, fateflow.Attempt(c.in.Plan.JobID, task, version))
}

func (c *courtyard) fateStop(task string, version int) {
	c.env.SignalWorkflow(SignalStop, Stop{Task: task, By: nodeB, Attempt: version + 1})
}

// FATE-Flow's scheduler is told that a version runs before it is told its end, whatever becomes of the first report; it
// stops one version, and what follows the task still runs after another.
func TestPartyJobFate(t *testing.T) {
	c := newCourtyard(t, plan(onlyGuest, "a", "b<a"))
	c.in.FateFlow = true
	c.runs["a guest.0"] = container{stays: true}
	c.errors[activities.SendFateReportName] = errAway
	c.at(time.Second, func() { c.start() })
	c.at(2*time.Second, func() { c.fateStart("a", 0) })
	c.at(10*time.Second, func() { c.fateStop("a", 1) }) // none that is known
	c.at(20*time.Second, func() { c.fateStop("a", 0) })
	c.at(40*time.Second, func() { c.mu.Lock(); delete(c.errors, activities.SendFateReportName); c.mu.Unlock() })
	c.at(80*time.Second, func() {
		c.mu.Lock()
		c.runs["a guest.0"] = container{after: time.Second}
		c.mu.Unlock()
		c.fateStart("a", 1)
	})
	c.at(90*time.Second, func() { c.fateStop("a", 1) }) // it has ended; what is left of it would go
	c.at(110*time.Second, func() { c.fateStart("b", 0) })
	c.at(130*time.Second, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, Result{State: bfia.JobFinished, Outcome: OutcomeSuccess}, r)
	var reports []string
	for _, what := range c.log {
		if len(what) > 7 && what[:7] == "report " {
			reports = append(reports, what)
		}
	}
	assert.Equal(t, []string{"report a guest 0 running", "report a guest 0 failed", "report a guest 1 running", "report a guest 1 success",
		"report b guest 0 running", "report b guest 0 success"}, reports)
	assert.InDelta(t, 20, c.times["stop a guest.0"].Seconds(), 1, "it waits for no report")
}

// A job that its scheduler runs again goes on where it ended: what went well is not run again.
func TestPartyJobFateAgain(t *testing.T) {
	c := newCourtyard(t, plan(onlyGuest, "a", "b<a", "c<b"))
	c.in.FateFlow, c.in.Approval = true, false
	c.in.Before = []PartBefore{
		{Task: "a", Part: "guest.0", TaskID: c.taskID("a"), Attempt: 1, State: bfia.TaskSuccess},
		{Task: "b", Part: "guest.0", TaskID: c.taskID("b"), Attempt: 1, State: bfia.TaskFailed, Failure: &bfia.Failure{Kind: bfia.FailedExit, ExitCode: 1}},
		{Task: "c", Part: "guest.0", State: bfia.TaskReady},
	}
	c.at(time.Second, func() { c.start() })
	c.at(2*time.Second, func() { c.fateStart("b", 0) }) // it has been
	c.at(3*time.Second, func() { c.fateStart("b", 1) })
	c.at(10*time.Second, func() { c.fateStart("c", 0) })
	c.at(20*time.Second, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, Result{State: bfia.JobFinished, Outcome: OutcomeSuccess}, r)
	assert.NotContains(t, c.log, "run a guest.0")
	c.before(t, "reopen "+c.in.Plan.JobID, "run b guest.0")
	c.before(t, "run b guest.0", "run c guest.0")
}
