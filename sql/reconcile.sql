-- Passes, discrepancies, ledger and alarms as the worker's calls make them, in a database of its own where no worker competes.
\getenv abs_srcdir PG_ABS_SRCDIR
\set by_hand :abs_srcdir /sql/by_hand.inc
\set SHOW_CONTEXT never
\pset null '(null)'
SET client_min_messages = error;
CREATE DATABASE regress_reconcile;
\c regress_reconcile
SET client_min_messages = error;
CREATE EXTENSION pg_tandem CASCADE;
\i :by_hand
INSERT INTO tandem.source (name, server, database, mapping_role) VALUES ('by hand', 'nowhere', 'shop', CURRENT_USER), ('other', 'nowhere', 'other', CURRENT_USER);
INSERT INTO tandem.lease VALUES (1, 1000000, 'regression', now() + interval '1 day');
CREATE TABLE users (id integer PRIMARY KEY, name text CHECK (name <> 'poison'));
CREATE TABLE posts (id integer PRIMARY KEY, author integer);
INSERT INTO tandem.source_table (source_id, name, target, key_columns, outbox, trigger_suffix) VALUES (1, 'users', 'users', '{id}', '', ''), (1, 'posts', 'posts', '{id}', '', '');
INSERT INTO tandem.source_column (table_id, ordinal, name, mysql_type, data_type, nullable, image_type) VALUES
  (1, 1, 'id', 'int', 'int', false, 'integer'), (1, 2, 'name', 'varchar(99)', 'varchar', true, 'text'),
  (2, 1, 'id', 'int', 'int', false, 'integer'), (2, 2, 'author', 'int', 'int', true, 'integer');
INSERT INTO tandem.target_column VALUES (1, 'id', 'id', NULL, 1), (1, 'name', 'name', NULL, NULL), (2, 'id', 'id', NULL, 1), (2, 'author', 'author', NULL, NULL);
INSERT INTO tandem.source_fk VALUES (1, 'author', 'shop', 'posts', '{author}', 'shop', 'users', '{id}', 'CASCADE', 'RESTRICT');
CREATE FUNCTION hex(id integer) RETURNS text LANGUAGE sql AS $$ SELECT encode(key(id), 'hex') $$;
CREATE FUNCTION image(id integer, name text) RETURNS bytea LANGUAGE sql AS $$ SELECT image(int4send(id), textsend(name)) $$;

-- Nothing can be compared before all rows are here.
SELECT tandem.reconcilable(1);
SELECT tandem.begin_pass(1, '{"kind": "call"}');
SELECT * FROM tandem.reconcile('users');
SELECT tandem.start('users');
UPDATE tandem.table_state SET state = 'backfilling';
SELECT * FROM tandem.reconcile_start('users');
UPDATE tandem.table_state SET state = 'paused', backfill_done = true;
SELECT * FROM tandem.reconcile('users');
UPDATE tandem.table_state SET state = 'blocked', reason = 'no trigger';
SELECT * FROM tandem.reconcile('users');
UPDATE tandem.table_state SET state = 'syncing', reason = NULL;
INSERT INTO tandem.table_state (table_id, state, backfill_done) VALUES (2, 'syncing', true);
UPDATE tandem.source_table SET desired_state = 'running';
SELECT tandem.reconcilable(1), tandem.reconcilable(2), tandem.reconcilable(99);
-- No worker, no call; and no call in a snapshot that never moves.
SELECT * FROM tandem.reconcile('users');
SELECT * FROM tandem.reconcile('nobody');
SELECT * FROM tandem.reconcile('by nobody.%');
SELECT * FROM tandem.reconcile('{}'::text[]);
SELECT * FROM tandem.reconcile('by hand.%', low => '{"id": 1}');
SELECT * FROM tandem.reconcile('users', low => '{"id": 1, "x": 2}');
SELECT * FROM tandem.reconcile('users', sample => 0);
SELECT * FROM tandem.reconcile('users', rows_per_second => 0);

