-- Digests of rows on PostgreSQL's side: what is in a target, and what apply would write for images of old rows, must agree exactly.
\getenv abs_srcdir PG_ABS_SRCDIR
\set by_hand :abs_srcdir /sql/by_hand.inc
\set SHOW_CONTEXT never
\pset null '(null)'
SET client_min_messages = error;
CREATE EXTENSION IF NOT EXISTS pg_tandem CASCADE;
CREATE SCHEMA digest_test;
SET search_path = digest_test, public;
\i :by_hand
INSERT INTO tandem.source (name, server, database, mapping_role) VALUES ('by hand', 'nowhere', 'shop', CURRENT_USER);
SELECT source_id AS source FROM tandem.source WHERE name = 'by hand' \gset
INSERT INTO tandem.lease VALUES (:source, 1000000, 'regression', now() + interval '1 day');
-- A table by hand: old columns and where they go, as arrays of 'name image_type' and of 'target source-or-=expression'.
CREATE FUNCTION add(name text, target regclass, key text[], old text[], columns text[], filter text DEFAULT NULL, constants jsonb DEFAULT '{}') RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
  id integer;
BEGIN
  INSERT INTO tandem.source_table (source_id, name, target, key_columns, outbox, trigger_suffix, filter, constants)
    SELECT source_id, add.name, add.target, key, '', '', add.filter, add.constants FROM tandem.source AS s WHERE s.name = 'by hand' RETURNING table_id INTO id;
  INSERT INTO tandem.source_column (table_id, ordinal, name, mysql_type, data_type, nullable, image_type)
    SELECT id, n, split_part(c, ' ', 1), CASE split_part(c, ' ', 2) WHEN 'text' THEN 'varchar(30)' ELSE 'x' END, 'x', true, substr(c, strpos(c, ' ') + 1)
    FROM unnest(old) WITH ORDINALITY AS u (c, n);
  INSERT INTO tandem.target_column
    SELECT id, split_part(c, ' ', 1), CASE WHEN s.v NOT LIKE '=%' THEN s.v END, CASE WHEN s.v LIKE '=%' THEN substr(s.v, 2) END,
           CASE WHEN s.v = ANY (key) THEN array_position(key, s.v)
                WHEN constants ? split_part(c, ' ', 1) THEN cardinality(key) + 1 END
    FROM unnest(columns) AS c, LATERAL (SELECT substr(c, strpos(c, ' ') + 1)) AS s (v);
  INSERT INTO tandem.table_state (table_id, state, backfill_done) VALUES (id, 'syncing', true);
  UPDATE tandem.source_table SET desired_state = 'running' WHERE table_id = id;
  RETURN id;
END $$;
SELECT decode(string_agg(md5('secret' || i), ''), 'hex') AS secret FROM generate_series(1, 12) AS i \gset
SELECT decode(string_agg(md5('other' || i), ''), 'hex') AS other FROM generate_series(1, 12) AS i \gset

-- The same bytes as in the worker's unit test.
SELECT tandem._digest(0, (SELECT decode(string_agg(lpad(to_hex(i), 2, '0'), '' ORDER BY i), 'hex') FROM generate_series(0, 191) AS i), 'pg'::text, 'tandem'::text);

-- Every type. The old rows are in `was`, with an image of each; the target is filled from them as apply fills it.
CREATE TYPE mood AS ENUM ('sad', 'ok', '');
CREATE TABLE was (id integer, k text, b bigint, n numeric(20,4), u numeric(20,0), f4 real, f8 double precision, t text, v text, y bytea, d date,
  ts timestamp(6), tz timestamptz(6), iv interval, bt bit(5), uu uuid, ip inet, js json, m text, x integer, s smallint);
CREATE TABLE every (id bigint, k text, b bigint, n numeric, u bigint, f4 real, f8 double precision, t text, v varchar(30), y bytea, d date,
  ts timestamp(6), tz timestamptz, iv interval, bt bit(5), uu uuid, ip inet, js json, m mood, jb jsonb, flag boolean, s integer, note text DEFAULT 'kept',
  PRIMARY KEY (id, k));
