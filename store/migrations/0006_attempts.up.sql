-- The history of attempts: when an attempt of a part began and ended, why it ended, and what it waited for meanwhile.
--   state    FAILED also for a part that ran when another part lost the attempt
--   failure  why the part failed, if it did
--   waits    waits that have ended, as a JSON list (bfia.Waited)
-- Attempts from before this migration have no times.
ALTER TABLE t_earlier_attempt ADD COLUMN state TEXT NOT NULL DEFAULT 'FAILED';
--bun:split
ALTER TABLE t_earlier_attempt ADD COLUMN reason TEXT NOT NULL DEFAULT '';
--bun:split
ALTER TABLE t_earlier_attempt ADD COLUMN failure TEXT;
--bun:split
ALTER TABLE t_earlier_attempt ADD COLUMN waits TEXT;
--bun:split
ALTER TABLE t_earlier_attempt ADD COLUMN started_at TIMESTAMPTZ;
--bun:split
ALTER TABLE t_earlier_attempt ADD COLUMN ended_at TIMESTAMPTZ;
--bun:split
ALTER TABLE t_task ADD COLUMN waits TEXT;
--bun:split
ALTER TABLE t_schedule_part ADD COLUMN waits TEXT;
--bun:split
-- Parts of attempts before the one in t_schedule_part, at the scheduler.
CREATE TABLE t_earlier_schedule_part (
  job_id     TEXT    NOT NULL REFERENCES t_schedule_job (job_id) ON DELETE CASCADE,
  name       TEXT    NOT NULL,
  attempt    INTEGER NOT NULL,
  role       TEXT    NOT NULL,
  role_index INTEGER NOT NULL,
  node_id    TEXT    NOT NULL,
  task_id    TEXT    NOT NULL,
  state      TEXT    NOT NULL,
  reason     TEXT    NOT NULL,
  failure    TEXT,
  waits      TEXT,
  started_at TIMESTAMPTZ,
  ended_at   TIMESTAMPTZ,
  PRIMARY KEY (job_id, name, attempt, role, role_index)
);