-- Keys in flight: journalled by what P does not see, waiting in any table, asked for.
INSERT INTO rows (table_id, op, key, image) SELECT 1, 'U', key(i), image(i, 'n' || i) FROM generate_series(1, 20) AS i;
CALL apply();
SELECT pg_current_snapshot() AS p \gset
SELECT count(*) FROM tandem.chunk_in_flight(1, :'p', ARRAY(SELECT key(i) FROM generate_series(1, 30) AS i));
SELECT tandem.journalled_after(1, :'p'), tandem.verdict_stands(1, :'p');
INSERT INTO rows (table_id, op, key, image) VALUES (1, 'U', key(3), image(3, 'new')), (1, 'D', key(4), NULL), (1, 'U', key(5), image(5, 'poison'));
CALL apply();
INSERT INTO tandem.request (table_id, key_text, flags, reason) VALUES (1, '{6}', 0, 'test'), (1, '{x}', 0, 'nonsense');
SELECT tandem.decode_key(1, key) AS key, reason FROM tandem.chunk_in_flight(1, :'p', ARRAY(SELECT key(i) FROM generate_series(1, 10) AS i)) ORDER BY key, reason;
SELECT tandem.journalled_after(1, :'p'), tandem.verdict_stands(1, :'p');
SELECT tandem.decode_key(1, key) AS key, reason FROM tandem.in_flight_keys(1, :'p');
-- A later P sees what was applied; what waits, waits still.
SELECT pg_current_snapshot() AS later \gset
SELECT tandem.decode_key(1, key) AS key, reason FROM tandem.chunk_in_flight(1, :'later', ARRAY(SELECT key(i) FROM generate_series(1, 10) AS i)) ORDER BY key;
-- Children of a row that waits to be fetched may be gone already.
SELECT tandem.decode_key(2, key) AS key, reason FROM tandem.chunk_in_flight(2, :'later', ARRAY[key(1)]);
DELETE FROM tandem.request;
SELECT count(*) FROM tandem.chunk_in_flight(2, :'later', ARRAY[key(1)]);
-- A journal that was pruned past P says nothing; nor does a table that was set back.
UPDATE tandem.journal_horizon SET xid = (pg_snapshot_xmin(:'later')::text::bigint + 1)::text::xid8;
SELECT tandem.verdict_stands(1, :'later');
UPDATE tandem.journal_horizon SET xid = '0';
UPDATE tandem.table_state SET backfill_done = false;
SELECT tandem.verdict_stands(1, :'later');
UPDATE tandem.table_state SET backfill_done = true;
DELETE FROM tandem.dead_letter;

-- A pass.
SELECT run_id AS run, length(secret), cursor IS NULL AS fresh FROM tandem.begin_pass(1, '{"kind": "continuous"}') \gset
SELECT :length AS secret_bytes, :'fresh' AS fresh;
SELECT tandem.begin_pass(1, '{"kind": "sometimes"}');
SELECT tandem.report_chunk(:run, jsonb_build_object('cursor', '{"at": 10}'::jsonb, 'rows', 10, 'new_rows', 10, 'verified', 8, 'ms', 5, 'old_ms', 3,
  'in_flight', jsonb_build_array(jsonb_build_object('key', hex(1), 'reason', 'queue'), jsonb_build_object('key', hex(2), 'reason', 'retry'))), '[]');
SELECT tandem.report_chunk(9999, '{}', '[]');
-- It goes on where it was, after whatever happened to the worker.
SELECT run_id = :run AS same, cursor FROM tandem.begin_pass(1, '{"kind": "continuous"}');
SELECT tandem.decode_key(table_id, key) AS key, run_id = :run AS run, reason, checks FROM tandem.reconcile_pending ORDER BY key;
UPDATE tandem.reconcile_pending SET next_check = now();
SELECT r ->> 'table_id' AS table_id, r ->> 'run_id' = :'run' AS run, r -> 'keys' AS keys FROM jsonb_array_elements(tandem.reconcile_work(1) -> 'recheck') AS r;
SELECT tandem.report_chunk(:run, jsonb_build_object('chunks', 0, 'rechecks', 2, 'verified', 1, 'equal', jsonb_build_array(hex(1)),
  'in_flight', jsonb_build_array(jsonb_build_object('key', hex(2), 'reason', 'retry'))));
SELECT tandem.decode_key(table_id, key) AS key, checks, next_check > clock_timestamp() AS later FROM tandem.reconcile_pending;

