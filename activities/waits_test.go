package activities_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/storetest"
)

// failingCreateDriver fails every creation.
type failingCreateDriver struct {
	testDriver
	err error
}

func (d failingCreateDriver) Create(context.Context, driver.Spec) (string, error) { return "", d.err }

// A part whose container can't be created or started for now says why, by the kind of the error. Its
// workflow is notified once that has lasted, and when it is over.
func TestRunTaskNotesWaits(t *testing.T) {
	for kind, failure := range map[bfia.WaitingKind]error{
		bfia.WaitsForRetry:    errors.New("the disk is full"),
		bfia.WaitsForImage:    driver.ErrNoImage,
		bfia.WaitsForDatabase: bfia.Errorf(bfia.CodeUnavailable, "the database accepts no writes now"),
	} {
		t.Run(string(kind), func(t *testing.T) {
			eachDriver(t, func(t *testing.T, d testDriver) {
				h := newTestParty(t, storetest.SQLite(t), d, []string{"print", "the end"}, nil)
				var notified []activities.PartWait
				h.onWait = func(_ context.Context, job string, w activities.PartWait) error {
					assert.Equal(t, jobID, job)
					notified = append(notified, w)
					return nil
				}
				h.claimTaskA()
				fail := func() store.Task {
					var failing driver.Driver = failingCreateDriver{testDriver: d, err: failure}
					if kind == bfia.WaitsForImage { // which a cluster pulls at the start
						failing = &failingStartDriver{testDriver: d,
							fails: func(context.Context, string) error { return failure }}
					}
					_, err := h.runTaskA(t.Context(), failing, nil)
					require.ErrorContains(t, err, failure.Error())
					row := h.taskRow("a")
					require.NotNil(t, row.Waiting)
					assert.Equal(t, kind, row.Waiting.Kind)
					assert.Equal(t, "A", row.Waiting.NodeID)
					assert.Contains(t, row.Waiting.Message, "tries again: ")
					assert.Contains(t, row.Waiting.Message, failure.Error())
					return row
				}
				since := fail().Waiting.Since
				assert.WithinDuration(t, time.Now(), since, time.Minute)
				assert.Equal(t, since, fail().Waiting.Since, "the wait keeps its time")
				assert.Empty(t, notified, "it has not lasted")

				key, long := h.taskKey("a").Row(), time.Now().UTC().Add(-time.Hour)
				require.NoError(t, h.db.SetTaskWaiting(t.Context(), key, bfia.TaskID(jobID, "a"), nil, false))
				require.NoError(t, h.db.SetTaskWaiting(t.Context(), key, bfia.TaskID(jobID, "a"),
					&bfia.Waiting{Kind: kind, Message: "as before", Since: long}, false))
				fail()
				fail()
				require.Len(t, notified, 1, "once")
				assert.Equal(t, kind, notified[0].Waiting.Kind)
				assert.WithinDuration(t, long, notified[0].Waiting.Since, time.Millisecond)
				assert.Equal(t, "guest.0", notified[0].Part)

				_, err := h.runTaskA(t.Context(), d, nil)
				require.NoError(t, err)
				assert.Nil(t, h.taskRow("a").Waiting)
				require.Len(t, notified, 2)
				assert.Nil(t, notified[1].Waiting, "it no longer waits")
			})
		})
	}
}

// A poll passes on what a party reports of its part: in the scheduler's row, until the part no longer waits.
func TestPollTaskPassesWaitsOn(t *testing.T) {
	t.Parallel()
	p := newPartner(t)
	c := newControlWorker(t, p)
	db := storetest.Open(t, storetest.SQLite(t))
	c.scheduler.Store = db
	task := store.ScheduleTask{TaskID: "task", JobID: jobID, Name: "a", State: bfia.TaskReady, Attempt: 1}
	require.NoError(t, db.CreateScheduleJob(t.Context(), store.ScheduleJob{JobID: jobID, FlowID: "flow",
		State: bfia.JobPending, CreatedAt: time.Now()}, []store.ScheduleTask{task}, []store.SchedulePart{
		{TaskID: "task", JobID: jobID, Role: "host", NodeID: "B", State: bfia.TaskReady}}))
	waiting := func() *bfia.Waiting {
		parts, err := db.ScheduleParts(t.Context(), jobID)
		require.NoError(t, err)
		require.Len(t, parts, 1)
		return parts[0].Waiting
	}
	at := time.Now().UTC().Truncate(time.Second)
	w := &bfia.Waiting{Kind: bfia.WaitsForRunner, NodeID: "B", Message: "waits for a runner: none", Since: at}
	var polls atomic.Int32
	p.answer = func(rw http.ResponseWriter, _, _ string) bool {
		result := bfia.PollResult{Status: bfia.TaskRunning}
		switch polls.Add(1) {
		case 1:
			result.Waiting = w
		case 2:
			assert.Equal(t, w, waiting())
		case 3:
			assert.Nil(t, waiting())
			result.Status = bfia.TaskSuccess
		}
		_ = json.NewEncoder(rw).Encode(map[string]any{"code": 0, "data": result})
		return true
	}
	ended, err := pollOnce(t, c, scheduler.PollTaskInput{JobID: jobID, TaskID: "task", Nodes: []string{"B"},
		Every: 5 * time.Millisecond, GiveUpAfter: time.Minute})
	require.NoError(t, err)
	require.Len(t, ended, 1)
}
