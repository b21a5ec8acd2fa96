-- Messages to the people and services that the party's configuration names (notifications.receivers).
--   event        what happened, such as job_failed
--   object_id    to what: a job, a request for a grant, or a runner
--   occurred_at  when
--   job_id       the job, or empty
--   content      what the message says, as JSON (notify.Event), without rows of data
--   state        NEW, SENDING, DELIVERED or FAILED
--   round        1, and one more each time that it is sent again by hand
--   attempts     how often it was tried, in all rounds
--   last_error   why the last try failed, or empty
--   answer       what the receiver answered, once it has taken it
CREATE TABLE t_notification (
  notification_id TEXT        NOT NULL PRIMARY KEY,
  event           TEXT        NOT NULL,
  object_id       TEXT        NOT NULL,
  occurred_at     TIMESTAMPTZ NOT NULL,
  receiver        TEXT        NOT NULL,
  job_id          TEXT        NOT NULL,
  content         TEXT        NOT NULL,
  state           TEXT        NOT NULL,
  round           INTEGER     NOT NULL,
  attempts        INTEGER     NOT NULL,
  last_error      TEXT        NOT NULL,
  answer          TEXT        NOT NULL,
  created_at      TIMESTAMPTZ NOT NULL,
  updated_at      TIMESTAMPTZ NOT NULL,
  delivered_at    TIMESTAMPTZ,
  UNIQUE (event, object_id, occurred_at, receiver)
);
--bun:split
CREATE INDEX i_notification_created ON t_notification (created_at DESC, notification_id DESC);
--bun:split
CREATE INDEX i_notification_state ON t_notification (state, created_at);
--bun:split
CREATE INDEX i_notification_job ON t_notification (job_id);
--bun:split
-- What the notifications have considered, whether or not a receiver wanted it. Rows that are older than the mark of
-- t_notification_mark are removed.
CREATE TABLE t_noticed (
  subject     TEXT        NOT NULL,
  object_id   TEXT        NOT NULL,
  occurred_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (subject, object_id, occurred_at)
);
--bun:split
CREATE INDEX i_noticed_occurred ON t_noticed (occurred_at);
--bun:split
-- The time before which nothing is considered: when notifications were switched on, or well before the last look.
-- There is no row while they are off.
CREATE TABLE t_notification_mark (
  singleton INTEGER     NOT NULL PRIMARY KEY,
  since     TIMESTAMPTZ NOT NULL
);
