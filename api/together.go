package api

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"hutong/bfia"
	"hutong/store"
)

// reportWait is how long the report of a part that has succeeded waits for those of the task's other parts.
// Nothing follows from it before they have reported too. The parts of a task mostly end within a moment, and
// reports that reach the job's workflow together cost it one workflow task.
const reportWait = 250 * time.Millisecond

// reportsTogether lets the reports of a task's parts reach their job together. The zero value is ready to
// use. A report is only answered once it has reached the job.
type reportsTogether struct {
	limit time.Duration // 0: reportWait
	mu    sync.Mutex
	tasks map[string]*heldReports // by the task's id
}

// heldReports are the reports of one task that wait.
type heldReports struct {
	parts []string
	sent  chan struct{} // closed when they wait no longer
}

// await waits until the other parts of a task have reported as well, or for reportWait. own are the parts
// that a report is about, and running those that have not ended, as far as the rows say. A report of a
// failure does not wait, and ends the wait of the others.
func (r *reportsTogether) await(ctx context.Context, taskID string, state bfia.TaskState,
	own, running []string) {
	held := r.join(taskID, own)
	missing := func(part string) bool { return !slices.Contains(held.parts, part) }
	r.mu.Lock()
	all := state != bfia.TaskSuccess || !slices.ContainsFunc(running, missing)
	r.mu.Unlock()
	if !all {
		timer := time.NewTimer(cmp.Or(r.limit, reportWait))
		defer timer.Stop()
		select {
		case <-held.sent:
			return
		case <-ctx.Done():
		case <-timer.C:
		}
	}
	r.send(taskID, held)
}

// join adds a report to those of its task that wait.
func (r *reportsTogether) join(taskID string, own []string) *heldReports {
	r.mu.Lock()
	defer r.mu.Unlock()
	held := r.tasks[taskID]
	if held == nil {
		held = &heldReports{sent: make(chan struct{})}
		if r.tasks == nil {
			r.tasks = map[string]*heldReports{}
		}
		r.tasks[taskID] = held
	}
	held.parts = append(held.parts, own...)
	return held
}

// send ends the wait of the reports of a task.
func (r *reportsTogether) send(taskID string, held *heldReports) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.tasks[taskID] == held {
		delete(r.tasks, taskID)
		close(held.sent)
	}
}

// awaitOthers lets the report of a part reach its job together with those of the task's other parts.
func (s *Server) awaitOthers(ctx context.Context, taskID string, state bfia.TaskState,
	parts []store.SchedulePart, changes func(store.SchedulePart) bool) {
	var own, running []string
	for _, p := range parts {
		self := bfia.Part{Role: p.Role, Index: p.RoleIndex}.Self()
		if p.TaskID == taskID && !p.State.Terminal() {
			running = append(running, self)
		}
		if changes(p) {
			own = append(own, self)
		}
	}
	s.together.await(ctx, taskID, state, own, running)
}
