-- The document of a job (DAG and config) as it came.
CREATE TABLE t_job_document (
  job_id     TEXT        NOT NULL PRIMARY KEY,
  document   BYTEA       NOT NULL,
  created_at TIMESTAMPTZ NOT NULL
);
--bun:split
-- The scheduler's side.
CREATE TABLE t_schedule_job (
  job_id         TEXT        NOT NULL PRIMARY KEY,
  flow_id        TEXT        NOT NULL,
  state          TEXT        NOT NULL,
  initiator_role TEXT        NOT NULL,
  initiator_node TEXT        NOT NULL,
  sync_type      TEXT        NOT NULL,
  priority       INTEGER     NOT NULL,
  reason         TEXT        NOT NULL,
  created_at     TIMESTAMPTZ NOT NULL,
  started_at     TIMESTAMPTZ,
  ended_at       TIMESTAMPTZ
);
--bun:split
CREATE INDEX i_schedule_job_created ON t_schedule_job (created_at DESC, job_id DESC);
--bun:split
CREATE TABLE t_schedule_task (
  task_id    TEXT    NOT NULL PRIMARY KEY,
  job_id     TEXT    NOT NULL REFERENCES t_schedule_job (job_id) ON DELETE CASCADE,
  name       TEXT    NOT NULL,
  component  TEXT    NOT NULL,
  provider   TEXT    NOT NULL,
  version    TEXT    NOT NULL,
  seq        INTEGER NOT NULL,
  depends_on TEXT    NOT NULL,
  state      TEXT    NOT NULL,
  reason     TEXT    NOT NULL,
  started_at TIMESTAMPTZ,
  ended_at   TIMESTAMPTZ,
  UNIQUE (job_id, name)
);
--bun:split
CREATE TABLE t_schedule_task_status (
  task_id    TEXT    NOT NULL REFERENCES t_schedule_task (task_id) ON DELETE CASCADE,
  role       TEXT    NOT NULL,
  role_index INTEGER NOT NULL,
  job_id     TEXT    NOT NULL,
  node_id    TEXT    NOT NULL,
  state      TEXT    NOT NULL,
  reason     TEXT    NOT NULL,
  started_at TIMESTAMPTZ,
  ended_at   TIMESTAMPTZ,
  PRIMARY KEY (task_id, role, role_index)
);
--bun:split
CREATE INDEX i_schedule_task_status_job ON t_schedule_task_status (job_id);
--bun:split
-- The participant's side.
CREATE TABLE t_job (
  job_id         TEXT        NOT NULL PRIMARY KEY,
  flow_id        TEXT        NOT NULL,
  state          TEXT        NOT NULL,
  roles          TEXT        NOT NULL,
  initiator_node TEXT        NOT NULL,
  scheduler_node TEXT        NOT NULL,
  reason         TEXT        NOT NULL,
  created_at     TIMESTAMPTZ NOT NULL,
  started_at     TIMESTAMPTZ,
  ended_at       TIMESTAMPTZ
);
--bun:split
CREATE INDEX i_job_created ON t_job (created_at DESC, job_id DESC);
--bun:split
CREATE INDEX i_job_flow ON t_job (flow_id, created_at DESC, job_id DESC);
--bun:split
CREATE INDEX i_job_state ON t_job (state, created_at DESC, job_id DESC);
--bun:split
CREATE TABLE t_task (
  job_id         TEXT    NOT NULL REFERENCES t_job (job_id) ON DELETE CASCADE,
  name           TEXT    NOT NULL,
  role           TEXT    NOT NULL,
  role_index     INTEGER NOT NULL,
  seq            INTEGER NOT NULL,
  task_id        TEXT    NOT NULL,
  component      TEXT    NOT NULL,
  provider       TEXT    NOT NULL,
  version        TEXT    NOT NULL,
  state          TEXT    NOT NULL,
  attempt        INTEGER NOT NULL,
  host_id        TEXT    NOT NULL,
  run_name       TEXT    NOT NULL,
  run_id         TEXT    NOT NULL,
  exit_code      INTEGER,
  exited_at      TIMESTAMPTZ,
  stop_requested BOOLEAN NOT NULL,
  reason         TEXT    NOT NULL,
  progress       TEXT    NOT NULL,
  started_at     TIMESTAMPTZ,
  ended_at       TIMESTAMPTZ,
  PRIMARY KEY (job_id, name, role, role_index)
);
--bun:split
CREATE UNIQUE INDEX i_task_id ON t_task (task_id, role, role_index) WHERE task_id <> '';
--bun:split
CREATE TABLE t_task_output (
  job_id     TEXT        NOT NULL REFERENCES t_job (job_id) ON DELETE CASCADE,
  task_name  TEXT        NOT NULL,
  role       TEXT        NOT NULL,
  role_index INTEGER     NOT NULL,
  type       TEXT        NOT NULL,
  key        TEXT        NOT NULL,
  port       TEXT        NOT NULL,
  task_id    TEXT        NOT NULL,
  namespace  TEXT        NOT NULL,
  name       TEXT        NOT NULL,
  bytes      BIGINT      NOT NULL,
  created_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (job_id, task_name, role, role_index, type, key)
);
--bun:split
CREATE TABLE t_provider_info (
  name       TEXT        NOT NULL,
  version    TEXT        NOT NULL,
  device     TEXT        NOT NULL,
  protocol   TEXT        NOT NULL,
  metadata   TEXT        NOT NULL,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (name, version, device)
);
--bun:split
CREATE TABLE t_component_info (
  provider    TEXT NOT NULL,
  version     TEXT NOT NULL,
  device      TEXT NOT NULL,
  name        TEXT NOT NULL,
  description TEXT NOT NULL,
  PRIMARY KEY (provider, version, device, name),
  FOREIGN KEY (provider, version, device) REFERENCES t_provider_info (name, version, device) ON DELETE CASCADE
);
--bun:split
CREATE TABLE t_data_table (
  namespace  TEXT        NOT NULL,
  name       TEXT        NOT NULL,
  columns    TEXT        NOT NULL,
  rows       BIGINT      NOT NULL,
  partitions INTEGER     NOT NULL,
  bytes      BIGINT      NOT NULL,
  meta       TEXT        NOT NULL,
  created_at TIMESTAMPTZ NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (namespace, name)
);
--bun:split
CREATE TABLE t_host (
  host_id TEXT        NOT NULL PRIMARY KEY,
  node_id TEXT        NOT NULL,
  devices TEXT        NOT NULL,
  queue   TEXT        NOT NULL,
  slots   INTEGER     NOT NULL,
  seen_at TIMESTAMPTZ NOT NULL
);