SELECT add('every', 'every', '{id,k}', ARRAY['id integer', 'k text', 'b bigint', 'n numeric(20,4)', 'u numeric(20,0)', 'f4 real', 'f8 double precision',
  't text', 'v text', 'y bytea', 'd date', 'ts timestamp(6)', 'tz timestamptz(6)', 'iv interval', 'bt bit(5)', 'uu uuid', 'ip inet', 'js json', 'm text',
  'x integer', 's smallint'],
  ARRAY['id id', 'k k', 'b b', 'n n', 'u u', 'f4 f4', 'f8 f8', 't t', 'v v', 'y y', 'd d', 'ts ts', 'tz tz', 'iv iv', 'bt bt', 'uu uu', 'ip ip', 'js js',
        'm m', 's s']) AS every \gset
SELECT c ->> 'position' AS position, c ->> 'name' AS name, c ->> 'ordinal' AS ordinal, c ->> 'class' AS class
FROM jsonb_array_elements(tandem._digest_config(:every) -> 'columns') AS c;
SELECT tandem._digest_config(:every) - 'columns' AS config;
-- With columns that the worker cannot digest by itself.
INSERT INTO tandem.target_column VALUES (:every, 'jb', NULL, 'js::jsonb', NULL), (:every, 'flag', NULL, 'x <> 0', NULL);
SELECT tandem._digest_config(:every) ->> 'mode' AS mode;

CREATE FUNCTION pick(i integer, salt text, of integer) RETURNS integer LANGUAGE sql IMMUTABLE AS $$ SELECT (('x' || left(md5(i || salt), 7))::bit(28)::integer) % of $$;
INSERT INTO was
SELECT i, CASE WHEN i % 2 = 0 THEN 'k' ELSE 'K' END || (i / 2), pick(i, 'b', 1000000)::bigint * pick(i, 'c', 2000000) * CASE WHEN i % 3 = 0 THEN -1 ELSE 1 END,
  CASE pick(i, 'n', 5) WHEN 0 THEN NULL WHEN 1 THEN 0 WHEN 2 THEN 10000 * pick(i, 'o', 9999) ELSE (pick(i, 'o', 100000000) - 50000000) / 10000.0 END,
  CASE pick(i, 'u', 3) WHEN 0 THEN 0 WHEN 1 THEN 9223372036854775807 ELSE pick(i, 'p', 100000000) END,
  CASE pick(i, 'f', 4) WHEN 0 THEN '-0'::real WHEN 1 THEN NULL ELSE (pick(i, 'g', 1000000) - 500000) / 7.0 END,
  CASE pick(i, 'h', 5) WHEN 0 THEN '-0'::float8 WHEN 1 THEN 0 WHEN 2 THEN 1e23 ELSE (pick(i, 'j', 1000000) - 500000) / 7.0 END,
  CASE pick(i, 't', 4) WHEN 0 THEN NULL WHEN 1 THEN '' WHEN 2 THEN 'NULL' ELSE repeat(chr(228 + pick(i, 'l', 9)), pick(i, 'm', 5000)) END,
  CASE pick(i, 'v', 3) WHEN 0 THEN NULL ELSE left(md5(i::text), pick(i, 'w', 30)) || ' ' END,
  CASE pick(i, 'y', 3) WHEN 0 THEN NULL WHEN 1 THEN '' ELSE decode(repeat(md5(i::text), pick(i, 'z', 99)), 'hex') END,
  date '1000-01-01' + pick(i, 'd', 3000000), timestamp '1000-01-01' + pick(i, 'q', 99999999) * interval '1 h 0.000001 s',
  timestamptz '1970-01-01 00:00:01+00' + pick(i, 'r', 99999999) * interval '10.000001 s', (pick(i, 's', 7000000) - 3500000) * interval '0.863 s',
  pick(i, 'A', 32)::bit(5), md5(i::text)::uuid, ('::' || to_hex(pick(i, 'B', 65535)))::inet,
  format('{"a": %s, "b":[1,2.50,"%s"], "a": 3}', pick(i, 'C', 100), repeat('z', pick(i, 'D', 50)))::json,
  (ARRAY['sad', 'ok', '', NULL])[1 + pick(i, 'E', 4)], nullif(pick(i, 'F', 3) - 1, -1), pick(i, 'G', 65535) - 32768
