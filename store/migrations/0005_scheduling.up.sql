-- What a host has for runs: CPU in thousandths of a core, memory and disk in bytes; 0 is not known, and bounds nothing.
ALTER TABLE t_host ADD COLUMN cpu_milli BIGINT NOT NULL DEFAULT 0;
--bun:split
ALTER TABLE t_host ADD COLUMN memory BIGINT NOT NULL DEFAULT 0;
--bun:split
ALTER TABLE t_host ADD COLUMN disk BIGINT NOT NULL DEFAULT 0;
--bun:split
-- Labels as a JSON object.
ALTER TABLE t_host ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
--bun:split
-- A host that is being drained gets no new runs.
ALTER TABLE t_host ADD COLUMN draining BOOLEAN NOT NULL DEFAULT FALSE;
--bun:split
-- What a job asks for at this party and has not got yet.
CREATE TABLE t_application (
  job_id         TEXT        NOT NULL PRIMARY KEY REFERENCES t_job (job_id) ON DELETE CASCADE,
  scheduler_node TEXT        NOT NULL,
  initiator_node TEXT        NOT NULL,
  flow_id        TEXT        NOT NULL,
  priority       INTEGER     NOT NULL,
  created_at     TIMESTAMPTZ NOT NULL,
  since          TIMESTAMPTZ NOT NULL,
  asked_at       TIMESTAMPTZ NOT NULL,
  wants          TEXT        NOT NULL
);
--bun:split
-- The room that a job holds at this party, from before its start to its end: one row for each container at once.
CREATE TABLE t_seat (
  job_id     TEXT    NOT NULL REFERENCES t_job (job_id) ON DELETE CASCADE,
  copy       INTEGER NOT NULL,
  seat       INTEGER NOT NULL,
  role       TEXT    NOT NULL,
  role_index INTEGER NOT NULL,
  needs      TEXT    NOT NULL,
  host_id    TEXT    NOT NULL,
  cpu_milli  BIGINT  NOT NULL,
  memory     BIGINT  NOT NULL,
  disk       BIGINT  NOT NULL,
  PRIMARY KEY (job_id, copy, seat)
);
--bun:split
CREATE INDEX i_seat_host ON t_seat (host_id);
--bun:split
-- The scheduler's queue: since when a job waits for its start, since when it has its turn, and at which party it waits for what.
ALTER TABLE t_schedule_job ADD COLUMN queued_at TIMESTAMPTZ;
--bun:split
ALTER TABLE t_schedule_job ADD COLUMN turn_at TIMESTAMPTZ;
--bun:split
ALTER TABLE t_schedule_job ADD COLUMN waits_at TEXT NOT NULL DEFAULT '';
--bun:split
ALTER TABLE t_schedule_job ADD COLUMN waits_for TEXT NOT NULL DEFAULT '';
--bun:split
ALTER TABLE t_schedule_job ADD COLUMN nodes TEXT NOT NULL DEFAULT '[]';
--bun:split
CREATE INDEX i_schedule_job_queue ON t_schedule_job (state, queued_at);
