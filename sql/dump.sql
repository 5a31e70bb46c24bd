-- pg_dump and restore keep the configuration; a restored database runs nothing and has outboxes of its own.
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.inc
\i :prelude
SET client_min_messages = warning;
SELECT tandem.add_source('shop', 'old', 'shop') > 0 AS added;
SELECT tandem.add_table('shop', 'orgs') IS NOT NULL AS added;
SELECT tandem.add_table('shop', 'pairs', columns => '{"v2": "upper(v)"}') IS NOT NULL AS added;
SELECT tandem.start('orgs');
SELECT tandem.wait_for('orgs', 'syncing');
CREATE TABLE original AS SELECT outbox FROM tandem.source_table;

\! psql -Xqd postgres -c 'CREATE DATABASE regression_copy'
\! pg_dump regression | psql -Xqd regression_copy -v ON_ERROR_STOP=1 >/dev/null && echo restored
\c regression_copy
SET client_min_messages = warning;
SELECT name, server, database, tables FROM tandem.sources;
SELECT source, "table", target, desired_state, state, key_columns, mapping FROM tandem.tables ORDER BY 2;
SELECT t.name, c.name, c.image_type FROM tandem.source_column AS c JOIN tandem.source_table AS t USING (table_id) ORDER BY 1, c.ordinal;
SELECT count(*) AS outboxes_in_common FROM original JOIN tandem.source_table USING (outbox);
SELECT count(*) FROM tandem.table_state;
-- The next number is free.
SELECT nextval(pg_get_serial_sequence('tandem.source_table', 'table_id')) > max(table_id) AS free FROM tandem.source_table;
\c regression
\! psql -Xqd postgres -c 'DROP DATABASE regression_copy WITH (FORCE)'
SET client_min_messages = warning;
SELECT tandem.drop_source('shop', cascade => true);
SELECT tandem.wait_for('orgs', 'dropped');
DROP TABLE orgs, pairs, original;
