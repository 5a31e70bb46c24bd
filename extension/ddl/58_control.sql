-- Intents: tandem.start, pause and resume write what is wanted into the catalog, in the caller's transaction; the worker makes it so
-- after the commit. tandem.wait_for waits for that.

CREATE FUNCTION tandem._cascades(fk tandem.source_fk) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT fk.on_delete IN ('CASCADE', 'SET NULL', 'SET DEFAULT') OR fk.on_update IN ('CASCADE', 'SET NULL', 'SET DEFAULT') $$;
COMMENT ON FUNCTION tandem._cascades(tandem.source_fk) IS 'whether a foreign key changes child rows without firing their triggers';

CREATE FUNCTION tandem._cascades_into(child_id integer) RETURNS TABLE (fk tandem.source_fk, parent_id integer)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT f, p.table_id
  FROM tandem.source_table AS t
  JOIN tandem.source AS s ON s.source_id = t.source_id
  JOIN tandem.source_fk AS f ON f.source_id = s.source_id AND f.child_database = s.database AND f.child = t.name
  LEFT JOIN tandem.source_table AS p ON p.source_id = s.source_id AND p.name = f.parent AND f.parent_database = s.database
  WHERE t.table_id = child_id AND tandem._cascades(f)
$$;
COMMENT ON FUNCTION tandem._cascades_into(integer) IS
  'foreign keys by which other tables change rows of this one, and those tables where they are added';

CREATE FUNCTION tandem._unmapped(table_id integer, columns text[]) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT string_agg(format('"%s"', c), ', ') FROM unnest(columns) AS c
  WHERE NOT EXISTS (SELECT FROM tandem.target_column AS m WHERE m.table_id = _unmapped.table_id AND m.source_column = c AND m.written)
$$;
COMMENT ON FUNCTION tandem._unmapped(integer, text[]) IS 'those of the old columns that no target column takes as they are';

CREATE FUNCTION tandem._refuse_uncaptured_parents(child_id integer, together integer[]) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  missing text;
  names text;
  source_name text := (SELECT s.name FROM tandem.source_table AS t JOIN tandem.source AS s USING (source_id) WHERE t.table_id = child_id);
  source_database text := (SELECT s.database FROM tandem.source_table AS t JOIN tandem.source AS s USING (source_id) WHERE t.table_id = child_id);
  elsewhere text;
  to_add text;
BEGIN
  SELECT string_agg(DISTINCT format('%s (foreign key "%s")', (c.fk).parent, (c.fk).name), ', '),
         string_agg(DISTINCT quote_literal(source_name || '.' || (c.fk).parent), ', '),
         min((c.fk).parent_database || '.' || (c.fk).parent) FILTER (WHERE (c.fk).parent_database <> source_database),
         string_agg(DISTINCT format('SELECT tandem.add_table(%L, %L);', source_name, (c.fk).parent), ' ') FILTER (WHERE c.parent_id IS NULL)
    INTO missing, names, elsewhere, to_add
  FROM tandem._cascades_into(child_id) AS c
  LEFT JOIN tandem.source_table AS p ON p.table_id = c.parent_id
  WHERE p.desired_state IS DISTINCT FROM 'running' AND (p.table_id IS NULL OR p.table_id <> ALL (together));
  IF elsewhere IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'feature_not_supported',
      MESSAGE = format('table "%s" is changed by cascades of %s, which is in another database', tandem._table_label(child_id), elsewhere),
      HINT = 'Change the foreign key on the old side to RESTRICT, or delete the children in the application.';
  ELSIF missing IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('table "%s" is changed by cascades of tables that are not running', tandem._table_label(child_id)),
      DETAIL = format('MySQL fires no trigger for rows that a cascade changes; they are found through the parent: %s.', missing),
      HINT = concat_ws(' ', to_add, format('SELECT tandem.start(%s, %L);', names, tandem._table_label(child_id)));
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_uncaptured_parents(integer, integer[]) IS
  'error unless every table whose cascades reach this one is running or started together with it';

CREATE FUNCTION tandem._refuse_hidden_fk_columns(child_id integer) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  hop record;
  unmapped_child text;
  unmapped_parent text;