FROM generate_series(1, 2000) AS i;
CREATE VIEW old AS
  SELECT id, image(int4send(id), textsend(k)) AS key,
    image(int4send(id), textsend(k), int8send(b), numeric_send(n), numeric_send(u), float4send(f4), float8send(f8), textsend(t), textsend(v), byteasend(y),
      date_send(d), timestamp_send(ts), timestamptz_send(tz), interval_send(iv), bit_send(bt), uuid_send(uu), inet_send(ip), json_send(js), textsend(m),
      int4send(x), int2send(s)) AS image
  FROM was;
INSERT INTO rows (table_id, op, key, image) SELECT :every, 'U', key, image FROM old ORDER BY id;
CALL apply();
SELECT count(*) FROM every;

-- Both ways agree, row by row; and the sums are those of the rows.
CREATE TEMP TABLE would AS SELECT * FROM tandem.digest_images(:every, :'secret', ARRAY(SELECT key FROM old ORDER BY id), ARRAY(SELECT image FROM old ORDER BY id));
CREATE TEMP TABLE there AS SELECT * FROM tandem.digest_keys(:every, :'secret', ARRAY(SELECT key FROM old ORDER BY id));
SELECT count(*), count(*) FILTER (WHERE (w.low_hash, w.high_hash) = (t.low_hash, t.high_hash)) AS equal, count(DISTINCT w.low_hash) AS hashes
FROM would AS w JOIN there AS t USING (key);
SELECT count(*) AS differences FROM tandem.row_differences(:every, ARRAY(SELECT key FROM old), ARRAY(SELECT image FROM old));
CREATE FUNCTION wrapped(numeric) RETURNS bigint LANGUAGE sql IMMUTABLE AS
  $$ SELECT (CASE WHEN m >= 9223372036854775808 THEN m - 18446744073709551616 ELSE m END)::bigint FROM (SELECT mod(mod($1, 18446744073709551616) + 18446744073709551616, 18446744073709551616)) AS x (m) $$;
SELECT c.rows, (c.sum_low, c.sum_high) = (SELECT wrapped(sum(low_hash)), wrapped(sum(high_hash)) FROM would) AS equal
FROM tandem.digest_chunk(:every, :'secret', NULL, NULL) AS c;
SELECT count(*), (wrapped(sum(low_hash)), wrapped(sum(high_hash))) = (SELECT wrapped(sum(low_hash)), wrapped(sum(high_hash)) FROM would) AS equal
FROM tandem.digest_rows(:every, :'secret', NULL, NULL);
-- In parallel workers as well.
SET parallel_setup_cost = 0;
SET parallel_tuple_cost = 0;
SET min_parallel_table_scan_size = 0;
SELECT c.rows, (c.sum_low, c.sum_high) = (SELECT wrapped(sum(low_hash)), wrapped(sum(high_hash)) FROM would) AS equal
FROM tandem.digest_chunk(:every, :'secret', NULL, NULL) AS c;
RESET parallel_setup_cost;
RESET parallel_tuple_cost;
RESET min_parallel_table_scan_size;
-- Another secret, other hashes.
SELECT count(*) FROM tandem.digest_rows(:every, :'other', NULL, NULL) AS o JOIN would AS w USING (key) WHERE o.low_hash = w.low_hash OR o.high_hash = w.high_hash;
-- Parts of the range add up to the whole.
SELECT sum(rows) AS rows, wrapped(sum(sum_low)) = (SELECT wrapped(sum(low_hash)) FROM would) AS equal
FROM (VALUES (NULL, '{500,K}'), ('{500,K}', '{500,k250}'), ('{500,k250}', '{1999,zz}'), ('{1999,zz}'::text[], NULL::text[])) AS r (low, high),
  LATERAL tandem.digest_chunk(:every, :'secret', r.low::text[], r.high::text[]);

