-- Which PostgreSQL column can hold every value of an image type, unchanged. Pure rules, without a look at tables.
--
-- A verdict is one of
--   all      every value arrives unchanged
--   errors   a value that does not fit raises an error, so it becomes a dead letter and is never changed
--   changes  some value would be changed silently, or would depend on a setting such as TimeZone
--   none     there is no assignment from one type to the other

CREATE FUNCTION tandem._numeric_scale(typmod integer) RETURNS integer
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT (((typmod - 4) & 2047) # 1024) - 1024 $$;
COMMENT ON FUNCTION tandem._numeric_scale(integer) IS 'scale in the type modifier of a numeric';

CREATE FUNCTION tandem._whole_digits(type oid, typmod integer) RETURNS integer
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE type
    WHEN 'smallint'::regtype THEN 5
    WHEN 'integer'::regtype THEN 10
    WHEN 'bigint'::regtype THEN 19
    WHEN 'numeric'::regtype THEN CASE WHEN typmod = -1 THEN 131072 ELSE ((typmod - 4) >> 16 & 65535) - tandem._numeric_scale(typmod) END
  END
$$;
COMMENT ON FUNCTION tandem._whole_digits(oid, integer) IS 'digits before the decimal point that an exact number type may have';

CREATE FUNCTION tandem._carries_number(from_type oid, from_mod integer, to_type oid, to_mod integer) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  whole   constant oid[] := ARRAY['smallint', 'integer', 'bigint']::regtype[]::oid[];
  floats  constant oid[] := ARRAY['real', 'double precision']::regtype[]::oid[];
  numeric_type constant oid := 'numeric'::regtype;
  from_scale integer := CASE WHEN from_type = ANY (whole) THEN 0 WHEN from_mod = -1 THEN 16383 ELSE tandem._numeric_scale(from_mod) END;
  fits boolean := tandem._whole_digits(from_type, from_mod) <= tandem._whole_digits(to_type, to_mod);
BEGIN
  IF from_type = ANY (floats) THEN
    RETURN CASE WHEN to_type = from_type OR to_type = 'double precision'::regtype THEN 'all'
                WHEN to_type = ANY (floats || whole || numeric_type) THEN 'changes' END;
  ELSIF to_type = ANY (floats) THEN
    -- A real holds 24 binary digits, a double 53.
    RETURN CASE WHEN from_type = 'smallint'::regtype THEN 'all'
                WHEN from_type = 'integer'::regtype AND to_type = 'double precision'::regtype THEN 'all'
                ELSE 'changes' END;
  ELSIF to_type = ANY (whole) THEN
    RETURN CASE WHEN from_scale > 0 THEN 'changes' WHEN from_type = ANY (whole) AND fits THEN 'all' ELSE 'errors' END;
  ELSIF to_type = numeric_type THEN
    RETURN CASE WHEN to_mod = -1 THEN 'all'
                WHEN tandem._numeric_scale(to_mod) < from_scale THEN 'changes'
                WHEN fits THEN 'all' ELSE 'errors' END;
  END IF;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION tandem._carries_number(oid, integer, oid, integer) IS 'verdict for numbers, NULL for a target that is no number';

CREATE FUNCTION tandem._carries_text(from_mod integer, to_type oid, to_mod integer, longest bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE
    WHEN to_type = 'text'::regtype THEN 'all'
    -- Assignment to varchar(n) cuts off trailing spaces without an error.
    WHEN to_type = 'varchar'::regtype THEN
      CASE WHEN to_mod = -1 OR coalesce(longest, nullif(from_mod, -1) - 4) <= to_mod - 4 THEN 'all' ELSE 'changes' END
    WHEN to_type IN ('char'::regtype, '"char"'::regtype, 'name'::regtype) THEN 'changes'
    WHEN (SELECT t.typtype = 'e' FROM pg_type AS t WHERE t.oid = to_type) THEN 'errors'
  END
$$;
COMMENT ON FUNCTION tandem._carries_text(integer, oid, integer, bigint) IS
  'verdict for text of at most so many characters, NULL for a target that is no text';

CREATE FUNCTION tandem._carries_time(from_type oid, from_mod integer, to_type oid, to_mod integer) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE
    WHEN to_type = from_type THEN
      CASE WHEN from_type = 'interval'::regtype THEN
             CASE WHEN to_mod IN (-1, from_mod) THEN 'all' ELSE 'changes' END
           WHEN to_mod = -1 OR to_mod >= 6 OR (from_mod <> -1 AND from_mod <= to_mod) THEN 'all'
           ELSE 'changes' END
    WHEN from_type = 'date'::regtype AND to_type = 'timestamp'::regtype THEN 'all'
    ELSE 'changes'
  END
$$;
COMMENT ON FUNCTION tandem._carries_time(oid, integer, oid, integer) IS 'verdict for dates, times and intervals';

CREATE FUNCTION tandem._carries_cast(from_type oid, from_mod integer, to_type oid, to_mod integer) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE
    WHEN from_type = to_type THEN CASE WHEN to_mod IN (-1, from_mod) THEN 'all' ELSE 'errors' END
    WHEN from_type = 'bit'::regtype AND to_type = 'varbit'::regtype THEN CASE WHEN to_mod = -1 OR from_mod <= to_mod THEN 'all' ELSE 'errors' END
    ELSE coalesce((SELECT CASE c.castmethod WHEN 'b' THEN 'all' ELSE 'changes' END FROM pg_cast AS c
                   WHERE c.castsource = from_type AND c.casttarget = to_type AND c.castcontext IN ('i', 'a')), 'none')
  END
$$;
COMMENT ON FUNCTION tandem._carries_cast(oid, integer, oid, integer) IS
  'verdict for all other types: only the same type or a binary-coercible one is exact';

CREATE FUNCTION tandem._carries(from_type oid, from_mod integer, to_type oid, to_mod integer, longest bigint DEFAULT NULL) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  numbers constant oid[] := ARRAY['smallint', 'integer', 'bigint', 'numeric', 'real', 'double precision']::regtype[]::oid[];
  texts   constant oid[] := ARRAY['text', 'varchar']::regtype[]::oid[];
  times   constant oid[] := ARRAY['date', 'timestamp', 'timestamptz', 'interval', 'time', 'timetz']::regtype[]::oid[];
  exact_in_text constant oid[] := ARRAY['smallint', 'integer', 'bigint', 'numeric', 'uuid', 'json']::regtype[]::oid[];
  kind    "char";
  base    oid;
  base_mod integer;
  verdict text;
BEGIN
  SELECT t.typtype, t.typbasetype, t.typtypmod INTO kind, base, base_mod FROM pg_type AS t WHERE t.oid = to_type;
  IF kind = 'd' THEN
    -- A domain may refuse a value, but it does not change one that its base type holds.
    verdict := tandem._carries(from_type, from_mod, base, base_mod, longest);
    RETURN CASE verdict WHEN 'all' THEN 'errors' ELSE verdict END;
  END IF;
  IF from_type = ANY (numbers) THEN
    verdict := tandem._carries_number(from_type, from_mod, to_type, to_mod);
  ELSIF from_type = ANY (texts) THEN
    verdict := tandem._carries_text(from_mod, to_type, to_mod, longest);
  ELSIF from_type = ANY (times) AND to_type = ANY (times || texts) THEN
    verdict := tandem._carries_time(from_type, from_mod, to_type, to_mod);
  END IF;
  IF verdict IS NULL AND from_type = ANY (exact_in_text) AND to_type = ANY (texts) THEN
    verdict := CASE WHEN to_mod = -1 THEN 'all' ELSE 'errors' END;
  END IF;
  RETURN coalesce(verdict, tandem._carries_cast(from_type, from_mod, to_type, to_mod));
END
$$;
COMMENT ON FUNCTION tandem._carries(oid, integer, oid, integer, bigint) IS
  'whether a column of the second type holds every value of the first: all, errors, changes or none';

CREATE FUNCTION tandem._suggested_expression(column_name text, from_type oid, to_type oid, to_mod integer) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE
    WHEN to_type = 'boolean'::regtype AND from_type = 'bit'::regtype THEN format('%I::integer <> 0', column_name)
    WHEN to_type = 'boolean'::regtype AND from_type = ANY (ARRAY['smallint', 'integer', 'bigint', 'numeric']::regtype[]) THEN
      format('%I <> 0', column_name)
    WHEN (from_type, to_type) IN ((regtype 'timestamp', regtype 'timestamptz'), (regtype 'timestamptz', regtype 'timestamp')) THEN
      format('(%I AT TIME ZONE ''UTC'')::%s', column_name, format_type(to_type, to_mod))
    WHEN (from_type, to_type) = (regtype 'timestamptz', regtype 'date') THEN format('(%I AT TIME ZONE ''UTC'')::date', column_name)
    WHEN (from_type, to_type) = (regtype 'bytea', regtype 'uuid') THEN format('encode(%I, ''hex'')::uuid', column_name)
    WHEN (from_type, to_type) = (regtype 'bytea', regtype 'text') THEN format('convert_from(%I, ''UTF8'')', column_name)
    ELSE format('%I::%s', column_name, format_type(to_type, to_mod))
  END
$$;
COMMENT ON FUNCTION tandem._suggested_expression(text, oid, oid, integer) IS
  'expression that declares a change of type which is never done by itself; shown in hints';