BEGIN
  FOR hop IN
    SELECT (c.fk).name AS fk_name, (c.fk).columns, (c.fk).ref_columns, c.parent_id FROM tandem._cascades_into(child_id) AS c WHERE c.parent_id IS NOT NULL
  LOOP
    unmapped_child := tandem._unmapped(child_id, hop.columns);
    unmapped_parent := tandem._unmapped(hop.parent_id, hop.ref_columns);
    IF unmapped_child IS NOT NULL OR unmapped_parent IS NOT NULL THEN
      RAISE EXCEPTION USING
        ERRCODE = 'invalid_column_reference',
        MESSAGE = format('columns of the cascading foreign key "%s" have no column of their own in the target: %s', hop.fk_name,
                         concat_ws(', ', unmapped_child, unmapped_parent)),
        DETAIL = 'Rows that a cascade changed are looked up in the target by these columns.',
        HINT = format('Table %L needs target columns that take them as they are: give them to tandem.add_table, after tandem.drop_table if it is added already.',
                      tandem._table_label(CASE WHEN unmapped_child IS NULL THEN hop.parent_id ELSE child_id END));
    END IF;
  END LOOP;
END
$$;
COMMENT ON FUNCTION tandem._refuse_hidden_fk_columns(integer) IS 'error when the columns of a cascading foreign key are not in the targets';

CREATE FUNCTION tandem._target_name(table_id integer, old_column text) RETURNS name
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT min(m.name) FROM tandem.target_column AS m WHERE m.table_id = _target_name.table_id AND m.source_column = old_column AND m.written);
END
$$;
COMMENT ON FUNCTION tandem._target_name(integer, text) IS 'target column that takes an old column as it is';

