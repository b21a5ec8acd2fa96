package activities_test

import (
	"context"
	"database/sql"
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

// workflowGone reports every job's workflow as terminated.
func workflowGone(context.Context, string) (bool, string, error) { return false, "was terminated", nil }

func workflowRunning(context.Context, string) (bool, string, error) { return true, "", nil }

func temporalSilent(context.Context, string) (bool, string, error) {
	return false, "", errors.New("Temporal does not answer")
}

// startLeftover creates and starts a container as an earlier worker left it behind.
// The labels in change replace the usual ones.
func (h *testParty) startLeftover(name string, change map[string]string) string {
	h.t.Helper()
	spec := driver.Spec{Name: "hutong-" + jobID + "-" + name, Image: prog.image,
		Command: []string{h.driver.program, "forever"},
		Labels: map[string]string{"job_id": jobID, "task_id": bfia.TaskID(jobID, "a"), "task": "a",
			"role": "guest.0", "attempt": "1", "deployment": "ours"}}
	for label, value := range change {
		spec.Labels[label] = value
	}
	_, err := h.driver.Create(h.t.Context(), spec)
	require.NoError(h.t, err)
	require.NoError(h.t, h.driver.Start(h.t.Context(), spec.Name))
	return spec.Name
}

// containerNames returns the names of the existing containers, without their common prefix.
func (h *testParty) containerNames() []string {
	h.t.Helper()
	containers, err := h.driver.List(h.t.Context())
	require.NoError(h.t, err)
	var names []string
	for _, container := range containers {
		names = append(names, strings.TrimPrefix(container.Name, "hutong-"+jobID+"-"))
	}
	slices.Sort(names)
	return names
}

// Sweep removes the containers that no job owns, and keeps all others.
// While Temporal does not answer it removes only those whose row is sufficient proof.
func TestSweep(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"print", "begun", "forever"},
			[]string{"exit", "0"})
		h.claimTaskA()
		watching, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() {
			_, err := h.env(watching).ExecuteActivity("RunTask", h.partRequest("a"))
			ended <- err
		}()
		require.Eventually(t, func() bool {
			log, err := h.blobs.List(t.Context(), activities.LogPrefix(h.containerName("a")))
			return err == nil && len(log) == 1
		}, time.Minute, 10*time.Millisecond)
		own := strings.TrimPrefix(h.containerName("a"), "hutong-"+jobID+"-")

		h.startLeftover("unknown-job", map[string]string{"job_id": "202609010000009999999"})
		h.startLeftover("unknown-task", map[string]string{"task": "z"})
		h.startLeftover("no-role", map[string]string{"role": "nobody"})
		h.startLeftover("late-return", map[string]string{"attempt": "0"})
		h.startLeftover("theirs", map[string]string{"deployment": "theirs",
			"job_id": "202609010000009999999"})
		stays := []string{own, "theirs"}
		all := append(slices.Clone(stays), "late-return", "no-role", "unknown-job", "unknown-task")
		slices.Sort(all)
		require.Equal(t, all, h.containerNames())

		require.ErrorContains(t, h.runner.Sweep(t.Context(), temporalSilent), "does not answer")
		kept := slices.DeleteFunc(slices.Clone(all), func(name string) bool { return name == "late-return" })
		assert.Equal(t, kept, h.containerNames(),
			"without Temporal's answer only the row can prove an orphan")
		require.NoError(t, h.runner.Sweep(t.Context(), workflowRunning))
		assert.Equal(t, kept, h.containerNames(), "a running job may own the container")
		for range 2 {
			require.NoError(t, h.runner.Sweep(t.Context(), workflowGone))
			assert.Equal(t, stays, h.containerNames())
		}

		// The same container without its RunTask, as after a crash: it stays for the next RunTask while the
		// job runs.
		again := h.newRunner(d)
		require.NoError(t, again.Sweep(t.Context(), workflowRunning))
		assert.Equal(t, stays, h.containerNames())
		require.NoError(t, h.participant.RequestStop(t.Context(),
			participant.RequestStopInput{Key: h.taskKey("a"), TaskID: bfia.TaskID(jobID, "a")}))
		stop()
		require.NoError(t, <-ended)
		h.runner.Wait(t.Context())
		assert.Equal(t, []string{"theirs"}, h.containerNames())
	})
}

