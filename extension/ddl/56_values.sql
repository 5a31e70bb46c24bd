-- What a mapping says of values: policies for those that PostgreSQL cannot hold, the filter, and constants of the target.
-- The functions that take text to evaluate need the shape of tandem._make_shape.

CREATE FUNCTION tandem._refuse_malformed_policies(description jsonb, key text[], policies jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  example constant text := 'For example: policies => ''{"born": "null", "note": "sidecar", "since": {"value": "1970-01-01"}}''';
  p record;
BEGIN
  IF jsonb_typeof(policies) <> 'object' THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'policies must be a JSON object of old columns', HINT = example;
  END IF;
  FOR p IN SELECT e.key AS name, e.value AS policy FROM jsonb_each(policies) AS e LOOP
    IF NOT EXISTS (SELECT FROM jsonb_array_elements(description -> 'columns') AS c WHERE c ->> 'name' = p.name) THEN
      RAISE EXCEPTION USING
        ERRCODE = 'undefined_column',
        MESSAGE = format('table "%s" has no column "%s"', description ->> 'table', p.name),
        DETAIL = 'A policy is for a column of the old table.';
    ELSIF p.policy NOT IN ('"dead_letter"', '"null"', '"sidecar"')
          AND NOT (jsonb_typeof(p.policy) = 'object' AND jsonb_typeof(p.policy -> 'value') IN ('string', 'number') AND p.policy - 'value' = '{}') THEN
      RAISE EXCEPTION USING
        ERRCODE = 'invalid_parameter_value',
        MESSAGE = format('policy %s of column "%s" is not known', p.policy, p.name),
        DETAIL = 'A policy is "dead_letter", "null", "sidecar", or {"value": "…"}.',
        HINT = example;
    ELSIF p.name = ANY (key) AND p.policy <> '"dead_letter"' THEN
      RAISE EXCEPTION USING
        ERRCODE = 'invalid_parameter_value',
        MESSAGE = format('column "%s" belongs to the key of table "%s" and can have no policy', p.name, description ->> 'table'),
        DETAIL = 'Two rows whose keys PostgreSQL cannot hold would become one; such a row is always a dead letter.';
    END IF;
  END LOOP;
END
$$;
COMMENT ON FUNCTION tandem._refuse_malformed_policies(jsonb, text[], jsonb) IS 'error unless policies are known ones, of columns that are no key';

CREATE FUNCTION tandem._value_image(value text, image_type text, column_name text) RETURNS bytea
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  send regproc := (SELECT t.typsend FROM pg_type AS t WHERE t.oid = image_type::regtype);
  same boolean;
  image bytea;
BEGIN
  EXECUTE format('SELECT CAST(%1$L AS %2$s)::text = CAST(%1$L AS %3$s)::text, %4$s(CAST(%1$L AS %2$s))', value, image_type,
                 image_type::regtype, send) INTO same, image;
  IF NOT same THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'it has more digits than the column';
  END IF;
  RETURN image;
EXCEPTION WHEN OTHERS THEN
  RAISE EXCEPTION USING
    ERRCODE = SQLSTATE,
    MESSAGE = format('value %L of the policy of column "%s" is no value of type %s', value, column_name, image_type),
    DETAIL = SQLERRM;
END
$$;
COMMENT ON FUNCTION tandem._value_image(text, text, text) IS 'binary form of a declared value, or an error that names the column';

CREATE FUNCTION tandem._with_policies(description jsonb, policies jsonb) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_set(description, '{columns}', jsonb_agg(
           c || jsonb_build_object('policy', CASE jsonb_typeof(p.policy) WHEN 'object' THEN 'value' WHEN 'string' THEN p.policy #>> '{}' ELSE 'dead_letter' END,
                                   'policy_value', p.policy ->> 'value',
                                   'policy_image', encode(tandem._value_image(p.policy ->> 'value', c ->> 'image_type', c ->> 'name'), 'hex'))
           ORDER BY (c ->> 'ordinal')::integer))
  FROM jsonb_array_elements(description -> 'columns') AS c
  CROSS JOIN LATERAL (SELECT policies -> (c ->> 'name')) AS p(policy)
$$;
COMMENT ON FUNCTION tandem._with_policies(jsonb, jsonb) IS 'the description with the policy of each column';

CREATE FUNCTION tandem._refuse_null_policies(description jsonb, target regclass, mapping tandem.mapped_column[]) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  problem record;
BEGIN
  SELECT m.target, c ->> 'name' AS old_column, c ->> 'policy' AS policy INTO problem
  FROM unnest(mapping) AS m
  JOIN pg_attribute AS a ON a.attrelid = _refuse_null_policies.target AND a.attname = m.target AND a.attnotnull
  JOIN jsonb_array_elements(description -> 'columns') AS c ON c ->> 'name' = m.source_column AND c ->> 'policy' IN ('null', 'sidecar')
  ORDER BY a.attnum LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'not_null_violation',
      MESSAGE = format('policy "%s" of column "%s" puts NULL into column "%s" of target %s, which is NOT NULL', problem.policy, problem.old_column, problem.target, target),
      HINT = format('ALTER TABLE %s ALTER %I DROP NOT NULL; or declare a value: policies => ''{"%s": {"value": "…"}}''', target, problem.target, problem.old_column);
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_null_policies(jsonb, regclass, tandem.mapped_column[]) IS 'error when a policy would put NULL where none may be';

-- The filter ---------------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem._checked_filter(description jsonb, filter text) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  checked tandem.checked_expression;
  moving text;
BEGIN
  IF filter IS NULL THEN
    RETURN NULL;
  END IF;
  BEGIN
    checked := tandem._check_expression(filter);
  EXCEPTION WHEN OTHERS THEN
    RAISE EXCEPTION USING ERRCODE = SQLSTATE, MESSAGE = format('filter cannot be used: %s', SQLERRM), DETAIL = format('The expression is: %s', filter),
      HINT = 'Give one immutable SQL expression over old columns, for example "where" => ''country = ''''DE''''''.';
  END;
  IF checked.type <> 'boolean'::regtype THEN
    RAISE EXCEPTION USING ERRCODE = 'datatype_mismatch', MESSAGE = format('filter must be of type boolean, not %s', format_type(checked.type, checked.typmod)),
      DETAIL = format('The expression is: %s', filter);
  END IF;
  -- A cascade of the old side is followed through the rows that are here; rows left out could not be followed.
  SELECT string_agg(DISTINCT format('"%s"', f ->> 'name'), ', ') INTO moving
  FROM (SELECT f FROM jsonb_array_elements(description -> 'referenced_by') AS f
        UNION ALL
        SELECT f FROM jsonb_array_elements(description -> 'foreign_keys') AS f WHERE f -> 'columns' ?| checked.uses) AS k(f)
  WHERE f ->> 'on_delete' IN ('CASCADE', 'SET NULL', 'SET DEFAULT') AND (f ->> 'parent' = description ->> 'table' OR f ->> 'on_delete' <> 'CASCADE')
     OR f ->> 'on_update' IN ('CASCADE', 'SET NULL', 'SET DEFAULT');
  IF moving IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'feature_not_supported',
      MESSAGE = format('table "%s" cannot be filtered because of cascading foreign keys: %s', description ->> 'table', moving),
      DETAIL = 'Rows that a cascade of the old side changes are looked up here; a row that the filter leaves out could not be found.',
      HINT = 'Move the table whole, or filter by columns that no cascade changes in a table that no cascade starts from.';
  END IF;
  RETURN checked.canonical;
END
$$;
COMMENT ON FUNCTION tandem._checked_filter(jsonb, text) IS 'canonical text of a filter over the old columns';

-- Constants ----------------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem._refuse_malformed_constants(columns jsonb, constants jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  twice text;
BEGIN
  IF jsonb_typeof(constants) <> 'object'
     OR EXISTS (SELECT FROM jsonb_each(CASE jsonb_typeof(constants) WHEN 'object' THEN constants ELSE '{}' END) AS e
                WHERE jsonb_typeof(e.value) NOT IN ('string', 'number')) THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'constants must be a JSON object of target columns with strings or numbers',
      HINT = 'For example: constants => ''{"shard": "eu"}''';
  END IF;
  SELECT min(k) INTO twice FROM jsonb_object_keys(constants) AS k WHERE columns ? k;
  IF twice IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'duplicate_column', MESSAGE = format('column "%s" is both in columns and in constants', twice);
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_malformed_constants(jsonb, jsonb) IS 'error unless constants are values of columns that columns does not map';

CREATE FUNCTION tandem._constant_columns(target regclass, constants jsonb) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c record;
  same boolean;
  result jsonb := '{}';
BEGIN
  FOR c IN
    SELECT e.key AS name, e.value #>> '{}' AS value, jsonb_typeof(e.value) AS kind, format_type(a.atttypid, a.atttypmod) AS type,
           format_type(a.atttypid, NULL) AS wide_type, a.attname IS NOT NULL AS known
    FROM jsonb_each(constants) AS e
    LEFT JOIN pg_attribute AS a ON a.attrelid = target AND a.attname = e.key AND a.attnum > 0 AND NOT a.attisdropped
  LOOP
    IF target IS NOT NULL AND NOT c.known THEN
      RAISE EXCEPTION USING ERRCODE = 'undefined_column', MESSAGE = format('target %s has no column "%s"', target, c.name),
        HINT = 'The keys of constants are columns of the target.';
    ELSIF target IS NOT NULL THEN
      -- A cast to varchar(2) would cut the value silently.
      EXECUTE format('SELECT CAST(%1$L AS %2$s)::text = CAST(%1$L AS %3$s)::text', c.value, c.type, c.wide_type) INTO same;
      IF NOT same THEN
        RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
          MESSAGE = format('constant %L does not fit column "%s" of target %s, of type %s', c.value, c.name, target, c.type);
      END IF;
    END IF;
    result := result || jsonb_build_object(c.name, format('CAST(%L AS %s)', c.value,
      coalesce(c.type, CASE c.kind WHEN 'string' THEN 'text' ELSE 'bigint' END)));
  END LOOP;
  RETURN result;
END
$$;
COMMENT ON FUNCTION tandem._constant_columns(regclass, jsonb) IS
  'constants as expressions for columns, of the target''s types, or text and bigint when it is yet to be created';
