package activities_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.temporal.io/sdk/activity"
	temporal "go.temporal.io/sdk/client"
	"go.temporal.io/sdk/converter"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/activities/driver/docker"
	"hutong/activities/driver/kubernetes"
	"hutong/activities/scheduler"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/blob"
	"hutong/store/storetest"
	"hutong/test/testenv"
	"hutong/test/testenv/relay"
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
		bfia.WaitsForRetry: errors.New("the disk is full"),
		bfia.WaitsForImage: driver.ErrNoImage,
		bfia.WaitsForDatabase: bfia.Unavailable(bfia.WaitsForDatabase, nil,
			"the database accepts no writes now"),
		bfia.WaitsForStorage: bfia.Unavailable(bfia.WaitsForStorage, nil, "the storage does not answer"),
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

// A part whose party's database is away says so in its job's workflow, which records it. The next try of
// RunTask knows since when it waits, and ends the wait once the database is back.
func TestRunTaskHandsWaitsOver(t *testing.T) {
	t.Parallel()
	server := storetest.StartServer(t, nil)
	front := relay.New(t, "127.0.0.1", "unix", server.Socket())
	h := newTestParty(t, "postgres://postgres@"+front.Address()+"/postgres?sslmode=disable", processDriver(t),
		[]string{"print", "the end"}, nil)
	var notified []activities.PartWait
	h.onWait = func(_ context.Context, _ string, w activities.PartWait) error {
		notified = append(notified, w)
		return nil
	}
	h.claimTaskA()

	var heartbeat any
	run := func() error {
		own := *h
		own.runner = h.newRunner(h.driver)
		env := own.env(t.Context())
		env.SetOnActivityHeartbeatListener(func(_ *activity.Info, details converter.EncodedValues) {
			if details.HasValues() {
				kept := map[string]any{}
				assert.NoError(t, details.Get(&kept))
				heartbeat = kept
			}
		})
		if heartbeat != nil {
			env.SetHeartbeatDetails(heartbeat)
		}
		_, err := env.ExecuteActivity("RunTask", h.partRequest("a"))
		own.runner.Wait(t.Context())
		return err
	}
	front.Cut()
	require.ErrorContains(t, run(), "the database does not answer")
	require.Empty(t, notified, "it has not lasted")
	kept, ok := heartbeat.(map[string]any)
	require.True(t, ok, "the heartbeat is %v", heartbeat)
	require.Equal(t, "database", kept["kind"])
	since := time.Now().UTC().Add(-time.Hour)
	kept["since"] = since
	require.Error(t, run())
	require.Error(t, run())
	require.Len(t, notified, 1, "once")
	assert.True(t, notified[0].Unrecorded)
	assert.Equal(t, bfia.WaitsForDatabase, notified[0].Waiting.Kind)
	assert.WithinDuration(t, since, notified[0].Waiting.Since, time.Millisecond)
	assert.Equal(t, "A", notified[0].Waiting.NodeID)
	assert.Contains(t, notified[0].Waiting.Message, "tries again: ")
	assert.Contains(t, notified[0].Waiting.Message, "comes from the job's workflow in Temporal")

	front.Lead("unix", server.Socket())
	require.NoError(t, run())
	require.Len(t, notified, 2)
	assert.Nil(t, notified[1].Waiting, "it no longer waits")
	assert.Nil(t, h.taskRow("a").Waiting)
}

