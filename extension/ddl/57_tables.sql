-- Tables: names, tandem.add_table, tandem.add_tables, tandem.drop_table, tandem.drop_source. Nothing here touches the old side:
-- it is asked, and the worker acts after commit.

CREATE FUNCTION tandem._table_label(table_id integer) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT s.name || '.' || t.name FROM tandem.source_table AS t JOIN tandem.source AS s USING (source_id)
  WHERE t.table_id = _table_label.table_id
$$;
COMMENT ON FUNCTION tandem._table_label(integer) IS 'source.table, the name by which people address a table';

CREATE FUNCTION tandem._table_id(name text) RETURNS integer
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  found_ids integer[];
BEGIN
  -- The most exact way of addressing wins; within one way the name must be unambiguous.
  SELECT array_agg(DISTINCT c.table_id) INTO found_ids
  FROM (SELECT t.table_id, way, min(way) OVER () AS best
        FROM tandem.source_table AS t JOIN tandem.source AS s ON s.source_id = t.source_id
        LEFT JOIN pg_class AS k ON k.oid = t.target
        LEFT JOIN pg_namespace AS n ON n.oid = k.relnamespace
        CROSS JOIN LATERAL unnest(ARRAY[s.name || '.' || t.name, s.database || '.' || t.name, t.name,
                                        quote_ident(n.nspname) || '.' || quote_ident(k.relname), n.nspname || '.' || k.relname,
                                        quote_ident(k.relname), k.relname]) WITH ORDINALITY AS a(label, way)
        WHERE a.label = _table_id.name) AS c
  WHERE c.way = c.best;
  IF found_ids IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'undefined_table',
      MESSAGE = format('table "%s" is not known to pg_tandem', name),
      HINT = 'Write source.table, the old table''s name, or the target; the view tandem.tables lists them. tandem.add_table makes a table known.';
  ELSIF cardinality(found_ids) > 1 THEN
    RAISE EXCEPTION USING
      ERRCODE = 'ambiguous_parameter',
      MESSAGE = format('name "%s" means several tables', name),
      DETAIL = (SELECT string_agg(tandem._table_label(i), ', ' ORDER BY tandem._table_label(i)) FROM unnest(found_ids) AS i),
      HINT = 'Write source.table.';
  END IF;
  RETURN found_ids[1];
END
$$;
COMMENT ON FUNCTION tandem._table_id(text) IS 'table addressed as source.table, database.table, old name or target, in this order';

CREATE FUNCTION tandem._refuse_known(source tandem.source, table_name text, target regclass, constants jsonb) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  known tandem.source_table;
BEGIN
  IF source.dropping THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('source "%s" is being dropped', source.name),
      HINT = 'It is gone when tandem-sync has cleaned the old side; then add it again.';
  END IF;
  SELECT t.* INTO known FROM tandem.source_table AS t WHERE t.source_id = source.source_id AND t.name = table_name;
  IF FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'duplicate_object',
      MESSAGE = format('table "%s" of source "%s" is already added, with target %s', table_name, source.name, known.target),
      HINT = CASE known.desired_state
               WHEN 'dropped' THEN 'It is being dropped: wait with tandem.wait_for(table, ''dropped'') while tandem-sync cleans the old side.'
               ELSE 'To add it differently, drop it first with tandem.drop_table.' END;
  END IF;
  PERFORM tandem._refuse_taken_target(target, constants, NULL);
END
$$;
COMMENT ON FUNCTION tandem._refuse_known(tandem.source, text, regclass, jsonb) IS 'error when the old table or the target is in use already';

CREATE FUNCTION tandem._store_foreign_keys(source tandem.source, description jsonb) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO tandem.source_fk AS f (source_id, name, child_database, child, columns, parent_database, parent, ref_columns, on_delete, on_update)
  SELECT DISTINCT ON (k ->> 'child_database', k ->> 'child', k ->> 'name')
         source.source_id, k ->> 'name', k ->> 'child_database', k ->> 'child', ARRAY(SELECT jsonb_array_elements_text(k -> 'columns')),
         k ->> 'parent_database', k ->> 'parent', ARRAY(SELECT jsonb_array_elements_text(k -> 'ref_columns')), k ->> 'on_delete', k ->> 'on_update'
  FROM jsonb_array_elements((description -> 'foreign_keys') || (description -> 'referenced_by')) AS k
  ON CONFLICT (source_id, child_database, child, name) DO UPDATE
    SET columns = excluded.columns, parent_database = excluded.parent_database, parent = excluded.parent,
        ref_columns = excluded.ref_columns, on_delete = excluded.on_delete, on_update = excluded.on_update
