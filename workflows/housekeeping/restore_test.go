package housekeeping

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/temporal"
	"go.temporal.io/sdk/workflow"

	"hutong/activities"
	"hutong/activities/housekeeping"
	"hutong/activities/participant"
	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/workflows"
	"hutong/workflows/internal/flowtest"
)

// TestMark checks that the mark is counted up once a minute and when asked, that a refused mark is tried
// again and not skipped, and that the next run continues.
func TestMark(t *testing.T) {
	env := flowtest.NewEnv()
	var marks []int64
	var times []time.Time
	refusals := 2
	env.RegisterActivityWithOptions(
		func(_ context.Context, in housekeeping.AdvanceRestoreMarkInput) error {
			marks, times = append(marks, in.Number), append(times, env.Now())
			if in.Number == 45 && refusals > 0 {
				refusals--
				return temporal.NewNonRetryableApplicationError("it was restored", activities.FailureRefused,
					nil)
			}
			return nil
		}, activity.RegisterOptions{Name: "AdvanceRestoreMark"})
	env.RegisterDelayedCallback(func() { env.SignalWorkflow(workflows.SignalMarkNow, nil) }, 90*time.Second)
	env.ExecuteWorkflow(Mark, workflows.RestoreMark{Deployment: "d", Number: 41})

	var again *workflow.ContinueAsNewError
	require.ErrorAs(t, env.GetWorkflowError(), &again)
	require.Len(t, marks, marksPerRun+2)
	require.Equal(t, []int64{42, 43, 44, 45, 45, 45, 46}, marks[:7])
	require.Equal(t, int64(41+marksPerRun), marks[len(marks)-1])
	require.Equal(t, 30*time.Second, times[2].Sub(times[1]).Round(time.Second), "the signal came in between")
	require.Equal(t, workflows.RestoreMarkEvery, times[3].Sub(times[2]).Round(time.Second))
}

// TestNotify checks that partners are notified of the jobs that a restore has ended, until they answer, and
// that the jobs' sessions are released once the partners' containers have stopped.
func TestNotify(t *testing.T) {
	env := flowtest.NewEnv()
	var mu sync.Mutex
	var sent []string
	var last time.Time
	away := 3
	env.RegisterActivityWithOptions(func(_ context.Context, in scheduler.SendStopInput) error {
		mu.Lock()
		defer mu.Unlock()
		if away > 0 {
			away--
			return errors.New("the partner is away")
		}
		last = env.Now()
		sent = append(sent, "stop "+in.Job.JobID+" at "+in.Node+": "+in.Job.Failure.Message)
		return nil
	}, activity.RegisterOptions{Name: "SendStop"})
	env.RegisterActivityWithOptions(func(_ context.Context, in participant.SendStopAllInput) error {
		mu.Lock()
		defer mu.Unlock()
		last = env.Now()
		sent = append(sent, "stop all of "+in.Job.JobID+" at "+in.Node)
		return nil
	}, activity.RegisterOptions{Name: "SendStopAll"})
	released := map[string][]time.Time{}
	env.RegisterActivityWithOptions(func(_ context.Context, in participant.ReleaseSessionInput) error {
		mu.Lock()
		defer mu.Unlock()
		require.True(t, in.Uncounted)
		released[in.Session] = append(released[in.Session], env.Now())
		return nil
	}, activity.RegisterOptions{Name: "ReleaseSession"})
	env.ExecuteWorkflow(Notify, workflows.RestoreNoticeInput{Jobs: []workflows.RestoredJob{
		{JobID: "s", Nodes: []string{"A", "B"}, Failure: &bfia.Failure{Message: "restored"}},
		{JobID: "p", Scheduler: "B"},
		{JobID: "p", Nodes: []string{"A"}, Failure: &bfia.Failure{Message: "too"}}}})
	require.NoError(t, env.GetWorkflowError())
	require.Len(t, released, 2)
	for _, id := range []string{"session_s", "session_p"} {
		require.Len(t, released[id], 1, id)
		require.GreaterOrEqual(t, released[id][0].Sub(last), lateMessages, id)
	}
	slices.Sort(sent)
	require.Equal(t, []string{"stop all of p at B", "stop p at A: too", "stop s at A: restored",
		"stop s at B: restored"}, sent)
}