// A container that ended while its worker was down stays until RunTask reads its exit.
func TestSweepKeepsUnrecordedExits(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"append", "DATA/data_0", oneStart},
			[]string{"exit", "0"})
		h.claimTaskA()
		_, err := h.runTaskA(t.Context(), &crashingDriver{testDriver: d, at: "after Start"}, nil)
		require.Error(t, err)
		require.Eventually(t, func() bool { return h.readOutput("a") != "" }, time.Minute,
			10*time.Millisecond)
		require.Len(t, h.containerNames(), 1)
		require.NoError(t, h.runner.Sweep(t.Context(), workflowRunning))
		require.Len(t, h.containerNames(), 1)
		r, err := h.runTaskA(t.Context(), d, nil)
		require.NoError(t, err)
		require.Nil(t, r.Failure)
		require.Equal(t, oneStart, h.readOutput("a"))
		require.Empty(t, h.containerNames())
	})
}

// recordEndedJob records another job of the same tasks, whose task a has run and has written an output.
// With old, the job reuses the task a of that job.
func (h *testParty) recordEndedJob(id string, ended time.Time, old string) {
	h.t.Helper()
	ctx := h.t.Context()
	body, err := h.db.Document(ctx, jobID)
	require.NoError(h.t, err)
	text := strings.Replace(string(body), jobID, id, 1)
	doc, err := bfia.ParseDocument([]byte(text))
	require.NoError(h.t, err)
	h.putRecord(doc)
	plan := h.own
	plan.JobID = id
	require.NoError(h.t, h.participant.RecordJob(ctx,
		participant.RecordJobInput{Plan: plan, Roles: []string{"guest.0"}, Scheduler: "B",
			State: bfia.JobReady, At: ended.Add(-time.Hour)}))
	_, err = h.db.StartTask(ctx, id, "a", bfia.TaskID(id, "a"), 1, ended)
	require.NoError(h.t, err)
	key := activities.TaskKey{JobID: id, Task: "a", Role: "guest"}
	if old != "" {
		require.NoError(h.t, h.db.ReuseTask(ctx, id, "a", old))
	} else {
		h.putObject("guest-A-dataset-d/"+bfia.TaskID(id, "a")+"/data_0", "a row\n")
		h.putObject(logKey(id), "a line\n")
	}
	require.NoError(h.t, h.participant.RecordTaskEnd(ctx,
		participant.RecordTaskEndInput{Key: key, Part: guestA, TaskID: bfia.TaskID(id, "a"),
			State: bfia.TaskSuccess, At: ended}))
	if !ended.IsZero() {
		require.NoError(h.t, h.db.UpdateJob(ctx, id, bfia.JobFinished, "", ended))
	}
}

func (h *testParty) putObject(key, text string) {
	h.t.Helper()
	require.NoError(h.t, h.blobs.Put(h.t.Context(), key, strings.NewReader(text)))
}

func (h *testParty) objectKeys() []string {
	h.t.Helper()
	objects, err := h.blobs.List(h.t.Context(), "")
	require.NoError(h.t, err)
	var keys []string
	for _, o := range objects {
		keys = append(keys, o.Key)
	}
	return keys
}

// execute executes an activity and decodes its result into answer.
func (h *testParty) execute(answer any, name string, args ...any) error {
	value, err := h.env(h.t.Context()).ExecuteActivity(name, args...)
	if err == nil && answer != nil {
		err = value.Get(answer)
	}
	return err
}

func outputKey(id string) string { return "guest-A-dataset-d/" + bfia.TaskID(id, "a") + "/data_0" }

