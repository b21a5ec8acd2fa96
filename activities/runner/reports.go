package runner

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"hutong/bfia"
)

const (
	// reportHold is how long the end that a container reports waits for the container's exit. Most containers
	// exit at once. Then the exit alone ends the part, which saves its workflow a workflow task. A part whose
	// container stays ends without it.
	reportHold = 500 * time.Millisecond
	// reportRetry is the pause before a held report is passed on again.
	reportRetry = time.Second
)

// heldReports finds the RunTask that holds the report of a part.
type heldReports struct {
	mu    sync.Mutex
	tasks map[heldKey]*heldReport
}

// heldKey names an attempt of a part.
type heldKey struct{ taskID, part string }

// heldReport is the end that the container of a RunTask has reported. It is recorded before the container has
// its answer. It is passed on to the job's workflow, unless the container exits first, and as it reported.
type heldReport struct {
	task     *taskRun
	incoming chan takenReport
	exited   chan struct{} // closed before settle
	served   chan struct{} // closed once serve has returned

	// Of serve, and from then on of settle.
	state  bfia.TaskState // "" until the container has reported its end
	passed bool
}

// takenReport is a report with the answer to its container.
type takenReport struct {
	state bfia.TaskState
	taken chan bool
}

// HoldReport hands the end that a container reports over to the RunTask that waits for the container's exit.
// It returns false if none does so here, or cannot record the report. The caller then notifies the job's
// workflow.
func (r *Runner) HoldReport(ctx context.Context, taskID string, part bfia.Part, state bfia.TaskState) bool {
	r.held.mu.Lock()
	h := r.held.tasks[heldKey{taskID, part.Self()}]
	r.held.mu.Unlock()
	if h == nil || !state.Terminal() {
		return false
	}

	in := takenReport{state, make(chan bool, 1)}
	select {
	case h.incoming <- in:
	case <-h.exited:
		return false
	case <-ctx.Done():
		return false
	}

	return <-in.taken
}

// holdReports makes RunTask hold the report of its container, until settle. The end that an earlier attempt
// of the activity has held is passed on at once.
func (t *taskRun) holdReports(ctx context.Context) *heldReport {
	h := &heldReport{task: t, incoming: make(chan takenReport), exited: make(chan struct{}),
		served: make(chan struct{}), state: t.reported}
	if t.OnReport == nil {
		close(h.served)

		return h
	}

	t.held.mu.Lock()
	if t.held.tasks == nil {
		t.held.tasks = map[heldKey]*heldReport{}
	}
	t.held.tasks[h.key()] = h
	t.held.mu.Unlock()
	go h.serve(ctx)

	return h
}

func (h *heldReport) key() heldKey { return heldKey{h.task.req.TaskID, h.task.req.Part.Self()} }

// serve takes the container's report, and passes it on if the container does not exit soon.
func (h *heldReport) serve(ctx context.Context) {
	defer close(h.served)
	hold := time.NewTimer(0)
	defer hold.Stop()
	for {
		select {
		case <-h.exited:
			return
		case in := <-h.incoming:
			first := h.state == ""
			taken := !first || h.record(ctx, in.state)
			if taken && first {
				h.state = in.state
				hold.Reset(cmp.Or(h.task.ReportHold, reportHold))
			}
			in.taken <- taken
		case <-hold.C:
			if h.state != "" && h.passOn(ctx) != nil {
				hold.Reset(reportRetry)
			}
		}
	}
}

// record writes a report to the part's row, where another RunTask finds it if this process ends.
func (h *heldReport) record(ctx context.Context, state bfia.TaskState) bool {
	err := h.task.Store.SetTaskReport(ctx, h.task.req.Key.Row(), h.task.req.TaskID, state)
	if err != nil {
		h.task.log.Warn("failed to record the end that a container reports", "error", err)
	}

	return err == nil
}

// passOn notifies the job's workflow of the report, unless it knows it.
func (h *heldReport) passOn(ctx context.Context) error {
	if h.passed || h.task.OnReport == nil {
		return nil
	}
	req := h.task.req
	report := bfia.TaskReport{TaskID: req.TaskID, Role: req.Part.Self(), Status: h.state}
	if err := h.task.OnReport(ctx, req.Key.JobID, report); err != nil {
		return fmt.Errorf("failed to notify the job of the end that %s reports: %w", h.task.name, err)
	}
	h.passed = true

	return nil
}

// release ends the hold. Reports that come later are not taken.
func (h *heldReport) release() {
	select {
	case <-h.exited:
		return
	default:
	}
	close(h.exited)
	<-h.served
	h.task.held.mu.Lock()
	defer h.task.held.mu.Unlock()
	if h.task.held.tasks[h.key()] == h { // and not that of another attempt of the activity
		delete(h.task.held.tasks, h.key())
	}
}

// settle ends the hold, and passes a report on if the container's exit, with its failure, does not say the
// same.
func (h *heldReport) settle(ctx context.Context, failure *bfia.Failure) error {
	h.release()
	if h.state != "" && (h.state == bfia.TaskSuccess) != (failure == nil) {
		return h.passOn(ctx)
	}
	h.passed = true

	return nil
}

// end ends the hold of a RunTask that has not seen the exit: the next one may be late.
func (h *heldReport) end(ctx context.Context) {
	h.release()
	if h.state == "" {
		return
	}
	if err := h.passOn(ctx); err != nil {
		h.task.log.Warn("failed to pass on the end that a container reports; the next try does", "error", err)
	}
}