$$;
COMMENT ON FUNCTION tandem._store_foreign_keys(tandem.source, jsonb) IS
  'remembers the foreign keys in which an old table is child or parent';

CREATE FUNCTION tandem._store_table(
  source tandem.source, description jsonb, key text[], target regclass, target_key name[], mapping tandem.mapped_column[], created boolean,
  filter text, constants jsonb
) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  new_id integer;
BEGIN
  -- Names on the old side are computed by the trigger tandem._guard_source_table.
  INSERT INTO tandem.source_table AS t (source_id, name, target, key_columns, outbox, trigger_suffix, created_target, filter, constants)
  VALUES (source.source_id, description ->> 'table', target, key, '', '', created, filter, constants)
  RETURNING t.table_id INTO new_id;

  INSERT INTO tandem.source_column (table_id, ordinal, name, mysql_type, data_type, is_unsigned, charset, "collation", nullable, generated, image_type,
    policy, policy_value, policy_image)
  SELECT new_id, (c ->> 'ordinal')::integer, c ->> 'name', c ->> 'mysql_type', c ->> 'data_type', (c ->> 'unsigned')::boolean,
         c ->> 'charset', c ->> 'collation', (c ->> 'nullable')::boolean, (c ->> 'generated')::boolean, c ->> 'image_type',
         c ->> 'policy', c ->> 'policy_value', decode(c ->> 'policy_image', 'hex')
  FROM jsonb_array_elements(description -> 'columns') AS c;

  INSERT INTO tandem.target_column (table_id, name, source_column, expression, key_position, written)
  SELECT new_id, m.target, m.source_column, m.expression, array_position(target_key, m.target), a.attgenerated = ''
  FROM unnest(mapping) AS m JOIN pg_attribute AS a ON a.attrelid = _store_table.target AND a.attname = m.target;

  -- The way back of a geometry is known.
  INSERT INTO tandem.reverse_column (table_id, name, expression)
  SELECT new_id, tandem._spatial_source(description, m), format('(%I.st_asewkb(t.%I))', n.nspname, m.target)
  FROM unnest(mapping) AS m JOIN pg_type AS y ON y.oid = m.type JOIN pg_namespace AS n ON n.oid = y.typnamespace
  WHERE tandem._spatial_source(description, m) IS NOT NULL
  ON CONFLICT DO NOTHING;

  PERFORM tandem._store_foreign_keys(source, description);
  RETURN new_id;
END
$$;
COMMENT ON FUNCTION tandem._store_table(tandem.source, jsonb, text[], regclass, name[], tandem.mapped_column[], boolean, text, jsonb) IS
  'writes a checked table into the catalog';

CREATE FUNCTION tandem._add_described(
  source tandem.source, description jsonb, target regclass, columns jsonb, on_existing text, target_schema name,
  policies jsonb DEFAULT '{}', filter text DEFAULT NULL, constants jsonb DEFAULT '{}',
  OUT new_id integer, OUT planned tandem.planned_statement[]
)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  key text[];
  mapping tandem.mapped_column[];
  written tandem.mapped_column[];
  target_key name[];
  created boolean := false;
  target_name text := format('%I.%I', coalesce(target_schema, ''), tandem._short_name(description ->> 'table'));
BEGIN
  planned := '{}';
  PERFORM tandem._refuse_unknown_policy(on_existing);
  PERFORM tandem._refuse_unmovable(source, description);
  key := tandem._choose_key(description);
  IF target IS NULL AND target_schema IS NOT NULL THEN
    target := to_regclass(target_name);
  END IF;
  PERFORM tandem._refuse_malformed_policies(description, key, policies), tandem._refuse_malformed_constants(columns, constants);
  columns := columns || tandem._constant_columns(target, constants);
  constants := (SELECT coalesce(jsonb_object_agg(c.key, c.value), '{}') FROM jsonb_each_text(constants) AS c);
  PERFORM tandem._refuse_known(source, description ->> 'table', target, constants);
  PERFORM tandem._make_shape(description);
  description := tandem._with_policies(description, policies);
  filter := tandem._checked_filter(description, filter);
  IF target IS NULL THEN
    planned := tandem._create_target(description, key, columns, constants, target_schema);
    target := target_name::regclass;
    created := true;
  END IF;
  PERFORM tandem._refuse_unfit_target(target), tandem._refuse_unkept_constraints(target);
  PERFORM tandem._refuse_unknown_columns(description, target, columns);
  mapping := ARRAY(SELECT tandem._map_columns(description, target, columns));
  written := tandem._written(target, mapping);
  target_key := tandem._target_key(target, key, written, constants);
  PERFORM tandem._refuse_null_policies(description, target, written);
  PERFORM tandem._refuse_changed_values(description, target, written);
  PERFORM tandem._refuse_unwritten(target, mapping);
  PERFORM tandem._note_unmoved(description, target, mapping);
  PERFORM tandem._prepare_rows(target, on_existing, constants);
  new_id := tandem._store_table(source, description, key, target, target_key, mapping, created, filter, constants);
  PERFORM tandem._refuse_hidden_fk_columns(t.table_id) FROM tandem._cascade_neighbours(new_id) AS t;
  PERFORM tandem._note_triggers(target);
  PERFORM tandem._drop_shape();
