-- Writes through PostgreSQL while the old side is the source of truth (docs/protocol.md section 19). Runtime state: logged, not dumped; a copy of
-- the database must not write to the old side what the original has written.

CREATE TABLE tandem.write_queue (
  write_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  source_id    integer NOT NULL,
  table_id     integer NOT NULL,
  transaction  text NOT NULL DEFAULT pg_catalog.pg_current_xact_id()::text,
  token        uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid(),
  operation    text NOT NULL CHECK (operation OPERATOR(pg_catalog.=) ANY (ARRAY['insert', 'update', 'delete'])),
  key          bytea NOT NULL,
  before       bytea,
  after        bytea,
  overwrite    boolean NOT NULL DEFAULT false,
  given_up     boolean NOT NULL DEFAULT false,
  attempts     integer NOT NULL DEFAULT 0,
  sqlstate     text,
  message      text,
  next_attempt timestamptz,
  written_by   name NOT NULL DEFAULT SESSION_USER,
  pid          integer NOT NULL DEFAULT pg_catalog.pg_backend_pid(),
  at           timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE INDEX write_queue_waiting ON tandem.write_queue (source_id, write_id) WHERE NOT given_up;
CREATE INDEX write_queue_transaction ON tandem.write_queue (transaction);
CREATE INDEX write_queue_key ON tandem.write_queue (table_id, key);
COMMENT ON TABLE tandem.write_queue IS
  'rows written through a routed view that the old side does not have yet, in the transaction that wrote them; those of one transaction are one on the old side';
COMMENT ON COLUMN tandem.write_queue.transaction IS 'of the writer; of a settled double write, which stands for itself, a name of its own';
COMMENT ON COLUMN tandem.write_queue.token IS 'by that of the first row of a transaction the old side knows that it has it';
COMMENT ON COLUMN tandem.write_queue.before IS 'image of the row as the writer saw it, NULL for an insert: the old side must hold this still';
COMMENT ON COLUMN tandem.write_queue.after IS 'image of the row as it is to be, NULL for a deletion';
COMMENT ON COLUMN tandem.write_queue.overwrite IS 'written whatever the old side holds: tandem.settle_write';
COMMENT ON COLUMN tandem.write_queue.given_up IS 'not tried again by itself: tandem.settle_write';
COMMENT ON COLUMN tandem.write_queue.at IS 'shown as lag only, never decided upon';

CREATE TABLE tandem.write_taken (
  table_id integer NOT NULL,
  key      bytea NOT NULL,
  after    bytea,
  taken_in xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
  taken_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  PRIMARY KEY (table_id, key)
);
CREATE INDEX write_taken_at ON tandem.write_taken (taken_at);
COMMENT ON TABLE tandem.write_taken IS
  'last write of a key that the old side has taken, for some minutes: a statement that began before may have read the row as it was before it';
COMMENT ON COLUMN tandem.write_taken.taken_in IS 'transaction of the acknowledgement: whoever does not see it may have read an older row';
COMMENT ON COLUMN tandem.write_taken.taken_at IS 'when it may be forgotten; without it a stale row is found by the old side only, as a conflict';

CREATE TABLE tandem.write_stats (
  table_id     integer PRIMARY KEY REFERENCES tandem.source_table ON DELETE CASCADE,
  written      bigint NOT NULL DEFAULT 0,
  refused      bigint NOT NULL DEFAULT 0,
  conflicts    bigint NOT NULL DEFAULT 0,
  latency_ms   double precision,
  slowest_ms   double precision,
  last_written timestamptz
);
COMMENT ON TABLE tandem.write_stats IS 'what became of the writes of tandem.write_queue, counted in the transaction that acknowledges them';
