package periodic

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/converter"
	"go.temporal.io/sdk/workflow"

	"hutong/bfia"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// ask sends a request for a run, and checks its answer.
func (f *fakeParty) ask(t *testing.T, after time.Duration, id, wantJob, wantError string) {
	f.update(t, after, workflows.UpdatePeriodicRun, func(job any, err error) {
		if wantError != "" {
			assert.ErrorContains(t, err, wantError, "%s after %s", id, after)

			return
		}
		assert.NoError(t, err, "%s after %s", id, after)
		assert.Equal(t, wantJob, job, "%s after %s", id, after)
	}, workflows.PeriodicRunInput{RequestID: id})
}

// TestRepeatedRequest checks that a request which arrives twice starts one run, at the same time, while its
// job runs, after its end, and when the workflow has continued as new; and that a refused one may be
// repeated.
func TestRepeatedRequest(t *testing.T) {
	f := newFakeParty(bfia.Recurrence{Cron: "0 5 1 1 *"})
	f.lasts = []time.Duration{10 * time.Minute}
	f.refusal = func(n int) error {
		if n == 2 {
			return flowtest.RefusedBy(bfia.CodeRefused, "B has no provider")
		}

		return nil
	}
	f.ask(t, time.Minute, "first", "job1", "")
	f.ask(t, time.Minute+time.Nanosecond, "first", "job1", "")
	f.ask(t, 5*time.Minute, "first", "job1", "")
	f.ask(t, 6*time.Minute, "other", "", "job job1 of the periodic job daily has not ended")
	f.ask(t, 30*time.Minute, "first", "job1", "")
	f.ask(t, 31*time.Minute, "refused", "", "B has no provider")
	f.ask(t, 32*time.Minute, "refused", "job2", "")
	f.ask(t, 50*time.Minute, "", "job3", "")
	f.env.RegisterDelayedCallback(func() { f.env.SetContinueAsNewSuggested(true) }, 51*time.Minute)
	f.run(t)
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, f.env.GetWorkflowError(), &again)
	var in workflows.PeriodicJobInput
	require.NoError(t, converter.GetDefaultDataConverter().FromPayloads(again.Input, &in))
	assert.Equal(t, []workflows.PeriodicRequest{{RequestID: "first", JobID: "job1"},
		{RequestID: "refused", JobID: "job2"}}, in.Requests)

	next := newFakeParty(bfia.Recurrence{})
	next.job, next.runs, next.sent, next.lasts = f.job, f.runs, f.sent, f.lasts
	next.env.SetStartTime(f.env.Now())
	next.ask(t, 20*time.Minute, "first", "job1", "")
	next.ask(t, 21*time.Minute, "", "job4", "")
	next.ask(t, 40*time.Minute, "", "job5", "")
	next.deleteAfter(t, time.Hour)
	next.env.ExecuteWorkflow(Job, in)
	require.NoError(t, next.env.GetWorkflowError())
	assert.Len(t, next.sent, 5)
}

// TestRequestsAreBounded checks that the oldest requests are forgotten.
func TestRequestsAreBounded(t *testing.T) {
	f := newFakeParty(bfia.Recurrence{Cron: "0 5 1 1 *"})
	in := workflows.PeriodicJobInput{PeriodicID: "p1", Name: "daily"}
	for i := range maxRequests {
		in.Requests = append(in.Requests,
			workflows.PeriodicRequest{RequestID: string(rune('A' + i)), JobID: "old"})
	}
	f.ask(t, time.Minute, "A", "old", "")
	f.ask(t, 2*time.Minute, "new", "job1", "")
	f.ask(t, 30*time.Minute, "A", "job2", "")
	f.ask(t, 31*time.Minute, "new", "job1", "")
	f.deleteAfter(t, time.Hour)
	f.env.ExecuteWorkflow(Job, in)
	require.NoError(t, f.env.GetWorkflowError())
}
