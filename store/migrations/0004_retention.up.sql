-- Which deployment this database is of: runs carry it, so that nobody takes those of another for its own.
CREATE TABLE t_deployment (
  one INTEGER NOT NULL PRIMARY KEY,
  id  TEXT    NOT NULL
);
--bun:split
-- A job that is being removed, since it ended longer ago than results are kept: nothing takes over its outputs any more.
ALTER TABLE t_job ADD COLUMN removing BOOLEAN NOT NULL DEFAULT FALSE;
--bun:split
CREATE INDEX i_job_ended ON t_job (ended_at);
--bun:split
CREATE INDEX i_schedule_job_ended ON t_schedule_job (ended_at);
--bun:split
CREATE INDEX i_schedule_job_state ON t_schedule_job (state, job_id);
--bun:split
CREATE INDEX i_task_reused ON t_task (reused_task_id) WHERE reused_task_id <> '';
