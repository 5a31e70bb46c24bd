-- Phases: who is the source of truth of each table (docs/phases.md). Runtime state: logged, not dumped. A restored database is a copy and
-- must not believe that it is the truth: all its tables are registered.

CREATE SEQUENCE tandem.phase_epoch;
COMMENT ON SEQUENCE tandem.phase_epoch IS 'numbers of moves between phases, over all tables; never handed out twice';

CREATE TABLE tandem.phase (
  table_id      integer PRIMARY KEY REFERENCES tandem.source_table ON DELETE CASCADE,
  phase         text NOT NULL DEFAULT 'registered'
                CHECK (phase OPERATOR(pg_catalog.=) ANY (ARRAY['registered', 'shadow', 'syncing', 'dual_write', 'ready', 'cutover', 'new_primary',
                                                               'closing', 'contracted'])),
  epoch         bigint NOT NULL DEFAULT 0,
  read_strategy text NOT NULL DEFAULT 'old'
                CHECK (read_strategy OPERATOR(pg_catalog.=) ANY (ARRAY['old', 'new_fallback_old', 'merge', 'new'])),
  note          text,
  moved_at      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  moved_by      name NOT NULL DEFAULT SESSION_USER,
  direct_writes text NOT NULL DEFAULT 'allow' CHECK (direct_writes OPERATOR(pg_catalog.=) ANY (ARRAY['refuse', 'record', 'allow'])),
  shadow_mode   text NOT NULL DEFAULT 'keep' CHECK (shadow_mode OPERATOR(pg_catalog.=) ANY (ARRAY['keep', 'discard'])),
  CHECK (shadow_mode OPERATOR(pg_catalog.=) 'keep' OR phase OPERATOR(pg_catalog.=) ANY (ARRAY['registered', 'shadow']))
);
COMMENT ON TABLE tandem.phase IS 'phase of each table: a row comes and goes with the table, and is moved by tandem._move_phase only';
COMMENT ON COLUMN tandem.phase.epoch IS 'number of the last move; grows with each, the same for tables that were moved together';
COMMENT ON COLUMN tandem.phase.read_strategy IS 'what a routed view reads';
COMMENT ON COLUMN tandem.phase.direct_writes IS 'what becomes of a write to the target by anybody but apply; follows from the phase and tandem.dual_policy';
COMMENT ON COLUMN tandem.phase.shadow_mode IS 'what becomes of rows that are applied in phase shadow: kept, or rolled back';
COMMENT ON COLUMN tandem.phase.note IS 'what the one who moved it last said of it';

CREATE TABLE tandem.phase_history (
  history_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  table_id      integer NOT NULL,
  source        text NOT NULL,
  table_name    text NOT NULL,
  from_phase    text NOT NULL,
  to_phase      text NOT NULL,
  epoch         bigint NOT NULL,
  read_strategy text NOT NULL,
  note          text,
  moved_at      timestamptz NOT NULL,
  moved_by      name NOT NULL
);
CREATE INDEX phase_history_table ON tandem.phase_history (table_id, history_id);
COMMENT ON TABLE tandem.phase_history IS 'every move between phases and every change of a read strategy, with who and when; kept when the table is dropped';
COMMENT ON COLUMN tandem.phase_history.moved_by IS 'session user';

-- Declared, so dumped.
CREATE TABLE tandem.dual_policy (
  table_id       integer PRIMARY KEY REFERENCES tandem.source_table ON DELETE CASCADE,
  direct_writes  text CHECK (direct_writes OPERATOR(pg_catalog.=) ANY (ARRAY['refuse', 'record', 'allow'])),
  settle         text NOT NULL DEFAULT 'old_wins' CHECK (settle OPERATOR(pg_catalog.=) ANY (ARRAY['old_wins', 'new_wins', 'latest', 'review'])),
  version_column text,
  grace          interval NOT NULL DEFAULT '2 s' CHECK (grace OPERATOR(pg_catalog.>=) '0 s'::interval AND grace OPERATOR(pg_catalog.<=) '1 hour'::interval)
);
COMMENT ON TABLE tandem.dual_policy IS 'what was declared for writes to both sides; a table without a row has the defaults';
COMMENT ON COLUMN tandem.dual_policy.direct_writes IS 'declared for phases shadow, syncing and ready; NULL: by phase';
COMMENT ON COLUMN tandem.dual_policy.settle IS 'what becomes of a difference: old_wins, new_wins, latest or review';
COMMENT ON COLUMN tandem.dual_policy.version_column IS 'old column that tells which row is the later one, for latest';
COMMENT ON COLUMN tandem.dual_policy.grace IS 'how long after a write the other side is looked at';
SELECT pg_catalog.pg_extension_config_dump('tandem.dual_policy', '');

CREATE TABLE tandem.direct_write (
  direct_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  table_id   integer NOT NULL REFERENCES tandem.source_table ON DELETE CASCADE,
  key        bytea NOT NULL,
  side       text NOT NULL DEFAULT 'new' CHECK (side OPERATOR(pg_catalog.=) ANY (ARRAY['new', 'old'])),
  operation  text NOT NULL,
  xid        xid8 NOT NULL DEFAULT pg_catalog.pg_current_xact_id(),
  at         timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  by         name NOT NULL DEFAULT SESSION_USER,
  latency_us bigint,
  review     boolean NOT NULL DEFAULT false,
  found      text
);
CREATE INDEX direct_write_key ON tandem.direct_write (table_id, key);
COMMENT ON TABLE tandem.direct_write IS 'writes to one side that have not been verified against the other yet; with review: found different and kept as they are';
COMMENT ON COLUMN tandem.direct_write.side IS 'new: written to the target by the application; old: a change of the old side came before the application had written it to the target';
COMMENT ON COLUMN tandem.direct_write.latency_us IS 'from the beginning of the statement until the row was written';
COMMENT ON COLUMN tandem.direct_write.found IS 'what was found when it was looked at: missing_on_old, missing_on_new or different';

CREATE TABLE tandem.direct_asked (
  direct_id   bigint PRIMARY KEY,
  asked_after bigint NOT NULL
);
COMMENT ON TABLE tandem.direct_asked IS 'writes whose key was put into the outbox again: an image of a later batch than asked_after was fetched after the write';

CREATE TABLE tandem.dual_count (
  table_id       integer PRIMARY KEY REFERENCES tandem.source_table ON DELETE CASCADE,
  equal          bigint NOT NULL DEFAULT 0,
  missing_on_old bigint NOT NULL DEFAULT 0,
  missing_on_new bigint NOT NULL DEFAULT 0,
  different      bigint NOT NULL DEFAULT 0,
  old_failed     bigint NOT NULL DEFAULT 0,
  new_failed     bigint NOT NULL DEFAULT 0,
  new_writes     bigint NOT NULL DEFAULT 0,
  latency_us     bigint NOT NULL DEFAULT 0,
  latency_max_us bigint NOT NULL DEFAULT 0,
  apart_us       bigint NOT NULL DEFAULT 0,
  apart_count    bigint NOT NULL DEFAULT 0,
  since          timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE tandem.dual_count IS 'verified writes, counted in the transactions that verified them; view: tandem.pg_stat_tandem_dual_writes';
