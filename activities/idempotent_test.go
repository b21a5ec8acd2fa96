package activities_test

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sdk "go.temporal.io/sdk/worker"

	"hutong/activities"
	"hutong/bfia"
	"hutong/fateflow"
	"hutong/store"
	"hutong/store/storetest"
)

var workerOptions = sdk.Options{WorkerStopTimeout: 10 * time.Second}

// call is one activity of a job's life.
type call struct {
	name   string
	args   []any
	before func() // what goes on beside it
	after  func()
}

// life is the life of a job at a party that schedules it and takes part in it: task a succeeds, task b is stopped. Each
// activity is in it.
func (h *house) life() []call {
	at := time.Now().UTC().Truncate(time.Microsecond)
	a, b := bfia.TaskID(jobID, "a"), bfia.TaskID(jobID, "b")
	progress := activities.Progress{JobID: jobID, State: bfia.JobRunning, At: at, Tasks: []activities.TaskProgress{
		{TaskID: a, State: bfia.TaskRunning, Parts: []activities.PartProgress{{Part: guestA, State: bfia.TaskSuccess}, {Part: hostB, State: bfia.TaskRunning}}},
		{TaskID: b, State: bfia.TaskFailed, Reason: "B (host.0): no", Parts: []activities.PartProgress{{Part: hostB, State: bfia.TaskFailed, Failure: &bfia.Failure{Kind: bfia.FailedUnknown, Message: "no"}}}}}}
	ended := make(chan error, 1)
	return []call{
		{name: activities.RecordScheduleJobName, args: []any{h.plan, []string{"A", "B"}, at}},
		{name: activities.SendCreateName, args: []any{jobID, "B"}},
		{name: activities.SendAuditName, args: []any{"B", bfia.Audit{JobID: jobID, Status: bfia.JobReady}}},
		{name: activities.RecordJobName, args: []any{h.own, []string{"guest.0"}, "B", bfia.JobReady, at}},
		{name: activities.DequeueName, args: []any{jobID, at}},
		{name: activities.SendReserveName, args: []any{"B", bfia.ReserveRequest{JobID: jobID, Created: at, Generation: 1}}},
		{name: activities.ReserveName, args: []any{h.application(at)}},
		{name: activities.RequeueName, args: []any{jobID, "B", "it has no room", at}},
		{name: activities.SendReleaseName, args: []any{"B", bfia.ReleaseRequest{JobID: jobID, Generation: 1}}},
		{name: activities.SetPriorityName, args: []any{jobID, 5, at}},
		{name: activities.SendStartName, args: []any{"B", jobID}},
		{name: activities.RecordJobStateName, args: []any{jobID, bfia.JobRunning, "", (*bfia.Failure)(nil), at}},
		{name: activities.SendTaskStartName, args: []any{"B", h.ref("a")}},
		{name: activities.ClaimTaskName, args: []any{h.ref("a"), []bfia.Part{guestA}, 0, "", at}},
		{name: activities.RunTaskName, args: []any{h.request("a")}},
		{name: activities.RecordTaskEndName, args: []any{h.key("a"), guestA, a, bfia.TaskSuccess, (*bfia.Failure)(nil), at}},
		{name: activities.SendCallbackName, args: []any{"B", bfia.TaskReport{TaskID: a, Status: bfia.TaskSuccess, Role: "guest"}}},
		{name: activities.SendFateReportName, args: []any{"B", fateflow.Report{JobID: jobID, TaskID: fateflow.TaskID(jobID, "a"), Role: "guest", PartyID: "A", Status: fateflow.Running}}},
		{name: activities.PollTaskName, args: []any{activities.PollRequest{JobID: jobID, TaskID: a, Nodes: []string{"B"}, Every: time.Millisecond, GiveUpAfter: time.Minute}}},
		{name: activities.RecordProgressName, args: []any{progress}},

		{name: activities.ClaimTaskName, args: []any{h.ref("b"), []bfia.Part{guestA}, 0, "", at}},
		{name: activities.RequestStopName, args: []any{h.key("b"), bfia.TaskID(jobID, "b")}, before: func() {
			env := h.env(context.Background())
			go func() { _, err := env.ExecuteActivity(activities.RunTaskName, h.request("b")); ended <- err }()
			require.Eventually(h.t, func() bool { // it is watched, so that all that comes before is done
				log, err := h.blobs.List(context.Background(), activities.LogPrefix(h.runName("b")))
				return err == nil && len(log) == 1
			}, time.Minute, 10*time.Millisecond)
		}},
		{name: activities.StopTaskName, args: []any{h.request("b"), time.Second}, after: func() {
			require.NoError(h.t, <-ended)
			h.runs.Wait(context.Background())
		}},
		{name: activities.RunTaskName, args: []any{h.request("b")}},
		{name: activities.RecordTaskEndName, args: []any{h.key("b"), guestA, b, bfia.TaskFailed, &bfia.Failure{Kind: bfia.FailedStopped, By: "B"}, at}},

		{name: activities.SendStopName, args: []any{"B", bfia.JobRef{JobID: jobID}}},
		{name: activities.SendStopAgainName, args: []any{"B", bfia.JobRef{JobID: jobID}, []string{bfia.TaskID(jobID, "b")}}},
		{name: activities.RecordJobStateName, args: []any{jobID, bfia.JobFinished, "stopped by B", &bfia.Failure{Kind: bfia.FailedStopped, By: "B"}, at}},
		{name: activities.ReopenJobName, args: []any{jobID}},
		{name: activities.RecordJobStateName, args: []any{jobID, bfia.JobFinished, "stopped by B", &bfia.Failure{Kind: bfia.FailedStopped, By: "B"}, at}},
		{name: activities.ReleaseReservationName, args: []any{jobID, at, ""}},
		{name: activities.SendCapacityHintName, args: []any{"B", jobID}},
		{name: activities.ReleaseSessionName, args: []any{bfia.SessionID(jobID)}},
		{name: activities.ForgetScheduleJobName, args: []any{jobID}},
		{name: activities.ForgetJobName, args: []any{jobID}},
	}
}

