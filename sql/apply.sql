-- The apply worker, fed by hand: no old side is needed to see what becomes of a batch.
\set SHOW_CONTEXT never
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pg_tandem CASCADE;
CREATE SCHEMA apply_test;
SET search_path = apply_test, public;

-- Images as docs/protocol.md describes them: number of fields, then length and bytes of each.
CREATE FUNCTION image(VARIADIC fields bytea[]) RETURNS bytea LANGUAGE sql AS $$
  SELECT int2send(cardinality(fields)::int2) ||
    string_agg(CASE WHEN f IS NULL THEN int4send(-1) ELSE int4send(length(f)) || f END, '' ORDER BY n)
  FROM unnest(fields) WITH ORDINALITY AS u (f, n) $$;
CREATE FUNCTION image(id integer, email text, admin integer DEFAULT 0) RETURNS bytea LANGUAGE sql AS $$
  SELECT image(int4send(id), textsend(email), int2send(admin::int2)) $$;
CREATE FUNCTION key(id integer) RETURNS bytea LANGUAGE sql AS 'SELECT image(int4send(id))';

-- A source that no worker can lead: this session holds its lease.
CREATE TABLE users (id integer PRIMARY KEY, email text UNIQUE CHECK (email <> 'poison'), admin boolean NOT NULL, note text DEFAULT 'new',
                    twice integer GENERATED ALWAYS AS (id * 2) STORED);
CREATE TABLE posts (id integer PRIMARY KEY, author integer, boss integer);
INSERT INTO tandem.source (name, server, database, mapping_role) VALUES ('by hand', 'nowhere', 'shop', CURRENT_USER);
SELECT source_id AS source FROM tandem.source WHERE name = 'by hand' \gset
INSERT INTO tandem.lease VALUES (:source, 1000000, 'regression', now() + interval '1 day');
INSERT INTO tandem.source_table (source_id, name, target, key_columns, outbox, trigger_suffix)
  VALUES (:source, 'users', 'users', '{id}', '', ''), (:source, 'posts', 'posts', '{id}', '', '');
SELECT table_id AS users FROM tandem.source_table WHERE source_id = :source AND name = 'users' \gset
SELECT table_id AS posts FROM tandem.source_table WHERE source_id = :source AND name = 'posts' \gset
INSERT INTO tandem.source_column (table_id, ordinal, name, mysql_type, data_type, nullable, image_type) VALUES
  (:users, 1, 'id', 'int(11)', 'int', false, 'integer'), (:users, 2, 'email', 'varchar(99)', 'varchar', true, 'text'),
  (:users, 3, 'is_admin', 'tinyint(1)', 'tinyint', false, 'smallint'),
  (:posts, 1, 'id', 'int(11)', 'int', false, 'integer'), (:posts, 2, 'author', 'int(11)', 'int', true, 'integer'),
  (:posts, 3, 'boss', 'int(11)', 'int', true, 'integer');
INSERT INTO tandem.target_column VALUES
  (:users, 'id', 'id', NULL, 1), (:users, 'email', 'email', NULL, NULL), (:users, 'admin', NULL, 'is_admin <> 0', NULL),
  (:posts, 'id', 'id', NULL, 1), (:posts, 'author', 'author', NULL, NULL), (:posts, 'boss', 'boss', NULL, NULL);
INSERT INTO tandem.source_fk VALUES
  (:source, 'posts_author', 'shop', 'posts', '{author}', 'shop', 'users', '{id}', 'CASCADE', 'RESTRICT'),
  (:source, 'posts_boss', 'shop', 'posts', '{boss}', 'shop', 'posts', '{id}', 'SET NULL', 'RESTRICT');
INSERT INTO tandem.table_state (table_id, state) VALUES (:users, 'syncing'), (:posts, 'backfilling');
UPDATE tandem.source_table SET desired_state = 'running' WHERE source_id = :source;

-- Sends what is in `rows` as one batch and waits until apply is done with it.
CREATE TABLE rows (table_id integer, op "char", key bytea, image bytea, flags smallint DEFAULT 0, n serial);
CREATE SEQUENCE batches;
CREATE FUNCTION submit(epoch bigint, backfill jsonb) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  batch bigint := (epoch << 32) + nextval('batches');
BEGIN
  INSERT INTO tandem.queue (batch_id, table_id, op, flags, age_us, key, image)
    SELECT batch, table_id, op, flags, 1000, key, image FROM rows ORDER BY n;
  PERFORM tandem.submit_batch(batch, (SELECT source_id FROM tandem.source WHERE name = 'by hand'), epoch, count(*)::integer, 0, 0, backfill)
    FROM rows;
  DELETE FROM rows;
  RETURN batch;
