-- Cut-overs, rehearsals, rollbacks, contracts: what was asked of the worker and what became of it. Runtime state, kept as history.

CREATE TABLE tandem.cutover_run (
  run_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind        text NOT NULL CHECK (kind OPERATOR(pg_catalog.=) ANY (ARRAY['cutover', 'rehearsal', 'rollback', 'contract', 'mend'])),
  source_id   integer NOT NULL,
  table_ids   integer[] NOT NULL,
  tables      text[] NOT NULL,
  options     jsonb NOT NULL DEFAULT '{}',
  state       text NOT NULL DEFAULT 'asked' CHECK (state OPERATOR(pg_catalog.=) ANY (ARRAY['asked', 'running', 'done', 'failed'])),
  lease_epoch bigint,
  epoch       bigint,
  committed   boolean NOT NULL DEFAULT false,
  pause_ms    double precision,
  error       jsonb,
  caller_pid  integer NOT NULL DEFAULT pg_catalog.pg_backend_pid(),
  called_at   timestamptz NOT NULL DEFAULT pg_catalog.statement_timestamp(),
  asked_at    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  asked_by    name NOT NULL DEFAULT SESSION_USER,
  started_at  timestamptz,
  ended_at    timestamptz
);
CREATE INDEX cutover_run_open ON tandem.cutover_run (source_id) WHERE state OPERATOR(pg_catalog.=) ANY (ARRAY['asked', 'running']);
COMMENT ON TABLE tandem.cutover_run IS 'changes of the source of truth that were asked for, one row each, with their outcome; view: tandem.cutover_runs';
COMMENT ON COLUMN tandem.cutover_run.epoch IS 'epoch of the attempt: the phase moves on only at this epoch, and the fence on the old side carries it';
COMMENT ON COLUMN tandem.cutover_run.committed IS 'the source of truth has changed; from here only forward';
COMMENT ON COLUMN tandem.cutover_run.called_at IS 'beginning of the statement that waits for the run: a run whose statement has ended was cancelled';
COMMENT ON COLUMN tandem.cutover_run.options IS 'max_pause_ms, lock_wait_ms, waived gates with their reasons';

CREATE TABLE tandem.cutover_step (
  run_id bigint NOT NULL REFERENCES tandem.cutover_run ON DELETE CASCADE,
  step   integer NOT NULL,
  name   text NOT NULL,
  ms     double precision NOT NULL,
  detail text,
  at     timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  PRIMARY KEY (run_id, step)
);
COMMENT ON TABLE tandem.cutover_step IS 'steps of a run, with the time that each took';

CREATE TABLE tandem.old_table_change (
  table_id   integer PRIMARY KEY REFERENCES tandem.source_table ON DELETE CASCADE,
  identity   jsonb NOT NULL,
  reason     text NOT NULL,
  noticed_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE tandem.old_table_change IS
  'old tables that were emptied, rebuilt or replaced while the new side is the source of truth: no rollback before a clean pass that began after noticed_at';
COMMENT ON COLUMN tandem.old_table_change.identity IS 'what the table is known by since then; another one is another change';
