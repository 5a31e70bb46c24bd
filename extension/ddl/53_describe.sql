-- What an old table looks like, whether it can be moved at all, and which key names its rows. A description is one answer row of the
-- question "describe", docs/protocol.md section 9.

-- Names of 64 characters on the old side, 63 bytes in PostgreSQL, which would cut a longer one silently.
CREATE FUNCTION tandem._short_name(name text) RETURNS name
LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE WHEN octet_length(name) <= 63 THEN name
              ELSE (SELECT left(name, n) FROM generate_series(54, 1, -1) AS n WHERE octet_length(left(name, n)) <= 54 LIMIT 1)
                   || '_' || left(md5(name), 8) END
$$;
COMMENT ON FUNCTION tandem._short_name(text) IS
  'name of an old table in PostgreSQL: itself, or if it is longer than 63 bytes its beginning and eight digits of its md5';

CREATE FUNCTION tandem._column_name(name text) RETURNS name
LANGUAGE sql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp
AS $$
  -- No table can have a column with the name of a system column.
  SELECT CASE WHEN name IN ('tableoid', 'xmin', 'cmin', 'xmax', 'cmax', 'ctid') THEN name || '_' || left(md5(name), 8)
              ELSE tandem._short_name(name) END
$$;
COMMENT ON FUNCTION tandem._column_name(text) IS
  'name of an old column in PostgreSQL: as tandem._short_name, and with eight digits of its md5 if PostgreSQL has a system column of that name';

CREATE FUNCTION tandem._describe(source tandem.source, what jsonb) RETURNS SETOF jsonb
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT a FROM tandem._ask(jsonb_build_object('kind', 'describe') || tandem._connection(source) || what, interval '60 s') AS a
$$;
COMMENT ON FUNCTION tandem._describe(tandem.source, jsonb) IS 'descriptions of old tables: what is {"tables": […]} or {"pattern": …}';

CREATE FUNCTION tandem._near_names(source tandem.source, table_name text) RETURNS text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT string_agg(n.name, ', ' ORDER BY n.name)
  FROM (SELECT d ->> 'table' AS name
        FROM tandem._describe(source, jsonb_build_object('pattern', replace(left(table_name, 2), '_', '\_') || '%')) AS d
        ORDER BY 1 LIMIT 8) AS n
$$;
COMMENT ON FUNCTION tandem._near_names(tandem.source, text) IS 'old tables with a name like that, for a hint';

