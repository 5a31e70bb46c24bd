-- tandem.census: a look at every value of an old table before anything moves (docs/planning.md). The worker counts, by the names of
-- findings of docs/protocol.md section 12; here is what they mean and what is proposed.

CREATE FUNCTION tandem._census_meaning(code text, OUT finding text, OUT proposal text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT m.finding, m.proposal
  FROM (VALUES
    ('not_boolean', 'values other than 0 and 1', 'keep the number: it is no boolean'),
    ('above_bigint', 'values above 9223372036854775807', 'numeric(20,0): they do not fit bigint'),
    ('zero_date', 'zero dates', 'PostgreSQL has none: make them NULL on the old side; each such row is a dead letter'),
    ('partial_date', 'dates with year, month or day zero', 'PostgreSQL has none: mend them on the old side; each such row is a dead letter'),
    ('invalid_date', 'dates that are not in the calendar', 'mend them on the old side; each such row is a dead letter'),
    ('outside_day', 'times below 0 or from 24:00:00 on', 'interval: they do not fit time'),
    ('nul', 'text with U+0000', 'remove it on the old side, or take the column as bytes; each such row is a dead letter'),
    ('bad_text', 'bytes that are no text of the column''s character set', 'mend them on the old side; such a row is a dead letter, or arrives as the old server converts it'),
    ('looks_utf8', 'text that looks like UTF-8 read as latin1 (such as ''Ã©'' for ''é'')', 'it arrives as the old side shows it; if that is wrong, mend it there: CONVERT(CAST(CONVERT(… USING latin1) AS BINARY) USING utf8mb4)'),
    ('bad_enum', 'ENUM values that are no label (stored as '''' with number 0)', 'text: they arrive as '''''),
    ('nul_escape', 'JSON with \u0000', 'jsonb cannot hold it: mend it on the old side; each such row is a dead letter'),
    ('trailing_space', 'unique text that ends in spaces', 'the old side finds it without the spaces, PostgreSQL does not: trim it on the old side'),
    ('unique_case', 'unique text with capitals that the old side finds in any case', 'the application writes one spelling, or the target has a column of type citext or an ICU collation'),
    ('unique_accents', 'unique text with letters beyond ASCII that the old side may find without accents', 'the application writes one spelling, or the target has an ICU collation'),
    ('index_too_long', 'values too long for an index entry of PostgreSQL', 'no B-tree index on the column, or one on its md5'),
    ('orphan', 'rows without the parent that the foreign key names', 'add the parents or remove the rows on the old side: the foreign key cannot be validated'),
    ('loose_parent', 'rows that spell their parent''s key in another way', 'write the parent''s spelling on the old side: the foreign key cannot be validated'),
    ('null_in_target', 'NULLs that the target refuses', 'drop NOT NULL of the target column, or give the rows a value; each such row is a dead letter'),
    ('over_long', 'text longer than the target column', 'make the target column longer; each such row is a dead letter'),
    ('out_of_range', 'numbers that the target column cannot hold', 'a wider type for the target column; each such row is a dead letter'),
    ('unknown_label', 'values that are no label of the target''s enum', 'ALTER TYPE … ADD VALUE; each such row is a dead letter'),
    ('collides', 'groups of rows that are one value to a unique index of the target', 'another collation for the target column; all rows but one of a group become dead letters')
  ) AS m(code, finding, proposal)
  WHERE m.code = _census_meaning.code
$$;
COMMENT ON FUNCTION tandem._census_meaning(text) IS 'what a finding means, and what to do about it';

-- What values allow beyond the default mapping, when none of them is in the way.
CREATE FUNCTION tandem._census_offer(code text, c jsonb, OUT finding text, OUT proposal text, OUT expression text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT o.finding, o.proposal, o.expression
  FROM (VALUES
    ('not_boolean', 'only 0 and 1', 'boolean', format('%I <> 0', c ->> 'name')),
    ('above_bigint', 'all fit bigint', 'bigint', format('%I::bigint', c ->> 'name')),
    ('outside_day', 'all within a day', replace(c ->> 'image_type', 'interval', 'time')
       || coalesce('(' || nullif(substring(c ->> 'mysql_type' FROM '\((\d)\)'), '0') || ')', ''),
       format('%I::time%s', c ->> 'name', coalesce('(' || nullif(substring(c ->> 'mysql_type' FROM '\((\d)\)'), '0') || ')', '')))
  ) AS o(code, finding, proposal, expression)
  WHERE o.code = _census_offer.code
$$;
COMMENT ON FUNCTION tandem._census_offer(text, jsonb) IS 'a better type that all values of an old column fit, as an expression for "columns"';

CREATE FUNCTION tandem._column_limits(description jsonb, m tandem.mapped_column, a pg_attribute) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_strip_nulls(jsonb_build_object(
    'not_null', CASE WHEN a.attnotnull AND (c ->> 'nullable')::boolean THEN true END,
    'max_chars', CASE WHEN a.atttypid IN ('varchar'::regtype, 'bpchar'::regtype) AND a.atttypmod > 0 THEN a.atttypmod - 4 END,
    'min', CASE WHEN tight THEN '-' || largest END,
    'max', CASE WHEN tight THEN largest END,
    'labels', CASE WHEN m.type = 'text'::regtype THEN
                (SELECT jsonb_agg(e.enumlabel ORDER BY e.enumsortorder) FROM pg_enum AS e WHERE e.enumtypid = a.atttypid) END))
  FROM jsonb_array_elements(description -> 'columns') AS c
  CROSS JOIN LATERAL (
    -- The lowest value of an integer type is one lower than this; to count it as out of range is on the safe side.
    SELECT CASE a.atttypid
             WHEN 'smallint'::regtype THEN '32767' WHEN 'integer'::regtype THEN '2147483647' WHEN 'bigint'::regtype THEN '9223372036854775807'
             WHEN 'numeric'::regtype THEN repeat('9', greatest(tandem._whole_digits(a.atttypid, a.atttypmod), 1))
                                          || '.' || repeat('9', greatest(tandem._numeric_scale(a.atttypmod), 1)) END AS largest,
           tandem._carries_number(m.type, m.typmod, a.atttypid, a.atttypmod) = 'errors' AS tight) AS l
  WHERE c ->> 'name' = m.source_column
$$;
COMMENT ON FUNCTION tandem._column_limits(jsonb, tandem.mapped_column, pg_attribute) IS 'what a target column refuses of the old column''s values';

CREATE FUNCTION tandem._folds(a pg_attribute) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT format_type(a.atttypid, NULL) ~ '(^|\.)citext$'
      OR EXISTS (SELECT FROM pg_collation AS l WHERE l.oid = a.attcollation AND NOT l.collisdeterministic)
$$;
COMMENT ON FUNCTION tandem._folds(pg_attribute) IS 'whether different text can be equal in a column';

CREATE FUNCTION tandem._census_limits(description jsonb, target regclass, mapping tandem.mapped_column[]) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object(
    'columns', (SELECT jsonb_object_agg(l.name, l.limits)
                FROM (SELECT m.source_column AS name, tandem._column_limits(description, m, a) AS limits
                      FROM unnest(mapping) AS m
                      JOIN pg_attribute AS a ON a.attrelid = _census_limits.target AND a.attname = m.target AND a.attgenerated = ''
                      WHERE m.source_column IS NOT NULL) AS l
                WHERE l.limits <> '{}'),
    'unique', (SELECT jsonb_agg(jsonb_build_object('columns', u.columns, 'folded', u.folded))
               FROM (SELECT array_agg(m.source_column) AS columns, array_agg(m.source_column) FILTER (WHERE tandem._folds(a)) AS folded,
                            i.indnatts
                     FROM pg_index AS i
                     JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey::smallint[])
                     LEFT JOIN unnest(mapping) AS m ON m.target = a.attname
                     WHERE i.indrelid = _census_limits.target AND i.indisunique AND i.indexprs IS NULL
                     GROUP BY i.indexrelid, i.indnatts) AS u
               WHERE u.folded IS NOT NULL AND array_position(u.columns, NULL::text) IS NULL AND cardinality(u.columns) = u.indnatts))
$$;
COMMENT ON FUNCTION tandem._census_limits(jsonb, regclass, tandem.mapped_column[]) IS 'part of the question "census": what an existing target refuses';

CREATE FUNCTION tandem._census_findings(description jsonb, key text[], answer jsonb)
RETURNS TABLE (ordinal bigint, column_name text, finding text, count bigint, samples text[], proposal text, mapping jsonb)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  WITH asked AS (
    SELECT coalesce(max((a ->> 'rows')::bigint), 0) AS rows FROM jsonb_array_elements(answer) AS a
  ), old AS (
    SELECT c, c ->> 'name' AS name, n AS ordinal FROM jsonb_array_elements(description -> 'columns') WITH ORDINALITY AS e(c, n)
  ), found AS (
    SELECT a ->> 'column' AS name, a ->> 'finding' AS code, (a ->> 'count')::bigint AS count,
           ARRAY(SELECT jsonb_array_elements_text(a -> 'samples')) AS samples
    FROM jsonb_array_elements(answer) AS a WHERE a ? 'finding'
  ), bad AS (
    SELECT coalesce(o.ordinal, 10000), f.name, m.finding, f.count, f.samples, m.proposal, NULL::jsonb AS mapping
    FROM found AS f LEFT JOIN old AS o USING (name) CROSS JOIN LATERAL tandem._census_meaning(f.code) AS m
    WHERE f.count > 0
  ), good AS (
    SELECT o.ordinal, f.name, g.finding, asked.rows, '{}'::text[],
           -- A key column is taken as it is; its type can only be changed in a target made by hand.
           CASE WHEN f.name = ANY (key) THEN format('%s in a target of your own', g.proposal) ELSE g.proposal END,
           CASE WHEN f.name <> ALL (coalesce(key, '{}')) THEN jsonb_build_object(f.name, g.expression) END
    FROM asked, found AS f JOIN old AS o USING (name) CROSS JOIN LATERAL tandem._census_offer(f.code, o.c) AS g
    WHERE f.count = 0 AND asked.rows > 0 AND g.finding IS NOT NULL
  ), bits AS (
    SELECT o.ordinal, o.name, 'one bit', asked.rows, '{}'::text[], 'boolean', jsonb_build_object(o.name, format('%I::integer <> 0', o.name))
    FROM asked, old AS o WHERE o.c ->> 'mysql_type' = 'bit(1)' AND o.name <> ALL (coalesce(key, '{}'))
  ), told AS (
    SELECT * FROM bad UNION ALL SELECT * FROM good UNION ALL SELECT * FROM bits
  )
  SELECT * FROM told
  UNION ALL
  SELECT o.ordinal, o.name, NULL, asked.rows, '{}', coalesce(o.c ->> 'image_type', 'none: ' || (o.c ->> 'unmappable')), NULL
  FROM asked, old AS o WHERE o.name NOT IN (SELECT t.name FROM told AS t)
$$;
COMMENT ON FUNCTION tandem._census_findings(jsonb, text[], jsonb) IS 'the worker''s counts as rows of the census, one for each column without a finding';

CREATE FUNCTION tandem._census_key(description jsonb) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN tandem._choose_key(description);
EXCEPTION WHEN invalid_table_definition THEN
  RAISE NOTICE USING MESSAGE = SQLERRM, DETAIL = 'It is read in one statement, and there are no sample keys.',
    HINT = 'It cannot be moved like that; tandem.add_table says what to do.';
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION tandem._census_key(jsonb) IS 'key by which the census cuts the table into slices, NULL when it has none';

CREATE FUNCTION tandem.census(
  source text,
  table_name text,
  target regclass DEFAULT NULL,
  columns jsonb DEFAULT NULL,
  sample integer DEFAULT 3
) RETURNS TABLE (column_name text, finding text, count bigint, samples text[], proposal text, mapping jsonb)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  from_source tandem.source := tandem._source_named(source);
  description jsonb := tandem._describe_one(from_source, table_name);
  key text[] := tandem._census_key(description);
  limits jsonb;
  answer jsonb;
BEGIN
  IF sample IS NULL OR sample NOT BETWEEN 0 AND 100 THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'sample must be from 0 to 100';
  END IF;
  columns := coalesce(columns, '{}');
  PERFORM tandem._refuse_malformed_columns(columns);
  IF target IS NOT NULL THEN
    PERFORM tandem._refuse_unmappable(description);
    PERFORM tandem._make_shape(description);
    PERFORM tandem._refuse_unknown_columns(description, target, columns);
    limits := tandem._census_limits(description, target, ARRAY(SELECT tandem._map_columns(description, target, columns)));
    PERFORM tandem._drop_shape();
  END IF;
  -- Silence of the old side for so long means that it is stuck; a slice takes a fraction of a second.
  SELECT jsonb_agg(a) INTO answer
  FROM tandem._ask(jsonb_build_object('kind', 'census', 'table', description ->> 'table', 'key', to_jsonb(coalesce(key, '{}')),
                                      'sample', sample, 'limits', jsonb_strip_nulls(limits)) || tandem._connection(from_source),
                   interval '30 min') AS a;
  RETURN QUERY
    SELECT f.column_name, f.finding, f.count, f.samples, f.proposal, f.mapping
    FROM tandem._census_findings(description, key, answer) AS f ORDER BY f.ordinal, f.finding;
END
$$;
COMMENT ON FUNCTION tandem.census(text, text, regclass, jsonb, integer) IS
  'counts what is special in the values of an old table before it is added, with sample keys and a proposal; mapping is a piece of "columns".
target, columns: as for tandem.add_table; then it also finds what that target would refuse. A column without a finding has one row, with its default type';

CREATE FUNCTION tandem.census("table" text) RETURNS TABLE (column_name text, finding text, count bigint, samples text[], proposal text, mapping jsonb)
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
  SELECT n.*
  FROM tandem.source_table AS t JOIN tandem.source AS s USING (source_id)
  CROSS JOIN LATERAL tandem.census(s.name, t.name, t.target,
                                   (SELECT jsonb_object_agg(m.name, coalesce(m.source_column, m.expression))
                                    FROM tandem.target_column AS m WHERE m.table_id = t.table_id AND m.written)) AS n
  WHERE t.table_id = tandem._table_id("table")
$$;
COMMENT ON FUNCTION tandem.census(text) IS 'the same for a table that is already added, with its target and mapping';
