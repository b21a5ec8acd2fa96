package activities_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/activities/housekeeping"
	"hutong/activities/participant"
	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/blob"
	"hutong/store/storetest"
)

// gone is what the engine says of every job: it goes on no more.
func gone(context.Context, string) (bool, string, error) { return false, "was terminated", nil }

func goesOn(context.Context, string) (bool, string, error) { return true, "", nil }

func silent(context.Context, string) (bool, string, error) {
	return false, "", errors.New("the engine does not answer")
}

// left makes a run as an earlier worker has left it, with other labels where change says so, and starts it.
func (h *testParty) left(name string, change map[string]string) string {
	h.t.Helper()
	spec := driver.Spec{Name: "hutong-" + jobID + "-" + name, Image: prog.image, Command: []string{h.device.program, "forever"},
		Labels: map[string]string{"job_id": jobID, "task_id": bfia.TaskID(jobID, "a"), "task": "a", "role": "guest.0", "attempt": "1", "deployment": "ours"}}
	for label, value := range change {
		spec.Labels[label] = value
	}
	_, err := h.device.Create(h.t.Context(), spec)
	require.NoError(h.t, err)
	require.NoError(h.t, h.device.Start(h.t.Context(), spec.Name))
	return spec.Name
}

// names are the runs that are there.
func (h *testParty) names() []string {
	h.t.Helper()
	runs, err := h.device.List(h.t.Context())
	require.NoError(h.t, err)
	var names []string
	for _, run := range runs {
		names = append(names, strings.TrimPrefix(run.Name, "hutong-"+jobID+"-"))
	}
	slices.Sort(names)
	return names
}

// What no job owns goes, whatever else runs on the host; the rest stays, also when the engine does not answer.
func TestSweep(t *testing.T) {
	eachDevice(t, func(t *testing.T, d device) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"print", "begun", "forever"}, []string{"exit", "0"})
		h.begin()
		watching, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, err := h.env(watching).ExecuteActivity("RunTask", h.request("a"))
			ended <- err
		}()
		require.Eventually(t, func() bool {
			log, err := h.blobs.List(t.Context(), activities.LogPrefix(h.runName("a")))
			return err == nil && len(log) == 1
		}, time.Minute, 10*time.Millisecond)
		own := strings.TrimPrefix(h.runName("a"), "hutong-"+jobID+"-")

		h.left("unknown-job", map[string]string{"job_id": "202609010000009999999"})
		h.left("unknown-task", map[string]string{"task": "z"})
		h.left("no-role", map[string]string{"role": "nobody"})
		h.left("late-return", map[string]string{"attempt": "0"})
		h.left("theirs", map[string]string{"deployment": "theirs", "job_id": "202609010000009999999"})
		stays := []string{own, "theirs"}
		all := append(slices.Clone(stays), "late-return", "no-role", "unknown-job", "unknown-task")
		slices.Sort(all)
		require.Equal(t, all, h.names())

		require.ErrorContains(t, h.runs.Sweep(t.Context(), silent), "does not answer")
		kept := slices.DeleteFunc(slices.Clone(all), func(name string) bool { return name == "late-return" })
		assert.Equal(t, kept, h.names(), "without the engine's word only what the row tells goes")
		require.NoError(t, h.runs.Sweep(t.Context(), goesOn))
		assert.Equal(t, kept, h.names(), "of a job that goes on it may be anything")
		for range 2 {
			require.NoError(t, h.runs.Sweep(t.Context(), gone))
			assert.Equal(t, stays, h.names())
		}

		// The same run without its RunTask, as after a crash: it waits for the next one, as long as there is a job.
		again := h.newRuns(d)
		require.NoError(t, again.Sweep(t.Context(), goesOn))
		assert.Equal(t, stays, h.names())
		require.NoError(t, h.parts.RequestStop(t.Context(), participant.RequestStopInput{Key: h.key("a"), TaskID: bfia.TaskID(jobID, "a")}))
		stop()
		require.NoError(t, <-ended)
		h.runs.Wait(t.Context())
		assert.Equal(t, []string{"theirs"}, h.names())
	})
}

