package workflows

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/mock"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	"go.temporal.io/sdk/testsuite"

	"hutong/activities"
	"hutong/bfia"
)

// household is what Housekeeping sees of the world.
type household struct {
	env *testsuite.TestWorkflowEnvironment

	lost    map[bool][]string // by side, in batches of one
	expired []activities.RemovalProgress
	broken  map[string]error // by activity

	mu   sync.Mutex
	did  []string
	told []string
}

func newHousehold() *household {
	h := &household{env: newEnv(), lost: map[bool][]string{}, broken: map[string]error{}}
	for name, fn := range map[string]any{
		activities.FindLostJobsName: h.find, activities.EndLostJobsName: h.end, activities.RemoveExpiredJobsName: h.remove, activities.ReleaseLostReservationsName: h.room,
		activities.SweepStorageName: h.sweep, activities.SendStopName: h.stop, activities.ReleaseSessionName: h.release,
	} {
		h.env.RegisterActivityWithOptions(fn, activity.RegisterOptions{Name: name})
	}
	return h
}

func (h *household) do(name, what string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.broken[name]; err != nil {
		return err
	}
	h.did = append(h.did, what)
	return nil
}

func (h *household) find(_ context.Context, scheduled bool, after string) (activities.LostJobs, error) {
	var found activities.LostJobs
	if err := h.do(activities.FindLostJobsName, "find"); err != nil {
		return found, err
	}
	ids := h.lost[scheduled]
	i := slices.Index(ids, after) + 1
	if i >= len(ids) {
		return found, nil
	}
	lost := activities.LostJob{JobID: ids[i], Failure: &bfia.Failure{Kind: bfia.FailedInternal, Message: "it was terminated"}}
	if scheduled {
		lost.Nodes = []string{nodeA, nodeB}
	}
	found.Jobs = []activities.LostJob{lost}
	if i < len(ids)-1 {
		found.Next = ids[i]
	}
	return found, nil
}

func (h *household) end(_ context.Context, _ bool, jobs []activities.LostJob) error {
	return h.do(activities.EndLostJobsName, "end "+jobs[0].JobID)
}

func (h *household) remove(_ context.Context, after string) (activities.RemovalProgress, error) {
	err := h.do(activities.RemoveExpiredJobsName, "remove after "+after)
	i := 0
	if after != "" {
		i = slices.IndexFunc(h.expired, func(r activities.RemovalProgress) bool { return r.Next == after }) + 1
	}
	if err != nil || i >= len(h.expired) {
		return activities.RemovalProgress{}, err
	}
	return h.expired[i], nil
}

func (h *household) sweep(context.Context) error { return h.do(activities.SweepStorageName, "sweep") }

func (h *household) room(context.Context) error {
	return h.do(activities.ReleaseLostReservationsName, "room")
}

func (h *household) stop(_ context.Context, node string, ref bfia.JobRef) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.told = append(h.told, "stop "+ref.JobID+" at "+node+": "+ref.Failure.Text())
	if node == nodeB {
		return errors.New("out of reach")
	}
	return nil
}

func (h *household) release(_ context.Context, session string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.told = append(h.told, "release "+session)
	return nil
}

func TestHousekeeping(t *testing.T) {
	h := newHousehold()
	h.lost = map[bool][]string{true: {"s1"}, false: {"p1", "p2"}}
	h.expired = []activities.RemovalProgress{{Jobs: 50, Objects: 3, Bytes: 10, Next: "j50"}, {Jobs: 2, Objects: 1, Bytes: 5}}
	began := h.env.Now()
	h.env.ExecuteWorkflow(Housekeeping)
	require.NoError(t, h.env.GetWorkflowError())
	var done HousekeepingResult
	require.NoError(t, h.env.GetWorkflowResult(&done))
	assert.Equal(t, HousekeepingResult{Lost: []string{"s1", "p1", "p2"}, Removed: activities.RemovalProgress{Jobs: 52, Objects: 4, Bytes: 15}}, done)
	assert.Equal(t, []string{"find", "end s1", "find", "end p1", "find", "end p2", "room", "remove after ", "remove after j50", "sweep"}, h.did)
	told := slices.Compact(slices.Sorted(slices.Values(h.told)))
	assert.Equal(t, []string{"release session_p1", "release session_p2", "stop s1 at " + nodeA + ": it was terminated", "stop s1 at " + nodeB + ": it was terminated"}, told)
	assert.Less(t, h.env.Now().Sub(began), 2*tellLimit, "a participant out of reach does not hold it up for ever")
	assert.Contains(t, done.String(), "Removed 52 jobs")
	assert.Contains(t, done.String(), "s1, p1, p2")
}

// What fails is told, and keeps nothing else from being done.
func TestHousekeepingTrouble(t *testing.T) {
	for _, name := range []string{activities.FindLostJobsName, activities.EndLostJobsName, activities.RemoveExpiredJobsName, activities.SweepStorageName, activities.ReleaseLostReservationsName} {
		t.Run(name, func(t *testing.T) {
			h := newHousehold()
			h.lost = map[bool][]string{true: {"s1"}}
			h.broken[name] = errors.New("it is broken")
			h.env.ExecuteWorkflow(Housekeeping)
			require.ErrorContains(t, h.env.GetWorkflowError(), "it is broken")
			want := map[string]string{activities.FindLostJobsName: "find", activities.EndLostJobsName: "end s1",
				activities.RemoveExpiredJobsName: "remove after ", activities.SweepStorageName: "sweep", activities.ReleaseLostReservationsName: "room"}
			delete(want, name)
			if name == activities.FindLostJobsName {
				delete(want, activities.EndLostJobsName)
			}
			for other, did := range want {
				assert.Contains(t, h.did, did, other)
			}
		})
	}
}

// However much there is to do, a run's history stays small, and the next one goes on.
func TestHousekeepingIsBounded(t *testing.T) {
	h := newHousehold()
	batches := 0
	h.env.OnActivity(activities.RemoveExpiredJobsName, mock.Anything, mock.Anything).Return(func(context.Context, string) (activities.RemovalProgress, error) {
		batches++
		return activities.RemovalProgress{Jobs: 50, Next: "more"}, nil
	})
	h.env.ExecuteWorkflow(Housekeeping)
	require.NoError(t, h.env.GetWorkflowError())
	assert.Equal(t, maxBatches, batches)
	assert.Contains(t, h.did, "sweep")
}
