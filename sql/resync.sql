-- Losses, sweeps and the guard's reports, called by hand in a database of its own; tandem.resync as people call it.
\set SHOW_CONTEXT never
\pset null '(null)'
SET client_min_messages = error;
CREATE DATABASE regress_resync;
\c regress_resync
SET client_min_messages = error;
CREATE EXTENSION pg_tandem CASCADE;
CREATE SERVER old FOREIGN DATA WRAPPER mysql_fdw OPTIONS (host 'old.example');
CREATE USER MAPPING FOR PUBLIC SERVER old OPTIONS (username 'tandem', password 'x');
CREATE TYPE colour AS ENUM ('red', 'green');
CREATE TABLE public.things (name text, kind colour, n numeric(20,0), extra text, shard text, UNIQUE (n, kind, name, shard));
CREATE TABLE public.plain (id bigint PRIMARY KEY, v text NOT NULL);
INSERT INTO tandem.source (name, server, database, mapping_role) VALUES ('shop', 'old', 'shop', 'postgres');
INSERT INTO tandem.source_table (source_id, name, target, key_columns, outbox, trigger_suffix, constants)
VALUES (1, 'things', 'public.things', '{name,kind,n}', '', '', '{"shard": "eu"}'), (1, 'plain', 'public.plain', '{id}', '', '', '{}');
INSERT INTO tandem.source_column (table_id, ordinal, name, mysql_type, data_type, nullable, image_type)
VALUES (1, 1, 'name', 'varchar(20)', 'varchar', false, 'text'), (1, 2, 'kind', 'varchar(9)', 'varchar', false, 'text'),
       (1, 3, 'n', 'int(11)', 'int', false, 'integer'), (1, 4, 'unread', 'int(11)', 'int', true, 'integer'),
       (2, 1, 'id', 'int(11)', 'int', false, 'integer'), (2, 2, 'v', 'varchar(9)', 'varchar', true, 'text'), (2, 3, 'w', 'int(11)', 'int', true, 'integer');
