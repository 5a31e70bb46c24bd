-- tandem.add_table, add_tables, drop_table where all goes well: targets that are created, names, rollback.
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.inc
\i :prelude
SELECT tandem.add_source('shop', 'old', 'shop') > 0 AS added;

-- The default mapping of every type.
SELECT tandem.add_table('shop', 'kinds') IS NOT NULL AS added;
\d kinds
SELECT c.name, c.mysql_type, c.image_type, c.nullable FROM tandem.source_column AS c JOIN tandem.source_table AS t USING (table_id)
WHERE t.name = 'kinds' ORDER BY c.ordinal LIMIT 3;

-- Key, identity, defaults, indexes, comments.
SELECT tandem.add_table('shop', 'users') IS NOT NULL AS added;
\d+ users
SELECT obj_description('users'::regclass, 'pg_class');
SELECT "table", target, desired_state, state, key_columns, mapping FROM tandem.tables WHERE "table" = 'users';
SELECT outbox = 'users_outbox_' || trigger_suffix AS named, trigger_suffix ~ '^[0-9a-f]{8}$' AS suffix, created_target
FROM tandem.source_table WHERE name = 'users';
SELECT name, child, columns, parent, ref_columns, on_delete FROM tandem.source_fk ORDER BY name;

-- Several at once, parents first; what is there already and views are left out.
SELECT table_name, target FROM tandem.add_tables('shop', '%s') WHERE table_name NOT LIKE 'bad%';
SELECT table_name, target FROM tandem.add_tables('shop', 'grown%');
SELECT tandem.drop_source('shop', cascade => true);
DROP TABLE users, kinds, orgs, pairs, "Odd Name's";

SELECT tandem.add_source('shop', 'old', 'shop') > 0 AS added;
SELECT table_name, target FROM tandem.add_tables('shop', '%r%s');
-- Nothing of it is left when one of them cannot be moved.
SELECT table_name FROM tandem.add_tables('shop', 'b%');
SELECT count(*) FROM tandem.tables WHERE "table" LIKE 'b%';
SELECT to_regclass('by_unique');

-- Odd names are kept; a key that is not the primary key; another schema.
CREATE SCHEMA moved;
SELECT tandem.add_table('shop', 'Odd Name''s', target_schema => 'moved') IS NOT NULL AS added;
\d moved."Odd Name's"
SELECT tandem.add_table('shop', 'by_unique', target_schema => 'moved') IS NOT NULL AS added;
SELECT "table", target, key_columns FROM tandem.tables WHERE target::text LIKE 'moved.%' ORDER BY 1;
\d moved.by_unique

-- The ways to name a table.
SELECT name, tandem._table_id(name) = (SELECT table_id FROM tandem.tables WHERE "table" = 'Odd Name''s') AS found
FROM unnest(ARRAY['shop.Odd Name''s', 'Odd Name''s', 'moved."Odd Name''s"', 'moved.Odd Name''s', '"Odd Name''s"']) AS name;
SELECT tandem._table_id('nix');
SELECT tandem.add_source('again', 'old', 'shop') > 0 AS added;
CREATE SCHEMA second;
SELECT tandem.add_table('again', 'by_unique', target_schema => 'second') IS NOT NULL AS added;
SELECT tandem._table_id('by_unique');
SELECT tandem._table_id('shop.by_unique') <> tandem._table_id('again.by_unique') AS told_apart;
SELECT tandem._table_id('second.by_unique') = tandem._table_id('again.by_unique') AS by_target;

-- Two sources of the same old table have outboxes of their own.
SELECT count(DISTINCT outbox) FROM tandem.source_table WHERE name = 'by_unique';

-- ROLLBACK leaves no trace; a source and its table in one transaction.
BEGIN;
SELECT tandem.add_source('third', 'old', 'shop') > 0 AS added;
SELECT tandem.add_table('third', 'kinds') IS NOT NULL AS added;
ROLLBACK;
SELECT to_regclass('kinds'), (SELECT count(*) FROM tandem.sources WHERE name = 'third');

-- Dropping.
SELECT tandem.drop_table('again.by_unique', keep_target => false);
SELECT to_regclass('second.by_unique');
SELECT tandem.drop_table('shop.by_unique');
SELECT to_regclass('moved.by_unique');
SELECT tandem.drop_source('again');
SELECT tandem.drop_source('shop', cascade => true);
SELECT count(*) FROM tandem.tables;
DROP SCHEMA second;
SET client_min_messages = warning;
DROP SCHEMA moved CASCADE;
DROP TABLE users, orgs, pairs;
