-- What this party fixed of a job at its creation.
--   document   the DAG and configuration, byte for byte as received
--   providers  the registered providers of its components as they were then, as a JSON list (store.Provider)
--   images     the ids of images that no runner had resolved then, by reference and by the runner that has resolved
--              each since, as JSON: the first one to start a container of the job with it
CREATE TABLE t_job_document (
  job_id     TEXT        NOT NULL PRIMARY KEY,
  document   BYTEA       NOT NULL,
  providers  BYTEA       NOT NULL,
  images     TEXT        NOT NULL,
  created_at TIMESTAMPTZ NOT NULL
);
--bun:split
-- Jobs that this party schedules.
--   removing           the ended job is removed
--   outcome            how the job ended (bfia.Outcome); empty until then
--   failure            why the job failed, as JSON (bfia.Failure)
--   waiting            what the job waits for, as a JSON list (bfia.Waiting), unless the queue says it
--   parallelism        how many tasks of the job its reservations let run at once, as JSON by node id
--   queued_at          when the job entered the scheduler's queue
--   dequeued_at        when the queue let the job request its reservations; NULL while it waits
--   wait_node          the party that denied a reservation last, and
--   wait_reason        its reason
--   participant_nodes  node ids of the participants, as a JSON list
CREATE TABLE t_schedule_job (
  job_id            TEXT        NOT NULL PRIMARY KEY,
  flow_id           TEXT        NOT NULL,
  state             TEXT        NOT NULL,
  initiator_role    TEXT        NOT NULL,
  initiator_node    TEXT        NOT NULL,
  participant_nodes TEXT        NOT NULL,
  sync_type         TEXT        NOT NULL,
  priority          INTEGER     NOT NULL,
  removing          BOOLEAN     NOT NULL DEFAULT FALSE,
  reason            TEXT        NOT NULL,
  outcome           TEXT        NOT NULL,
  failure           TEXT,
  waiting           TEXT        NOT NULL,
  parallelism       TEXT        NOT NULL,
  queued_at         TIMESTAMPTZ,
  dequeued_at       TIMESTAMPTZ,
  wait_node         TEXT        NOT NULL,
  wait_reason       TEXT        NOT NULL,
  created_at        TIMESTAMPTZ NOT NULL,
  started_at        TIMESTAMPTZ,
  ended_at          TIMESTAMPTZ
);
--bun:split
CREATE INDEX i_schedule_job_created ON t_schedule_job (created_at DESC, job_id DESC);
--bun:split
CREATE INDEX i_schedule_job_ended ON t_schedule_job (ended_at);
--bun:split
CREATE INDEX i_schedule_job_state ON t_schedule_job (state, job_id);
--bun:split
CREATE INDEX i_schedule_job_queue ON t_schedule_job (state, queued_at);
--bun:split
-- Tasks of these jobs, over all parties. task_id names one attempt of the task; seq is its position in the DAG's list.
CREATE TABLE t_schedule_task (
  task_id    TEXT    NOT NULL PRIMARY KEY,
  job_id     TEXT    NOT NULL REFERENCES t_schedule_job (job_id) ON DELETE CASCADE,
  name       TEXT    NOT NULL,
  component  TEXT    NOT NULL,
  provider   TEXT    NOT NULL,
  version    TEXT    NOT NULL,
  seq        INTEGER NOT NULL,
  depends_on TEXT    NOT NULL,
  attempt    INTEGER NOT NULL,
  state      TEXT    NOT NULL,
  reason     TEXT    NOT NULL,
  started_at TIMESTAMPTZ,
  ended_at   TIMESTAMPTZ,
  UNIQUE (job_id, name)
);
--bun:split
-- Parts of these tasks: one for each role that takes part, at the party (node_id) that plays it.
CREATE TABLE t_schedule_part (
  task_id    TEXT    NOT NULL REFERENCES t_schedule_task (task_id) ON DELETE CASCADE,
  role       TEXT    NOT NULL,
  role_index INTEGER NOT NULL,
  job_id     TEXT    NOT NULL,
  node_id    TEXT    NOT NULL,
  state      TEXT    NOT NULL,
  reason     TEXT    NOT NULL,
  failure    TEXT,
  waiting    TEXT,
  started_at TIMESTAMPTZ,
  ended_at   TIMESTAMPTZ,
  PRIMARY KEY (task_id, role, role_index)
);
--bun:split
CREATE INDEX i_schedule_part_job ON t_schedule_part (job_id);
--bun:split
-- Jobs in which this party takes part. removing is set once an ended job is removed; no other job may reuse its outputs
-- from then on. removal_failure is why the removal failed, until it succeeds. outcome and waiting are as in
-- t_schedule_job. party_nodes holds the node ids of all parties of the job, as a JSON list. old_job_id is the job whose
-- outputs it may reuse, or empty.
CREATE TABLE t_job (
  job_id         TEXT        NOT NULL PRIMARY KEY,
  flow_id        TEXT        NOT NULL,
  state          TEXT        NOT NULL,
  roles          TEXT        NOT NULL,
  initiator_node TEXT        NOT NULL,
  scheduler_node TEXT        NOT NULL,
  party_nodes    TEXT        NOT NULL,
  reason         TEXT        NOT NULL,
  outcome        TEXT        NOT NULL,
  failure        TEXT,
  waiting        TEXT        NOT NULL,
  removing       BOOLEAN     NOT NULL DEFAULT FALSE,
  old_job_id     TEXT        NOT NULL,
  removal_failure TEXT       NOT NULL DEFAULT '',
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
CREATE INDEX i_job_outcome ON t_job (outcome, created_at DESC, job_id DESC);
--bun:split
CREATE INDEX i_job_ended ON t_job (ended_at);
--bun:split
-- This party's parts of the tasks of these jobs.
--   task_id         the scheduler's id of the attempt; empty until the task starts
--   runner_id       the runner of the attempt's container, with the container's name and id
--   waiting         what a part without a running container waits for, as JSON (bfia.Waiting)
--   waiting_shown   whether the job's workflow shows a wait of the part in Temporal's UI
--   reused_job_id   the earlier job whose outputs the part reuses instead of running a container
--   reused_task_id  the task id under which these outputs are stored
--   dataset         the dataset that the part reads, as namespace#name; empty where it reads none
--   dataset_generation
--                   the generation of that dataset which was current when the job was created
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
  runner_id      TEXT    NOT NULL,
  container_name TEXT    NOT NULL,
  container_id   TEXT    NOT NULL,
  exit_code      INTEGER,
  exited_at      TIMESTAMPTZ,
  stop_requested BOOLEAN NOT NULL,
  reason         TEXT    NOT NULL,
  failure        TEXT,
  waiting        TEXT,
  waiting_shown  BOOLEAN NOT NULL DEFAULT FALSE,
  progress       TEXT    NOT NULL,
  reused_job_id  TEXT    NOT NULL,
  reused_task_id TEXT    NOT NULL,
  dataset        TEXT    NOT NULL,
  dataset_generation TEXT NOT NULL,
  model          TEXT    NOT NULL DEFAULT '',
  model_address  TEXT    NOT NULL DEFAULT '',
  started_at     TIMESTAMPTZ,
  ended_at       TIMESTAMPTZ,
  PRIMARY KEY (job_id, name, role, role_index)
);
--bun:split
CREATE UNIQUE INDEX i_task_id ON t_task (task_id, role, role_index) WHERE task_id <> '';
--bun:split
-- Attempts of parts before the one in t_task, so that their logs stay readable.
CREATE TABLE t_earlier_attempt (
  job_id         TEXT    NOT NULL REFERENCES t_job (job_id) ON DELETE CASCADE,
  name           TEXT    NOT NULL,
  role           TEXT    NOT NULL,
  role_index     INTEGER NOT NULL,
  attempt        INTEGER NOT NULL,
  task_id        TEXT    NOT NULL,
  container_name TEXT    NOT NULL,
  PRIMARY KEY (job_id, name, role, role_index, attempt)
);
--bun:split
CREATE INDEX i_earlier_attempt_task ON t_earlier_attempt (task_id);
--bun:split
CREATE INDEX i_task_reused ON t_task (reused_task_id) WHERE reused_task_id <> '';
--bun:split
CREATE INDEX i_task_generation ON t_task (dataset_generation) WHERE dataset_generation <> '';
--bun:split
CREATE INDEX i_task_model ON t_task (model_address) WHERE model_address <> '';
--bun:split
CREATE INDEX i_task_dataset ON t_task (dataset) WHERE dataset <> '';
--bun:split
-- Outputs of these parts, with their address (namespace, name) in the object storage.
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
-- This party's parts of models, which its tasks trained or which it imported. They outlive their job if they are kept.
--   images          ids of the images of which the container ran one, or the reference, or the command; a JSON list
--   datasets        the uploaded datasets of the training at this party, as namespace#name@generation; a JSON list
--   document        of the job that trained it
--   namespace, name its address in the object storage, which never gets other content
--   sha256          of its content
--   removing        its objects are being removed, or, of an import, not stored yet
CREATE TABLE t_model (
  job_id     TEXT        NOT NULL,
  task_name  TEXT        NOT NULL,
  role       TEXT        NOT NULL,
  role_index INTEGER     NOT NULL,
  key        TEXT        NOT NULL,
  type       TEXT        NOT NULL,
  port       TEXT        NOT NULL,
  component  TEXT        NOT NULL,
  provider   TEXT        NOT NULL,
  version    TEXT        NOT NULL,
  images     TEXT        NOT NULL,
  datasets   TEXT        NOT NULL,
  document   BYTEA       NOT NULL,
  namespace  TEXT        NOT NULL,
  name       TEXT        NOT NULL,
  bytes      BIGINT      NOT NULL,
  sha256     TEXT        NOT NULL,
  kept       BOOLEAN     NOT NULL,
  imported   BOOLEAN     NOT NULL,
  removing   BOOLEAN     NOT NULL,
  created_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (job_id, task_name, role, role_index, key)
);
--bun:split
CREATE INDEX i_model_name ON t_model (name);
--bun:split
-- Registered providers and their components. images holds the ids of a provider's images, by reference and by the
-- runner that resolved it first; a job runs these ids. allowed lists the exceptions from the container profile that an
-- administrator approved, separated by commas.
CREATE TABLE t_provider_info (
  name       TEXT        NOT NULL,
  version    TEXT        NOT NULL,
  device     TEXT        NOT NULL,
  protocol   TEXT        NOT NULL,
  metadata   TEXT        NOT NULL,
  images     TEXT        NOT NULL,
  allowed    TEXT        NOT NULL,
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
-- Uploaded datasets. generation names the upload that is current.
CREATE TABLE t_data_table (
  namespace  TEXT        NOT NULL,
  name       TEXT        NOT NULL,
  generation TEXT        NOT NULL,
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
-- Generations of datasets: every upload writes objects of its own (store/dataset), and never changes those of another. The
-- row is written before the objects, so that housekeeping finds what a dead process left.
--   superseded_at  when another generation became current; NULL for the current one, and for an upload that has not ended
--   removing       housekeeping removes its objects
CREATE TABLE t_data_generation (
  generation    TEXT        NOT NULL PRIMARY KEY,
  namespace     TEXT        NOT NULL,
  name          TEXT        NOT NULL,
  removing      BOOLEAN     NOT NULL,
  created_at    TIMESTAMPTZ NOT NULL,
  superseded_at TIMESTAMPTZ
);
--bun:split
CREATE INDEX i_data_generation_name ON t_data_generation (namespace, name);
--bun:split
-- Bearer tokens of clients, and their apps of FATE-Flow's client authentication. The token is not stored.
--   hash          its SHA-256
--   app           the token belongs to an app with the id token_id; it follows from a secret in t_secret
--   name          the user or program that holds it; several tokens may have one name
--   roles         a JSON list
--   expires_at    NULL for a token that does not expire
--   last_used_on  the last day on which it was used, as 2006-01-02 in UTC; empty if it never was
CREATE TABLE t_token (
  token_id     TEXT        NOT NULL PRIMARY KEY,
  hash         BYTEA       NOT NULL UNIQUE,
  app          BOOLEAN     NOT NULL,
  name         TEXT        NOT NULL,
  roles        TEXT        NOT NULL,
  created_by   TEXT        NOT NULL,
  created_at   TIMESTAMPTZ NOT NULL,
  expires_at   TIMESTAMPTZ,
  revoked_at   TIMESTAMPTZ,
  last_used_on TEXT        NOT NULL
);
--bun:split
-- The clients of this party that submitted a job, and those that decided on it: they must differ.
--   act         submitted, READY (approved) or REJECTED
--   credential  identifies the proof of the client, without revealing it (identity.Principal)
CREATE TABLE t_job_client (
  job_id     TEXT        NOT NULL,
  act        TEXT        NOT NULL,
  name       TEXT        NOT NULL,
  credential TEXT        NOT NULL,
  proof      TEXT        NOT NULL,
  created_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (job_id, act, name, credential)
);
CREATE INDEX i_job_client_name ON t_job_client (name);
--bun:split
-- The clients that have submitted jobs. A submission locks its row, so that the jobs of one client are counted one after
-- the other.
CREATE TABLE t_submitter (
  name         TEXT        NOT NULL PRIMARY KEY,
  submitted_at TIMESTAMPTZ NOT NULL
);
--bun:split
-- The id of the deployment that owns this database. Containers carry it as a label, so that no deployment removes those
-- of another. There is one row.
CREATE TABLE t_deployment (
  singleton INTEGER NOT NULL PRIMARY KEY,
  id        TEXT    NOT NULL
);
--bun:split
-- Runners.
--   slots      containers at once; 0 for a drained runner that deregistered
--   cpu_milli  resources for containers: CPU in thousandths of a core, memory and disk in bytes; 0 is unknown and
--              limits nothing
--   gpu        GPUs for containers; 0 is none
--   labels     a JSON object
--   images     the ids of the images that it has, by reference and by id, of those that registered providers name
--   draining   the runner gets no new containers
--   heartbeat_at   of its last heartbeat, by the database's clock
--   clock_skew_ms  milliseconds by which the runner's clock was ahead of the database's then
CREATE TABLE t_runner (
  runner_id    TEXT        NOT NULL PRIMARY KEY,
  node_id      TEXT        NOT NULL,
  devices      TEXT        NOT NULL,
  labels       TEXT        NOT NULL,
  task_queue   TEXT        NOT NULL,
  slots        INTEGER     NOT NULL,
  cpu_milli    BIGINT      NOT NULL,
  memory       BIGINT      NOT NULL,
  disk         BIGINT      NOT NULL,
  gpu          BIGINT      NOT NULL,
  machine      TEXT        NOT NULL,
  images       TEXT        NOT NULL,
  draining     BOOLEAN     NOT NULL,
  heartbeat_at TIMESTAMPTZ NOT NULL,
  clock_skew_ms BIGINT     NOT NULL DEFAULT 0
);
--bun:split
-- Requests for a reservation at this party that were denied and wait.
--   priority, created_at  of the job, as reported by its scheduler
--   waiting_since         the first denial
--   requested_at          the last request
--   reason                why the last request was denied
--   demand                slots and parallelism, as JSON (admission.Demand)
CREATE TABLE t_reservation_request (
  job_id         TEXT        NOT NULL PRIMARY KEY REFERENCES t_job (job_id) ON DELETE CASCADE,
  scheduler_node TEXT        NOT NULL,
  initiator_node TEXT        NOT NULL,
  flow_id        TEXT        NOT NULL,
  priority       INTEGER     NOT NULL,
  created_at     TIMESTAMPTZ NOT NULL,
  waiting_since  TIMESTAMPTZ NOT NULL,
  requested_at   TIMESTAMPTZ NOT NULL,
  reason         TEXT        NOT NULL,
  demand         TEXT        NOT NULL
);
--bun:split
-- Reserved slots: a job holds them at this party from before its start to its end.
--   parallel_index  from 0 to parallelism - 1; the slots of one index suffice for one task
--   slot_index      position in the demand's list of slots
--   constraints     what the slot requires of a runner (admission.Constraints.Key)
CREATE TABLE t_reservation (
  job_id         TEXT    NOT NULL REFERENCES t_job (job_id) ON DELETE CASCADE,
  parallel_index INTEGER NOT NULL,
  slot_index     INTEGER NOT NULL,
  role           TEXT    NOT NULL,
  role_index     INTEGER NOT NULL,
  constraints    TEXT    NOT NULL,
  runner_id      TEXT    NOT NULL,
  cpu_milli      BIGINT  NOT NULL,
  memory         BIGINT  NOT NULL,
  disk           BIGINT  NOT NULL,
  gpu            BIGINT  NOT NULL,
  PRIMARY KEY (job_id, parallel_index, slot_index)
);
--bun:split
CREATE INDEX i_reservation_runner ON t_reservation (runner_id);
--bun:split
-- The audit trail (internal/audit): who did what, with which outcome. seq has no gaps; hash covers the row and prev, the
-- hash of the row before. Nothing changes or deletes a row, also not retention.
--   count   1, or the number of refusals in a summary
--   digest  SHA-256 of the request
CREATE TABLE t_audit (
  seq         BIGINT      NOT NULL PRIMARY KEY,
  time        TIMESTAMPTZ NOT NULL,
  kind        TEXT        NOT NULL,
  node        TEXT        NOT NULL,
  name        TEXT        NOT NULL,
  run_job     TEXT        NOT NULL,
  run_task    TEXT        NOT NULL,
  run_role    TEXT        NOT NULL,
  proof       TEXT        NOT NULL,
  credential  TEXT        NOT NULL,
  address     TEXT        NOT NULL,
  act         TEXT        NOT NULL,
  object_kind TEXT        NOT NULL,
  object_id   TEXT        NOT NULL,
  outcome     TEXT        NOT NULL,
  reason      TEXT        NOT NULL,
  count       BIGINT      NOT NULL,
  digest      TEXT        NOT NULL,
  prev        TEXT        NOT NULL,
  hash        TEXT        NOT NULL
);
--bun:split
CREATE INDEX i_audit_time ON t_audit (time);
--bun:split
CREATE INDEX i_audit_object ON t_audit (object_kind, object_id, seq);
--bun:split
-- The head of the audit trail: number and hash of its last row. There is one row; writers of the trail lock it.
CREATE TABLE t_audit_head (
  singleton INTEGER NOT NULL PRIMARY KEY,
  seq       BIGINT  NOT NULL,
  hash      TEXT    NOT NULL
);
--bun:split
INSERT INTO t_audit_head (singleton, seq, hash) VALUES (1, 0, '');
--bun:split
-- Bytes between containers of this party and of partners, of a session of the transport that is released.
--   node_id      the partner; empty in the row that says that a session's transfers are complete
--   task_id      the task of the container that sent the messages, as its party names it; empty if unknown
--   sent         bytes of the messages that the partner has accepted
--   unconfirmed  bytes of messages of which it is unknown whether the partner has accepted them
--   incomplete   the transport crashed meanwhile: the numbers are lower bounds
CREATE TABLE t_transfer (
  session_id        TEXT        NOT NULL,
  node_id           TEXT        NOT NULL,
  task_id           TEXT        NOT NULL,
  sent              BIGINT      NOT NULL,
  sent_messages     BIGINT      NOT NULL,
  received          BIGINT      NOT NULL,
  received_messages BIGINT      NOT NULL,
  unconfirmed       BIGINT      NOT NULL,
  incomplete        BOOLEAN     NOT NULL,
  recorded_at       TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (session_id, node_id, task_id)
);
--bun:split
-- What the containers of this party's parts have used, by attempt. NULL is unknown.
--   final       cpu_millis and peak_memory (bytes) are those at the container's end, else lower bounds
--   started_at  when the container started, and
--   ended_at    when it ended
CREATE TABLE t_usage (
  job_id      TEXT        NOT NULL,
  name        TEXT        NOT NULL,
  role        TEXT        NOT NULL,
  role_index  INTEGER     NOT NULL,
  attempt     INTEGER     NOT NULL,
  task_id     TEXT        NOT NULL,
  runner_id   TEXT        NOT NULL,
  device      TEXT        NOT NULL,
  cpu_millis  BIGINT,
  peak_memory BIGINT,
  final       BOOLEAN     NOT NULL,
  started_at  TIMESTAMPTZ,
  ended_at    TIMESTAMPTZ,
  recorded_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (job_id, name, role, role_index, attempt)
);
--bun:split
-- Nonces of signed requests, against their replay. They are removed some time after the request would be too old.
--   node_id  the partner that signed it, or "app" and the id of the app that did
--   request  a digest of the request, if it may come again with the same nonce; else empty
--   used_at  by the database's clock
CREATE TABLE t_nonce (
  node_id TEXT        NOT NULL,
  nonce   TEXT        NOT NULL,
  request TEXT        NOT NULL,
  used_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (node_id, nonce)
);
--bun:split
CREATE INDEX i_nonce_used_at ON t_nonce (used_at);
--bun:split
-- Secrets that the processes of the party share. The first one that needs a secret makes it.
CREATE TABLE t_secret (
  name       TEXT        NOT NULL PRIMARY KEY,
  value      TEXT        NOT NULL,
  created_at TIMESTAMPTZ NOT NULL
);
--bun:split
-- Contracts with other parties (BFIA part 1, section 3). Partners of the configuration have no row.
--   state          INVITED, APPLIED, APPROVED, REJECTED or TERMINATED
--   applied_here   this party has applied, and its user has compared the partner's fingerprint
--   credential     the partner's certificate in PEM form
--   pins           the SHA-256 of the keys that prove the partner, in hexadecimal, separated by spaces
--   secret_sha256  of the invitation's secret, in hexadecimal
--   invited_until  the end of the invitation
--   expires_at     the end of the contract
CREATE TABLE t_partner (
  node_id        TEXT        NOT NULL PRIMARY KEY,
  contract_id    TEXT        NOT NULL UNIQUE,
  state          TEXT        NOT NULL,
  applied_here   BOOLEAN     NOT NULL,
  address        TEXT        NOT NULL,
  transport_address TEXT     NOT NULL,
  credential     TEXT        NOT NULL,
  pins           TEXT        NOT NULL,
  name           TEXT        NOT NULL,
  institution    TEXT        NOT NULL,
  inst_id        TEXT        NOT NULL,
  system         TEXT        NOT NULL,
  system_version TEXT        NOT NULL,
  description    TEXT        NOT NULL,
  secret_sha256  TEXT        NOT NULL,
  invited_until  TIMESTAMPTZ,
  expires_at     TIMESTAMPTZ,
  updated_at     TIMESTAMPTZ NOT NULL
);
--bun:split
-- What partners may use of this party.
--   partner     the initiator of the jobs
--   component   a pattern: Component, provider/Component or provider:version/Component
--   dataset     a pattern namespace#name, * for all, or empty for none
--   until       the end; NULL for none
--   times       how many jobs may use it; 0 for any number
--   audit_id    the partner's request for it, or empty
--   permit_hash the SHA-256 of the permit's token, which the partner holds, or empty
CREATE TABLE t_grant (
  grant_id   TEXT        NOT NULL PRIMARY KEY,
  partner    TEXT        NOT NULL,
  component  TEXT        NOT NULL,
  dataset    TEXT        NOT NULL,
  until      TIMESTAMPTZ,
  times      INTEGER     NOT NULL,
  created_by TEXT        NOT NULL,
  created_at TIMESTAMPTZ NOT NULL,
  revoked_at TIMESTAMPTZ,
  audit_id    TEXT       NOT NULL,
  permit_hash TEXT       NOT NULL
);
--bun:split
CREATE INDEX i_grant_permit ON t_grant (permit_hash) WHERE permit_hash <> '';
--bun:split
CREATE INDEX i_grant_partner ON t_grant (partner);
--bun:split
-- The jobs that have used a grant. They stay when a job is removed, or its use could be repeated.
--   accepted  the job is recorded; before, the use is held for a short time only
--   returned  the job was not created, and does not count
CREATE TABLE t_grant_use (
  grant_id TEXT        NOT NULL,
  job_id   TEXT        NOT NULL,
  used_at  TIMESTAMPTZ NOT NULL,
  accepted BOOLEAN     NOT NULL,
  returned BOOLEAN     NOT NULL,
  PRIMARY KEY (grant_id, job_id)
);
--bun:split
CREATE INDEX i_grant_use_job ON t_grant_use (job_id);
--bun:split
-- What users of this party noted on jobs.
CREATE TABLE t_job_note (
  job_id     TEXT        NOT NULL PRIMARY KEY,
  note       TEXT        NOT NULL,
  updated_at TIMESTAMPTZ NOT NULL
);
--bun:split
-- What clients of this party have submitted. Only such jobs are this party's own, also if
-- another party schedules them.
CREATE TABLE t_submission (
  job_id     TEXT        NOT NULL,
  digest     TEXT        NOT NULL,
  created_at TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (job_id, digest)
);
--bun:split
-- Requests for grants of datasets: those that partners sent, and those that this party sent (sent).
--   resource, resource_level, token
--              the permit that this party holds. token is the secret that its jobs present.
--   delivered  the partner has its permit
CREATE TABLE t_grant_request (
  partner        TEXT        NOT NULL,
  audit_id       TEXT        NOT NULL,
  sent           BOOLEAN     NOT NULL,
  state          TEXT        NOT NULL,
  dataset        TEXT        NOT NULL,
  components     TEXT        NOT NULL,
  until          TIMESTAMPTZ,
  times          INTEGER     NOT NULL,
  resource       TEXT        NOT NULL,
  resource_level INTEGER     NOT NULL,
  token          TEXT        NOT NULL,
  delivered      BOOLEAN     NOT NULL,
  created_by     TEXT        NOT NULL,
  decided_by     TEXT        NOT NULL,
  created_at     TIMESTAMPTZ NOT NULL,
  updated_at     TIMESTAMPTZ NOT NULL,
  PRIMARY KEY (partner, audit_id, sent)
);
--bun:split
-- The permits of jobs that this party creates at their parties. They are removed once the job is created.
CREATE TABLE t_job_permit (
  job_id     TEXT        NOT NULL PRIMARY KEY,
  permits    TEXT        NOT NULL,
  created_at TIMESTAMPTZ NOT NULL
);

--bun:split
-- When each partner has made its last request, to within some seconds.
CREATE TABLE t_partner_contact (
  node_id    TEXT        NOT NULL PRIMARY KEY,
  contact_at TIMESTAMPTZ NOT NULL
);
