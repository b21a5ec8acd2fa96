package system

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/bfia"
	"hutong/internal/party"
	"hutong/store"
)

// sleepFor returns a job of one task that sleeps. params are added to job_params.common.
func sleepFor(t *testing.T, d time.Duration, params map[string]any) []byte {
	return editJSON(
		t,
		sleepJob(t, 1, map[string]any{"s1": map[string]any{"seconds": fmt.Sprintf("%g", d.Seconds())}}, nil),
		func(fields map[string]any) {
			jobParams := fields["config"].(map[string]any)["job_params"].(map[string]any)
			common := jobParams["common"].(map[string]any)
			for k, v := range params {
				common[k] = v
			}
		},
	)
}

// TestQueue submits more jobs than a party's limit. They wait with a reason and a position, start by
// priority, and can be reprioritized and stopped while they wait.
func TestQueue(t *testing.T) {
	t.Parallel()
	pair := startSleepPair(t, func(c *party.Config) {
		if c.NodeID == guestNode {
			c.Jobs.MaxJobs = 1
		}
	})
	first := pair.guest.submit(sleepFor(t, time.Hour, nil))
	pair.guest.awaitJob(first, time.Minute, isTaskRunning("s1"))
	second := pair.guest.submit(sleepFor(t, time.Hour, nil))
	third := pair.guest.submit(sleepFor(t, 0, nil))
	fourth := pair.guest.submit(sleepFor(t, 0, map[string]any{"priority": 5}))
	place := func(want int) func(bfia.JobStatus) bool {
		return func(s bfia.JobStatus) bool {
			return s.State == bfia.JobReady && s.Queued != nil && s.Queued.Position == want
		}
	}
	s := pair.guest.awaitJob(fourth, time.Minute, place(1))
	assert.Equal(t, "1 jobs run at "+guestNode+", which is its limit", s.Queued.Reason)
	assert.Equal(t, 5, s.Queued.Priority)
	pair.guest.awaitJob(second, time.Minute, place(2))
	pair.guest.awaitJob(third, time.Minute, place(3))
	pair.guest.mustRequest(http.MethodPost, bfia.PathPlatformPriority,
		[]byte(`{"job_id":"`+third+`","priority":9}`), nil)
	pair.guest.awaitJob(third, time.Minute, place(1))

	pair.guest.mustRequest(http.MethodPost, bfia.PathPlatformStopAll, []byte(`{"job_id":"`+second+`"}`), nil)
	s = pair.guest.awaitJob(second, time.Minute, isFinished)
	assert.Nil(t, s.StartedAt, "the job was stopped while it waited")
	assert.Equal(t, bfia.TaskReady, s.Tasks[0].State)

	pair.guest.mustRequest(http.MethodPost, bfia.PathPlatformStopAll, []byte(`{"job_id":"`+first+`"}`), nil)
	a, b := pair.guest.awaitJob(third, time.Minute, isFinished), pair.guest.awaitJob(fourth, time.Minute,
		isFinished)
	requireSuccess(t, a)
	requireSuccess(t, b)
	assert.False(t, b.StartedAt.Before(*a.StartedAt), "the job of higher priority started first")
	env, _ := pair.guest.request(http.MethodPost, bfia.PathPlatformPriority,
		[]byte(`{"job_id":"`+third+`","priority":1}`))
	assert.Equal(t, bfia.CodeConflict, env.Code)
}

