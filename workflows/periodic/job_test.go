package periodic

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/testsuite"
	"go.temporal.io/sdk/workflow"

	"hutong/activities/periodic"
	"hutong/bfia"
	"hutong/store"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

var start = time.Date(2026, 11, 29, 0, 30, 0, 0, time.UTC)

// fakeParty fakes the rows of a periodic job, and the jobs that it submits.
type fakeParty struct {
	env *testsuite.TestWorkflowEnvironment

	mu      sync.Mutex
	job     store.PeriodicJob
	runs    map[string]*store.PeriodicRun // by time
	deleted bool
	// lasts is how long the n-th job lasts, and ends how it ends. The last value holds for all others.
	lasts   []time.Duration
	ends    []bfia.PeriodicOutcome
	refusal func(n int) error
	sent    []time.Time
	tries   int
}

func newFakeParty(r bfia.Recurrence) *fakeParty {
	f := &fakeParty{env: flowtest.NewEnv(), runs: map[string]*store.PeriodicRun{},
		lasts: []time.Duration{time.Minute}, ends: []bfia.PeriodicOutcome{"SUCCESS"},
		job: store.PeriodicJob{PeriodicID: "p1", Name: "daily", Revision: 1, Recurrence: r,
			State: bfia.PeriodicActive, AfterAt: start}}
	f.env.SetStartTime(start)
	f.env.RegisterWorkflowWithOptions(Job, workflow.RegisterOptions{Name: workflows.PeriodicJobType})
	for name, fn := range map[string]any{"LoadPeriodicJob": f.load, "RecordPeriodicJob": f.record,
		"DeletePeriodicJob": f.remove, "SubmitPeriodicRun": f.submit, "AwaitPeriodicRun": f.await} {
		f.env.RegisterActivityWithOptions(fn, activity.RegisterOptions{Name: name})
	}
	return f
}

func key(at time.Time, manual bool) string { return fmt.Sprint(at.UTC().Format(time.RFC3339), manual) }

func (f *fakeParty) load(context.Context, string) (periodic.Loaded, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.deleted {
		return periodic.Loaded{}, flowtest.RefusedBy(bfia.CodeNotFound, "not known")
	}
	loaded := periodic.Loaded{Job: f.job}
	for _, r := range f.runs {
		if r.EndedAt == nil {
			loaded.Runs = append(loaded.Runs, *r)
		}
	}
	return loaded, nil
}

func (f *fakeParty) record(_ context.Context, in periodic.RecordPeriodicJobInput) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.deleted {
		return flowtest.RefusedBy(bfia.CodeNotFound, "not known")
	}
	if in.Job.Version <= f.job.Version {
		return nil
	}
	f.job = in.Job
	for _, r := range in.Runs {
		known := f.runs[key(r.ScheduledAt, r.Manual)]
		if known == nil {
			f.runs[key(r.ScheduledAt, r.Manual)] = &r
		} else if known.EndedAt == nil {
			known.Outcome, known.Reason, known.EndedAt = r.Outcome, r.Reason, r.EndedAt
		}
	}
	return nil
}

func (f *fakeParty) remove(context.Context, string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deleted = true
	return nil
}

func (f *fakeParty) submit(_ context.Context, in periodic.SubmitPeriodicRunInput,
) (periodic.SubmittedRun, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.runs[key(in.Run.ScheduledAt, in.Run.Manual)]
	if r == nil {
		return periodic.SubmittedRun{}, errors.New("the run is not recorded before its submission")
	}
	if r.Accepted {
		return periodic.SubmittedRun{JobID: r.JobID}, nil
	}
	f.tries++
	if f.refusal != nil {
		if err := f.refusal(f.tries); err != nil {
			var refused *temporal.ApplicationError
			if !errors.As(err, &refused) {
				return periodic.SubmittedRun{}, err
			}
			now := f.env.Now()
			r.Outcome, r.Reason, r.EndedAt = bfia.RunRefused, refused.Message(), &now
			return periodic.SubmittedRun{Refused: r.Reason}, nil
		}
	}
	f.sent = append(f.sent, in.Run.ScheduledAt)
	r.JobID, r.Accepted = fmt.Sprintf("job%d", len(f.sent)), true
	return periodic.SubmittedRun{JobID: r.JobID}, nil
}

// await answers once the job has ended, by the workflow's clock.
func (f *fakeParty) await(ctx context.Context, in periodic.AwaitPeriodicRunInput) (periodic.EndedRun,
	error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var n int
	_, _ = fmt.Sscanf(in.JobID, "job%d", &n)
	if n == 0 {
		return periodic.EndedRun{Outcome: bfia.RunRefused, Reason: in.Unsubmitted}, nil
	}
	r := f.runs[key(in.Run.ScheduledAt, in.Run.Manual)]
	end := r.ScheduledAt.Add(f.lasts[min(n, len(f.lasts))-1])
	if f.env.Now().Before(end) {
		return periodic.EndedRun{}, temporal.NewApplicationErrorWithOptions("runs", "Runs",
			temporal.ApplicationErrorOptions{NextRetryDelay: end.Sub(f.env.Now())})
	}
	r.Outcome, r.EndedAt = f.ends[min(n, len(f.ends))-1], &end
	return periodic.EndedRun{Outcome: r.Outcome}, nil
}

