-- Cut-over by SQL: groups, gates, waivers, refusals, rehearsal, cut-over, doctor, readiness, rollback, contract; who may.
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.inc
\i :prelude
SET client_min_messages = warning;
SELECT tandem.add_source('shop', 'old', 'shop') > 0 AS added;
SELECT count(*) FROM tandem.add_tables('shop', 'pairs');
SELECT count(*) FROM tandem.add_tables('shop', 'orgs');
SELECT count(*) FROM tandem.add_tables('shop', 'users');
SELECT tandem.start();
SELECT tandem.wait_for('users', 'syncing'), tandem.wait_for('orgs', 'syncing'), tandem.wait_for('pairs', 'syncing'), tandem.wait_caught_up('30 s');

-- Groups and arguments.
SELECT tandem._labels(tandem._fk_closure(ARRAY[(SELECT table_id FROM tandem.tables WHERE "table" = 'orgs')]));
SELECT gate, value, "limit", ok, hint FROM tandem.cutover_check('{users}') WHERE gate = 'group';
SELECT tandem.cutover_check('{}');
SELECT tandem.cutover_check('{nix}');
CALL tandem.cutover('{}');
CALL tandem.cutover('{nix}');
CALL tandem.cutover('{users}');
CALL tandem.rehearse_cutover('{users}');
CALL tandem.rollback('{users}');
CALL tandem.rollback('{pairs}');
CALL tandem.contract('{pairs}');
CALL tandem.contract('{}');

-- Gates. Lag is reported every second.
DO $$
BEGIN
  FOR i IN 1..300 LOOP
    EXIT WHEN (SELECT ok FROM tandem.cutover_check('{pairs}') WHERE gate = 'lag');
    PERFORM pg_sleep(0.1);
  END LOOP;
END
$$;
SELECT gate, "table", CASE WHEN gate NOT IN ('lag', 'clocks') THEN value END AS value, "limit", ok, waivable
FROM tandem.cutover_check('{pairs}') WHERE gate <> 'long_transactions' ORDER BY 1;
CALL tandem.cutover('{pairs}');
SELECT tandem.set_phase('pairs', 'ready') > 0 AS moved;
CALL tandem.cutover('{pairs}');
CALL tandem.cutover('{pairs}', waive => '["clean_pass"]');
CALL tandem.cutover('{pairs}', waive => '{"clean_pass": ""}');
CALL tandem.cutover('{pairs}', waive => '{"phase": "x", "nix": "y"}');
CALL tandem.cutover('{pairs}', max_pause => '10 ms', waive => '{"clean_pass": "test", "divergence": "test", "long_transactions": "test"}');
BEGIN;
CALL tandem.cutover('{pairs}', waive => '{"clean_pass": "test", "divergence": "test", "long_transactions": "test"}');
ROLLBACK;
SELECT count(*) FROM tandem.cutover_runs;

-- Rehearsal, cut-over, and back.
CALL tandem.rehearse_cutover('{pairs}', max_pause => '20 s', waive => '{"clean_pass": "test", "divergence": "test", "long_transactions": "test"}');
CALL tandem.cutover('{pairs}', max_pause => '20 s', waive => '{"clean_pass": "test", "divergence": "test", "long_transactions": "test"}');
SELECT kind, tables, state, committed, pause_ms > 0 AS paused, error, waived ->> 'clean_pass' AS why FROM tandem.cutover_runs ORDER BY run_id;
SELECT name FROM tandem.cutover_step JOIN tandem.cutover_run USING (run_id) WHERE kind = 'cutover' AND name <> 'lock' ORDER BY step;
SELECT phase, source_of_truth FROM tandem.phases WHERE "table" = 'pairs';
INSERT INTO pairs VALUES ('new', 1, 'side');
SELECT * FROM tandem.doctor();
ALTER TABLE pairs ADD extra text;
SELECT "table", finding, key, detail FROM tandem.rollback_readiness('{pairs}') WHERE finding <> 'lag';
ALTER TABLE pairs DROP extra;
INSERT INTO tandem.reverse_letter (table_id, key, dead, sqlstate, message, next_attempt)
SELECT table_id, tandem.encode_key(table_id, '{"b": "x", "a": 1}'), true, '22001', 'too long', now() FROM tandem.tables WHERE "table" = 'pairs';
SELECT "table", finding, key, detail FROM tandem.rollback_readiness('{pairs}') WHERE finding <> 'lag';
-- An old table that was emptied or rebuilt, as the worker tells, and that no clean pass has seen since; noticed once.
BEGIN;
SELECT table_id AS id FROM tandem.tables WHERE "table" = 'pairs' \gset
-- That it is empty says nothing while rows are on their way; those that were not taken cannot be there.
INSERT INTO tandem.reverse_outbox (table_id, key) SELECT :id, tandem.encode_key(:id, '{"b": "y", "a": 1}');
SELECT label, reason FROM tandem.old_tables_changed(jsonb_build_array(jsonb_build_object('table_id', :id, 'identity', '{"numbers": 1}'::jsonb, 'empty', true, 'reason', NULL)));
DELETE FROM tandem.reverse_outbox;
SELECT count(*) AS rows FROM pairs;
SELECT label, reason FROM tandem.old_tables_changed(jsonb_build_array(jsonb_build_object('table_id', :id, 'identity', '{"numbers": 2}'::jsonb, 'empty', true, 'reason', NULL)));
INSERT INTO pairs VALUES ('more', 1, 'side');
DELETE FROM tandem.reverse_outbox;
SELECT label, reason FROM tandem.old_tables_changed(jsonb_build_array(jsonb_build_object('table_id', :id, 'identity', '{"numbers": 2}'::jsonb, 'empty', true, 'reason', NULL)));
DELETE FROM tandem.reverse_letter;
SELECT label, reason FROM tandem.old_tables_changed(jsonb_build_array(jsonb_build_object('table_id', :id, 'identity', '{"numbers": 1}'::jsonb, 'empty', false, 'reason', NULL)));
SELECT label, reason FROM tandem.old_tables_changed(jsonb_build_array(jsonb_build_object('table_id', :id, 'identity', '{"numbers": 1}'::jsonb, 'empty', true, 'reason', NULL)));
SELECT noticed_at FROM tandem.old_table_change \gset
SELECT label, reason FROM tandem.old_tables_changed(jsonb_build_array(jsonb_build_object('table_id', :id, 'identity', '{"numbers": 1}'::jsonb, 'empty', true, 'reason', 'emptied')));
SELECT noticed_at = :'noticed_at' AS still FROM tandem.old_table_change;
INSERT INTO tandem.reconcile_ledger (table_id, pass_started_at, pass_finished_at, last_clean_at) VALUES (:id, now() + interval '1 day', now() + interval '2 days', now() + interval '2 days');
SELECT label, reason FROM tandem.old_tables_changed(jsonb_build_array(jsonb_build_object('table_id', :id, 'identity', '{"numbers": 1}'::jsonb, 'empty', false, 'reason', 'emptied')));
ROLLBACK;
SELECT source, tables, state, meaning, call FROM tandem.doctor();
CALL tandem.rollback('{pairs}', max_pause => '20 s');
DELETE FROM tandem.reverse_letter;
CALL tandem.rollback('{pairs}', max_pause => '20 s');
SELECT phase, source_of_truth FROM tandem.phases WHERE "table" = 'pairs';
INSERT INTO pairs VALUES ('late', 1, 'side');
SELECT tandem.drop_table('pairs');
SELECT tandem.wait_for('pairs', 'dropped');

