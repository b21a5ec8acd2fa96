package activities_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"hutong/activities"
	"hutong/activities/driver"
	"hutong/activities/participant"
	"hutong/activities/runner"
	"hutong/bfia"
	"hutong/store"
	"hutong/store/blob"
	"hutong/store/storetest"
)

// runTaskA executes RunTask of task a on a worker of its own.
func (h *testParty) runTaskA(ctx context.Context, r driver.Driver, stop chan struct{}) (activities.PartResult,
	error) {
	return h.runTask(ctx, "a", r, stop)
}

func (h *testParty) runTask(ctx context.Context, task string, r driver.Driver,
	stop chan struct{}) (activities.PartResult, error) {
	own := *h
	own.runner = h.newRunner(r)
	env := own.env(ctx)
	if stop != nil {
		env.SetWorkerStopChannel(stop)
	}
	value, err := env.ExecuteActivity("RunTask", h.partRequest(task))
	own.runner.Wait(context.WithoutCancel(ctx))
	var result activities.PartResult
	if err == nil {
		require.NoError(h.t, value.Get(&result))
	}
	return result, err
}

// waitForOutput waits until the container of task a has written its first output.
func (h *testParty) waitForOutput() {
	require.Eventually(h.t, func() bool { return h.readOutput("a") != "" }, time.Minute, 10*time.Millisecond)
}

const manyLines = 3000

func checkWholeLog(t *testing.T, log string) {
	t.Helper()
	assert.Equal(t, manyLines, strings.Count(log, "of many, to be seen in this order\n"))
	assert.True(t, strings.HasPrefix(log, "line 0 ") && strings.HasSuffix(log, "the end\n"))
}

// A worker may crash at any step of RunTask. The next worker resumes the task with the same result as without
// the crash.
func TestRunTaskResumesAfterCrash(t *testing.T) {
	for _, at := range []string{"before Create", "after Create", "before Start", "after Start", "in Wait",
		"before Remove"} {
		t.Run(at, func(t *testing.T) {
			eachDriver(t, func(t *testing.T, d testDriver) {
				h := newTestParty(t, storetest.SQLite(t), d,
					[]string{"append", "DATA/data_0", oneStart, "lines", "3000", "sleep", "300ms", "print",
						"the end", "exit", "3"}, nil)
				h.claimTaskA()
				crashing := &crashingDriver{testDriver: d, at: at}
				var stop chan struct{}
				if at == "in Wait" { // the worker shuts down while it waits
					stop = make(chan struct{})
					crashing.onCrash = func() { close(stop) }
				}
				_, err := h.runTaskA(t.Context(), crashing, stop)
				if at == "before Remove" {
					require.NoError(t, err, "the container had already ended")
					containers, err := d.List(t.Context())
					require.NoError(t, err)
					require.Len(t, containers, 1)
				} else {
					require.Error(t, err)
				}

				r, err := h.runTaskA(t.Context(), d, nil)
				require.NoError(t, err)
				require.NotNil(t, r.Failure)
				assert.Equal(t, "task a failed at A (guest.0): exit code 3", r.Failure.String())
				assert.Equal(t, bfia.FailedExit, r.Failure.Kind)
				require.NotEmpty(t, r.Failure.Log)
				assert.Equal(t, "the end", r.Failure.Log[len(r.Failure.Log)-1],
					"the failure holds the end of the log")
				assert.Equal(t, r.Failure, h.taskRow("a").Failure)
				assert.Equal(t, oneStart, h.readOutput("a"))
				checkWholeLog(t, h.readLog("a"))
				row := h.taskRow("a")
				require.NotNil(t, row.ExitCode)
				assert.Equal(t, 3, *row.ExitCode)

				again, err := h.runTaskA(t.Context(), d, nil)
				require.NoError(t, err)
				assert.Equal(t, r, again)
				assert.Equal(t, row, h.taskRow("a"), "the exit is recorded once")
				assert.Equal(t, oneStart, h.readOutput("a"))
				containers, err := d.List(t.Context())
				require.NoError(t, err)
				assert.Empty(t, containers)
			})
		})
	}
}

