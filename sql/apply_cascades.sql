-- Cascades as apply sees them, fed by hand: who is asked for when a parent goes, and that it ends.
\set SHOW_CONTEXT never
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pg_tandem CASCADE;
CREATE SCHEMA cascade_test;
SET search_path = cascade_test, public;

\getenv abs_srcdir PG_ABS_SRCDIR
\set by_hand :abs_srcdir /sql/by_hand.inc
\i :by_hand
CREATE FUNCTION key(id text) RETURNS bytea LANGUAGE sql AS 'SELECT image(textsend(id))';
CREATE FUNCTION org(id integer, code text) RETURNS bytea LANGUAGE sql AS 'SELECT image(int4send(id), textsend(code))';
CREATE FUNCTION dept(id integer, org integer, code text) RETURNS bytea LANGUAGE sql AS
  'SELECT image(int4send(id), int4send(org), textsend(code))';
CREATE FUNCTION page(id integer, doc text) RETURNS bytea LANGUAGE sql AS 'SELECT image(int4send(id), textsend(doc))';

-- org ← dept by its key, by its code, and of itself nothing; tree refers to itself; page refers to doc by a name without case.
CREATE TABLE org (id integer PRIMARY KEY, code text);
CREATE TABLE dept (id integer PRIMARY KEY, org integer, code text CHECK (code <> 'poison'));
CREATE TABLE tree (id integer PRIMARY KEY, parent integer);
CREATE TABLE doc (id text PRIMARY KEY);
CREATE TABLE page (id integer PRIMARY KEY, doc text);
INSERT INTO tandem.source (name, server, database, mapping_role) VALUES ('by hand', 'nowhere', 'shop', CURRENT_USER);
SELECT source_id AS source FROM tandem.source WHERE name = 'by hand' \gset
INSERT INTO tandem.lease VALUES (:source, 1000000, 'regression', now() + interval '1 day');
INSERT INTO tandem.source_table (source_id, name, target, key_columns, outbox, trigger_suffix)
  SELECT :source, name, name::regclass, '{id}', '', '' FROM unnest(ARRAY['org', 'dept', 'tree', 'doc', 'page']) AS name;
SELECT max(table_id) FILTER (WHERE name = 'org') AS org, max(table_id) FILTER (WHERE name = 'dept') AS dept,
       max(table_id) FILTER (WHERE name = 'tree') AS tree, max(table_id) FILTER (WHERE name = 'doc') AS doc,
       max(table_id) FILTER (WHERE name = 'page') AS page
FROM tandem.source_table WHERE source_id = :source \gset
INSERT INTO tandem.source_column (table_id, ordinal, name, mysql_type, data_type, "collation", nullable, image_type) VALUES
  (:org, 1, 'id', 'int', 'int', NULL, false, 'integer'), (:org, 2, 'code', 'varchar(9)', 'varchar', 'utf8mb4_bin', true, 'text'),
  (:dept, 1, 'id', 'int', 'int', NULL, false, 'integer'), (:dept, 2, 'org', 'int', 'int', NULL, true, 'integer'),
  (:dept, 3, 'code', 'varchar(9)', 'varchar', 'utf8mb4_bin', true, 'text'),
  (:tree, 1, 'id', 'int', 'int', NULL, false, 'integer'), (:tree, 2, 'parent', 'int', 'int', NULL, true, 'integer'),
  (:doc, 1, 'id', 'varchar(9)', 'varchar', 'utf8mb4_general_ci', false, 'text'),
  (:page, 1, 'id', 'int', 'int', NULL, false, 'integer'), (:page, 2, 'doc', 'varchar(9)', 'varchar', 'utf8mb4_general_ci', true, 'text');
INSERT INTO tandem.target_column SELECT table_id, name, name, NULL, CASE name WHEN 'id' THEN 1 END FROM tandem.source_column
  WHERE table_id IN (:org, :dept, :tree, :doc, :page);
INSERT INTO tandem.source_fk VALUES
  (:source, 'dept_org', 'shop', 'dept', '{org}', 'shop', 'org', '{id}', 'CASCADE', 'RESTRICT'),
  (:source, 'dept_code', 'shop', 'dept', '{code}', 'shop', 'org', '{code}', 'RESTRICT', 'CASCADE'),
  (:source, 'tree_parent', 'shop', 'tree', '{parent}', 'shop', 'tree', '{id}', 'CASCADE', 'RESTRICT'),
  (:source, 'page_doc', 'shop', 'page', '{doc}', 'shop', 'doc', '{id}', 'CASCADE', 'CASCADE');