INSERT INTO tandem.target_column (table_id, name, source_column, expression, key_position)
VALUES (1, 'name', 'name', NULL, 1), (1, 'kind', 'kind', NULL, 2), (1, 'n', 'n', NULL, 3), (1, 'shard', NULL, '''eu''::text', 4),
       (2, 'id', 'id', NULL, 1), (2, 'v', NULL, 'upper(v)', NULL);
INSERT INTO public.things (name, kind, n, shard)
VALUES ('b', 'red', 1, 'eu'), ('a', 'green', 1, 'eu'), ('a', 'red', 1, 'eu'), ('a', 'red', 1, 'us'), (NULL, 'red', 1, 'eu'), ('z', 'red', 0, 'eu');
RESET client_min_messages;

-- Not started, not named, not known.
SELECT tandem.resync();
SELECT tandem.resync('plain');
SELECT tandem.resync('nothing');
INSERT INTO tandem.table_state (table_id, state, backfill_done) VALUES (1, 'syncing', true), (2, 'syncing', true);
UPDATE tandem.source_table SET desired_state = 'running';
SELECT tandem.acquire_lease(1, 'test');

-- A loss is written down and taken out of sync; another epoch may not.
SELECT tandem.capture_lost(1, 99, 'trigger', 'gone', true);
SELECT * FROM tandem.capture_lost(1, 1, 'trigger', 'trigger "x" does not exist', true);
SELECT * FROM tandem.capture_lost(2, 1, 'swapped', 'another table', false);
SELECT * FROM tandem.capture_lost(99, 1, 'trigger', 'no such table', true);
SELECT source, "table", phase, cause, reason, automatic, times FROM tandem.resyncs ORDER BY 2;
SELECT table_id, state, reason FROM tandem.table_state ORDER BY 1;
UPDATE tandem.source_table SET desired_state = 'paused' WHERE table_id = 1;
SELECT * FROM tandem.capture_lost(1, 1, 'truncated', 'emptied', true);
UPDATE tandem.source_table SET desired_state = 'running' WHERE table_id = 1;

-- Identities are forgotten with a loss.
SELECT tandem.note_identity(1, 1, '{"server": "a"}');
SELECT tandem.worker_tables(1) -> 0 -> 'identity' AS identity, tandem.worker_tables(1) -> 0 -> 'resync' AS resync;
SELECT loss FROM tandem.capture_lost(1, 1, 'gap', 'gaps', true);
SELECT tandem.worker_tables(1) -> 0 -> 'identity' AS identity;

-- No sweep before the rows are copied; then in the order of the index, only rows of the table itself, a cursor in the order of the old key.
SELECT * FROM tandem.sweep_keys(1, 1, 3, 10);
UPDATE tandem.resync SET phase = 'sweeping' WHERE table_id = 1;
UPDATE tandem.table_state SET state = 'backfilling' WHERE table_id = 1;
SELECT * FROM tandem.sweep_keys(1, 1, 2, 10) AS "of an older loss";
SELECT * FROM tandem.sweep_keys(1, 99, 3, 10) AS "of another epoch";
SELECT * FROM tandem.sweep_keys(1, 1, 3, 3);
SELECT tandem.report_sweep(1, 1, 3, '{a,red,1}', 3, 1, false);
SELECT * FROM tandem.sweep_keys(1, 1, 3, 3);
-- A row that no old key can be.
INSERT INTO public.things (name, kind, n, shard) VALUES ('far', 'red', 99999999999, 'eu');
SELECT * FROM tandem.sweep_keys(1, 1, 3, 3);
SELECT tandem.report_sweep(1, 1, 2, NULL, 0, 0, true), state FROM tandem.table_state WHERE table_id = 1;
SELECT tandem.report_sweep(1, 1, 3, NULL, 1, 1, true);
SELECT phase, rows_looked_up, rows_missing, finished_at IS NOT NULL AS finished, (SELECT state FROM tandem.table_state WHERE table_id = 1) FROM tandem.resyncs WHERE "table" = 'things';

-- By call: a blocked one as well.
SELECT tandem.resync('plain', 'shop.things');
SELECT "table", phase, cause, reason, automatic, times FROM tandem.resyncs ORDER BY 1;
SELECT table_id, state, reason FROM tandem.table_state ORDER BY 1;

-- Columns: what the target reads blocks, what it does not is left out.
SELECT tandem.report_columns(1, 1, '[{"column": "unread", "change": "dropped", "old_type": "int(11)"}, {"column": "fresh", "change": "added", "new_type": "text"}]');
SELECT tandem.report_columns(2, 1, '[{"column": "v", "change": "nullability", "old_type": "varchar(9)", "new_type": "varchar(9) NULL"},
  {"column": "w", "change": "altered", "old_type": "int(11)", "new_type": "bigint(20)"}, {"column": "id", "change": "altered", "old_type": "int(11)", "new_type": "bigint(20)"}]');
SELECT "table", "column", change, old_type, new_type, effect, call FROM tandem.schema_changes ORDER BY 1, 2;
SELECT table_id, name FROM tandem.source_column WHERE gone ORDER BY 1, 2;
SELECT tandem.report_columns(2, 1, '[]'), tandem.report_columns(1, 1, '[]'), tandem.report_columns(99, 1, '[]');
SELECT "table", "column", change FROM tandem.schema_changes ORDER BY 1, 2;

-- The guard: well, without PROCESS, failing, without a leader.
SELECT tandem.report_guard(1, 1, 2, 1.5, true, NULL);
SELECT source, tables, look_ms, by_number, trouble, failing_since, seconds_since_look < 100 AS fresh FROM tandem.pg_stat_tandem_guard;
SELECT tandem.report_guard(1, 1, 2, 1.5, false, NULL);
SELECT by_number, trouble FROM tandem.pg_stat_tandem_guard;
SELECT tandem.report_guard(1, 1, 0, NULL, NULL, 'access denied');
SELECT look_ms, by_number, trouble, failing_since IS NOT NULL AS failing, looked_at < failing_since AS looked_before FROM tandem.pg_stat_tandem_guard;
SELECT tandem.report_guard(1, 1, 2, 1.5, true, NULL), tandem.release_lease(1, 'test', 1);
SELECT trouble, failing_since FROM tandem.pg_stat_tandem_guard;
SELECT tandem.report_guard(1, 99, 2, 1.5, true, NULL);

-- Without the target a member of tandem_admin may not.
SET client_min_messages = error;
CREATE ROLE regress_resync_admin IN ROLE tandem_admin;
SET ROLE regress_resync_admin;
SELECT tandem.resync('plain');
RESET ROLE;
ALTER TABLE public.plain OWNER TO regress_resync_admin;
SET ROLE regress_resync_admin;
SELECT tandem.resync('plain');
SELECT times FROM tandem.resyncs WHERE "table" = 'plain';
RESET ROLE;
\c regression
SET client_min_messages = error;
DROP DATABASE regress_resync WITH (FORCE);
DROP ROLE regress_resync_admin;
