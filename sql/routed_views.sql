-- Routed views: plans that have only the side that is read, values from both sides, fallback, what is refused, who may read.
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.inc
\i :prelude
SET client_min_messages = warning;
SELECT tandem.add_source('shop', 'old', 'shop') > 0 AS added;
SELECT count(*) FROM tandem.add_tables('shop', 'orgs');
SELECT count(*) FROM tandem.add_tables('shop', 'pairs');
-- A mapped target: names, an expression, a column that only the new side has, a generated one, an enum.
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE people (id bigint PRIMARY KEY, mail varchar(100) COLLATE "C", admin boolean, feels mood, nick text, shout text GENERATED ALWAYS AS (upper(mail)) STORED, org_id integer);
SELECT tandem.add_table('shop', 'users', 'people', columns => '{"mail": "email", "admin": "is_admin <> 0", "feels": "mood", "first": null, "nick": null}',
  "where" => 'id < 1000') IS NOT NULL AS added;
SELECT tandem.start();
SELECT tandem.wait_for('orgs', 'syncing'), tandem.wait_for('pairs', 'syncing'), tandem.wait_for('users', 'syncing'), tandem.wait_caught_up('30 s');

-- mysql_fdw must read what tandem-sync reads: the server is prepared, once.
SET client_min_messages = notice;
SELECT tandem.create_routed_view('users', 'people_routed');
SELECT tandem.create_routed_view('orgs', 'public.orgs_routed');
SET client_min_messages = warning;
SELECT srvoptions[3] FROM pg_foreign_server WHERE srvname = 'old';
SELECT obj_description('people_routed'::regclass);
SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'people_routed'::regclass AND attnum > 0 ORDER BY attnum;
SELECT attname, format_type(atttypid, atttypmod), attcollation::regcollation FROM pg_attribute WHERE attrelid = 'people_routed_old'::regclass AND attnum > 0 ORDER BY attnum;

-- Phase syncing reads the old side: nothing of the target is in the plan.
EXPLAIN (VERBOSE, COSTS OFF) SELECT * FROM people_routed WHERE id = 1;
SELECT * FROM people_routed ORDER BY id;
SELECT tandem.set_phase('users', 'ready') > 0 AS moved;
SELECT tandem.set_phase('orgs', 'ready') > 0 AS moved;
PREPARE one(bigint) AS SELECT id, mail, admin FROM people_routed WHERE id = $1;
SET plan_cache_mode = force_generic_plan;
EXECUTE one(1);
-- From the next statement on the new side alone, with no DDL, in prepared statements too.
SELECT tandem.set_read_strategy('users', 'new');
EXPLAIN (COSTS OFF) EXECUTE one(1);
EXECUTE one(1);
SELECT * FROM people_routed ORDER BY id;
-- A change that is rolled back is no change.
BEGIN;
SELECT tandem.set_read_strategy('users', 'old');
EXPLAIN (COSTS OFF) EXECUTE one(1);
ROLLBACK;
EXPLAIN (COSTS OFF) EXECUTE one(1);

-- The new side, and the old side for keys that the new side does not have; each key once.
SELECT tandem.set_read_strategy('users', 'new_fallback_old');
EXPLAIN (VERBOSE, COSTS OFF) EXECUTE one(1);
SELECT id, mail, nick FROM people_routed ORDER BY id;
SELECT tandem.set_direct_writes('users', 'allow');
UPDATE people SET nick = 'only here' WHERE id = 1;
DELETE FROM people WHERE id = 2;
SELECT id, mail, nick, shout FROM people_routed ORDER BY id;
EXECUTE one(2);
SELECT tandem.set_read_strategy('users', 'new');
SELECT id FROM people_routed ORDER BY id;
-- The phase takes the strategy along.
SELECT tandem.set_phase('users', 'syncing') > 0 AS moved;
SELECT id, nick FROM people_routed ORDER BY id;
-- When the new side is the source of truth, nothing that the old side still has comes back.
SELECT table_id AS id FROM tandem.tables WHERE "table" = 'users' \gset
BEGIN;
SELECT tandem.set_phase('users', 'ready') > 0 AS m;
SELECT tandem.set_read_strategy('users', 'new_fallback_old');
SELECT tandem._move_phase(ARRAY[:id], '{ready}', 'cutover', NULL, NULL) > 0 AS m;
SELECT id FROM people_routed ORDER BY id;
SELECT tandem._move_phase(ARRAY[:id], '{cutover}', 'new_primary', NULL, NULL) > 0 AS m;
SELECT id FROM people_routed ORDER BY id;
EXPLAIN (COSTS OFF) EXECUTE one(1);
ROLLBACK;
-- A view may be read inside of anything.
SELECT o.name, count(p.id) FROM orgs_routed AS o LEFT JOIN people_routed AS p ON p.org_id = o.id GROUP BY 1 ORDER BY 1;
SELECT sum(n) FROM (SELECT count(*) AS n FROM people_routed WHERE admin UNION ALL SELECT count(*) FROM people_routed WHERE NOT admin) AS s;
WITH p AS (SELECT * FROM people_routed), twice AS (SELECT id FROM p UNION ALL SELECT id FROM people_routed WHERE id IN (SELECT id FROM people_routed))
SELECT count(*), count(DISTINCT id) FROM twice;
CREATE VIEW names AS SELECT id, mail FROM people_routed UNION ALL SELECT id, name FROM orgs_routed;
SELECT * FROM names ORDER BY 1, 2;
DROP VIEW names;
-- Locks: on the target where it alone is read, else none, and that is said.
BEGIN;
SELECT tandem.set_phase('users', 'ready') > 0 AS m;
SELECT tandem.set_read_strategy('users', 'new');
SELECT id FROM people_routed WHERE id = 1 FOR UPDATE;
SELECT l.mode FROM pg_locks AS l WHERE l.relation = 'people'::regclass AND l.pid = pg_backend_pid() AND l.mode = 'RowShareLock';
SELECT count(*) FROM people WHERE id = 1 AND xmax <> 0;
EXPLAIN (COSTS OFF) SELECT id FROM people_routed WHERE id = 1 FOR SHARE NOWAIT;
ROLLBACK;
SELECT id FROM people_routed WHERE id = 1 FOR UPDATE;
SELECT id FROM (SELECT * FROM people_routed) AS p FOR SHARE;
BEGIN;
SELECT tandem.set_phase('users', 'ready') > 0 AS m;
SELECT tandem.set_read_strategy('users', 'new_fallback_old');
SELECT id FROM people_routed FOR NO KEY UPDATE;
ROLLBACK;

