package participant

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/activities/participant"
	"hutong/bfia"
	"hutong/fateflow"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// fateReport is FATE-Flow's scheduler, which gets reports of the begin and the end of each version.
func (c *fakeBackend) fateReport(_ context.Context, in participant.SendFateReportInput) error {
	node, r := in.Node, in.Report
	defer c.enter()()
	if err := c.errors["SendFateReport"]; err != nil {
		return err
	}
	if node != flowtest.NodeB || r.JobID != c.in.Plan.JobID || r.PartyID != flowtest.NodeA {
		c.breaks("%s got %+v", node, r)
	}
	c.happens(fmt.Sprintf("report %s %s %d %s", r.TaskID[len(r.JobID)+1:], r.Role, r.TaskVersion, r.Status))
	return nil
}

func (c *fakeBackend) reopen(_ context.Context, in participant.ReopenJobInput) error {
	defer c.enter()()
	c.job = bfia.JobReady
	for _, t := range c.in.Plan.Tasks {
		for _, part := range t.Parts {
			c.rows[flowtest.PartKey(t.Name, part)] = bfia.TaskReady
		}
	}
	for _, b := range c.in.Before {
		c.rows[b.Task+" "+b.Part] = b.State
	}
	c.happens("reopen " + in.JobID)
	return nil
}

// fateStart sends task/start for a version of a task.
func (c *fakeBackend) fateStart(task string, version int) {
	c.mu.Lock()
	c.versions[task] = version
	for _, t := range c.in.Plan.Tasks {
		for _, part := range t.Parts {
			if key := flowtest.PartKey(t.Name, part); t.Name == task { // as StartTask does with the rows
				c.rows[key], c.requested[key] = bfia.TaskReady, false
			}
		}
	}
	c.mu.Unlock()
	c.env.SignalWorkflow(workflows.SignalTaskStart, fateflow.Attempt(c.in.Plan.JobID, task, version))
}

func (c *fakeBackend) fateStop(task string, version int) {
	c.env.SignalWorkflow(workflows.SignalStop,
		workflows.Stop{Task: task, By: flowtest.NodeB, Attempt: version + 1})
}

// TestParticipantFateFlow checks that FATE-Flow's scheduler learns that a version runs before it learns its
// end, whatever happens to the first report. It stops one version of a task, and the dependents run after the
// next version.
func TestParticipantFateFlow(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan(onlyGuest, "a", "b<a"))
	c.in.FateFlow = true
	c.runs["a guest.0"] = container{stays: true}
	c.errors["SendFateReport"] = flowtest.ErrAway
	c.at(time.Second, func() { c.start() })
	c.at(2*time.Second, func() { c.fateStart("a", 0) })
	c.at(10*time.Second, func() { c.fateStop("a", 1) }) // of an unknown version
	c.at(20*time.Second, func() { c.fateStop("a", 0) })
	c.at(40*time.Second, func() { c.mu.Lock(); delete(c.errors, "SendFateReport"); c.mu.Unlock() })
	c.at(80*time.Second, func() {
		c.mu.Lock()
		c.runs["a guest.0"] = container{after: time.Second}
		c.mu.Unlock()
		c.fateStart("a", 1)
	})
	c.at(90*time.Second, func() { c.fateStop("a", 1) }) // of a version that has ended
	c.at(110*time.Second, func() { c.fateStart("b", 0) })
	c.at(130*time.Second, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, workflows.Result{State: bfia.JobFinished, Outcome: workflows.OutcomeSuccess}, r)
	var reports []string
	for _, what := range c.log {
		if len(what) > 7 && what[:7] == "report " {
			reports = append(reports, what)
		}
	}
	assert.Equal(
		t,
		[]string{"report a guest 0 running", "report a guest 0 failed", "report a guest 1 running",
			"report a guest 1 success", "report b guest 0 running", "report b guest 0 success"},
		reports,
	)
	assert.InDelta(t, 20, c.times["stop a guest.0"].Seconds(), 1, "it waits for no report")
}

// TestParticipantFateFlowRerun checks that a job which its scheduler reruns resumes where it ended: a part
// that succeeded does not run again.
func TestParticipantFateFlowRerun(t *testing.T) {
	c := newFakeBackend(t, flowtest.Plan(onlyGuest, "a", "b<a", "c<b"))
	c.in.FateFlow, c.in.Approval = true, false
	c.in.Before = []workflows.PartBefore{
		{Task: "a", Part: "guest.0", TaskID: c.taskID("a"), Attempt: 1, State: bfia.TaskSuccess},
		{
			Task:    "b",
			Part:    "guest.0",
			TaskID:  c.taskID("b"),
			Attempt: 1,
			State:   bfia.TaskFailed,
			Failure: &bfia.Failure{Kind: bfia.FailedExit, ExitCode: 1},
		},
		{Task: "c", Part: "guest.0", State: bfia.TaskReady},
	}
	c.at(time.Second, func() { c.start() })
	c.at(2*time.Second, func() { c.fateStart("b", 0) }) // a version that has run
	c.at(3*time.Second, func() { c.fateStart("b", 1) })
	c.at(10*time.Second, func() { c.fateStart("c", 0) })
	c.at(20*time.Second, func() { c.stop("") })
	r, err := c.play()
	require.NoError(t, err)
	assert.Equal(t, workflows.Result{State: bfia.JobFinished, Outcome: workflows.OutcomeSuccess}, r)
	assert.NotContains(t, c.log, "run a guest.0")
	c.before(t, "reopen "+c.in.Plan.JobID, "run b guest.0")
	c.before(t, "run b guest.0", "run c guest.0")
}