// A container that ended while the worker was away waits for its RunTask, which reads its exit, and goes when there is no job
// that would.
func TestSweepLeavesExits(t *testing.T) {
	eachDevice(t, func(t *testing.T, d device) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"append", "DATA/data_0", "one run\n"}, []string{"exit", "0"})
		h.begin()
		_, err := h.run(t.Context(), &cutRunner{device: d, at: "after Start"}, nil)
		require.Error(t, err)
		require.Eventually(t, func() bool { return h.written("a") != "" }, time.Minute, 10*time.Millisecond)
		require.Len(t, h.names(), 1)
		require.NoError(t, h.runs.Sweep(t.Context(), goesOn))
		require.Len(t, h.names(), 1)
		r, err := h.run(t.Context(), d, nil)
		require.NoError(t, err)
		require.Nil(t, r.Failure)
		require.Equal(t, "one run\n", h.written("a"))
		require.Empty(t, h.names())
	})
}

// job records another job of the same tasks, whose task a has run and left an output, and gives its id.
func (h *testParty) job(id string, ended time.Time, old string) {
	h.t.Helper()
	ctx := h.t.Context()
	body, err := h.db.Document(ctx, jobID)
	require.NoError(h.t, err)
	text := strings.Replace(string(body), jobID, id, 1)
	require.NoError(h.t, h.db.PutDocument(ctx, id, []byte(text)))
	plan := h.own
	plan.JobID = id
	require.NoError(h.t, h.parts.RecordJob(ctx, participant.RecordJobInput{Plan: plan, Roles: []string{"guest.0"}, Scheduler: "B", State: bfia.JobReady, At: ended.Add(-time.Hour)}))
	_, err = h.db.StartTask(ctx, id, "a", bfia.TaskID(id, "a"), 1, ended)
	require.NoError(h.t, err)
	key := activities.TaskKey{JobID: id, Task: "a", Role: "guest"}
	if old != "" {
		require.NoError(h.t, h.db.ReuseTask(ctx, id, "a", old))
	} else {
		h.put("guest-A-dataset-d/"+bfia.TaskID(id, "a")+"/data_0", "a row\n")
		h.put(activities.LogPrefix("hutong-"+id+"-a-guest.0-1")+"/w/0", "a line\n")
	}
	require.NoError(h.t, h.parts.RecordTaskEnd(ctx, participant.RecordTaskEndInput{Key: key, Part: guestA, TaskID: bfia.TaskID(id, "a"), State: bfia.TaskSuccess, At: ended}))
	if !ended.IsZero() {
		require.NoError(h.t, h.db.UpdateJob(ctx, id, bfia.JobFinished, "", ended))
	}
}

func (h *testParty) put(key, text string) {
	h.t.Helper()
	require.NoError(h.t, h.blobs.Put(h.t.Context(), key, strings.NewReader(text)))
}

func (h *testParty) keys() []string {
	h.t.Helper()
	objects, err := h.blobs.List(h.t.Context(), "")
	require.NoError(h.t, err)
	var keys []string
	for _, o := range objects {
		keys = append(keys, o.Key)
	}
	return keys
}

// do runs one of the housekeeping's activities.
func (h *testParty) do(answer any, name string, args ...any) error {
	value, err := h.env(h.t.Context()).ExecuteActivity(name, args...)
	if err == nil && answer != nil {
		err = value.Get(answer)
	}
	return err
}

func output(id string) string { return "guest-A-dataset-d/" + bfia.TaskID(id, "a") + "/data_0" }

func logKey(id string) string { return activities.LogPrefix("hutong-"+id+"-a-guest.0-1") + "/w/0" }

// failingDelete is a storage that is away after a number of deletes.
type failingDelete struct {
	blob.Store
	left int
}

func (f *failingDelete) DeletePrefix(ctx context.Context, prefix string) error {
	if f.left--; f.left < 0 {
		return errors.New("the storage is away")
	}
	return f.Store.DeletePrefix(ctx, prefix)
}