-- One change of one value, in every column: it is seen, and named.
CREATE TABLE change (n serial, name text, value text, condition text);
INSERT INTO change (name, value, condition) VALUES
  ('b', 'b # 1', 'b IS NOT NULL'), ('b', 'NULL', 'b = 0 OR true'), ('n', 'n + 0.0001', 'n IS NOT NULL'), ('n', '-n', 'n > 0'), ('n', '0', 'n IS NULL'), ('n', 'NULL', 'n = 0'),
  ('u', 'u - 1', 'u > 9000000000'), ('f4', '0', 'f4 = 0'), ('f4', 'f4 * 1.0000002', 'f4 > 1'), ('f8', '0', 'f8 = 0 AND f8::text = ''-0'''), ('f8', 'f8 + f8 * 2.3e-16', 'f8 > 1'),
  ('t', '''''', 't IS NULL'), ('t', '''NULL''', 't IS NULL'), ('t', 'NULL', 't = '''''), ('t', 't || '' ''', 'length(t) > 100'), ('t', 'upper(t)', 't ~ ''ä'''),
  ('v', 'rtrim(v)', 'v IS NOT NULL'), ('v', 'upper(v)', 'v ~ ''[a-f]'''), ('y', 'y || ''\x00''', 'y IS NOT NULL'), ('y', 'set_byte(y, 20, get_byte(y, 20) # 1)', 'length(y) > 30'),
  ('d', 'd + 1', 'true'), ('ts', 'ts + interval ''1 us''', 'true'), ('tz', 'tz - interval ''1 us''', 'true'), ('iv', 'iv + interval ''1 us''', 'true'),
  ('iv', 'justify_hours(iv)', 'iv > interval ''25 h'''), ('bt', 'bt # B''00001''', 'true'), ('uu', 'gen_random_uuid()', 'true'), ('ip', 'ip + 1', 'true'),
  ('js', 'replace(js::text, ''": '', ''":'')::json', 'true'), ('m', '''''', 'm IS NULL'), ('m', 'NULL', 'm = '''''), ('m', '''ok''', 'm = ''sad'''),
  ('jb', 'jsonb_set(jb, ''{b,1}'', ''2.5'')', 'true'), ('jb', 'NULL', 'true'), ('flag', 'NOT flag', 'flag'), ('flag', 'NULL', 'NOT flag'), ('s', 's # 1', 'true');
CREATE FUNCTION seen(every integer, secret bytea, c change) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  victim integer;
  result text;
BEGIN
  EXECUTE format('SELECT id FROM every WHERE %s ORDER BY md5(id::text || %L) LIMIT 1', c.condition, c.n) INTO victim;
  EXECUTE format('UPDATE every SET %I = %s WHERE id = %s', c.name, c.value, victim);
  SELECT CASE WHEN (h.low_hash, h.high_hash) = (w.low_hash, w.high_hash) THEN 'NOT SEEN' ELSE 'seen' END INTO result
  FROM old AS o JOIN would AS w USING (key), tandem.digest_keys(every, secret, ARRAY[o.key]) AS h WHERE o.id = victim;
  SELECT result || ' ' || d.kind || ' ' || d.columns::text || ' ' || (SELECT string_agg(k, ',') FROM jsonb_object_keys(d.old) AS k)
         || CASE WHEN d.old = d.new THEN ' shown alike' ELSE '' END INTO result
  FROM old AS o, tandem.row_differences(every, ARRAY[o.key], ARRAY[o.image]) AS d WHERE o.id = victim;
  RAISE EXCEPTION USING ERRCODE = 'TD001', MESSAGE = coalesce(result, 'NOTHING, victim ' || coalesce(victim::text, 'none'));
EXCEPTION WHEN SQLSTATE 'TD001' THEN -- undone
  RETURN SQLERRM;
END $$;
SELECT name, value, seen(:every, :'secret', change) FROM change ORDER BY n;
SELECT (c.sum_low, c.sum_high) = (SELECT wrapped(sum(low_hash)), wrapped(sum(high_hash)) FROM would) AS as_before FROM tandem.digest_chunk(:every, :'secret', NULL, NULL) AS c;

-- What fools sums and texts: columns that move into each other, values swapped between rows, an even number of equal changes.
CREATE FUNCTION same(every integer, secret bytea) RETURNS boolean LANGUAGE sql AS $$
  SELECT (c.sum_low, c.sum_high) = (SELECT wrapped(sum(low_hash)), wrapped(sum(high_hash)) FROM would) FROM tandem.digest_chunk(every, secret, NULL, NULL) AS c $$;