-- Somebody writes on the new side; the pass confirms it, the ledger counts it, the alarm is raised.
UPDATE users SET name = 'rogue' WHERE id = 7;
DELETE FROM users WHERE id = 8;
INSERT INTO users VALUES (100, 'extra');
SELECT tandem.decode_key(1, key) AS key, kind, columns, old, new, cause
FROM tandem.row_differences(1, ARRAY[key(7), key(8), key(100)], ARRAY[image(7, 'n7'), image(8, 'n8'), NULL]::bytea[]);
SELECT tandem.report_chunk(:run, '{"cursor": {"at": 20}, "rows": 10, "new_rows": 10, "verified": 7}',
  (SELECT jsonb_agg(jsonb_build_object('key', encode(key, 'hex'), 'kind', kind, 'columns', columns, 'old', old, 'new', new, 'cause', cause))
   FROM tandem.row_differences(1, ARRAY[key(7), key(8), key(100)], ARRAY[image(7, 'n7'), image(8, 'n8'), NULL]::bytea[]))) - 'confirmed' AS reported;
SELECT discrepancy_id, "table", key, kind, columns, old, new, cause, status, times FROM tandem.discrepancies ORDER BY 1;
SELECT missing, extra, different, alarm, alarm_detail FROM tandem.reconcile_ledger;
-- Once more is no more.
SELECT tandem.report_chunk(:run, '{"chunks": 0}', jsonb_build_array(jsonb_build_object('key', hex(7), 'kind', 'different', 'columns', '["name"]'::jsonb)));
SELECT discrepancy_id, times FROM tandem.discrepancies ORDER BY 1;
SELECT missing, extra, different FROM tandem.reconcile_ledger;
SELECT tandem.end_pass(:run, 'over', NULL);
SELECT tandem.end_pass(:run, 'done', NULL) - 'run_id' AS summary;
SELECT tandem.end_pass(:run, 'done', NULL);
SELECT kind, state, clean, rows, new_rows, verified, in_flight, missing, extra, different, chunks, rechecks, old_side_seconds, requested_by FROM tandem.reconcile_runs;
SELECT passes, clean_passes, rows, unverified, verified_share, open, repairing, waived, confirmed_missing, confirmed_extra, confirmed_different, divergence_percent,
       round(divergence_bound_percent::numeric, 6) AS bound, alarm FROM tandem.pg_stat_tandem_reconcile ORDER BY "table" DESC;

-- Review.
SELECT tandem.review(99, 'waived', 'x');
SELECT tandem.review(1, 'repaired', 'x');
SELECT tandem.review(1, 'waived');
SELECT tandem.review(1, 'waived', 'wanted: the new name');
SELECT status, reason, changed_by = session_user AS by_me FROM tandem.discrepancies WHERE discrepancy_id = 1;
SELECT alarm_detail FROM tandem.reconcile_ledger;
-- The same is found again: still waived. Another value: open.
SELECT run_id AS run FROM tandem.begin_pass(1, '{"kind": "call", "requested_by": "somebody"}') \gset
SELECT tandem.report_chunk(:run, '{}', jsonb_build_array(jsonb_build_object('key', hex(7), 'kind', 'different', 'columns', '["name"]'::jsonb)));
SELECT status FROM tandem.discrepancies WHERE discrepancy_id = 1;
SELECT tandem.report_chunk(:run, '{}', jsonb_build_array(jsonb_build_object('key', hex(7), 'kind', 'different', 'columns', '["name"]'::jsonb, 'new', '{"name": "other"}'::jsonb)));
SELECT status FROM tandem.discrepancies WHERE discrepancy_id = 1;

