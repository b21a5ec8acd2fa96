package api

import (
	"context"
	"errors"
	"io/fs"

	"github.com/gofiber/fiber/v2"

	"hutong/activities/housekeeping"
	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/store"
	"hutong/workflows"
)

// deleteJob deletes an ended job at this party now, instead of after its retention.
func (s *Server) deleteJob(c *fiber.Ctx) error {
	var ref bfia.JobRef
	if err := s.readJSON(c, &ref); err != nil {
		return err
	}
	if err := bfia.CheckID("job_id", ref.JobID); err != nil {
		return err
	}
	removed, err := s.removeJob(c.UserContext(), ref.JobID)
	if err != nil {
		return err
	}
	return ok(c, map[string]any{"job_id": ref.JobID, "objects": removed.Objects, "bytes": removed.Bytes})
}

// removeJob removes an ended job at this party: its outputs, logs, rows, document and workflows. Other
// parties
// keep theirs. It refuses a job whose outputs another one reuses.
func (s *Server) removeJob(ctx context.Context, jobID string) (removed housekeeping.RemovalProgress,
	err error) {
	on(ctx, audit.Job, jobID)
	if err := s.store.ClaimJobRemoval(ctx, jobID); err != nil {
		return removed, unknownJob(err, jobID, s.Node)
	}

	// What the job holds is removed whole, as housekeeping does.
	ctx = store.WithoutProjects(ctx)
	// The rows have ended. The workflows may still remove containers and release what the job held. If they
	// take longer, housekeeping removes the job: it is marked.
	if err := s.awaitJobEnd(ctx, jobID); err != nil {
		return removed, err
	}
	removed, err = s.remover.RemoveJob(ctx, jobID)
	if errors.Is(err, fs.ErrPermission) {
		return removed, bfia.Wrap(bfia.CodeRefused, err,
			"%v; housekeeping tries again once the party may remove it", err)
	}
	return removed, err
}

// awaitJobEnd waits until the workflows of a job have ended.
func (s *Server) awaitJobEnd(ctx context.Context, jobID string) error {
	for _, id := range []string{workflows.SchedulerJobID(jobID), workflows.ParticipantJobID(jobID)} {
		if err := s.awaitEnd(ctx, jobID, id); err != nil {
			return err
		}
	}
	return nil
}

// deleteDataset deletes an uploaded dataset with all its generations.
func (s *Server) deleteDataset(c *fiber.Ctx) error {
	var address bfia.Address
	if err := s.readJSON(c, &address); err != nil {
		return err
	}
	if err := s.deleteTable(c.UserContext(), address); err != nil {
		return err
	}
	return ok(c, nil)
}

func (s *Server) deleteTable(ctx context.Context, address bfia.Address) error {
	for _, f := range []struct{ name, value string }{{"namespace", address.Namespace},
		{"name", address.Name}} {
		if err := bfia.CheckID(f.name, f.value); err != nil {
			return err
		}
	}
	on(ctx, audit.Dataset, address.String())
	if err := s.refuseOutput(ctx, address); err != nil {
		return err
	}
	if _, synthetic := address.Rehearsed(); !synthetic {
		// The synthetic dataset has the columns of the real one, so it goes first.
		rows := address.Rehearsal()
		err := s.datasets.Delete(ctx, rows.Namespace, rows.Name)
		if err != nil && bfia.CodeOf(err) != bfia.CodeNotFound {
			return err
		}
	}
	if err := s.datasets.Delete(ctx, address.Namespace, address.Name); err != nil {
		return err
	}
	s.logger.Info("dataset deleted", "namespace", address.Namespace, "name", address.Name)
	return nil
}

// refuseOutput refuses an address at which tasks of jobs keep their outputs, where a request is about a
// dataset. The error names the job.
func (s *Server) refuseOutput(ctx context.Context, address bfia.Address) error {
	if !bfia.IsOutputNamespace(s.Node, address.Namespace) {
		return nil
	}
	tasks, err := s.store.TasksByID(ctx, address.Name)
	if err != nil {
		return err
	}
	if len(tasks) > 0 {
		return bfia.Errorf(bfia.CodeConflict, "namespace: %s belongs to job %s, an output of its task %s; "+
			"a dataset is uploaded under a name of its own", address.String(), tasks[0].JobID, tasks[0].Name)
	}
	return bfia.Errorf(bfia.CodeConflict, "namespace: %q is reserved for outputs of jobs "+
		"(<role>-%s-<type>-<output>); choose another one", address.Namespace, s.Node)
}
