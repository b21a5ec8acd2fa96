package activities_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	sdk "go.temporal.io/sdk/worker"

	"hutong/activities"
	"hutong/activities/participant"
	"hutong/activities/runner"
	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/fateflow"
	"hutong/store"
	"hutong/store/storetest"
)

var workerOptions = sdk.Options{WorkerStopTimeout: 10 * time.Second}

// call is one activity call of a job.
type call struct {
	name   string
	arg    any
	before func() // runs before the call, and may run activities concurrently with it
	after  func()
}

// jobActivities returns all activity calls of a job at a party that is its scheduler and a participant.
// Task a succeeds, task b is stopped. Each activity of a job is called.
func (h *testParty) jobActivities() []call {
	at := time.Now().UTC().Truncate(time.Microsecond)

	return slices.Concat(h.activitiesOfStart(at), h.activitiesOfTaskA(at), h.activitiesOfTaskB(at),
		h.activitiesOfEnd(at))
}

// activitiesOfStart returns the calls until the job runs.
func (h *testParty) activitiesOfStart(at time.Time) []call {
	return []call{
		{name: "RecordScheduleJob", arg: scheduler.RecordScheduleJobInput{Plan: h.plan,
			Nodes: []string{"A", "B"}, At: at}},
		{name: "SendCreate", arg: scheduler.SendCreateInput{Node: "B", JobID: jobID,
			Reserve: &bfia.ReserveRequest{JobID: jobID, Created: at, Generation: 1}}},
		{name: "SendAudit", arg: participant.SendAuditInput{Node: "B",
			Audit: bfia.Audit{JobID: jobID, Status: bfia.JobReady}}},
		{name: "RecordJob", arg: participant.RecordJobInput{Plan: h.own, Roles: []string{"guest.0"},
			Scheduler: "B", State: bfia.JobReady, At: at}},
		{name: "RecordScheduleWaits", arg: scheduler.RecordScheduleWaitsInput{JobID: jobID,
			Waiting: []bfia.Waiting{bfia.WaitForApproval(jobID, "B", at)}}},
		{name: "RecordWaits", arg: participant.RecordWaitsInput{JobID: jobID,
			Waiting: []bfia.Waiting{bfia.WaitForApproval(jobID, "A", at)}}},
		{name: "Enqueue", arg: scheduler.EnqueueInput{JobID: jobID, At: at}},
		{name: "SendReserve", arg: scheduler.SendReserveInput{Node: "B",
			Request: bfia.ReserveRequest{JobID: jobID, Created: at, Generation: 1}}},
		{name: "Reserve", arg: h.reserveInput(at)},
		{name: "Requeue", arg: scheduler.RequeueInput{JobID: jobID, Node: "B", Reason: "it has no free slot",
			At: at}},
		{name: "SendRelease", arg: scheduler.SendReleaseInput{Node: "B",
			Request: bfia.ReleaseRequest{JobID: jobID, Generation: 1}}},
		{name: "SetPriority", arg: scheduler.SetPriorityInput{JobID: jobID, Priority: 5, At: at}},
		{name: "SendStart", arg: scheduler.SendStartInput{Node: "B", JobID: jobID}},
		{name: "RecordJobState", arg: participant.RecordJobStateInput{JobID: jobID, State: bfia.JobRunning,
			At: at}},
	}
}