-- Repair: dry by default, capped, by kind, audited, and the pass is not clean any more.
SELECT key, kind, action FROM tandem.repair('users');
SELECT count(*) FROM tandem.request;
SELECT * FROM tandem.repair('users', dry_run => false, max_rows => 2);
SELECT * FROM tandem.repair('users', kinds => '{wrong}');
SELECT * FROM tandem.repair(9999);
SELECT key, kind, action FROM tandem.repair('users', false, kinds => '{missing,different}');
SELECT table_id, key_text, reason FROM tandem.request ORDER BY key_text;
SELECT tandem.decode_key(table_id, key) AS key, kind, old, new, automatic, asked_by = session_user AS by_me FROM tandem.repair ORDER BY repair_id;
SELECT discrepancy_id, status FROM tandem.discrepancies ORDER BY 1;
SELECT repaired FROM tandem.reconcile_runs WHERE run_id = :run;
SELECT fact, detail FROM tandem.why('users', '{"id": 8}') WHERE fact NOT IN ('table', 'verified');
-- What the worker finds then.
SELECT tandem.reconcile_work(1) -> 'tables' AS tables;
UPDATE tandem.discrepancy SET next_check = now();
SELECT r -> 'keys' = to_jsonb(ARRAY[hex(7), hex(8), hex(100)]) OR jsonb_array_length(r -> 'keys') = 3 AS keys, (r ->> 'run_id')::bigint AS verify
FROM jsonb_array_elements(tandem.reconcile_work(1) -> 'recheck') AS r \gset
SELECT :'keys' AS keys;
SELECT tandem.report_chunk(:verify, jsonb_build_object('verified', 2, 'covered', 2, 'equal', jsonb_build_array(hex(7), hex(8))));
SELECT discrepancy_id, status FROM tandem.discrepancies ORDER BY 1;
SELECT tandem.end_pass(:run, 'done', NULL) ->> 'clean' AS clean;
DELETE FROM tandem.request;
SELECT tandem.review(1, 'open', 'again');

-- Repaired without being asked.
SELECT tandem.auto_repair('users', '{extra,other}');
SELECT tandem.auto_repair('users', '{extra}');
SELECT tandem.report_chunk(:verify, '{}', jsonb_build_array(jsonb_build_object('key', hex(100), 'kind', 'extra'), jsonb_build_object('key', hex(9), 'kind', 'missing'))) ->> 'continue' AS continue;
SELECT key, kind, status, changed_by FROM tandem.discrepancies WHERE status IN ('open', 'repairing') ORDER BY discrepancy_id;
SELECT key_text, reason FROM tandem.request;
SELECT automatic FROM tandem.repair ORDER BY repair_id DESC LIMIT 1;
-- A key that the old table cannot have is left to a person.
SELECT tandem.report_chunk(:verify, '{}', '[{"key": "00010000000800000000ffffffff", "kind": "extra"}]') ->> 'continue' AS continue;
SELECT key, action FROM tandem.repair('by hand.%', false);
SELECT tandem.report_chunk(:verify, jsonb_build_object('equal', jsonb_build_array(hex(9), hex(100), '00010000000800000000ffffffff')));
SELECT status, count(*) FROM tandem.discrepancies GROUP BY 1 ORDER BY 1;
DELETE FROM tandem.request;

-- Clean passes, and a bound that falls as rows are verified.
INSERT INTO users VALUES (8, 'n8');
UPDATE users SET name = 'n7' WHERE id = 7;
DELETE FROM users WHERE id = 100;
SELECT run_id AS run FROM tandem.begin_pass(1, '{"kind": "call"}') \gset
SELECT tandem.report_chunk(:run, '{"rows": 20, "new_rows": 20, "verified": 18}') ->> 'continue' AS continue;
SELECT "table", kind, state, rows, rows_expected, percent, verified, confirmed FROM tandem.pg_stat_progress_tandem_reconcile ORDER BY run_id;
SELECT tandem.end_pass(:run, 'done', NULL) ->> 'clean' AS clean;
SELECT passes, clean_passes, unverified, verified_share, round(divergence_bound_percent::numeric, 4) AS bound, alarm FROM tandem.pg_stat_tandem_reconcile WHERE "table" = 'users';
-- A range is no pass over the table.
SELECT run_id AS run FROM tandem.begin_pass(1, '{"kind": "call", "low": ["5"]}') \gset
SELECT tandem.end_pass(:run, 'done', NULL) ->> 'clean' AS clean;
SELECT passes, clean_passes FROM tandem.pg_stat_tandem_reconcile WHERE "table" = 'users';
-- Changes count as unverified until they are verified.
INSERT INTO rows (table_id, op, key, image) SELECT 1, 'U', key(i), image(i, 'm' || i) FROM generate_series(1, 5) AS i;
CALL apply();
SELECT unverified, verified_share FROM tandem.pg_stat_tandem_reconcile WHERE "table" = 'users';
SELECT tandem.report_chunk(:verify, '{"verified": 5, "covered": 5}') ->> 'continue' AS continue;
SELECT unverified, verified_share FROM tandem.pg_stat_tandem_reconcile WHERE "table" = 'users';
SELECT n AS looks, k AS found, round(tandem._upper_bound(k, n)::numeric, 7) AS bound
FROM (VALUES (0, 0), (100, 0), (100, 1), (100, 5), (100, 100), (3000000, 0), (100000000, 100)) AS v (n, k);
SELECT tandem._upper_bound(-1, 1);

