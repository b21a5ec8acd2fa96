package api

import (
	"context"
	"time"

	"hutong/bfia"
	"hutong/store"
)

// failureOf is why a part of this party failed; a part that did not has none, whatever its container's exit was.
func failureOf(t store.Task) *bfia.Failure {
	if t.State != bfia.TaskFailed {
		return nil
	}
	return t.Failure
}

// explain makes a status say why a job did not go well, as this party's own users may know it: of its own parts all that
// it knows, of the others' what they share; and what to try.
func (s *Server) explain(ctx context.Context, status *bfia.JobStatus) error {
	rows, err := s.store.Tasks(ctx, status.JobID)
	if err != nil {
		return err
	}
	mine := map[part]store.Task{} // a job may have very many
	for _, r := range rows {
		mine[part{r.Name, r.Role, r.RoleIndex}] = r
	}
	own := func(at part) *bfia.Failure {
		if r, is := mine[at]; is {
			if f := failureOf(r); f != nil && f.Kind != bfia.FailedStopped { // why it was stopped the scheduler knows better
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
	if f := status.Failure; f != nil {
		for at := range mine {
			if f.NodeID != s.Node || at.task != f.Task || (bfia.Part{Role: at.role, Index: at.index}).Self() != f.Role {
				continue
			}
			if known := own(at); known != nil {
				status.Failure, status.Reason = known, known.String()
			}
		}
		status.Failure = status.Failure.WithHint(s.Node, status.JobID)
	}
	return nil
}

// askLimit is how long a status waits for a scheduler elsewhere.
const askLimit = 3 * time.Second

// asked is the status of a job that this party submitted to another scheduler, who knows of all parties; where that one
// does not answer, or not as Hutong does, it is what this party knows of its own parts.
func (s *Server) asked(ctx context.Context, own *bfia.JobStatus) *bfia.JobStatus {
	job, err := s.store.Job(ctx, own.JobID)
	if err != nil || job.InitiatorNode != s.Node || job.SchedulerNode == s.Node {
		return own
	}
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	status, err := s.remote.StatusAll(ctx, job.SchedulerNode, own.JobID)
	if err != nil {
		s.logger.Info("a job's scheduler does not tell its status", "job_id", own.JobID, "scheduler", job.SchedulerNode, "error", err)
		return own
	}
	if status.JobID != own.JobID || len(status.Tasks) == 0 {
		return own
	}
	status.Status = map[string]bfia.TaskState{}
	status.Scheduler = job.SchedulerNode
	status.Failure = status.Failure.Truncate()
	for i := range status.Tasks {
		t := &status.Tasks[i]
		if t.DependsOn == nil {
			t.DependsOn = []string{}
		}
		for k := range t.Parties {
			t.Parties[k].Failure = t.Parties[k].Failure.Truncate()
		}
	}
	return status
}
