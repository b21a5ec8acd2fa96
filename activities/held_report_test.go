package activities_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"hutong/activities"
	"hutong/activities/runner"
	"hutong/bfia"
	"hutong/store/blob"
	"hutong/store/storetest"
)

// reportingTask is a RunTask whose container runs until it is released.
type reportingTask struct {
	h       *testParty
	address string // of the database
	runner  *runner.Runner
	reports chan bfia.TaskReport // passed on to the job
	away    atomic.Bool          // the job can't be notified
	holdFor time.Duration
	ended   chan activities.PartResult
	failed  chan error
	stop    chan struct{} // of the worker
}

// newReportingTask runs task a, whose container exits with a code. Its reports are held for a time, 0 for the
// usual one.
func newReportingTask(t *testing.T, code string, hold time.Duration) *reportingTask {
	t.Helper()
	d := processDriver(t)
	address := storetest.SQLite(t)
	h := newTestParty(t, address, d,
		[]string{"append", "DATA/data_0", oneStart, "wait", "DATA/go", "exit", code}, nil)
	r := &reportingTask{h: h, address: address, reports: make(chan bfia.TaskReport, 10), holdFor: hold}
	h.onReport = func(_ context.Context, job string, report bfia.TaskReport) error {
		require.Equal(t, jobID, job)
		if r.away.Load() {
			return errors.New("Temporal does not answer")
		}
		r.reports <- report
		return nil
	}
	h.claimTaskA()
	r.start()
	h.waitForOutput()
	return r
}

// start starts a RunTask in a worker of its own.
func (r *reportingTask) start() {
	own := *r.h
	r.runner = r.h.newRunner(r.h.driver)
	r.runner.ReportHold = r.holdFor
	own.runner = r.runner
	r.ended, r.failed = make(chan activities.PartResult, 1), make(chan error, 1)
	r.stop = make(chan struct{})
	env := own.env(r.h.t.Context())
	env.SetWorkerStopChannel(r.stop)
	ended, failed := r.ended, r.failed
	go func() {
		value, err := env.ExecuteActivity("RunTask", r.h.partRequest("a"))
		own.runner.Wait(context.Background())
		var result activities.PartResult
		if err == nil {
			err = value.Get(&result)
		}
		if err != nil {
			failed <- err
			return
		}
		ended <- result
	}()
}

// exit lets the container exit, and returns the result of RunTask.
func (r *reportingTask) exit() activities.PartResult {
	r.h.t.Helper()
	folder, err := r.h.blobs.(*blob.File).Path("guest-A-dataset-d/" + bfia.TaskID(jobID, "a"))
	require.NoError(r.h.t, err)
	require.NoError(r.h.t, os.WriteFile(filepath.Join(folder, "go"), nil, 0o600))
	select {
	case result := <-r.ended:
		return result
	case err := <-r.failed:
		require.NoError(r.h.t, err)
	case <-time.After(time.Minute):
		require.Fail(r.h.t, "the task does not end")
	}
	return activities.PartResult{}
}

func (r *reportingTask) hold(state bfia.TaskState) bool {
	return r.runner.HoldReport(r.h.t.Context(), bfia.TaskID(jobID, "a"), guestA, state)
}

func (r *reportingTask) requireReport(state bfia.TaskState) {
	r.h.t.Helper()
	select {
	case report := <-r.reports:
		require.Equal(r.h.t, bfia.TaskReport{TaskID: bfia.TaskID(jobID, "a"), Role: "guest.0", Status: state},
			report)
	case <-time.After(time.Minute):
		require.Fail(r.h.t, "the report is not passed on")
	}
}

// TestHeldReport checks that the job is notified of the end that a container reports if it exits otherwise,
// and only then. A first report stays.
func TestHeldReport(t *testing.T) {
	for _, test := range []struct {
		name, code string
		reports    []bfia.TaskState
		passedOn   bfia.TaskState
	}{
		{"SUCCESS, then exit 0", "0", []bfia.TaskState{bfia.TaskSuccess}, ""},
		{"SUCCESS, FAILED, then exit 0", "0", []bfia.TaskState{bfia.TaskSuccess, bfia.TaskFailed}, ""},
		{"SUCCESS, then exit 3", "3", []bfia.TaskState{bfia.TaskSuccess}, bfia.TaskSuccess},
		{"FAILED, then exit 3", "3", []bfia.TaskState{bfia.TaskFailed}, ""},
		{"FAILED, then exit 0", "0", []bfia.TaskState{bfia.TaskFailed}, bfia.TaskFailed},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := newReportingTask(t, test.code, time.Hour)
			require.False(t, r.hold(bfia.TaskRunning), "only an end is held")
			for _, state := range test.reports {
				require.True(t, r.hold(state))
			}
			row := r.h.taskRow("a")
			require.Equal(t, test.reports[0], row.Reported(), "recorded before its container has an answer")
			result := r.exit()
			require.Equal(t, test.code == "0", result.Failure == nil)
			if test.passedOn != "" {
				r.requireReport(test.passedOn)
			}
			require.Empty(t, r.reports)
			require.False(t, r.hold(bfia.TaskSuccess), "nobody waits for the exit")
		})
	}
}

// TestHeldReportOfContainerThatStays checks that the job is notified of a reported end, once, although the
// container does not exit; and that this is tried again.
func TestHeldReportOfContainerThatStays(t *testing.T) {
	t.Parallel()
	r := newReportingTask(t, "0", 0)
	r.away.Store(true)
	require.True(t, r.hold(bfia.TaskSuccess))
	require.Never(t, func() bool { return len(r.reports) > 0 }, time.Second, 10*time.Millisecond)
	r.away.Store(false)
	r.requireReport(bfia.TaskSuccess)
	require.Nil(t, r.exit().Failure)
	require.Empty(t, r.reports, "once")
}

// TestHeldReportOutlivesItsWorker checks that the worker that takes over a container notifies the job of what
// the container has reported, if the one before could not; and that it holds no report of another attempt.
func TestHeldReportOutlivesItsWorker(t *testing.T) {
	for name, reported := range map[string]int{"of the attempt": 1, "of another attempt": 2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReportingTask(t, "3", time.Hour)
			r.away.Store(true)
			require.True(t, r.hold(bfia.TaskSuccess))
			if reported == 2 {
				_, err := storetest.Raw(t, r.address).ExecContext(t.Context(),
					"UPDATE t_task SET reported_task_id = 'another'")
				require.NoError(t, err)
			}
			close(r.stop)
			require.Error(t, <-r.failed)
			require.Empty(t, r.reports)
			r.away.Store(false)

			r.start()
			if reported == 1 {
				r.requireReport(bfia.TaskSuccess)
			}
			require.NotNil(t, r.exit().Failure)
			require.Empty(t, r.reports)
		})
	}
}