-- In the background: asked for, taken, cancelled.
SELECT tandem.reconcile_start(ARRAY['users', 'posts'], rows_per_second => 1000) IS NOT NULL AS started;
SELECT r ->> 'table_id' AS table_id, r -> 'options' AS options FROM jsonb_array_elements(tandem.reconcile_work(1) -> 'runs') AS r;
SELECT min(run_id) AS one, max(run_id) AS two FROM tandem.reconcile_runs WHERE state = 'waiting' \gset
SELECT run_id = :one AS taken FROM tandem.begin_pass(1, jsonb_build_object('kind', 'requested', 'run_id', :one));
SELECT tandem.begin_pass(1, jsonb_build_object('kind', 'requested', 'run_id', :two));
SELECT tandem.reconcile_cancel(:one), tandem.reconcile_cancel(:two), tandem.reconcile_cancel(:two), tandem.reconcile_cancel(9999);
SELECT tandem.reconcile_work(1) -> 'cancel' = jsonb_build_array(:one) AS to_cancel, tandem.reconcile_work(1) -> 'runs' AS runs;
SELECT tandem.report_chunk(:one, '{"rows": 1}') ->> 'continue' AS continue;
SELECT tandem.end_pass(:one, 'cancelled', NULL) ->> 'state' AS state;
SELECT state, clean FROM tandem.reconcile_runs WHERE run_id IN (:one, :two) ORDER BY run_id;
-- A range and a sample.
SELECT tandem.reconcile_start('users', '{"id": 5}', '{"id": 10}', 0.5) IS NOT NULL AS started;
SELECT r -> 'options' AS options FROM jsonb_array_elements(tandem.reconcile_work(1) -> 'runs') AS r;
UPDATE tandem.reconcile_run SET state = 'failed', finished_at = now() WHERE state = 'waiting';

-- All the time.
SELECT tandem.reconcile_continuously('by hand.%', '0 s');
SELECT tandem.reconcile_continuously('users', share => 2);
SELECT tandem.reconcile_continuously('users', rows_per_second => -1);
SELECT tandem.reconcile_continuously('by hand.%', '1 hour', 5000, 0.25);
SELECT t FROM jsonb_array_elements(tandem.reconcile_work(1) -> 'tables') AS t;
SELECT tandem.reconcile_set_pace('users', NULL, 1), tandem.reconcile_pause('posts');
SELECT t ->> 'table_id' AS table_id, t -> 'rows_per_second' AS pace, t -> 'share' AS share FROM jsonb_array_elements(tandem.reconcile_work(1) -> 'tables') AS t;
SELECT tandem.reconcile_pause(), tandem.reconcile_resume(), tandem.reconcile_resume();
SELECT run_id AS run FROM tandem.begin_pass(1, '{"kind": "continuous"}') \gset
SELECT tandem.end_pass(:run, 'done', NULL) ->> 'clean' AS clean;
SELECT t ->> 'table_id' AS table_id, t -> 'due' AS due FROM jsonb_array_elements(tandem.reconcile_work(1) -> 'tables') AS t;
-- Silence alarms as well.
UPDATE tandem.reconcile_setting SET period = '1 us';
SELECT tandem._maintain_reconciliation();
SELECT "table", alarm, alarm_detail LIKE 'no pass has ended within its period%' AS told FROM tandem.pg_stat_tandem_reconcile ORDER BY 1;
SELECT tandem.reconcile_continuously('by hand.%', NULL);
SELECT "table", continuous, alarm FROM tandem.pg_stat_tandem_reconcile ORDER BY 1;
SELECT tandem.reconcile_work(1) -> 'tables' AS tables;