-- A side that is not read is not spoken to: here the old side does not even answer.
CREATE SERVER gone FOREIGN DATA WRAPPER mysql_fdw OPTIONS (host '127.0.0.1', port '1', init_command 'SET time_zone = ''+00:00'', NAMES utf8mb4');
CREATE USER MAPPING FOR CURRENT_USER SERVER gone OPTIONS (username 'x', password 'x');
CREATE FOREIGN TABLE gone_pairs (b text, a integer, v text) SERVER gone OPTIONS (dbname 'shop', table_name 'pairs');
SELECT tandem.create_routed_view('pairs', 'pairs_routed', 'gone_pairs');
\set VERBOSITY sqlstate
SELECT * FROM pairs_routed;
\set VERBOSITY default
SELECT tandem.set_phase('pairs', 'ready') > 0 AS moved;
SELECT tandem.set_read_strategy('pairs', 'new');
SELECT * FROM pairs_routed;
EXPLAIN (COSTS OFF) SELECT * FROM pairs_routed WHERE b = 'x' AND a = 1;

-- Refused.
SELECT tandem.create_routed_view('nix', 'x');
SELECT tandem.create_routed_view('orgs', 'orgs');
SELECT tandem.create_routed_view('orgs', 'a.b.c');
SELECT tandem.create_routed_view('orgs', 'x', 'orgs');
CREATE FOREIGN TABLE bad_orgs (id bigint, label text) SERVER old OPTIONS (dbname 'shop', table_name 'orgs');
SELECT tandem.create_routed_view('orgs', 'x', 'bad_orgs');
SELECT tandem.drop_routed_view('orgs');
ALTER SERVER old OPTIONS (SET init_command 'SET sql_mode = ''''');
SELECT tandem.create_routed_view('orgs', 'x');
ALTER SERVER old OPTIONS (SET init_command 'SET NAMES ''utf8mb4'', time_zone=''+00:00''');
SELECT tandem.create_routed_view('orgs', 'x') AS good_enough;
SELECT tandem.drop_routed_view('x');
SELECT to_regclass('x') AS gone, to_regclass('x_old') AS gone_too;

-- Whoever reads the view needs a right on the view, and while the old side is read a user mapping: mysql_fdw takes the reader's.
CREATE ROLE regress_reader;
CREATE ROLE regress_routing IN ROLE tandem_admin;
GRANT SELECT ON people_routed, pairs_routed TO regress_reader;
SET ROLE regress_reader;
SELECT id FROM people_routed ORDER BY id;
SELECT count(*) FROM pairs_routed;
RESET ROLE;
CREATE USER MAPPING FOR regress_reader SERVER old OPTIONS (username 'tandem', password :'mysql_password');
SET ROLE regress_reader;
SELECT id FROM people_routed ORDER BY id;
SELECT * FROM people_routed_old;
SELECT * FROM orgs_routed;
SELECT count(*) FROM (SELECT id FROM orgs_routed) AS o;
RESET ROLE;
GRANT SELECT (id) ON orgs_routed TO regress_reader;
SET ROLE regress_reader;
SELECT count(id) FROM orgs_routed;
SELECT name FROM orgs_routed;
SELECT tandem.create_routed_view('orgs', 'y');
SET ROLE regress_routing;
SELECT tandem.create_routed_view('orgs', 'y');
RESET ROLE;
DROP USER MAPPING FOR regress_reader SERVER old;
DROP OWNED BY regress_reader;
DROP ROLE regress_reader, regress_routing;

-- The table goes, the view says so.
SELECT tandem.drop_table('pairs');
SELECT tandem.wait_for('pairs', 'dropped');
SELECT * FROM pairs_routed;
DROP VIEW pairs_routed;
SELECT tandem.drop_routed_view('people_routed');
SELECT tandem.drop_routed_view('orgs_routed');
SELECT count(*) FROM tandem.routed_view;
SELECT tandem.drop_source('shop', cascade => true);
SELECT tandem.wait_for('users', 'dropped'), tandem.wait_for('orgs', 'dropped');
DROP SERVER gone CASCADE;
DROP FOREIGN TABLE bad_orgs;
DROP TABLE people, orgs, pairs;
DROP TYPE mood;
