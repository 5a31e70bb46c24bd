-- How the columns of a target come from the old columns: by equal name, by another old column, or by an expression.
-- All functions here need the shape of tandem._make_shape.

CREATE TYPE tandem.mapped_column AS (target name, source_column text, expression text, type oid, typmod integer, uses text[]);
COMMENT ON TYPE tandem.mapped_column IS 'a written target column, where its value comes from, and the type of that value';

CREATE FUNCTION tandem._old_column(description jsonb, wanted text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE WHEN bool_or(c ->> 'name' = wanted) THEN wanted
              WHEN count(*) = 1 THEN min(c ->> 'name') END
  FROM jsonb_array_elements(description -> 'columns') AS c
  WHERE lower(c ->> 'name') = lower(wanted) OR tandem._column_name(c ->> 'name') = wanted
$$;
COMMENT ON FUNCTION tandem._old_column(jsonb, text) IS
  'old column of that name, in its own spelling; NULL if there is none or only several that differ in case';

CREATE FUNCTION tandem._plain(target name, source_column text) RETURNS tandem.mapped_column
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT ROW(target, source_column, NULL, a.atttypid, a.atttypmod, ARRAY[a.attname::text])::tandem.mapped_column
  FROM pg_attribute AS a
  WHERE a.attrelid = to_regclass('pg_temp.tandem_shape') AND a.attname = tandem._column_name(source_column) AND NOT a.attisdropped
$$;
COMMENT ON FUNCTION tandem._plain(name, text) IS 'a target column that takes an old column as it is';

CREATE FUNCTION tandem._mapped(description jsonb, target name, value text) RETURNS tandem.mapped_column
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  source_column text := tandem._old_column(description, value);
  checked tandem.checked_expression;
BEGIN
  IF source_column IS NOT NULL THEN
    RETURN tandem._plain(target, source_column);
  END IF;
  checked := tandem._expression(value, target);
  RETURN ROW(target, NULL, checked.canonical, checked.type, checked.typmod, checked.uses)::tandem.mapped_column;
END
$$;
COMMENT ON FUNCTION tandem._mapped(jsonb, name, text) IS
  'a target column as "columns" asks for it: the name of an old column, or else an expression';

-- PostGIS --------------------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem._geometry_type() RETURNS oid
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT t.oid FROM pg_extension AS e JOIN pg_type AS t ON t.typnamespace = e.extnamespace AND t.typname = 'geometry' WHERE e.extname = 'postgis'
$$;
COMMENT ON FUNCTION tandem._geometry_type() IS 'type geometry of PostGIS, NULL where it is not installed';

CREATE FUNCTION tandem._as_geometry(c jsonb) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  -- PostGIS would give an SRID above 998999 another number. Four bytes are no WKB: such a row is a dead letter.
  SELECT format('CAST(CASE WHEN get_byte(%1$I, 4) < 32 OR get_byte(%1$I, 8) = 0 AND get_byte(%1$I, 7) < 15 THEN %1$I ELSE substr(%1$I, 1, 4) END AS %2$s)',
                tandem._column_name(c ->> 'name'), format('%I.%I', n.nspname, t.typname))
  FROM pg_type AS t JOIN pg_namespace AS n ON n.oid = t.typnamespace
  WHERE t.oid = tandem._geometry_type() AND c ->> 'image_type' = 'bytea'
    AND c ->> 'data_type' IN ('geometry', 'point', 'linestring', 'polygon', 'multipoint', 'multilinestring', 'multipolygon', 'geometrycollection', 'geomcollection')
$$;
COMMENT ON FUNCTION tandem._as_geometry(jsonb) IS 'expression that makes a geometry of PostGIS of a spatial old column; NULL for other columns, or without PostGIS';

CREATE FUNCTION tandem._spatial_source(description jsonb, m tandem.mapped_column) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT c ->> 'name' FROM jsonb_array_elements(description -> 'columns') AS c
  WHERE m.source_column IS NULL AND m.type = tandem._geometry_type() AND m.uses = ARRAY[tandem._column_name(c ->> 'name')::text] AND tandem._as_geometry(c) IS NOT NULL
$$;
COMMENT ON FUNCTION tandem._spatial_source(jsonb, tandem.mapped_column) IS 'spatial old column that a geometry column of the target takes, NULL if it is something else';

CREATE FUNCTION tandem._taken(description jsonb, target name, source_column text, type oid) RETURNS tandem.mapped_column
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  expression text := CASE WHEN type = tandem._geometry_type() THEN
    (SELECT tandem._as_geometry(c) FROM jsonb_array_elements(description -> 'columns') AS c WHERE c ->> 'name' = source_column) END;
BEGIN
  RETURN CASE WHEN expression IS NULL THEN tandem._plain(target, source_column) ELSE tandem._mapped(description, target, expression) END;
END
$$;
COMMENT ON FUNCTION tandem._taken(jsonb, name, text, oid) IS 'a target column of a type that takes an old column: as it is, or a spatial one as a geometry of PostGIS';

CREATE FUNCTION tandem._refuse_malformed_columns(columns jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF jsonb_typeof(columns) <> 'object'
     OR EXISTS (SELECT FROM jsonb_each(CASE jsonb_typeof(columns) WHEN 'object' THEN columns ELSE '{}' END) AS e
                WHERE jsonb_typeof(e.value) NOT IN ('string', 'null')) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'invalid_parameter_value',
      MESSAGE = 'columns must be a JSON object of target columns with strings or null',
      HINT = 'For example: columns => ''{"email_address": "email", "full_name": "first || '''' '''' || last", "legacy": null}''';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_malformed_columns(jsonb) IS 'error unless the mapping is an object of strings and nulls';

CREATE FUNCTION tandem._refuse_unknown_columns(description jsonb, target regclass, columns jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  unknown text;
  generated text;
BEGIN
  SELECT string_agg(format('"%s"', e.key), ', ') FILTER (WHERE a.attname IS NULL AND NOT left_out),
         min(e.key) FILTER (WHERE a.attgenerated <> '' AND jsonb_typeof(e.value) = 'string' AND tandem._old_column(description, e.value #>> '{}') IS NULL)
    INTO unknown, generated
  FROM jsonb_each(columns) AS e
  -- {"legacy": null} of a target that was just created: the old column was left out.
  CROSS JOIN LATERAL (SELECT jsonb_typeof(e.value) = 'null' AND tandem._old_column(description, e.key) IS NOT NULL AS left_out) AS l
  LEFT JOIN pg_attribute AS a ON a.attrelid = target AND a.attname = e.key AND a.attnum > 0 AND NOT a.attisdropped;
  IF unknown IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'undefined_column',
      MESSAGE = format('target %s has no column %s', target, unknown),
      HINT = 'The keys of columns are columns of the target, the values are old columns or expressions over them.';
  ELSIF generated IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'generated_always',
      MESSAGE = format('column "%s" of target %s is generated', generated, target),
      HINT = 'PostgreSQL computes it by itself; leave it out of columns, or name the old column that it is to be compared with.';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_unknown_columns(jsonb, regclass, jsonb) IS
  'error when the mapping names a column that the target does not have or computes itself';

CREATE FUNCTION tandem._map_columns(description jsonb, target regclass, columns jsonb) RETURNS SETOF tandem.mapped_column
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  a pg_attribute;
  written name;
  source_column text;
  compared tandem.mapped_column;
BEGIN
  FOR a IN
    SELECT t.* FROM pg_attribute AS t WHERE t.attrelid = target AND t.attnum > 0 AND NOT t.attisdropped ORDER BY t.attnum
  LOOP
    written := a.attname;
    IF a.attgenerated <> '' THEN
      compared := tandem._plain(written, tandem._old_column(description, CASE WHEN columns ? written THEN columns ->> written ELSE written END));
      IF compared.target IS NOT NULL AND tandem._carries(compared.type, compared.typmod, a.atttypid, a.atttypmod,
                                                          tandem._longest(description, compared.source_column)) IN ('all', 'errors') THEN
        RETURN NEXT compared;
      END IF;
    ELSIF columns ? written THEN
      IF columns ->> written IS NOT NULL THEN
        source_column := tandem._old_column(description, columns ->> written);
        RETURN NEXT CASE WHEN source_column IS NULL THEN tandem._mapped(description, written, columns ->> written)
                         ELSE tandem._taken(description, written, source_column, a.atttypid) END;
      END IF;
    ELSE
      source_column := tandem._old_column(description, written);
      IF source_column IS NOT NULL THEN
        RETURN NEXT tandem._taken(description, written, source_column, a.atttypid);
      END IF;
    END IF;
  END LOOP;
END
$$;
COMMENT ON FUNCTION tandem._map_columns(jsonb, regclass, jsonb) IS
  'columns of an existing target: those that columns names, the others by equal name; also generated ones that can be compared with an old column, which are not written';

CREATE FUNCTION tandem._written(target regclass, mapping tandem.mapped_column[]) RETURNS tandem.mapped_column[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT ARRAY(SELECT ROW(m.target, m.source_column, m.expression, m.type, m.typmod, m.uses)::tandem.mapped_column
               FROM unnest(mapping) WITH ORDINALITY AS m(target, source_column, expression, type, typmod, uses, n)
               JOIN pg_attribute AS a ON a.attrelid = _written.target AND a.attname = m.target WHERE a.attgenerated = '' ORDER BY m.n)
$$;
COMMENT ON FUNCTION tandem._written(regclass, tandem.mapped_column[]) IS 'those of the mapped columns that are written';

CREATE FUNCTION tandem._new_columns(description jsonb, columns jsonb) RETURNS SETOF tandem.mapped_column
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  old_column text;
  short name;
  renamed name;
BEGIN
  FOR old_column IN SELECT c ->> 'name' FROM jsonb_array_elements(description -> 'columns') AS c ORDER BY (c ->> 'ordinal')::integer LOOP
    SELECT min(e.key) INTO renamed FROM jsonb_each_text(columns) AS e WHERE tandem._old_column(description, e.value) = old_column;
    short := tandem._column_name(old_column);
    IF columns ? short THEN
      IF columns ->> short IS NOT NULL THEN
        RETURN NEXT tandem._mapped(description, short, columns ->> short);
      END IF;
    ELSE
      -- A spatial column is a geometry where PostGIS is installed.
      RETURN NEXT tandem._taken(description, coalesce(renamed, short), old_column, tandem._geometry_type());
    END IF;
  END LOOP;
  -- What is left of columns: values that are new, or a second copy of an old column.
  RETURN QUERY
    SELECT m.*
    FROM jsonb_each_text(columns) AS e
    CROSS JOIN LATERAL tandem._mapped(description, e.key::name, e.value) AS m
    WHERE e.value IS NOT NULL
      AND NOT EXISTS (SELECT FROM jsonb_array_elements(description -> 'columns') AS c WHERE tandem._column_name(c ->> 'name') = e.key)
      AND e.key IS DISTINCT FROM (SELECT min(o.key) FROM jsonb_each_text(columns) AS o
                                  WHERE tandem._old_column(description, o.value) = tandem._old_column(description, e.value)
                                    AND NOT columns ? tandem._column_name(tandem._old_column(description, e.value)));
END
$$;
COMMENT ON FUNCTION tandem._new_columns(jsonb, jsonb) IS
  'columns of a target that is to be created: the old ones, renamed, replaced or left out as columns says, then the new ones';

CREATE FUNCTION tandem._longest(description jsonb, old_column text) RETURNS bigint
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT (c ->> 'length')::bigint FROM jsonb_array_elements(description -> 'columns') AS c WHERE c ->> 'name' = old_column
$$;
COMMENT ON FUNCTION tandem._longest(jsonb, text) IS 'most characters that an old text column can hold, NULL if that is not known';

CREATE FUNCTION tandem._refuse_changed_values(description jsonb, target regclass, mapping tandem.mapped_column[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  problems text;
  way_out jsonb;
  tight text;
BEGIN
  SELECT string_agg(format('%s: %s → %s', v.target, format_type(v.type, v.typmod), format_type(v.atttypid, v.atttypmod)), E'\n' ORDER BY v.attnum)
           FILTER (WHERE v.verdict IN ('changes', 'none')),
         jsonb_object_agg(v.target, CASE
           WHEN v.source_column IS NOT NULL THEN tandem._suggested_expression(v.source_column, v.type, v.atttypid, v.atttypmod)
           ELSE format('(%s)::%s', v.expression, format_type(v.atttypid, v.atttypmod)) END)
           FILTER (WHERE v.verdict IN ('changes', 'none')),
         string_agg(format('"%s"', v.target), ', ' ORDER BY v.attnum) FILTER (WHERE v.verdict = 'errors')
    INTO problems, way_out, tight
  FROM (SELECT m.*, a.attnum, a.atttypid, a.atttypmod,
               tandem._carries(m.type, m.typmod, a.atttypid, a.atttypmod, tandem._longest(description, m.source_column)) AS verdict
        FROM unnest(mapping) AS m JOIN pg_attribute AS a ON a.attrelid = _refuse_changed_values.target AND a.attname = m.target) AS v;
  IF problems IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'datatype_mismatch',
      MESSAGE = format('columns of target %s cannot hold every value of table "%s" unchanged', target, description ->> 'table'),
      DETAIL = problems,
      HINT = format('Change the type of the target column, or declare the conversion if it is wanted: columns => %L', way_out);
  ELSIF tight IS NOT NULL THEN
    RAISE NOTICE USING
      MESSAGE = format('columns %s of target %s are narrower than in table "%s"', tight, target, description ->> 'table'),
      DETAIL = 'No value is changed: a row with a value that does not fit becomes a dead letter.';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_changed_values(jsonb, regclass, tandem.mapped_column[]) IS
  'error when a target column would change values silently; the hint holds the "columns" that declares the change';

CREATE FUNCTION tandem._refuse_unwritten(target regclass, mapping tandem.mapped_column[]) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  unwritten text;
BEGIN
  SELECT string_agg(format('"%s"', a.attname), ', ' ORDER BY a.attnum) INTO unwritten
  FROM pg_attribute AS a
  WHERE a.attrelid = target AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull AND NOT a.atthasdef AND a.attidentity = ''
    AND a.attname NOT IN (SELECT m.target FROM unnest(mapping) AS m);
  IF unwritten IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'not_null_violation',
      MESSAGE = format('target %s has NOT NULL columns that nothing writes: %s', target, unwritten),
      HINT = 'Map them with columns, give them a default, or drop NOT NULL.';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_unwritten(regclass, tandem.mapped_column[]) IS
  'error when a NOT NULL column without default gets no value';

CREATE FUNCTION tandem._note_unmoved(description jsonb, target regclass, mapping tandem.mapped_column[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  unmoved text;
  may_be_null text;
BEGIN
  SELECT string_agg(format('"%s"', c ->> 'name'), ', ' ORDER BY (c ->> 'ordinal')::integer) INTO unmoved
  FROM jsonb_array_elements(description -> 'columns') AS c
  WHERE NOT EXISTS (SELECT FROM unnest(mapping) AS m WHERE tandem._column_name(c ->> 'name') = ANY (m.uses));
  IF unmoved IS NOT NULL THEN
    RAISE NOTICE USING
      MESSAGE = format('columns of table "%s" that are not moved: %s', description ->> 'table', unmoved),
      DETAIL = format('Target %s has no column of that name, and columns does not use them.', target);
  END IF;
  SELECT string_agg(format('"%s"', m.target), ', ') INTO may_be_null
  FROM unnest(mapping) AS m
  JOIN pg_attribute AS a ON a.attrelid = _note_unmoved.target AND a.attname = m.target AND a.attnotnull
  JOIN jsonb_array_elements(description -> 'columns') AS c ON c ->> 'name' = m.source_column AND (c ->> 'nullable')::boolean;
  IF may_be_null IS NOT NULL THEN
    RAISE NOTICE USING
      MESSAGE = format('columns of target %s are NOT NULL but may be NULL in table "%s": %s', target, description ->> 'table', may_be_null),
      DETAIL = 'A row with a NULL there becomes a dead letter.';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._note_unmoved(jsonb, regclass, tandem.mapped_column[]) IS
  'notices about old columns that are left behind and NULLs that will be refused';