// Several workers may watch one container if Temporal wrongly considers one of them dead.
func TestRunTaskConcurrently(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		h := newTestParty(t, storetest.SQLite(t), d,
			[]string{"append", "DATA/data_0", oneStart, "lines", "3000", "sleep", "1s", "print",
				"the end"}, nil)
		h.claimTaskA()
		var group sync.WaitGroup
		for range 3 {
			group.Go(func() {
				r, err := h.runTaskA(context.Background(), d, nil)
				assert.NoError(t, err)
				assert.Equal(t, activities.PartResult{}, r)
			})
		}
		group.Wait()
		assert.Equal(t, oneStart, h.readOutput("a"))
		checkWholeLog(t, h.readLog("a"))
		containers, err := d.List(t.Context())
		require.NoError(t, err)
		assert.Empty(t, containers)
	})
}

// A stop ends the container at any step of its activity, and leaves nothing behind.
func TestRunTaskStopped(t *testing.T) {
	for _, at := range []string{"before Create", "after Create", "before Start", "after Start", "in Wait"} {
		t.Run(at, func(t *testing.T) {
			eachDriver(t, func(t *testing.T, d testDriver) {
				h := newTestParty(t, storetest.SQLite(t), d,
					[]string{"append", "DATA/data_0", oneStart, "forever"}, nil)
				h.claimTaskA()
				ctx, cancel := context.WithCancel(t.Context())
				crashing := &crashingDriver{testDriver: d, at: at, onCrash: func() {
					// As the workflow PartyJob does: first the stop request in the row, then the
					// cancellation.
					assert.NoError(t, h.participant.RequestStop(context.Background(),
						participant.RequestStopInput{Key: h.taskKey("a"), TaskID: bfia.TaskID(jobID, "a")}))
					cancel()
				}}
				r, err := h.runTaskA(ctx, crashing, nil)
				if err == nil { // the worker may also report the cancellation
					assert.NotNil(t, r.Failure)
				}
				row := h.taskRow("a")
				require.NotNil(t, row.ExitCode, "%v", err)
				assert.NotZero(t, *row.ExitCode)
				containers, err := d.List(t.Context())
				require.NoError(t, err)
				assert.Empty(t, containers)
			})
		})
	}
}

// After a missed heartbeat Temporal retries the activity and cancels this attempt.
// The cancelled attempt must not stop the container.
func TestRunTaskAfterHeartbeatTimeout(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		h := newTestParty(t, storetest.SQLite(t), d,
			[]string{"append", "DATA/data_0", oneStart, "lines", "3000", "sleep", "1s", "print",
				"the end"}, nil)
		h.claimTaskA()
		ctx, cancel := context.WithCancelCause(t.Context())
		_, err := h.runTaskA(ctx, &crashingDriver{testDriver: d, at: "in Wait",
			onCrash: func() { cancel(errors.New("this attempt has timed out")) }}, nil)
		require.ErrorContains(t, err, "another attempt of the activity watches")
		r, err := h.runTaskA(t.Context(), d, nil)
		require.NoError(t, err)
		assert.Equal(t, activities.PartResult{}, r)
		assert.Equal(t, oneStart, h.readOutput("a"))
		checkWholeLog(t, h.readLog("a"))
	})
}

// Temporal may cancel a RunTask between two attempts: the first one's heartbeats were late, and the next one
// has not begun. Then only StopTask is left to record the end and to remove the container.
func TestStopTaskWithoutRunTask(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		h := newTestParty(t, storetest.SQLite(t), d,
			[]string{"append", "DATA/data_0", oneStart, "print", "the end", "forever"}, nil)
		h.claimTaskA()
		ctx, cancel := context.WithCancelCause(t.Context())
		_, err := h.runTaskA(ctx, &crashingDriver{testDriver: d, at: "in Wait", onCrash: func() {
			h.waitForOutput()
			cancel(errors.New("this attempt has timed out"))
		}}, nil)
		require.ErrorContains(t, err, "another attempt of the activity watches")
		require.NoError(t, h.participant.RequestStop(t.Context(),
			participant.RequestStopInput{Key: h.taskKey("a"), TaskID: bfia.TaskID(jobID, "a")}))

		own := *h
		own.runner = h.newRunner(d)
		for range 2 { // Temporal may run it again
			_, err = own.env(t.Context()).ExecuteActivity("StopTask",
				runner.StopTaskInput{PartRequest: h.partRequest("a"), Grace: time.Second})
			require.NoError(t, err)
			own.runner.Wait(t.Context())
			require.NotNil(t, h.taskRow("a").ExitCode, "the exit is recorded")
			assert.NotZero(t, *h.taskRow("a").ExitCode)
			containers, err := d.List(t.Context())
			require.NoError(t, err)
			assert.Empty(t, containers, "nothing is left")
		}
		assert.Contains(t, h.readLog("a"), "the end")
	})
}

