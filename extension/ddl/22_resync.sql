-- What the capture guard knows of the old tables, and tables that are copied anew because capture was lost. Runtime: logged, not dumped.

CREATE TABLE tandem.capture_identity (
  table_id integer PRIMARY KEY REFERENCES tandem.source_table ON DELETE CASCADE,
  identity jsonb NOT NULL,
  noted_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE tandem.capture_identity IS
  'what an old table, its triggers and its outbox were known by when capture was last made complete; another identity means that events may be lost';

-- One row for each table that was ever copied anew; `loss` counts the losses and never goes back, so that a reset on its way is not taken for
-- that of a later loss.
CREATE TABLE tandem.resync (
  table_id    integer PRIMARY KEY REFERENCES tandem.source_table ON DELETE CASCADE,
  loss        bigint NOT NULL DEFAULT 1,
  phase       text NOT NULL DEFAULT 'due'
              CHECK (phase OPERATOR(pg_catalog.=) ANY (ARRAY['due', 'copying', 'sweeping', 'done'])),
  cause       text NOT NULL,
  reason      text NOT NULL,
  automatic   boolean NOT NULL,
  cursor      text[],
  swept       bigint NOT NULL DEFAULT 0,
  suspected   bigint NOT NULL DEFAULT 0,
  started_at  timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  finished_at timestamptz
);
COMMENT ON TABLE tandem.resync IS 'tables that are or were copied anew; view: tandem.resyncs';
COMMENT ON COLUMN tandem.resync.phase IS
  'due: the backfill is still to be set back, in order; copying: rows are copied; sweeping: rows that the old side does not have any more are looked for; done';
COMMENT ON COLUMN tandem.resync.cursor IS 'last key that was looked at in the sweep, in the order of the target''s index';

CREATE TABLE tandem.guard (
  source_id  integer PRIMARY KEY REFERENCES tandem.source ON DELETE CASCADE,
  looked_at  timestamptz,
  look_ms    double precision,
  tables     integer NOT NULL DEFAULT 0,
  by_number  boolean,
  error      text,
  failing_since timestamptz
);
COMMENT ON TABLE tandem.guard IS 'last look of the capture guard at each source; view: tandem.pg_stat_tandem_guard';

CREATE TABLE tandem.column_change (
  table_id    integer NOT NULL REFERENCES tandem.source_table ON DELETE CASCADE,
  column_name text NOT NULL,
  change      text NOT NULL CHECK (change OPERATOR(pg_catalog.=) ANY (ARRAY['added', 'dropped', 'altered', 'nullability'])),
  old_type    text,
  new_type    text,
  noticed_at  timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  PRIMARY KEY (table_id, column_name)
);
COMMENT ON TABLE tandem.column_change IS 'columns of old tables that are not as they were when the table was added; view: tandem.schema_changes';
