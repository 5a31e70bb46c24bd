-- The rules by which a PostgreSQL column may take a value: all, errors (never changed, may be refused), changes, none.
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.inc
\i :prelude
CREATE DOMAIN percent AS numeric(5,2) CHECK (VALUE <= 100);
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE FUNCTION carries(from_type text, to_type text, longest bigint DEFAULT NULL) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  verdict text;
BEGIN
  EXECUTE format('CREATE TEMPORARY TABLE pair (f %s, t %s)', from_type, to_type);
  SELECT tandem._carries(f.atttypid, f.atttypmod, t.atttypid, t.atttypmod, longest) INTO verdict
  FROM pg_attribute AS f, pg_attribute AS t
  WHERE f.attrelid = 'pair'::regclass AND f.attname = 'f' AND t.attrelid = 'pair'::regclass AND t.attname = 't';
  DROP TABLE pair;
  RETURN verdict;
END
$$;
SELECT f AS image_type, t AS target_type, carries(f, t)
FROM (VALUES ('smallint', 'smallint'), ('smallint', 'bigint'), ('integer', 'smallint'), ('bigint', 'integer'), ('smallint', 'boolean'),
             ('smallint', 'real'), ('integer', 'real'), ('integer', 'double precision'), ('bigint', 'double precision'),
             ('integer', 'numeric'), ('integer', 'numeric(10)'), ('integer', 'numeric(9,2)'), ('integer', 'numeric(12,-2)'), ('integer', 'text'),
             ('numeric(20,0)', 'bigint'), ('numeric(10,2)', 'numeric(10,2)'), ('numeric(10,2)', 'numeric(12,4)'), ('numeric(10,2)', 'numeric(12,3)'),
             ('numeric(10,2)', 'numeric(10,1)'), ('numeric(10,2)', 'numeric(9,2)'), ('numeric(10,2)', 'integer'), ('numeric(10,2)', 'percent'),
             ('real', 'double precision'), ('double precision', 'real'), ('double precision', 'numeric'), ('real', 'integer'),
             ('text', 'varchar'), ('text', 'varchar(10)'), ('text', 'char(10)'), ('text', 'name'), ('text', 'mood'), ('text', 'integer'), ('text', 'uuid'),
             ('text', 'jsonb'), ('text', 'bytea'), ('bytea', 'text'), ('bytea', 'bytea'), ('bytea', 'uuid'), ('uuid', 'uuid'), ('uuid', 'text'),
             ('date', 'date'), ('date', 'timestamp'), ('date', 'timestamptz'), ('timestamp(3)', 'timestamp'), ('timestamp(3)', 'timestamp(6)'),
             ('timestamp(3)', 'timestamp(0)'), ('timestamp(0)', 'timestamptz'), ('timestamptz(6)', 'timestamp'), ('timestamp(0)', 'date'),
             ('interval', 'interval'), ('interval', 'time'), ('interval', 'interval(0)'), ('bit(5)', 'bit(5)'), ('bit(5)', 'bit(4)'), ('bit(5)', 'varbit'),
             ('bit(1)', 'boolean'), ('jsonb', 'jsonb'), ('json', 'jsonb'), ('jsonb', 'text')) AS v(f, t);
SELECT carries('text', 'varchar(10)', 10) AS fits, carries('text', 'varchar(10)', 11) AS cut;
DROP FUNCTION carries;
DROP TYPE mood;
DROP DOMAIN percent;
