-- tandem.add_column: one more column of an old table, and each refusal.
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.inc
\i :prelude
SELECT tandem.add_source('shop', 'old', 'shop') > 0 AS added;
SELECT tandem.add_table('shop', 'orgs') > 0 AS added;
SELECT tandem.add_table('shop', 'users', columns => '{"mood": null, "balance": null, "org_id": "org_id"}') > 0 AS added;
CREATE TABLE own (id bigint PRIMARY KEY, v smallint);
SELECT tandem.add_table('shop', 'by_unique', target => 'own', columns => '{"id": "num", "v": null}') > 0 AS added;

SELECT tandem.add_column('users', 'nothing');
SELECT tandem.add_column('users', 'email');
SELECT tandem.add_column('users', 'mood', 'email');
SELECT tandem.add_column('missing', 'mood');
-- A target that was not created here is not altered; a column that PostgreSQL computes, or that would change values, is refused.
SELECT tandem.add_column('by_unique', 'other');
ALTER TABLE own ADD COLUMN doubled integer GENERATED ALWAYS AS (v * 2) STORED, ADD COLUMN flag boolean;
SELECT tandem.add_column('by_unique', 'other', 'doubled');
SELECT tandem.add_column('by_unique', 'other', 'flag');
SELECT tandem.add_column('by_unique', 'other', 'v');

-- Not started: only the catalog and the target change. A column that was left out keeps its place.
SELECT tandem.add_column('users', 'mood'), tandem.add_column('users', 'balance', 'saldo');
\d users
UPDATE tandem.source_column AS c SET gone = true FROM tandem.source_table AS t
WHERE t.table_id = c.table_id AND t.name = 'by_unique' AND c.name = 'v';
ALTER TABLE own ADD COLUMN w bigint;
SELECT tandem.add_column('by_unique', 'v', 'w');
SELECT c.ordinal, c.name, c.gone FROM tandem.source_column AS c JOIN tandem.source_table AS t USING (table_id) WHERE t.name = 'by_unique' ORDER BY 1;
SELECT "table", mapping FROM tandem.tables ORDER BY 1;
SELECT count(*) FROM tandem.resyncs;

-- Started: all rows are copied anew, with the column.
SELECT tandem.drop_table('by_unique');
ALTER TABLE users DROP COLUMN mood;
DELETE FROM tandem.target_column AS m USING tandem.source_table AS t WHERE t.table_id = m.table_id AND t.name = 'users' AND m.name = 'mood';
SELECT tandem.start();
SELECT tandem.wait_for('users', 'syncing', '5 min');
SELECT tandem.add_column('users', 'mood');
SELECT tandem.wait_for('users', 'syncing', '5 min');
SELECT id, email, saldo, mood FROM users ORDER BY id;
SELECT cause, reason, automatic, phase, rows_missing FROM tandem.resyncs WHERE "table" = 'users';
SET client_min_messages = error;
CREATE ROLE regress_add_column IN ROLE tandem_admin;
SET ROLE regress_add_column;
SELECT tandem.add_column('users', 'balance', 'again');
RESET ROLE;
DROP ROLE regress_add_column;
SELECT tandem.drop_source('shop', cascade => true);
SELECT tandem.wait_for('users', 'dropped', '5 min');
SELECT tandem.wait_for('orgs', 'dropped', '5 min');
DROP EXTENSION pg_tandem CASCADE;
DROP TABLE users, orgs, own;
DROP SERVER old CASCADE;
