-- A row that the target refuses becomes a dead letter; retry and discard.
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.inc
\i :prelude
SET client_min_messages = warning;
SELECT tandem.add_source('shop', 'old', 'shop') > 0 AS added;
CREATE TABLE orgs (id integer PRIMARY KEY, name text CHECK (name <> 'two'));
SELECT tandem.add_table('shop', 'orgs', 'orgs') IS NOT NULL AS added;
SELECT tandem.retry_dead_letters('orgs');
SELECT tandem.start('orgs');
SELECT tandem.wait_caught_up('30 s');
TABLE orgs;
SELECT source, "table", target, key, sqlstate, message, operation, attempts FROM tandem.dead_letters;

-- Nothing is mended, so it stays.
SELECT tandem.retry_dead_letters();
SELECT tandem.wait_caught_up('30 s');
SELECT key, sqlstate FROM tandem.dead_letters;

SELECT tandem.discard_dead_letter('orgs', '{"id": 1}'), tandem.discard_dead_letter('orgs', '{"id": 2}');
SELECT tandem.discard_dead_letter('orgs', '{"id": 2}');
SELECT tandem.enqueue('orgs', '{"id": 2}');
SELECT tandem.wait_caught_up('30 s');
SELECT key FROM tandem.dead_letters;

-- Mended: the row arrives and the dead letter goes.
ALTER TABLE orgs DROP CONSTRAINT orgs_name_check;
SELECT tandem.retry_dead_letters('orgs', '{"id": 1}') AS not_dead, tandem.retry_dead_letters('orgs', '{"id": 2}') AS dead;
SELECT tandem.wait_caught_up('30 s');
SELECT * FROM orgs ORDER BY id;
SELECT count(*) FROM tandem.dead_letters;

SELECT tandem.retry_dead_letters(key => '{"id": 2}');
SELECT tandem.retry_dead_letters('nix');
SELECT tandem.drop_source('shop', cascade => true);
SELECT tandem.wait_for('orgs', 'dropped');
DROP TABLE orgs;
