-- Periodic jobs.
--   revision    which document its jobs have
--   recurrence  when it runs, as JSON (bfia.Recurrence)
--   version     orders the writes of its workflow
--   after_at    the scheduled times up to this one are handled
--   next_at     the next scheduled time
--   submitted   how many scheduled jobs were submitted
--   failures    how many of the last runs failed in a row
CREATE TABLE t_periodic_job (
  periodic_id TEXT        NOT NULL PRIMARY KEY,
  name        TEXT        NOT NULL UNIQUE,
  revision    INTEGER     NOT NULL,
  recurrence  TEXT        NOT NULL,
  state       TEXT        NOT NULL,
  reason      TEXT        NOT NULL,
  version     BIGINT      NOT NULL,
  after_at    TIMESTAMPTZ NOT NULL,
  next_at     TIMESTAMPTZ,
  submitted   INTEGER     NOT NULL,
  failures    INTEGER     NOT NULL,
  created_at  TIMESTAMPTZ NOT NULL,
  updated_at  TIMESTAMPTZ NOT NULL
);
--bun:split
-- What periodic jobs submit, and in whose name. A row never changes, except proved_at.
--   owner      the client that wrote this revision: how it proved who it is, and its roles then, as JSON
--   proved_at  when the owner proved last who it is
CREATE TABLE t_periodic_document (
  periodic_id TEXT        NOT NULL REFERENCES t_periodic_job (periodic_id) ON DELETE CASCADE,
  revision    INTEGER     NOT NULL,
  document    BYTEA       NOT NULL,
  owner       TEXT        NOT NULL,
  proved_at   TIMESTAMPTZ NOT NULL,
  created_at  TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (periodic_id, revision)
);
--bun:split
-- The scheduled times of periodic jobs, and what became of them.
--   manual    a client has started the run
--   accepted  the job was created at all its parties
--   count     how many scheduled times a row of missed runs covers
CREATE TABLE t_periodic_run (
  periodic_id  TEXT        NOT NULL REFERENCES t_periodic_job (periodic_id) ON DELETE CASCADE,
  scheduled_at TIMESTAMPTZ NOT NULL,
  manual       BOOLEAN     NOT NULL,
  revision     INTEGER     NOT NULL,
  job_id       TEXT        NOT NULL,
  accepted     BOOLEAN     NOT NULL,
  outcome      TEXT        NOT NULL,
  reason       TEXT        NOT NULL,
  count        INTEGER     NOT NULL,
  ended_at     TIMESTAMPTZ,
  PRIMARY KEY (periodic_id, scheduled_at, manual)
);
--bun:split
CREATE INDEX i_periodic_run_job ON t_periodic_run (job_id);
