package system

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/bfia"
)

// TestOldJob submits a job again after one of its tasks failed. Both parties reuse the tasks that succeeded;
// the failed one runs and reads the outputs of the first job. A third job reuses all tasks of the second one.
// A job with another parameter runs that task and those after it.
func TestOldJob(t *testing.T) {
	t.Parallel()
	pair := startSleepPair(t, nil)
	job := func(old string, first, last any) []byte {
		return editJSON(
			t,
			sleepJob(t, 3, map[string]any{"s1": seconds(0), "s2": seconds(first), "s3": last}, nil),
			func(f map[string]any) {
				if old != "" {
					f["old_job_id"] = old
				}
			},
		)
	}
	reused := func(n *testParty, jobID string) (names []string) {
		for _, task := range n.status(jobID).Tasks {
			for _, p := range task.Parties {
				if p.NodeID == n.cfg.NodeID && p.ReusedFrom != "" {
					names = append(names, task.Name)
				}
			}
		}
		return names
	}
	failed := pair.guest.submit(job("", 0, map[string]any{"seconds": 0, "exit_code": 3}))
	s := pair.guest.awaitJob(failed, time.Minute, isFinished)
	require.Equal(t, bfia.TaskSuccess, s.Tasks[1].State, s.Reason)
	require.Equal(t, bfia.TaskFailed, s.Tasks[2].State, s.Reason)

	mended := pair.guest.submit(job(failed, 0, seconds(0)))
	requireSuccess(t, pair.guest.awaitJob(mended, time.Minute, isFinished))
	again := pair.guest.submit(job(mended, 0, seconds(0)))
	requireSuccess(t, pair.guest.awaitJob(again, time.Minute, isFinished))
	other := pair.guest.submit(job(again, 0.1, seconds(0)))
	requireSuccess(t, pair.guest.awaitJob(other, time.Minute, isFinished))
	for _, n := range []*testParty{pair.guest, pair.host} {
		require.Equal(t, []string{"s1", "s2"}, reused(n, mended))
		require.Equal(t, []string{"s1", "s2", "s3"}, reused(n, again))
		require.Equal(t, []string{"s1"}, reused(n, other))
		first, third, fourth := n.outputs(failed), n.outputs(again), n.outputs(other)
		for name, o := range first { // s1 and s2 keep the address that the first job gave them
			require.Equal(t, o.Name, third[name].Name, name)
			require.Equal(t, o.Bytes, third[name].Bytes, name)
		}
		for name, o := range fourth {
			require.Equal(t, o.TaskName == "s1", o.Name == first[name].Name, name)
		}
	}
	env, status := pair.guest.request(http.MethodPost, bfia.PathPlatformCreateAll,
		job("202001010000000000000", 0, seconds(0)))
	require.Equal(t, http.StatusNotFound, status)
	require.Contains(t, env.Text(), "old_job_id")
}
