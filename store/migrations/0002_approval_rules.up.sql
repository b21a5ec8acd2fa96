-- The rules that approve jobs of this party without a person.
--   scope       what a rule covers, as JSON (bfia.ApprovalScope)
--   credential  the proof of who made the rule, which it does not reveal
--   used        how many jobs the rule has approved
CREATE TABLE t_approval_rule (
  rule_id      TEXT        NOT NULL PRIMARY KEY,
  scope        TEXT        NOT NULL,
  until        TIMESTAMPTZ NOT NULL,
  note         TEXT        NOT NULL,
  from_job     TEXT        NOT NULL,
  created_by   TEXT        NOT NULL,
  credential   TEXT        NOT NULL,
  created_at   TIMESTAMPTZ NOT NULL,
  removed_at   TIMESTAMPTZ,
  removed_by   TEXT        NOT NULL,
  used         INTEGER     NOT NULL,
  last_used_at TIMESTAMPTZ
);
--bun:split
-- What the rules decided on a job when it arrived, once for each job: a repeated request gets the same answer.
--   rule_id   the rule that approved the job, or empty: it waits for a person
--   datasets  the generations of the datasets on whose columns the rule decided, by address
CREATE TABLE t_rule_decision (
  job_id     TEXT        NOT NULL PRIMARY KEY,
  rule_id    TEXT        NOT NULL,
  datasets   TEXT        NOT NULL,
  created_at TIMESTAMPTZ NOT NULL
);