BEGIN;
UPDATE every SET v = 'a', t = 'bc' WHERE id = 7;
SELECT low_hash AS one FROM tandem.digest_keys(:every, :'secret', ARRAY(SELECT key FROM old WHERE id = 7)) \gset
UPDATE every SET v = 'ab', t = 'c' WHERE id = 7;
SELECT low_hash = :one AS same FROM tandem.digest_keys(:every, :'secret', ARRAY(SELECT key FROM old WHERE id = 7));
ROLLBACK;
BEGIN;
UPDATE every SET s = CASE id WHEN 1 THEN 17 ELSE 4711 END WHERE id IN (1, 2);
UPDATE was SET s = CASE id WHEN 1 THEN 17 ELSE 4711 END WHERE id IN (1, 2);
TRUNCATE would;
INSERT INTO would SELECT * FROM tandem.digest_images(:every, :'secret', ARRAY(SELECT key FROM old ORDER BY id), ARRAY(SELECT image FROM old ORDER BY id));
SELECT same(:every, :'secret');
UPDATE every SET s = CASE id WHEN 2 THEN 17 ELSE 4711 END WHERE id IN (1, 2);
SELECT same(:every, :'secret') AS swapped;
ROLLBACK;
BEGIN;
UPDATE every SET m = 'ok' WHERE id % 10 < 4;
SELECT same(:every, :'secret');
ROLLBACK;
-- Missing, extra, on neither side; a key that the old table cannot have.
BEGIN;
DELETE FROM every WHERE id = 5;
INSERT INTO every (id, k, t) VALUES (5000, 'new', 'by hand'), (5000000000, 'beyond', 'by hand');
SELECT tandem.decode_key(:every, d.key) AS key, kind, columns, old ->> 'k' AS old_k, new ->> 't' AS new_t
FROM tandem.row_differences(:every, ARRAY[image(int4send(5), textsend('K2')), image(int4send(5000), textsend('new')), image(int4send(6000), textsend('x'))],
  ARRAY[(SELECT image FROM old WHERE id = 5), NULL, NULL]::bytea[]) AS d;
SELECT key, tandem.decode_key(:every, key) FROM tandem.digest_rows(:every, :'secret', '{4999,x}', NULL);
SELECT kind, columns, old, new FROM tandem.row_differences(:every, ARRAY(SELECT key FROM tandem.digest_rows(:every, :'secret', '{6000,x}', NULL)), ARRAY[NULL]::bytea[]);
SELECT * FROM tandem.next_keys(:every, '{2000,k}', 10);
SELECT * FROM tandem.next_keys(:every, '{5000,new}', 10);
ROLLBACK;
SELECT key_text FROM tandem.next_keys(:every, NULL, 2);
-- 'k1' is not 'K1'.
SELECT count(*) FROM tandem.digest_keys(:every, :'secret', ARRAY[image(int4send(2), textsend('k1')), image(int4send(2), textsend('K1'))]);
-- Images that cannot be applied fail alone.
SELECT w.low_hash IS NULL AS failed, count(*) FROM tandem.digest_images(:every, :'secret', ARRAY(SELECT key FROM old WHERE id <= 10),
  ARRAY(SELECT CASE WHEN id = 3 THEN '\x0001' WHEN id = 7 THEN overlay(image PLACING '\xff' FROM 3) ELSE image END FROM old WHERE id <= 10)) AS w GROUP BY 1 ORDER BY 1;
SELECT kind, columns, old IS NULL AS no_old, new IS NULL AS no_new, cause
FROM tandem.row_differences(:every, ARRAY[image(int4send(1), textsend('K0')), image(int4send(9000), textsend('x'))], ARRAY['\x0001', '\x0001']::bytea[]);