END
$$;
COMMENT ON FUNCTION tandem._add_described(tandem.source, jsonb, regclass, jsonb, text, name, jsonb, text, jsonb) IS
  'adds an old table whose description is at hand: all checks, the target if it is missing, the catalog. Returns the statements that made the target';

CREATE FUNCTION tandem._refuse_cascades(table_id integer) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF EXISTS (SELECT FROM tandem.source_table AS t JOIN tandem.source AS s USING (source_id)
             WHERE t.table_id = _refuse_cascades.table_id AND (tandem._cascade_parents(t, s.database) <> '[]' OR tandem._referenced_columns(t, s.database) <> '[]')) THEN
    RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
      MESSAGE = format('table "%s" is tied by foreign keys that change rows of their own', tandem._table_label(table_id)),
      DETAIL = 'Rows that ON DELETE or ON UPDATE changes are not written through PostgreSQL, so capture by "foreign" would not see them.',
      HINT = 'Let capture be by triggers, or drop these actions of the keys.';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_cascades(integer) IS 'error when cascades change rows of the table, or rows of it change others';

CREATE FUNCTION tandem.add_table(
  source text,
  table_name text,
  target regclass DEFAULT NULL,
  columns jsonb DEFAULT NULL,
  on_existing text DEFAULT 'error',
  target_schema name DEFAULT current_schema(),
  policies jsonb DEFAULT NULL,
  "where" text DEFAULT NULL,
  constants jsonb DEFAULT NULL,
  capture text DEFAULT 'triggers'
) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  from_source tandem.source := tandem._source_named(source);
  added record;
BEGIN
  IF capture IS NULL OR capture NOT IN ('triggers', 'foreign') THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('capture by "%s" is not known', capture),
      HINT = 'Use triggers, or foreign for a table whose writers all come through PostgreSQL.';
  END IF;
  columns := coalesce(columns, '{}');
  PERFORM tandem._refuse_malformed_columns(columns);
  added := tandem._add_described(from_source, tandem._describe_one(from_source, table_name), target, columns, on_existing, target_schema,
                                 coalesce(policies, '{}'), "where", coalesce(constants, '{}'));
  PERFORM tandem._create_foreign_keys(from_source, ARRAY[added.new_id]);
  IF capture = 'foreign' THEN
    PERFORM tandem._refuse_cascades(added.new_id);
    UPDATE tandem.source_table AS t SET capture = 'foreign' WHERE t.table_id = added.new_id;
  END IF;
  RETURN added.new_id;
END
$$;
COMMENT ON FUNCTION tandem.add_table(text, text, regclass, jsonb, text, name, jsonb, text, jsonb, text) IS
  'makes one old table known and creates its target if there is none; nothing is moved before tandem.start.
columns: target column → old column or expression, null to leave it alone.
on_existing: error, keep or truncate rows that the target has.
target_schema: where a target is looked for and created when it is not given, by default as CREATE TABLE does.
policies: old column → what becomes of a value that PostgreSQL cannot hold: "dead_letter" (default), "null", "sidecar", {"value": "…"}.
where: expression over old columns; only rows for which it is true are in the target.
constants: target column → value of all rows of this table, part of the target''s key; so several old tables can share a target.
capture: triggers on the old table; or foreign: no triggers, for an old side on which none may be created. Then only writes through routed views, and through foreign tables with tandem.capture_foreign, are seen';

CREATE FUNCTION tandem._parents_first(descriptions jsonb[]) RETURNS SETOF jsonb
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  waiting text[] := ARRAY(SELECT d ->> 'table' FROM unnest(descriptions) AS d);
  next_one jsonb;
BEGIN
  WHILE cardinality(waiting) > 0 LOOP
    -- The table with the fewest parents still to come: none, except in a cycle.
    SELECT d INTO next_one FROM unnest(descriptions) AS d
    WHERE d ->> 'table' = ANY (waiting)
    ORDER BY (SELECT count(DISTINCT f ->> 'parent') FROM jsonb_array_elements(d -> 'foreign_keys') AS f
              WHERE f ->> 'parent' = ANY (waiting) AND f ->> 'parent' <> d ->> 'table'), d ->> 'table'
    LIMIT 1;
    waiting := array_remove(waiting, next_one ->> 'table');
    RETURN NEXT next_one;
  END LOOP;
