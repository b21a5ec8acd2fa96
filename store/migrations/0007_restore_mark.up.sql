-- The restore mark: a number that the party counts up in its database, in Temporal and in its storage, so that it
-- finds out that one of them was restored. There is one row, once the party has started.
--   number       the mark
--   marked_at    when it was counted up last
--   restored_at  when a restore was finished last; NULL if none was
CREATE TABLE t_restore_mark (
  singleton   INTEGER     NOT NULL PRIMARY KEY,
  number      BIGINT      NOT NULL,
  marked_at   TIMESTAMPTZ NOT NULL,
  restored_at TIMESTAMPTZ
);
