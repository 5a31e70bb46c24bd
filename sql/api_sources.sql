-- tandem.add_source and tandem.drop_source.
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.inc
\i :prelude
SELECT tandem.add_source('', 'old', 'shop');
SELECT tandem.add_source('a.b', 'old', 'shop');
SELECT tandem.add_source('shop', 'old', 'tandem');
SELECT tandem.add_source('shop', 'old', 'shop', tls => 'maybe');
SELECT tandem.add_source('shop', 'old', 'shop', password_ref => 'secret');
SELECT tandem.add_source('shop', 'nix', 'shop');
CREATE FOREIGN DATA WRAPPER other;
CREATE SERVER elsewhere FOREIGN DATA WRAPPER other;
SELECT tandem.add_source('shop', 'elsewhere', 'shop');
DROP FOREIGN DATA WRAPPER other CASCADE;
CREATE SERVER unmapped FOREIGN DATA WRAPPER mysql_fdw OPTIONS (host '127.0.0.1');
SELECT tandem.add_source('shop', 'unmapped', 'shop');
DROP SERVER unmapped;
-- What the old side says is passed on.
DO $$ BEGIN PERFORM tandem.add_source('shop', 'old', 'no_such_database'); EXCEPTION WHEN OTHERS THEN RAISE NOTICE 'refused: %', SQLERRM ~ 'no_such_database'; END $$;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT tandem.add_source('shop', 'old', 'shop');
ROLLBACK;

SELECT tandem.add_source('shop', 'old', 'shop') > 0 AS added;
SELECT name, server, database, metadata_database, tls, password_by_reference, server_version ~ '^10\.11' AS version, tables FROM tandem.sources;
SELECT tandem.add_source('shop', 'old', 'shop');
-- The mapping of everybody does as well.
ALTER USER MAPPING FOR CURRENT_USER SERVER old OPTIONS (DROP password);
DROP USER MAPPING FOR CURRENT_USER SERVER old;
CREATE USER MAPPING FOR PUBLIC SERVER old OPTIONS (username 'tandem', password :'mysql_password');
SELECT tandem.add_source('shop2', 'old', 'shop') > 0 AS added;
SELECT name, mapping_role FROM tandem.sources WHERE name = 'shop2';

SELECT tandem.drop_source('nix');
SELECT tandem.drop_source('shop2');
SELECT tandem.add_table('shop', 'orgs') IS NOT NULL AS added;
SELECT tandem.drop_source('shop');
SELECT tandem.drop_source('shop', cascade => true);
SELECT count(*) FROM tandem.sources;
SELECT count(*) FROM tandem.source_fk;
DROP TABLE orgs;