// activitiesOfTaskA returns the calls of the task that succeeds.
func (h *testParty) activitiesOfTaskA(at time.Time) []call {
	a := bfia.TaskID(jobID, "a")
	b := bfia.TaskID(jobID, "b")
	progress := scheduler.Progress{JobID: jobID, State: bfia.JobRunning, At: at,
		Tasks: []scheduler.TaskProgress{
			{TaskID: a, State: bfia.TaskRunning,
				Parts: []scheduler.PartProgress{{Part: guestA, State: bfia.TaskSuccess},
					{Part: hostB, State: bfia.TaskRunning}}},
			{TaskID: b, State: bfia.TaskFailed, Reason: "B (host.0): no",
				Parts: []scheduler.PartProgress{{Part: hostB, State: bfia.TaskFailed,
					Failure: &bfia.Failure{Kind: bfia.FailedUnknown, Message: "no"}}}}}}

	return []call{
		{name: "SendTaskStart", arg: scheduler.SendTaskStartInput{Node: "B", Task: h.taskRef("a")}},
		{name: "ClaimTask", arg: participant.ClaimTaskInput{Task: h.taskRef("a"), Parts: []bfia.Part{guestA},
			StartsJob: true, At: at}},
		{name: "RecordTaskWait", arg: participant.RecordTaskWaitInput{Key: h.taskKey("a"), TaskID: a,
			Waiting: &bfia.Waiting{Kind: bfia.WaitsForRunner, NodeID: "A", Message: "none", Since: at}}},
		{name: "RunTask", arg: h.partRequest("a")},
		{name: "RecordTaskEnd", arg: participant.RecordTaskEndInput{Key: h.taskKey("a"), Part: guestA,
			TaskID: a, State: bfia.TaskSuccess, At: at}},
		{name: "SendCallback", arg: participant.SendCallbackInput{Node: "B",
			Report: bfia.TaskReport{TaskID: a, Status: bfia.TaskSuccess, Role: "guest"}}},
		{name: "SendFateReport", arg: participant.SendFateReportInput{Node: "B",
			Report: fateflow.Report{JobID: jobID, TaskID: fateflow.TaskID(jobID, "a"), Role: "guest",
				PartyID: "A", Status: fateflow.Running}}},
		{name: "PollTask", arg: scheduler.PollTaskInput{JobID: jobID, TaskID: a, Nodes: []string{"B"},
			Every: time.Millisecond, GiveUpAfter: time.Minute}},
		{name: "RecordProgress", arg: progress},
	}
}

// activitiesOfTaskB returns the calls of the task that is stopped.
func (h *testParty) activitiesOfTaskB(at time.Time) []call {
	b := bfia.TaskID(jobID, "b")
	stopped := &bfia.Failure{Kind: bfia.FailedStopped, By: "B"}
	ended := make(chan error, 1)
	end := participant.RecordTaskEndInput{Key: h.taskKey("b"), Part: guestA, TaskID: b,
		State: bfia.TaskFailed, Failure: stopped, At: at}

	return []call{
		{name: "ClaimTask", arg: participant.ClaimTaskInput{Task: h.taskRef("b"), Parts: []bfia.Part{guestA},
			At: at}},
		{name: "RequestStop", arg: participant.RequestStopInput{Key: h.taskKey("b"), TaskID: b},
			before: func() {
				env := h.env(context.Background())
				go func() { _, err := env.ExecuteActivity("RunTask", h.partRequest("b")); ended <- err }()
				// RunTask follows the log, so all its earlier steps are done
				require.Eventually(h.t, func() bool {
					log, err := h.blobs.List(context.Background(), activities.LogPrefix(h.containerName("b")))
					return err == nil && len(log) == 1
				}, time.Minute, 10*time.Millisecond)
			}},
		{name: "StopTask", arg: runner.StopTaskInput{PartRequest: h.partRequest("b"), Grace: time.Second},
			after: func() {
				require.NoError(h.t, <-ended)
				h.runner.Wait(context.Background())
			}},
		{name: "RunTask", arg: h.partRequest("b")},
		{name: "RecordTaskEnd", arg: end},
		{name: "EndPart", arg: participant.EndPartInput{End: end,
			Callback: participant.SendCallbackInput{Node: "B",
				Report: bfia.TaskReport{TaskID: b, Status: bfia.TaskFailed, Role: "guest"}}}},
	}
}

// activitiesOfEnd returns the calls from the job's stop to its removal.
func (h *testParty) activitiesOfEnd(at time.Time) []call {
	b := bfia.TaskID(jobID, "b")
	stopped := &bfia.Failure{Kind: bfia.FailedStopped, By: "B"}

	return []call{
		{name: "SendStop", arg: scheduler.SendStopInput{Node: "B", Job: bfia.JobRef{JobID: jobID}}},
		{name: "SendStopAgain", arg: scheduler.SendStopAgainInput{Node: "B", Job: bfia.JobRef{JobID: jobID},
			TaskIDs: []string{b}}},
		{name: "RecordJobState", arg: participant.RecordJobStateInput{JobID: jobID, State: bfia.JobFinished,
			Failure: stopped, At: at}},
		{name: "ReopenJob", arg: participant.ReopenJobInput{JobID: jobID}},
		{name: "ReleaseReservation", arg: participant.ReleaseReservationInput{JobID: jobID, At: at}},
		{name: "EndJob", arg: participant.EndJobInput{
			State: participant.RecordJobStateInput{JobID: jobID, State: bfia.JobFinished, Failure: stopped,
				At: at},
			Release: participant.ReleaseReservationInput{JobID: jobID, At: at},
			Sessions: []string{bfia.AttemptSessionID(jobID, bfia.AttemptID(jobID, "b", 2), 2,
				bfia.SessionPerJob)}}},
		{name: "AskScheduler", arg: participant.AskSchedulerInput{Node: "B", JobID: jobID}},
		{name: "SendStopAll", arg: participant.SendStopAllInput{Node: "B", Job: bfia.JobRef{JobID: jobID}}},
		{name: "SendCapacityHint", arg: participant.SendCapacityHintInput{Node: "B", JobID: jobID}},
		{name: "ReleaseSession", arg: participant.ReleaseSessionInput{Session: bfia.SessionID(jobID)}},
		{name: "ForgetScheduleJob", arg: scheduler.ForgetScheduleJobInput{JobID: jobID}},
		{name: "ForgetJob", arg: participant.ForgetJobInput{JobID: jobID, At: at}},
	}
}