-- Contract.
SELECT count(*) FROM tandem.add_tables('shop', 'pairs', on_existing => 'truncate');
SELECT tandem.start('pairs');
SELECT tandem.wait_for('pairs', 'syncing');
SELECT tandem.wait_caught_up('30 s');
SELECT tandem.set_phase('pairs', 'ready') > 0 AS moved;
CALL tandem.cutover('{pairs}', max_pause => '20 s', waive => '{"clean_pass": "test", "divergence": "test", "long_transactions": "test", "lag": "test"}');
CALL tandem.contract('{pairs}');
CALL tandem.contract('{pairs}', confirm => 'no way back');
SELECT regexp_replace(regexp_replace(detail, '[0-9a-f]{8}', 'HASH', 'g'), '_[0-9]+ ', '_N ') AS removed FROM tandem.cutover_step JOIN tandem.cutover_run USING (run_id) WHERE kind = 'contract' ORDER BY run_id, step;
CALL tandem.contract('{pairs}', confirm => 'no way back');
CALL tandem.mend();
CALL tandem.mend('nix');
SELECT kind, state FROM tandem.cutover_runs WHERE kind IN ('contract', 'mend') ORDER BY run_id;

-- What the worker calls is refused to whoever does not lead the source, or for a run that is not running.
\set VERBOSITY sqlstate
SELECT tandem.cutover_next(-1, -1);
SELECT tandem.cutover_state(-1, -1);
SELECT tandem.cutover_put_back(-1, -1, '{}', 'cutover', 1);
SELECT tandem.cutover_probe(-1);
SELECT tandem.cutover_begin(-1, 10);
SELECT tandem.cutover_commit(-1, '{}', 10);
SELECT tandem.cutover_contract(-1, 10);
SELECT tandem.cutover_obstacle(-1);
SELECT tandem.cutover_abort(-1);
SELECT tandem.cutover_step(-1, 'x', 0, NULL);
SELECT tandem.cutover_end(-1, 0, NULL);
SELECT tandem.cutover_commit(max(run_id), '{}', 10) FROM tandem.cutover_run;
\set VERBOSITY default

-- Nobody but the owner of a target.
CREATE ROLE tandem_test_dba IN ROLE tandem_admin;
SET ROLE tandem_test_dba;
CALL tandem.cutover('{users,orgs}');
CALL tandem.contract('{pairs}', confirm => 'no way back');
SELECT count(*) > 0 AS sees FROM tandem.cutover_runs;
RESET ROLE;
DROP ROLE tandem_test_dba;
SELECT tandem.drop_source('shop', cascade => true);
DO $$
BEGIN
  FOR i IN 1..300 LOOP
    EXIT WHEN NOT EXISTS (SELECT FROM tandem.source);
    PERFORM pg_sleep(0.1);
  END LOOP;
END
$$;
DROP TABLE pairs, users, orgs;
