-- The scheduler's queue in an order that a decision reads from its beginning. See admission.Queue.
--   queue_line  the job's line: jobs that wait for the same reasons
--   queue_rank  its rank; a lower one comes first
-- Jobs that were queued before this migration get theirs with their next poll.
ALTER TABLE t_schedule_job ADD COLUMN queue_line TEXT NOT NULL DEFAULT '';
--bun:split
ALTER TABLE t_schedule_job ADD COLUMN queue_rank BIGINT NOT NULL DEFAULT 0;
--bun:split
CREATE INDEX i_schedule_job_line ON t_schedule_job (queue_line, queue_rank, job_id)
  WHERE state = 'READY' AND queued_at IS NOT NULL AND dequeued_at IS NULL AND wait_node = '';
--bun:split
-- With state = 'READY', SQLite would read all waiting jobs by the index of state, and not use these two.
CREATE INDEX i_schedule_job_reserving ON t_schedule_job (job_id)
  WHERE state || '' = 'READY' AND dequeued_at IS NOT NULL;
--bun:split
CREATE INDEX i_schedule_job_denied ON t_schedule_job (job_id)
  WHERE state || '' = 'READY' AND dequeued_at IS NULL AND wait_node <> '';
--bun:split
CREATE INDEX i_schedule_job_rank ON t_schedule_job (queue_rank, job_id) WHERE state = 'READY' AND queued_at IS NOT NULL;
