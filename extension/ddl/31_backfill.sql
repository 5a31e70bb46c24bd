-- The copy of a table's history: how it goes, and its chunks (docs/protocol.md section 16, docs/model/b1_chunks.pml).

CREATE TABLE tandem.backfill (
  table_id       integer PRIMARY KEY REFERENCES tandem.source_table ON DELETE CASCADE,
  mode           text NOT NULL CHECK (mode OPERATOR(pg_catalog.=) ANY (ARRAY['ordered', 'direct'])),
  mode_reason    text NOT NULL,
  fresh          boolean NOT NULL,
  phase          text NOT NULL DEFAULT 'copying' CHECK (phase OPERATOR(pg_catalog.=) ANY (ARRAY['copying', 'building indexes', 'done'])),
  planned_all    boolean NOT NULL DEFAULT false,
  rows_estimate  bigint NOT NULL,
  bytes_estimate bigint NOT NULL,
  rows           bigint NOT NULL DEFAULT 0,
  bytes          bigint NOT NULL DEFAULT 0,
  started_at     timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  ended_at       timestamptz
);
COMMENT ON TABLE tandem.backfill IS 'how the history of each table is copied, from the moment it begins';
COMMENT ON COLUMN tandem.backfill.mode IS 'direct: copied by chunks, in parallel, straight into the target; ordered: through the queue, in order with live changes';
COMMENT ON COLUMN tandem.backfill.mode_reason IS 'why it is this mode';
COMMENT ON COLUMN tandem.backfill.fresh IS 'the target had no rows: they are copied first and merged only where that fails';
COMMENT ON COLUMN tandem.backfill.planned_all IS 'the chunks reach to the end of the key';
COMMENT ON COLUMN tandem.backfill.rows_estimate IS 'rows of the old table when the copy began, by its own estimate';
COMMENT ON COLUMN tandem.backfill.rows IS 'rows copied, once the copy has ended; before that see its chunks';

CREATE TABLE tandem.backfill_chunk (
  table_id   integer NOT NULL REFERENCES tandem.backfill ON DELETE CASCADE,
  chunk      integer NOT NULL,
  low        text[],
  high       text[],
  state      text NOT NULL DEFAULT 'not_started' CHECK (state OPERATOR(pg_catalog.=) ANY (ARRAY['not_started', 'in_progress', 'done'])),
  attempt    integer NOT NULL DEFAULT 0,
  epoch      bigint,
  rows       bigint,
  bytes      bigint,
  started_at timestamptz,
  done_at    timestamptz,
  PRIMARY KEY (table_id, chunk)
);
CREATE INDEX backfill_chunk_open ON tandem.backfill_chunk (table_id, chunk) WHERE state OPERATOR(pg_catalog.<>) 'done';
COMMENT ON TABLE tandem.backfill_chunk IS 'ranges of the old key, in the order of its own index, and how far each is copied; they go when all are done';
COMMENT ON COLUMN tandem.backfill_chunk.low IS 'last key before the chunk, text form; NULL: from the beginning';
COMMENT ON COLUMN tandem.backfill_chunk.high IS 'last key of the chunk; NULL: to the end';
COMMENT ON COLUMN tandem.backfill_chunk.state IS 'never goes back to not_started: an event of the chunk may have been discarded while it was';
COMMENT ON COLUMN tandem.backfill_chunk.attempt IS 'rows of an attempt are committed only while it is the latest';

-- Dumped: what was taken off a target must be known wherever the target is.
CREATE TABLE tandem.deferred_index (
  table_id   integer NOT NULL REFERENCES tandem.source_table ON DELETE CASCADE,
  name       name NOT NULL,
  definition text NOT NULL,
  remark     text,
  problem    text,
  PRIMARY KEY (table_id, name)
);
COMMENT ON TABLE tandem.deferred_index IS 'secondary indexes of created targets that are built after the load; a table is not in sync before they are';
COMMENT ON COLUMN tandem.deferred_index.problem IS 'why it could not be built yet';
SELECT pg_catalog.pg_extension_config_dump('tandem.deferred_index', '');

-- What a worker last said of the pace it keeps.
CREATE UNLOGGED TABLE tandem.backfill_pace (
  source_id       integer PRIMARY KEY REFERENCES tandem.source ON DELETE CASCADE,
  throttle        text,
  threads_running integer,
  history_list    bigint,
  replica_lag     double precision,
  unreadable      text,
  reported_at     timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE tandem.backfill_pace IS 'load of the old side as the worker sees it while it copies, and what holds the copy back';
