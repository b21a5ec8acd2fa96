-- What housekeeping and the removal of a job look for among all jobs that have ended.
CREATE INDEX i_job_removing ON t_job (job_id) WHERE removing;
--bun:split
CREATE INDEX i_schedule_job_removing ON t_schedule_job (job_id) WHERE removing;
--bun:split
CREATE INDEX i_job_old ON t_job (old_job_id) WHERE old_job_id <> '';
--bun:split
CREATE INDEX i_task_reused_job ON t_task (reused_job_id) WHERE reused_job_id <> '';
