-- The path of a change through PostgreSQL. Formats: docs/protocol.md section 2.

CREATE UNLOGGED TABLE tandem.queue (
  batch_id bigint NOT NULL,
  table_id integer NOT NULL,
  op       "char" NOT NULL,
  flags    smallint NOT NULL DEFAULT 0,
  age_us   integer,
  key      bytea NOT NULL,
  image    bytea
);
CREATE INDEX queue_batch ON tandem.queue (batch_id);
ALTER TABLE tandem.queue ALTER COLUMN image SET STORAGE EXTERNAL;
COMMENT ON TABLE tandem.queue IS 'rows fetched from the old side, waiting to be applied; unlogged: after a crash they are fetched again';
COMMENT ON COLUMN tandem.queue.op IS 'U: image present, D: row absent, X: the worker could not represent a value (image holds the error)';
COMMENT ON COLUMN tandem.queue.flags IS '1: event removes a row or a referenced value, 2: the same, found by cascade expansion, 4: backfill row, 8: the image notes losses';
COMMENT ON COLUMN tandem.queue.age_us IS 'age of the oldest event of the key when it was fetched, by the old side''s clock';

CREATE UNLOGGED TABLE tandem.batch (
  batch_id   bigint PRIMARY KEY,
  source_id  integer NOT NULL,
  epoch      bigint NOT NULL,
  arrival    bigint GENERATED ALWAYS AS IDENTITY,
  rows       integer NOT NULL,
  bytes      bigint NOT NULL,
  fetch_us   integer NOT NULL DEFAULT 0,
  backfill   jsonb,
  arrived_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE tandem.batch IS 'batches that wait to be applied, one for each snapshot of a pump';

CREATE TABLE tandem.journal (
  batch_id      bigint PRIMARY KEY,
  source_id     integer NOT NULL,
  rows          integer NOT NULL,
  retried       integer NOT NULL DEFAULT 0,
  dead_lettered integer NOT NULL DEFAULT 0,
  apply_us      bigint NOT NULL,
  applied_at    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  finished      boolean NOT NULL DEFAULT false
);
COMMENT ON TABLE tandem.journal IS 'one row for each applied batch, written in the transaction that applied it: the only acknowledgement there is';
COMMENT ON COLUMN tandem.journal.finished IS 'the outbox rows of the batch are deleted on the old side';

CREATE TABLE tandem.request (
  request_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  table_id   integer NOT NULL REFERENCES tandem.source_table ON DELETE CASCADE,
  key_text   text[] NOT NULL,
  flags      integer NOT NULL DEFAULT 0,
  reason     text NOT NULL,
  asked_at   timestamptz NOT NULL DEFAULT pg_catalog.now(),
  asked_by   name NOT NULL DEFAULT CURRENT_USER,
  not_before timestamptz NOT NULL DEFAULT '-infinity',
  direct_id  bigint
);
CREATE INDEX request_table ON tandem.request (table_id);
COMMENT ON COLUMN tandem.request.not_before IS 'not handed to the worker earlier';
COMMENT ON COLUMN tandem.request.direct_id IS 'write that is to be verified, see tandem.direct_write';
COMMENT ON TABLE tandem.request IS 'keys that must be fetched again: asked by tandem.enqueue, or found by cascade expansion';

CREATE TABLE tandem.retry (
  table_id     integer NOT NULL REFERENCES tandem.source_table ON DELETE CASCADE,
  key          bytea NOT NULL,
  op           "char" NOT NULL,
  flags        smallint NOT NULL DEFAULT 0,
  image        bytea,
  attempts     integer NOT NULL DEFAULT 1,
  sqlstate     text NOT NULL,
  message      text NOT NULL,
  first_failed timestamptz NOT NULL DEFAULT pg_catalog.now(),
  next_attempt timestamptz NOT NULL,
  PRIMARY KEY (table_id, key)
);
CREATE INDEX retry_due ON tandem.retry (next_attempt);
COMMENT ON TABLE tandem.retry IS 'images whose apply failed for a reason that may pass; tried again with backoff, superseded by a later image of the key';

CREATE TABLE tandem.dead_letter (
  table_id      integer NOT NULL REFERENCES tandem.source_table ON DELETE CASCADE,
  key           bytea NOT NULL,
  op            "char" NOT NULL,
  flags         smallint NOT NULL DEFAULT 0,
  image         bytea,
  attempts      integer NOT NULL DEFAULT 1,
  sqlstate      text NOT NULL,
  message       text NOT NULL,
  detail        text,
  first_failed  timestamptz NOT NULL DEFAULT pg_catalog.now(),
  dead_since    timestamptz NOT NULL DEFAULT pg_catalog.now(),
  PRIMARY KEY (table_id, key)
);
COMMENT ON TABLE tandem.dead_letter IS 'images that cannot be applied, until a later image of the key supersedes them or a DBA decides; view: tandem.dead_letters';

CREATE UNLOGGED TABLE tandem.answer (
  question_id bigint NOT NULL,
  seq         integer NOT NULL,
  payload     jsonb,
  PRIMARY KEY (question_id, seq)
);
COMMENT ON TABLE tandem.answer IS 'answers of the worker to questions that functions asked of the old side; short-lived';