-- One row's story.
SELECT * FROM tandem.why('users', '{"x": 1}');
INSERT INTO rows (table_id, op, key, image) VALUES (1, 'U', key(12), image(12, 'poison'));
CALL apply();
SELECT fact, regexp_replace(detail, 'batch \d+', 'batch N') AS detail FROM tandem.why('users', '{"id": 12}');
UPDATE users SET name = 'by hand' WHERE id = 13;
SELECT fact, detail FROM tandem.why('users', '{"id": 13}') WHERE fact = 'new side';
SELECT fact, detail FROM tandem.why('users', '{"id": 4}') WHERE fact IN ('new side', 'remedy');
SELECT fact, detail FROM tandem.why('users', '{"id": 999}') WHERE fact IN ('applied', 'new side', 'remedy');

-- Who may what.
CREATE ROLE regress_recon_admin IN ROLE tandem_admin;
CREATE ROLE regress_recon_monitor IN ROLE tandem_monitor;
SELECT run_id AS run FROM tandem.begin_pass(1, '{"kind": "call"}') \gset
SELECT tandem.report_chunk(:run, '{}', jsonb_build_array(jsonb_build_object('key', hex(15), 'kind', 'different', 'columns', '["name"]'::jsonb, 'old', '{"name": "x"}'::jsonb, 'new', '{"name": "y"}'::jsonb))) ->> 'continue' AS continue;
SET ROLE regress_recon_monitor;
SELECT "table", open FROM tandem.pg_stat_tandem_reconcile ORDER BY 1;
SELECT count(*) > 0 AS runs FROM tandem.reconcile_runs;
SELECT count(*) FROM tandem.pg_stat_progress_tandem_reconcile;
TABLE tandem.discrepancies;
SELECT * FROM tandem.reconcile('users');
SELECT tandem.reconcile_start('users');
SELECT * FROM tandem.repair('users');
SELECT tandem.review(1, 'waived', 'x');
SELECT * FROM tandem.why('users', '{"id": 1}');
SELECT tandem.report_chunk(1, '{}');
RESET ROLE;
SET ROLE regress_recon_admin;
-- Values are for who may read the target.
SELECT key, kind, old, new FROM tandem.discrepancies WHERE status = 'open';
RESET ROLE;
GRANT SELECT ON users TO regress_recon_admin;
SET ROLE regress_recon_admin;
SELECT key, kind, old, new FROM tandem.discrepancies WHERE status = 'open';
SELECT key, action FROM tandem.repair('users', false);
SELECT tandem.review(discrepancy_id, 'waived', 'by an admin') FROM tandem.discrepancies WHERE status = 'repairing';
SELECT count(*) > 0 AS told FROM tandem.why('users', '{"id": 15}');
SELECT tandem.reconcile_continuously('users'), tandem.reconcile_pause('users'), tandem.reconcile_resume('users'), tandem.reconcile_set_pace('users', 1), tandem.auto_repair('users');
SELECT tandem.reconcile_cancel(run_id) FROM tandem.reconcile_start('users') AS run_id;
SELECT * FROM tandem.reconcile('users');
UPDATE tandem.discrepancy SET status = 'gone';
SELECT tandem.begin_pass(1, '{"kind": "call"}');
RESET ROLE;

