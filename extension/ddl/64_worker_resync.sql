-- Worker-facing part of the capture guard and of re-synchronisation (docs/protocol.md section 17).
--
-- A loss is written down before anything is mended: from then on the table cannot go on as if nothing had happened, whatever ends when.
--   capture_lost → phase due → (the reset batch is applied) copying → (the last chunk is applied) sweeping → report_sweep(done) → done

CREATE FUNCTION tandem._auto_resync() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT current_setting('tandem.auto_resync')::boolean $$;
COMMENT ON FUNCTION tandem._auto_resync() IS 'setting tandem.auto_resync';

CREATE FUNCTION tandem._record_loss(table_id integer, cause text, reason text, automatic boolean) RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
  DELETE FROM tandem.capture_identity AS i WHERE i.table_id = _record_loss.table_id;
  INSERT INTO tandem.resync AS r (table_id, cause, reason, automatic)
  VALUES (_record_loss.table_id, _record_loss.cause, _record_loss.reason, _record_loss.automatic)
  ON CONFLICT (table_id) DO UPDATE
    SET loss = r.loss + 1, phase = 'due', cause = excluded.cause, reason = excluded.reason, automatic = excluded.automatic, cursor = NULL,
        swept = 0, suspected = 0, started_at = clock_timestamp(), finished_at = NULL
  RETURNING r.loss
$$;
COMMENT ON FUNCTION tandem._record_loss(integer, text, text, boolean) IS 'a table must be copied anew; returns the number of this loss';