END
$$;
COMMENT ON FUNCTION tandem._parents_first(jsonb[]) IS
  'descriptions in an order in which foreign keys point backwards, as far as there are no cycles';

CREATE FUNCTION tandem._describe_all(source tandem.source, pattern text) RETURNS SETOF jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  descriptions jsonb[] := ARRAY(SELECT d FROM tandem._describe(source, jsonb_build_object('pattern', pattern)) AS d);
BEGIN
  IF cardinality(descriptions) = 0 THEN
    RAISE EXCEPTION USING
      ERRCODE = 'undefined_table',
      MESSAGE = format('no table of source "%s" has a name like "%s"', source.name, pattern),
      HINT = 'The pattern is one of LIKE, on the names in the old database; the user of the server sees only tables it has privileges on.';
  END IF;
  RETURN QUERY SELECT tandem._parents_first(descriptions);
END
$$;
COMMENT ON FUNCTION tandem._describe_all(tandem.source, text) IS 'descriptions of old tables with a name like the pattern, parents first; error when there is none';

CREATE FUNCTION tandem._left_out(source tandem.source, description jsonb) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE
    WHEN description ->> 'table_type' NOT IN ('BASE TABLE', 'SYSTEM VERSIONED') THEN
      format('"%s" is a %s and is left out', description ->> 'table', lower(description ->> 'table_type'))
    WHEN EXISTS (SELECT FROM tandem.source_table AS t WHERE t.source_id = source.source_id AND t.name = description ->> 'table') THEN
      format('table "%s" is already added', description ->> 'table') END
$$;
COMMENT ON FUNCTION tandem._left_out(tandem.source, jsonb) IS 'why add_tables leaves a table out, NULL if it does not';

CREATE FUNCTION tandem.add_tables(
  source text,
  pattern text DEFAULT '%',
  target_schema name DEFAULT current_schema(),
  on_existing text DEFAULT 'error'
) RETURNS TABLE (table_id integer, table_name text, target regclass)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  from_source tandem.source := tandem._source_named(source);
  description jsonb;
  reason text;
  added record;
  new_ids integer[] := '{}';
BEGIN
  FOR description IN SELECT tandem._describe_all(from_source, add_tables.pattern) LOOP
    reason := tandem._left_out(from_source, description);
    IF reason IS NOT NULL THEN
      RAISE NOTICE '%', reason;
    ELSE
      added := tandem._add_described(from_source, description, NULL, '{}', add_tables.on_existing, add_tables.target_schema);
      new_ids := new_ids || added.new_id;
      RETURN QUERY SELECT t.table_id, t.name, t.target FROM tandem.source_table AS t WHERE t.table_id = added.new_id;
    END IF;
  END LOOP;
  PERFORM tandem._create_foreign_keys(from_source, new_ids);
END
$$;
COMMENT ON FUNCTION tandem.add_tables(text, text, name, text) IS
  'adds every old table with a name like the pattern, parents before children, all or none; views and tables already added are left out';