// TestReservationsAreAllOrNothing submits jobs of two schedulers that each need all resources of both
// parties. They run one after the other: no job holds part of what another needs. Each party's limit is the
// resources of its runners.
func TestReservationsAreAllOrNothing(t *testing.T) {
	t.Parallel()
	pair := startSleepPair(t, func(c *party.Config) { c.Runner.CPU, c.Runner.Slots = 2, 2 })
	all := map[string]any{"resources": map[string]any{"cpu": 1.5, "memory": -1, "disk": -1}}
	var mu sync.Mutex
	jobs := map[string]*testParty{}
	var submits sync.WaitGroup
	for i := range 8 {
		n, initiator := pair.guest, guestNode
		if i%2 == 1 {
			n, initiator = pair.host, hostNode
		}
		document := editJSON(t, sleepFor(t, 200*time.Millisecond, all), func(fields map[string]any) {
			fields["config"].(map[string]any)["initiator"].(map[string]any)["node_id"] = initiator
		})
		submits.Go(func() {
			id := n.submit(document)
			mu.Lock()
			defer mu.Unlock()
			jobs[id] = n
		})
	}
	submits.Wait()
	for id, n := range jobs {
		requireSuccess(t, n.awaitJob(id, 3*time.Minute, isFinished))
	}
	for _, n := range []*testParty{pair.guest, pair.host} {
		var rows []store.Task
		for id := range jobs {
			tasks, err := n.database().Tasks(t.Context(), id)
			require.NoError(t, err)
			require.Len(t, tasks, 1)
			rows = append(rows, tasks...)
		}
		slices.SortFunc(rows, func(a, b store.Task) int { return a.StartedAt.Compare(*b.StartedAt) })
		for i := 1; i < len(rows); i++ {
			assert.False(t, rows[i].StartedAt.Before(*rows[i-1].EndedAt),
				"%s: %s ran at the same time as %s", n.cfg.NodeID, rows[i].JobID, rows[i-1].JobID)
		}
		uses, err := n.database().RunnerUses(t.Context())
		require.NoError(t, err)
		require.Len(t, uses, 1)
		require.Eventually(t, func() bool {
			uses, err = n.database().RunnerUses(t.Context())
			return err == nil && uses[0].UsedSlots == 0
		}, time.Minute, 50*time.Millisecond, "reservations were not released")
	}
}

// TestJobThatNeverFits submits jobs that would not fit even on idle runners: they are rejected at once, with
// the numbers.
func TestJobThatNeverFits(t *testing.T) {
	t.Parallel()
	pair := startSleepPair(t, func(c *party.Config) { c.Runner.CPU = 2 })
	env, _ := pair.guest.request(http.MethodPost, bfia.PathPlatformCreateAll,
		sleepFor(t, 0, map[string]any{"resources": map[string]any{"cpu": 3, "memory": -1, "disk": -1}}))
	require.False(t, env.OK())
	assert.Contains(t, env.Text(), "has 2 CPU cores (runner.cpu), asked for 3")
	assert.Contains(t, env.Text(), "could never run the job")
	env, _ = pair.guest.request(http.MethodPost, bfia.PathPlatformCreateAll,
		sleepFor(t, 0, map[string]any{"requires": map[string]any{"s1": map[string]any{"gpu": "1"}}}))
	assert.Contains(t, env.Text(), "lacks the label gpu=1")
}

// isWaitingAt reports whether a job waits for resources at a party.
func isWaitingAt(node string) func(bfia.JobStatus) bool {
	return func(s bfia.JobStatus) bool {
		return s.Queued != nil && strings.HasPrefix(s.Queued.Reason, node+": ")
	}
}

// TestRunnerComesOnline checks that a waiting job starts when a runner comes online, and when one is
// undrained.
func TestRunnerComesOnline(t *testing.T) {
	t.Parallel()
	pair := newPartyPair(t, nil)
	pair.host.start()
	pair.guest.startAs(party.Roles{API: true, Control: true, Transport: true})
	for _, n := range []*testParty{pair.guest, pair.host} {
		n.register(sleepProvider(t), bfia.DeviceProcess)
	}
	jobID := pair.guest.submit(sleepFor(t, 0, nil))
	s := pair.guest.awaitJob(jobID, time.Minute, isWaitingAt(guestNode))
	assert.Equal(t, guestNode+": no runner is online", s.Queued.Reason)
	pair.guest.startAs(party.Roles{Runner: true})
	started := time.Now()
	requireSuccess(t, pair.guest.awaitJob(jobID, time.Minute, isFinished))
	t.Logf("the job ended %s after the runner came online", time.Since(started))

	hosts, err := pair.guest.database().Runners(t.Context(), time.Minute)
	require.NoError(t, err)
	drain := func(draining bool) {
		pair.guest.mustRequest(http.MethodPost, "/v2/runner/drain",
			fmt.Appendf(nil, `{"runner_id":%q,"draining":%t}`, hosts[0].RunnerID, draining), nil)
	}
	drain(true)
	jobID = pair.guest.submit(sleepFor(t, 0, nil))
	s = pair.guest.awaitJob(jobID, time.Minute, isWaitingAt(guestNode))
	assert.Contains(t, s.Queued.Reason, "is draining")
	drain(false)
	requireSuccess(t, pair.guest.awaitJob(jobID, time.Minute, isFinished))
}
