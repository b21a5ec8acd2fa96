package worker_test

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.temporal.io/api/taskqueue/v1"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/worker"
	"google.golang.org/protobuf/types/known/timestamppb"

	"hutong/activities"
	"hutong/test/testenv"
	hutongworker "hutong/worker"
)

func TestMain(m *testing.M) { os.Exit(testenv.Main(m)) }

func TestDuplicateRunners(t *testing.T) {
	began := time.Now()
	polled := func(who string, after time.Duration) *taskqueue.PollerInfo {
		return &taskqueue.PollerInfo{Identity: who, LastAccessTime: timestamppb.New(began.Add(after))}
	}
	pollers := []*taskqueue.PollerInfo{polled("me", time.Minute), polled("the one before", -time.Second),
		polled("z", time.Minute), polled("a", time.Second), polled("a", time.Hour)}
	require.Equal(t, []string{"a", "z"}, hutongworker.DuplicateRunners(pollers, "me", began))
	require.Empty(t, hutongworker.DuplicateRunners(pollers[:2], "me", began))
	require.NotEqual(t, hutongworker.Identity("A"), hutongworker.Identity("A"))
}

// TestFindDuplicateRunners checks that two workers of one runner are found, and that one which replaced
// another is not.
func TestFindDuplicateRunners(t *testing.T) {
	address := testenv.Temporal(t)
	testenv.Namespace(t, address, "duplicates")
	c, err := client.Dial(client.Options{HostPort: address, Namespace: "duplicates"})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	start := func() (string, worker.Worker) {
		self := hutongworker.Identity("A")
		w := worker.New(c, activities.TaskQueueOfRunner("h"),
			worker.Options{Identity: self, DisableWorkflowWorker: true})
		w.RegisterActivity(func() error { return nil })
		require.NoError(t, w.Start())
		return self, w
	}
	requireFound := func(self string, since time.Time, want ...string) {
		t.Helper()
		var found []string
		require.Eventually(t, func() bool {
			found, err = hutongworker.FindDuplicateRunners(t.Context(), c, "h", self, since)
			return err == nil && len(found) == len(want)
		}, time.Minute, 100*time.Millisecond)
		require.ElementsMatch(t, want, found)
	}
	began := time.Now()
	first, w1 := start()
	requireFound("someone else", began, first)
	w1.Stop()

	replaced := time.Now()
	second, w2 := start()
	t.Cleanup(w2.Stop)
	requireFound("someone else", replaced, second)
	requireFound(second, replaced)
	third, w3 := start()
	t.Cleanup(w3.Stop)
	requireFound(second, replaced, third)
	requireFound(third, replaced, second)
}
