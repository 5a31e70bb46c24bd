-- Errors beyond a single row: lack of resources, waiting for resume. Apply is fed by hand.
\set SHOW_CONTEXT never
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pg_tandem CASCADE;
CREATE SCHEMA errors_test;
SET search_path = errors_test, public;
\getenv abs_srcdir PG_ABS_SRCDIR
\set by_hand :abs_srcdir /sql/by_hand.inc
\i :by_hand
CREATE FUNCTION item(id integer, name text) RETURNS bytea LANGUAGE sql AS 'SELECT image(int4send(id), textsend(name))';

CREATE TABLE item (id integer PRIMARY KEY, name text UNIQUE);
CREATE TABLE other (id integer PRIMARY KEY, name text);
INSERT INTO tandem.source (name, server, database, mapping_role) VALUES ('by hand', 'nowhere', 'shop', CURRENT_USER);
SELECT source_id AS source FROM tandem.source WHERE name = 'by hand' \gset
INSERT INTO tandem.lease VALUES (:source, 1000000, 'regression', now() + interval '1 day');
INSERT INTO tandem.source_table (source_id, name, target, key_columns, outbox, trigger_suffix)
  SELECT :source, name, name::regclass, '{id}', '', '' FROM unnest(ARRAY['item', 'other']) AS name;
SELECT max(table_id) FILTER (WHERE name = 'item') AS item, max(table_id) FILTER (WHERE name = 'other') AS other
FROM tandem.source_table WHERE source_id = :source \gset
INSERT INTO tandem.source_column (table_id, ordinal, name, mysql_type, data_type, nullable, image_type)
  SELECT t, 1, 'id', 'int', 'int', false, 'integer' FROM unnest(ARRAY[:item, :other]) AS t UNION ALL
  SELECT t, 2, 'name', 'varchar(9)', 'varchar', true, 'text' FROM unnest(ARRAY[:item, :other]) AS t;
INSERT INTO tandem.target_column SELECT t, 'id', 'id', NULL, 1 FROM unnest(ARRAY[:item, :other]) AS t UNION ALL
  SELECT t, 'name', 'name', NULL, NULL FROM unnest(ARRAY[:item, :other]) AS t;
INSERT INTO tandem.table_state (table_id, state, backfill_done) VALUES (:item, 'syncing', true), (:other, 'syncing', true);
UPDATE tandem.source_table SET desired_state = 'running' WHERE source_id = :source;

-- The disk is full, for one row of many: the batch waits as a whole, nobody is blamed, and apply does not spin.
CREATE SEQUENCE attempts;
CREATE FUNCTION fill_disk() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM nextval('errors_test.attempts');
  RAISE EXCEPTION USING ERRCODE = '53100', MESSAGE = 'could not extend file: No space left on device';
END $$;
CREATE TRIGGER fill_disk BEFORE INSERT ON item FOR EACH ROW WHEN (NEW.id = 50) EXECUTE FUNCTION fill_disk();
ALTER TABLE item ENABLE ALWAYS TRIGGER fill_disk;
INSERT INTO rows SELECT :item, 'U', key(i), item(i, 'n' || i) FROM generate_series(1, 100) AS i;
SELECT submit() > 0 AS submitted;
INSERT INTO rows VALUES (:other, 'U', key(1), item(1, 'behind it'));
SELECT submit() > 0 AS submitted;
CREATE PROCEDURE wait_attempts(more integer) LANGUAGE plpgsql AS $$
DECLARE
  wanted bigint := (SELECT last_value FROM attempts) + more;
  deadline timestamptz := clock_timestamp() + interval '30 s';
BEGIN
  WHILE (SELECT last_value FROM attempts) < wanted AND clock_timestamp() < deadline LOOP
    PERFORM pg_sleep(0.005);
    COMMIT;
  END LOOP;
