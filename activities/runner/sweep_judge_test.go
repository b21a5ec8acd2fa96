package runner

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"hutong/activities/driver"
	"hutong/bfia"
	"hutong/store"
)

func TestJudge(t *testing.T) {
	now := time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	before := func(d time.Duration) *time.Time { at := now.Add(-d); return &at }
	code := 0
	running := store.Task{State: bfia.TaskRunning, Attempt: 2, RunnerID: "here", ContainerID: "id"}
	with := func(change func(*store.Task)) *store.Task {
		row := running
		change(&row)
		return &row
	}
	for _, c := range []struct {
		name    string
		row     *store.Task
		attempt int
		watched bool
		want    verdict
		reason  string
	}{
		{"watched", with(func(*store.Task) {}), 2, true, keepContainer,
			"a RunTask of this worker watches it"},
		{"watched, of an earlier attempt: its RunTask ends it", with(func(*store.Task) {}), 1, true,
			keepContainer,
			"a RunTask of this worker watches it"},
		{"the worker has just restarted", with(func(*store.Task) {}), 2, false, askTemporal,
			"no worker watches it"},
		{"unknown", nil, 2, false, askTemporal, "its task is unknown at this party"},
		{"being created", with(func(r *store.Task) { r.ContainerID, r.RunnerID = "", "" }), 2, false,
			askTemporal, "not recorded"},
		{"being created, claimed for this runner", with(func(r *store.Task) { r.ContainerID = "" }), 2, false,
			askTemporal, "not recorded"},
		{"being created here, while another runner was claimed",
			with(func(r *store.Task) {
				r.ContainerID, r.RunnerID = "", "there"
			}), 2, false, askTemporal, "not recorded"},
		{"earlier attempt", with(func(*store.Task) {}), 1, false, removeContainer,
			"attempt 2 superseded its attempt 1"},
		{"earlier attempt, the later one not yet started", with(func(r *store.Task) { r.ContainerID = "" }),
			1, false, removeContainer, "attempt 2"},
		{"without an attempt", with(func(*store.Task) {}), 0, false, removeContainer,
			"attempt 2 superseded its attempt 0"},
		{"later attempt than the recorded one", with(func(*store.Task) {}), 3, false, askTemporal,
			"the task is at attempt 2, but this is attempt 3"},
		{"other runner", with(func(r *store.Task) { r.RunnerID = "there" }), 2, false, removeContainer,
			"the task runs on runner there"},
		{"exit to be read", with(func(r *store.Task) { r.State = bfia.TaskSuccess }), 2, false, askTemporal,
			"exit is not recorded"},
		{"stopped, exit to be read", with(func(r *store.Task) {
			r.State, r.StopRequested = bfia.TaskFailed, true
		}), 2, false, askTemporal, "exit is not recorded"},
		{"exit just recorded", with(func(r *store.Task) {
			r.ExitCode, r.ExitedAt = &code, before(time.Second)
		}), 2, false, keepContainer, "its exit was recorded a moment ago"},
		{"exit recorded", with(func(r *store.Task) { r.ExitCode, r.ExitedAt = &code, before(sweepGrace) }), 2,
			false, removeContainer, "exit is recorded"},
		{"ended, exit recorded", with(func(r *store.Task) {
			r.State, r.ExitCode, r.ExitedAt = bfia.TaskFailed, &code, before(time.Hour)
		}), 2, false, removeContainer, "exit is recorded"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := foundContainer{container: driver.Container{Name: "run"}, attempt: c.attempt, row: c.row,
				runnerID: "here", watched: c.watched, now: now}
			got, reason := f.judge()
			assert.Equal(t, c.want, got, reason)
			assert.Contains(t, reason, c.reason)
		})
	}
}

func TestNameSet(t *testing.T) {
	var s nameSet
	first, second := s.hold("a"), s.hold("a")
	assert.True(t, s.has("a"))
	assert.False(t, s.has("b"))
	first()
	assert.True(t, s.has("a"), "two attempts of one container may overlap")
	second()
	assert.False(t, s.has("a"))
	assert.Empty(t, s.names)
}