-- After the cut-over the new side is the truth: what waits is on the way back, and a repair goes that way.
UPDATE tandem.reconcile_run SET state = 'failed', finished_at = now() WHERE state = 'running';
DELETE FROM tandem.request;
ALTER TABLE tandem.phase DISABLE TRIGGER USER; -- legal moves would need an old side
SELECT pg_current_snapshot() AS p0 \gset
UPDATE tandem.phase SET phase = 'closing' WHERE table_id = 1;
SELECT tandem.reconcilable(1);
UPDATE tandem.phase SET phase = 'new_primary' WHERE table_id = 1;
SELECT tandem.reconcilable(1), tandem.verdict_stands(1, :'p0') AS before_the_move, tandem.verdict_stands(1, pg_current_snapshot()) AS after_it;
SELECT run_id AS run FROM tandem.begin_pass(1, '{"kind": "call"}') \gset
SELECT tandem.report_chunk(:run, '{}', jsonb_build_array(jsonb_build_object('key', hex(16), 'kind', 'missing', 'old', '{"id": "16"}'::jsonb))) ->> 'continue' AS continue;
SELECT key, action FROM tandem.repair('users');
SELECT detail FROM tandem.why('users', '{"id": 16}') WHERE fact = 'remedy';
SELECT key, action FROM tandem.repair('users', false);
SELECT count(*) AS asked_for FROM tandem.request;
SELECT event_id AS event, tandem.decode_key(table_id, key) AS key FROM tandem.reverse_outbox \gset
SELECT :'key' AS key;
SELECT pg_current_snapshot() AS p0 \gset
SELECT tandem.decode_key(1, key) AS key, reason FROM tandem.chunk_in_flight(1, :'p0', ARRAY[key(16), key(17)]);
SELECT tandem.reverse_done(1, 1000000, ARRAY[:event], jsonb_build_object('tables', jsonb_build_array(jsonb_build_object('table_id', 1, 'taken', jsonb_build_array(hex(16)),
  'refused', jsonb_build_array(jsonb_build_object('key', hex(17), 'may_pass', true, 'sqlstate', '23000', 'message', 'duplicate'))))));
SELECT tandem.decode_key(1, key) AS key, reason FROM tandem.chunk_in_flight(1, :'p0', ARRAY[key(16), key(17), key(18)]) ORDER BY key, reason;
SELECT tandem.decode_key(1, key) AS key, reason FROM tandem.chunk_in_flight(1, pg_current_snapshot(), ARRAY[key(16), key(17)]);

-- Changed keys: known when a sound pass began after the worker did; a pass that did not end is none. What it never saw at rest is kept.
UPDATE tandem.table_state SET state = 'syncing', backfill_done = true WHERE table_id = 2;
SELECT tandem.reconcilable(2), tandem._knows_changes(2);
SELECT tandem.next_moment() AS before \gset
SELECT tandem.report_changed_keys(1, 1000000, jsonb_build_object('2', :before, '99', 5)) -> '2' = '{"sound": 0, "running": 0}' AS none;
SELECT table_id, epoch, since = :before AS since FROM tandem.changed_keys;
SELECT run_id AS run FROM tandem.begin_pass(2, '{"kind": "call"}') \gset
SELECT (tandem.report_changed_keys(1, 1000000, jsonb_build_object('2', :before)) -> '2' ->> 'running')::bigint > :before AS runs;
SELECT tandem.report_chunk(:run, jsonb_build_object('rows', 3, 'new_rows', 3, 'verified', 1, 'chunks', 1,
  'in_flight', jsonb_build_array(jsonb_build_object('key', hex(1), 'reason', 'queue'), jsonb_build_object('key', hex(2), 'reason', 'retry'))), '[]') ->> 'continue' AS continue;
SELECT tandem.end_pass(:run, 'cancelled', 'by the test') ->> 'clean' AS clean;
SELECT tandem._knows_changes(2), count(*) AS unsettled FROM tandem.unsettled_keys(2);
SELECT run_id AS run FROM tandem.begin_pass(2, '{"kind": "call"}') \gset
SELECT tandem.report_chunk(:run, jsonb_build_object('rows', 3, 'new_rows', 3, 'verified', 1, 'chunks', 1,
  'in_flight', jsonb_build_array(jsonb_build_object('key', hex(1), 'reason', 'queue'), jsonb_build_object('key', hex(2), 'reason', 'journal'))), '[]') ->> 'continue' AS continue;
