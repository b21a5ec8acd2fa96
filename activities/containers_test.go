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

// cutRunner is a device whose worker dies at one step, once: nothing that would come after happens.
type cutRunner struct {
	device
	at   string // such as "before Start"
	once sync.Once
	die  func()
}

var errDied = errors.New("the worker died")

// cut panics, as near as a test comes to a killed worker, or does what die says.
func (c *cutRunner) cut(step string) {
	if step == c.at {
		c.once.Do(func() {
			if c.die == nil {
				panic(errDied)
			}
			c.die()
		})
	}
}

func (c *cutRunner) Create(ctx context.Context, s driver.Spec) (string, error) {
	c.cut("before Create")
	id, err := c.device.Create(ctx, s)
	c.cut("after Create")
	return id, err
}

func (c *cutRunner) Start(ctx context.Context, name string) error {
	c.cut("before Start")
	err := c.device.Start(ctx, name)
	c.cut("after Start")
	return err
}

func (c *cutRunner) Wait(ctx context.Context, name string) (driver.Exit, error) {
	if c.at == "in Wait" {
		c.cut("in Wait") // which goes on, as the run does
	}
	return c.device.Wait(ctx, name)
}

// Remove comes after the activity's end.
func (c *cutRunner) Remove(ctx context.Context, name string) error {
	if c.at == "before Remove" {
		return errDied
	}
	return c.device.Remove(ctx, name)
}

// run runs RunTask of task a on a worker of its own.
func (h *testParty) run(ctx context.Context, r driver.Driver, stop chan struct{}) (activities.PartResult, error) {
	return h.runOf(ctx, "a", r, stop)
}

func (h *testParty) runOf(ctx context.Context, task string, r driver.Driver, stop chan struct{}) (activities.PartResult, error) {
	own := *h
	own.runs = h.newRuns(r)
	env := own.env(ctx)
	if stop != nil {
		env.SetWorkerStopChannel(stop)
	}
	value, err := env.ExecuteActivity("RunTask", h.request(task))
	own.runs.Wait(context.WithoutCancel(ctx))
	var result activities.PartResult
	if err == nil {
		require.NoError(h.t, value.Get(&result))
	}
	return result, err
}

// waitUntilBegun waits for a run's first words.
func (h *testParty) waitUntilBegun() {
	require.Eventually(h.t, func() bool { return h.written("a") != "" }, time.Minute, 10*time.Millisecond)
}

const manyLines = 3000

func checkWholeLog(t *testing.T, log string) {
	t.Helper()
	assert.Equal(t, manyLines, strings.Count(log, "of many, to be seen in this order\n"))
	assert.True(t, strings.HasPrefix(log, "line 0 ") && strings.HasSuffix(log, "the end\n"))
}

// A worker may die at any step of a run: one that comes after it goes on, and it is as if nothing had happened.
func TestRunTaskGoesOn(t *testing.T) {
	for _, at := range []string{"before Create", "after Create", "before Start", "after Start", "in Wait", "before Remove"} {
		t.Run(at, func(t *testing.T) {
			eachDevice(t, func(t *testing.T, d device) {
				h := newTestParty(t, storetest.SQLite(t), d, []string{"append", "DATA/data_0", "one run\n", "lines", "3000", "sleep", "300ms", "print", "the end", "exit", "3"}, nil)
				h.begin()
				cut := &cutRunner{device: d, at: at}
				var stop chan struct{}
				if at == "in Wait" { // a worker that shuts down while it waits
					stop = make(chan struct{})
					cut.die = func() { close(stop) }
				}
				_, err := h.run(t.Context(), cut, stop)
				if at == "before Remove" {
					require.NoError(t, err, "it had ended before")
					runs, err := d.List(t.Context())
					require.NoError(t, err)
					require.Len(t, runs, 1)
				} else {
					require.Error(t, err)
				}

				r, err := h.run(t.Context(), d, nil)
				require.NoError(t, err)
				require.NotNil(t, r.Failure)
				assert.Equal(t, "task a failed at A (guest.0): exit code 3", r.Failure.String())
				assert.Equal(t, bfia.FailedExit, r.Failure.Kind)
				require.NotEmpty(t, r.Failure.Log)
				assert.Equal(t, "the end", r.Failure.Log[len(r.Failure.Log)-1], "the log's end explains it")
				assert.Equal(t, r.Failure, h.row("a").Failure)
				assert.Equal(t, "one run\n", h.written("a"))
				checkWholeLog(t, h.log("a"))
				row := h.row("a")
				require.NotNil(t, row.ExitCode)
				assert.Equal(t, 3, *row.ExitCode)

				again, err := h.run(t.Context(), d, nil)
				require.NoError(t, err)
				assert.Equal(t, r, again)
				assert.Equal(t, row, h.row("a"), "the exit is recorded once")
				assert.Equal(t, "one run\n", h.written("a"))
				runs, err := d.List(t.Context())
				require.NoError(t, err)
				assert.Empty(t, runs)
			})
		})
	}
}

