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
-- The project to which a job belongs at this party, from its submission or its arrival on. It stays when the job is
-- removed: the account of the job does too. Jobs without a row belong to default.
CREATE TABLE t_job_project (
  job_id     TEXT        NOT NULL PRIMARY KEY,
  project    TEXT        NOT NULL,
  created_at TIMESTAMPTZ NOT NULL
);
--bun:split
CREATE INDEX i_job_project ON t_job_project (project, created_at);
--bun:split
ALTER TABLE t_data_table ADD COLUMN project TEXT NOT NULL DEFAULT 'default';
--bun:split
ALTER TABLE t_model ADD COLUMN project TEXT NOT NULL DEFAULT 'default';
