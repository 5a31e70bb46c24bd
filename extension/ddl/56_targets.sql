-- Targets: the checks of an existing one. The creation of a missing one is in 56a_created_targets.sql.

CREATE FUNCTION tandem._refuse_unfit_target(target regclass) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c pg_class;
BEGIN
  SELECT k.* INTO STRICT c FROM pg_class AS k WHERE k.oid = target;
  PERFORM tandem._refuse_foreign_target(target);
  IF c.relkind NOT IN ('r', 'p') THEN
    RAISE EXCEPTION USING
      ERRCODE = 'wrong_object_type',
      MESSAGE = format('target %s is a %s', target,
                       CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'f' THEN 'foreign table'
                                      WHEN 'S' THEN 'sequence' ELSE 'relation that holds no rows' END),
      HINT = 'A target is a table or a partitioned table of this database.';
  ELSIF c.relnamespace IN ('pg_catalog'::regnamespace, 'tandem'::regnamespace) THEN
    RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('target %s is a system table', target),
      HINT = 'A target is a table of the application.';
  ELSIF c.relispartition THEN
    RAISE EXCEPTION USING
      ERRCODE = 'wrong_object_type',
      MESSAGE = format('target %s is a partition', target),
      HINT = format('Use the partitioned table %s.', (SELECT i.inhparent::regclass FROM pg_inherits AS i WHERE i.inhrelid = target));
  ELSIF c.relpersistence = 't' THEN
    RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('target %s is a temporary table', target),
      HINT = 'Rows are written by another session, which cannot see it.';
  ELSIF c.relrowsecurity AND c.relforcerowsecurity
        AND NOT (SELECT r.rolsuper OR r.rolbypassrls FROM pg_roles AS r WHERE r.oid = c.relowner) THEN
    RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('target %s forces row-level security on its owner', target),
      DETAIL = 'Rows are written as the owner, and a policy could hide or refuse some of them.',
      HINT = format('ALTER TABLE %s NO FORCE ROW LEVEL SECURITY;', target);
  ELSIF c.relpersistence = 'u' THEN
    RAISE WARNING USING MESSAGE = format('target %s is unlogged', target),
      DETAIL = 'A crash of PostgreSQL empties it while its changes count as applied.',
      HINT = format('ALTER TABLE %s SET LOGGED;', target);
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_unfit_target(regclass) IS 'error unless the target is a table that the current user owns';

CREATE FUNCTION tandem._refuse_unkept_constraints(target regclass) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  unkept record;
BEGIN
  SELECT n.conname, CASE n.contype WHEN 'x' THEN 'exclusion' WHEN 'p' THEN 'primary key' ELSE 'unique' END AS kind INTO unkept
  FROM pg_constraint AS n WHERE n.conrelid = target AND n.contype IN ('u', 'p', 'x') AND n.condeferrable ORDER BY n.conname LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'feature_not_supported',
      MESSAGE = format('target %s has the deferrable %s constraint "%s"', target, unkept.kind, unkept.conname),
      DETAIL = 'Rows are applied with session_replication_role = replica, under which PostgreSQL does not check deferrable constraints: duplicates would get in.',
      HINT = 'Replace it by a constraint that is NOT DEFERRABLE.';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_unkept_constraints(regclass) IS 'error when the target has a constraint that is not checked while rows are applied';

CREATE FUNCTION tandem._note_triggers(target regclass) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  firing text;
BEGIN
  SELECT string_agg(format('"%s" (ENABLE %s)', g.tgname, CASE g.tgenabled WHEN 'A' THEN 'ALWAYS' ELSE 'REPLICA' END), ', ' ORDER BY g.tgname)
    INTO firing
  FROM pg_trigger AS g WHERE g.tgrelid = target AND NOT g.tgisinternal AND g.tgenabled IN ('A', 'R');
  IF firing IS NOT NULL THEN
    RAISE NOTICE USING
      MESSAGE = format('triggers of target %s fire while rows are applied: %s', target, firing),
      DETAIL = 'Other triggers do not. A trigger that changes or drops a row makes the target differ from the old table; one that fails makes the row a dead letter.',
      HINT = 'If that is not meant: ALTER TABLE … ENABLE TRIGGER ….';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._note_triggers(regclass) IS 'notice about triggers that fire although session_replication_role is replica';

