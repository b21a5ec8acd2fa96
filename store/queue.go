package store

import (
	"context"
	"time"

	"github.com/uptrace/bun"

	"hutong/admission"
	"hutong/bfia"
)

// toQueuedJob converts the row to a job of the scheduler's queue.
func (j ScheduleJob) toQueuedJob() admission.QueuedJob {
	return admission.QueuedJob{
		Job: admission.Job{
			JobID:     j.JobID,
			Initiator: j.InitiatorNode,
			Flow:      j.FlowID,
			Priority:  j.Priority,
			Created:   j.CreatedAt,
		},
		Nodes: j.ParticipantNodes, Reserving: j.DequeuedAt != nil, WaitingAt: j.WaitNode,
		WaitingFor: j.WaitReason}
}

// Dequeue makes a job READY, enters it into the scheduler's queue if it is not there, and asks decide whether
// the job may leave the queue. If so, Dequeue records that the job now requests its reservations. If not, it
// clears the party and the reason of the last denial. If the job no longer waits, Dequeue
// returns CodeConflict.
func (s *Store) Dequeue(ctx context.Context, jobID string, at time.Time,
	decide func(admission.Queue) bool) error {
	return wrap(s.tx(ctx, func(ctx context.Context, tx bun.Tx) error {
		if err := lockAdmission(ctx, tx); err != nil {
			return err
		}
		n, err := affected(
			tx.NewUpdate().
				Model((*ScheduleJob)(nil)).
				Set("state = ?, queued_at = COALESCE(queued_at, ?)", bfia.JobReady, normalizeTime(at)).
				Where("job_id = ?", jobID).
				Where("state IN (?)", bun.List([]bfia.JobState{bfia.JobPending, bfia.JobReady})).
				Exec(ctx),
		)
		if err != nil {
			return err
		}
		if n == 0 {
			return bfia.Errorf(bfia.CodeConflict, "job_id: job %q no longer waits for its start", jobID)
		}
		q, err := readQueue(ctx, tx)
		if err != nil {
			return err
		}
		update := tx.NewUpdate().Model((*ScheduleJob)(nil)).Set("dequeued_at = ?", normalizeTime(at))
		if !decide(q) {
			update = tx.NewUpdate().Model((*ScheduleJob)(nil)).Set("wait_node = '', wait_reason = ''")
		}
		_, err = update.Where("job_id = ?", jobID).Exec(ctx)
		return err
	}), "dequeue job %s", jobID)
}

// Queue returns the scheduler's queue, without its node and limits.
func (s *Store) Queue(ctx context.Context) (admission.Queue, error) {
	q, err := readQueue(ctx, s.r)
	return q, wrap(err, "read the queue")
}

func readQueue(ctx context.Context, db bun.IDB) (admission.Queue, error) {
	var q admission.Queue
	var rows []ScheduleJob
	err := db.NewSelect().Model(&rows).
		Column("job_id", "flow_id", "initiator_node", "priority", "created_at", "state", "dequeued_at",
			"wait_node", "wait_reason", "participant_nodes").
		Where("state = ? OR state = ? AND queued_at IS NOT NULL", bfia.JobRunning, bfia.JobReady).
		Order("created_at", "job_id").Scan(ctx)
	for _, j := range rows {
		if j.State == bfia.JobRunning {
			q.Running = append(q.Running, j.toQueuedJob().Job)
		} else {
			q.Waiting = append(q.Waiting, j.toQueuedJob())
		}
	}
	return q, err
}

// SetWaitReason puts a job back into the queue, since a party has denied it a reservation for this reason.
func (s *Store) SetWaitReason(ctx context.Context, jobID, node, reason string) error {
	_, err := s.w.NewUpdate().
		Model((*ScheduleJob)(nil)).
		Set("dequeued_at = NULL, wait_node = ?, wait_reason = ?", node, cleanReason(reason)).
		Where("job_id = ?", jobID).
		Exec(ctx)
	return wrap(err, "record why job %s waits", jobID)
}

// SetPriority changes the priority of a job. If the job has started, it returns CodeConflict.
func (s *Store) SetPriority(ctx context.Context, jobID string, priority int) error {
	n, err := affected(s.w.NewUpdate().Model((*ScheduleJob)(nil)).Set("priority = ?", priority).
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