// history returns the outcomes of all runs, in the order of their times.
func (f *fakeParty) history() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	rows := []*store.PeriodicRun{}
	for _, r := range f.runs {
		rows = append(rows, r)
	}
	slices.SortFunc(rows, func(a, b *store.PeriodicRun) int { return a.ScheduledAt.Compare(b.ScheduledAt) })
	var out []string
	for _, r := range rows {
		text := r.ScheduledAt.UTC().Format("02 15:04 ") + string(r.Outcome)
		if r.Count > 0 {
			text += fmt.Sprint(" ", r.Count)
		}
		if r.Manual {
			text += " manual"
		}
		out = append(out, text)
	}
	return out
}

// update sends an update after some time, and checks its answer.
func (f *fakeParty) update(t *testing.T, after time.Duration, name string, check func(any, error),
	args ...any) {
	t.Helper()
	answered := false
	t.Cleanup(func() { assert.True(t, answered, "%s after %s got no answer", name, after) })
	f.env.RegisterDelayedCallback(func() {
		f.env.UpdateWorkflow(name, fmt.Sprint(name, after), &testsuite.TestUpdateCallback{
			OnAccept: func() {},
			OnReject: func(err error) { answered = true; check(nil, err) },
			OnComplete: func(value any, err error) {
				answered = true
				check(value, err)
			}}, args...)
	}, after)
}

// deleteAfter ends the workflow.
func (f *fakeParty) deleteAfter(t *testing.T, after time.Duration) {
	f.update(t, after, workflows.UpdatePeriodicDelete, func(_ any, err error) { assert.NoError(t, err) })
}

func (f *fakeParty) run(t *testing.T) {
	t.Helper()
	f.env.ExecuteWorkflow(Job, workflows.PeriodicJobInput{PeriodicID: "p1", Name: "daily"})
	require.True(t, f.env.IsWorkflowCompleted())
}

const hour = time.Hour

// TestOverlap checks what each policy does while a job lasts longer than the interval.
func TestOverlap(t *testing.T) {
	for _, c := range []struct {
		overlap bfia.Overlap
		want    []string
	}{
		{"", []string{"29 01:00 SUCCESS", "29 02:00 SKIPPED", "29 03:00 SKIPPED", "29 04:00 SUCCESS"}},
		{bfia.OverlapSkip,
			[]string{"29 01:00 SUCCESS", "29 02:00 SKIPPED", "29 03:00 SKIPPED", "29 04:00 SUCCESS"}},
		{bfia.OverlapBuffer,
			[]string{"29 01:00 SUCCESS", "29 02:00 SUCCESS", "29 03:00 SKIPPED", "29 04:00 SUCCESS"}},
		{bfia.OverlapAllowAll,
			[]string{"29 01:00 SUCCESS", "29 02:00 SUCCESS", "29 03:00 SUCCESS", "29 04:00 SUCCESS"}},
	} {
		t.Run(string(c.overlap), func(t *testing.T) {
			f := newFakeParty(bfia.Recurrence{Cron: "0 * * * *", Overlap: c.overlap})
			f.lasts = []time.Duration{2*hour + 10*time.Minute, time.Minute}
			f.deleteAfter(t, 4*hour)
			f.run(t)
			require.NoError(t, f.env.GetWorkflowError())
			assert.Equal(t, c.want, f.history())
			assert.True(t, f.deleted)
		})
	}
}

// TestAllowAllIsBounded checks that even the policy allow_all lets no more than some jobs run at once.
func TestAllowAllIsBounded(t *testing.T) {
	f := newFakeParty(bfia.Recurrence{Cron: "* * * * *", Overlap: bfia.OverlapAllowAll})
	f.lasts = []time.Duration{10 * hour}
	f.deleteAfter(t, 30*time.Minute)
	f.run(t)
	assert.Len(t, f.sent, maxOpen)
	assert.Contains(t, f.history(), "29 00:55 SKIPPED")
}