func logKey(id string) string {
	request := activities.PartRequest{Key: activities.TaskKey{JobID: id, Task: "a"}, Part: guestA, Attempt: 1}
	return activities.LogPrefix(request.ContainerName()) + "/w/0"
}

// failingDelete is a store that fails after a number of deletes.
type failingDelete struct {
	blob.Store
	remaining int
}

func (f *failingDelete) DeletePrefix(ctx context.Context, prefix string) error {
	if f.remaining--; f.remaining < 0 {
		return errors.New("the storage is unavailable")
	}
	return f.Store.DeletePrefix(ctx, prefix)
}

// Housekeeping removes expired jobs with their outputs, logs and rows, at whatever step an earlier attempt
// was cut off. It keeps outputs that other jobs use, uploads, and newer jobs.
func TestRemoveExpiredJobs(t *testing.T) {
	ctx := t.Context()
	address := storetest.SQLite(t)
	h := newTestParty(t, address, testDriver{Driver: emptyDriver{}}, nil, nil)
	now := time.Now()
	month, day := now.Add(-30*24*time.Hour), now.Add(-24*time.Hour)
	h.recordEndedJob("old", month, "")
	h.recordEndedJob("taken-over", month, "")
	h.recordEndedJob("new", day, "taken-over")
	h.putObject("guest-A-dataset-d/"+bfia.TaskID("old", "b")+"/part", "what a failed container wrote")
	_, err := h.db.StartTask(ctx, "old", "b", bfia.TaskID("old", "b"), 1, month)
	require.NoError(t, err)
	recordContainer := func(jobID, name string) { // as an earlier version named it
		key := store.TaskKey{JobID: jobID, Name: "b", Role: "guest"}
		require.NoError(t, h.db.SetTaskContainer(ctx, key, 1, "silent", name, "id of "+name))
		h.putObject(activities.LogPrefix(name)+"/w/0", "a line\n")
	}
	recordContainer("old", "earlier-name")
	h.putObject("guest-A-dataset-d/"+bfia.TaskID("old", "b")+"/earlier",
		"what an attempt wrote that was given up")
	_, err = h.db.StartTask(ctx, "old", "b", bfia.AttemptID("old", "b", 2), 2, month)
	require.NoError(t, err)
	// A scheduler may send any task id, also the name of a dataset of this party.
	h.recordEndedJob("nasty", month, "")
	h.putObject("guest-A-dataset-d/data/data_0", "uploaded")
	require.NoError(t, h.db.PutDataTable(ctx, store.DataTable{Namespace: "guest-A-dataset-d", Name: "data"}))
	_, err = h.db.StartTask(ctx, "nasty", "b", "data", 1, month)
	require.NoError(t, err)
	recordContainer("nasty", "other-name")
	h.putObject("ns/rows/data_0", "uploaded")
	before := h.objectKeys()

	require.NoError(t, h.db.PutRunner(ctx, store.Runner{RunnerID: "gone", Slots: 1, HeartbeatAt: month}))
	require.NoError(t, h.db.PutRunner(ctx, store.Runner{RunnerID: "silent", Slots: 1, HeartbeatAt: day}))
	useNonce := func(nonce string) bool {
		accepted, err := h.db.UseNonce(ctx, "B", nonce, "")
		require.NoError(t, err)
		return accepted
	}
	require.True(t, useNonce("old"))
	direct, err := sql.Open("sqlite", strings.TrimPrefix(address, "sqlite://"))
	require.NoError(t, err)
	_, err = direct.ExecContext(ctx, "UPDATE t_nonce SET used_at = '2020-01-01 00:00:00+00:00'")
	require.NoError(t, err)
	require.NoError(t, direct.Close())
	require.True(t, useNonce("recent"))
	removed := housekeeping.RemovalProgress{}
	require.NoError(t, h.execute(&removed, "RemoveExpiredJobs",
		housekeeping.RemoveExpiredJobsInput{After: ""}))
	assert.Zero(t, removed, "jobs are kept for ever")
	assert.False(t, useNonce("recent"), "housekeeping keeps recent nonces")
	assert.True(t, useNonce("old"), "and removes old ones")
	runners, err := h.db.Runners(ctx, 1000*24*time.Hour)
	require.NoError(t, err)
	assert.False(t, slices.ContainsFunc(runners, func(h store.Runner) bool { return h.RunnerID == "gone" }))
	assert.True(t, slices.ContainsFunc(runners, func(h store.Runner) bool { return h.RunnerID == "silent" }))
	h.housekeeping.Keep = 10 * 24 * time.Hour
	h.housekeeping.Participating = workflowRunning
	require.NoError(t, h.execute(&removed, "RemoveExpiredJobs",
		housekeeping.RemoveExpiredJobsInput{After: ""}))
	assert.Zero(t, removed, "their workflows still release their reservations")
	h.housekeeping.Participating = temporalSilent
	require.Error(t, h.execute(&removed, "RemoveExpiredJobs", housekeeping.RemoveExpiredJobsInput{After: ""}))
	assert.Equal(t, before, h.objectKeys())
	h.housekeeping.Participating = workflowGone

	for left := range 9 { // interrupted after each step
		h.housekeeping.Blobs = &failingDelete{h.blobs, left % 3}
		_ = h.execute(nil, "RemoveExpiredJobs", housekeeping.RemoveExpiredJobsInput{After: ""})
		for _, id := range []string{"old", "taken-over", "nasty"} {
			if _, err := h.db.Job(ctx, id); bfia.CodeOf(err) == bfia.CodeNotFound {
				assert.NotContains(t, h.objectKeys(), logKey(id), "rows are removed last")
			}
		}
	}
	h.housekeeping.Blobs = h.blobs
	for range 2 {
		require.NoError(t, h.execute(&removed, "RemoveExpiredJobs",
			housekeeping.RemoveExpiredJobsInput{After: ""}))
		want := []string{outputKey("taken-over"), "guest-A-dataset-d/data/data_0", "ns/rows/data_0"}
		slices.Sort(want)
		assert.Equal(t, want, h.objectKeys())
		for _, id := range []string{"old", "taken-over", "nasty"} {
			_, err := h.db.Job(ctx, id)
			assert.Equal(t, bfia.CodeNotFound, bfia.CodeOf(err))
			_, err = h.db.Document(ctx, id)
			assert.Equal(t, bfia.CodeNotFound, bfia.CodeOf(err))
		}
		outputs, err := h.db.Outputs(ctx, "new")
		require.NoError(t, err)
		require.Len(t, outputs, 1, "the job still refers to the output that it reuses")
	}
	// The output is removed with the last job that refers to it.
	require.NoError(t, h.db.MarkRemoving(ctx, "new"))
	h.housekeeping.Keep = 0 // a removal that has begun is completed regardless
	require.NoError(t, h.execute(&removed, "RemoveExpiredJobs",
		housekeeping.RemoveExpiredJobsInput{After: ""}))
	assert.Equal(t, housekeeping.RemovalProgress{Jobs: 1, Objects: 1, Bytes: 6}, removed)
	assert.Equal(t, []string{"guest-A-dataset-d/data/data_0", "ns/rows/data_0"}, h.objectKeys())
	_, err = h.db.Document(ctx, jobID)
	require.NoError(t, err, "the document may belong to a job that is being created")
}

