-- Foreign keys of created targets, and tandem.plan: what add_tables would run (docs/planning.md).

CREATE FUNCTION tandem._taken_as_is(table_id integer, columns text[]) RETURNS name[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT ARRAY(SELECT (SELECT min(m.name) FROM tandem.target_column AS m WHERE m.table_id = _taken_as_is.table_id AND m.source_column = c.name AND m.written)
               FROM unnest(columns) WITH ORDINALITY AS c(name, n) ORDER BY c.n)
$$;
COMMENT ON FUNCTION tandem._taken_as_is(integer, text[]) IS 'target columns that take the old columns as they are, NULL where none does';

CREATE FUNCTION tandem._attnums(relation regclass, columns name[]) RETURNS smallint[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT ARRAY(SELECT a.attnum FROM unnest(columns) WITH ORDINALITY AS c(name, n)
               JOIN pg_attribute AS a ON a.attrelid = relation AND a.attname = c.name ORDER BY c.n)
$$;
COMMENT ON FUNCTION tandem._attnums(regclass, name[]) IS 'column numbers of a relation by name';

CREATE FUNCTION tandem._plan_foreign_key(fk tandem.source_fk, child tandem.source_table, parent tandem.source_table) RETURNS tandem.planned_statement
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  planned tandem.planned_statement := ROW(fk.child, 'foreign key', NULL, '{}');
  columns name[] := tandem._taken_as_is(child.table_id, fk.columns);
  ref_columns name[] := tandem._taken_as_is(parent.table_id, fk.ref_columns);
  reason text;
BEGIN
  reason := CASE
    WHEN parent.table_id IS NULL THEN format('its parent "%s.%s" is not added', fk.parent_database, fk.parent)
    WHEN array_position(columns || ref_columns, NULL) IS NOT NULL THEN 'a column of it is not moved as it is'
    WHEN NOT EXISTS (SELECT FROM pg_index AS i
                     WHERE i.indrelid = parent.target AND i.indisunique AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
                       AND i.indnkeyatts = cardinality(ref_columns)
                       AND (i.indkey::smallint[])[0:i.indnkeyatts - 1] @> tandem._attnums(parent.target, ref_columns)) THEN
      format('target %s has no unique index on exactly the columns it refers to', parent.target) END;
  IF reason IS NULL THEN
    planned.ddl := format('ALTER TABLE %s ADD CONSTRAINT %I FOREIGN KEY (%s) REFERENCES %s (%s) ON DELETE %s ON UPDATE %s NOT VALID',
                          child.target, tandem._short_name(fk.name),
                          (SELECT string_agg(quote_ident(c.name), ', ' ORDER BY c.n) FROM unnest(columns) WITH ORDINALITY AS c(name, n)),
                          parent.target,
                          (SELECT string_agg(quote_ident(c.name), ', ' ORDER BY c.n) FROM unnest(ref_columns) WITH ORDINALITY AS c(name, n)),
                          fk.on_delete, fk.on_update);
  ELSE
    planned.losses := ARRAY[format('foreign key "%s" is not created: %s', fk.name, reason)];
  END IF;
  RETURN planned;
END
$$;
COMMENT ON FUNCTION tandem._plan_foreign_key(tandem.source_fk, tandem.source_table, tandem.source_table) IS
  'a foreign key between targets as it is on the old side, not valid yet, or why it is not created';

CREATE FUNCTION tandem._plan_lookup_index(fk tandem.source_fk, child tandem.source_table) RETURNS tandem.planned_statement
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  planned tandem.planned_statement := ROW(fk.child, 'index', NULL, '{}');
  columns name[] := tandem._taken_as_is(child.table_id, fk.columns);
  longest bigint;
BEGIN
  IF NOT tandem._cascades(fk) OR NOT child.created_target OR array_position(columns, NULL) IS NOT NULL
     OR (SELECT bool_or(tandem._has_leading_index(child.target, c.name, tandem._compared_loosely(child.table_id, o.name)))
         FROM unnest(columns) WITH ORDINALITY AS c(name, n) JOIN unnest(fk.columns) WITH ORDINALITY AS o(name, n) USING (n)) THEN
    RETURN NULL;
  END IF;
  -- In the form in which cascades look their rows up (extension/src/cascade_lookup.cpp).
  planned.ddl := format('CREATE INDEX %I ON %s (%s)', tandem._short_name('tandem_lookup_' || fk.name), child.target,
    (SELECT string_agg(CASE WHEN tandem._compared_loosely(child.table_id, o.name) THEN format('(rtrim(%I::text) COLLATE tandem.loose)', c.name)
                            ELSE quote_ident(c.name) END, ', ' ORDER BY n)
     FROM unnest(columns) WITH ORDINALITY AS c(name, n) JOIN unnest(fk.columns) WITH ORDINALITY AS o(name, n) USING (n)));
  SELECT coalesce(sum(substring(c.mysql_type FROM '^(?:var)?char\((\d+)\)')::bigint), 0) INTO longest
  FROM tandem.source_column AS c WHERE c.table_id = child.table_id AND c.name = ANY (fk.columns);
  IF longest > 650 THEN
    RETURN NULL; -- an entry of a B-tree might be too long; tandem.start tells what is missing
  END IF;
  RETURN planned;
END
$$;
COMMENT ON FUNCTION tandem._plan_lookup_index(tandem.source_fk, tandem.source_table) IS
  'index of a created target by which apply finds the rows that a cascade changed, NULL where there is one or none is needed; tandem.contract drops it';

CREATE FUNCTION tandem._drop_lookup_indexes(target regclass) RETURNS text[]
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  one regclass;
  dropped text[] := '{}';
BEGIN
  FOR one IN SELECT i.indexrelid FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
             WHERE i.indrelid = target AND c.relname LIKE 'tandem\_lookup\_%' ORDER BY c.relname LOOP
    dropped := dropped || one::text;
    EXECUTE format('DROP INDEX %s', one);
  END LOOP;
  RETURN dropped;
END
$$;
COMMENT ON FUNCTION tandem._drop_lookup_indexes(regclass) IS 'drops what _plan_lookup_index has made for a target; returns the names';

-- Between all tables of the source, as a parent may be added after its children. Told only for tables that are new.
CREATE FUNCTION tandem._create_foreign_keys(source tandem.source, new_ids integer[]) RETURNS SETOF tandem.planned_statement
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  hop record;
  planned tandem.planned_statement;
BEGIN
  FOR hop IN
    SELECT f AS fk, c AS child, p AS parent
    FROM tandem.source_fk AS f
    JOIN tandem.source_table AS c ON c.source_id = f.source_id AND c.name = f.child
    LEFT JOIN tandem.source_table AS p ON p.source_id = f.source_id AND p.name = f.parent AND f.parent_database = source.database
    WHERE f.source_id = source.source_id AND f.child_database = source.database AND c.created_target
      AND (c.table_id = ANY (new_ids) OR p.table_id = ANY (new_ids))
    ORDER BY c.table_id, f.name
  LOOP
    planned := tandem._plan_foreign_key(hop.fk, hop.child, hop.parent);
    IF planned.ddl IS NULL OR NOT EXISTS (SELECT FROM pg_constraint AS k
                                          WHERE k.conrelid = (hop.child).target AND k.contype = 'f' AND k.confrelid = (hop.parent).target
                                            AND k.conkey = tandem._attnums(k.conrelid, tandem._taken_as_is((hop.child).table_id, (hop.fk).columns))
                                            AND k.confkey = tandem._attnums(k.confrelid, tandem._taken_as_is((hop.parent).table_id, (hop.fk).ref_columns))) THEN
      BEGIN
        PERFORM tandem._carry_out(planned);
      EXCEPTION WHEN insufficient_privilege OR datatype_mismatch OR undefined_function OR invalid_foreign_key OR duplicate_object THEN
        planned := ROW(planned.table_name, planned.step, NULL, ARRAY[format('foreign key "%s" is not created: %s', (hop.fk).name, SQLERRM)]);
        PERFORM tandem._carry_out(planned);
      END;
      RETURN NEXT planned;
    END IF;
    planned := tandem._plan_lookup_index(hop.fk, hop.child);
    IF planned.ddl IS NOT NULL THEN
      PERFORM tandem._carry_out(planned);
      RETURN NEXT planned;
    END IF;
  END LOOP;
END
$$;
COMMENT ON FUNCTION tandem._create_foreign_keys(tandem.source, integer[]) IS
  'creates, NOT VALID, the foreign keys in which new tables are child or parent, and the indexes by which their cascades are looked up; only on targets that pg_tandem created';

CREATE FUNCTION tandem.validate_foreign_keys("table" text DEFAULT NULL, timeout interval DEFAULT '15 s')
RETURNS TABLE (target regclass, constraint_name name, valid boolean, problem text)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  wanted integer := CASE WHEN validate_foreign_keys."table" IS NOT NULL THEN tandem._table_id(validate_foreign_keys."table") END;
  patience_ends timestamptz;
BEGIN
  FOR target, constraint_name IN
    SELECT t.target, k.conname
    FROM tandem.source_table AS t JOIN pg_constraint AS k ON k.conrelid = t.target AND k.contype = 'f' AND NOT k.convalidated
    WHERE wanted IS NULL OR t.table_id = wanted ORDER BY t.table_id, k.conname
  LOOP
    -- Under live writes a child may lack its parent for a moment: a cascade of the old side arrives after the removal that began it.
    patience_ends := clock_timestamp() + timeout;
    LOOP
      BEGIN
        EXECUTE format('ALTER TABLE %s VALIDATE CONSTRAINT %I', target, constraint_name);
        valid := true;
        problem := NULL;
      EXCEPTION WHEN foreign_key_violation THEN
        valid := false;
        GET STACKED DIAGNOSTICS problem = PG_EXCEPTION_DETAIL;
        problem := concat_ws(' ', SQLERRM, problem);
      END;
      EXIT WHEN valid OR clock_timestamp() >= patience_ends;
      PERFORM pg_sleep(0.2);
    END LOOP;
    RETURN NEXT;
  END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.validate_foreign_keys(text, interval) IS
  'checks all rows against foreign keys that were created NOT VALID, of one target or all; reads the tables, lets writers go on. A row without its parent may only be ahead of a cascade that is on its way, so a key that fails is tried again for timeout. One row for each key that was not valid before';

CREATE FUNCTION tandem.plan(source text, pattern text DEFAULT '%', target_schema name DEFAULT current_schema())
RETURNS TABLE (table_name text, step text, ddl text, losses text[])
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  from_source tandem.source := tandem._source_named(source);
  -- Errors of tables do not end the plan, so what was planned is kept in variables, and everything that was done is undone.
  planned tandem.planned_statement[] := '{}';
  description jsonb;
  reason text;
  hint text;
  added record;
  new_ids integer[] := '{}';
  undo constant text := 'TD001';
BEGIN
  BEGIN
    PERFORM set_config('client_min_messages', 'warning', true);
    FOR description IN SELECT tandem._describe_all(from_source, pattern) LOOP
      reason := tandem._left_out(from_source, description);
      IF reason IS NOT NULL THEN
        planned := planned || ROW(description ->> 'table', 'left out', NULL, ARRAY[reason])::tandem.planned_statement;
        CONTINUE;
      END IF;
      BEGIN
        added := tandem._add_described(from_source, description, NULL, '{}', 'error', target_schema);
        new_ids := new_ids || added.new_id;
        planned := planned || added.planned;
        IF cardinality(added.planned) = 0 THEN
          planned := planned || ROW(description ->> 'table', 'existing target', NULL,
            ARRAY[(SELECT format('target %s exists and is taken', t.target) FROM tandem.source_table AS t WHERE t.table_id = added.new_id)])::tandem.planned_statement;
        END IF;
      EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
        planned := planned || ROW(description ->> 'table', 'refused', NULL, ARRAY[concat_ws(E'\n', SQLERRM, nullif(hint, ''))])::tandem.planned_statement;
      END;
    END LOOP;
    planned := planned || ARRAY(SELECT p FROM tandem._create_foreign_keys(from_source, new_ids) AS p);
    RAISE EXCEPTION USING ERRCODE = undo;
  EXCEPTION WHEN SQLSTATE 'TD001' THEN
    NULL; -- undone
  END;
  RETURN QUERY SELECT p.table_name, p.step, p.ddl || ';', p.losses FROM unnest(planned) AS p;
END
$$;
COMMENT ON FUNCTION tandem.plan(text, text, name) IS
  'what tandem.add_tables would run, one row for each statement, with what it does not carry over; "refused" tables make add_tables fail. Nothing is changed.
To do it in another way, run edited statements by hand and give the table as target to tandem.add_table';
