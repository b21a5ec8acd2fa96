package system

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/workflowservice/v1"
	"go.temporal.io/sdk/client"

	"hutong/bfia"
	"hutong/internal/party"
	"hutong/test/testenv"
	"hutong/workflows"
)

// TestContinueAsNew has jobs wait at a Temporal server that asks for a new history after some twenty events,
// as it does for others after weeks. One waits in the scheduler's queue and one for a reservation at the
// other party. Meanwhile they get new priorities, and each answer says that it was recorded.
func TestContinueAsNew(t *testing.T) {
	t.Parallel()
	address, _ := testenv.OwnTemporal(t,
		"--dynamic-config-value", "limit.historyCount.suggestContinueAsNew=20")
	pair := startSleepPair(t, func(c *party.Config) {
		c.Temporal.Address = address
		c.Jobs.MaxJobs = 2
		if c.NodeID == hostNode {
			c.Jobs.MaxJobs = 1
		}
	})
	first := pair.guest.submit(sleepFor(t, time.Hour, nil))
	pair.guest.awaitJob(first, time.Minute, isTaskRunning("s1"))
	reserves := pair.guest.submit(sleepFor(t, 0, nil)) // waits at the host
	pair.guest.awaitJob(reserves, time.Minute, func(s bfia.JobStatus) bool { return s.Queued != nil })
	queued := pair.guest.submit(sleepFor(t, 0, nil))
	pair.guest.awaitJob(queued, time.Minute, func(s bfia.JobStatus) bool { return s.Queued != nil })

	c, err := client.Dial(client.Options{HostPort: address, Namespace: pair.guest.cfg.Temporal.Namespace})
	require.NoError(t, err)
	defer c.Close()
	runs := func(n *testParty, id string) int {
		list, err := c.ListWorkflow(t.Context(), &workflowservice.ListWorkflowExecutionsRequest{
			Namespace: n.cfg.Temporal.Namespace, Query: fmt.Sprintf("WorkflowId = '%s'", id)})
		require.NoError(t, err)
		continued := 0
		for _, e := range list.GetExecutions() {
			if e.GetStatus() == enums.WORKFLOW_EXECUTION_STATUS_CONTINUED_AS_NEW {
				continued++
			}
		}
		return continued
	}
	for priority := 0; runs(pair.guest, workflows.SchedulerJobID(reserves)) < 3 ||
		runs(pair.host, workflows.ParticipantJobID(reserves)) < 3 ||
		runs(pair.guest, workflows.SchedulerJobID(queued)) < 3; priority++ {
		require.Less(t, priority, 500, "the jobs do not continue as new")
		for _, id := range []string{reserves, queued} {
			set := 2 + priority%2
			env, status := pair.guest.request(http.MethodPost, bfia.PathPlatformPriority,
				fmt.Appendf(nil, `{"job_id":"%s","priority":%d}`, id, set))
			require.True(t, env.OK(), "%d %s", status, env.Text())
			s := pair.guest.awaitJob(id, time.Minute, func(s bfia.JobStatus) bool { return s.Queued != nil })
			require.Equal(t, set, s.Queued.Priority)
		}
	}

	pair.guest.mustRequest(http.MethodPost, bfia.PathPlatformStopAll, []byte(`{"job_id":"`+first+`"}`), nil)
	for _, id := range []string{reserves, queued} {
		s := pair.guest.awaitJob(id, time.Minute, isFinished)
		requireSuccess(t, s)
		requireSuccess(t, pair.host.awaitJob(id, time.Minute, isFinished))
		assert.Len(t, s.Tasks, 1)
	}
}
