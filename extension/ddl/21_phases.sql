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
  moved_by      name NOT NULL DEFAULT SESSION_USER
);
COMMENT ON TABLE tandem.phase IS 'phase of each table: a row comes and goes with the table, and is moved by tandem._move_phase only';
COMMENT ON COLUMN tandem.phase.epoch IS 'number of the last move; grows with each, the same for tables that were moved together';
COMMENT ON COLUMN tandem.phase.read_strategy IS 'what a routed view reads';
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
