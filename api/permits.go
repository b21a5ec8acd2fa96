package api

import (
	"context"

	"github.com/gofiber/fiber/v2"

	"hutong/bfia"
)

// presentedPermits returns the permits of a node's resources that a partner's request presents, or those of
// all nodes if node is empty. Those of this party mean nothing where it requires no grants.
func (s *Server) presentedPermits(c *fiber.Ctx, node string) ([]bfia.Permit, error) {
	if node != "" && !s.GrantsRequired {
		return nil, nil
	}
	permits, err := bfia.ParseTokenSet(bfia.Header(func(name string) string { return c.Get(name) },
		bfia.HeaderTokenSet))
	if err != nil || node == "" {
		return permits, err
	}
	return bfia.PermitsFor(node, permits), nil
}

// permitsOf returns the permits that this party holds for the datasets which a job reads at other parties.
func (s *Server) permitsOf(ctx context.Context, doc *bfia.Document) ([]bfia.Permit, error) {
	record, err := s.record(ctx, doc)
	if err != nil {
		return nil, err
	}
	datasets := map[string]bool{}
	for _, component := range doc.DAG.Components {
		for _, part := range doc.Config.Parts() {
			// A malformed address is refused where the job is planned.
			address, err := doc.RootDataset(record.Registry.Describe, component.Name, part)
			if err == nil && address != nil && part.NodeID != s.Node {
				datasets[part.NodeID+"/"+address.String()] = true
			}
		}
	}
	if len(datasets) == 0 {
		return nil, nil
	}
	return s.store.Permits(ctx, datasets)
}

// keepPermits keeps the permits that came with a job until it is created at its parties. drop deletes them.
func (s *Server) keepPermits(ctx context.Context, jobID string, permits []bfia.Permit) (drop func(),
	err error) {
	if len(permits) == 0 {
		return func() {}, nil
	}
	if err := s.store.PutJobPermits(ctx, jobID, permits); err != nil {
		return nil, err
	}
	return func() {
		if err := s.store.DeleteJobPermits(ctx, jobID); err != nil {
			s.logger.Warn("failed to delete the permits of a created job; housekeeping does", "job_id", jobID,
				"error", err)
		}
	}, nil
}
