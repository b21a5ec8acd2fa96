package api

import (
	"context"

	"hutong/activities/participant"
	"hutong/bfia"
)

// scheduledReuse returns the tasks that may reuse outputs of the job's old_job_id, as far as its scheduler
// knows.
func (s *Server) scheduledReuse(ctx context.Context, doc *bfia.Document, plan *bfia.Plan) ([]string, error) {
	if doc.OldJobID == "" {
		return nil, nil
	}
	tasks, err := s.store.ScheduleTasks(ctx, doc.OldJobID)
	if err != nil || len(tasks) == 0 {
		return nil, err
	}
	old, err := s.document(ctx, doc.OldJobID)
	if err != nil {
		return nil, err
	}
	done := map[string]bool{}
	for _, t := range tasks {
		done[t.Name] = t.State == bfia.TaskSuccess
	}
	return bfia.Reusable(plan, doc, old, func(task string) bool { return done[task] }), nil
}

// reusable returns the tasks for which this party still has the outputs of the job's old_job_id.
func (s *Server) reusable(ctx context.Context, doc *bfia.Document, plan *bfia.Plan) ([]string, error) {
	return participant.Reusable(ctx, s.store, s.blobs, doc, plan)
}

// checkOldJob refuses a job whose old_job_id is unknown at this party; most likely it is misspelt.
func (s *Server) checkOldJob(ctx context.Context, doc *bfia.Document) error {
	if doc.OldJobID == "" {
		return nil
	}
	_, err := s.store.ScheduleJob(ctx, doc.OldJobID)
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		_, err = s.store.Job(ctx, doc.OldJobID)
	}
	if bfia.CodeOf(err) == bfia.CodeNotFound {
		return bfia.Errorf(bfia.CodeNotFound, "old_job_id: %s does not know job %q", s.Node, doc.OldJobID)
	}
	return err
}
