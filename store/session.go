package store

import (
	"context"

	"github.com/uptrace/bun"
)

// JobParties returns the parties of those of the given jobs that this party takes part in, by job id.
func (s *Store) JobParties(ctx context.Context, jobIDs []string) (map[string][]string, error) {
	if len(jobIDs) == 0 {
		return nil, nil
	}
	var jobs []Job
	err := s.r.NewSelect().Model(&jobs).Column("job_id", "party_nodes", "created_at").
		Where("job_id IN (?)", bun.List(jobIDs)).Scan(ctx)
	if err != nil {
		return nil, wrap(err, "read the parties of %d jobs", len(jobIDs))
	}
	parties := make(map[string][]string, len(jobs))
	for _, job := range jobs {
		parties[job.JobID] = job.PartyNodes
	}
	return parties, nil
}
