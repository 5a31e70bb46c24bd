-- The direct copy of history, its steps called by hand in a database of its own (docs/protocol.md section 16).
\set SHOW_CONTEXT never
\pset null '(null)'
SET client_min_messages = error;
CREATE DATABASE regress_backfill;
\c regress_backfill
SET client_min_messages = error;
CREATE EXTENSION pg_tandem CASCADE;
CREATE SERVER old FOREIGN DATA WRAPPER mysql_fdw OPTIONS (host 'old.example', port '3307');
CREATE USER MAPPING FOR PUBLIC SERVER old OPTIONS (username 'tandem', password 'a=b');
CREATE FUNCTION image(VARIADIC fields bytea[]) RETURNS bytea LANGUAGE sql AS $$
  SELECT int2send(cardinality(fields)::int2) ||
    string_agg(CASE WHEN f IS NULL THEN int4send(-1) ELSE int4send(length(f)) || f END, '' ORDER BY n)
  FROM unnest(fields) WITH ORDINALITY AS u (f, n) $$;
-- One row of tandem.write_chunk, with the columns id, name, n.
CREATE FUNCTION sent(id integer, name text, n integer, op text DEFAULT 'U', flags integer DEFAULT 4) RETURNS bytea LANGUAGE sql AS $$
  SELECT convert_to(op, 'UTF8') || int2send(flags::int2) || int4send(length(k)) || k || int4send(length(i)) || i
  FROM (SELECT image(int4send(id)) AS k, CASE op WHEN 'X' THEN convert_to('{"sqlstate":"22008","column":"name","message":"no date"}', 'UTF8')
          ELSE image(int4send(id), convert_to(name, 'UTF8'), int4send(n)) END AS i) AS r $$;
-- The key is wider than on the old side, the name is limited, n is unique.
CREATE TABLE public.users (id bigint PRIMARY KEY, name varchar(10), n integer UNIQUE);
CREATE TABLE public.members (id integer PRIMARY KEY, name text, n integer);
CREATE INDEX members_name ON public.members (name);
COMMENT ON INDEX public.members_name IS 'kept';
CREATE UNIQUE INDEX members_n ON public.members (n);
CREATE TABLE public.orgs (id integer PRIMARY KEY, name text, n integer);
CREATE TABLE public.small (id integer PRIMARY KEY, name text, n integer);
INSERT INTO tandem.source (name, server, database, mapping_role) VALUES ('shop', 'old', 'shop', 'postgres');
INSERT INTO tandem.source_table (source_id, name, target, key_columns, outbox, trigger_suffix, created_target)
VALUES (1, 'users', 'public.users', '{id}', '', '', false), (1, 'members', 'public.members', '{id}', '', '', true),
       (1, 'orgs', 'public.orgs', '{id}', '', '', false), (1, 'small', 'public.small', '{id}', '', '', false);
INSERT INTO tandem.source_column (table_id, ordinal, name, mysql_type, data_type, nullable, image_type)
SELECT t, c.* FROM generate_series(1, 4) AS t, (VALUES (1, 'id', 'int(11)', 'int', false, 'integer'), (2, 'name', 'varchar(20)', 'varchar', true, 'text'),
                                                       (3, 'n', 'int(11)', 'int', true, 'integer')) AS c;
INSERT INTO tandem.target_column (table_id, name, source_column, key_position)
SELECT t, c.* FROM generate_series(1, 4) AS t, (VALUES ('id', 'id', 1), ('name', 'name', NULL), ('n', 'n', NULL)) AS c;
INSERT INTO tandem.source_fk VALUES (1, 'fk', 'shop', 'elsewhere', '{org}', 'shop', 'orgs', '{id}', 'CASCADE', 'RESTRICT');
SELECT tandem.start();
UPDATE tandem.table_state SET state = 'backfilling';
SET ROLE tandem_worker;
SELECT tandem.acquire_lease(1, 'a');

-- How a table is copied is decided once.
SELECT tandem.begin_backfill(1, 7, 10000, 20000, 100);
SELECT tandem.begin_backfill(1, 1, 10000, 20000, 100), tandem.begin_backfill(2, 1, 10000, 20000, 100), tandem.begin_backfill(3, 1, 10000, 20000, 100),
       tandem.begin_backfill(4, 1, 9999, 20000, 100);
SELECT tandem.begin_backfill(4, 1, 10000, 20000, 100);
RESET ROLE;
SELECT table_id, mode, mode_reason, fresh, phase, rows_estimate, bytes_estimate FROM tandem.backfill ORDER BY 1;
-- A created target that is empty gets its secondary indexes later.
SELECT table_id, name, definition, remark FROM tandem.deferred_index ORDER BY 1, 2;
SELECT indexrelid::regclass FROM pg_index WHERE indrelid IN ('public.users'::regclass, 'public.members'::regclass) ORDER BY 1;
SET ROLE tandem_worker;