CREATE FUNCTION tandem._drop_one(table_id integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  moved_to regclass := (SELECT t.target FROM tandem.source_table AS t WHERE t.table_id = _drop_one.table_id);
BEGIN
  PERFORM tandem._refuse_truth_dropped(table_id), tandem._refuse_queued(table_id);
  IF EXISTS (SELECT FROM pg_trigger AS g WHERE g.tgrelid = moved_to AND g.tgname ^@ 'tandem_' AND NOT g.tgisinternal) THEN
    PERFORM tandem._lock_targets(ARRAY[table_id], 'ACCESS EXCLUSIVE', 1500); -- whoever reads the target is not kept waiting behind a drop that waits
    PERFORM tandem._drop_guards(table_id);
    IF NOT EXISTS (SELECT FROM tandem.source_table AS t WHERE t.target = moved_to AND t.table_id <> _drop_one.table_id) THEN
      PERFORM tandem._remove_capture_back(table_id), tandem._remove_closed(moved_to);
    END IF;
  END IF;
  -- A table that was never started has nothing on the old side. The others go when the worker has cleaned up there.
  IF EXISTS (SELECT FROM tandem.table_state AS a WHERE a.table_id = _drop_one.table_id) THEN
    UPDATE tandem.source_table AS t SET desired_state = 'dropped' WHERE t.table_id = _drop_one.table_id;
  ELSE
    DELETE FROM tandem.source_table AS t WHERE t.table_id = _drop_one.table_id;
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._drop_one(integer) IS 'removes a table from the catalog, at once or after the worker has cleaned the old side';

CREATE FUNCTION tandem._drop_foreign_keys_to(target regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  k pg_constraint;
BEGIN
  -- Those that pg_tandem made: on created targets, not validated yet. Any other keeps the table, with PostgreSQL's own error.
  FOR k IN
    SELECT c.* FROM pg_constraint AS c
    WHERE c.confrelid = _drop_foreign_keys_to.target AND c.conrelid <> c.confrelid AND c.contype = 'f' AND NOT c.convalidated
      AND EXISTS (SELECT FROM tandem.source_table AS t WHERE t.target = c.conrelid AND t.created_target)
  LOOP
    EXECUTE format('ALTER TABLE %s DROP CONSTRAINT %I', k.conrelid::regclass, k.conname);
  END LOOP;
END
$$;
COMMENT ON FUNCTION tandem._drop_foreign_keys_to(regclass) IS 'drops the not yet valid foreign keys of created targets that refer to a target';

CREATE FUNCTION tandem.drop_table("table" text, keep_target boolean DEFAULT true) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  dropped tandem.source_table;
BEGIN
  SELECT t.* INTO STRICT dropped FROM tandem.source_table AS t WHERE t.table_id = tandem._table_id("table") FOR UPDATE;
  PERFORM tandem._refuse_foreign_target(dropped.target);
  PERFORM tandem._refuse_orphans(dropped.table_id);
  IF NOT keep_target AND EXISTS (SELECT FROM tandem.source_table AS t WHERE t.target = dropped.target AND t.table_id <> dropped.table_id) THEN
    RAISE EXCEPTION USING ERRCODE = 'dependent_objects_still_exist', MESSAGE = format('target %s is shared with other tables', dropped.target),
      HINT = 'Keep it: keep_target => true.';
  END IF;
  PERFORM tandem._drop_one(dropped.table_id);
  IF NOT keep_target THEN
    PERFORM tandem._drop_foreign_keys_to(dropped.target);
    EXECUTE format('DROP TABLE %s', dropped.target);
  END IF;
END
$$;
COMMENT ON FUNCTION tandem.drop_table(text, boolean) IS
  'stops moving a table; the worker removes triggers and outbox on the old side. The target stays, unless keep_target is false';

CREATE FUNCTION tandem._drop_source_when_empty() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  DELETE FROM tandem.source AS s
  WHERE s.dropping AND NOT EXISTS (SELECT FROM tandem.source_table AS t WHERE t.source_id = s.source_id);
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION tandem._drop_source_when_empty() IS 'trigger: a source that is being dropped goes with its last table';

CREATE TRIGGER drop_source AFTER DELETE ON tandem.source_table
  FOR EACH STATEMENT EXECUTE FUNCTION tandem._drop_source_when_empty();
ALTER TABLE tandem.source_table ENABLE ALWAYS TRIGGER drop_source;

CREATE FUNCTION tandem.drop_source(name text, cascade boolean DEFAULT false) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  dropped tandem.source := tandem._source_named(name);
  tables text;
BEGIN
  SELECT string_agg(t.name, ', ' ORDER BY t.name) INTO tables
  FROM tandem.source_table AS t WHERE t.source_id = dropped.source_id AND t.desired_state <> 'dropped';
  IF tables IS NOT NULL AND NOT cascade THEN
    RAISE EXCEPTION USING
      ERRCODE = 'dependent_objects_still_exist',
      MESSAGE = format('source "%s" still has tables', name),
      DETAIL = format('Tables: %s.', tables),
      HINT = format('Drop them with tandem.drop_table, or all at once: tandem.drop_source(%L, cascade => true).', name);
  END IF;
  PERFORM tandem._refuse_foreign_target(t.target) FROM tandem.source_table AS t WHERE t.source_id = dropped.source_id;
  UPDATE tandem.source AS s SET dropping = true WHERE s.source_id = dropped.source_id;
  PERFORM tandem._drop_one(t.table_id) FROM tandem.source_table AS t WHERE t.source_id = dropped.source_id;
  DELETE FROM tandem.source AS s
  WHERE s.source_id = dropped.source_id AND NOT EXISTS (SELECT FROM tandem.source_table AS t WHERE t.source_id = s.source_id);
END
$$;
COMMENT ON FUNCTION tandem.drop_source(text, boolean) IS
  'forgets a source; refused while it has tables, unless cascade is true. Targets stay. It is gone when the worker has cleaned the old side';
