-- What reconciliation keeps (docs/protocol.md sections 13 and 14): keys that apply touched, passes, discrepancies, the ledger.
-- All of it is logged, so passes and findings survive a restart; only the settings are dumped.

-- --- journalled keys --------------------------------------------------------------------------------------------------------------

CREATE TABLE tandem.journal_keys (
  table_id integer NOT NULL,
  xid      xid8 NOT NULL,
  hashes   bytea NOT NULL,
  writers  bigint[] NOT NULL DEFAULT '{}',
  at       timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
-- Hashes cannot be compressed.
ALTER TABLE tandem.journal_keys ALTER COLUMN hashes SET STORAGE EXTERNAL;
CREATE INDEX journal_keys_table ON tandem.journal_keys (table_id, xid);
COMMENT ON TABLE tandem.journal_keys IS 'hashes of the keys that a transaction of apply touched, one row for each transaction and table';
COMMENT ON COLUMN tandem.journal_keys.hashes IS 'XXH3-64 of the key bytes of each row, 8 bytes big endian';
COMMENT ON COLUMN tandem.journal_keys.writers IS 'ids of the subtransactions that wrote the rows';

CREATE TABLE tandem.journal_horizon (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  xid      xid8 NOT NULL DEFAULT '0'
);
INSERT INTO tandem.journal_horizon DEFAULT VALUES;
COMMENT ON TABLE tandem.journal_horizon IS 'rows of tandem.journal_keys below this transaction are gone: what a snapshot that is older was compared with says nothing';

-- --- settings ---------------------------------------------------------------------------------------------------------------------

CREATE TABLE tandem.reconcile_setting (
  table_id        integer PRIMARY KEY REFERENCES tandem.source_table ON DELETE CASCADE,
  continuous      boolean NOT NULL DEFAULT false,
  period          interval NOT NULL DEFAULT '1 day' CHECK (period OPERATOR(pg_catalog.>) '0'),
  rows_per_second integer CHECK (rows_per_second OPERATOR(pg_catalog.>) 0),
  share           double precision NOT NULL DEFAULT 0.1 CHECK (share OPERATOR(pg_catalog.>) 0 AND share OPERATOR(pg_catalog.<=) 1),
  verify          boolean NOT NULL DEFAULT true,
  verify_share    double precision NOT NULL DEFAULT 1 CHECK (verify_share OPERATOR(pg_catalog.>) 0 AND verify_share OPERATOR(pg_catalog.<=) 1),
  paused          boolean NOT NULL DEFAULT false,
  auto_repair     text[] NOT NULL DEFAULT '{}'
                  CHECK (auto_repair OPERATOR(pg_catalog.<@) ARRAY['missing', 'extra', 'different']),
  since           timestamptz NOT NULL DEFAULT pg_catalog.now()
);
COMMENT ON TABLE tandem.reconcile_setting IS 'how a table is reconciled without being asked; a table without a row is not';
COMMENT ON COLUMN tandem.reconcile_setting.continuous IS 'pass follows pass, one in each period';
COMMENT ON COLUMN tandem.reconcile_setting.period IS 'a pass begins so long after the beginning of the last, and must have ended by then';
COMMENT ON COLUMN tandem.reconcile_setting.rows_per_second IS 'rows of the old side that are read per second at most';
COMMENT ON COLUMN tandem.reconcile_setting.share IS 'part of the time in which the old side is being read';
COMMENT ON COLUMN tandem.reconcile_setting.verify IS 'rows are verified soon after they were applied';
COMMENT ON COLUMN tandem.reconcile_setting.verify_share IS 'part of the applied rows that are';
COMMENT ON COLUMN tandem.reconcile_setting.auto_repair IS 'kinds of discrepancies that are repaired without being asked';
COMMENT ON COLUMN tandem.reconcile_setting.since IS 'since when passes are expected';
SELECT pg_catalog.pg_extension_config_dump('tandem.reconcile_setting', '');

-- --- passes -----------------------------------------------------------------------------------------------------------------------

CREATE SEQUENCE tandem.reconcile_moment;
COMMENT ON SEQUENCE tandem.reconcile_moment IS 'puts beginnings of passes and of what the worker remembers in order, without a clock';

CREATE TABLE tandem.reconcile_run (
  run_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  table_id     integer NOT NULL REFERENCES tandem.source_table ON DELETE CASCADE,
  kind         text NOT NULL CHECK (kind OPERATOR(pg_catalog.=) ANY (ARRAY['call', 'requested', 'continuous', 'verify'])),
  state        text NOT NULL DEFAULT 'running'
               CHECK (state OPERATOR(pg_catalog.=) ANY (ARRAY['waiting', 'running', 'done', 'failed', 'cancelled'])),
  options      jsonb NOT NULL DEFAULT '{}',
  cursor       jsonb,
  rows         bigint NOT NULL DEFAULT 0,
  new_rows     bigint NOT NULL DEFAULT 0,
  verified     bigint NOT NULL DEFAULT 0,
  chunks       bigint NOT NULL DEFAULT 0,
  rechecks     bigint NOT NULL DEFAULT 0,
  missing      bigint NOT NULL DEFAULT 0,
  extra        bigint NOT NULL DEFAULT 0,
  different    bigint NOT NULL DEFAULT 0,
  busy_ms      bigint NOT NULL DEFAULT 0,
  old_ms       bigint NOT NULL DEFAULT 0,
  stalled_ms   bigint NOT NULL DEFAULT 0,
  stall_reason text,
  changes      bigint NOT NULL DEFAULT 0,
  begun_xid    xid8,
  begun_moment bigint,
  cancel       boolean NOT NULL DEFAULT false,
  repaired     boolean NOT NULL DEFAULT false,
  clean        boolean,
  error        text,
  requested_by name NOT NULL DEFAULT SESSION_USER,
  asked_at     timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  started_at   timestamptz,
  updated_at   timestamptz,
  finished_at  timestamptz
);
CREATE INDEX reconcile_run_table ON tandem.reconcile_run (table_id, run_id);
CREATE INDEX reconcile_run_unfinished ON tandem.reconcile_run (table_id) WHERE state OPERATOR(pg_catalog.=) ANY (ARRAY['waiting', 'running']);
COMMENT ON TABLE tandem.reconcile_run IS 'passes of reconciliation over a table; view: tandem.reconcile_runs';
COMMENT ON COLUMN tandem.reconcile_run.cursor IS 'position, known to the worker only; where a pass that was interrupted goes on';
COMMENT ON COLUMN tandem.reconcile_run.begun_moment IS 'number of tandem.reconcile_moment at which the pass began';
COMMENT ON COLUMN tandem.reconcile_run.changes IS 'changed rows counted in the table when the pass began';

CREATE TABLE tandem.reconcile_pending (
  table_id   integer NOT NULL REFERENCES tandem.source_table ON DELETE CASCADE,
  key        bytea NOT NULL,
  run_id     bigint NOT NULL REFERENCES tandem.reconcile_run ON DELETE CASCADE,
  reason     text NOT NULL,
  since      timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  checks     integer NOT NULL DEFAULT 0,
  next_check timestamptz NOT NULL,
  PRIMARY KEY (table_id, key)
);
CREATE INDEX reconcile_pending_run ON tandem.reconcile_pending (run_id);
CREATE INDEX reconcile_pending_due ON tandem.reconcile_pending (next_check);
COMMENT ON TABLE tandem.reconcile_pending IS 'keys that were in flight when a pass came by; they are looked at again';

CREATE TABLE tandem.unsettled_key (
  table_id integer NOT NULL REFERENCES tandem.source_table ON DELETE CASCADE,
  key      bytea NOT NULL,
  moment   bigint NOT NULL,
  PRIMARY KEY (table_id, key)
);
COMMENT ON TABLE tandem.unsettled_key IS 'keys that were still in flight when a pass ended, and that no sound pass has seen at rest since: a cut-over compares them, whatever kept them';
COMMENT ON COLUMN tandem.unsettled_key.moment IS 'number of tandem.reconcile_moment at which the pass ended';

-- --- discrepancies ----------------------------------------------------------------------------------------------------------------

CREATE TABLE tandem.discrepancy (
  discrepancy_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  table_id    integer NOT NULL REFERENCES tandem.source_table ON DELETE CASCADE,
  key         bytea NOT NULL,
  kind        text NOT NULL CHECK (kind OPERATOR(pg_catalog.=) ANY (ARRAY['missing', 'extra', 'different'])),
  columns     text[] NOT NULL DEFAULT '{}',
  old         jsonb,
  new         jsonb,
  cause       text CHECK (cause OPERATOR(pg_catalog.=) ANY (ARRAY['uncaptured', 'apply', 'written on new'])),
  status      text NOT NULL DEFAULT 'open'
              CHECK (status OPERATOR(pg_catalog.=) ANY (ARRAY['open', 'repairing', 'repaired', 'waived', 'gone'])),
  reason      text,
  first_seen  timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  last_seen   timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  times       integer NOT NULL DEFAULT 1,
  next_check  timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  changed_by  name,
  changed_at  timestamptz
);
CREATE UNIQUE INDEX discrepancy_key ON tandem.discrepancy (table_id, key)
  WHERE status OPERATOR(pg_catalog.=) ANY (ARRAY['open', 'repairing', 'waived']);
CREATE INDEX discrepancy_table ON tandem.discrepancy (table_id, status);
CREATE INDEX discrepancy_due ON tandem.discrepancy (next_check) WHERE status OPERATOR(pg_catalog.=) ANY (ARRAY['open', 'repairing']);
COMMENT ON TABLE tandem.discrepancy IS 'rows that were found to differ while nothing of them was in flight; view: tandem.discrepancies';

CREATE TABLE tandem.reconcile_found (
  run_id         bigint NOT NULL REFERENCES tandem.reconcile_run ON DELETE CASCADE,
  discrepancy_id bigint NOT NULL REFERENCES tandem.discrepancy ON DELETE CASCADE,
  PRIMARY KEY (run_id, discrepancy_id)
);
CREATE INDEX reconcile_found_discrepancy ON tandem.reconcile_found (discrepancy_id);
COMMENT ON TABLE tandem.reconcile_found IS 'which passes confirmed which discrepancies';

-- --- ledger -----------------------------------------------------------------------------------------------------------------------

CREATE TABLE tandem.reconcile_ledger (
  table_id         integer PRIMARY KEY REFERENCES tandem.source_table ON DELETE CASCADE,
  passes           bigint NOT NULL DEFAULT 0,
  clean_passes     bigint NOT NULL DEFAULT 0,
  rows             bigint,
  verified         bigint,
  pass_confirmed   bigint,
  pass_started_at  timestamptz,
  pass_finished_at timestamptz,
  last_clean_at    timestamptz,
  changes_at_pass  bigint NOT NULL DEFAULT 0,
  pruned_changes   bigint NOT NULL DEFAULT 0,
  covered          bigint NOT NULL DEFAULT 0,
  pass_xid         xid8,
  sound_moment     bigint,
  evidence_xid     xid8,
  backfill_rows    bigint,
  missing          bigint NOT NULL DEFAULT 0,
  extra            bigint NOT NULL DEFAULT 0,
  different        bigint NOT NULL DEFAULT 0,
  alarm            text CHECK (alarm OPERATOR(pg_catalog.=) ANY (ARRAY['divergence', 'silence'])),
  alarm_detail     text,
  alarm_since      timestamptz
);
COMMENT ON TABLE tandem.reconcile_ledger IS 'what is known of each table from its passes; view: tandem.pg_stat_tandem_reconcile';
COMMENT ON COLUMN tandem.reconcile_ledger.rows IS 'rows of the old side in the last complete pass';
COMMENT ON COLUMN tandem.reconcile_ledger.changes_at_pass IS 'changed rows counted when the last complete pass began';
COMMENT ON COLUMN tandem.reconcile_ledger.pruned_changes IS 'changed rows counted by rows of tandem.journal_keys that are gone';
COMMENT ON COLUMN tandem.reconcile_ledger.covered IS 'changed rows since that beginning that were verified after their change';
COMMENT ON COLUMN tandem.reconcile_ledger.pass_xid IS 'transactions below this one were over when the last complete pass began';
COMMENT ON COLUMN tandem.reconcile_ledger.sound_moment IS 'moment at which the last sound pass began: it found no row that differs, but those in tandem.unsettled_key were never seen at rest';
COMMENT ON COLUMN tandem.reconcile_ledger.evidence_xid IS 'from here on every transaction in which apply wrote rows is in tandem.journal_keys';
COMMENT ON COLUMN tandem.reconcile_ledger.backfill_rows IS 'rows that the backfill had written when that was noted';

-- Keys that apply or the way back has not brought to the other side: W of docs/model/c_reconcile.pml. Events of tandem.reverse_outbox count as well:
-- they are Q, and are still there or journalled when this is read.
CREATE VIEW tandem._waiting_key AS
  SELECT r.table_id, r.key, 'retry'::text AS reason FROM tandem.retry AS r
  UNION ALL
  SELECT d.table_id, d.key, 'dead_letter' FROM tandem.dead_letter AS d
  UNION ALL
  SELECT l.table_id, l.key, 'reverse_letter' FROM tandem.reverse_letter AS l
  UNION ALL
  SELECT o.table_id, o.key, 'reverse_queue' FROM tandem.reverse_outbox AS o
  UNION ALL
  SELECT DISTINCT w.table_id, w.key, 'direct_write' FROM tandem.direct_write AS w;
COMMENT ON VIEW tandem._waiting_key IS 'keys whose last state is not on the other side, or that the application has written itself and that are not verified';
-- What is asked for by its key.
CREATE INDEX reverse_outbox_key ON tandem.reverse_outbox (table_id, key);
