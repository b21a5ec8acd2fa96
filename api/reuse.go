package api

import (
	"context"

	"hutong/activities/participant"
	"hutong/bfia"
)

// scheduledReuse are the tasks for which the job's old_job_id may stand, as far as this node knows, having scheduled it.
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

// held are the tasks for which this party still has what the job's old_job_id left.
func (s *Server) held(ctx context.Context, doc *bfia.Document, plan *bfia.Plan) ([]string, error) {
	return participant.Reusable(ctx, s.store, s.blobs, doc, plan)
}

// checkOldJob refuses a job that names an earlier one of which nothing is known here: most likely its id is misspelt.
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