// Every activity may be executed again at any moment: at once, and after all later activities.
// It then returns the same result, and changes nothing.
func TestActivitiesAreIdempotent(t *testing.T) {
	databases := map[string]func(testing.TB) string{"sqlite": storetest.SQLite,
		"postgres": storetest.Postgres}
	for database, address := range databases {
		t.Run(database, func(t *testing.T) {
			eachDriver(t, func(t *testing.T, d testDriver) {
				h := newTestParty(t, address(t), d,
					[]string{"append", "DATA/data_0", oneStart, "lines", "2000"}, []string{"append",
						"DATA/data_0", oneStart, "print", "begun", "forever"})
				require.NoError(t, h.db.PutRunner(t.Context(),
					store.Runner{RunnerID: "runner-1", NodeID: "A", Devices: []string{d.Device()},
						TaskQueue: "q", Slots: 2}))
				life := h.jobActivities()
				var names []string
				for _, c := range life {
					names = append(names, c.name)
				}
				slices.Sort(names)
				excepted := []string{"ReuseTask"} // needs another job: see TestReuse
				// Not activities of one job: see TestRemoveExpiredJobs, TestLostJobs, TestRestoreMark.
				excepted = append(excepted, "FindLostJobs", "EndLostJobs", "RemoveExpiredJobs",
					"SweepStorage", "ReleaseLostReservations", "AdvanceRestoreMark")
				all := slices.DeleteFunc(h.activityNames(),
					func(name string) bool { return slices.Contains(excepted, name) })
				slices.Sort(all)
				require.Equal(t, all, slices.Compact(names),
					"each registered activity is tested here, and no other")

				answers := make([]string, len(life))
				do := func(i int, when string) {
					value, err := h.env(t.Context()).ExecuteActivity(life[i].name, life[i].arg)
					h.runner.Wait(t.Context())
					if strings.HasPrefix(when, "late") &&
						slices.Contains([]string{"Enqueue", "SetPriority", "Reserve"}, life[i].name) {
						return // a job that no longer waits may be refused; nothing may change
					}
					require.NoError(t, err, "%s %s", life[i].name, when)
					var answer json.RawMessage
					if value.HasValue() {
						require.NoError(t, value.Get(&answer))
					}
					text := "answer: " + string(answer)
					if life[i].name == "RunTask" {
						// another activity may have recorded another reason since
						text, _, _ = strings.Cut(text, `"reason"`)
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
					before := h.snapshot()
					do(i, "once")
					if c.after != nil {
						c.after()
					}
					once := h.snapshot()
					if i != slices.IndexFunc(life,
						func(c call) bool {
							return c.name == "RunTask" &&
								c.arg == any(h.partRequest("b"))
						}) {
						assert.NotEqual(t, before, once, "%s does something", c.name)
					}
					do(i, "twice")
					assert.Equal(t, once, h.snapshot(), "%s twice", c.name)
					if c.name == "ForgetScheduleJob" {
						break
					}
					// in the middle of the job, and at its end
					if c.name == "RequestStop" || c.name == "ReleaseSession" {
						for k := range i {
							do(k, "late, after "+c.name)
						}
						assert.Equal(t, once, h.snapshot(), "all again after %s", c.name)
					}
					if t.Failed() {
						t.FailNow()
					}
				}
				assert.Equal(t, oneStart, h.readOutput("a"))
				assert.Equal(t, oneStart, h.readOutput("b"))
				do(len(life)-1, "once")
				once := h.snapshot()
				do(len(life)-1, "twice")
				assert.Equal(t, once, h.snapshot())
				_, err := h.db.Document(t.Context(), jobID)
				assert.Equal(t, bfia.CodeNotFound, bfia.CodeOf(err),
					"the last role that forgets the job removes its document")
			})
		})
	}
}
