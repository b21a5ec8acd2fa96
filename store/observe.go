package store

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/uptrace/bun"

	"hutong/bfia"
)

// Side is on which side of a job a row is.
type Side string

// The sides of a job.
const (
	SideScheduler   Side = "scheduler"
	SideParticipant Side = "participant"
)

// EndedJob describes a job whose row has just ended.
type EndedJob struct {
	Side    Side
	Outcome bfia.Outcome
	// Wait is the time from its creation to its start, 0 if it has not started. Took is the time from its
	// creation to its end.
	Wait, Took time.Duration
	Started    bool
}

// Observer holds functions that a store calls after what they describe. Each may be nil. They must not block.
type Observer struct {
	// Query is called after each statement. operation is its first word, in lower case, such as select.
	Query func(operation string, took time.Duration, failed bool)
	// JobEnded is called once for each job whose row ends, on each side.
	JobEnded func(EndedJob)
	// PartEnded is called once for each part of a task of this party that ends.
	PartEnded func(state bfia.TaskState, failure *bfia.Failure)
	// AttemptStarted is called once for each attempt of a task after the first, with why the attempt before
	// failed, or nil if that is not recorded.
	AttemptStarted func(cause *bfia.Failure)
}

// Observe makes the store call an observer. Call it before the store's first use.
func (s *Store) Observe(o Observer) {
	s.observer = o
	if o.Query == nil {
		return
	}
	hook := queryHook{o.Query}
	s.w.AddQueryHook(hook)
	if s.r != s.w {
		s.r.AddQueryHook(hook)
	}
}

// Pools returns the pools of connections by what they serve: "write" and "read", or "all" if one serves both.
func (s *Store) Pools() map[string]*sql.DB {
	if s.r == s.w {
		return map[string]*sql.DB{"all": s.w.DB}
	}
	return map[string]*sql.DB{"write": s.w.DB, "read": s.r.DB}
}

// queryHook reports statements to an observer.
type queryHook struct {
	observe func(operation string, took time.Duration, failed bool)
}

// BeforeQuery implements [bun.QueryHook].
func (queryHook) BeforeQuery(ctx context.Context, _ *bun.QueryEvent) context.Context { return ctx }

// AfterQuery implements [bun.QueryHook].
func (h queryHook) AfterQuery(_ context.Context, e *bun.QueryEvent) {
	failed := e.Err != nil && !errors.Is(e.Err, sql.ErrNoRows) && !errors.Is(e.Err, context.Canceled) &&
		!isDuplicate(e.Err)
	h.observe(strings.ToLower(e.Operation()), time.Since(e.StartTime), failed)
}

// observeJobEnd reports a job that has just ended to the observer. It reads the row, since an earlier update
// may have set the outcome. A failure to read loses an observation only.
func (s *Store) observeJobEnd(ctx context.Context, model any, jobID string) {
	if s.observer.JobEnded == nil {
		return
	}
	side := SideParticipant
	if _, scheduled := model.(*ScheduleJob); scheduled {
		side = SideScheduler
	}
	var row struct {
		Outcome   bfia.Outcome
		CreatedAt time.Time
		StartedAt *time.Time
		EndedAt   *time.Time
	}
	if err := s.r.NewSelect().Model(model).Column("outcome", "created_at", "started_at", "ended_at").
		Where("job_id = ?", jobID).Scan(ctx, &row); err != nil {
		return
	}
	ended := EndedJob{Side: side, Outcome: row.Outcome, Started: row.StartedAt != nil}
	if row.StartedAt != nil {
		ended.Wait = max(row.StartedAt.Sub(row.CreatedAt), 0)
	}
	if row.EndedAt != nil {
		ended.Took = max(row.EndedAt.Sub(row.CreatedAt), 0)
	}
	s.observer.JobEnded(ended)
}

// observePartEnd reports a part that has just ended to the observer.
func (s *Store) observePartEnd(ctx context.Context, key TaskKey, state bfia.TaskState) {
	if s.observer.PartEnded == nil || !state.Terminal() {
		return
	}
	var failure *bfia.Failure
	if state == bfia.TaskFailed {
		if row, err := s.Task(ctx, key); err == nil {
			failure = row.Failure
		}
	}
	s.observer.PartEnded(state, failure)
}

// observeAttempt reports a further attempt of a task to the observer. cause is the failure that lost the
// attempt before, if its scheduler knows it.
func (s *Store) observeAttempt(parts []SchedulePart, cause *bfia.Failure) {
	if s.observer.AttemptStarted == nil {
		return
	}
	for _, p := range parts {
		if p.Failure != nil && (cause == nil || p.Failure.Retryable() && !cause.Retryable()) {
			cause = p.Failure
		}
	}
	s.observer.AttemptStarted(cause)
}
