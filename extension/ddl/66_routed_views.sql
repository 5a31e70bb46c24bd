-- Routed views: one view over the target and the old table (through mysql_fdw) that follows the table's read strategy (docs/phases.md).
--
--   SELECT … FROM target           WHERE tandem._reads(17, 'new')
--   UNION ALL
--   SELECT … FROM foreign table    WHERE tandem._reads(17, 'old') AND (NOT tandem._reads(17, 'new_fallback_old') OR the target has no such key)
--   UNION ALL                      -- where a version column is declared
--   SELECT … FROM (target FULL JOIN foreign table) WHERE tandem._reads(17, 'merge')
--
-- _reads is folded by the planner, so the branch that is not read is not in the plan, and a change of strategy makes plans invalid.

CREATE TABLE tandem.routed_view (
  view            regclass PRIMARY KEY,
  table_id        integer NOT NULL REFERENCES tandem.source_table ON DELETE CASCADE,
  foreign_table   regclass NOT NULL,
  created_foreign boolean NOT NULL,
  merges_by       text
);
COMMENT ON TABLE tandem.routed_view IS 'views made by tandem.create_routed_view; a row may outlive its view';
COMMENT ON COLUMN tandem.routed_view.created_foreign IS 'the foreign table was created with the view and goes with it';
COMMENT ON COLUMN tandem.routed_view.merges_by IS 'version column by which the view merges both sides; NULL: it cannot';
SELECT pg_catalog.pg_extension_config_dump('tandem.routed_view', '');
GRANT SELECT, INSERT, UPDATE (merges_by), DELETE ON tandem.routed_view TO tandem_admin;

CREATE FUNCTION tandem._reads(table_id integer, part text) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_reads';
COMMENT ON FUNCTION tandem._reads(integer, text) IS
  'whether a routed view reads a side (old, new) or reads by a strategy; folded while the view is planned, hence for everybody who reads such a view';

CREATE FUNCTION tandem._forget_plans(relation regclass) RETURNS void
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'tandem_forget_plans';
COMMENT ON FUNCTION tandem._forget_plans(regclass) IS 'plans that read the relation are made again from the commit on';

CREATE FUNCTION tandem._reroute() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM tandem._forget_plans(t.target) FROM tandem.source_table AS t WHERE t.table_id = NEW.table_id;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION tandem._reroute() IS 'trigger: routed views follow the strategy from the commit on, in prepared statements too';
CREATE TRIGGER reroute AFTER UPDATE OF phase, read_strategy ON tandem.phase FOR EACH ROW EXECUTE FUNCTION tandem._reroute();
ALTER TABLE tandem.phase ENABLE ALWAYS TRIGGER reroute;

-- --- the foreign table ------------------------------------------------------------------------------------------------------------

-- What mysql_fdw must do in its session so that it reads what tandem-sync reads: all characters, and times in UTC.
CREATE FUNCTION tandem._prepare_server(server name) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  command text;
  needed constant text := 'SET time_zone = ''+00:00'', NAMES utf8mb4';
  alter_it text;
BEGIN
  SELECT o.option_value INTO command FROM pg_foreign_server AS s, pg_options_to_table(s.srvoptions) AS o
  WHERE s.srvname = server AND o.option_name = 'init_command';
  alter_it := format('ALTER SERVER %I OPTIONS (%s init_command %L)', server, CASE WHEN command IS NULL THEN 'ADD' ELSE 'SET' END, needed);
  IF command ~* 'time_zone\s*=\s*''\+00:00''' AND command ~* 'names\s+''?utf8mb4' THEN
    RETURN;
  ELSIF command IS NULL AND (SELECT pg_has_role(current_user, s.srvowner, 'USAGE') FROM pg_foreign_server AS s WHERE s.srvname = server) THEN
    EXECUTE alter_it;
    RAISE NOTICE USING MESSAGE = format('foreign server "%s" now begins its sessions with: %s', server, needed),
      DETAIL = 'Otherwise mysql_fdw reads times in the time zone of the old server, and "?" for characters beyond U+FFFF.';
  ELSE
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('foreign server "%s" does not read the old side as it is', server),
      DETAIL = 'Without a fixed time zone mysql_fdw reads other times, and without utf8mb4 it reads "?" for characters beyond U+FFFF.',
      HINT = alter_it || ';';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._prepare_server(name) IS 'makes mysql_fdw read in UTC and utf8mb4, or an error that says how';