// Two workers may watch one run, when the first is only believed dead.
func TestRunTaskAtTheSameTime(t *testing.T) {
	eachDevice(t, func(t *testing.T, d device) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"append", "DATA/data_0", "one run\n", "lines", "3000", "sleep", "1s", "print", "the end"}, nil)
		h.begin()
		var group sync.WaitGroup
		for range 3 {
			group.Go(func() {
				r, err := h.run(context.Background(), d, nil)
				assert.NoError(t, err)
				assert.Equal(t, activities.PartResult{}, r)
			})
		}
		group.Wait()
		assert.Equal(t, "one run\n", h.written("a"))
		checkWholeLog(t, h.log("a"))
		runs, err := d.List(t.Context())
		require.NoError(t, err)
		assert.Empty(t, runs)
	})
}

// A stop ends a run wherever its activity is, and leaves nothing behind.
func TestRunTaskStopped(t *testing.T) {
	for _, at := range []string{"before Create", "after Create", "before Start", "after Start", "in Wait"} {
		t.Run(at, func(t *testing.T) {
			eachDevice(t, func(t *testing.T, d device) {
				h := newTestParty(t, storetest.SQLite(t), d, []string{"append", "DATA/data_0", "one run\n", "forever"}, nil)
				h.begin()
				ctx, cancel := context.WithCancel(t.Context())
				cut := &cutRunner{device: d, at: at, die: func() {
					// As the workflow does: the mark first, then the cancellation; see PartyJob.
					assert.NoError(t, h.parts.RequestStop(context.Background(), participant.RequestStopInput{Key: h.key("a"), TaskID: bfia.TaskID(jobID, "a")}))
					cancel()
				}}
				r, err := h.run(ctx, cut, nil)
				if err == nil { // a worker that tells of the cancellation instead is as good
					assert.NotNil(t, r.Failure)
				}
				row := h.row("a")
				require.NotNil(t, row.ExitCode, "%v", err)
				assert.NotZero(t, *row.ExitCode)
				runs, err := d.List(t.Context())
				require.NoError(t, err)
				assert.Empty(t, runs)
			})
		})
	}
}

// An engine that hears no heartbeat in time begins another try, and cancels this one: that one leaves the run alone.
func TestRunTaskBelievedDead(t *testing.T) {
	eachDevice(t, func(t *testing.T, d device) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"append", "DATA/data_0", "one run\n", "lines", "3000", "sleep", "1s", "print", "the end"}, nil)
		h.begin()
		ctx, cancel := context.WithCancelCause(t.Context())
		_, err := h.run(ctx, &cutRunner{device: d, at: "in Wait", die: func() { cancel(errors.New("this try has timed out")) }}, nil)
		require.ErrorContains(t, err, "another try watches")
		r, err := h.run(t.Context(), d, nil)
		require.NoError(t, err)
		assert.Equal(t, activities.PartResult{}, r)
		assert.Equal(t, "one run\n", h.written("a"))
		checkWholeLog(t, h.log("a"))
	})
}

// A try that was only believed dead sees the run's end first, and removes it: the one that took over tells the same.
func TestRunTaskEndedByAnotherTry(t *testing.T) {
	eachDevice(t, func(t *testing.T, d device) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"append", "DATA/data_0", "one run\n"}, nil)
		h.begin()
		r, err := h.run(t.Context(), &cutRunner{device: d, at: "in Wait", die: func() {
			first, err := h.run(context.Background(), d, nil)
			assert.NoError(t, err)
			assert.Equal(t, activities.PartResult{}, first)
		}}, nil)
		require.NoError(t, err)
		assert.Equal(t, activities.PartResult{}, r)
		assert.Equal(t, "one run\n", h.written("a"))
	})
}

