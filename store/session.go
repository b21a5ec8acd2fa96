package store

import (
	"context"
	"slices"

	"github.com/uptrace/bun"

	"hutong/bfia"
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

// SessionsOfEndedJobs returns those of the given sessions that no job of this party needs any more: those of
// jobs that have ended, and those of jobs from before the last restore that the restored database does not
// know. Such a job is never created again, since its id is refused. A session without a call for minutes is
// not that of a job which is being created.
func (s *Store) SessionsOfEndedJobs(ctx context.Context, sessions []string) (ended []string, err error) {
	var ids []string
	for _, session := range sessions {
		ids = append(ids, bfia.SessionJobs(session)...)
	}
	if len(ids) == 0 {
		return nil, nil
	}
	mark, err := s.RestoreMark(ctx)
	if err != nil {
		return nil, err
	}
	open, err := s.openJobs(ctx, ids)
	if err != nil {
		return nil, err
	}
	forgotten := func(id string) bool {
		created, ok := bfia.JobIDTime(id)
		return ok && mark.RestoredAt != nil && !created.After(*mark.RestoredAt)
	}
	for _, session := range sessions {
		over := false
		for _, id := range bfia.SessionJobs(session) {
			if isOpen, known := open[id]; isOpen {
				over = false
				break
			} else if known || forgotten(id) {
				over = true
			}
		}
		if over {
			ended = append(ended, session)
		}
	}
	return ended, nil
}

// openJobs returns which of some jobs are open on a side of this party. It lacks those that are unknown.
func (s *Store) openJobs(ctx context.Context, ids []string) (map[string]bool, error) {
	open := map[string]bool{}
	for batch := range slices.Chunk(ids, placementBatch) {
		for _, model := range []any{(*Job)(nil), (*ScheduleJob)(nil)} {
			var rows []struct {
				JobID string        `bun:"job_id"`
				State bfia.JobState `bun:"state"`
			}
			// From the writing connection: the caller has listed the sessions before.
			if err := s.w.NewSelect().Model(model).Column("job_id", "state").
				Where("job_id IN (?)", bun.List(batch)).Scan(ctx, &rows); err != nil {
				return nil, wrap(err, "read the states of %d jobs", len(batch))
			}
			for _, row := range rows {
				open[row.JobID] = open[row.JobID] || slices.Contains(openJobs, row.State)
			}
		}
	}
	return open, nil
}
