-- Configuration: what the DBA declared. Dumped by pg_dump (see the end of this file).

CREATE TABLE tandem.source (
  source_id         integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name              text NOT NULL UNIQUE CHECK (name OPERATOR(pg_catalog.<>) ''),
  server            name NOT NULL,
  database          text NOT NULL CHECK (database OPERATOR(pg_catalog.<>) ''),
  metadata_database text NOT NULL DEFAULT 'tandem',
  mapping_role      name NOT NULL,
  tls               text NOT NULL DEFAULT 'auto' CHECK (tls OPERATOR(pg_catalog.=) ANY (ARRAY['auto', 'verify', 'disable'])),
  password_ref      text CHECK (password_ref OPERATOR(pg_catalog.~) '^(file:/|env:[A-Za-z_])'),
  old_side          jsonb NOT NULL DEFAULT '{}',
  dropping          boolean NOT NULL DEFAULT false,
  created_at        timestamptz NOT NULL DEFAULT pg_catalog.now(),
  created_by        name NOT NULL DEFAULT CURRENT_USER
);
COMMENT ON TABLE tandem.source IS 'old databases, one row for each tandem.add_source';
COMMENT ON COLUMN tandem.source.server IS 'foreign server of mysql_fdw: host, port, TLS options';
COMMENT ON COLUMN tandem.source.mapping_role IS 'role whose user mapping holds the credentials';
COMMENT ON COLUMN tandem.source.metadata_database IS 'database on the old side that holds outboxes';
COMMENT ON COLUMN tandem.source.tls IS 'auto: verified TLS unless the old side is on this host or a socket; verify: always; disable: clear text, by explicit choice';
COMMENT ON COLUMN tandem.source.password_ref IS 'file:/path or env:NAME on the worker''s host, instead of a password in the user mapping';
COMMENT ON COLUMN tandem.source.old_side IS 'what the old server said of itself when the source was added';
COMMENT ON COLUMN tandem.source.dropping IS 'goes with its last table, once the worker has cleaned the old side';

-- Not dumped: a restored database is another database, with outboxes of its own.
CREATE TABLE tandem.identity (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  id       uuid NOT NULL DEFAULT pg_catalog.gen_random_uuid()
);
INSERT INTO tandem.identity DEFAULT VALUES;
COMMENT ON TABLE tandem.identity IS 'what tells this database from every other one that may sync from the same old table';

CREATE TABLE tandem.source_table (
  table_id       integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  source_id      integer NOT NULL REFERENCES tandem.source,
  name           text NOT NULL,
  target         regclass NOT NULL,
  key_columns    text[] NOT NULL,
  outbox         text NOT NULL,
  trigger_suffix text NOT NULL,
  desired_state  text NOT NULL DEFAULT 'registered'
                 CHECK (desired_state OPERATOR(pg_catalog.=) ANY (ARRAY['registered', 'running', 'paused', 'dropped'])),
  created_target boolean NOT NULL DEFAULT false,
  filter         text,
  constants      jsonb NOT NULL DEFAULT '{}',
  capture        text NOT NULL DEFAULT 'triggers' CHECK (capture OPERATOR(pg_catalog.=) ANY (ARRAY['triggers', 'foreign'])),
  created_at     timestamptz NOT NULL DEFAULT pg_catalog.now(),
  created_by     name NOT NULL DEFAULT CURRENT_USER,
  UNIQUE (source_id, name),
  UNIQUE (source_id, outbox),
  UNIQUE (target, constants)
);
COMMENT ON TABLE tandem.source_table IS 'old tables that are moved, one row for each tandem.add_table';
COMMENT ON COLUMN tandem.source_table.filter IS 'canonical expression over the old columns: the target has the rows for which it is true; NULL: all rows';
COMMENT ON COLUMN tandem.source_table.constants IS 'target column → value that all rows of this old table have there, part of the target''s key; tells apart the tables that share a target';
COMMENT ON COLUMN tandem.source_table.key_columns IS 'columns of the old table''s primary or unique not-null key, in key order';
COMMENT ON COLUMN tandem.source_table.outbox IS 'name of the outbox table in the metadata database of the old side; computed on insert, as trigger_suffix is';
COMMENT ON COLUMN tandem.source_table.trigger_suffix IS 'eight hex digits in the names of outbox and triggers, unique per old table and new database';
COMMENT ON COLUMN tandem.source_table.capture IS
  'triggers: on the old table; foreign: none there, all its writers come through PostgreSQL (routed views, or foreign tables with tandem.capture_foreign)';
COMMENT ON COLUMN tandem.source_table.desired_state IS 'what was asked for; tandem.table_state tells what is so';