SELECT tandem.end_pass(:run, 'done', NULL) ->> 'clean' AS clean;
SELECT tandem._knows_changes(2);
SELECT tandem.decode_key(2, k) AS key FROM tandem.unsettled_keys(2) AS k ORDER BY key;
SELECT gate, ok, value FROM tandem._reconciliation_gates('{2}') ORDER BY gate;
SELECT tandem.report_changed_keys(1, 1000000, jsonb_build_object('2', tandem.next_moment())) -> '2' ->> 'running' AS running;
SELECT tandem._knows_changes(2);
SELECT tandem.report_changed_keys(1, 1000000, '{}') IS NOT NULL AS told;
SELECT count(*) AS left FROM tandem.changed_keys;
-- A key that two passes met is watched under the first. When that one ends without a verdict, the other has not seen it at rest either; a later sound pass has.
BEGIN;
DELETE FROM tandem.unsettled_key;
SELECT run_id AS first FROM tandem.begin_pass(2, '{"kind": "call"}') \gset
SELECT run_id AS second FROM tandem.begin_pass(2, '{"kind": "call"}') \gset
SELECT tandem.report_chunk(r, jsonb_build_object('rows', 1, 'new_rows', 1, 'in_flight', jsonb_build_array(jsonb_build_object('key', hex(5), 'reason', 'cascade')))) IS NOT NULL AS told
FROM unnest(ARRAY[:first, :second]) WITH ORDINALITY AS u(r, n) ORDER BY n;
SELECT tandem.end_pass(:first, 'cancelled', 'by the test') IS NOT NULL AS ended;
SELECT count(*) AS pending FROM tandem.reconcile_pending WHERE table_id = 2;
SELECT tandem.end_pass(:second, 'done', NULL) IS NOT NULL AS ended;
SELECT tandem.decode_key(2, k) AS key FROM tandem.unsettled_keys(2) AS k;
SELECT run_id AS third FROM tandem.begin_pass(2, '{"kind": "call"}') \gset
SELECT tandem.end_pass(:third, 'done', NULL) IS NOT NULL AS ended;
SELECT count(*) AS unsettled FROM tandem.unsettled_keys(2);
ROLLBACK;
-- A table that was empty at the pass: nothing can differ while nothing has changed, and all of it may when something has.
BEGIN;
DELETE FROM tandem.discrepancy WHERE table_id = 2;
UPDATE tandem.reconcile_ledger SET rows = 0, verified = 0, pass_confirmed = 0, covered = 0, pruned_changes = 0,
  changes_at_pass = (SELECT coalesce(sum(length(j.hashes) / 8), 0) FROM tandem.journal_keys AS j WHERE j.table_id = 2) WHERE table_id = 2;
SELECT divergence_bound_percent AS bound FROM tandem.pg_stat_tandem_reconcile WHERE "table" = 'posts';
UPDATE tandem.reconcile_ledger SET pruned_changes = 1 WHERE table_id = 2;
SELECT divergence_bound_percent AS bound FROM tandem.pg_stat_tandem_reconcile WHERE "table" = 'posts';
ROLLBACK;
SELECT tandem.report_changed_keys(1, 7, '{}');
INSERT INTO tandem.cutover_run (kind, source_id, table_ids, tables, options) VALUES ('cutover', 1, '{2}', '{by hand.posts}', '{"waive": {"dead_letters": "known"}}') RETURNING run_id AS run \gset
SELECT tandem.cutover_unverified(:run);
UPDATE tandem.cutover_run SET options = jsonb_set(options, '{waive,divergence}', '"compared"') || '{"x": 1}' WHERE run_id = :run;
SELECT tandem.cutover_unverified(:run);
INSERT INTO tandem.discrepancy (table_id, key, kind, status, reason) VALUES (2, key(7), 'different', 'waived', 'known'), (2, key(8), 'different', 'open', NULL);
INSERT INTO tandem.dead_letter (table_id, key, op, sqlstate, message, attempts) SELECT 2, key(9), 'U', '23505', 'twice', 1;
SELECT tandem.decode_key(2, k) AS key FROM tandem.accepted_keys(:run, 2) AS k ORDER BY k;
SELECT count(*) FROM tandem.accepted_keys(99, 2);

-- A table that is forgotten takes everything along.
DELETE FROM tandem.source_table;
SELECT (SELECT count(*) FROM tandem.reconcile_run) + (SELECT count(*) FROM tandem.discrepancy) + (SELECT count(*) FROM tandem.reconcile_ledger) AS left;
\c regression
DROP DATABASE regress_reconcile;
DROP ROLE regress_recon_admin, regress_recon_monitor;