// Housekeeping removes many jobs in batches.
func TestRemoveExpiredJobsInBatches(t *testing.T) {
	h := newTestParty(t, storetest.SQLite(t), testDriver{Driver: emptyDriver{}}, nil, nil)
	h.housekeeping.Keep = time.Hour
	for i := range 70 {
		h.recordEndedJob(fmt.Sprintf("job-%03d", i), time.Now().Add(-2*time.Hour), "")
	}
	all, batches := housekeeping.RemovalProgress{}, 0
	for after := ""; batches == 0 || after != ""; batches++ {
		var removed housekeeping.RemovalProgress
		require.NoError(t, h.execute(&removed, "RemoveExpiredJobs",
			housekeeping.RemoveExpiredJobsInput{After: after}))
		all.Jobs += removed.Jobs
		all.Objects += removed.Objects
		after = removed.Next
	}
	assert.Equal(t, 2, batches)
	assert.Equal(t, housekeeping.RemovalProgress{Jobs: 70, Objects: 140}, all)
	assert.Empty(t, h.objectKeys())
}

// Housekeeping ends a job whose workflow is gone, once.
// It keeps a job whose workflow runs, a young job, and every job while Temporal does not answer.
func TestLostJobs(t *testing.T) {
	databases := map[string]func(testing.TB) string{"sqlite": storetest.SQLite,
		"postgres": storetest.Postgres}
	for database, address := range databases {
		t.Run(database, func(t *testing.T) {
			ctx := t.Context()
			h := newTestParty(t, address(t), testDriver{Driver: emptyDriver{}}, nil, nil)
			hourAgo := time.Now().Add(-time.Hour)
			young := h.own
			young.JobID = "young"
			body, err := h.db.Document(ctx, jobID)
			require.NoError(t, err)
			require.NoError(t, h.db.PutJobRecord(ctx, "young", body, store.NewRegistry(nil)))
			require.NoError(t, h.participant.RecordJob(ctx,
				participant.RecordJobInput{Plan: young, Roles: []string{"guest.0"}, Scheduler: "B",
					State: bfia.JobReady, At: time.Now()}))
			require.NoError(t, h.participant.RecordJob(ctx,
				participant.RecordJobInput{Plan: h.own, Roles: []string{"guest.0"}, Scheduler: "B",
					State: bfia.JobReady, At: hourAgo}))
			require.NoError(t, h.scheduler.RecordScheduleJob(ctx,
				scheduler.RecordScheduleJobInput{Plan: h.plan, At: hourAgo}))
			_, err = h.participant.Reserve(ctx, h.reserveInput(time.Now()))
			require.NoError(t, err)
			_, err = h.participant.ClaimTask(ctx,
				participant.ClaimTaskInput{Task: h.taskRef("a"), Parts: []bfia.Part{guestA}, At: hourAgo})
			require.Error(t, err) // there is no runner, but the task is RUNNING
			job, err := h.db.Job(ctx, jobID)
			require.NoError(t, err)
			require.False(t, job.State.Terminal())

			var found housekeeping.FoundLostJobs
			for _, isRunning := range []activities.JobRunning{workflowRunning, temporalSilent} {
				h.housekeeping.Scheduled, h.housekeeping.Participating = isRunning, isRunning
				for _, scheduled := range []bool{true, false} {
					err := h.execute(&found, "FindLostJobs",
						housekeeping.FindLostJobsInput{Scheduled: scheduled})
					_, _, silence := isRunning(ctx, "")
					require.Equal(t, silence != nil, err != nil)
					require.Empty(t, found.Jobs)
				}
			}
			h.housekeeping.Scheduled, h.housekeeping.Participating = workflowGone, workflowGone
			for _, scheduled := range []bool{true, false} {
				found = housekeeping.FoundLostJobs{}
				for range 2 {
					require.NoError(t, h.execute(&found, "FindLostJobs",
						housekeeping.FindLostJobsInput{Scheduled: scheduled}))
					require.Len(t, found.Jobs, 1)
					assert.Equal(t, jobID, found.Jobs[0].JobID)
					assert.Equal(t, "A: Temporal no longer runs the job: its workflow was terminated",
						found.Jobs[0].Failure.String())
					nodes := []string(nil)
					if scheduled {
						nodes = []string{"A", "B"}
					}
					assert.Equal(t, nodes, found.Jobs[0].Nodes)
				}
				var once string
				for i := range 2 {
					require.NoError(t, h.execute(nil, "EndLostJobs",
						housekeeping.EndLostJobsInput{Scheduled: scheduled, Jobs: found.Jobs}))
					if state := h.snapshot(); i == 0 {
						once = state
					} else {
						assert.Equal(t, once, state)
					}
				}
				found = housekeeping.FoundLostJobs{}
				require.NoError(t, h.execute(&found, "FindLostJobs",
					housekeeping.FindLostJobsInput{Scheduled: scheduled}))
				assert.Empty(t, found.Jobs)
			}
			job, err = h.db.Job(ctx, jobID)
			require.NoError(t, err)
			assert.Equal(t, bfia.JobFinished, job.State)
			assert.Equal(t, bfia.TaskFailed, h.taskRow("a").State)
			assert.Equal(t, bfia.TaskReady, h.taskRow("b").State)
			job, err = h.db.Job(ctx, "young")
			require.NoError(t, err)
			assert.Equal(t, bfia.JobReady, job.State)
			for range 2 {
				require.NoError(t, h.execute(nil, "SweepStorage"))
			}
		})
	}
}