CREATE TABLE tandem.source_column (
  table_id   integer NOT NULL REFERENCES tandem.source_table ON DELETE CASCADE,
  ordinal    integer NOT NULL,
  name       text NOT NULL,
  mysql_type text NOT NULL,
  data_type  text NOT NULL,
  is_unsigned boolean NOT NULL DEFAULT false,
  charset    text,
  "collation" text,
  nullable   boolean NOT NULL,
  generated  boolean NOT NULL DEFAULT false,
  image_type text NOT NULL,
  policy     text NOT NULL DEFAULT 'dead_letter'
             CHECK (policy OPERATOR(pg_catalog.=) ANY (ARRAY['dead_letter', 'null', 'value', 'sidecar'])),
  policy_value text,
  policy_image bytea,
  gone       boolean NOT NULL DEFAULT false,
  CHECK ((policy OPERATOR(pg_catalog.=) 'value') OPERATOR(pg_catalog.=) (policy_value IS NOT NULL AND policy_image IS NOT NULL)),
  PRIMARY KEY (table_id, ordinal),
  UNIQUE (table_id, name)
);
COMMENT ON TABLE tandem.source_column IS 'columns of the old tables as they were when the table was added; an image holds them in ordinal order';
COMMENT ON COLUMN tandem.source_column.image_type IS 'PostgreSQL type that carries the value exactly from the old side';
COMMENT ON COLUMN tandem.source_column.gone IS 'not mapped, and dropped or altered on the old side since: not read any more, NULL in images';
COMMENT ON COLUMN tandem.source_column.policy IS 'what becomes of a value that PostgreSQL cannot hold';
COMMENT ON COLUMN tandem.source_column.policy_value IS 'policy value: what is put in its place, as text of the image type';
COMMENT ON COLUMN tandem.source_column.policy_image IS 'the same in the binary format of the image type';

CREATE TABLE tandem.target_column (
  table_id      integer NOT NULL REFERENCES tandem.source_table ON DELETE CASCADE,
  name          name NOT NULL,
  source_column text,
  expression    text,
  key_position  integer,
  written       boolean NOT NULL DEFAULT true,
  PRIMARY KEY (table_id, name),
  CHECK ((source_column IS NULL) OPERATOR(pg_catalog.<>) (expression IS NULL))
);
COMMENT ON TABLE tandem.target_column IS 'how each column of the target comes from the old columns: a plain column or an SQL expression';
COMMENT ON COLUMN tandem.target_column.key_position IS 'position in the target''s unique key that apply uses, NULL for other columns';
COMMENT ON COLUMN tandem.target_column.written IS 'false: PostgreSQL computes the column; it is compared with the old one, not written';

CREATE TABLE tandem.source_fk (
  source_id       integer NOT NULL REFERENCES tandem.source ON DELETE CASCADE,
  name            text NOT NULL,
  child_database  text NOT NULL,
  child           text NOT NULL,
  columns         text[] NOT NULL,
  parent_database text NOT NULL,
  parent          text NOT NULL,
  ref_columns     text[] NOT NULL,
  on_delete       text NOT NULL,
  on_update       text NOT NULL,
  PRIMARY KEY (source_id, child_database, child, name)
);
COMMENT ON TABLE tandem.source_fk IS 'foreign keys of the old side: their cascades change rows that no trigger sees';

-- Runtime state: logged, not dumped. A restored database starts with nothing running.

CREATE TABLE tandem.table_state (
  table_id        integer PRIMARY KEY REFERENCES tandem.source_table ON DELETE CASCADE,
  state           text NOT NULL DEFAULT 'registered'
                  CHECK (state OPERATOR(pg_catalog.=) ANY (ARRAY['registered', 'capturing', 'backfilling', 'syncing', 'paused', 'blocked', 'dropping'])),
  reason          text,
  detail          jsonb NOT NULL DEFAULT '{}',
  backfill_done   boolean NOT NULL DEFAULT false,
  backfill_cursor text[],
  backfill_rows   bigint NOT NULL DEFAULT 0,
  updated_at      timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE tandem.table_state IS 'actual state of each table, reported by the worker and by apply';
COMMENT ON COLUMN tandem.table_state.backfill_cursor IS 'last key of the last applied chunk, text form, in the old side''s index order';

CREATE TABLE tandem.lease (
  source_id  integer PRIMARY KEY REFERENCES tandem.source ON DELETE CASCADE,
  epoch      bigint NOT NULL,
  holder     text NOT NULL,
  expires_at timestamptz NOT NULL
);
COMMENT ON TABLE tandem.lease IS 'which worker leads each source; an apply accepts batches of this epoch only';

CREATE TABLE tandem.epoch (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  epoch    bigint NOT NULL
);
INSERT INTO tandem.epoch (epoch) VALUES (0);
COMMENT ON TABLE tandem.epoch IS 'highest epoch ever handed out in this database, over all sources; never goes back';

SELECT pg_catalog.pg_extension_config_dump('tandem.source', '');
SELECT pg_catalog.pg_extension_config_dump('tandem.source_table', '');
SELECT pg_catalog.pg_extension_config_dump('tandem.source_column', '');
SELECT pg_catalog.pg_extension_config_dump('tandem.target_column', '');
SELECT pg_catalog.pg_extension_config_dump('tandem.source_fk', '');
SELECT pg_catalog.pg_extension_config_dump(pg_catalog.pg_get_serial_sequence('tandem.source', 'source_id'), '');
SELECT pg_catalog.pg_extension_config_dump(pg_catalog.pg_get_serial_sequence('tandem.source_table', 'table_id'), '');