// A wait has the kind of the service that does not answer, whatever RunTask was doing with it.
func TestRunTaskNamesTheService(t *testing.T) {
	t.Parallel()
	away := testenv.FreeAddress(t)
	engine, err := docker.New(docker.Options{NodeID: "A", Host: "tcp://" + away})
	require.NoError(t, err)
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(kubeconfig, []byte(`{"apiVersion":"v1","kind":"Config",
		"clusters":[{"name":"c","cluster":{"server":"http://`+away+`"}}],
		"contexts":[{"name":"c","context":{"cluster":"c","user":"u"}}],"current-context":"c",
		"users":[{"name":"u","user":{}}]}`), 0o600))
	cluster, err := kubernetes.New(kubernetes.Options{NodeID: "A", Kubeconfig: kubeconfig,
		Namespace: "default"})
	require.NoError(t, err)
	for kind, fails := range map[bfia.WaitingKind]func(context.Context) error{
		bfia.WaitsForDocker: func(ctx context.Context) error {
			_, err := engine.List(ctx)
			return err
		},
		bfia.WaitsForKubernetes: func(ctx context.Context) error {
			_, err := cluster.List(ctx)
			return err
		},
		bfia.WaitsForStorage: func(ctx context.Context) error {
			_, err := blob.Open(ctx, "s3://"+away+"?username=u&password=password")
			return err
		},
		bfia.WaitsForDatabase: func(ctx context.Context) error {
			db, err := store.Open(ctx, "postgres://postgres@"+away+"/postgres?sslmode=disable")
			if err == nil {
				_, err = db.Tasks(ctx, jobID)
			}
			return err
		},
		bfia.WaitsForTemporal: func(ctx context.Context) error {
			_, err := temporal.DialContext(ctx, temporal.Options{HostPort: away,
				ConnectionOptions: temporal.ConnectionOptions{GetSystemInfoTimeout: time.Second}})
			return err
		},
		bfia.WaitsForRetry: func(context.Context) error { return errors.New("no such file") },
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			d := processDriver(t)
			h := newTestParty(t, storetest.SQLite(t), d, []string{"print", "the end"}, nil)
			h.claimTaskA()
			failure := fails(t.Context())
			require.Error(t, failure)
			r := h.newRunner(failingCreateDriver{testDriver: d, err: failure})
			for _, other := range []driver.Driver{engine, cluster} {
				r.Drivers[other.Device()] = other
			}
			own := *h
			own.runner = r
			_, err := own.env(t.Context()).ExecuteActivity("RunTask", h.partRequest("a"))
			require.ErrorContains(t, err, failure.Error())
			w := h.taskRow("a").Waiting
			require.NotNil(t, w)
			assert.Equal(t, kind, w.Kind, w.Message)
		})
	}
}

// A poll of a scheduler whose own database is away shows what a task waits for in the workflow, and writes it
// once the database answers.
func TestPollTaskShowsUnrecordedWaits(t *testing.T) {
	t.Parallel()
	server := storetest.StartServer(t, nil)
	front := relay.New(t, "127.0.0.1", "unix", server.Socket())
	db := storetest.Open(t, "postgres://postgres@"+front.Address()+"/postgres?sslmode=disable")
	task := store.ScheduleTask{TaskID: "task", JobID: jobID, Name: "a", State: bfia.TaskReady, Attempt: 1}
	require.NoError(t, db.CreateScheduleJob(t.Context(), store.ScheduleJob{JobID: jobID, FlowID: "flow",
		State: bfia.JobPending, CreatedAt: time.Now()}, []store.ScheduleTask{task}, []store.SchedulePart{
		{TaskID: "task", JobID: jobID, Role: "host", NodeID: "B", State: bfia.TaskReady}}))
	p := newPartner(t)
	c := newControlWorker(t, p)
	c.scheduler.Store = db
	shown := make(chan activities.PartWait, 1)
	c.scheduler.OnWait = func(_ context.Context, _ string, w activities.PartWait) error {
		front.Lead("unix", server.Socket())
		shown <- w
		return nil
	}
	var ends atomic.Bool
	p.answer = func(rw http.ResponseWriter, _, _ string) bool {
		result := bfia.PollResult{Status: bfia.TaskRunning, Waiting: &bfia.Waiting{Kind: bfia.WaitsForImage,
			NodeID: "B", Message: "tries again", Since: time.Now()}}
		if ends.Load() {
			result = bfia.PollResult{Status: bfia.TaskSuccess}
		}
		_ = json.NewEncoder(rw).Encode(map[string]any{"code": 0, "data": result})
		return true
	}
	front.Cut()
	polled := make(chan error, 1)
	go func() {
		_, err := pollOnce(t, c, scheduler.PollTaskInput{JobID: jobID, TaskID: "task", Nodes: []string{"B"},
			Every: 100 * time.Millisecond, GiveUpAfter: time.Minute})
		polled <- err
	}()
	select {
	case w := <-shown:
		assert.Equal(t, bfia.WaitsForImage, w.Waiting.Kind)
	case <-time.After(2 * time.Minute):
		t.Fatal("the workflow is not notified")
	}
	require.Eventually(t, func() bool {
		parts, err := db.ScheduleParts(t.Context(), jobID)
		return err == nil && parts[0].Waiting != nil && parts[0].Waiting.Kind == bfia.WaitsForImage
	}, time.Minute, 50*time.Millisecond)
	ends.Store(true)
	require.NoError(t, <-polled)
}