// Jobs that ended long ago go with their outputs, logs and rows, wherever an earlier try was cut off; what others use, what
// someone uploaded and all that is newer stays.
func TestRemoveExpiredJobs(t *testing.T) {
	ctx := t.Context()
	h := newTestParty(t, storetest.SQLite(t), device{Driver: nothing{}}, nil, nil)
	now := time.Now()
	month, day := now.Add(-30*24*time.Hour), now.Add(-24*time.Hour)
	h.job("old", month, "")
	h.job("taken-over", month, "")
	h.job("new", day, "taken-over")
	h.put("guest-A-dataset-d/"+bfia.TaskID("old", "b")+"/part", "what a failed run wrote")
	_, err := h.db.StartTask(ctx, "old", "b", bfia.TaskID("old", "b"), 1, month)
	require.NoError(t, err)
	h.put("guest-A-dataset-d/"+bfia.TaskID("old", "b")+"/earlier", "what an attempt wrote that was given up")
	_, err = h.db.StartTask(ctx, "old", "b", bfia.AttemptID("old", "b", 2), 2, month)
	require.NoError(t, err)
	// A scheduler may send any task id, also one that is a dataset's name here.
	h.job("nasty", month, "")
	h.put("guest-A-dataset-d/data/data_0", "uploaded")
	require.NoError(t, h.db.PutDataTable(ctx, store.DataTable{Namespace: "guest-A-dataset-d", Name: "data"}))
	_, err = h.db.StartTask(ctx, "nasty", "b", "data", 1, month)
	require.NoError(t, err)
	h.put("ns/rows/data_0", "uploaded")
	before := h.keys()

	require.NoError(t, h.db.PutRunner(ctx, store.Runner{RunnerID: "gone", Slots: 1, HeartbeatAt: month}))
	require.NoError(t, h.db.PutRunner(ctx, store.Runner{RunnerID: "silent", Slots: 1, HeartbeatAt: day}))
	removed := housekeeping.RemovalProgress{}
	require.NoError(t, h.do(&removed, "RemoveExpiredJobs", housekeeping.RemoveExpiredJobsInput{After: ""}))
	assert.Zero(t, removed, "jobs are kept for ever")
	hosts, err := h.db.Runners(ctx, time.Time{})
	require.NoError(t, err)
	assert.False(t, slices.ContainsFunc(hosts, func(h store.Runner) bool { return h.RunnerID == "gone" }))
	assert.True(t, slices.ContainsFunc(hosts, func(h store.Runner) bool { return h.RunnerID == "silent" }))
	h.keeper.Keep = 10 * 24 * time.Hour
	h.keeper.Participating = goesOn
	require.NoError(t, h.do(&removed, "RemoveExpiredJobs", housekeeping.RemoveExpiredJobsInput{After: ""}))
	assert.Zero(t, removed, "their workflows still give back what they held")
	h.keeper.Participating = silent
	require.Error(t, h.do(&removed, "RemoveExpiredJobs", housekeeping.RemoveExpiredJobsInput{After: ""}))
	assert.Equal(t, before, h.keys())
	h.keeper.Participating = gone

	for left := range 9 { // cut off after each step
		h.keeper.Blobs = &failingDelete{h.blobs, left % 3}
		_ = h.do(nil, "RemoveExpiredJobs", housekeeping.RemoveExpiredJobsInput{After: ""})
		for _, id := range []string{"old", "taken-over", "nasty"} {
			if _, err := h.db.Job(ctx, id); bfia.CodeOf(err) == bfia.CodeNotFound {
				assert.NotContains(t, h.keys(), logKey(id), "rows go last")
			}
		}
	}
	h.keeper.Blobs = h.blobs
	for range 2 {
		require.NoError(t, h.do(&removed, "RemoveExpiredJobs", housekeeping.RemoveExpiredJobsInput{After: ""}))
		want := []string{output("taken-over"), "guest-A-dataset-d/data/data_0", "ns/rows/data_0"}
		slices.Sort(want)
		assert.Equal(t, want, h.keys())
		for _, id := range []string{"old", "taken-over", "nasty"} {
			_, err := h.db.Job(ctx, id)
			assert.Equal(t, bfia.CodeNotFound, bfia.CodeOf(err))
			_, err = h.db.Document(ctx, id)
			assert.Equal(t, bfia.CodeNotFound, bfia.CodeOf(err))
		}
		outputs, err := h.db.Outputs(ctx, "new")
		require.NoError(t, err)
		require.Len(t, outputs, 1, "what it took over is reached from it")
	}
	// With the last that holds it, it goes.
	require.NoError(t, h.db.MarkRemoving(ctx, "new"))
	h.keeper.Keep = 0 // what was begun is brought to its end all the same
	require.NoError(t, h.do(&removed, "RemoveExpiredJobs", housekeeping.RemoveExpiredJobsInput{After: ""}))
	assert.Equal(t, housekeeping.RemovalProgress{Jobs: 1, Objects: 1, Bytes: 6}, removed)
	assert.Equal(t, []string{"guest-A-dataset-d/data/data_0", "ns/rows/data_0"}, h.keys())
	_, err = h.db.Document(ctx, jobID)
	require.NoError(t, err, "it may be of a job that is just being created")
}