// TestMissed checks that of the runs which a party missed only the latest runs, and only within the window.
func TestMissed(t *testing.T) {
	f := newFakeParty(bfia.Recurrence{Cron: "0 * * * *"})
	f.job.AfterAt = start.Add(-5 * hour) // 19:30: 20:00 to 00:00 are due at 00:30
	f.deleteAfter(t, hour)
	f.run(t)
	assert.Equal(t, []string{"28 20:00 MISSED 4", "29 00:00 SUCCESS", "29 01:00 SUCCESS"}, f.history())

	f = newFakeParty(bfia.Recurrence{Cron: "0 * * * *", CatchupSeconds: 600})
	f.job.AfterAt = start.Add(-5 * hour)
	f.deleteAfter(t, hour)
	f.run(t)
	assert.Equal(t, []string{"28 20:00 MISSED 5", "29 01:00 SUCCESS"}, f.history())
}

// TestPauseAndResume checks that a paused periodic job submits nothing, and misses nothing.
func TestPauseAndResume(t *testing.T) {
	f := newFakeParty(bfia.Recurrence{Cron: "0 * * * *"})
	none := func(_ any, err error) { assert.NoError(t, err) }
	f.update(t, hour, workflows.UpdatePeriodicPause, func(_ any, err error) {
		assert.NoError(t, err)
		assert.Equal(t, bfia.PeriodicPaused, f.job.State, "recorded before the answer")
		assert.Equal(t, "holidays", f.job.Reason)
		assert.Nil(t, f.job.NextAt)
	}, "holidays")
	f.update(t, 5*hour, workflows.UpdatePeriodicRun, func(id any, err error) {
		assert.NoError(t, err)
		assert.Equal(t, "job2", id, "a paused one runs by hand")
	})
	f.update(t, 6*hour, workflows.UpdatePeriodicResume, none)
	f.deleteAfter(t, 7*hour)
	f.run(t)
	assert.Equal(t, []string{"29 01:00 SUCCESS", "29 05:30 SUCCESS manual", "29 07:00 SUCCESS"}, f.history())
	assert.Equal(t, 2, f.job.Submitted, "a manual run does not count")
}

// TestPauseOnFailure checks that failures in a row pause, a success ends the row, and a stopped job is
// neither.
func TestPauseOnFailure(t *testing.T) {
	f := newFakeParty(bfia.Recurrence{Cron: "0 * * * *", PauseOnFailure: 2})
	f.ends = []bfia.PeriodicOutcome{"FAILED", "SUCCESS", "FAILED", "STOPPED", "FAILED"}
	f.deleteAfter(t, 9*hour)
	f.run(t)
	assert.Equal(t, []string{"29 01:00 FAILED", "29 02:00 SUCCESS", "29 03:00 FAILED", "29 04:00 STOPPED",
		"29 05:00 FAILED"}, f.history())
	assert.Equal(t, bfia.PeriodicPaused, f.job.State)
	assert.Contains(t, f.job.Reason, "2 runs in a row have failed; the last job, job5, is FAILED")
}

// TestRefused checks that a refused run is recorded with its reason, counts as a failure, and that a party
// which does not answer is tried again until the window is over.
func TestRefused(t *testing.T) {
	f := newFakeParty(bfia.Recurrence{Cron: "0 * * * *", PauseOnFailure: 2})
	f.refusal = func(int) error {
		return flowtest.RefusedBy(bfia.CodeForbidden, "alice lacks the role operator")
	}
	f.deleteAfter(t, 5*hour)
	f.run(t)
	assert.Equal(t, []string{"29 01:00 REFUSED", "29 02:00 REFUSED"}, f.history())
	assert.Contains(t, f.job.Reason, "the last run was refused: alice lacks the role operator")

	f = newFakeParty(bfia.Recurrence{Cron: "0 * * * *"})
	f.refusal = func(n int) error {
		if n < 5 {
			return flowtest.ErrAway
		}
		return nil
	}
	f.deleteAfter(t, hour)
	f.run(t)
	assert.Equal(t, []string{"29 01:00 SUCCESS"}, f.history())
	assert.Equal(t, 5, f.tries)

	f = newFakeParty(bfia.Recurrence{Cron: "0 */4 * * *", CatchupSeconds: 600})
	f.refusal = func(int) error { return flowtest.ErrAway }
	f.deleteAfter(t, 5*hour)
	f.run(t)
	assert.Equal(t, 1, f.job.Failures, "it gave up")
}

// TestRunNow checks that a run by hand follows the overlap policy and reports a refusal.
func TestRunNow(t *testing.T) {
	f := newFakeParty(bfia.Recurrence{Cron: "0 * * * *"})
	f.lasts = []time.Duration{50 * time.Minute}
	f.refusal = func(n int) error {
		if n == 2 {
			return flowtest.RefusedBy(bfia.CodeRefused, "B has no provider")
		}
		return nil
	}
	f.update(t, 40*time.Minute, workflows.UpdatePeriodicRun, func(_ any, err error) {
		assert.ErrorContains(t, err, "job job1 of the periodic job daily has not ended")
	})
	f.update(t, 85*time.Minute, workflows.UpdatePeriodicRun, func(_ any, err error) {
		assert.ErrorContains(t, err, "B has no provider")
	})
	f.deleteAfter(t, 88*time.Minute)
	f.run(t)
	assert.Equal(t, []string{"29 01:00 SUCCESS", "29 01:55 REFUSED manual"}, f.history())
}