CREATE FUNCTION tandem._compared_loosely(table_id integer, old_column text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(bool_or(c."collation" !~ '_bin$|^binary$'), false)
  FROM tandem.source_column AS c WHERE c.table_id = _compared_loosely.table_id AND c.name = old_column
$$;
COMMENT ON FUNCTION tandem._compared_loosely(integer, text) IS 'whether the old side compares a column by a collation instead of by its bytes';

CREATE FUNCTION tandem._has_leading_index(target regclass, wanted name, loose boolean) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT EXISTS (
    SELECT FROM pg_index AS i
    WHERE i.indrelid = target AND i.indisvalid AND i.indpred IS NULL
      AND CASE WHEN loose THEN i.indkey[0] = 0 AND i.indcollation[0] = 'tandem.loose'::regcollation
               ELSE i.indkey[0] = (SELECT a.attnum FROM pg_attribute AS a WHERE a.attrelid = target AND a.attname = wanted) END)
$$;
COMMENT ON FUNCTION tandem._has_leading_index(regclass, name, boolean) IS 'whether children can be looked up by this column without reading their whole table';

CREATE FUNCTION tandem._note_slow_cascades(child_id integer) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  hop record;
BEGIN
  FOR hop IN
    SELECT k.fk_name, k.target, bool_or(k.loose) AS loose,
           string_agg(CASE WHEN k.loose THEN format('(rtrim(%I::text) COLLATE tandem.loose)', k.name) ELSE quote_ident(k.name) END, ', '
                      ORDER BY k.position) AS columns
    FROM (SELECT (c.fk).name AS fk_name, t.target, f.position, tandem._target_name(child_id, f.name) AS name,
                 tandem._compared_loosely(child_id, f.name) AS loose
          FROM tandem._cascades_into(child_id) AS c JOIN tandem.source_table AS t ON t.table_id = child_id
          CROSS JOIN LATERAL unnest((c.fk).columns) WITH ORDINALITY AS f(name, position)) AS k
    GROUP BY k.fk_name, k.target HAVING NOT bool_or(tandem._has_leading_index(k.target, k.name, k.loose))
    ORDER BY k.fk_name
  LOOP
    RAISE NOTICE USING
      MESSAGE = format('target %s has no index for the cascading foreign key "%s"', hop.target, hop.fk_name),
      DETAIL = concat_ws(' ', 'Rows that a cascade changed are looked up by it; without an index each batch with changes of parents reads the whole table.',
                         CASE WHEN hop.loose THEN 'The old side compares it without regard to case or trailing spaces, and so does the look-up.' END),
      HINT = format('CREATE INDEX ON %s (%s);', hop.target, hop.columns);
  END LOOP;
END
$$;
COMMENT ON FUNCTION tandem._note_slow_cascades(integer) IS 'notice about cascading foreign keys whose children can only be found by reading the whole target';

CREATE FUNCTION tandem._cascade_neighbours(new_id integer) RETURNS TABLE (table_id integer)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT t.table_id FROM tandem.source_table AS t
  WHERE t.desired_state <> 'dropped' AND EXISTS (SELECT FROM tandem._cascades_into(t.table_id) AS c WHERE c.parent_id = new_id)
  UNION
  SELECT new_id
$$;
COMMENT ON FUNCTION tandem._cascade_neighbours(integer) IS 'a new table, and those already added whose rows its cascades change';

CREATE FUNCTION tandem._refuse_orphans(parent_id integer) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  children text;
BEGIN
  SELECT string_agg(tandem._table_label(t.table_id), ', ' ORDER BY t.name) INTO children
  FROM tandem.source_table AS t
  WHERE t.table_id <> _refuse_orphans.parent_id AND t.desired_state = 'running'
    AND EXISTS (SELECT FROM tandem._cascades_into(t.table_id) AS c WHERE c.parent_id = _refuse_orphans.parent_id);
  IF children IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'dependent_objects_still_exist',
      MESSAGE = format('cascades of table "%s" change tables that are running', tandem._table_label(parent_id)),
      DETAIL = format('Without it these rows would be missed: %s.', children),
      HINT = 'Drop or pause those tables first.';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_orphans(integer) IS 'error when running tables depend on the capture of this one';

CREATE FUNCTION tandem._chosen(tables text[]) RETURNS SETOF tandem.source_table
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  ids integer[] := ARRAY(SELECT tandem._table_id(n) FROM unnest(tables) AS n);
  busy text;
BEGIN
  SELECT min(tandem._table_label(t.table_id)) INTO busy FROM tandem.source_table AS t
  WHERE t.table_id = ANY (ids) AND t.desired_state = 'dropped';
  IF busy IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('table "%s" is being dropped', busy),
      HINT = 'Wait with tandem.wait_for(table, ''dropped''), then add it again.';
  END IF;
  RETURN QUERY SELECT t.* FROM tandem.source_table AS t
    WHERE (cardinality(tables) = 0 OR t.table_id = ANY (ids)) AND t.desired_state <> 'dropped'
    ORDER BY t.table_id FOR UPDATE;
END
$$;
COMMENT ON FUNCTION tandem._chosen(text[]) IS 'the tables named, locked; all of them when none is named';

CREATE FUNCTION tandem.start(VARIADIC tables text[] DEFAULT '{}') RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  ids integer[] := ARRAY(SELECT t.table_id FROM tandem._chosen(tables) AS t);
  started integer;
BEGIN
  PERFORM tandem._refuse_cancelled(ids);
  PERFORM tandem._refuse_foreign_target(t.target), tandem._refuse_unkept_constraints(t.target), tandem._refuse_uncaptured_parents(t.table_id, ids),
    tandem._refuse_hidden_fk_columns(t.table_id), tandem._note_slow_cascades(t.table_id), tandem._note_triggers(t.target)
  FROM tandem.source_table AS t WHERE t.table_id = ANY (ids);
  PERFORM tandem._phase_started(ids);
  INSERT INTO tandem.table_state (table_id) SELECT unnest(ids) ON CONFLICT DO NOTHING;
  UPDATE tandem.source_table AS t SET desired_state = 'running' WHERE t.table_id = ANY (ids) AND t.desired_state <> 'running';
  GET DIAGNOSTICS started = ROW_COUNT;
  RETURN started;
END
$$;
COMMENT ON FUNCTION tandem.start(text[]) IS
  'begins to move the tables named, or all: after the commit capture is installed, existing rows are copied and changes follow. Returns how many were not running before';

CREATE FUNCTION tandem.pause(VARIADIC tables text[] DEFAULT '{}') RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  paused integer;
BEGIN
  WITH chosen AS (SELECT c.table_id FROM tandem._chosen(tables) AS c)
  UPDATE tandem.source_table AS t SET desired_state = 'paused' FROM chosen
  WHERE t.table_id = chosen.table_id AND t.desired_state = 'running';
  GET DIAGNOSTICS paused = ROW_COUNT;
  RETURN paused;
END
$$;
COMMENT ON FUNCTION tandem.pause(text[]) IS
  'stops the apply of the tables named, or of all, while capture goes on: nothing is lost, the outbox grows. Returns how many were running';

CREATE FUNCTION tandem._retry_now(table_id integer) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
  UPDATE tandem.retry AS r SET next_attempt = now() WHERE r.table_id = _retry_now.table_id AND r.next_attempt > now();
  SELECT tandem._wake_apply();
$$;
COMMENT ON FUNCTION tandem._retry_now(integer) IS 'rows of a table that wait are due when the current transaction commits, and apply looks at once';

CREATE FUNCTION tandem._unblock(table_id integer) RETURNS boolean
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  UPDATE tandem.table_state AS a SET state = 'capturing', reason = NULL, detail = '{}', updated_at = now()
  WHERE a.table_id = _unblock.table_id AND a.state = 'blocked';
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM tandem._config_changed();
  RETURN true;
END
$$;
COMMENT ON FUNCTION tandem._unblock(integer) IS
  'lets a blocked table try again: capture is made complete; false if it was not blocked';

CREATE FUNCTION tandem.resume(VARIADIC tables text[] DEFAULT '{}') RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  chosen tandem.source_table;
  resumed integer := 0;
BEGIN
  FOR chosen IN SELECT c.* FROM tandem._chosen(tables) AS c LOOP
    IF chosen.desired_state = 'registered' THEN
      IF cardinality(tables) > 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
          MESSAGE = format('table "%s" was never started', tandem._table_label(chosen.table_id)),
          HINT = format('SELECT tandem.start(%L);', tandem._table_label(chosen.table_id));
      END IF;
      CONTINUE;
    END IF;
    PERFORM tandem._refuse_foreign_target(chosen.target);
    IF tandem._unblock(chosen.table_id) OR chosen.desired_state = 'paused' THEN
      resumed := resumed + 1;
    END IF;
    UPDATE tandem.source_table AS t SET desired_state = 'running' WHERE t.table_id = chosen.table_id AND t.desired_state = 'paused';
    PERFORM tandem._retry_now(chosen.table_id);
  END LOOP;
  RETURN resumed;
END
$$;
COMMENT ON FUNCTION tandem.resume(text[]) IS
  'goes on with paused tables, and lets blocked ones try again after their cause is mended. Returns how many were paused or blocked';

CREATE FUNCTION tandem._refuse_waiting_for_self(table_id integer) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION USING ERRCODE = 'active_sql_transaction',
      MESSAGE = format('tandem.wait_for cannot run in a transaction of isolation level %s', current_setting('transaction_isolation')),
      HINT = 'Its snapshot would never show the change. Use READ COMMITTED.';
  ELSIF EXISTS (SELECT FROM tandem.source_table AS t
                WHERE t.table_id = _refuse_waiting_for_self.table_id AND t.xmin = pg_current_xact_id_if_assigned()::xid) THEN
    RAISE EXCEPTION USING ERRCODE = 'active_sql_transaction',
      MESSAGE = format('table "%s" was changed in this transaction', tandem._table_label(table_id)),
      DETAIL = 'The worker sees the change when it is committed.',
      HINT = 'COMMIT first, then wait.';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_waiting_for_self(integer) IS
  'error when waiting could only time out, because the caller''s own transaction hides the change';

CREATE FUNCTION tandem.wait_for("table" text, state text, timeout interval DEFAULT '1 minute') RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  deadline timestamptz := clock_timestamp() + timeout;
  waited_for integer;
  actual tandem.table_state;
  known constant text[] := ARRAY['registered', 'capturing', 'backfilling', 'syncing', 'paused', 'blocked', 'dropped'];
BEGIN
  IF state <> ALL (known) THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('state "%s" is not known', state),
      HINT = format('Use one of %s.', array_to_string(known, ', '));
  END IF;
  BEGIN
    waited_for := tandem._table_id("table");
  EXCEPTION WHEN undefined_table THEN
    IF state = 'dropped' THEN
      RETURN true;
    END IF;
    RAISE;
  END;
  PERFORM tandem._refuse_waiting_for_self(waited_for);
  LOOP
    -- Each statement of a volatile function has a snapshot of its own at READ COMMITTED.
    SELECT a.* INTO actual FROM tandem.source_table AS t LEFT JOIN tandem.table_state AS a USING (table_id) WHERE t.table_id = waited_for;
    IF NOT FOUND THEN
      RETURN state = 'dropped';
    ELSIF coalesce(actual.state, 'registered') = state THEN
      RETURN true;
    ELSIF actual.state = 'blocked' AND state <> 'dropped' THEN
      RAISE EXCEPTION USING
        ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = format('table "%s" is blocked', tandem._table_label(waited_for)),
        DETAIL = actual.reason,
        HINT = format('Mend the cause, then SELECT tandem.resume(%L);', tandem._table_label(waited_for));
    ELSIF clock_timestamp() >= deadline THEN
      RETURN false;
    END IF;
    PERFORM pg_sleep(0.02);
  END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.wait_for(text, text, interval) IS
  'waits until a table is in that state (dropped: gone from the catalog); false when the time is over, an error when it is blocked';