// Many jobs go in batches.
func TestRemoveExpiredJobsInBatches(t *testing.T) {
	h := newTestParty(t, storetest.SQLite(t), device{Driver: nothing{}}, nil, nil)
	h.keeper.Keep = time.Hour
	for i := range 70 {
		h.job(fmt.Sprintf("job-%03d", i), time.Now().Add(-2*time.Hour), "")
	}
	all, batches := housekeeping.RemovalProgress{}, 0
	for after := ""; batches == 0 || after != ""; batches++ {
		var removed housekeeping.RemovalProgress
		require.NoError(t, h.do(&removed, "RemoveExpiredJobs", housekeeping.RemoveExpiredJobsInput{After: after}))
		all.Jobs += removed.Jobs
		all.Objects += removed.Objects
		after = removed.Next
	}
	assert.Equal(t, 2, batches)
	assert.Equal(t, housekeeping.RemovalProgress{Jobs: 70, Objects: 140}, all)
	assert.Empty(t, h.keys())
}

// A job whose workflow is gone is ended, once; one that goes on, one that is young, and one whose fate the engine does not
// tell, stay.
func TestLostJobs(t *testing.T) {
	databases := map[string]func(testing.TB) string{"sqlite": storetest.SQLite, "postgres": storetest.Postgres}
	for database, address := range databases {
		t.Run(database, func(t *testing.T) {
			ctx := t.Context()
			h := newTestParty(t, address(t), device{Driver: nothing{}}, nil, nil)
			hourAgo := time.Now().Add(-time.Hour)
			young := h.own
			young.JobID = "young"
			require.NoError(t, h.parts.RecordJob(ctx, participant.RecordJobInput{Plan: young, Roles: []string{"guest.0"}, Scheduler: "B", State: bfia.JobReady, At: time.Now()}))
			require.NoError(t, h.parts.RecordJob(ctx, participant.RecordJobInput{Plan: h.own, Roles: []string{"guest.0"}, Scheduler: "B", State: bfia.JobReady, At: hourAgo}))
			require.NoError(t, h.jobs.RecordScheduleJob(ctx, scheduler.RecordScheduleJobInput{Plan: h.plan, At: hourAgo}))
			_, err := h.parts.Reserve(ctx, h.application(time.Now()))
			require.NoError(t, err)
			_, err = h.parts.ClaimTask(ctx, participant.ClaimTaskInput{Task: h.ref("a"), Parts: []bfia.Part{guestA}, At: hourAgo})
			require.Error(t, err) // there is no host, but the task is RUNNING
			job, err := h.db.Job(ctx, jobID)
			require.NoError(t, err)
			require.False(t, job.State.Terminal())

			var found housekeeping.FoundLostJobs
			for _, engine := range []activities.JobRunning{goesOn, silent} {
				h.keeper.Scheduled, h.keeper.Participating = engine, engine
				for _, scheduled := range []bool{true, false} {
					err := h.do(&found, "FindLostJobs", housekeeping.FindLostJobsInput{Scheduled: scheduled})
					_, _, silence := engine(ctx, "")
					require.Equal(t, silence != nil, err != nil)
					require.Empty(t, found.Jobs)
				}
			}
			h.keeper.Scheduled, h.keeper.Participating = gone, gone
			for _, scheduled := range []bool{true, false} {
				found = housekeeping.FoundLostJobs{}
				for range 2 {
					require.NoError(t, h.do(&found, "FindLostJobs", housekeeping.FindLostJobsInput{Scheduled: scheduled}))
					require.Len(t, found.Jobs, 1)
					assert.Equal(t, jobID, found.Jobs[0].JobID)
					assert.Equal(t, "A: the engine no longer runs the job: its workflow was terminated", found.Jobs[0].Failure.String())
					nodes := []string(nil)
					if scheduled {
						nodes = []string{"A", "B"}
					}
					assert.Equal(t, nodes, found.Jobs[0].Nodes)
				}
				var once string
				for i := range 2 {
					require.NoError(t, h.do(nil, "EndLostJobs", housekeeping.EndLostJobsInput{Scheduled: scheduled, Jobs: found.Jobs}))
					if state := h.state(); i == 0 {
						once = state
					} else {
						assert.Equal(t, once, state)
					}
				}
				found = housekeeping.FoundLostJobs{}
				require.NoError(t, h.do(&found, "FindLostJobs", housekeeping.FindLostJobsInput{Scheduled: scheduled}))
				assert.Empty(t, found.Jobs)
			}
			job, err = h.db.Job(ctx, jobID)
			require.NoError(t, err)
			assert.Equal(t, bfia.JobFinished, job.State)
			assert.Equal(t, bfia.TaskFailed, h.row("a").State)
			assert.Equal(t, bfia.TaskReady, h.row("b").State)
			job, err = h.db.Job(ctx, "young")
			require.NoError(t, err)
			assert.Equal(t, bfia.JobReady, job.State)
			for range 2 {
				require.NoError(t, h.do(nil, "SweepStorage"))
			}
		})
	}
}