// emptyDriver is a driver without containers.
type emptyDriver struct{ driver.Driver }

func (emptyDriver) Device() string                                   { return "process" }
func (emptyDriver) StorageRoot(string) string                        { return "" }
func (emptyDriver) List(context.Context) ([]driver.Container, error) { return nil, nil }

// The reservation of a job is kept while the job runs, and for a while after its end,
// since its workflow may still have containers to stop.
func TestKeepReservationOfActiveJob(t *testing.T) {
	h := newTestParty(t, storetest.SQLite(t), testDriver{Driver: emptyDriver{}}, nil, nil)
	ctx := t.Context()
	require.NoError(t, h.participant.RecordJob(ctx,
		participant.RecordJobInput{Plan: h.own, Roles: []string{"guest.0"}, Scheduler: "B",
			State: bfia.JobReady, At: time.Now()}))
	require.NoError(t, h.db.PutRunner(ctx, store.Runner{RunnerID: "runner-1",
		Devices: []string{h.driver.Device()}, Slots: 2}))
	answer, err := h.participant.Reserve(ctx, h.reserveInput(time.Now()))
	require.NoError(t, err)
	require.True(t, answer.Grant.Granted, answer.Grant.Reason)
	slots := func() int {
		slots, err := h.db.ReservedSlots(ctx, jobID)
		require.NoError(t, err)
		return len(slots)
	}
	release := func(isRunning activities.JobRunning) {
		h.housekeeping.Participating = isRunning
		require.NoError(t, h.execute(nil, "ReleaseLostReservations"))
	}
	release(workflowGone)
	assert.Equal(t, 1, slots(), "the job has not ended")
	require.NoError(t, h.participant.RecordJobState(ctx,
		participant.RecordJobStateInput{JobID: jobID, State: bfia.JobFinished,
			At: time.Now().Add(-time.Minute)}))
	release(workflowGone)
	assert.Equal(t, 1, slots(), "it has ended just now")
}

// The reservation of a job that ended long ago is released if its workflow was gone before it could
// do so.
func TestReleaseLostReservations(t *testing.T) {
	h := newTestParty(t, storetest.SQLite(t), testDriver{Driver: emptyDriver{}}, nil, nil)
	h.claimTaskA()
	ctx := t.Context()
	require.NoError(t, h.participant.RecordJobState(ctx,
		participant.RecordJobStateInput{JobID: jobID, State: bfia.JobFinished,
			At: time.Now().Add(-time.Hour)}))
	for _, c := range []struct {
		isRunning activities.JobRunning
		slots     int
	}{{workflowRunning, 1}, {workflowGone, 0}, {workflowGone, 0}} {
		h.housekeeping.Participating = c.isRunning
		require.NoError(t, h.execute(nil, "ReleaseLostReservations"))
		slots, err := h.db.ReservedSlots(ctx, jobID)
		require.NoError(t, err)
		assert.Len(t, slots, c.slots)
	}
	h.housekeeping.Participating = temporalSilent
	require.NoError(t, h.execute(nil, "ReleaseLostReservations"),
		"without a reservation Temporal is not asked")
}
