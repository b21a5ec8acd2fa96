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
	return t.Explanation
}

// explain makes a status say why a job did not go well, as this party's own users may know it: of its own parts all that
// it knows, of the others' what they share; and what to try.
func (s *Server) explain(ctx context.Context, status *bfia.JobStatus) error {
	rows, err := s.store.Tasks(ctx, status.JobID)
	if err != nil {
		return err
	}
	own := func(task, role string) *bfia.Failure {
		for _, r := range rows {
			if r.Name == task && (bfia.Part{Role: r.Role, Index: r.RoleIndex}).Self() == role {
				if f := failureOf(r); f != nil && f.Kind != bfia.FailedStopped { // why it was stopped the scheduler knows better
					return f
				}
			}
		}
		return nil
	}
	for i := range status.Tasks {
		for k := range status.Tasks[i].Parties {
			p := &status.Tasks[i].Parties[k]
			if p.NodeID == s.Node && p.State == bfia.TaskFailed {
				if f := own(status.Tasks[i].Name, bfia.Part{Role: p.Role, Index: p.Index}.Self()); f != nil {
					p.Failure, p.Reason = f, f.Text()
				}
			}
			if p.NodeID == s.Node {
				p.ReusedFrom = reused(rows, status.Tasks[i].Name, p)
			}
			p.Failure = p.Failure.For(s.Node, status.JobID)
		}
	}
	if f := status.Failure; f != nil {
		if mine := own(f.Task, f.Role); f.NodeID == s.Node && mine != nil {
			status.Failure, status.Reason = mine, mine.String()
		}
		status.Failure = status.Failure.For(s.Node, status.JobID)
	}
	return nil
}

// reused is the job whose outputs stand for a part's own.
func reused(rows []store.Task, task string, p *bfia.PartStatus) string {
	for _, r := range rows {
		if r.Name == task && r.Role == p.Role && r.RoleIndex == p.Index {
			return r.ReusedJobID
		}
	}
	return ""
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
	status.Failure = status.Failure.Bounded()
	for i := range status.Tasks {
		t := &status.Tasks[i]
		if t.DependsOn == nil {
			t.DependsOn = []string{}
		}
		for k := range t.Parties {
			t.Parties[k].Failure = t.Parties[k].Failure.Bounded()
		}
	}
	return status
}
