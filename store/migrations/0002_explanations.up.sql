-- Why a job or a part of a task did not go well, as JSON.
ALTER TABLE t_schedule_job ADD COLUMN explanation TEXT;
--bun:split
ALTER TABLE t_schedule_task_status ADD COLUMN explanation TEXT;
--bun:split
ALTER TABLE t_job ADD COLUMN explanation TEXT;
--bun:split
ALTER TABLE t_task ADD COLUMN explanation TEXT;
--bun:split
-- The job whose outputs this part took over in place of a run, and the id under which they lie.
ALTER TABLE t_task ADD COLUMN reused_job_id TEXT NOT NULL DEFAULT '';
--bun:split
ALTER TABLE t_task ADD COLUMN reused_task_id TEXT NOT NULL DEFAULT '';
