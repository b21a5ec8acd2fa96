package store

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/uptrace/bun"

	"hutong/admission"
	"hutong/bfia"
	"hutong/internal/identity"
)

// Parts of WHERE clauses. They are spelled as in the conditions of the indexes, which the databases use only
// then.
const (
	queued    = "state = 'READY' AND queued_at IS NOT NULL"
	inLine    = queued + " AND dequeued_at IS NULL AND wait_node = ''"
	reserving = "state || '' = 'READY' AND dequeued_at IS NOT NULL"
	denied    = "state || '' = 'READY' AND dequeued_at IS NULL AND wait_node <> ''"
)

// QueuedJob returns the row as a job of the scheduler's queue.
func (j ScheduleJob) QueuedJob() admission.QueuedJob {
	project := j.Project
	if project == identity.DefaultProject {
		project = "" // as in a party without projects
	}
	return admission.QueuedJob{
		Job: admission.Job{
			JobID:     j.JobID,
			Project:   project,
			Initiator: j.InitiatorNode,
			Flow:      j.FlowID,
			Priority:  j.Priority,
			Created:   j.CreatedAt,
		},
		Nodes: j.ParticipantNodes, Reserving: j.DequeuedAt != nil, WaitingAt: j.WaitNode,
		WaitingFor: j.WaitReason, WaitingForQuota: j.WaitQuota}
}

// Dequeue makes a job READY, enters it into the scheduler's queue if it is not there, and decides whether it
// may leave the queue. If so, it records that the job now requests its reservations. If not, it clears the
// party and the reason of the last denial. If the job no longer waits, Dequeue returns CodeConflict.
//
// waitedAt is the party that denied the job a reservation, as recorded before.
func (s *Store) Dequeue(ctx context.Context, scheduler admission.Scheduler, jobID string, at time.Time) (
	status admission.QueueStatus, waitedAt string, err error) {
	job, err := s.enqueue(ctx, scheduler, jobID, at)
	if err != nil {
		return status, "", wrap(err, "enqueue job %s", jobID)
	}

	// Most jobs of a long queue may not leave it. They see so without the lock.
	decision, err := decideQueue(ctx, s.r, scheduler, at)
	if err != nil {
		return status, "", wrap(err, "dequeue job %s", jobID)
	}
	if status = decision.Status(job.QueuedJob()); !status.MayReserve {
		_, err := s.w.NewUpdate().Model((*ScheduleJob)(nil)).Set("wait_node = '', wait_reason = ''").
			Where("job_id = ? AND wait_node <> ''", jobID).Exec(ctx)
		return status, job.WaitNode, wrap(err, "clear why job %s waits", jobID)
	}

	err = s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if err := s.lockQueue(ctx, tx); err != nil {
			return err
		}
		decision, err := decideQueue(ctx, tx, scheduler, at)
		if err != nil {
			return err
		}
		update := tx.NewUpdate().Model((*ScheduleJob)(nil)).Set("dequeued_at = ?", normalizeTime(at))
		if status = decision.Status(job.QueuedJob()); !status.MayReserve {
			update = tx.NewUpdate().Model((*ScheduleJob)(nil)).Set("wait_node = '', wait_reason = ''")
		}
		n, err := affected(update.Where("job_id = ?", jobID).Where(queued).Exec(ctx))
		if err == nil && n == 0 {
			err = noLongerWaits(jobID)
		}
		return err
	})
	return status, job.WaitNode, wrap(err, "dequeue job %s", jobID)
}

// enqueue enters a job into the queue, and returns its row.
func (s *Store) enqueue(ctx context.Context, scheduler admission.Scheduler, jobID string, at time.Time) (
	ScheduleJob, error) {
	job, err := s.ScheduleJob(ctx, jobID)
	if err != nil {
		return job, err
	}
	line := job.QueuedJob().Line(scheduler.Limits)
	if job.State == bfia.JobReady && job.QueuedAt != nil && job.QueueLine == line &&
		job.QueueRank == job.QueuedJob().Rank() {
		return job, nil
	}
	n, err := affected(
		s.w.NewUpdate().
			Model((*ScheduleJob)(nil)).
			Set("state = ?, queued_at = COALESCE(queued_at, ?)", bfia.JobReady, normalizeTime(at)).
			Set("queue_line = ?", line).
			Apply(setRank(job)).
			Where("job_id = ?", jobID).
			Where("state IN (?)", bun.List([]bfia.JobState{bfia.JobPending, bfia.JobReady})).
			Exec(ctx),
	)
	if err == nil && n == 0 {
		err = noLongerWaits(jobID)
	}
	return job, err
}

