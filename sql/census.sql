-- tandem.census: what is special in the values of an old table, before it is added and after; each refusal; who may ask.
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.inc
\i :prelude
SET client_min_messages = warning;
SELECT tandem.add_source('shop', 'old', 'shop') > 0 AS added;
SELECT column_name, finding, count, samples, proposal, mapping FROM tandem.census('shop', 'users') ORDER BY 1, 2;
SELECT column_name, finding, count, samples FROM tandem.census('shop', 'users', sample => 0) ORDER BY 1, 2;
SELECT count(*) > 0 AS without_a_key FROM tandem.census('shop', 'bad_no_key');

-- What an existing target would refuse.
CREATE TABLE narrow (id integer PRIMARY KEY, name varchar(2) NOT NULL);
SELECT column_name, finding, count, samples FROM tandem.census('shop', 'orgs', 'narrow') ORDER BY 1, 2;
SELECT * FROM tandem.census('shop', 'orgs', 'narrow', columns => '{"nix": "name"}');
DROP TABLE narrow;

-- The same for a table that is added.
SELECT tandem.add_table('shop', 'orgs') IS NOT NULL AS added;
SELECT column_name, finding, count FROM tandem.census('shop.orgs') ORDER BY 1, 2;

SELECT * FROM tandem.census('nix', 'users');
SELECT * FROM tandem.census('shop', 'zzz');
SELECT * FROM tandem.census('nix');
SELECT * FROM tandem.census('shop', 'users', sample => 101);
SELECT * FROM tandem.census('shop', 'users', columns => '[]');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT * FROM tandem.census('shop', 'users');
ROLLBACK;
SET ROLE tandem_monitor;
SELECT * FROM tandem.census('shop', 'users');
RESET ROLE;
SELECT tandem.drop_source('shop', cascade => true);
DROP TABLE orgs;
