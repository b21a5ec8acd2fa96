package api

import (
	"context"
	"time"

	"hutong/bfia"
	"hutong/store"
)

// failureOf returns why a part of this party failed, or nil if it did not fail, whatever its container's exit
// code was.
func failureOf(t store.Task) *bfia.Failure {
	if t.State != bfia.TaskFailed {
		return nil
	}
	return t.Failure
}

// explain completes the failures in a status for this party's own users: of its own parts everything, of
// others' parts what they share. It also adds hints.
func (s *Server) explain(ctx context.Context, status *bfia.JobStatus) error {
	rows, err := s.store.Tasks(ctx, status.JobID)
	if err != nil {
		return err
	}
	mine := map[part]store.Task{} // a map, since a job may have very many parts
	for _, r := range rows {
		mine[part{r.Name, r.Role, r.RoleIndex}] = r
	}
	own := func(at part) *bfia.Failure {
		if r, found := mine[at]; found {
			// the scheduler knows better why it was stopped
			if f := failureOf(r); f != nil && f.Kind != bfia.FailedStopped {
				return f
			}
		}
		return nil
	}
	for i := range status.Tasks {
		for k := range status.Tasks[i].Parties {
			p := &status.Tasks[i].Parties[k]
			if at := (part{status.Tasks[i].Name, p.Role, p.Index}); p.NodeID == s.Node {
				if f := own(at); f != nil && p.State == bfia.TaskFailed {
					p.Failure, p.Reason = f, f.Text()
				}
				p.ReusedFrom = mine[at].ReusedJobID
			}
			p.Failure = p.Failure.WithHint(s.Node, status.JobID)
		}
	}
	if err := s.explainAttempts(ctx, status); err != nil {
		return err
	}
	if f := status.Failure; f != nil {
		for at := range mine {
			if f.NodeID != s.Node || at.task != f.Task ||
				(bfia.Part{Role: at.role, Index: at.index}).Self() != f.Role {
				continue
			}
			if full := own(at); full != nil {
				status.Failure, status.Reason = full, full.String()
			}
		}
		status.Failure = status.Failure.WithHint(s.Node, status.JobID)
	}
	return nil
}

// schedulerTimeout bounds how long a status request waits for a scheduler at another party.
const schedulerTimeout = 3 * time.Second

// askScheduler returns the status of a job that this party submitted and another party schedules. The
// scheduler's status covers the parts of all parties. If the scheduler does not answer, or not as Hutong
// does, askScheduler returns own, which covers only this party's parts.
func (s *Server) askScheduler(ctx context.Context, own *bfia.JobStatus) *bfia.JobStatus {
	job, err := s.store.Job(ctx, own.JobID)
	if err != nil || job.InitiatorNode != s.Node || job.SchedulerNode == s.Node {
		return own
	}
	ctx, cancel := context.WithTimeout(ctx, schedulerTimeout)
	defer cancel()
	status, err := s.remote.StatusAll(ctx, job.SchedulerNode, own.JobID)
	if err != nil {
		s.logger.Info("failed to ask the job's scheduler for its status", "job_id", own.JobID, "scheduler",
			job.SchedulerNode, "error", err)
		return own
	}
	if status.JobID != own.JobID || len(status.Tasks) == 0 {
		return own
	}
	status.Status = map[string]bfia.TaskState{}
	status.Scheduler = job.SchedulerNode
	status.Failure = status.Failure.Truncate()
	for i := range status.Waiting {
		status.Waiting[i] = *status.Waiting[i].Truncate()
	}
	for i := range status.Tasks {
		t := &status.Tasks[i]
		if t.DependsOn == nil {
			t.DependsOn = []string{}
		}
		t.Waiting = t.Waiting.Truncate()
		truncateParts(t.Parties)
		for k := range t.Attempts {
			a := &t.Attempts[k]
			a.Failure = a.Failure.Truncate()
			truncateParts(a.Parties)
		}
	}
	return status
}

// truncateParts makes parts from outside safe to show.
func truncateParts(parts []bfia.PartStatus) {
	for i := range parts {
		p := &parts[i]
		p.Failure, p.Waiting = p.Failure.Truncate(), p.Waiting.Truncate()
		for k := range p.Waits {
			p.Waits[k].Waiting = *p.Waits[k].Truncate()
		}
	}
}