// setRank sets [admission.Job.Rank] of a job with the priority that it has then.
func setRank(job ScheduleJob) func(*bun.UpdateQuery) *bun.UpdateQuery {
	first := admission.Job{Created: job.CreatedAt}
	return func(q *bun.UpdateQuery) *bun.UpdateQuery {
		return q.Set("queue_rank = ? - priority * ?", first.Rank(), admission.AgingStep.Milliseconds())
	}
}

func noLongerWaits(jobID string) error {
	return bfia.Errorf(bfia.CodeConflict, "job_id: job %q no longer waits for its start", jobID)
}

// The key of the advisory lock that serialises the decisions on a PostgreSQL database's queue.
const queueLock = 0x7175657565 // "queue"

// lockQueue serialises the transactions that let jobs leave the queue. SQLite has one writer at a time.
func (s *Store) lockQueue(ctx context.Context, tx bun.Tx) error {
	if !s.pg {
		return nil
	}
	_, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(?)", queueLock)
	return err
}

// DecideQueue decides what each job of the scheduler's queue may do now. It reads the jobs that ask for
// reservations and the first of each line, so its cost does not grow with the number of waiting jobs.
func (s *Store) DecideQueue(ctx context.Context, scheduler admission.Scheduler, at time.Time) (
	admission.Decision, error) {
	d, err := decideQueue(ctx, s.r, scheduler, at)
	return d, wrap(err, "decide on the queue")
}

func decideQueue(ctx context.Context, db bun.IDB, scheduler admission.Scheduler, at time.Time) (
	admission.Decision, error) {
	q := admission.Queue{Scheduler: scheduler}
	// A job that leaves its line between the two reads is in neither. Then the decision allows too much,
	// which Dequeue finds out. In the other order it would allow too little, and nobody would notify a job.
	if err := readStarted(ctx, db, &q); err != nil {
		return admission.Decision{}, err
	}
	if err := readLines(ctx, db, &q); err != nil {
		return admission.Decision{}, err
	}
	for {
		decision := q.Decide(at)
		if len(decision.Exhausted) == 0 {
			return decision, nil
		}
		for i := range q.Lines {
			line := &q.Lines[i]
			for _, key := range decision.Exhausted {
				if line.Key != key {
					continue
				}
				if err := readLine(ctx, db, line); err != nil {
					return decision, err
				}
			}
		}
	}
}

const queueColumns = "job_id, flow_id, state, initiator_node, priority, created_at, dequeued_at, " +
	"wait_node, wait_reason, wait_quota, participant_nodes, queue_line, project"

// readStarted reads the jobs that run, ask for reservations or were denied one. It is one statement: a job
// whose state changes meanwhile is read once.
func readStarted(ctx context.Context, db bun.IDB, q *admission.Queue) error {
	var rows []ScheduleJob
	jobs := "SELECT " + queueColumns + " FROM t_schedule_job WHERE "
	err := db.NewRaw(jobs+"state = 'RUNNING' UNION ALL "+jobs+reserving+" UNION ALL "+jobs+denied).
		Scan(ctx, &rows)
	for _, j := range rows {
		if j.State == bfia.JobRunning {
			q.Running = append(q.Running, j.QueuedJob().Job)
		} else {
			q.Candidates = append(q.Candidates, j.QueuedJob())
		}
	}
	return err
}

// readLines reads the first job of each line. The recursive query jumps from one line to the next in the
// index (a loose index scan). DISTINCT would read all waiting jobs.
func readLines(ctx context.Context, db bun.IDB, q *admission.Queue) error {
	next := "SELECT MIN(queue_line) FROM t_schedule_job WHERE " + inLine
	var ids []string
	err := db.NewSelect().
		WithRecursive("line", db.NewRaw("SELECT ("+next+") AS k UNION ALL SELECT ("+next+
			" AND queue_line > line.k) FROM line WHERE line.k IS NOT NULL")).
		TableExpr("line").
		ColumnExpr("(SELECT job_id FROM t_schedule_job WHERE "+inLine+
			" AND queue_line = line.k ORDER BY queue_rank, job_id LIMIT 1)").
		Where("line.k IS NOT NULL").Scan(ctx, &ids)
	if err != nil || len(ids) == 0 {
		return err
	}

	var rows []ScheduleJob
	err = db.NewRaw("SELECT "+queueColumns+" FROM t_schedule_job WHERE job_id IN (?)", bun.List(ids)).
		Scan(ctx, &rows)
	if err != nil {
		return err
	}
	for _, j := range rows {
		line := admission.Line{Key: j.QueueLine, Jobs: []admission.QueuedJob{j.QueuedJob()}, More: true}
		if j.State != bfia.JobReady || j.QueuedJob().IsCandidate() { // it has left its line since
			if err := readLine(ctx, db, &line); err != nil {
				return err
			}
		}
		q.Lines = append(q.Lines, line)
	}
	for i := range q.Lines { // a job that returned to its line since it was read
		q.Lines[i].Jobs = slices.DeleteFunc(q.Lines[i].Jobs, func(j admission.QueuedJob) bool {
			return slices.ContainsFunc(q.Candidates,
				func(c admission.QueuedJob) bool { return c.JobID == j.JobID })
		})
	}
	return nil
}

