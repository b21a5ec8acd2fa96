package main

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/assert"

	"hutong/bfia"
)

func TestJobPriority(t *testing.T) {
	p := newParty(t, map[string]http.HandlerFunc{"POST " + bfia.PathPlatformPriority: data(nil)})
	status, stdout, stderr := p.run(t, "job", "priority", "j1", "7")
	assert.Equal(t, exitOK, status, stderr)
	assert.Equal(t, "job j1 has priority 7\n", stdout)
	assert.JSONEq(t, `{"job_id":"j1","priority":7}`, string(p.requests()[0].body))
	for _, wrong := range []string{"10", "-1", "high"} {
		status, _, stderr = p.run(t, "job", "priority", "--", "j1", wrong)
		assert.NotEqual(t, exitOK, status)
		assert.Contains(t, stderr, "priority: ")
	}
	assert.Len(t, p.requests(), 1)
}

// TestWatchQueued checks that a queued job shows its position and the reason, and each change of them.
func TestWatchQueued(t *testing.T) {
	queued := func(position int, reason string) *bfia.JobStatus {
		status := twoTasks()
		status.State = bfia.JobReady
		status.Queued = &bfia.Queued{Position: position, Total: 3, Reason: reason, Since: at(2)}
		status.Waiting = []bfia.Waiting{status.Queued.Waiting("")}
		return status
	}
	p := newParty(t, map[string]http.HandlerFunc{"GET " + bfia.PathPlatformStatusAll: sequence(
		data(queued(2, "2 jobs run")),
		data(queued(1, "B: no free slot")),
		data(queued(1, "B: no free slot")),
		data(succeededJob()),
	)})
	_, stdout, _ := p.run(t, "job", "watch", "j")
	assert.Regexp(
		t,
		`(?s)READY: waits at position 2 of 3 in the queue, with priority 0: 2 jobs run\n`+
			`.*READY: waits at position 1 of 3 in the queue, with priority 0: B: no free slot\n`,
		stdout,
	)
	assert.Equal(t, "waits at position 2 of 3 in the queue, with priority 0: 2 jobs run, for 7.0s",
		waitLines(queued(2, "2 jobs run"), *at(9), view{width: 200})[0].render(view{width: 200}))
}
