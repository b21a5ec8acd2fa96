package api

import (
	"context"
	"errors"
	"io/fs"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
	"hutong/internal/audit"
	"hutong/workflows"
)

// deleteJob deletes an ended job at this party now, instead of after its retention: its outputs, logs, rows,
// document and workflows. Other parties keep theirs. It refuses a job whose outputs another one reuses.
func (s *Server) deleteJob(c *fiber.Ctx) error {
	var ref bfia.JobRef
	if err := s.readJSON(c, &ref); err != nil {
		return err
	}
	if err := bfia.CheckID("job_id", ref.JobID); err != nil {
		return err
	}
	ctx := c.UserContext()
	on(ctx, audit.Job, ref.JobID)
	if err := s.store.ClaimJobRemoval(ctx, ref.JobID); err != nil {
		return unknownJob(err, ref.JobID, s.Node)
	}

	// The rows have ended. The workflows may still remove containers and release what the job held. If they
	// take longer, housekeeping removes the job: it is marked.
	for _, id := range []string{workflows.SchedulerJobID(ref.JobID), workflows.ParticipantJobID(ref.JobID)} {
		if err := s.awaitEnd(ctx, ref.JobID, id); err != nil {
			return err
		}
	}
	removed, err := s.remover.RemoveJob(ctx, ref.JobID)
	if errors.Is(err, fs.ErrPermission) {
		return bfia.Wrap(bfia.CodeRefused, err, "%v; housekeeping tries again once the party may remove it",
			err)
	}
	if err != nil {
		return err
	}
	return ok(c, map[string]any{"job_id": ref.JobID, "objects": removed.Objects, "bytes": removed.Bytes})
}

// deleteDataset deletes an uploaded dataset with all its generations.
func (s *Server) deleteDataset(c *fiber.Ctx) error {
	var address bfia.Address
	if err := s.readJSON(c, &address); err != nil {
		return err
	}
	for _, f := range []struct{ name, value string }{{"namespace", address.Namespace},
		{"name", address.Name}} {
		if err := bfia.CheckID(f.name, f.value); err != nil {
			return err
		}
	}
	on(c.UserContext(), audit.Dataset, address.String())
	if err := s.refuseOutput(c.UserContext(), address); err != nil {
		return err
	}
	if _, synthetic := address.Rehearsed(); !synthetic {
		// The synthetic dataset has the columns of the real one, so it goes first.
		rows := address.Rehearsal()
		err := s.datasets.Delete(c.UserContext(), rows.Namespace, rows.Name)
		if err != nil && bfia.CodeOf(err) != bfia.CodeNotFound {
			return err
		}
	}
	if err := s.datasets.Delete(c.UserContext(), address.Namespace, address.Name); err != nil {
		return err
	}
	s.logger.Info("dataset deleted", "namespace", address.Namespace, "name", address.Name)
	return ok(c, nil)
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
