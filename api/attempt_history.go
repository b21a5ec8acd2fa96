package api

import (
	"context"
	"slices"

	"hutong/bfia"
	"hutong/store"
)

// retried reports whether a task of a status has had more than one attempt.
func retried(status *bfia.JobStatus) bool {
	return slices.ContainsFunc(status.Tasks, func(t bfia.TaskStatus) bool { return t.Attempt > 1 })
}

// addScheduledAttempts adds the earlier attempts of the tasks of a job that this party schedules.
func (s *Server) addScheduledAttempts(ctx context.Context, status *bfia.JobStatus) error {
	if !retried(status) {
		return nil
	}
	parts, err := s.store.EarlierScheduleParts(ctx, status.JobID)
	if err != nil {
		return err
	}
	history := newHistory(status)
	for i := range parts {
		e := &parts[i]
		history.add(e.Name, e.Attempt, e.TaskID, bfia.PartStatus{NodeID: e.NodeID, Role: e.Role,
			Index: e.RoleIndex, State: e.State, Reason: e.Reason, Failure: e.Failure, Waits: e.Waits,
			StartedAt: e.StartedAt, EndedAt: e.EndedAt})
	}
	return nil
}

// addOwnAttempts adds the earlier attempts of this party's own parts.
func (s *Server) addOwnAttempts(ctx context.Context, status *bfia.JobStatus) error {
	if !retried(status) {
		return nil
	}
	earlier, err := s.store.EarlierAttemptsOfJob(ctx, status.JobID)
	if err != nil {
		return err
	}
	history := newHistory(status)
	for i := range earlier {
		e := &earlier[i]
		history.add(e.Name, e.Attempt, e.TaskID, bfia.PartStatus{NodeID: s.Node, Role: e.Role,
			Index: e.RoleIndex, State: e.State, Reason: e.Reason, Failure: e.Failure, Waits: e.Waits,
			StartedAt: e.StartedAt, EndedAt: e.EndedAt})
		history.explain(e.Name, e.Cause)
	}
	return nil
}

// explainAttempts completes the earlier attempts in a status as [Server.explain] does the latest ones.
func (s *Server) explainAttempts(ctx context.Context, status *bfia.JobStatus) error {
	if !retried(status) {
		return nil
	}
	rows, err := s.store.EarlierAttemptsOfJob(ctx, status.JobID)
	if err != nil {
		return err
	}
	type key struct {
		taskID string
		role   string
		index  int
	}
	mine := map[key]*store.EarlierAttempt{}
	for i := range rows {
		mine[key{rows[i].TaskID, rows[i].Role, rows[i].RoleIndex}] = &rows[i]
	}
	for i := range status.Tasks {
		for k := range status.Tasks[i].Attempts {
			a := &status.Tasks[i].Attempts[k]
			for n := range a.Parties {
				p := &a.Parties[n]
				own := mine[key{a.TaskID, p.Role, p.Index}]
				if p.NodeID == s.Node && own != nil {
					p.Waits = own.Waits
					f := own.Failure
					if p.State == bfia.TaskFailed && f != nil && f.Kind != bfia.FailedStopped {
						p.Failure, p.Reason = f, f.Text()
					}
				}
				p.Failure = p.Failure.WithHint(s.Node, status.JobID)
			}
			if cause := causeOf(a.Parties); cause != nil && !a.Failure.Causes(cause) {
				a.Failure = cause
			}
			a.Failure = a.Failure.WithHint(s.Node, status.JobID)
		}
	}
	return nil
}

// attemptHistory adds parts of earlier attempts to the tasks of a status.
type attemptHistory map[string]*bfia.TaskStatus

func newHistory(status *bfia.JobStatus) attemptHistory {
	h := attemptHistory{}
	for i := range status.Tasks {
		h[status.Tasks[i].Name] = &status.Tasks[i]
	}
	return h
}

// add adds a part. Those of one attempt follow each other, and those of a task are ordered by attempt.
func (h attemptHistory) add(task string, number int, taskID string, p bfia.PartStatus) {
	t, known := h[task]
	if !known {
		return
	}
	if n := len(t.Attempts); n == 0 || t.Attempts[n-1].Attempt != number {
		t.Attempts = append(t.Attempts, bfia.AttemptStatus{Attempt: number, TaskID: taskID})
	}
	a := &t.Attempts[len(t.Attempts)-1]
	a.Parties = append(a.Parties, p)
	a.StartedAt, a.EndedAt = earlier(a.StartedAt, p.StartedAt), later(a.EndedAt, p.EndedAt)
	a.Failure = causeOf(a.Parties)
}

// explain sets why the attempt of the last part that was added ended, unless a part of it is as near to the
// cause.
func (h attemptHistory) explain(task string, cause *bfia.Failure) {
	t, known := h[task]
	if !known {
		return
	}
	if a := &t.Attempts[len(t.Attempts)-1]; cause.Causes(a.Failure) {
		a.Failure = cause
	}
}

// causeOf returns the failure that ended an attempt: a retryable one, or else the first. Parts that were
// stopped since another one had failed are no cause.
func causeOf(parts []bfia.PartStatus) *bfia.Failure {
	var cause *bfia.Failure
	for i := range parts {
		f := parts[i].Failure
		if f == nil || f.Kind == bfia.FailedStopped {
			continue
		}
		if cause == nil || f.Retryable() && !cause.Retryable() {
			cause = f
		}
	}
	return cause
}
