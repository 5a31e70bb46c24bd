-- The way back: how rows of a target become old rows, what stands in the way, capture on the target, letters; who may.
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.inc
\i :prelude
SET client_min_messages = warning;
SELECT tandem.add_source('shop', 'old', 'shop') > 0 AS added;
SELECT tandem.add_table('shop', 'pairs') > 0 AS added;
SELECT tandem.add_table('shop', 'by_unique', "where" => 'num < 100') > 0 AS added;
SELECT tandem.add_table('shop', 'users', columns => '{"is_admin": "is_admin <> 0", "full_name": "first || '' '' || last"}') > 0 AS added;

-- What stands in the way, and how it is declared.
SELECT t."table", o FROM tandem.tables AS t, tandem._reverse_obstacles(t.table_id) AS o ORDER BY 1, 2;
SELECT tandem.set_reverse('users', '["is_admin"]');
SELECT tandem.set_reverse('users', '{"nix": "1"}');
SELECT tandem.set_reverse('users', '{"id": "1"}');
SELECT tandem.set_reverse('users', '{"is_admin": "no_such_column"}');
SELECT tandem.set_reverse('users', '{"is_admin": "CASE WHEN"}');
SELECT tandem.set_reverse('users', '{"is_admin": "now()"}');
SELECT tandem.set_reverse('nix', '{}');
SELECT tandem.set_reverse('users', '{"is_admin": "CASE WHEN is_admin THEN 1 ELSE 0 END"}');
SELECT t."table", o FROM tandem.tables AS t, tandem._reverse_obstacles(t.table_id) AS o WHERE t."table" = 'users';
SELECT name, expression FROM tandem.reverse_column;
SELECT tandem.set_reverse('users', '{"is_admin": null}');
SELECT count(*) FROM tandem.reverse_column;
SELECT tandem.set_reverse('users', '{"is_admin": "is_admin::int"}');

-- A row and its image: the same as the worker would have made of the old row.
INSERT INTO pairs VALUES ('Grüße', 7, NULL), ('x', -1, 'v');
SELECT table_id AS pairs FROM tandem.tables WHERE "table" = 'pairs' \gset
SELECT key = encode(tandem.encode_key(:pairs, '{"b": "Grüße", "a": 7}'), 'hex') AS same_key, image, sqlstate
FROM tandem.reverse_rows(:pairs, ARRAY[encode(tandem.encode_key(:pairs, '{"b": "Grüße", "a": 7}'), 'hex')]);
SELECT image IS NULL AS absent FROM tandem.reverse_rows(:pairs, ARRAY[encode(tandem.encode_key(:pairs, '{"b": "none", "a": 7}'), 'hex')]);
-- An expression that fails for one row names that row only.
SELECT tandem.set_reverse('pairs', '{"v": "1 / (a + 1)"}');
SELECT tandem.set_reverse('pairs', '{"v": "(1 / (a + 1))::text"}');
SELECT tandem.decode_key(:pairs, decode(key, 'hex')) AS key, image IS NULL AS no_image, sqlstate, message
FROM tandem.reverse_rows(:pairs, ARRAY(SELECT encode(tandem.encode_key(:pairs, k), 'hex')
                                       FROM unnest(ARRAY['{"b": "x", "a": -1}', '{"b": "Grüße", "a": 7}']::jsonb[]) AS k));
SELECT tandem.set_reverse('pairs', '{"v": null}');

-- Capture on the target. Nothing is recorded for a table that is registered only, as in a restored database.
SELECT tandem._install_capture_back(:pairs);
INSERT INTO pairs VALUES ('y', 1, 'v');
SELECT count(*) FROM tandem.reverse_outbox;
SELECT tandem._move_phase(ARRAY[:pairs], '{registered}', 'syncing', NULL, 'test') > 0 AS moved;
INSERT INTO pairs VALUES ('z', 1, 'v');
UPDATE pairs SET v = 'w' WHERE b = 'z';
UPDATE pairs SET b = 'Z' WHERE b = 'z';
SET client_encoding = 'LATIN1';
UPDATE pairs SET v = 'w' WHERE a = 7;
RESET client_encoding;
DELETE FROM pairs WHERE b = 'Z';
SET session_replication_role = replica;
DELETE FROM pairs WHERE b = 'x';
RESET session_replication_role;
SELECT tandem.decode_key(table_id, key) FROM tandem.reverse_outbox ORDER BY event_id;
BEGIN;
DELETE FROM pairs;
ROLLBACK;
SELECT count(*) FROM tandem.reverse_outbox;
TRUNCATE pairs;
-- The writer needs no right on anything of pg_tandem.
CREATE ROLE tandem_test_writer;
GRANT SELECT, INSERT ON pairs TO tandem_test_writer;
SET ROLE tandem_test_writer;
INSERT INTO pairs VALUES ('w', 1, NULL);
SELECT count(*) FROM tandem.reverse_outbox;
RESET ROLE;
SELECT count(*) FROM tandem.reverse_outbox;
SELECT tandem._remove_capture_back(:pairs), tandem._remove_capture_back(:pairs) AS again;
TRUNCATE pairs;
DELETE FROM tandem.reverse_outbox;

-- Letters.
INSERT INTO tandem.reverse_letter (table_id, key, dead, sqlstate, message, next_attempt)
VALUES (:pairs, tandem.encode_key(:pairs, '{"b": "x", "a": 1}'), true, '22001', 'too long', now());
SELECT source, "table", key, dead, attempts, sqlstate, message, next_attempt FROM tandem.reverse_letters;
SELECT tandem.retry_reverse_letters('users'), tandem.retry_reverse_letters('pairs'), tandem.retry_reverse_letters();
SELECT dead FROM tandem.reverse_letters;
SELECT tandem.retry_reverse_letters('nix');
SELECT count(*) FROM tandem.pg_stat_tandem_reverse;

-- Only a leading worker acknowledges, and only the owner of a target declares.
\set VERBOSITY sqlstate
SELECT tandem.reverse_tables((SELECT source_id FROM tandem.source), -1);
SELECT tandem.reverse_done((SELECT source_id FROM tandem.source), -1, '{}', '{"tables": []}');
\set VERBOSITY default
SET ROLE tandem_test_writer;
SELECT tandem.set_reverse('pairs', '{}');
RESET ROLE;
GRANT tandem_admin TO tandem_test_writer;
SET ROLE tandem_test_writer;
SELECT tandem.set_reverse('pairs', '{"v": "''x''"}');
SELECT tandem.reverse_rows(1, '{}');
RESET ROLE;
DROP OWNED BY tandem_test_writer;
DROP ROLE tandem_test_writer;
SELECT tandem.drop_table('pairs'), tandem.drop_table('users'), tandem.drop_table('by_unique');
DROP TABLE pairs, users, by_unique;
SELECT tandem.drop_source('shop');