// A run that was asked to stop before it began does not begin, nor does one whose creation nobody recorded.
func TestRunTaskStoppedBeforeItBegan(t *testing.T) {
	eachDevice(t, func(t *testing.T, d device) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"append", "DATA/data_0", "one run\n"}, nil)
		h.begin()
		_, err := h.run(t.Context(), &cutRunner{device: d, at: "after Create"}, nil)
		require.Error(t, err)
		runs, err := d.List(t.Context())
		require.NoError(t, err)
		require.Len(t, runs, 1)
		require.NoError(t, h.parts.RequestStop(t.Context(), participant.RequestStopInput{Key: h.key("a"), TaskID: bfia.TaskID(jobID, "a")}))
		r, err := h.run(t.Context(), d, nil)
		require.NoError(t, err)
		require.NotNil(t, r.Failure)
		assert.Equal(t, bfia.FailedStopped, r.Failure.Kind)
		assert.Empty(t, h.written("a"))
		runs, err = d.List(t.Context())
		require.NoError(t, err)
		assert.Empty(t, runs)
	})
}

// What can't be cured by another try is the task's failure, at once and in words.
func TestRunTaskThatCannotBegin(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(h *testParty)
		words string
		kinds []bfia.FailureKind
	}{
		{"no provider for a device of this host", func(h *testParty) {
			_, err := h.db.DeleteProvider(h.t.Context(), store.ProviderFilter{Name: "vendor-a"})
			require.NoError(h.t, err)
			_, err = h.db.PutProvider(h.t.Context(), store.Provider{Name: "vendor-a", Version: "1", Device: "spark", Metadata: []byte("{}"),
				Components: map[string]json.RawMessage{"C": component("vendor-a")}})
			require.NoError(h.t, err)
		}, "is registered for no device of this host", []bfia.FailureKind{bfia.FailedInput}},
		{"a program that is not allowed or not there", func(h *testParty) {
			_, err := h.db.PutProvider(h.t.Context(), store.Provider{Name: "vendor-a", Version: "1", Device: h.device.Device(),
				Metadata: []byte(`{"image":"no-such-image:1","command":["/not/there"]}`), Components: map[string]json.RawMessage{"C": component("vendor-a")}})
			require.NoError(h.t, err)
		}, "failed to create container hutong-", []bfia.FailureKind{bfia.FailedImage, bfia.FailedStart}},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachDevice(t, func(t *testing.T, d device) {
				h := newTestParty(t, storetest.SQLite(t), d, []string{"exit", "0"}, nil)
				h.begin()
				c.spoil(h)
				r, err := h.run(t.Context(), d, nil)
				require.NoError(t, err)
				require.NotNil(t, r.Failure)
				assert.Contains(t, r.Failure.Text(), c.words)
				assert.Contains(t, c.kinds, r.Failure.Kind)
			})
		})
	}
}

// A run that someone removed has failed, and is not begun anew.
func TestRunTaskRemovedBySomeone(t *testing.T) {
	eachDevice(t, func(t *testing.T, d device) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"append", "DATA/data_0", "one run\n", "forever"}, nil)
		h.begin()
		_, err := h.run(t.Context(), &cutRunner{device: d, at: "after Start"}, nil)
		require.Error(t, err)
		h.waitUntilBegun()
		require.NoError(t, d.Remove(t.Context(), h.runName("a")))
		r, err := h.run(t.Context(), d, nil)
		require.NoError(t, err)
		require.NotNil(t, r.Failure)
		assert.Equal(t, bfia.FailedVanished, r.Failure.Kind)
		assert.Contains(t, r.Failure.Text(), "removed by someone else")
		assert.Equal(t, "one run\n", h.written("a"))
	})
}

// StopTask sees to the end of what runs, and doesn't mind what isn't there.
func TestStopTask(t *testing.T) {
	eachDevice(t, func(t *testing.T, d device) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"ignoreterm", "append", "DATA/data_0", "one run\n", "forever"}, nil)
		h.begin()
		stop := func() {
			_, err := h.env(t.Context()).ExecuteActivity("StopTask", runner.StopTaskInput{PartRequest: h.request("a"), Grace: 200 * time.Millisecond})
			require.NoError(t, err)
		}
		stop()
		ended := make(chan activities.PartResult, 1)
		go func() {
			r, err := h.run(context.Background(), d, nil)
			assert.NoError(t, err)
			ended <- r
		}()
		h.waitUntilBegun()
		stop()
		r := <-ended
		require.NotNil(t, r.Failure)
		assert.Equal(t, 137, r.Failure.ExitCode)
		stop()
	})
}