// An attempt that timed out may still see the container's end first, and remove the container.
// The retry returns the same result.
func TestRunTaskEndedByOtherAttempt(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"append", "DATA/data_0", oneStart}, nil)
		h.claimTaskA()
		r, err := h.runTaskA(t.Context(), &crashingDriver{testDriver: d, at: "in Wait", onCrash: func() {
			first, err := h.runTaskA(context.Background(), d, nil)
			assert.NoError(t, err)
			assert.Equal(t, activities.PartResult{}, first)
		}}, nil)
		require.NoError(t, err)
		assert.Equal(t, activities.PartResult{}, r)
		assert.Equal(t, oneStart, h.readOutput("a"))
	})
}

// A container whose stop was requested before its start is not started, also if its creation was not
// recorded.
func TestRunTaskStoppedBeforeStart(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"append", "DATA/data_0", oneStart}, nil)
		h.claimTaskA()
		_, err := h.runTaskA(t.Context(), &crashingDriver{testDriver: d, at: "after Create"}, nil)
		require.Error(t, err)
		containers, err := d.List(t.Context())
		require.NoError(t, err)
		require.Len(t, containers, 1)
		require.NoError(t, h.participant.RequestStop(t.Context(),
			participant.RequestStopInput{Key: h.taskKey("a"), TaskID: bfia.TaskID(jobID, "a")}))
		r, err := h.runTaskA(t.Context(), d, nil)
		require.NoError(t, err)
		require.NotNil(t, r.Failure)
		assert.Equal(t, bfia.FailedStopped, r.Failure.Kind)
		assert.Empty(t, h.readOutput("a"))
		containers, err = d.List(t.Context())
		require.NoError(t, err)
		assert.Empty(t, containers)
	})
}

// A non-retryable error fails the task at once, with a message.
func TestRunTaskWithUnusableProvider(t *testing.T) {
	for _, c := range []struct {
		name    string
		spoil   func(h *testParty)
		message string
		kinds   []bfia.FailureKind
	}{
		{"no provider for a driver of this runner", func(h *testParty) {
			_, err := h.db.DeleteProvider(h.t.Context(), store.ProviderFilter{Name: "vendor-a"}, true)
			require.NoError(h.t, err)
			_, err = h.db.PutProvider(h.t.Context(),
				store.Provider{Name: "vendor-a", Version: "1", Device: "spark", Metadata: []byte("{}"),
					Components: map[string]json.RawMessage{"C": component("vendor-a")}})
			require.NoError(h.t, err)
			h.recordAgain()
		}, "had component C for no device of this runner", []bfia.FailureKind{bfia.FailedInput}},
		{"a program that is not allowed or does not exist", func(h *testParty) {
			_, err := h.db.PutProvider(h.t.Context(),
				store.Provider{Name: "vendor-a", Version: "1", Device: h.driver.Device(),
					Metadata:   []byte(`{"image":"no-such-image:1","command":["/not/there"]}`),
					Components: map[string]json.RawMessage{"C": component("vendor-a")}})
			require.NoError(h.t, err)
			h.recordAgain()
		}, "failed to create container hutong-", []bfia.FailureKind{bfia.FailedImage, bfia.FailedStart}},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachDriver(t, func(t *testing.T, d testDriver) {
				h := newTestParty(t, storetest.SQLite(t), d, []string{"exit", "0"}, nil)
				h.claimTaskA()
				c.spoil(h)
				r, err := h.runTaskA(t.Context(), d, nil)
				require.NoError(t, err)
				require.NotNil(t, r.Failure)
				assert.Contains(t, r.Failure.Text(), c.message)
				assert.Contains(t, c.kinds, r.Failure.Kind)
			})
		})
	}
}

// A task whose container was removed by someone else fails, and is not started again.
func TestRunTaskContainerRemoved(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"append", "DATA/data_0", oneStart, "forever"},
			nil)
		h.claimTaskA()
		_, err := h.runTaskA(t.Context(), &crashingDriver{testDriver: d, at: "after Start"}, nil)
		require.Error(t, err)
		h.waitForOutput()
		require.NoError(t, d.Remove(t.Context(), h.containerName("a")))
		r, err := h.runTaskA(t.Context(), d, nil)
		require.NoError(t, err)
		require.NotNil(t, r.Failure)
		assert.Equal(t, bfia.FailedVanished, r.Failure.Kind)
		assert.Contains(t, r.Failure.Text(), "removed by someone else")
		assert.Equal(t, oneStart, h.readOutput("a"))
	})
}