END $$;
CALL wait_attempts(3);
SELECT count(*) AS applied, (SELECT count(*) FROM tandem.batch) AS waiting, (SELECT count(*) FROM tandem.retry) AS retries,
       (SELECT count(*) FROM tandem.dead_letter) AS dead FROM item;
SELECT last_error_sqlstate, last_error FROM tandem.pg_stat_tandem_apply;
-- Attempts are paused: in the next half second there are few.
SELECT last_value AS before FROM attempts \gset
SELECT pg_sleep(0.5);
SELECT last_value - :before < 5 AS paused FROM attempts;
DROP TRIGGER fill_disk ON item;
CALL apply();
SELECT count(*) AS applied, (SELECT name FROM other), (SELECT count(*) FROM tandem.dead_letter) AS dead FROM item;

-- An error of our own kind (XX000) that one row causes is that row's.
CREATE FUNCTION surprise() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION USING ERRCODE = 'XX000', MESSAGE = 'surprise';
END $$;
CREATE TRIGGER surprise BEFORE INSERT OR UPDATE ON item FOR EACH ROW WHEN (NEW.id = 50) EXECUTE FUNCTION surprise();
ALTER TABLE item ENABLE ALWAYS TRIGGER surprise;
INSERT INTO rows SELECT :item, 'U', key(i), item(i, 'm' || i) FROM generate_series(1, 100) AS i;
CALL apply();
SELECT tandem.decode_key(table_id, key), sqlstate, message FROM tandem.dead_letter;
SELECT count(*) FROM item WHERE name = 'm' || id;
DROP TRIGGER surprise ON item;
INSERT INTO rows VALUES (:item, 'U', key(50), item(50, 'm50'));
CALL apply();
SELECT count(*) FROM tandem.dead_letter;

-- One outside of the rows stops the batch, and only as long as it lasts.
CREATE FUNCTION no_journal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM nextval('errors_test.attempts');
  RAISE EXCEPTION USING ERRCODE = 'XX000', MESSAGE = 'no journal';
END $$;
CREATE TRIGGER no_journal BEFORE INSERT ON tandem.journal FOR EACH ROW EXECUTE FUNCTION no_journal();
ALTER TABLE tandem.journal ENABLE ALWAYS TRIGGER no_journal;
INSERT INTO rows VALUES (:item, 'U', key(1), item(1, 'once'));
SELECT submit() > 0 AS submitted;
CALL wait_attempts(3);
SELECT last_value AS before FROM attempts \gset
SELECT pg_sleep(0.5);
SELECT last_value - :before < 5 AS paused, (SELECT name FROM item WHERE id = 1) FROM attempts;
DROP TRIGGER no_journal ON tandem.journal;
CALL apply();
SELECT name, (SELECT count(*) FROM tandem.dead_letter) AS dead FROM item WHERE id = 1;

-- Rows that wait with a long backoff are due at once when their table is resumed, paused or blocked.
INSERT INTO item VALUES (-1, 'taken');
INSERT INTO rows VALUES (:item, 'U', key(101), item(101, 'taken'));
CALL apply();
SELECT tandem.pause('item');
UPDATE tandem.retry SET next_attempt = now() + interval '1 day';
DELETE FROM item WHERE id = -1;
SELECT tandem.resume('item');
CALL retries_done();
SELECT name FROM item WHERE id = 101;
ALTER TABLE item RENAME name TO title;
INSERT INTO rows VALUES (:item, 'U', key(102), item(102, 'mended'));
CALL apply();
UPDATE tandem.retry SET next_attempt = now() + interval '1 day';
ALTER TABLE item RENAME title TO name;
SELECT tandem.resume('item');
CALL retries_done();
SELECT name FROM item WHERE id = 102;

DELETE FROM tandem.journal WHERE source_id = :source;
DELETE FROM tandem.source_table WHERE source_id = :source;
DELETE FROM tandem.source WHERE source_id = :source;
DROP SCHEMA errors_test CASCADE;