// A container that can't be started, though it could be made, is a failure of its task, and leaves nothing.
func TestRunTaskCannotStart(t *testing.T) {
	eachDevice(t, func(t *testing.T, d device) {
		if d.Device() != "docker" {
			t.Skip("a process needs nothing of its mounts to start")
		}
		h := newTestParty(t, storetest.SQLite(t), d, []string{"print", "the end"}, nil)
		h.begin()
		folder, err := h.blobs.(*blob.File).Path("guest-A-dataset-d/" + bfia.TaskID(jobID, "a"))
		require.NoError(t, err)
		r, err := h.run(t.Context(), &cutRunner{device: d, at: "before Start", die: func() { assert.NoError(t, os.RemoveAll(folder)) }}, nil)
		require.NoError(t, err)
		require.NotNil(t, r.Failure)
		assert.Equal(t, bfia.FailedStart, r.Failure.Kind)
		assert.Contains(t, r.Failure.Text(), "does not exist")
		runs, err := d.List(t.Context())
		require.NoError(t, err)
		assert.Empty(t, runs)
	})
}

// A container that had to be removed before it started, its network being gone, is created again.
func TestRunTaskCreatesAgain(t *testing.T) {
	eachDevice(t, func(t *testing.T, d device) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"append", "DATA/data_0", "one run\n"}, nil)
		h.begin()
		_, err := h.run(t.Context(), &startRunner{device: d, fails: func(ctx context.Context, name string) error {
			return errors.Join(driver.ErrCreateAgain, d.Remove(ctx, name))
		}}, nil)
		require.ErrorContains(t, err, "to be created again")
		r, err := h.run(t.Context(), d, nil)
		require.NoError(t, err)
		require.Nil(t, r.Failure)
		assert.Equal(t, "one run\n", h.written("a"))
	})
}

// startRunner can't start.
type startRunner struct {
	device
	fails func(ctx context.Context, name string) error
}

func (s *startRunner) Start(ctx context.Context, name string) error { return s.fails(ctx, name) }

// A task whose upstream wrote nothing begins without that input: the folder that is there for it is about to go.
func TestRunTaskWithoutInput(t *testing.T) {
	eachDevice(t, func(t *testing.T, d device) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"print", "the end"}, []string{"print", "the end"})
		h.begin()
		folder, err := h.blobs.(*blob.File).Path("guest-A-dataset-d/" + bfia.TaskID(jobID, "a"))
		require.NoError(t, err)
		require.NoError(t, os.MkdirAll(folder, 0o755))
		_, err = h.parts.ClaimTask(t.Context(), participant.ClaimTaskInput{Task: h.ref("b"), Parts: []bfia.Part{guestA}, At: time.Now()})
		require.NoError(t, err)
		var sources []string
		_, err = h.runOf(t.Context(), "b", &specRunner{device: d, seen: func(s driver.Spec) {
			for _, m := range s.Mounts {
				sources = append(sources, m.Source)
			}
		}}, nil)
		require.NoError(t, err)
		assert.NotContains(t, sources, folder)
	})
}

// specRunner sees what is created.
type specRunner struct {
	device
	seen func(driver.Spec)
}

func (s *specRunner) Create(ctx context.Context, spec driver.Spec) (string, error) {
	s.seen(spec)
	return s.device.Create(ctx, spec)
}

// Parts without outputs leave no folder for them.
func TestRunTaskTidiesOutputs(t *testing.T) {
	eachDevice(t, func(t *testing.T, d device) {
		h := newTestParty(t, storetest.SQLite(t), d, []string{"print", "the end"}, nil)
		h.begin()
		_, err := h.run(t.Context(), d, nil)
		require.NoError(t, err)
		require.NoError(t, h.parts.RecordTaskEnd(t.Context(), participant.RecordTaskEndInput{Key: h.key("a"), Part: guestA, TaskID: bfia.TaskID(jobID, "a"), State: bfia.TaskSuccess, At: time.Now()}))
		outputs, err := h.db.Outputs(t.Context(), jobID)
		require.NoError(t, err)
		assert.Empty(t, outputs)
	})
}
