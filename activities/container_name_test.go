package activities_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/activities/runner"
	"hutong/bfia"
	"hutong/store/storetest"
)

// TestContainerNames checks that no two attempts have the same container name, whatever ids partners choose,
// and that each name is one that drivers accept.
func TestContainerNames(t *testing.T) {
	t.Parallel()
	long := make([]byte, 64)
	for i := range long {
		long[i] = 'x'
	}
	of := map[string]activities.PartRequest{}
	for _, jobID := range []string{"a", "a-b", "a-b-c", "b-c", "c", "--", "a-", "-a", string(long),
		bfia.TaskID("a", "b")} {
		for _, task := range []string{"a", "b-c", "c", "a-guest.0-1-a", "b-guest.0", "guest.0", "-",
			string(long)} {
			for _, part := range []bfia.Part{{Role: "guest"}, {Role: "guest", Index: 1}, {Role: "c-guest"},
				{Role: "guest.0-1-guest"}} {
				for _, attempt := range []int{1, 11} {
					key := activities.TaskKey{JobID: jobID, Task: task, Role: part.Role, Index: part.Index}
					r := activities.PartRequest{Key: key, Part: part, Attempt: attempt}
					name := r.ContainerName()
					require.NoError(t, driver.CheckName(name))
					other, taken := of[name]
					require.False(t, taken, "%s is the name of %+v and of %+v", name, other, r)
					of[name] = r
				}
			}
		}
	}
	require.Contains(t, of, "hutong-a-c-guest.0-1", "names that nothing else can have are readable")
}

// TestRunTaskOfEarlierVersion checks that a container is found again which an earlier version of Hutong
// created under another name: it is watched, it is stopped, and no second one is created.
func TestRunTaskOfEarlierVersion(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		ctx := t.Context()
		h := newTestParty(t, storetest.SQLite(t), d, []string{"forever"}, nil)
		h.claimTaskA()
		name := h.startLeftover("earlier-version", nil)
		require.NoError(t, h.db.SetTaskContainer(ctx, h.taskKey("a").Row(), 1, "runner-1", name, "its id"))
		ended := make(chan activities.PartResult, 1)
		go func() {
			r, err := h.runTaskA(context.Background(), d, nil)
			assert.NoError(t, err)
			ended <- r
		}()
		request := h.partRequest("a")
		require.Eventually(t, func() bool {
			_, err := h.env(ctx).ExecuteActivity("StopTask", runner.StopTaskInput{PartRequest: request})
			return assert.NoError(t, err) && len(ended) == 1
		}, time.Minute, 10*time.Millisecond)
		r := <-ended
		require.NotNil(t, r.Failure)
		assert.Equal(t, 137, r.Failure.ExitCode)
		assert.Equal(t, name, h.taskRow("a").ContainerName)
		require.Eventually(t, func() bool { return len(h.containerNames()) == 0 }, time.Minute,
			10*time.Millisecond)
	})
}