INSERT INTO tandem.table_state (table_id, state, backfill_done) SELECT t, 'syncing', true FROM unnest(ARRAY[:org, :dept, :tree, :doc, :page]) AS t;
UPDATE tandem.source_table SET desired_state = 'running' WHERE source_id = :source;

-- What was asked for since the last look.
CREATE FUNCTION asked(OUT child text, OUT keys text, OUT flags integer, OUT reason text) RETURNS SETOF record LANGUAGE sql AS $$
  WITH gone AS (DELETE FROM tandem.request RETURNING *)
  SELECT t.name, string_agg(array_to_string(g.key_text, '/'), ' ' ORDER BY g.key_text), g.flags, g.reason
  FROM gone AS g JOIN tandem.source_table AS t USING (table_id) GROUP BY t.name, g.flags, g.reason ORDER BY 1, 4 $$;

INSERT INTO org VALUES (1, 'a'), (2, 'b'), (3, 'c');
INSERT INTO dept VALUES (10, 1, 'a'), (11, 1, 'b'), (20, 2, 'b'), (30, 3, NULL);

-- A row that is absent is expanded whatever its flags; two foreign keys lead to one child, which is asked for once.
INSERT INTO rows VALUES (:org, 'D', key(1), NULL, 0);
CALL apply();
SELECT * FROM asked();
-- A row that is there, without flags: only if a referenced column is not what it was.
INSERT INTO rows VALUES (:org, 'U', key(2), org(2, 'b'), 0), (:org, 'U', key(3), org(3, 'c'), 2);
CALL apply();
SELECT * FROM asked();
INSERT INTO rows VALUES (:org, 'U', key(2), org(2, 'bb'), 0);
CALL apply();
SELECT * FROM asked();
-- An insert of a parent says that it had been absent.
INSERT INTO rows VALUES (:org, 'U', key(3), org(3, 'c'), 1);
CALL apply();
SELECT * FROM asked();

-- Children that wait as dead letters or to be retried are children; those of other parents are not asked for.
INSERT INTO rows VALUES (:dept, 'U', key(40), dept(40, 3, 'poison')), (:dept, 'U', key(41), dept(41, 4, 'poison')), (:dept, 'X', key(42), '{}');
CALL apply();
INSERT INTO rows VALUES (:org, 'U', key(3), org(3, 'c'), 1);
CALL apply();
SELECT * FROM asked();
INSERT INTO rows VALUES (:org, 'D', key(3), NULL, 1);
CALL apply();
SELECT * FROM asked();
-- Asked for, and absent or dead as before: nothing more.
INSERT INTO rows VALUES (:dept, 'D', key(40), NULL, 2), (:dept, 'X', key(42), '{}', 2), (:dept, 'D', key(30), NULL, 2);
CALL apply();
SELECT * FROM asked();
SELECT tandem.decode_key(table_id, key) FROM tandem.dead_letter ORDER BY 1;

-- A parent that was never applied: its children may refer to a value that only its kept image had.
ALTER TABLE org ADD CONSTRAINT code CHECK (code <> 'kept');
INSERT INTO rows VALUES (:org, 'U', key(5), org(5, 'kept'), 1), (:dept, 'U', key(50), dept(50, NULL, 'kept'), 0);
CALL apply();
SELECT * FROM asked();
INSERT INTO rows VALUES (:org, 'U', key(5), org(5, 'kept'), 0);
CALL apply();
SELECT * FROM asked();
INSERT INTO rows VALUES (:org, 'U', key(5), org(5, 'other'), 0);
CALL apply();
SELECT * FROM asked();

-- A row whose bytes are wrong does not keep the others from being expanded.
INSERT INTO rows VALUES (:org, 'U', key(6), '\x0007', 0), (:org, 'U', key(2), org(2, 'b'), 1), (:org, 'D', '\x00', NULL, 0);
CALL apply();
SELECT * FROM asked();
SELECT count(*), max(sqlstate) FROM tandem.dead_letter WHERE table_id = :org;
DELETE FROM tandem.dead_letter;

-- A tree: level by level, and a cycle ends.
INSERT INTO tree VALUES (1, 3), (2, 1), (3, 2), (4, 4), (5, 4);
INSERT INTO rows VALUES (:tree, 'D', key(1), NULL, 1), (:tree, 'D', key(4), NULL, 1);
CALL apply();
SELECT * FROM asked();
INSERT INTO rows VALUES (:tree, 'D', key(2), NULL, 2), (:tree, 'D', key(4), NULL, 2), (:tree, 'D', key(5), NULL, 2);
CALL apply();
SELECT * FROM asked();
INSERT INTO rows VALUES (:tree, 'D', key(3), NULL, 2);
CALL apply();
SELECT * FROM asked();
SELECT count(*) FROM tree;

