package api

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/workflows"
)

// TestReportsTogether checks how long the reports of a task with the parts a, b and c wait: for the last of
// them, for a failure, or for the limit.
func TestReportsTogether(t *testing.T) {
	type report struct {
		after time.Duration
		part  string
		state bfia.TaskState
		sent  time.Duration
	}
	const ms = time.Millisecond
	all := []string{"a", "b", "c"}
	for name, test := range map[string]struct {
		running []string
		reports []report
	}{
		"one part runs": {[]string{"b"}, []report{{0, "b", bfia.TaskSuccess, 0}}},
		"a row is late": {nil, []report{{0, "b", bfia.TaskSuccess, 0}}},
		"together": {all, []report{{0, "a", bfia.TaskSuccess, 90 * ms},
			{50 * ms, "b", bfia.TaskSuccess, 90 * ms}, {90 * ms, "c", bfia.TaskSuccess, 90 * ms}}},
		"a failure": {all, []report{{0, "a", bfia.TaskSuccess, 50 * ms},
			{50 * ms, "b", bfia.TaskFailed, 50 * ms},
			{90 * ms, "c", bfia.TaskSuccess, 90*ms + reportWait}}},
		"one is late": {all, []report{{0, "a", bfia.TaskSuccess, reportWait},
			{200 * ms, "b", bfia.TaskSuccess, reportWait},
			{time.Second, "c", bfia.TaskSuccess, time.Second + reportWait}}},
		"one comes twice": {all[:2], []report{{0, "a", bfia.TaskSuccess, reportWait},
			{50 * ms, "a", bfia.TaskSuccess, reportWait}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var together reportsTogether
				began := time.Now()
				var group sync.WaitGroup
				for _, r := range test.reports {
					group.Go(func() {
						time.Sleep(r.after)
						together.await(t.Context(), "t1", r.state, []string{r.part}, test.running)
						require.Equal(t, r.sent, time.Since(began), r.part)
					})
				}
				group.Go(func() {
					together.await(t.Context(), "t2", bfia.TaskSuccess, []string{"a"}, all[:1])
					require.Zero(t, time.Since(began), "another task")
				})
				group.Wait()
				require.Empty(t, together.tasks)
			})
		})
	}
}

// TestReportsTogetherCancelled checks that a report does not wait for longer than its request.
func TestReportsTogetherCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var together reportsTogether
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		began := time.Now()
		together.await(ctx, "t1", bfia.TaskSuccess, []string{"a"}, []string{"a", "b"})
		require.Equal(t, time.Millisecond, time.Since(began))
		require.Empty(t, together.tasks)
	})
}

// TestCallbacksTogether checks that a party's report is answered only once it has reached the job, and waits
// for that of the other party.
func TestCallbacksTogether(t *testing.T) {
	p := running(t, "j1")
	p.server.together.limit = time.Minute
	p.engine.takeSignals()
	id := bfia.TaskID("j1", first)
	answered := make(chan struct{})
	go func() {
		p.good(post(bfia.PathTaskCallback, map[string]string{"task_id": id, "status": "SUCCESS",
			"role": "host.0"}).from(guest))
		close(answered)
	}()
	require.Eventually(t, func() bool {
		p.server.together.mu.Lock()
		defer p.server.together.mu.Unlock()
		return len(p.server.together.tasks) == 1
	}, time.Minute, time.Millisecond)
	require.Empty(t, p.engine.takeSignals())
	p.good(post(bfia.PathTaskCallback, map[string]string{"task_id": id, "status": "SUCCESS",
		"role": "guest.0"}).from(guest))
	<-answered
	require.ElementsMatch(t, []signal{
		{workflows.SchedulerJobID("j1"), workflows.SignalCallback, workflows.Callback{Node: guest, TaskID: id,
			Role: "host.0", State: bfia.TaskSuccess}},
		{workflows.SchedulerJobID("j1"), workflows.SignalCallback, workflows.Callback{Node: guest, TaskID: id,
			Role: "guest.0", State: bfia.TaskSuccess}}}, p.engine.takeSignals())
}