// nothing is a device on which nothing runs.
type nothing struct{ driver.Driver }

func (nothing) Device() string                                   { return "process" }
func (nothing) StorageRoot(string) string                        { return "" }
func (nothing) List(context.Context) ([]driver.Container, error) { return nil, nil }

// The room of a job that has ended is given back where its workflow was gone before it could, and not where it still has
// containers to end.
func TestReleaseLostRoom(t *testing.T) {
	h := newTestParty(t, storetest.SQLite(t), device{Driver: nothing{}}, nil, nil)
	ctx := t.Context()
	require.NoError(t, h.parts.RecordJob(ctx, participant.RecordJobInput{Plan: h.own, Roles: []string{"guest.0"}, Scheduler: "B", State: bfia.JobReady, At: time.Now()}))
	require.NoError(t, h.db.PutRunner(ctx, store.Runner{RunnerID: "host-1", Devices: []string{h.device.Device()}, Slots: 2}))
	answer, err := h.parts.Reserve(ctx, h.application(time.Now()))
	require.NoError(t, err)
	require.True(t, answer.Grant.Granted, answer.Grant.Reason)
	seats := func() int {
		seats, err := h.db.ReservedSlots(ctx, jobID)
		require.NoError(t, err)
		return len(seats)
	}
	release := func(engine activities.JobRunning) {
		h.keeper.Participating = engine
		require.NoError(t, h.do(nil, "ReleaseLostReservations"))
	}
	release(gone)
	assert.Equal(t, 1, seats(), "the job has not ended")
	require.NoError(t, h.parts.RecordJobState(ctx, participant.RecordJobStateInput{JobID: jobID, State: bfia.JobFinished, At: time.Now().Add(-time.Minute)}))
	release(gone)
	assert.Equal(t, 1, seats(), "it has ended just now")
}

// A job that ended long ago.
func TestReleaseLostRoomLater(t *testing.T) {
	h := newTestParty(t, storetest.SQLite(t), device{Driver: nothing{}}, nil, nil)
	h.begin()
	ctx := t.Context()
	require.NoError(t, h.parts.RecordJobState(ctx, participant.RecordJobStateInput{JobID: jobID, State: bfia.JobFinished, At: time.Now().Add(-time.Hour)}))
	for _, c := range []struct {
		engine activities.JobRunning
		seats  int
	}{{goesOn, 1}, {gone, 0}, {gone, 0}} {
		h.keeper.Participating = c.engine
		require.NoError(t, h.do(nil, "ReleaseLostReservations"))
		seats, err := h.db.ReservedSlots(ctx, jobID)
		require.NoError(t, err)
		assert.Len(t, seats, c.seats)
	}
	h.keeper.Participating = silent
	require.NoError(t, h.do(nil, "ReleaseLostReservations"), "nobody has to be asked")
}