-- A filter, a share of a target, a column narrower than its values, a key beyond what the target holds.
CREATE TABLE shared (shard text, id integer, v varchar(5), PRIMARY KEY (id, shard));
SELECT add('eu', 'shared', '{id}', ARRAY['id bigint', 'v text'], ARRAY['id id', 'v v', 'shard =''eu''::text'], 'v <> ''no''', '{"shard": "eu"}') AS eu \gset
SELECT add('us', 'shared', '{id}', ARRAY['id bigint', 'v text'], ARRAY['id id', 'v v', 'shard =''us''::text'], NULL, '{"shard": "us"}') AS us \gset
SELECT tandem._digest_config(:eu), tandem._digest_config(:us) ->> 'mode' AS us_mode;
INSERT INTO shared SELECT s, i, 'v' || i FROM generate_series(1, 9) AS i, unnest('{eu,us,as}'::text[]) AS s;
SELECT rows FROM tandem.digest_chunk(:eu, :'secret', '{2}', '{5}');
SELECT rows FROM tandem.digest_chunk(:us, :'secret', NULL, NULL);
SELECT rows FROM tandem.digest_chunk(:us, :'secret', '{3}', '{9000000000}');
SELECT count(*) FROM tandem.digest_keys(:us, :'secret', ARRAY[image(int8send(3)), image(int8send(9000000000)), '\x00']);
SELECT tandem.decode_key(:us, w.key) AS key, w.low_hash = h.low_hash AS equal
FROM tandem.digest_images(:us, :'secret', ARRAY[image(int8send(1)), image(int8send(2)), image(int8send(3)), image(int8send(4))],
  ARRAY[image(int8send(1), 'v1'), image(int8send(2), 'v2   '), image(int8send(3), 'v3    '), image(int8send(4), 'toolong')]) AS w
LEFT JOIN tandem.digest_rows(:us, :'secret', NULL, NULL) AS h USING (key);
SELECT tandem.decode_key(:eu, key) AS key, low_hash IS NOT NULL AS hashed
FROM tandem.digest_images(:eu, :'secret', ARRAY[image(int8send(1)), image(int8send(2)), image(int8send(3))],
  ARRAY[image(int8send(1), 'v1'), image(int8send(2), 'no'), image(int8send(3), NULL)]);
SELECT tandem.decode_key(:eu, key) AS key, kind, new FROM tandem.row_differences(:eu, ARRAY[image(int8send(2))], ARRAY[image(int8send(2), 'no')]);

-- A key without regard to case, and one of another order.
CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE folded (a text COLLATE loose, b integer, v text, PRIMARY KEY (b, a));
SELECT add('folded', 'folded', '{a,b}', ARRAY['a text', 'b integer', 'v text'], ARRAY['a a', 'b b', 'v v']) AS folded \gset
SELECT tandem._digest_config(:folded) - 'columns' AS config;
INSERT INTO folded SELECT CASE WHEN i % 2 = 0 THEN 'abc' ELSE 'ABC' END, i, 'x' FROM generate_series(1, 6) AS i;
SELECT tandem.decode_key(:folded, key) AS key FROM tandem.digest_keys(:folded, :'secret', ARRAY[image('abc', int4send(1)), image('ABC', int4send(1)), image('abc', int4send(2))]);
SELECT key_text FROM tandem.next_keys(:folded, '{abc,2}', 10);

-- Originals of values that PostgreSQL cannot hold belong to the row.
CREATE TABLE dated (id integer PRIMARY KEY, d date);
SELECT add('dated', 'dated', '{id}', ARRAY['id integer', 'd date'], ARRAY['id id', 'd d']) AS dated \gset
UPDATE tandem.source_column SET policy = 'sidecar' WHERE table_id = :dated AND name = 'd';
CREATE FUNCTION lossy(id integer, original text) RETURNS bytea LANGUAGE sql AS $$
  SELECT int2send((16384 + 2)::int2) || int4send(4) || int4send(id) || int4send(-1) || int4send(length(l)) || l
  FROM (SELECT convert_to(format('[{"column":"d","rule":"zero date","policy":"sidecar","bytes":"%s"}]', encode(convert_to(original, 'UTF8'), 'hex')), 'UTF8')) AS x (l) $$;
INSERT INTO rows (table_id, op, key, image, flags) VALUES (:dated, 'U', key(1), lossy(1, '0000-00-00'), 8), (:dated, 'U', key(2), image(int4send(2), date_send('2020-02-02')), 0);
CALL apply();
SELECT d.id, s.original FROM dated AS d LEFT JOIN tandem.sidecar AS s ON s.table_id = :dated AND s.key = key(d.id) ORDER BY 1;
CREATE FUNCTION dated_differs(dated integer, secret bytea, original text) RETURNS TABLE (equal boolean, sums boolean, columns text[], old jsonb, new jsonb) LANGUAGE sql AS $$
  SELECT (w.low_hash, w.high_hash) = (h.low_hash, h.high_hash),
         (SELECT c.sum_low = wrapped(sum(r.low_hash)) FROM tandem.digest_rows(dated, secret, NULL, NULL) AS r, tandem.digest_chunk(dated, secret, NULL, NULL) AS c GROUP BY c.sum_low),
         d.columns, d.old, d.new
  FROM tandem.digest_images(dated, secret, ARRAY[key(1)], ARRAY[lossy(1, original)]) AS w JOIN tandem.digest_keys(dated, secret, ARRAY[key(1)]) AS h USING (key)
  LEFT JOIN tandem.row_differences(dated, ARRAY[key(1)], ARRAY[lossy(1, original)]) AS d USING (key) $$;
