-- Writes through routed views while the old side is the truth: what is kept, what is refused, waiting, settling; who may. Foreign tables.
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.inc
\i :prelude
SET client_min_messages = warning;
SELECT tandem.add_source('shop', 'old', 'shop') > 0 AS added;
SELECT count(*) FROM tandem.add_tables('shop', 'pairs');
SELECT tandem.create_routed_view('pairs', 'pairs_routed');
SELECT table_id AS pairs, source_id AS shop FROM tandem.source_table WHERE name = 'pairs' \gset
INSERT INTO pairs_routed (a, b) VALUES (900, 'early');
SELECT tandem.start();
SELECT tandem.wait_for('pairs', 'syncing'), tandem.wait_caught_up('30 s');

-- In the caller's transaction, savepoints included.
BEGIN;
INSERT INTO pairs_routed (a, b, v) VALUES (900, 'kept', 'one') RETURNING a, b, v;
SAVEPOINT s;
INSERT INTO pairs_routed (a, b, v) VALUES (901, 'not', 'two');
ROLLBACK TO s;
SELECT "table", operation, key, given_up, attempts, sqlstate, message, transaction = pg_current_xact_id()::text AS mine FROM tandem.queued_writes;
SELECT before IS NULL AS nothing_before, tandem.decode_key(table_id, key) AS key, after FROM tandem.write_queue;
SELECT "table", waiting, given_up, written FROM tandem.pg_stat_tandem_writes;
SELECT tandem.wait_for_old();
ROLLBACK;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT tandem.wait_for_old();
ROLLBACK;
SELECT count(*) FROM tandem.write_queue;
SELECT tandem.wait_for_old('0 s');

-- Through and back.
INSERT INTO pairs_routed (a, b, v) VALUES (900, 'kept', 'one');
SELECT tandem.wait_for_old();
UPDATE pairs_routed SET v = 'changed' WHERE a = 900;
SELECT tandem.wait_for_old(), tandem.wait_caught_up('30 s');
SELECT a, b, v FROM pairs WHERE a = 900;
UPDATE pairs_routed SET a = 902 WHERE a = 900;
INSERT INTO pairs_routed (b) VALUES ('no key');
BEGIN;
UPDATE pairs_routed SET v = 'x' WHERE a = 900;
UPDATE pairs_routed SET v = 'y' WHERE a = 900;
ROLLBACK;
SELECT tandem.set_phase('pairs', 'ready') > 0 AS moved;
SELECT tandem.set_read_strategy('pairs', 'new');
DELETE FROM pairs_routed WHERE a = 900;
SELECT tandem.set_read_strategy('pairs', 'old');

-- What the old side does not take: told once, settled by hand.
INSERT INTO pairs_routed (a, b, v) VALUES (900, 'kept', 'again');
SELECT tandem.wait_for_old();
SELECT tandem.wait_for_old();
SELECT operation, key, given_up, sqlstate, message FROM tandem.queued_writes;
SELECT waiting, given_up, written, refused, conflicts FROM tandem.pg_stat_tandem_writes;
SELECT gate, value, "limit", ok FROM tandem.cutover_check(ARRAY['shop.pairs']) WHERE gate = 'queued_writes';
SELECT tandem.drop_table('pairs');
SELECT tandem.settle_write(0, 'retry');
SELECT tandem.settle_write(write_id, 'no such way') FROM tandem.write_queue;
SELECT tandem.settle_write(write_id, 'overwrite') FROM tandem.write_queue;
SELECT tandem.wait_for_old(), tandem.wait_caught_up('30 s');
SELECT v FROM pairs WHERE a = 900;
DELETE FROM pairs_routed WHERE a = 900;
SELECT tandem.wait_for_old();

-- A plain foreign table: its keys are asked for, in the caller's transaction.
SELECT tandem.capture_foreign('pairs', 'pairs');
SELECT tandem.capture_foreign('pairs_routed_old', 'pairs');
SELECT tgname, tgenabled FROM pg_trigger WHERE tgrelid = 'pairs_routed_old'::regclass;

-- What the worker calls: only for the leader.
\set VERBOSITY sqlstate
SELECT * FROM tandem.write_groups(:shop, 0);
SELECT tandem.write_done(:shop, 0, '1', NULL);
\set VERBOSITY default
SELECT tandem.write_known(:pairs), tandem.cutover_queued(0);

-- The view is the way in, and nothing else.
CREATE ROLE tandem_regress_writer;
GRANT SELECT, INSERT ON pairs_routed TO tandem_regress_writer;
SET ROLE tandem_regress_writer;
BEGIN;
INSERT INTO pairs_routed (a, b) VALUES (903, 'by another');
ROLLBACK;
DELETE FROM pairs_routed WHERE a = 903;
SELECT count(*) FROM tandem.write_queue;
RESET ROLE;
DROP OWNED BY tandem_regress_writer;
DROP ROLE tandem_regress_writer;
CREATE VIEW impostor AS SELECT 1 AS a;
CREATE TRIGGER impostor INSTEAD OF INSERT ON impostor FOR EACH ROW EXECUTE FUNCTION tandem._write_through('1', '1');
INSERT INTO impostor VALUES (2);
DROP VIEW impostor;
SELECT tandem.drop_routed_view('pairs_routed');
SELECT tandem.drop_table('pairs');
DROP TABLE pairs;
SELECT tandem.drop_source('shop');