// Every activity may be begun again at any moment: at once, and after all else has happened. It then answers the same,
// and changes nothing.
func TestActivitiesAreIdempotent(t *testing.T) {
	databases := map[string]func(testing.TB) string{"sqlite": storetest.SQLite, "postgres": storetest.Postgres}
	for database, address := range databases {
		t.Run(database, func(t *testing.T) {
			eachDevice(t, func(t *testing.T, d device) {
				h := newHouse(t, address(t), d, []string{"append", "DATA/data_0", "one run\n", "lines", "2000"}, []string{"append", "DATA/data_0", "one run\n", "print", "begun", "forever"})
				require.NoError(t, h.db.PutRunner(t.Context(), store.Runner{RunnerID: "host-1", NodeID: "A", Devices: []string{d.Device()}, TaskQueue: "q", Slots: 2}))
				life := h.life()
				var names []string
				for _, c := range life {
					names = append(names, c.name)
				}
				slices.Sort(names)
				all := h.activities()
				delete(all, activities.ReuseTaskName) // needs another job: see TestReuse
				for _, name := range []string{activities.FindLostJobsName, activities.EndLostJobsName, activities.RemoveExpiredJobsName, activities.SweepStorageName, activities.ReleaseLostReservationsName} {
					delete(all, name) // of no job's life: see TestRemoveExpiredJobs, TestLostJobs
				}
				require.Equal(t, slices.Sorted(maps.Keys(all)), slices.Compact(names), "each activity that is registered is tried here, and no other")

				answers := make([]string, len(life))
				do := func(i int, when string) {
					value, err := h.env(t.Context()).ExecuteActivity(life[i].name, life[i].args...)
					h.runs.Wait(t.Context())
					if strings.HasPrefix(when, "late") && slices.Contains([]string{activities.DequeueName, activities.SetPriorityName, activities.ReserveName}, life[i].name) {
						return // what waits no more may be refused; it must only change nothing
					}
					require.NoError(t, err, "%s %s", life[i].name, when)
					var answer json.RawMessage
					if value.HasValue() {
						require.NoError(t, value.Get(&answer))
					}
					text := "answer: " + string(answer)
					if life[i].name == activities.RunTaskName {
						text, _, _ = strings.Cut(text, `"reason"`) // the row's may have come from elsewhere since
					}
					if answers[i] == "" {
						answers[i] = text
					}
					assert.Equal(t, answers[i], text, "%s %s", life[i].name, when)
				}
				for i, c := range life {
					if c.before != nil {
						c.before()
					}
					before := h.state()
					do(i, "once")
					if c.after != nil {
						c.after()
					}
					once := h.state()
					if i != slices.IndexFunc(life, func(c call) bool { return c.name == activities.RunTaskName && c.args[0] == any(h.request("b")) }) {
						assert.NotEqual(t, before, once, "%s does something", c.name)
					}
					do(i, "twice")
					assert.Equal(t, once, h.state(), "%s twice", c.name)
					if c.name == activities.ForgetScheduleJobName {
						break
					}
					if c.name == activities.RequestStopName || c.name == activities.ReleaseSessionName { // amid the job, and at its end
						for k := range i {
							do(k, "late, after "+c.name)
						}
						assert.Equal(t, once, h.state(), "all again after %s", c.name)
					}
					if t.Failed() {
						t.FailNow()
					}
				}
				assert.Equal(t, "one run\n", h.written("a"))
				assert.Equal(t, "one run\n", h.written("b"))
				do(len(life)-1, "once")
				once := h.state()
				do(len(life)-1, "twice")
				assert.Equal(t, once, h.state())
				_, err := h.db.Document(t.Context(), jobID)
				assert.Equal(t, bfia.CodeNotFound, bfia.CodeOf(err), "the last to forget the job forgets its document")
			})
		})
	}
}