// readLine reads as many jobs of a line as a decision can need.
func readLine(ctx context.Context, db bun.IDB, line *admission.Line) error {
	var rows []ScheduleJob
	err := db.NewRaw("SELECT "+queueColumns+" FROM t_schedule_job WHERE "+inLine+
		" AND queue_line = ? ORDER BY queue_rank, job_id LIMIT ?", line.Key, admission.LineLength).
		Scan(ctx, &rows)
	line.Jobs, line.More = nil, false
	for _, j := range rows {
		line.Jobs = append(line.Jobs, j.QueuedJob())
	}
	return err
}

// QueuePositions returns the positions of queued jobs by rank, from 1, and how many jobs are queued. It
// leaves out jobs that are not.
func (s *Store) QueuePositions(ctx context.Context, jobIDs []string) (positions map[string]int, total int,
	err error) {
	if len(jobIDs) == 0 {
		return nil, 0, nil
	}
	var rows []struct {
		JobID    string `bun:"job_id"`
		Position int    `bun:"position"`
		Total    int    `bun:"total"`
	}
	ranks := s.r.NewSelect().Model((*ScheduleJob)(nil)).Column("job_id").
		ColumnExpr("ROW_NUMBER() OVER (ORDER BY queue_rank, job_id) AS position").
		ColumnExpr("COUNT(*) OVER () AS total").
		Where(queued)
	err = s.r.NewSelect().TableExpr("(?) AS r", ranks).
		Where("job_id IN (?)", bun.List(jobIDs)).Scan(ctx, &rows)
	positions = map[string]int{}
	for _, r := range rows {
		positions[r.JobID], total = r.Position, r.Total
	}
	return positions, total, wrap(err, "read positions in the queue")
}

// queueLengthAge is how old the length of the queue may be that [Store.RecentQueueLength] returns.
const queueLengthAge = 5 * time.Second

// queueLength is the length of the queue at a time.
type queueLength struct {
	sync.Mutex
	jobs int
	at   time.Time
}

// RecentQueueLength returns what QueueLength returned within the last five seconds.
func (s *Store) RecentQueueLength(ctx context.Context) (int, error) {
	recent := &s.queueLength
	recent.Lock()
	defer recent.Unlock()
	if time.Since(recent.at) < queueLengthAge {
		return recent.jobs, nil
	}
	n, err := s.QueueLength(ctx)
	if err == nil {
		recent.jobs, recent.at = n, time.Now()
	}
	return n, err
}

// SetWaitReason puts a job back into the queue, since a party has denied it a reservation for this reason,
// which may be a quota.
func (s *Store) SetWaitReason(ctx context.Context, jobID, node, reason string, quota bool) error {
	_, err := s.w.NewUpdate().
		Model((*ScheduleJob)(nil)).
		Set("dequeued_at = NULL, wait_node = ?, wait_reason = ?, wait_quota = ?", node, cleanReason(reason), quota).
		Where("job_id = ?", jobID).
		Exec(ctx)
	return wrap(err, "record why job %s waits", jobID)
}

// SetPriority changes the priority of a job, and with it the job's rank. If the job has started, it returns
// CodeConflict.
func (s *Store) SetPriority(ctx context.Context, jobID string, priority int) error {
	n, err := affected(s.w.NewUpdate().Model((*ScheduleJob)(nil)).
		Set("queue_rank = queue_rank + (priority - ?) * ?", priority, admission.AgingStep.Milliseconds()).
		Set("priority = ?", priority).
		Where("job_id = ?", jobID).
		Where("state IN (?)", bun.List([]bfia.JobState{bfia.JobPending, bfia.JobReady})).Exec(ctx))
	if err != nil || n > 0 {
		return wrap(err, "change the priority of job %s", jobID)
	}
	job, err := s.ScheduleJob(ctx, jobID)
	if err != nil {
		return err
	}
	return bfia.Errorf(bfia.CodeConflict,
		"priority: job %s is %s; only a waiting job can change its priority", jobID, job.State)
}