SELECT * FROM dated_differs(:dated, :'secret', '0000-00-00');
SELECT * FROM dated_differs(:dated, :'secret', '2020-00-00');
UPDATE tandem.sidecar SET rule = 'partial date' WHERE table_id = :dated;
SELECT * FROM dated_differs(:dated, :'secret', '0000-00-00');
DELETE FROM tandem.sidecar WHERE table_id = :dated;
SELECT * FROM dated_differs(:dated, :'secret', '0000-00-00');

-- More columns than a function can have arguments.
SELECT format('CREATE TABLE wide (id integer PRIMARY KEY, %s)', string_agg(format('c%s integer', i), ', ')) FROM generate_series(1, 200) AS i \gexec
SELECT add('wide', 'wide', '{id}', ARRAY['id integer'] || ARRAY(SELECT format('c%s integer', i) FROM generate_series(1, 200) AS i),
  ARRAY['id id'] || ARRAY(SELECT format('c%s c%s', i, i) FROM generate_series(1, 200) AS i)) AS wide \gset
INSERT INTO wide (id, c77) SELECT i, i FROM generate_series(1, 50) AS i;
SELECT c.rows, c.sum_low = wrapped(r.sum) AS equal FROM tandem.digest_chunk(:wide, :'secret', NULL, NULL) AS c, (SELECT sum(low_hash) FROM tandem.digest_rows(:wide, :'secret', NULL, NULL)) AS r (sum);

-- It runs with the rights of the target's owner, and sees what he may see.
CREATE ROLE regress_owner;
GRANT USAGE ON SCHEMA digest_test TO regress_owner;
CREATE FUNCTION whoami() RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT current_user::text';
CREATE TABLE owned (id integer PRIMARY KEY, who text);
SELECT add('owned', 'owned', '{id}', ARRAY['id integer'], ARRAY['id id', 'who =digest_test.whoami()']) AS owned \gset
INSERT INTO owned VALUES (1, 'regress_owner');
ALTER TABLE owned OWNER TO regress_owner;
SET ROLE tandem_worker;
SELECT h.low_hash = w.low_hash AS equal, c.rows FROM tandem.digest_images(:owned, :'secret', ARRAY['\x00010000000400000001'::bytea], ARRAY['\x00010000000400000001'::bytea]) AS w
JOIN tandem.digest_keys(:owned, :'secret', ARRAY['\x00010000000400000001'::bytea]) AS h USING (key), tandem.digest_chunk(:owned, :'secret', NULL, NULL) AS c;
RESET ROLE;
ALTER TABLE owned ENABLE ROW LEVEL SECURITY;
SELECT rows FROM tandem.digest_chunk(:owned, :'secret', NULL, NULL);
ALTER TABLE owned FORCE ROW LEVEL SECURITY;
SELECT rows FROM tandem.digest_chunk(:owned, :'secret', NULL, NULL);
ALTER TABLE owned DISABLE ROW LEVEL SECURITY;

-- Parts of a range, by a key of one column: each row in one part, and the parts add up to the range.
INSERT INTO owned SELECT i FROM generate_series(2, 1000) AS i ON CONFLICT DO NOTHING;
SELECT tandem._can_sum_parts(:owned) AS owned, tandem._can_sum_parts(:every) AS of_two_columns;
SELECT part, rows FROM tandem.digest_parts(:owned, :'secret', NULL, NULL, '{1,10,11,500,2000}') ORDER BY part;
SELECT part, rows FROM tandem.digest_parts(:owned, :'secret', '{9}', '{600}', '{-5,10,11,500,2000}') ORDER BY part;
SELECT part, rows FROM tandem.digest_parts(:owned, :'secret', NULL, '{600}', '{}') ORDER BY part;
SELECT sum(p.rows) AS rows,
  wrapped(sum(p.sum_low)) = (SELECT c.sum_low FROM tandem.digest_chunk(:owned, :'secret', '{7}', '{777}') AS c) AS low,
  wrapped(sum(p.sum_high)) = (SELECT c.sum_high FROM tandem.digest_chunk(:owned, :'secret', '{7}', '{777}') AS c) AS high