CREATE FUNCTION tandem._read_as_text(c tandem.source_column) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT c.policy <> 'dead_letter' AND c.image_type ~ '^(date|timestamp)' $$;
COMMENT ON FUNCTION tandem._read_as_text(tandem.source_column) IS
  'whether the old column may hold dates that PostgreSQL cannot, for which a policy is declared';

CREATE FUNCTION tandem._foreign_type(c tandem.source_column) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE WHEN tandem._read_as_text(c) THEN 'text'
              WHEN c.image_type ~ '^timestamptz' THEN replace(c.image_type, 'timestamptz', 'timestamp')
              ELSE c.image_type END ||
         coalesce((SELECT DISTINCT format(' COLLATE %I.%I', n.nspname, l.collname)
                   FROM tandem.target_column AS m JOIN tandem.source_table AS t USING (table_id)
                   JOIN pg_attribute AS a ON a.attrelid = t.target AND a.attname = m.name
                   JOIN pg_collation AS l ON l.oid = a.attcollation JOIN pg_namespace AS n ON n.oid = l.collnamespace
                   WHERE m.table_id = c.table_id AND m.source_column = c.name AND c.image_type = 'text' AND l.collname <> 'default' LIMIT 1), '')
$$;
COMMENT ON FUNCTION tandem._foreign_type(tandem.source_column) IS 'type of an old column in the foreign table, as mysql_fdw can read it';

-- A value as its image would be. Times come in UTC.
CREATE FUNCTION tandem._foreign_value(c tandem.source_column) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE
    WHEN tandem._read_as_text(c) THEN
      format('CASE WHEN f.%1$I ~ ''^(0000|....-00|....-..-00)'' THEN %2$s ELSE CAST(f.%1$I || %3$L AS %4$s) END', tandem._short_name(c.name),
             CASE c.policy WHEN 'value' THEN format('CAST(%L AS %s)', c.policy_value, c.image_type) ELSE format('CAST(NULL AS %s)', c.image_type) END,
             CASE WHEN c.image_type ~ '^timestamptz' THEN '+00' ELSE '' END, c.image_type)
    WHEN c.image_type ~ '^timestamptz' THEN format('(f.%I AT TIME ZONE ''UTC'')', tandem._short_name(c.name))
    ELSE format('f.%I', tandem._short_name(c.name)) END
$$;
COMMENT ON FUNCTION tandem._foreign_value(tandem.source_column) IS 'SQL of an old column''s value as its image holds it, from the foreign table f';

CREATE FUNCTION tandem._create_foreign_table(wanted integer, schema name, new_name name) RETURNS regclass
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  t tandem.source_table;
  s tandem.source;
  inexact text;
  long_names text;
BEGIN
  SELECT k.* INTO STRICT t FROM tandem.source_table AS k WHERE k.table_id = wanted;
  SELECT k.* INTO STRICT s FROM tandem.source AS k WHERE k.source_id = t.source_id;
  SELECT string_agg(format('"%s"', c.name), ', ' ORDER BY c.ordinal) INTO long_names
  FROM tandem.source_column AS c WHERE c.table_id = wanted AND tandem._short_name(c.name) <> c.name;
  IF long_names IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'name_too_long', MESSAGE = format('columns of the old table have names that mysql_fdw cannot read: %s', long_names),
      DETAIL = 'A column of a foreign table has the name of the old column, and names of PostgreSQL have at most 63 bytes.';
  END IF;
  EXECUTE (SELECT format('CREATE FOREIGN TABLE %I.%I (%s) SERVER %I OPTIONS (dbname %L, table_name %L)', schema, new_name,
                         string_agg(format('%I %s', c.name, tandem._foreign_type(c)), ', ' ORDER BY c.ordinal),
                         s.server, s.database, t.name)
           FROM tandem.source_column AS c WHERE c.table_id = wanted);
  SELECT string_agg(format('"%s"', c.name), ', ' ORDER BY c.ordinal) INTO inexact
  FROM tandem.source_column AS c WHERE c.table_id = wanted AND c.image_type = 'real';
  IF inexact IS NOT NULL THEN
    RAISE NOTICE USING
      MESSAGE = format('mysql_fdw reads FLOAT columns of the old side with 6 digits: %s', inexact),
      DETAIL = 'Rows that arrive through pg_tandem are exact; the same rows read from the old side through a routed view may not be.';
  END IF;
  RETURN format('%I.%I', schema, new_name)::regclass;
