-- tandem.start, pause, resume, wait_for, enqueue, drop_table of a running table.
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.inc
\i :prelude
SET client_min_messages = warning;
SELECT tandem.add_source('shop', 'old', 'shop') > 0 AS added;
SELECT count(*) FROM tandem.add_tables('shop', 'pairs');
SELECT tandem.add_table('shop', 'users') IS NOT NULL AS added;

-- A table is started together with the tables whose cascades reach it.
SELECT tandem.start('shop.users');
SELECT tandem.add_table('shop', 'orgs') IS NOT NULL AS added;
SELECT tandem.start('shop.users');
SELECT tandem.start('users', 'nix');
SELECT tandem.resume('users');
SELECT tandem.enqueue('users', '{"id": 1}');
SELECT tandem.wait_for('users', 'going');
SELECT tandem.wait_for('users', 'syncing', '0.1 s');
BEGIN;
SELECT tandem.start('shop.users', 'shop.orgs');
SELECT tandem.wait_for('users', 'syncing');
ROLLBACK;
SELECT "table", desired_state, state FROM tandem.tables ORDER BY 1;

SELECT tandem.start('shop.users', 'shop.orgs');
SELECT tandem.start('shop.users', 'shop.orgs');
SELECT tandem.start();
SELECT tandem.wait_for('users', 'syncing'), tandem.wait_for('orgs', 'syncing'), tandem.wait_for('pairs', 'syncing');
SELECT tandem.wait_caught_up('30 s');
SELECT id, email, is_admin, org_id, mood FROM users ORDER BY id;

-- A row that was changed by hand comes back when it is asked for.
UPDATE users SET email = 'wrong' WHERE id = 1;
SELECT tandem.enqueue('users', '{"id": 1}');
SELECT tandem.wait_caught_up('30 s');
SELECT email FROM users WHERE id = 1;
SELECT tandem.enqueue('users', '{"nix": 1}');
SELECT tandem.enqueue('users', '{"id": "x"}');
SELECT tandem.enqueue('users', '{"id": null}');
SELECT tandem.enqueue('pairs', '{"a": 1}');
-- A key has the same bytes and text in every session, whatever its encoding and formats.
SELECT table_id, tandem.encode_key(table_id, '{"b": "\u00e9\u00df", "a": 1}') AS bytes FROM tandem.source_table WHERE name = 'pairs' \gset
SET client_encoding = 'LATIN1';
SELECT tandem.encode_key(:table_id, '{"b": "\u00e9\u00df", "a": 1}') = :'bytes' AS same_bytes,
  tandem.decode_key(:table_id, :'bytes') ->> 'b' = E'\u00e9\u00df' AS same_key, (tandem.key_text(:table_id, :'bytes'))[1] = E'\u00e9\u00df' AS same_text;
RESET client_encoding;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT tandem.wait_for('users', 'paused');
ROLLBACK;

SELECT tandem.pause('users');
SELECT tandem.wait_for('users', 'paused');
SELECT tandem.pause('users');
SELECT "table", desired_state, state FROM tandem.tables ORDER BY 1;
SELECT tandem.resume();
SELECT tandem.wait_for('users', 'syncing');

-- Dropping: a parent only after the children that depend on its capture.
SELECT tandem.drop_table('orgs');
SELECT tandem.drop_table('users');
SELECT tandem.start('users');
SELECT tandem.wait_for('users', 'dropped');
SELECT tandem.wait_for('users', 'dropped');
SELECT tandem.drop_source('shop', cascade => true);
SELECT tandem.wait_for('orgs', 'dropped'), tandem.wait_for('pairs', 'dropped');
SELECT count(*) FROM tandem.sources;
DROP TABLE users, orgs, pairs;

-- Columns of a cascading foreign key must be in the target.
SELECT tandem.add_source('shop', 'old', 'shop') > 0 AS added;
SELECT tandem.add_table('shop', 'orgs') IS NOT NULL AS added;
SELECT tandem.add_table('shop', 'users', columns => '{"org_id": null}');
SELECT tandem.add_table('shop', 'users', columns => '{"org": "org_id + 0", "org_id": null}');
SELECT tandem.add_table('shop', 'users', columns => '{"org_id": null, "org": "org_id"}') IS NOT NULL AS added;
DROP INDEX users_org_idx;
SET client_min_messages = notice;
BEGIN;
SELECT tandem.start();
ROLLBACK;
RESET client_min_messages;
SELECT tandem.drop_source('shop', cascade => true);
DROP TABLE users, orgs;