END $$;
CREATE PROCEDURE apply(INOUT result text DEFAULT NULL, epoch bigint DEFAULT 1000000, backfill jsonb DEFAULT NULL) LANGUAGE plpgsql AS $$
DECLARE
  sent bigint := submit(epoch, backfill);
  deadline timestamptz := clock_timestamp() + interval '30 s';
BEGIN
  COMMIT;
  WHILE EXISTS (SELECT FROM tandem.batch WHERE batch_id = sent) AND clock_timestamp() < deadline LOOP
    PERFORM pg_sleep(0.005);
    COMMIT;
  END LOOP;
  result := coalesce((SELECT format('%s rows, %s retried, %s dead', j.rows, retried, dead_lettered) FROM tandem.journal j WHERE batch_id = sent),
                     'not journalled');
END $$;
-- Waits until nothing is left to be tried again.
CREATE PROCEDURE retries_done() LANGUAGE plpgsql AS $$
DECLARE
  deadline timestamptz := clock_timestamp() + interval '30 s';
BEGIN
  WHILE EXISTS (SELECT FROM tandem.retry) AND clock_timestamp() < deadline LOOP
    PERFORM pg_sleep(0.005);
    COMMIT;
  END LOOP;
END $$;

-- Rows come, change, go; a column that is not mapped stays; a row that is equal already is not written.
INSERT INTO rows VALUES (:users, 'U', key(1), image(1, 'a', 1)), (:users, 'U', key(2), image(2, 'b')), (:users, 'U', key(3), image(3, NULL));
CALL apply();
UPDATE users SET note = 'kept ' || id;
SELECT xmin AS version FROM users WHERE id = 1 \gset
INSERT INTO rows VALUES (:users, 'U', key(1), image(1, 'a', 1)), (:users, 'U', key(2), image(2, 'bb')), (:users, 'D', key(3), NULL);
CALL apply();
SELECT *, xmin = :'version' AS untouched FROM users ORDER BY id;

-- Unique values exchanged, a key moved.
INSERT INTO rows VALUES (:users, 'U', key(1), image(1, 'bb')), (:users, 'U', key(2), image(2, 'a')), (:users, 'U', key(4), image(4, 'd'));
CALL apply();
INSERT INTO rows VALUES (:users, 'U', key(5), image(5, 'd')), (:users, 'D', key(4), NULL);
CALL apply();
SELECT * FROM users ORDER BY id;

-- A batch of another epoch than the lease's is dropped and not acknowledged.
INSERT INTO rows VALUES (:users, 'U', key(6), image(6, 'late'));
CALL apply(epoch => 999999);
SELECT count(*) FROM users WHERE id = 6;

-- One bad row among many: only it stays behind, until a later image of its key arrives.
INSERT INTO rows SELECT :users, 'U', key(i), image(i, CASE WHEN i = 777 THEN 'poison' ELSE 'u' || i END) FROM generate_series(101, 1100) AS i;
CALL apply();
SELECT count(*) FROM users WHERE id > 100;
SELECT tandem.decode_key(table_id, key), op, attempts, sqlstate, message FROM tandem.dead_letter;
INSERT INTO rows VALUES (:users, 'U', key(777), image(777, 'fine'));
CALL apply();
SELECT (SELECT count(*) FROM tandem.dead_letter) AS dead, email FROM users WHERE id = 777;

-- What the worker could not represent, and bytes that are no image.
INSERT INTO rows VALUES (:users, 'X', key(1), '{"sqlstate": "22008", "column": "born", "message": "zero date"}'),
  (:users, 'U', key(2), '\x0003'), (:users, 'U', key(5), image(VARIADIC ARRAY[int4send(5), '\xff'::bytea, int2send(0::int2)]));
CALL apply();
SELECT tandem.key_text(table_id, key), sqlstate, message FROM tandem.dead_letter ORDER BY 1;
INSERT INTO rows VALUES (:users, 'U', key(1), image(1, 'a')), (:users, 'U', key(2), image(2, 'b')), (:users, 'U', key(5), image(5, 'e'));
CALL apply();
SELECT count(*) FROM tandem.dead_letter;