// TestChange checks that a change counts from now on, and that an older one is refused.
func TestChange(t *testing.T) {
	f := newFakeParty(bfia.Recurrence{Cron: "0 * * * *"})
	f.update(t, hour, workflows.UpdatePeriodicChange, func(_ any, err error) { assert.NoError(t, err) },
		workflows.PeriodicChange{Recurrence: bfia.Recurrence{Cron: "15 */2 * * *"}, Revision: 3})
	f.update(t, 2*hour, workflows.UpdatePeriodicChange, func(_ any, err error) {
		assert.ErrorContains(t, err, "at the same time")
	}, workflows.PeriodicChange{Recurrence: bfia.Recurrence{Cron: "@daily"}, Revision: 2})
	f.deleteAfter(t, 4*hour)
	f.run(t)
	assert.Equal(t, []string{"29 01:00 SUCCESS", "29 02:15 SUCCESS", "29 04:15 SUCCESS"}, f.history())
	assert.Equal(t, 3, f.runs[key(time.Date(2026, 11, 29, 2, 15, 0, 0, time.UTC), false)].Revision)
}

// TestEnd checks that a periodic job ends after its count, and at its end.
func TestEnd(t *testing.T) {
	f := newFakeParty(bfia.Recurrence{Cron: "0 * * * *", Count: 2})
	f.run(t)
	require.NoError(t, f.env.GetWorkflowError())
	assert.Equal(t, []string{"29 01:00 SUCCESS", "29 02:00 SUCCESS"}, f.history())
	assert.Equal(t, bfia.PeriodicEnded, f.job.State)
	assert.Contains(t, f.job.Reason, "2 jobs")

	end := start.Add(2 * hour)
	f = newFakeParty(bfia.Recurrence{Cron: "0 * * * *", EndsAt: &end})
	f.lasts = []time.Duration{3 * hour}
	f.run(t)
	require.NoError(t, f.env.GetWorkflowError())
	assert.Equal(t, []string{"29 01:00 SUCCESS", "29 02:00 SKIPPED"}, f.history(), "after the last job's end")
	assert.Equal(t, bfia.PeriodicEnded, f.job.State)
}

// TestContinuesAsNew checks that a long history ends, and that the next one continues with the open job and
// the next time: nothing runs twice, nothing is lost.
func TestContinuesAsNew(t *testing.T) {
	f := newFakeParty(bfia.Recurrence{Cron: "0 * * * *"})
	f.lasts = []time.Duration{90 * time.Minute}
	f.env.RegisterDelayedCallback(func() { f.env.SetContinueAsNewSuggested(true) }, hour)
	f.run(t)
	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, f.env.GetWorkflowError(), &again)
	require.Equal(t, workflows.PeriodicJobType, again.WorkflowType.Name)

	next := newFakeParty(bfia.Recurrence{})
	next.job, next.runs, next.sent, next.lasts = f.job, f.runs, f.sent, f.lasts
	next.env.SetStartTime(f.env.Now())
	next.deleteAfter(t, 3*hour)
	next.run(t)
	require.NoError(t, next.env.GetWorkflowError())
	history := next.history()
	assert.Equal(t, []string{"29 01:00 SUCCESS", "29 02:00 SKIPPED", "29 03:00 SUCCESS"}, history[:3])
	for i, at := range next.sent {
		assert.NotContains(t, next.sent[:i], at, "submitted once")
	}
}

// TestDeletedElsewhere checks that the workflow of a periodic job whose rows are gone ends.
func TestDeletedElsewhere(t *testing.T) {
	f := newFakeParty(bfia.Recurrence{Cron: "0 * * * *"})
	f.deleted = true
	f.run(t)
	require.NoError(t, f.env.GetWorkflowError())
	assert.Empty(t, f.sent)

	f = newFakeParty(bfia.Recurrence{Cron: "0 * * * *"})
	f.env.RegisterDelayedCallback(func() { f.mu.Lock(); f.deleted = true; f.mu.Unlock() }, 10*time.Minute)
	f.run(t)
	require.NoError(t, f.env.GetWorkflowError())
	assert.Empty(t, f.sent)
}

// TestUnknownZone checks that a periodic job whose times can't be computed pauses, and says why.
func TestUnknownZone(t *testing.T) {
	f := newFakeParty(bfia.Recurrence{Cron: "0 * * * *", Timezone: "Asia/Atlantis"})
	f.deleteAfter(t, hour)
	f.run(t)
	assert.Equal(t, bfia.PeriodicPaused, f.job.State)
	assert.Contains(t, f.job.Reason, "timezone: ")
}
