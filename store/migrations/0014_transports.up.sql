-- The transports of the party. A volume is a transport's spool.
--   name, address  of the process that serves the volume, or did last
--   instance       of that process; it serves the volume until another instance is here
--   epoch          grows with each takeover, and while a process serves the volume;
--                  a spool with a lower one is an old copy
--   single         the process knows no other transports (transport.several is false)
--   heartbeat_at   of that process, by the database's clock
--   stopped        the process has stopped, at heartbeat_at
CREATE TABLE t_transport (
  volume_id    TEXT        NOT NULL PRIMARY KEY,
  name         TEXT        NOT NULL,
  address      TEXT        NOT NULL,
  instance     TEXT        NOT NULL,
  epoch        BIGINT      NOT NULL,
  single       BOOLEAN     NOT NULL,
  heartbeat_at TIMESTAMPTZ NOT NULL,
  stopped      BOOLEAN     NOT NULL
);
--bun:split
-- The volume that holds the sessions of a job, if the party has several transports. It does not change while a
-- session or a job needs it; sweeps remove the row later.
--   session_key  the job's session, without what follows an underscore in its id; or one that belongs to no job
--   used_at      when a process last read this, or the transport last saw a session of it, within some hours
CREATE TABLE t_placement (
  session_key TEXT        NOT NULL PRIMARY KEY,
  volume_id   TEXT        NOT NULL,
  used_at     TIMESTAMPTZ NOT NULL
);
--bun:split
CREATE INDEX i_placement_volume ON t_placement (volume_id, used_at);