-- Chunks are planned along the old side's index.
SELECT chunk, planned, planned_all, unstarted, undone FROM tandem.mark_chunk(1, 1, '{}');
SELECT tandem.read_chunks(1);
SELECT tandem.plan_chunks(1, 1, 0, '[["10"], ["20"]]', false);
SELECT tandem.plan_chunks(1, 1, 0, '[["10"]]', false); -- planned meanwhile: nothing is appended
SELECT tandem.plan_chunks(1, 7, 2, '[["30"]]', false);
SELECT tandem.plan_chunks(1, 1, 2, '[]', true);
SELECT tandem.plan_chunks(1, 1, 3, '[["40"]]', false);
RESET ROLE;
SELECT chunk, low, high, state, attempt FROM tandem.backfill_chunk WHERE table_id = 1 ORDER BY 1;
SET ROLE tandem_worker;

-- They are started in order; one that another copier holds is left to it.
SELECT * FROM tandem.mark_chunk(1, 1, '{}');
SELECT * FROM tandem.mark_chunk(1, 1, '{1}');
SELECT * FROM tandem.mark_chunk(1, 1, '{2}'); -- the copier of chunk 1 is dead
SELECT tandem.mark_chunk(1, 7, '{}');
SELECT jsonb_pretty(tandem.read_chunks(1));

-- Rows as they are are copied, also into a wider integer.
BEGIN;
SELECT tandem.write_chunk(1, 1, 2, 1, sent(-1, 'one', 1) || sent(2, 'two', NULL) || sent(3, NULL, 3));
SELECT tandem.end_chunk(1, 1, 2, 1, 3, 100);
COMMIT;
-- Only the latest attempt counts, only under the lease, only as long as the chunk is not done.
SELECT tandem.write_chunk(1, 1, 2, 1, sent(4, 'four', 4));
SELECT tandem.write_chunk(1, 2, 2, 1, sent(11, 'eleven', 11));
SELECT tandem.write_chunk(1, 2, 1, 7, sent(11, 'eleven', 11));
SELECT tandem.end_chunk(1, 2, 2, 1, 1, 1);
SELECT tandem.end_chunk(1, 2, 1, 7, 1, 1);
-- What is not in the format.
SELECT tandem.write_chunk(1, 2, 1, 1, '\x00');
SELECT tandem.write_chunk(1, 2, 1, 1, '\x5500040000000100ffffffff');
SELECT tandem.write_chunk(1, 2, 1, 1, sent(11, 'eleven', 11, 'D'));
-- A row that cannot be copied makes its block be merged: the bad ones alone are put aside.
BEGIN;
SELECT tandem.write_chunk(1, 2, 1, 1, sent(11, 'eleven', 11) || sent(12, 'longer than ten', 12) || sent(13, 'taken', 3) || sent(14, NULL, NULL, 'X')
  || sent(2, 'was there', 2));
SELECT tandem.end_chunk(1, 2, 1, 1, 5, 100);
COMMIT;
RESET ROLE;
SELECT * FROM public.users ORDER BY id;
SELECT tandem.decode_key(table_id, key), op, sqlstate FROM tandem.dead_letter ORDER BY 1;
SELECT tandem.decode_key(table_id, key), op, sqlstate FROM tandem.retry ORDER BY 1;
SELECT backfill_rows, backfill_done FROM tandem.table_state WHERE table_id = 1;

-- A paused table is left alone.
SELECT tandem.pause('users');
SET ROLE tandem_worker;
SELECT * FROM tandem.mark_chunk(1, 1, '{}');
SELECT tandem.end_backfill(1, 1);
RESET ROLE;
SELECT tandem.resume('users');

-- The end: when every chunk is done.
SET ROLE tandem_worker;
SELECT tandem.end_backfill(1, 7);
SELECT chunk, low, high, attempt FROM tandem.mark_chunk(1, 1, '{}');
SELECT tandem.end_backfill(1, 1);
BEGIN;
SELECT tandem.end_chunk(1, 3, 1, 1, 0, 0); -- an empty chunk
COMMIT;
SELECT tandem.end_backfill(1, 1);
SELECT tandem.end_backfill(1, 1);
SELECT tandem.mark_chunk(1, 1, '{}');
RESET ROLE;
SELECT state, backfill_done, backfill_rows FROM tandem.table_state WHERE table_id = 1;
SELECT phase, rows, bytes, ended_at IS NOT NULL AS ended FROM tandem.backfill WHERE table_id = 1;
SELECT count(*) FROM tandem.backfill_chunk WHERE table_id = 1;

