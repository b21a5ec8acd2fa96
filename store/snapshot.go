package store

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
	"hutong/internal/identity"
)

// Snapshot holds what the rows say of a party at one time, for its metrics.
type Snapshot struct {
	// Time is the time by the database's clock.
	Time time.Time
	// Jobs counts the jobs on each side that have not ended, by state.
	Jobs map[Side]map[bfia.JobState]int
	// Queued is the length of the scheduler's queue, and QueuedSince when the job that waits longest entered
	// it; zero if the queue is empty.
	Queued      int
	QueuedSince time.Time
	// Approvals counts the jobs that wait for the approval of this party, and ApprovalSince is since when the
	// first one waits; zero if none does.
	Approvals     int
	ApprovalSince time.Time
	// Waiting counts the jobs that wait for an answer of a partner, by node id.
	Waiting map[string]int
	// Runners are all runners with a row, also silent ones.
	Runners []RunnerUse
	// Contacts are the times of the partners' last requests, by node id.
	Contacts map[string]time.Time
}

// Snapshot reads what the rows say of party node.
func (s *Store) Snapshot(ctx context.Context, node string) (Snapshot, error) {
	snap := Snapshot{Jobs: map[Side]map[bfia.JobState]int{}, Waiting: map[string]int{}}
	var err error
	if snap.Time, err = s.Now(ctx); err != nil {
		return snap, err
	}
	for side, model := range map[Side]any{SideScheduler: (*ScheduleJob)(nil), SideParticipant: (*Job)(nil)} {
		if snap.Jobs[side], err = s.countJobs(ctx, model, openJobs); err != nil {
			return snap, err
		}
	}
	if err := s.readQueueAge(ctx, &snap); err != nil {
		return snap, err
	}
	if err := s.readWaits(ctx, node, &snap); err != nil {
		return snap, err
	}
	if snap.Runners, err = s.RunnerUses(ctx); err != nil {
		return snap, err
	}
	snap.Contacts, err = s.Contacts(ctx)
	return snap, err
}

// countJobs counts the rows of jobs on one side in each of the states.
func (s *Store) countJobs(ctx context.Context, model any, states []bfia.JobState) (map[bfia.JobState]int,
	error) {
	var rows []struct {
		State bfia.JobState
		Jobs  int
	}
	column := "state"
	if _, all := ProjectsOf(ctx); !all && InProject(ctx, identity.DefaultProject) {
		column = "state || ''" // no index has the states of the jobs of default only
	}
	err := ofJobRows(ctx, s.r.NewSelect().Model(model)).
		ColumnExpr("state, COUNT(*) AS jobs").
		Where(column+" IN (?)", bun.List(states)).Group("state").Scan(ctx, &rows)
	counts := map[bfia.JobState]int{}
	for _, r := range rows {
		counts[r.State] = r.Jobs
	}
	return counts, wrap(err, "count jobs")
}

func (s *Store) readQueueAge(ctx context.Context, snap *Snapshot) error {
	var first []ScheduleJob
	n, err := s.r.NewSelect().Model(&first).Column("queued_at").
		Where("state = ? AND queued_at IS NOT NULL", bfia.JobReady).
		Order("queued_at").Limit(1).ScanAndCount(ctx)
	if err != nil {
		return wrap(err, "read the age of the queue")
	}
	if snap.Queued = n; len(first) > 0 && first[0].QueuedAt != nil {
		snap.QueuedSince = normalizeTime(*first[0].QueuedAt)
	}
	return nil
}

// readWaits reads which jobs wait for the approval of a party, and for answers of its partners.
func (s *Store) readWaits(ctx context.Context, node string, snap *Snapshot) error {
	jobs, err := s.WaitingJobs(ctx, bfia.WaitsForApproval)
	if err != nil {
		return err
	}
	for _, j := range jobs {
		for _, w := range j.Waiting {
			if w.Kind != bfia.WaitsForApproval || w.NodeID != node {
				continue
			}
			snap.Approvals++
			if snap.ApprovalSince.IsZero() || w.Since.Before(snap.ApprovalSince) {
				snap.ApprovalSince = w.Since
			}
			break
		}
	}
	if jobs, err = s.WaitingJobs(ctx, bfia.WaitsForPartner); err != nil {
		return err
	}
	for _, j := range jobs {
		counted := map[string]bool{}
		for _, w := range j.Waiting {
			if w.Kind == bfia.WaitsForPartner && w.NodeID != "" && w.NodeID != node && !counted[w.NodeID] {
				counted[w.NodeID] = true
				snap.Waiting[w.NodeID]++
			}
		}
	}
	return nil
}
