-- The base of the audit trail: number and hash of the last entry that was archived. Rows of t_audit up to it are removed,
-- and count no more if some are left. There is one row, once entries were archived. A process of an older version
-- appends to the trail as before, but takes the missing rows for a broken trail.
--   time  the latest time of an archived entry
CREATE TABLE t_audit_base (
  singleton INTEGER     NOT NULL PRIMARY KEY,
  seq       BIGINT      NOT NULL,
  hash      TEXT        NOT NULL,
  time      TIMESTAMPTZ NOT NULL
);