-- A table is not in sync before its indexes are there.
SET ROLE tandem_worker;
SELECT tandem.plan_chunks(2, 1, 0, '[]', true);
SELECT chunk, attempt FROM tandem.mark_chunk(2, 1, '{}');
BEGIN;
SELECT tandem.write_chunk(2, 1, 1, 1, sent(1, 'a', 1) || sent(2, 'b', 1));
SELECT tandem.end_chunk(2, 1, 1, 1, 2, 100);
COMMIT;
SELECT tandem.end_backfill(2, 1);
SELECT c ->> 'held' AS held FROM jsonb_array_elements(tandem.read_chunks(1)) AS c;
SELECT tandem.build_index(2, 7);
SELECT tandem.build_index(2, 1);
SELECT c ->> 'held' AS held FROM jsonb_array_elements(tandem.read_chunks(1)) AS c;
SELECT tandem.build_index(2, 1);
RESET ROLE;
SELECT name, problem FROM tandem.deferred_index;
UPDATE public.members SET n = 2 WHERE id = 2;
SET ROLE tandem_worker;
SELECT tandem.end_backfill(2, 1);
SELECT tandem.build_index(2, 1);
SELECT tandem.build_index(2, 1);
SELECT tandem.end_backfill(2, 1);
RESET ROLE;
SELECT pg_get_indexdef(indexrelid), obj_description(indexrelid, 'pg_class') FROM pg_index WHERE indrelid = 'public.members'::regclass ORDER BY 1;

-- Cancel: a table whose history is not copied yet is registered again, with the target as it was.
SELECT tandem.cancel_backfill('missing');
SELECT tandem.cancel_backfill('users');
CREATE TABLE public.posts (id integer PRIMARY KEY, name text, n integer);
CREATE INDEX posts_n ON public.posts (n);
CREATE TABLE public.comments (id integer PRIMARY KEY, post integer REFERENCES public.posts);
INSERT INTO tandem.source_table (source_id, name, target, key_columns, outbox, trigger_suffix, created_target)
VALUES (1, 'posts', 'public.posts', '{id}', '', '', true);
INSERT INTO tandem.source_column (table_id, ordinal, name, mysql_type, data_type, nullable, image_type)
SELECT max(t.table_id), 1, 'id', 'int(11)', 'int', false, 'integer' FROM tandem.source_table AS t;
INSERT INTO tandem.target_column (table_id, name, source_column, key_position) SELECT max(t.table_id), 'id', 'id', 1 FROM tandem.source_table AS t;
SELECT table_id AS posts FROM tandem.source_table WHERE name = 'posts' \gset
SELECT tandem.cancel_backfill('posts');
SELECT tandem.start('posts');
UPDATE tandem.table_state SET state = 'backfilling' WHERE table_id = :posts;
SET ROLE tandem_worker;
SELECT tandem.begin_backfill(:posts, 1, 10000, 20000, 100);
SELECT tandem.plan_chunks(:posts, 1, 0, '[["10"]]', true);
SELECT chunk FROM tandem.mark_chunk(:posts, 1, '{}');
BEGIN;
SELECT tandem.write_chunk(:posts, 1, 1, 1, '\x550004'::bytea || int4send(10) || image(int4send(1)) || int4send(10) || image(int4send(1)));
SELECT tandem.end_chunk(:posts, 1, 1, 1, 1, 10);
COMMIT;
SELECT tandem.forget_table(:posts, 1); -- nobody cancelled it
RESET ROLE;
SELECT * FROM public.posts;
SET ROLE tandem_admin;
SELECT tandem.cancel_backfill('posts');
RESET ROLE;
SELECT tandem.cancel_backfill('posts');
SELECT tandem.cancel_backfill('posts') FROM (SELECT set_config('role', 'tandem_monitor', false)) AS r;
RESET ROLE;
SELECT tandem.start('posts');
SELECT desired_state, state, reason FROM tandem.tables WHERE "table" = 'posts';
SET ROLE tandem_worker;
SELECT chunk FROM tandem.mark_chunk(:posts, 1, '{}');
SELECT tandem.forget_table(:posts, 1);
RESET ROLE;
SELECT desired_state, state, reason FROM tandem.tables WHERE "table" = 'posts';
SELECT count(*) AS posts FROM public.posts;
SELECT indexrelid::regclass FROM pg_index WHERE indrelid = 'public.posts'::regclass ORDER BY 1;
SELECT (SELECT count(*) FROM tandem.backfill WHERE table_id = :posts) AS backfill, (SELECT count(*) FROM tandem.deferred_index) AS deferred,
       (SELECT phase FROM tandem.phase WHERE table_id = :posts) AS phase;

-- The pace.
SET ROLE tandem_worker;
SELECT tandem.report_pace(1, 1, '{"throttle": "slowed: 3 threads running", "threads_running": 3, "history_list": 17, "replica_lag": null}');
SELECT tandem.report_pace(1, 7, '{}');
RESET ROLE;
SELECT "table", mode, phase, rows_done, rows_total, percent, eta IS NOT NULL AS eta, chunks_done, throttle, indexes_left, problem
FROM tandem.pg_stat_progress_tandem_backfill ORDER BY 1;
SELECT throttle, threads_running, history_list, replica_lag, unreadable FROM tandem.backfill_pace;

\c regression
DROP DATABASE regress_backfill WITH (FORCE);