CREATE FUNCTION tandem._describe_one(source tandem.source, table_name text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  description jsonb;
  near text;
BEGIN
  SELECT d INTO description FROM tandem._describe(source, jsonb_build_object('tables', jsonb_build_array(table_name))) AS d LIMIT 1;
  IF NOT FOUND THEN
    near := tandem._near_names(source, table_name);
    RAISE EXCEPTION USING
      ERRCODE = 'undefined_table',
      MESSAGE = format('table "%s" does not exist in database "%s" of source "%s"', table_name, source.database, source.name),
      HINT = CASE WHEN near IS NULL THEN format('Names are case-sensitive; does the user of server "%s" see the table?', source.server)
                  ELSE format('Tables with a similar name: %s.', near) END;
  END IF;
  RETURN description;
END
$$;
COMMENT ON FUNCTION tandem._describe_one(tandem.source, text) IS 'description of one old table, or an error that lists near names';

CREATE FUNCTION tandem._mysql_name(name text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT '`' || replace(name, '`', '``') || '`' $$;
COMMENT ON FUNCTION tandem._mysql_name(text) IS 'name quoted for the old side';

CREATE FUNCTION tandem._own_trigger(source tandem.source, table_name text, trigger_name text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT trigger_name ~ ('^tandem_a[iud]_' || tandem._trigger_suffix(source.source_id, table_name) || '$') $$;
COMMENT ON FUNCTION tandem._own_trigger(tandem.source, text, text) IS
  'whether a trigger of the old side is one that this database makes for the table';

CREATE FUNCTION tandem._refuse_taken_slot(source tandem.source, description jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  taken text;
BEGIN
  IF (description ->> 'trigger_slots_shared')::boolean THEN
    RETURN;
  END IF;
  SELECT string_agg(format('%s (AFTER %s)', t ->> 'name', t ->> 'event'), ', ' ORDER BY t ->> 'name') INTO taken
  FROM jsonb_array_elements(description -> 'triggers') AS t
  WHERE t ->> 'timing' = 'AFTER' AND NOT tandem._own_trigger(source, description ->> 'table', t ->> 'name');
  IF taken IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_in_use',
      MESSAGE = format('table "%s" has triggers where capture needs its own', description ->> 'table'),
      DETAIL = format('This server allows one trigger for each table, time and event, and these are taken: %s.', taken),
      HINT = 'Move their work into BEFORE triggers or into the application, or upgrade the old server to MySQL 5.7.2, MariaDB 10.2.3 or later.';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_taken_slot(tandem.source, jsonb) IS
  'error when an AFTER trigger is in the way and the server allows only one';

CREATE FUNCTION tandem._refuse_unmappable(description jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  problems text;
BEGIN
  SELECT string_agg(format('%s %s: %s', c ->> 'name', c ->> 'mysql_type', coalesce(c ->> 'unmappable', 'no PostgreSQL type is known for it')),
                    E'\n' ORDER BY (c ->> 'ordinal')::integer)
           FILTER (WHERE c ->> 'unmappable' IS NOT NULL OR c ->> 'image_type' IS NULL)
    INTO problems
  FROM jsonb_array_elements(description -> 'columns') AS c;
  IF problems IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'feature_not_supported',
      MESSAGE = format('table "%s" has columns that cannot be mapped', description ->> 'table'),
      DETAIL = problems,
      HINT = format('Change the type on the old side: ALTER TABLE %s MODIFY …', tandem._mysql_name(description ->> 'table'));
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_unmappable(jsonb) IS 'error when the old table has a column without an exact PostgreSQL type';

CREATE FUNCTION tandem._refuse_unmovable(source tandem.source, description jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  table_name text := description ->> 'table';
BEGIN
  IF description ->> 'table_type' NOT IN ('BASE TABLE', 'SYSTEM VERSIONED') THEN
    RAISE EXCEPTION USING
      ERRCODE = 'wrong_object_type',
      MESSAGE = format('"%s" is not a table but a %s', table_name, lower(description ->> 'table_type')),
      HINT = 'Move the tables it reads and create the view anew in PostgreSQL.';
  ELSIF lower(description ->> 'engine') IS DISTINCT FROM 'innodb' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'feature_not_supported',
      MESSAGE = format('table "%s" uses engine %s', table_name, description ->> 'engine'),
      DETAIL = 'Only InnoDB writes a row and its capture event in one transaction and reads both in one snapshot.',
      HINT = format('On the old side: ALTER TABLE %s.%s ENGINE=InnoDB;', tandem._mysql_name(source.database), tandem._mysql_name(table_name));
  ELSIF jsonb_array_length(description -> 'missing_privileges') > 0 THEN
    RAISE EXCEPTION USING
      ERRCODE = 'insufficient_privilege',
      MESSAGE = format('user of server "%s" lacks privileges on the old side to move table "%s"', source.server, table_name),
      HINT = (SELECT string_agg(p || ';', E'\n') FROM jsonb_array_elements_text(description -> 'missing_privileges') AS p);
  END IF;
  PERFORM tandem._refuse_taken_slot(source, description);
  PERFORM tandem._refuse_unmappable(description);
END
$$;
COMMENT ON FUNCTION tandem._refuse_unmovable(tandem.source, jsonb) IS 'error when an old table cannot be captured, naming the way out';

CREATE FUNCTION tandem._choose_key(description jsonb) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  chosen text[];
  by_prefix text;
  nullable text;
  table_name text := tandem._mysql_name(description ->> 'table');
BEGIN
  SELECT ARRAY(SELECT jsonb_array_elements_text(k -> 'columns')) INTO chosen
  FROM jsonb_array_elements(description -> 'keys') AS k
  WHERE (k ->> 'unique')::boolean AND NOT (k ->> 'nullable')::boolean AND NOT (k ->> 'prefix')::boolean
  ORDER BY (k ->> 'primary')::boolean DESC, jsonb_array_length(k -> 'columns'), k ->> 'name'
  LIMIT 1;
  IF FOUND THEN
    RETURN chosen;
  END IF;
  SELECT min(k ->> 'name') FILTER (WHERE (k ->> 'prefix')::boolean),
         min(k -> 'columns' ->> 0) FILTER (WHERE (k ->> 'nullable')::boolean AND NOT (k ->> 'prefix')::boolean)
    INTO by_prefix, nullable
  FROM jsonb_array_elements(description -> 'keys') AS k WHERE (k ->> 'unique')::boolean;
  RAISE EXCEPTION USING
    ERRCODE = 'invalid_table_definition',
    MESSAGE = format('table "%s" has no primary key and no unique key over NOT NULL columns', description ->> 'table'),
    DETAIL = CASE
      WHEN by_prefix IS NOT NULL THEN format('Key "%s" covers only a prefix of a column, so it does not name a row exactly.', by_prefix)
      WHEN nullable IS NOT NULL THEN 'Its unique keys have columns that may be NULL, and a key with a NULL does not name a row.'
      ELSE 'A row that changes is named by its key; without one the change cannot be found on the other side.' END,
    HINT = CASE
      WHEN by_prefix IS NOT NULL THEN
        format('On the old side: ALTER TABLE %s ADD tandem_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT, ADD UNIQUE KEY (tandem_id);', table_name)
      WHEN nullable IS NOT NULL THEN
        format('On the old side: ALTER TABLE %s MODIFY %s … NOT NULL; or add a primary key.', table_name, tandem._mysql_name(nullable))
      ELSE format('On the old side: ALTER TABLE %s ADD tandem_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY;', table_name) END;
END
$$;
COMMENT ON FUNCTION tandem._choose_key(jsonb) IS
  'columns of the key that names the rows: the primary key, or else the shortest unique key over NOT NULL columns';