END
$$;
COMMENT ON FUNCTION tandem._create_foreign_table(integer, name, name) IS 'foreign table over the old table, with types that hold what the images hold';

-- --- the view ---------------------------------------------------------------------------------------------------------------------

-- Columns of the target, and how each is computed from o, the old row as its image would be. NULL where only the new side knows.
CREATE FUNCTION tandem._routed_columns(wanted integer) RETURNS TABLE (attnum smallint, name name, old_value text, generated boolean, key_position integer)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT a.attnum, a.attname,
         CASE WHEN m.source_column IS NOT NULL AND y.typtype <> 'e' AND (l.oid IS NULL OR l.collname = 'default' OR c.image_type = 'text') THEN
                format('CAST(o.%I AS %s)', tandem._short_name(m.source_column), format_type(a.atttypid, -1))
              ELSE
                format('CAST((%s) AS %s)%s', coalesce(m.expression, 'o.' || quote_ident(tandem._short_name(m.source_column)), 'NULL'), format_type(a.atttypid, -1),
                       CASE WHEN l.oid IS NOT NULL THEN format(' COLLATE %I.%I', n.nspname, l.collname) ELSE '' END) END,
         a.attgenerated <> '', m.key_position
  FROM tandem.source_table AS t JOIN pg_attribute AS a ON a.attrelid = t.target AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_type AS y ON y.oid = a.atttypid
    LEFT JOIN pg_collation AS l ON l.oid = a.attcollation LEFT JOIN pg_namespace AS n ON n.oid = l.collnamespace
    LEFT JOIN tandem.target_column AS m ON m.table_id = t.table_id AND m.name = a.attname
    LEFT JOIN tandem.source_column AS c ON c.table_id = t.table_id AND c.name = m.source_column
  WHERE t.table_id = wanted
$$;
COMMENT ON FUNCTION tandem._routed_columns(integer) IS 'columns of a routed view, with the SQL that computes each from an old row';

CREATE FUNCTION tandem._old_select(wanted integer, foreign_table regclass) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  t tandem.source_table;
  columns text;    -- of the view, from g: the old row as the target would have it
  target_row text; -- the same without generated columns, from o: the old row as its image would be
  old_row text;    -- from f, the foreign table
BEGIN
  SELECT k.* INTO STRICT t FROM tandem.source_table AS k WHERE k.table_id = wanted;
  SELECT string_agg(format('%s AS %I', c.old_value, c.name), ', ' ORDER BY c.attnum) FILTER (WHERE NOT c.generated),
         string_agg(CASE WHEN c.generated THEN
                      format('CAST((%s) AS %s)%s AS %I', pg_get_expr(d.adbin, d.adrelid), format_type(a.atttypid, -1),
                             (SELECT format(' COLLATE %I.%I', n.nspname, l.collname) FROM pg_collation AS l JOIN pg_namespace AS n ON n.oid = l.collnamespace
                              WHERE l.oid = a.attcollation), c.name)
                    ELSE format('g.%I', c.name) END, ', ' ORDER BY c.attnum)
    INTO target_row, columns
  FROM tandem._routed_columns(wanted) AS c JOIN pg_attribute AS a ON a.attrelid = t.target AND a.attnum = c.attnum
    LEFT JOIN pg_attrdef AS d ON d.adrelid = a.attrelid AND d.adnum = a.attnum;
  SELECT string_agg(format('%s AS %I', tandem._foreign_value(c), tandem._short_name(c.name)), ', ' ORDER BY c.ordinal) INTO old_row
  FROM tandem.source_column AS c WHERE c.table_id = wanted;
  RETURN format('SELECT %s FROM (SELECT %s, (%s) AS "tandem filter" FROM (SELECT %s FROM %s AS f) AS o) AS g WHERE g."tandem filter"',
                columns, target_row, coalesce(t.filter, 'true'), old_row, foreign_table);
END
$$;
COMMENT ON FUNCTION tandem._old_select(integer, regclass) IS 'query that reads the old side''s rows as the target would have them; ends in a WHERE that more may be added to';