CREATE FUNCTION tandem._target_key(target regclass, key text[], mapping tandem.mapped_column[], constants jsonb) RETURNS name[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  unmapped text;
  target_key name[];
  constant_key name[] := ARRAY(SELECT jsonb_object_keys(constants) ORDER BY 1);
BEGIN
  SELECT string_agg(format('"%s"', k.name), ', ' ORDER BY k.position) INTO unmapped
  FROM unnest(key) WITH ORDINALITY AS k(name, position)
  WHERE NOT EXISTS (SELECT FROM unnest(mapping) AS m WHERE m.source_column = k.name);
  IF unmapped IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'invalid_column_reference',
      MESSAGE = format('key columns %s of the old table have no column of their own in target %s', unmapped, target),
      DETAIL = 'A key column must be taken as it is, not through an expression: rows are found and deleted by it.',
      HINT = 'Name the target column that takes it, for example columns => ''{"user_id": "id"}''.';
  END IF;
  -- An old key column that is written to several target columns is looked for in each of them.
  SELECT ARRAY(SELECT m.target
               FROM unnest(key) WITH ORDINALITY AS k(name, position)
               JOIN unnest(mapping) AS m ON m.source_column = k.name
               JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attname = m.target
               WHERE a.attnum = ANY ((i.indkey::smallint[])[0:i.indnkeyatts - 1]) ORDER BY k.position)
    INTO target_key
  FROM pg_index AS i
  WHERE i.indrelid = target AND i.indisunique AND i.indisvalid AND i.indisready AND i.indimmediate AND i.indpred IS NULL
    AND i.indexprs IS NULL AND i.indnkeyatts = cardinality(key) + cardinality(constant_key)
    AND NOT EXISTS (SELECT FROM unnest(constant_key) AS k(name)
                    WHERE NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = i.indrelid AND a.attname = k.name
                                      AND a.attnum = ANY ((i.indkey::smallint[])[0:i.indnkeyatts - 1])))
    AND NOT EXISTS (SELECT FROM unnest(key) AS k(name)
                    WHERE NOT EXISTS (SELECT FROM unnest(mapping) AS m
                                      JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attname = m.target
                                      WHERE m.source_column = k.name AND a.attnum = ANY ((i.indkey::smallint[])[0:i.indnkeyatts - 1])))
  ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'invalid_table_definition',
      MESSAGE = format('target %s has no unique index on exactly the key columns%s', target,
                       CASE WHEN constant_key <> '{}' THEN ' and the constants' END),
      DETAIL = 'It must be valid, not deferrable, and without predicate or expressions.',
      HINT = (SELECT format('ALTER TABLE %s ADD PRIMARY KEY (%s);', _target_key.target, string_agg(quote_ident(k.target), ', ' ORDER BY k.position)
                            || (SELECT coalesce(string_agg(', ' || quote_ident(c), ''), '') FROM unnest(constant_key) AS c))
              FROM (SELECT DISTINCT ON (o.position) m.target, o.position
                    FROM unnest(key) WITH ORDINALITY AS o(name, position) JOIN unnest(mapping) AS m ON m.source_column = o.name
                    ORDER BY o.position, m.target) AS k);
  END IF;
  RETURN target_key || constant_key;
END
$$;
COMMENT ON FUNCTION tandem._target_key(regclass, text[], tandem.mapped_column[], jsonb) IS
  'target columns of the old key, in its order, then the constants, covered by a unique index; error when there is none';

CREATE FUNCTION tandem._refuse_unknown_policy(on_existing text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF on_existing IS NULL OR on_existing NOT IN ('error', 'keep', 'truncate') THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('on_existing "%s" is not known', on_existing),
      HINT = 'Use error, keep or truncate.';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_unknown_policy(text) IS 'error unless on_existing is one of error, keep, truncate';

CREATE FUNCTION tandem._prepare_rows(target regclass, on_existing text, constants jsonb) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  -- Of a target that several old tables share, only the rows of this one are looked at.
  own text := (SELECT ' WHERE ' || string_agg(format('%I = %s', c.key, tandem._constant_as(c.value, target, c.key)), ' AND ') FROM jsonb_each_text(constants) AS c);
  filled boolean;
BEGIN
  EXECUTE format('SELECT EXISTS (SELECT FROM %s%s)', target, own) INTO filled;
  IF filled AND on_existing = 'error' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('target %s already has rows%s', target, own),
      DETAIL = 'Rows of the old table overwrite those of the same key; rows that the old table does not have would stay.',
      HINT = 'Say what is to be done with them: on_existing => ''keep'' or on_existing => ''truncate''.';
  ELSIF filled AND on_existing = 'truncate' THEN
    EXECUTE CASE WHEN own IS NULL THEN format('TRUNCATE TABLE %s', target) ELSE format('DELETE FROM %s%s', target, own) END;
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._prepare_rows(regclass, text, jsonb) IS 'keeps, removes or refuses rows that a target has already';
