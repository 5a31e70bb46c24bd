-- Guard, record of direct writes, policies: each refusal, the triggers, who may. Verification is tested with both servers in tests/integration/dual_writes.
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.inc
\i :prelude
SET client_min_messages = warning;
SELECT tandem.add_source('shop', 'old', 'shop') > 0 AS added;
SELECT count(*) FROM tandem.add_tables('shop', 'pairs');
SELECT tandem.add_table('shop', 'kinds', "where" => 'id < 100') IS NOT NULL AS added;
SELECT tandem.start();
SELECT tandem.wait_for('pairs', 'syncing'), tandem.wait_for('kinds', 'syncing');
CREATE VIEW guards AS SELECT tgrelid::regclass, regexp_replace(tgname, '\d+', 'N') AS trigger FROM pg_trigger WHERE tgname LIKE 'tandem\_%' AND NOT tgisinternal ORDER BY 1, 2;

-- A table that is only started has no trigger.
TABLE guards;
SELECT "table", phase, direct_writes FROM tandem.phases ORDER BY 1;
SELECT tandem.set_direct_writes('pairs', 'forbid');
SELECT tandem.set_direct_writes('kinds', 'record');
SELECT tandem.set_phase('kinds', 'dual_write');
SELECT tandem.set_dual_write_policy('pairs', 'newest');
SELECT tandem.set_dual_write_policy('pairs', grace => '2 hours');

SELECT tandem.set_direct_writes('pairs', 'refuse');
TABLE guards;
INSERT INTO pairs VALUES ('x', 1, 'v');
UPDATE pairs SET v = 'w';
DELETE FROM pairs;
TRUNCATE pairs;
COPY pairs FROM stdin;
x	1	v
\.
-- A statement without rows writes nothing.
DELETE FROM pairs WHERE false;
-- What restores and replicates is not an application.
SET session_replication_role = replica;
INSERT INTO pairs VALUES ('y', 1, 'v');
DELETE FROM pairs;
RESET session_replication_role;

-- Phases that have a rule of their own.
SELECT table_id AS id FROM tandem.tables WHERE "table" = 'pairs' \gset
BEGIN;
SELECT tandem.set_direct_writes('pairs', 'allow');
SELECT tandem.set_phase('pairs', 'ready') > 0 AS m, tandem._move_phase(ARRAY[:id], '{ready}', 'cutover', NULL, NULL) > 0 AS m;
SAVEPOINT s;
INSERT INTO pairs VALUES ('x', 1, 'v');
ROLLBACK TO s;
SELECT tandem._move_phase(ARRAY[:id], '{cutover}', 'new_primary', NULL, NULL) > 0 AS m;
INSERT INTO pairs VALUES ('x', 1, 'v');
SELECT tandem._move_phase(ARRAY[:id], '{new_primary}', 'closing', NULL, NULL) > 0 AS m;
SAVEPOINT s;
DELETE FROM pairs;
ROLLBACK;

-- Recorded in the writer's transaction, with the key as the old side knows it.
SELECT tandem.set_direct_writes('pairs', 'by_phase');
SELECT tandem.set_dual_write_policy('pairs', 'review', '1 hour');
SELECT tandem.set_phase('pairs', 'dual_write') > 0 AS moved;
TABLE guards;
BEGIN;
INSERT INTO pairs VALUES ('rolled back', 1, 'v');
ROLLBACK;
INSERT INTO pairs VALUES ('x', 1, 'v'), ('y', 2, 'w');
UPDATE pairs SET a = 3 WHERE b = 'y';
DELETE FROM pairs WHERE b = 'x';
TRUNCATE pairs;
SELECT tandem.decode_key(table_id, key) AS key, side, operation, by = session_user AS by_me, xid IS NOT NULL AS has_xid, latency_us >= 0 AS measured
FROM tandem.direct_write ORDER BY direct_id;
SELECT key_text, reason, not_before > now() AS later FROM tandem.request ORDER BY request_id;
SELECT "table", new_writes, verified, unverified, in_review, settle, "grace" FROM tandem.pg_stat_tandem_dual_writes ORDER BY 1;
SELECT tandem.settle_dual_write('pairs', '{"b": "x", "a": 1}');
SELECT * FROM tandem.dual_write_reviews;

-- Only the owner of the target declares.
CREATE ROLE regress_dual IN ROLE tandem_admin;
SET ROLE regress_dual;
SELECT tandem.set_direct_writes('pairs', 'allow');
SELECT tandem.set_dual_write_policy('pairs', 'old_wins');
SELECT tandem.settle_dual_write('pairs');
RESET ROLE;
DROP ROLE regress_dual;
SELECT tandem.drop_source('shop', cascade => true);
TABLE guards;
SELECT tandem.wait_for('pairs', 'dropped'), tandem.wait_for('kinds', 'dropped');
SELECT count(*) FROM tandem.direct_write;
DROP VIEW guards;
DROP TABLE pairs, kinds;