-- A row that only the target has was deleted on the old side, the source of truth, or is an insert of the application that the old side does
-- not have yet: the latter is recorded, and not verified yet.
CREATE FUNCTION tandem._is_inserted_here(wanted integer, key jsonb) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  SELECT EXISTS (SELECT FROM tandem.direct_write AS d WHERE d.table_id = wanted AND d.key = tandem.encode_key(wanted, _is_inserted_here.key)
                   AND d.side = 'new' AND d.operation = 'INSERT' AND NOT d.review)
$$;
COMMENT ON FUNCTION tandem._is_inserted_here(integer, jsonb) IS
  'whether the application inserted this key into the target and that has not been verified yet; for routed views, hence for everybody who reads one';

-- The target's column that has the declared version column, as it is. NULL: there is none.
CREATE FUNCTION tandem._version_column(wanted integer) RETURNS name
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT min(m.name::text)::name FROM tandem.dual_policy AS d JOIN tandem.target_column AS m ON m.table_id = d.table_id AND m.source_column = d.version_column
  WHERE d.table_id = wanted
$$;
COMMENT ON FUNCTION tandem._version_column(integer) IS 'column of the target that tells which row is the later one, see tandem.set_dual_write_policy';

-- Both sides read once, by one join: two reads of the old side one after the other could miss a row. The newer state of a key wins, and
-- the old side's where neither is newer. ORDER BY a constant costs nothing; without it the planner would pull the join up, and plan a
-- scan of the old side also where it is not read. A key that is looked for is looked for on both sides.
CREATE FUNCTION tandem._merge_query(wanted integer, foreign_table regclass, own_rows text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  WITH columns AS (
    SELECT c.*, first_value(c.name) OVER (ORDER BY c.key_position NULLS LAST) AS first_key FROM tandem._routed_columns(wanted) AS c)
  SELECT format('SELECT %s FROM (SELECT %s FROM (SELECT * FROM %s AS n WHERE true%s) AS n FULL JOIN (%s) AS g ON %s'
                ' WHERE g.%I IS NOT NULL OR tandem._is_inserted_here(%s, jsonb_build_object(%s)) ORDER BY (1 + 0)) AS m WHERE tandem._reads(%s, ''merge'')',
                string_agg(format('m.%I', c.name), ', ' ORDER BY c.attnum),
                string_agg(CASE WHEN c.key_position IS NOT NULL THEN format('COALESCE(n.%1$I, g.%1$I) AS %1$I', c.name)
                                WHEN m.name IS NULL AND NOT c.generated THEN format('n.%I', c.name) -- only the target has it
                                ELSE format('CASE WHEN g.%1$I IS NULL OR n.%2$I > g.%2$I THEN n.%3$I ELSE g.%3$I END AS %3$I', c.first_key,
                                            tandem._version_column(wanted), c.name) END, ', ' ORDER BY c.attnum),
                min(t.target::text), coalesce(' AND ' || own_rows, ''), tandem._old_select(wanted, foreign_table),
                string_agg(format('n.%1$I = g.%1$I', c.name), ' AND ' ORDER BY c.key_position) FILTER (WHERE c.key_position IS NOT NULL),
                min(c.first_key), wanted,
                string_agg(format('%L, n.%I', m.source_column, c.name), ', ' ORDER BY c.key_position) FILTER (WHERE c.key_position IS NOT NULL AND m.source_column IS NOT NULL),
                wanted)
  FROM columns AS c JOIN tandem.source_table AS t ON t.table_id = wanted LEFT JOIN tandem.target_column AS m ON m.table_id = wanted AND m.name = c.name
$$;
COMMENT ON FUNCTION tandem._merge_query(integer, regclass, text) IS 'part of a routed view''s query that merges both sides by the declared version column';

CREATE FUNCTION tandem._routed_query(wanted integer, foreign_table regclass) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  t tandem.source_table;
  new_columns text;
  own_rows text;
  same_key text;
BEGIN
  SELECT k.* INTO STRICT t FROM tandem.source_table AS k WHERE k.table_id = wanted;
  SELECT string_agg(format('n.%I', c.name), ', ' ORDER BY c.attnum),
         string_agg(format('k.%1$I = g.%1$I', c.name), ' AND ' ORDER BY c.key_position) FILTER (WHERE c.key_position IS NOT NULL),
         string_agg(format('n.%I = %s', c.name, c.old_value), ' AND ' ORDER BY c.key_position) FILTER (WHERE t.constants ? c.name)
    INTO new_columns, same_key, own_rows
  FROM tandem._routed_columns(wanted) AS c;
  -- All conditions at one level, so that they fold to a single "false". And a look-up by subquery, not an anti-join: the planner must see that
  -- the old side is not read without planning a scan of it.
  RETURN format('SELECT %s FROM %s AS n WHERE tandem._reads(%s, ''new'')%s UNION ALL %s AND tandem._reads(%s, ''old'')'
                ' AND (NOT tandem._reads(%s, ''new_fallback_old'') OR (SELECT true FROM %s AS k WHERE %s) IS NULL)%s',
                new_columns, t.target, wanted, ' AND ' || own_rows, tandem._old_select(wanted, foreign_table), wanted, wanted, t.target, same_key,
                CASE WHEN tandem._version_column(wanted) IS NOT NULL THEN ' UNION ALL ' || tandem._merge_query(wanted, foreign_table, own_rows) END);
END
$$;
COMMENT ON FUNCTION tandem._routed_query(integer, regclass) IS 'query of a routed view';

CREATE FUNCTION tandem._refuse_unfit_foreign_table(wanted integer, foreign_table regclass) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  missing text;
BEGIN
  IF NOT EXISTS (SELECT FROM pg_foreign_table AS f JOIN pg_foreign_server AS s ON s.oid = f.ftserver JOIN pg_foreign_data_wrapper AS w ON w.oid = s.srvfdw
                 WHERE f.ftrelid = foreign_table AND w.fdwname = 'mysql_fdw') THEN
    RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('%s is not a foreign table of mysql_fdw', foreign_table),
      HINT = 'Leave it out: tandem.create_routed_view then creates one with the right types.';
  END IF;
  SELECT string_agg(format('"%s" %s', tandem._short_name(c.name), tandem._foreign_type(c)), ', ' ORDER BY c.ordinal) INTO missing
  FROM tandem.source_column AS c
  WHERE c.table_id = wanted
    AND NOT EXISTS (SELECT FROM pg_attribute AS a
                    WHERE a.attrelid = foreign_table AND a.attname = tandem._short_name(c.name) AND a.attnum > 0 AND NOT a.attisdropped
                      AND a.atttypid = split_part(tandem._foreign_type(c), ' COLLATE ', 1)::regtype);
  IF missing IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_table_definition', MESSAGE = format('foreign table %s does not read the old table as it is', foreign_table),
      DETAIL = format('It needs columns with the old names and these types: %s.', missing),
      HINT = 'Leave it out: tandem.create_routed_view then creates one with the right types.';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_unfit_foreign_table(integer, regclass) IS 'error unless the foreign table gives what the images hold';

CREATE FUNCTION tandem.create_routed_view("table" text, view text, foreign_table regclass DEFAULT NULL, view_schema name DEFAULT current_schema())
RETURNS regclass
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  wanted integer := tandem._table_id("table");
  names text[] := parse_ident(view);
  schema name := CASE WHEN cardinality(names) > 1 THEN names[1] ELSE view_schema END;
  view_name name := names[cardinality(names)];
  made regclass;
  created boolean := foreign_table IS NULL;
  only_new text;
BEGIN
  PERFORM tandem._refuse_foreign_target(t.target) FROM tandem.source_table AS t WHERE t.table_id = wanted;
  IF cardinality(names) > 2 OR schema IS NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_name', MESSAGE = format('"%s" does not say where the view goes', view), HINT = 'Write schema.view.';
  ELSIF to_regclass(format('%I.%I', schema, view_name)) IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'duplicate_table', MESSAGE = format('relation "%s" already exists', view),
      HINT = format('Remove a routed view with SELECT tandem.drop_routed_view(%L);', format('%I.%I', schema, view_name));
  END IF;
  PERFORM tandem._prepare_server(s.server) FROM tandem.source_table AS t JOIN tandem.source AS s USING (source_id) WHERE t.table_id = wanted;
  IF created THEN
    foreign_table := tandem._create_foreign_table(wanted, schema, tandem._short_name(view_name || '_old'));
  ELSE
    PERFORM tandem._refuse_unfit_foreign_table(wanted, foreign_table);
  END IF;
  EXECUTE format('CREATE VIEW %I.%I AS %s', schema, view_name, tandem._routed_query(wanted, foreign_table));
  made := format('%I.%I', schema, view_name)::regclass;
  EXECUTE format('COMMENT ON VIEW %s IS %L', made, format('routed view of %s: reads by the table''s read strategy, see tandem.phases', tandem._table_label(wanted)));
  DELETE FROM tandem.routed_view AS v WHERE v.view = made OR NOT EXISTS (SELECT FROM pg_class AS c WHERE c.oid = v.view);
  INSERT INTO tandem.routed_view (view, table_id, foreign_table, created_foreign, merges_by)
  VALUES (made, wanted, foreign_table, created, tandem._version_column(wanted));
  PERFORM tandem._make_writable(made, wanted);
  SELECT string_agg(format('"%s"', a.attname), ', ' ORDER BY a.attnum) INTO only_new
  FROM tandem.source_table AS t JOIN pg_attribute AS a ON a.attrelid = t.target AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
  WHERE t.table_id = wanted AND NOT EXISTS (SELECT FROM tandem.target_column AS m WHERE m.table_id = wanted AND m.name = a.attname);
  IF only_new IS NOT NULL THEN
    RAISE NOTICE USING MESSAGE = format('the old table has nothing for these columns: %s', only_new),
      DETAIL = 'Rows that the view reads from the old side have NULL there.';
  END IF;
  RETURN made;
END
$$;
COMMENT ON FUNCTION tandem.create_routed_view(text, text, regclass, name) IS
  'view with the columns of the target over both sides, which reads by the table''s read strategy and writes to the source of truth; the foreign table over the old table is created as view_old unless it is given';

CREATE FUNCTION tandem._remake_routed_views(wanted integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  known tandem.routed_view;
BEGIN
  FOR known IN SELECT v.* FROM tandem.routed_view AS v JOIN pg_class AS c ON c.oid = v.view
               WHERE v.table_id = wanted AND v.merges_by IS DISTINCT FROM tandem._version_column(wanted) ORDER BY v.view LOOP
    EXECUTE format('CREATE OR REPLACE VIEW %s AS %s', known.view, tandem._routed_query(wanted, known.foreign_table));
    UPDATE tandem.routed_view AS v SET merges_by = tandem._version_column(wanted) WHERE v.view = known.view;
  END LOOP;
END
$$;
COMMENT ON FUNCTION tandem._remake_routed_views(integer) IS 'routed views of a table merge by its version column as it is declared now';

-- A view that has no part for it would show no rows.
CREATE FUNCTION tandem._refuse_unfit_merge(wanted integer) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  label text := tandem._table_label(wanted);
  unfit text;
BEGIN
  IF tandem._version_column(wanted) IS NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('table "%s" has no version column to be merged by', label),
      DETAIL = 'Which of two states of a row is the newer one is told by a column that grows with every write and that the target has as it is.',
      HINT = format('SELECT tandem.set_dual_write_policy(%L, version_column => …);', label);
  END IF;
  SELECT string_agg(v.view::text, ', ' ORDER BY v.view::text) INTO unfit FROM tandem.routed_view AS v JOIN pg_class AS c ON c.oid = v.view
  WHERE v.table_id = wanted AND v.merges_by IS DISTINCT FROM tandem._version_column(wanted);
  IF unfit IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('routed views of table "%s" cannot merge: %s', label, unfit),
      DETAIL = 'They were made when another version column was declared, or none.',
      HINT = 'Drop them with tandem.drop_routed_view and create them again.';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_unfit_merge(integer) IS 'error unless routed views of the table can be read with strategy merge';

CREATE FUNCTION tandem.drop_routed_view(view regclass) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  known tandem.routed_view;
BEGIN
  SELECT v.* INTO known FROM tandem.routed_view AS v WHERE v.view = drop_routed_view.view;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING ERRCODE = 'undefined_table', MESSAGE = format('%s is not a routed view', view),
      HINT = 'The table tandem.routed_view lists those that tandem.create_routed_view made.';
  END IF;
  EXECUTE format('DROP VIEW %s', view);
  IF known.created_foreign AND EXISTS (SELECT FROM pg_class AS c WHERE c.oid = known.foreign_table) THEN
    EXECUTE format('DROP FOREIGN TABLE %s', known.foreign_table);
  END IF;
  DELETE FROM tandem.routed_view AS v WHERE v.view = known.view;
END
$$;
COMMENT ON FUNCTION tandem.drop_routed_view(regclass) IS 'drops a routed view, and the foreign table if it was created with it';