// StopTask stops a running container, and succeeds if there is none.
func TestStopTask(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		h := newTestParty(t, storetest.SQLite(t), d,
			[]string{"ignoreterm", "append", "DATA/data_0", oneStart, "forever"}, nil)
		h.claimTaskA()
		stop := func() {
			_, err := h.env(t.Context()).ExecuteActivity("StopTask",
				runner.StopTaskInput{PartRequest: h.partRequest("a"), Grace: 200 * time.Millisecond})
			require.NoError(t, err)
		}
		stop()
		ended := make(chan activities.PartResult, 1)
		go func() {
			r, err := h.runTaskA(context.Background(), d, nil)
			assert.NoError(t, err)
			ended <- r
		}()
		h.waitForOutput()
		stop()
		r := <-ended
		require.NotNil(t, r.Failure)
		assert.Equal(t, 137, r.Failure.ExitCode)
		stop()
	})
}

// A container that was created and cannot be started fails its task, and is removed.
func TestRunTaskContainerCannotStart(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		if d.Device() != "docker" {
			t.Skip("a process starts without its mounts")
		}
		h := newTestParty(t, storetest.SQLite(t), d, []string{"print", "the end"}, nil)
		h.claimTaskA()
		folder, err := h.blobs.(*blob.File).Path("guest-A-dataset-d/" + bfia.TaskID(jobID, "a"))
		require.NoError(t, err)
		r, err := h.runTaskA(t.Context(), &crashingDriver{testDriver: d, at: "before Start",
			onCrash: func() { assert.NoError(t, os.RemoveAll(folder)) }}, nil)
		require.NoError(t, err)
		require.NotNil(t, r.Failure)
		assert.Equal(t, bfia.FailedStart, r.Failure.Kind)
		assert.Contains(t, r.Failure.Text(), "does not exist")
		containers, err := d.List(t.Context())
		require.NoError(t, err)
		assert.Empty(t, containers)
	})
}

// A container that was removed before its start, because its network was gone, is created again.
func TestRunTaskCreatesAgain(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"append", "DATA/data_0", oneStart}, nil)
		h.claimTaskA()
		_, err := h.runTaskA(t.Context(), &failingStartDriver{testDriver: d,
			fails: func(ctx context.Context, name string) error {
				return errors.Join(driver.ErrCreateAgain, d.Remove(ctx, name))
			}}, nil)
		require.ErrorContains(t, err, "to be created again")
		r, err := h.runTaskA(t.Context(), d, nil)
		require.NoError(t, err)
		require.Nil(t, r.Failure)
		assert.Equal(t, oneStart, h.readOutput("a"))
	})
}

// A task whose upstream task wrote nothing starts without that input.
// The empty folder of that input is not mounted, since it is about to be removed.
func TestRunTaskWithoutInput(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"print", "the end"},
			[]string{"print", "the end"})
		h.claimTaskA()
		folder, err := h.blobs.(*blob.File).Path("guest-A-dataset-d/" + bfia.TaskID(jobID, "a"))
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(folder, 0o755))
		_, err = h.participant.ClaimTask(t.Context(),
			participant.ClaimTaskInput{Task: h.taskRef("b"), Parts: []bfia.Part{guestA}, At: time.Now()})
		require.NoError(t, err)
		var sources []string
		_, err = h.runTask(t.Context(), "b", &specObserver{testDriver: d, seen: func(s driver.Spec) {
			for _, m := range s.Mounts {
				sources = append(sources, m.Source)
			}
		}}, nil)
		require.NoError(t, err)
		assert.NotContains(t, sources, folder)
	})
}

// A part without outputs leaves no output folder behind.
func TestRunTaskRemovesEmptyOutputFolders(t *testing.T) {
	eachDriver(t, func(t *testing.T, d testDriver) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"print", "the end"}, nil)
		h.claimTaskA()
		_, err := h.runTaskA(t.Context(), d, nil)
		require.NoError(t, err)
		require.NoError(t, h.participant.RecordTaskEnd(t.Context(),
			participant.RecordTaskEndInput{Key: h.taskKey("a"), Part: guestA, TaskID: bfia.TaskID(jobID, "a"),
				State: bfia.TaskSuccess, At: time.Now()}))
		outputs, err := h.db.Outputs(t.Context(), jobID)
		require.NoError(t, err)
		assert.Empty(t, outputs)
	})
}