-- Names without case, accents and trailing spaces find what refers to them.
INSERT INTO doc VALUES ('abc'), ('other');
INSERT INTO page VALUES (1, 'abc'), (2, 'ABC'), (3, 'Abc  '), (4, 'ábc'), (5, 'abcd'), (6, 'other'), (7, NULL);
INSERT INTO rows VALUES (:doc, 'D', key('abc'), NULL, 1), (:page, 'U', key(6), page(6, 'zzz'), 0);
CALL apply();
SELECT * FROM asked();

-- The end of a backfill: rows whose parent is not here are asked for once, as parent and as child.
TRUNCATE org, dept;
INSERT INTO dept VALUES (10, 1, NULL), (11, 2, 'x'), (12, NULL, NULL), (13, 2, 'b');
UPDATE tandem.table_state SET backfill_done = false, state = 'backfilling' WHERE table_id IN (:org, :dept);
INSERT INTO rows VALUES (:dept, 'U', key(14), dept(14, 1, NULL), 4);
CALL apply(jsonb_build_object('table_id', :dept, 'cursor', ARRAY['14'], 'rows', 1, 'done', true));
SELECT * FROM asked();
INSERT INTO rows VALUES (:org, 'U', key(2), org(2, 'b'), 4);
CALL apply(jsonb_build_object('table_id', :org, 'cursor', ARRAY['2'], 'rows', 1, 'done', true));
SELECT * FROM asked();
CALL apply(jsonb_build_object('table_id', :org, 'cursor', ARRAY['2'], 'rows', 0, 'done', true));
SELECT * FROM asked();
UPDATE tandem.table_state SET backfill_done = false, state = 'backfilling' WHERE table_id = :dept;
CALL apply(jsonb_build_object('table_id', :dept, 'cursor', ARRAY['2'], 'rows', 0, 'done', true));
SELECT * FROM asked();

-- The owner of a target need have no rights in schema tandem.
CREATE ROLE cascade_owner;
GRANT ALL ON SCHEMA cascade_test TO cascade_owner;
ALTER TABLE page OWNER TO cascade_owner;
ALTER TABLE dept OWNER TO cascade_owner;
INSERT INTO rows VALUES (:doc, 'D', key('OTHER'), NULL, 1), (:doc, 'D', key('ZZZ'), NULL, 1), (:org, 'D', key(2), NULL, 1);
CALL apply();
SELECT * FROM asked();

-- Many parents at once, children without an index.
TRUNCATE org, dept;
INSERT INTO dept SELECT i, i / 3, NULL FROM generate_series(0, 29999) AS i;
INSERT INTO rows SELECT :org, 'D', key(i), NULL, 1 FROM generate_series(0, 9999) AS i;
CALL apply();
SELECT count(*), count(DISTINCT key_text) FROM tandem.request;
DELETE FROM tandem.request;

-- A name of a batch that was used before is refused.
SELECT max(batch_id) AS used FROM tandem.journal WHERE source_id = :source \gset
\set VERBOSITY sqlstate
SELECT tandem.submit_batch(:used, :source, 1000000, 0, 0, 0);
\set VERBOSITY default
-- One that came by another way is dropped, and those behind it go on.
INSERT INTO rows VALUES (:org, 'U', key(7), org(7, 'x'), 0);
INSERT INTO tandem.queue (batch_id, table_id, op, key, image) VALUES (:used, :org, 'U', key(8), org(8, 'y'));
INSERT INTO tandem.batch (batch_id, source_id, epoch, rows, bytes) VALUES (:used, :source, 1000000, 1, 0);
CALL apply();
SELECT id FROM org;
SELECT (SELECT count(*) FROM tandem.queue) AS queue, (SELECT count(*) FROM tandem.batch) AS batches, (SELECT count(*) FROM tandem.retry) AS retries,
       (SELECT count(*) FROM tandem.dead_letter) AS dead;

DELETE FROM tandem.journal WHERE source_id = :source;
DELETE FROM tandem.source_table WHERE source_id = :source;
DELETE FROM tandem.source WHERE source_id = :source;
DROP SCHEMA cascade_test CASCADE;
DROP ROLE cascade_owner;