CREATE FUNCTION tandem.capture_lost(table_id integer, epoch bigint, cause text, reason text, automatic boolean, OUT loss bigint, OUT state text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  lost tandem.source_table;
BEGIN
  SELECT t.* INTO lost FROM tandem.source_table AS t WHERE t.table_id = capture_lost.table_id FOR UPDATE;
  IF NOT FOUND THEN
    RETURN; -- dropped meanwhile
  END IF;
  PERFORM tandem._refuse_other_epoch(lost.source_id, epoch);
  automatic := automatic AND tandem._auto_resync();
  loss := tandem._record_loss(capture_lost.table_id, cause, reason, automatic);
  state := CASE WHEN NOT automatic THEN 'blocked' WHEN lost.desired_state = 'paused' THEN 'paused' ELSE 'capturing' END;
  UPDATE tandem.table_state AS a
  SET state = capture_lost.state, reason = capture_lost.reason, detail = jsonb_build_object('cause', cause, 'loss', loss), updated_at = clock_timestamp()
  WHERE a.table_id = capture_lost.table_id;
  PERFORM tandem._commit_durably(), tandem._requests_changed();
END
$$;
COMMENT ON FUNCTION tandem.capture_lost(integer, bigint, text, text, boolean) IS
  'events of a table were lost or may have been: it must be copied anew and leaves "syncing" now. Returns the number of the loss, and the state: blocked unless it is mended by itself';

CREATE FUNCTION tandem.note_identity(table_id integer, epoch bigint, identity jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  source integer := (SELECT t.source_id FROM tandem.source_table AS t WHERE t.table_id = note_identity.table_id);
BEGIN
  IF source IS NULL THEN
    RETURN;
  END IF;
  PERFORM tandem._refuse_other_epoch(source, epoch);
  INSERT INTO tandem.capture_identity AS i (table_id, identity) VALUES (note_identity.table_id, note_identity.identity)
  ON CONFLICT ON CONSTRAINT capture_identity_pkey DO UPDATE SET identity = excluded.identity, noted_at = clock_timestamp();
END
$$;
COMMENT ON FUNCTION tandem.note_identity(integer, bigint, jsonb) IS 'capture of a table is complete, and this is what the old side is known by';

CREATE FUNCTION tandem.report_guard(source_id integer, epoch bigint, tables integer, look_ms double precision, by_number boolean, error text) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM tandem._refuse_other_epoch(source_id, epoch);
  INSERT INTO tandem.guard AS g (source_id, looked_at, look_ms, tables, by_number, error, failing_since)
  VALUES (report_guard.source_id, CASE WHEN report_guard.error IS NULL THEN clock_timestamp() END, report_guard.look_ms, report_guard.tables,
          report_guard.by_number, report_guard.error, CASE WHEN report_guard.error IS NOT NULL THEN clock_timestamp() END)
  ON CONFLICT ON CONSTRAINT guard_pkey DO UPDATE
    SET looked_at = coalesce(excluded.looked_at, g.looked_at), look_ms = coalesce(excluded.look_ms, g.look_ms), tables = excluded.tables,
        by_number = coalesce(excluded.by_number, g.by_number), error = excluded.error,
        failing_since = CASE WHEN excluded.error IS NOT NULL THEN coalesce(g.failing_since, excluded.failing_since) END;
END
$$;
COMMENT ON FUNCTION tandem.report_guard(integer, bigint, integer, double precision, boolean, text) IS
  'the capture guard has looked at the old side, or could not';

-- A column that nothing reads and that is not there any more, or not as it was, is left out of what is read; its place in images stays.
CREATE FUNCTION tandem.report_columns(table_id integer, epoch bigint, changes jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  source integer := (SELECT t.source_id FROM tandem.source_table AS t WHERE t.table_id = report_columns.table_id);
BEGIN
  IF source IS NULL THEN
    RETURN;
  END IF;
  PERFORM tandem._refuse_other_epoch(source, epoch);
  DELETE FROM tandem.column_change AS c
  WHERE c.table_id = report_columns.table_id
    AND NOT EXISTS (SELECT FROM jsonb_array_elements(changes) AS n WHERE n ->> 'column' = c.column_name);
  INSERT INTO tandem.column_change AS c (table_id, column_name, change, old_type, new_type)
  SELECT report_columns.table_id, n ->> 'column', n ->> 'change', n ->> 'old_type', n ->> 'new_type' FROM jsonb_array_elements(changes) AS n
  ON CONFLICT (table_id, column_name) DO UPDATE
    SET change = excluded.change, old_type = excluded.old_type, new_type = excluded.new_type,
        noticed_at = CASE WHEN (c.change, c.old_type, c.new_type) IS DISTINCT FROM (excluded.change, excluded.old_type, excluded.new_type)
                          THEN clock_timestamp() ELSE c.noticed_at END;
  IF EXISTS (SELECT FROM jsonb_array_elements(changes) AS n
             WHERE n ->> 'change' IN ('dropped', 'altered') AND NOT tandem._is_mapped(report_columns.table_id, n ->> 'column')) THEN
    UPDATE tandem.source_column AS c SET gone = true
    FROM jsonb_array_elements(changes) AS n
    WHERE c.table_id = report_columns.table_id AND c.name = n ->> 'column' AND n ->> 'change' IN ('dropped', 'altered')
      AND NOT tandem._is_mapped(c.table_id, c.name);
    DELETE FROM tandem.column_change AS c USING tandem.source_column AS g
    WHERE c.table_id = report_columns.table_id AND g.table_id = c.table_id AND g.name = c.column_name AND g.gone AND c.change IN ('dropped', 'altered');
  END IF;
END
$$;
COMMENT ON FUNCTION tandem.report_columns(integer, bigint, jsonb) IS
  'how the columns of an old table differ from those it was added with: [{"column","change","old_type","new_type"}]';

-- --- the sweep: keys of the target, for the worker to look up on the old side -----------------------------------------------------

CREATE FUNCTION tandem._sweep_columns(table_id integer)
RETURNS TABLE (name name, column_type text, by_text boolean, image_type text, old_position integer, index_position bigint)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  -- An old key column may be in several target columns; the first of them will do. Index columns in the order of a unique index of the key.
  -- A type with operators of its own (citext) is ordered by its text, which costs a sort: its operators are not in our search_path.
  SELECT DISTINCT ON (k.position) m.name, format_type(a.atttypid, a.atttypmod),
         (SELECT y.typnamespace <> 'pg_catalog'::regnamespace AND y.typtype <> 'e' FROM pg_type AS d
          JOIN pg_type AS y ON y.oid = CASE d.typtype WHEN 'd' THEN d.typbasetype ELSE d.oid END WHERE d.oid = a.atttypid),
         c.image_type, k.position::integer,
         (SELECT min(o.position) FROM pg_index AS i CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS o(attnum, position)
          WHERE i.indrelid = t.target AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND o.attnum = a.attnum
            AND i.indexrelid = (SELECT min(i2.indexrelid) FROM pg_index AS i2
                                WHERE i2.indrelid = t.target AND i2.indisunique AND i2.indisvalid AND i2.indpred IS NULL AND i2.indexprs IS NULL
                                  AND (SELECT array_agg(b.attname ORDER BY b.attname) FROM pg_attribute AS b
                                       WHERE b.attrelid = t.target AND b.attnum = ANY ((i2.indkey::smallint[])[0:i2.indnkeyatts - 1]))
                                      = (SELECT array_agg(w.name ORDER BY w.name) FROM tandem.target_column AS w
                                         WHERE w.table_id = t.table_id AND w.key_position IS NOT NULL)))
  FROM tandem.source_table AS t
  CROSS JOIN LATERAL unnest(t.key_columns) WITH ORDINALITY AS k(name, position)
  JOIN tandem.source_column AS c ON c.table_id = t.table_id AND c.name = k.name
  JOIN tandem.target_column AS m ON m.table_id = t.table_id AND m.source_column = k.name AND m.key_position IS NOT NULL
  JOIN pg_attribute AS a ON a.attrelid = t.target AND a.attname = m.name AND NOT a.attisdropped
  WHERE t.table_id = _sweep_columns.table_id
  ORDER BY k.position, m.key_position
$$;
COMMENT ON FUNCTION tandem._sweep_columns(integer) IS 'target columns that hold the old key, with their place in the index that orders them';

CREATE FUNCTION tandem._sweep_query(table_id integer, as_image boolean) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT format('SELECT ARRAY[%s] FROM %s AS k WHERE %s%s AND ($1 IS NULL OR (%s) > (%s)) ORDER BY %s LIMIT $2',
    string_agg(CASE WHEN as_image THEN format('k.%I::%s::text', s.name, s.image_type) ELSE format('k.%I::text', s.name) END, ', ' ORDER BY s.old_position),
    t.target,
    string_agg(format('k.%I IS NOT NULL', s.name), ' AND '),
    (SELECT coalesce(string_agg(format(' AND k.%I = %s', e.key, tandem._constant_as(e.value, t.target, e.key)), ''), '') FROM jsonb_each_text(t.constants) AS e),
    string_agg(o.ordered, ', ' ORDER BY s.index_position, s.old_position),
    string_agg(CASE WHEN s.by_text THEN format('($1[%s]) COLLATE "C"', s.old_position) ELSE format('($1[%s])::%s', s.old_position, s.column_type) END, ', '
               ORDER BY s.index_position, s.old_position),
    string_agg(o.ordered, ', ' ORDER BY s.index_position, s.old_position))
  FROM tandem.source_table AS t CROSS JOIN LATERAL tandem._sweep_columns(t.table_id) AS s
  CROSS JOIN LATERAL (SELECT CASE WHEN s.by_text THEN format('k.%I::text COLLATE "C"', s.name) ELSE format('k.%I', s.name) END AS ordered) AS o
  WHERE t.table_id = _sweep_query.table_id
  GROUP BY t.table_id
$$;
COMMENT ON FUNCTION tandem._sweep_query(integer, boolean) IS 'statement that reads keys of a table''s own rows in the target, after $1, at most $2';

CREATE FUNCTION tandem.sweep_keys(table_id integer, epoch bigint, loss bigint, "limit" integer) RETURNS SETOF text[]
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
  SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET timezone = 'UTC' SET extra_float_digits = 1 SET bytea_output = 'hex'
  SET plan_cache_mode = 'force_custom_plan'
AS $$
DECLARE
  swept tandem.resync;
  found_keys jsonb;
BEGIN
  SELECT r.* INTO swept FROM tandem.resync AS r
  WHERE r.table_id = sweep_keys.table_id AND r.loss = sweep_keys.loss AND r.phase = 'sweeping';
  IF NOT FOUND THEN
    RETURN;
  END IF;
  PERFORM tandem._refuse_other_epoch((SELECT t.source_id FROM tandem.source_table AS t WHERE t.table_id = sweep_keys.table_id), epoch);
  BEGIN
    EXECUTE format('SELECT jsonb_agg(q.k) FROM (%s) AS q (k)', tandem._sweep_query(sweep_keys.table_id, true)) INTO found_keys USING swept.cursor, "limit";
  EXCEPTION WHEN data_exception THEN
    -- A row that is not of the old table: its key does not fit there. As it is, then.
    EXECUTE format('SELECT jsonb_agg(q.k) FROM (%s) AS q (k)', tandem._sweep_query(sweep_keys.table_id, false)) INTO found_keys USING swept.cursor, "limit";
  END;
  RETURN QUERY SELECT ARRAY(SELECT jsonb_array_elements_text(k.key)) FROM jsonb_array_elements(found_keys) WITH ORDINALITY AS k (key, n) ORDER BY k.n;
END
$$;
COMMENT ON FUNCTION tandem.sweep_keys(integer, bigint, bigint, integer) IS
  'next keys of the target, in text form and in the order of its index, of a table whose rows are looked up on the old side; none: the sweep is through';

CREATE FUNCTION tandem.report_sweep(table_id integer, epoch bigint, loss bigint, cursor text[], swept integer, suspected integer, done boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  source integer := (SELECT t.source_id FROM tandem.source_table AS t WHERE t.table_id = report_sweep.table_id);
BEGIN
  IF source IS NULL THEN
    RETURN;
  END IF;
  PERFORM tandem._refuse_other_epoch(source, epoch);
  UPDATE tandem.resync AS r
  SET cursor = coalesce(report_sweep.cursor, r.cursor), swept = r.swept + report_sweep.swept, suspected = r.suspected + report_sweep.suspected,
      phase = CASE WHEN done THEN 'done' ELSE r.phase END, finished_at = CASE WHEN done THEN clock_timestamp() END
  WHERE r.table_id = report_sweep.table_id AND r.loss = report_sweep.loss AND r.phase = 'sweeping';
  IF FOUND AND done THEN
    UPDATE tandem.table_state AS a SET state = 'syncing', reason = NULL, detail = '{}', updated_at = clock_timestamp()
    WHERE a.table_id = report_sweep.table_id AND a.state = 'backfilling';
    PERFORM tandem._requests_changed();
  END IF;
END
$$;
COMMENT ON FUNCTION tandem.report_sweep(integer, bigint, bigint, text[], integer, integer, boolean) IS
  'keys up to the cursor were looked up, and those that the old side does not have are in its outbox; done: the table is in sync again';

GRANT EXECUTE ON FUNCTION tandem.capture_lost(integer, bigint, text, text, boolean), tandem.note_identity(integer, bigint, jsonb),
  tandem.report_columns(integer, bigint, jsonb),
  tandem.report_guard(integer, bigint, integer, double precision, boolean, text), tandem.sweep_keys(integer, bigint, bigint, integer),
  tandem.report_sweep(integer, bigint, bigint, text[], integer, integer, boolean)
TO tandem_worker;