FROM tandem.digest_parts(:owned, :'secret', '{7}', '{777}', '{100,200,300,700}') AS p;
SELECT * FROM tandem.digest_parts(:every, :'secret', NULL, NULL, '{1}');
SELECT * FROM tandem.digest_parts(:owned, :'secret', NULL, NULL, '{x}');
SELECT * FROM tandem.digest_parts(:owned, :'secret', NULL, NULL, '{NULL}');
SELECT * FROM tandem.digest_parts(:owned, :'secret', NULL, NULL, NULL);
-- Rows of parts, those without an end as well: each once, as digest_rows has them.
SELECT part, count(*), min((tandem.decode_key(:owned, key) ->> 'id')::integer), max((tandem.decode_key(:owned, key) ->> 'id')::integer)
FROM tandem.digest_row_parts(:owned, :'secret', '{NULL,9,600,700,5000}', '{3,20,600,NULL,6000}') GROUP BY 1 ORDER BY 1;
SELECT count(*) AS others FROM (
  (SELECT key, low_hash, high_hash FROM tandem.digest_row_parts(:owned, :'secret', '{NULL,100,200}', '{100,200,NULL}')
   EXCEPT ALL SELECT * FROM tandem.digest_rows(:owned, :'secret', NULL, NULL))
  UNION ALL
  (SELECT * FROM tandem.digest_rows(:owned, :'secret', NULL, NULL)
   EXCEPT ALL SELECT key, low_hash, high_hash FROM tandem.digest_row_parts(:owned, :'secret', '{NULL,100,200}', '{100,200,NULL}'))) AS d;
SELECT * FROM tandem.digest_row_parts(:owned, :'secret', '{}', '{}');
SELECT * FROM tandem.digest_row_parts(:owned, :'secret', '{1,2}', '{3}');
SELECT * FROM tandem.digest_row_parts(:owned, :'secret', '{NULL,NULL,NULL}', '{1,2,3}');
SELECT * FROM tandem.digest_row_parts(:owned, :'secret', '{x}', '{3}');
SELECT * FROM tandem.digest_row_parts(:every, :'secret', '{1}', '{3}');
DELETE FROM owned WHERE id > 1;
-- While a dump is restored, a table may be there before its columns.
BEGIN;
DELETE FROM tandem.target_column WHERE table_id = :owned;
SELECT tandem._digest_config(:owned);
ROLLBACK;

-- Refusals.
SELECT * FROM tandem.digest_chunk(0, :'secret', NULL, NULL);
SELECT * FROM tandem.digest_chunk(:owned, 'short', NULL, NULL);
SELECT * FROM tandem.digest_chunk(:owned, :'secret', '{1,2}', NULL);
SELECT * FROM tandem.digest_chunk(:owned, :'secret', '{NULL}', NULL);
SELECT * FROM tandem.digest_chunk(:owned, :'secret', '{x}', NULL);
SELECT * FROM tandem.digest_chunk(:owned, NULL, NULL, NULL);
SELECT * FROM tandem.digest_keys(:owned, :'secret', ARRAY[NULL]::bytea[]);
SELECT * FROM tandem.digest_images(:owned, :'secret', ARRAY['\x00'::bytea], '{}');
SELECT * FROM tandem.next_keys(:owned, NULL, NULL);
DROP TABLE owned;
SELECT * FROM tandem.digest_chunk(:owned, :'secret', NULL, NULL);
SELECT tandem._digest_config(:owned);
SET ROLE tandem_monitor;
SELECT * FROM tandem.digest_chunk(1, 'x', NULL, NULL);
RESET ROLE;

DELETE FROM tandem.source_table WHERE source_id = :source;
DELETE FROM tandem.source WHERE source_id = :source;
DROP SCHEMA digest_test CASCADE;
DROP ROLE regress_owner;
