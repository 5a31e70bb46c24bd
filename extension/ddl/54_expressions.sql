-- Expressions over the old columns. They are given as text, checked and typed by PostgreSQL itself in a temporary table that has the old
-- columns with their image types (the "shape"), and stored as the canonical text that comes back from the parser.
--
-- Why a generated column of that table: PostgreSQL then demands what apply and reconciliation need, namely one expression over the
-- columns of this row alone, immutable, without subquery, aggregate or set. All of it runs with the rights of the caller.

CREATE TYPE tandem.checked_expression AS (canonical text, type oid, typmod integer, uses text[]);
COMMENT ON TYPE tandem.checked_expression IS 'an expression after the check: canonical text, its type, the old columns it reads';

CREATE FUNCTION tandem._make_shape(description jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM tandem._drop_shape();
  EXECUTE (SELECT format('CREATE TEMPORARY TABLE tandem_shape (%s)',
                         string_agg(format('%I %s', tandem._column_name(c ->> 'name'), c ->> 'image_type'), ', ' ORDER BY (c ->> 'ordinal')::integer))
           FROM jsonb_array_elements(description -> 'columns') AS c);
END
$$;
COMMENT ON FUNCTION tandem._make_shape(jsonb) IS 'creates pg_temp.tandem_shape: the old columns with their image types, no rows';

CREATE FUNCTION tandem._drop_shape() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF to_regclass('pg_temp.tandem_shape') IS NOT NULL THEN
    DROP TABLE pg_temp.tandem_shape CASCADE;
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._drop_shape() IS 'drops what tandem._make_shape made';

CREATE FUNCTION tandem._refuse_several_statements(expression text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  plan refcursor;
BEGIN
  -- A cursor takes one query only and runs nothing before the first fetch. Two parentheses here, one in the generated column: text
  -- that closes a parenthesis to go on with something else fits at most one of the two places.
  OPEN plan FOR EXECUTE format(E'SELECT ((%s\n)) FROM pg_temp.tandem_shape', expression);
  CLOSE plan;
END
$$;
COMMENT ON FUNCTION tandem._refuse_several_statements(text) IS 'error unless the text is one expression';

CREATE FUNCTION tandem._check_expression(expression text) RETURNS tandem.checked_expression
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  result tandem.checked_expression;
  value_column constant name := 'tandem value '; -- names of the old side never end in a space
BEGIN
  PERFORM tandem._refuse_several_statements(expression);
  EXECUTE format(E'CREATE TEMPORARY VIEW tandem_value AS SELECT ((%s\n)) AS value FROM pg_temp.tandem_shape', expression);
  SELECT a.atttypid, a.atttypmod INTO result.type, result.typmod
  FROM pg_attribute AS a WHERE a.attrelid = 'pg_temp.tandem_value'::regclass AND a.attnum = 1;
  DROP VIEW pg_temp.tandem_value;

  EXECUTE format(E'ALTER TABLE pg_temp.tandem_shape ADD COLUMN %I %s GENERATED ALWAYS AS (%s\n) STORED',
                 value_column, format_type(result.type, result.typmod), expression);
  SELECT pg_get_expr(d.adbin, d.adrelid),
         ARRAY(SELECT c.attname FROM pg_depend AS p JOIN pg_attribute AS c ON c.attrelid = p.refobjid AND c.attnum = p.refobjsubid
               WHERE p.classid = 'pg_attrdef'::regclass AND p.objid = d.oid
                 AND p.refclassid = 'pg_class'::regclass AND p.refobjid = d.adrelid AND p.refobjsubid NOT IN (0, d.adnum)
               ORDER BY c.attnum)
    INTO result.canonical, result.uses
  FROM pg_attrdef AS d JOIN pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
  WHERE d.adrelid = 'pg_temp.tandem_shape'::regclass AND a.attname = value_column;
  EXECUTE format('ALTER TABLE pg_temp.tandem_shape DROP COLUMN %I', value_column);
  RETURN result;
END
$$;
COMMENT ON FUNCTION tandem._check_expression(text) IS
  'parses an expression over the columns of pg_temp.tandem_shape; errors are those of PostgreSQL';

CREATE FUNCTION tandem._expression(expression text, target_column name) RETURNS tandem.checked_expression
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN tandem._check_expression(expression);
EXCEPTION WHEN OTHERS THEN
  RAISE EXCEPTION USING
    ERRCODE = SQLSTATE,
    MESSAGE = format('value of column "%s" cannot be used: %s', target_column, SQLERRM),
    DETAIL = format('The expression is: %s', expression),
    HINT = 'Give the name of an old column, or one immutable SQL expression over old columns; qualify functions and types that are not built in with their schema.';
END
$$;
COMMENT ON FUNCTION tandem._expression(text, name) IS 'checks the expression for a target column, or an error that names both';
