package housekeeping

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

	"hutong/activities/housekeeping"
	"hutong/activities/participant"
	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/workflows/internal/flowtest"
)

// fakeActivities fakes the activities of the housekeeping.
type fakeActivities struct {
	env *testsuite.TestWorkflowEnvironment

	lost    map[bool][]string // by side, in batches of one
	expired []housekeeping.RemovalProgress
	broken  map[string]error // by activity

	mu   sync.Mutex
	did  []string
	sent []string
}

func newFakeActivities() *fakeActivities {
	h := &fakeActivities{env: flowtest.NewEnv(), lost: map[bool][]string{}, broken: map[string]error{}}
	for name, fn := range map[string]any{
		"FindLostJobs": h.find, "EndLostJobs": h.end, "RemoveExpiredJobs": h.remove,
		"ReleaseLostReservations": h.releaseReservations,
		"SweepStorage":            h.sweep, "SendStop": h.stop, "ReleaseSession": h.release,
	} {
		h.env.RegisterActivityWithOptions(fn, activity.RegisterOptions{Name: name})
	}
	return h
}

func (h *fakeActivities) do(name, what string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := h.broken[name]; err != nil {
		return err
	}
	h.did = append(h.did, what)
	return nil
}

func (h *fakeActivities) find(_ context.Context,
	in housekeeping.FindLostJobsInput) (housekeeping.FoundLostJobs, error) {
	var found housekeeping.FoundLostJobs
	if err := h.do("FindLostJobs", "find"); err != nil {
		return found, err
	}
	ids := h.lost[in.Scheduled]
	i := slices.Index(ids, in.After) + 1
	if i >= len(ids) {
		return found, nil
	}
	lost := housekeeping.LostJob{
		JobID:   ids[i],
		Failure: &bfia.Failure{Kind: bfia.FailedInternal, Message: "it was terminated"},
	}
	if in.Scheduled {
		lost.Nodes = []string{flowtest.NodeA, flowtest.NodeB}
	}
	found.Jobs = []housekeeping.LostJob{lost}
	if i < len(ids)-1 {
		found.Next = ids[i]
	}
	return found, nil
}

func (h *fakeActivities) end(_ context.Context, in housekeeping.EndLostJobsInput) error {
	return h.do("EndLostJobs", "end "+in.Jobs[0].JobID)
}

func (h *fakeActivities) remove(_ context.Context,
	in housekeeping.RemoveExpiredJobsInput) (housekeeping.RemovalProgress, error) {
	err := h.do("RemoveExpiredJobs", "remove after "+in.After)
	i := 0
	if in.After != "" {
		i = slices.IndexFunc(h.expired,
			func(r housekeeping.RemovalProgress) bool { return r.Next == in.After }) + 1
	}
	if err != nil || i >= len(h.expired) {
		return housekeeping.RemovalProgress{}, err
	}
	return h.expired[i], nil
}

func (h *fakeActivities) sweep(context.Context) error { return h.do("SweepStorage", "sweep") }

func (h *fakeActivities) releaseReservations(context.Context) error {
	return h.do("ReleaseLostReservations", "release reservations")
}

func (h *fakeActivities) stop(_ context.Context, in scheduler.SendStopInput) error {
	node, ref := in.Node, in.Job
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sent = append(h.sent, "stop "+ref.JobID+" at "+node+": "+ref.Failure.Text())
	if node == flowtest.NodeB {
		return errors.New("out of reach")
	}
	return nil
}

func (h *fakeActivities) release(_ context.Context, in participant.ReleaseSessionInput) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sent = append(h.sent, "release "+in.Session)
	return nil
}

func TestHousekeeping(t *testing.T) {
	h := newFakeActivities()
	h.lost = map[bool][]string{true: {"s1"}, false: {"p1", "p2"}}
	h.expired = []housekeeping.RemovalProgress{
		{Jobs: 50, Objects: 3, Bytes: 10, Next: "j50"},
		{Jobs: 2, Objects: 1, Bytes: 5},
	}
	began := h.env.Now()
	h.env.ExecuteWorkflow(Run)
	require.NoError(t, h.env.GetWorkflowError())
	var done Result
	require.NoError(t, h.env.GetWorkflowResult(&done))
	assert.Equal(
		t,
		Result{
			Lost:    []string{"s1", "p1", "p2"},
			Removed: housekeeping.RemovalProgress{Jobs: 52, Objects: 4, Bytes: 15},
		},
		done,
	)
	assert.Equal(
		t,
		[]string{"find", "end s1", "find", "end p1", "find", "end p2", "release reservations",
			"remove after ", "remove after j50", "sweep"},
		h.did,
	)
	sent := slices.Compact(slices.Sorted(slices.Values(h.sent)))
	assert.Equal(
		t,
		[]string{"release session_p1", "release session_p2",
			"stop s1 at " + flowtest.NodeA + ": it was terminated",
			"stop s1 at " + flowtest.NodeB + ": it was terminated"},
		sent,
	)
	assert.Less(t, h.env.Now().Sub(began), 2*notifyLimit, "an unreachable participant does not block it")
	assert.Contains(t, done.String(), "Removed 52 jobs")
	assert.Contains(t, done.String(), "s1, p1, p2")
}

// TestHousekeepingStepFails checks that a step that fails is reported, and does not prevent the others.
func TestHousekeepingStepFails(t *testing.T) {
	for _, name := range []string{"FindLostJobs", "EndLostJobs", "RemoveExpiredJobs", "SweepStorage",
		"ReleaseLostReservations"} {
		t.Run(name, func(t *testing.T) {
			h := newFakeActivities()
			h.lost = map[bool][]string{true: {"s1"}}
			h.broken[name] = errors.New("it is broken")
			h.env.ExecuteWorkflow(Run)
			require.ErrorContains(t, h.env.GetWorkflowError(), "it is broken")
			want := map[string]string{"FindLostJobs": "find", "EndLostJobs": "end s1",
				"RemoveExpiredJobs": "remove after ", "SweepStorage": "sweep",
				"ReleaseLostReservations": "release reservations"}
			delete(want, name)
			if name == "FindLostJobs" {
				delete(want, "EndLostJobs")
			}
			for other, did := range want {
				assert.Contains(t, h.did, did, other)
			}
		})
	}
}

// TestHousekeepingIsBounded checks that the history of a run stays small however much there is to do, and
// that the next run continues.
func TestHousekeepingIsBounded(t *testing.T) {
	h := newFakeActivities()
	batches := 0
	h.env.OnActivity("RemoveExpiredJobs", mock.Anything, mock.Anything).
		Return(func(context.Context, housekeeping.RemoveExpiredJobsInput) (housekeeping.RemovalProgress,
			error) {
			batches++
			return housekeeping.RemovalProgress{Jobs: 50, Next: "more"}, nil
		})
	h.env.ExecuteWorkflow(Run)
	require.NoError(t, h.env.GetWorkflowError())
	assert.Equal(t, maxBatches, batches)
	assert.Contains(t, h.did, "sweep")
}
