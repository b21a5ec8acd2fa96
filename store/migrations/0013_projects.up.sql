-- Projects: the departments of this party. There is no row for the project default. Names of removed projects are not
-- used again, since what was recorded of their jobs stays.
--   settings  as JSON (bfia.ProjectSettings)
CREATE TABLE t_project (
  name       TEXT        NOT NULL PRIMARY KEY,
  settings   TEXT        NOT NULL,
  created_by TEXT        NOT NULL,
  created_at TIMESTAMPTZ NOT NULL,
  removed_at TIMESTAMPTZ
);
--bun:split
-- The project to which a job, or an imported model under a job's id, belongs at this party, from its submission or its
-- arrival on. It stays when the job is removed: its account and the models that are kept do too. A job without a row is
-- known only to those who know all projects.
--   removed_at  when the job was removed: no job is created under its id again
CREATE TABLE t_job_project (
  job_id     TEXT        NOT NULL PRIMARY KEY,
  project    TEXT        NOT NULL,
  created_at TIMESTAMPTZ NOT NULL,
  removed_at TIMESTAMPTZ
);
--bun:split
-- All jobs of which something is left are of default.
INSERT INTO t_job_project (job_id, project, created_at)
SELECT job_id, 'default', MIN(created_at) FROM (
  SELECT job_id, created_at FROM t_job
  UNION ALL SELECT job_id, created_at FROM t_schedule_job
  UNION ALL SELECT job_id, created_at FROM t_job_document
  UNION ALL SELECT job_id, created_at FROM t_submission
  UNION ALL SELECT job_id, created_at FROM t_model
  UNION ALL SELECT job_id, recorded_at FROM t_usage
) AS known GROUP BY job_id;
--bun:split
-- The project of a job again, so that a list of one project reads no jobs of others. t_job_project decides. A row that a
-- process of a version without projects creates has default.
ALTER TABLE t_job ADD COLUMN project TEXT NOT NULL DEFAULT 'default';
--bun:split
CREATE INDEX i_job_project ON t_job (project, created_at DESC, job_id DESC);
--bun:split
CREATE INDEX i_job_project_ended ON t_job (project, ended_at) WHERE ended_at IS NOT NULL;
--bun:split
-- A state changes often. A party without projects must not pay for it.
CREATE INDEX i_job_project_state ON t_job (project, state) WHERE project <> 'default';
--bun:split
ALTER TABLE t_schedule_job ADD COLUMN project TEXT NOT NULL DEFAULT 'default';
--bun:split
CREATE INDEX i_schedule_job_project_ended ON t_schedule_job (project, ended_at) WHERE ended_at IS NOT NULL;
--bun:split
CREATE INDEX i_schedule_job_project_state ON t_schedule_job (project, state) WHERE project <> 'default';
--bun:split
ALTER TABLE t_data_table ADD COLUMN project TEXT NOT NULL DEFAULT 'default';
--bun:split
-- The project of whose jobs a rule decides. Empty: all.
ALTER TABLE t_approval_rule ADD COLUMN project TEXT NOT NULL DEFAULT '';
--bun:split
-- The project of a periodic job and of its jobs.
ALTER TABLE t_periodic_job ADD COLUMN project TEXT NOT NULL DEFAULT 'default';
--bun:split
-- Whether the reason for which a job waits at a party is a quota there.
ALTER TABLE t_schedule_job ADD COLUMN wait_quota BOOLEAN NOT NULL DEFAULT FALSE;
