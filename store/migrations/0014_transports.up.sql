-- The transports of a party with transport.several. A volume is a transport's spool.
--   name, address  of the process that serves the volume, or did last
--   heartbeat_at   of that process, by the database's clock; NULL once it has stopped
CREATE TABLE t_transport (
  volume_id    TEXT NOT NULL PRIMARY KEY,
  name         TEXT NOT NULL,
  address      TEXT NOT NULL,
  heartbeat_at TIMESTAMPTZ
);
--bun:split
-- The volume that holds the sessions of a job. It never changes.
--   session_key  the job's session, or one that belongs to no job
--   used_at      when the transport last saw a session of it, within some hours
CREATE TABLE t_placement (
  session_key TEXT        NOT NULL PRIMARY KEY,
  volume_id   TEXT        NOT NULL,
  used_at     TIMESTAMPTZ NOT NULL
);
--bun:split
CREATE INDEX i_placement_volume ON t_placement (volume_id, used_at);