-- A unique value taken by a row that no one knows of: tried again until it is free.
INSERT INTO users VALUES (-1, 'taken', false);
INSERT INTO rows VALUES (:users, 'U', key(7), image(7, 'taken')), (:users, 'U', key(8), image(8, 'free'));
CALL apply();
SELECT tandem.decode_key(table_id, key), sqlstate, message FROM tandem.retry;
DELETE FROM users WHERE id = -1;
CALL retries_done();
SELECT id, email FROM users WHERE id IN (7, 8) ORDER BY id;

-- A target that does not fit any more blocks its own table only; nothing is lost.
ALTER TABLE users RENAME email TO mail;
INSERT INTO rows VALUES (:users, 'U', key(9), image(9, 'nine')), (:posts, 'U', key(1), image(int4send(1), int4send(5), NULL));
CALL apply();
SELECT state, reason, detail ->> 'sqlstate' AS sqlstate FROM tandem.table_state WHERE table_id = :users;
SELECT * FROM posts;
INSERT INTO rows VALUES (:users, 'U', key(9), image(9, 'nine, later'));
CALL apply();
ALTER TABLE users RENAME mail TO email;
UPDATE tandem.table_state SET state = 'syncing', reason = NULL WHERE table_id = :users;
CALL apply(); -- an empty batch, to wake it
CALL retries_done();
SELECT id, email FROM users WHERE id = 9;

-- A chunk of the backfill becomes done together with its rows.
INSERT INTO rows VALUES (:posts, 'U', key(2), image(int4send(2), int4send(9), int4send(1)), 4);
CALL apply(backfill => jsonb_build_object('table_id', :posts, 'cursor', ARRAY['2'], 'rows', 1, 'done', false));
SELECT state, backfill_done, backfill_cursor, backfill_rows FROM tandem.table_state WHERE table_id = :posts;
CALL apply(backfill => jsonb_build_object('table_id', :posts, 'cursor', NULL, 'rows', 0, 'done', true));
SELECT state, backfill_done, backfill_cursor, backfill_rows FROM tandem.table_state WHERE table_id = :posts;

-- Cascades: children of a removed parent are asked for, and so on down until nothing is left.
INSERT INTO rows VALUES (:users, 'D', key(5), NULL, 1);
CALL apply();
SELECT table_id = :posts AS posts, key_text, flags, reason FROM tandem.request ORDER BY key_text;
DELETE FROM tandem.request;
INSERT INTO rows VALUES (:posts, 'D', key(1), NULL, 2);
CALL apply();
SELECT table_id = :posts AS posts, key_text, flags, reason FROM tandem.request ORDER BY key_text;
DELETE FROM tandem.request;
INSERT INTO rows VALUES (:posts, 'U', key(2), image(int4send(2), int4send(9), NULL), 2);
CALL apply();
SELECT count(*) FROM tandem.request;

-- A table that is paused keeps its rows for later, one that is not in the catalog has none.
UPDATE tandem.source_table SET desired_state = 'paused' WHERE table_id = :users;
INSERT INTO rows VALUES (:users, 'U', key(10), image(10, 'ten')), (-5, 'U', key(10), image(10, 'ten'));
CALL apply();
SELECT count(*) FROM users WHERE id = 10;
UPDATE tandem.source_table SET desired_state = 'running' WHERE table_id = :users;
CALL apply();
CALL retries_done();
SELECT email FROM users WHERE id = 10;

-- Keys in their three forms.
SELECT tandem.encode_key(:users, '{"id": 42}') = key(42) AS same, tandem.decode_key(:users, key(42)), tandem.key_text(:users, key(42));
SELECT tandem.encode_key(:users, '{"nix": 1}');
SELECT tandem.encode_key(:users, '{"id": 1, "nix": 2}');
SELECT tandem.encode_key(:users, '{"id": null}');
SELECT tandem.encode_key(:users, '{"id": "x"}');
SELECT tandem.decode_key(:users, '\xff00');

SELECT (SELECT count(*) FROM tandem.queue) AS queue, (SELECT count(*) FROM tandem.batch) AS batches, (SELECT count(*) FROM tandem.retry) AS retries,
       (SELECT count(*) FROM tandem.dead_letter) AS dead;
DELETE FROM tandem.journal WHERE source_id = :source;
DELETE FROM tandem.source_table WHERE source_id = :source;
DELETE FROM tandem.source WHERE source_id = :source;
DROP SCHEMA apply_test CASCADE;
