-- What must be so before a cut-over: the group of tables, and the gates with their values and limits (docs/cutover.md).

CREATE FUNCTION tandem._fk_closure(ids integer[]) RETURNS integer[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  WITH RECURSIVE tied AS (
    SELECT c.table_id AS one, p.table_id AS other
    FROM tandem.source_fk AS f JOIN tandem.source AS s USING (source_id)
    JOIN tandem.source_table AS c ON c.source_id = s.source_id AND c.name = f.child AND f.child_database = s.database
    JOIN tandem.source_table AS p ON p.source_id = s.source_id AND p.name = f.parent AND f.parent_database = s.database
  ), closure(id) AS (
    SELECT unnest(ids)
    UNION
    SELECT CASE WHEN t.one = c.id THEN t.other ELSE t.one END FROM closure AS c JOIN tied AS t ON c.id IN (t.one, t.other)
  )
  SELECT array_agg(c.id ORDER BY c.id) FROM closure AS c JOIN tandem.source_table AS t ON t.table_id = c.id
    JOIN tandem.phase AS p ON p.table_id = c.id WHERE t.desired_state <> 'dropped' AND p.phase <> 'contracted'
$$;
COMMENT ON FUNCTION tandem._fk_closure(integer[]) IS 'these tables and all that foreign keys of the old side tie to them, over any number of steps';

CREATE FUNCTION tandem._labels(ids integer[]) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT array_agg(tandem._table_label(i) ORDER BY tandem._table_label(i)) FROM unnest(ids) AS i $$;
COMMENT ON FUNCTION tandem._labels(integer[]) IS 'labels of tables, sorted';

CREATE FUNCTION tandem._group_of(tables text[], procedure text) RETURNS integer[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  ids integer[];
  closure integer[];
BEGIN
  IF coalesce(cardinality(tables), 0) = 0 THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('tandem.%s needs tables', procedure),
      HINT = format('Name them: tandem.%s(ARRAY[''shop.users'', ''shop.orders'']).', procedure);
  END IF;
  ids := ARRAY(SELECT DISTINCT tandem._table_id(n) FROM unnest(tables) AS n ORDER BY 1);
  IF (SELECT count(DISTINCT t.source_id) FROM tandem.source_table AS t WHERE t.table_id = ANY (ids)) > 1 THEN
    RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = 'tables of several sources cannot move together',
      HINT = 'Call once for each source.';
  END IF;
  PERFORM tandem._refuse_foreign_target(t.target) FROM (SELECT target FROM tandem.source_table WHERE table_id = ANY (ids) ORDER BY table_id) AS t;
  closure := tandem._fk_closure(ids);
  IF NOT closure <@ ids THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = 'tables that foreign keys tie together must move together',
      DETAIL = format('Not named: %s.', array_to_string(tandem._labels(ARRAY(SELECT unnest(closure) EXCEPT SELECT unnest(ids))), ', ')),
      HINT = format('tandem.%s(%L::text[])', procedure, tandem._labels(closure));
  END IF;
  RETURN ids;
END
$$;
COMMENT ON FUNCTION tandem._group_of(text[], text) IS 'the tables named, which must be a whole group by foreign keys; the refusal offers the group';

-- --- gates ------------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem._old_state(ids integer[]) RETURNS jsonb
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT a FROM tandem.source AS s
  CROSS JOIN LATERAL tandem._ask(jsonb_build_object('kind', 'old_state', 'tables',
    (SELECT jsonb_agg(jsonb_build_object('name', t.name, 'suffix', t.trigger_suffix)) FROM tandem.source_table AS t WHERE t.table_id = ANY (ids)))
    || tandem._connection(s), interval '30 s') AS a
  WHERE s.source_id = (SELECT min(t.source_id) FROM tandem.source_table AS t WHERE t.table_id = ANY (ids))
$$;
COMMENT ON FUNCTION tandem._old_state(integer[]) IS 'what the old side shows of fences, long transactions, rights and its clock';

CREATE FUNCTION tandem._ms(i interval) RETURNS bigint
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT (extract(epoch FROM i) * 1000)::bigint $$;
COMMENT ON FUNCTION tandem._ms(interval) IS 'an interval in milliseconds';

CREATE FUNCTION tandem._gates(ids integer[], max_pause interval)
RETURNS TABLE (gate text, "table" text, value text, "limit" text, ok boolean, waivable boolean, hint text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  old jsonb := tandem._old_state(ids);
BEGIN
  RETURN QUERY
  SELECT 'phase', tandem._table_label(p.table_id), p.phase, 'ready', p.phase = 'ready', false,
         CASE WHEN p.phase <> 'ready' THEN format('SELECT tandem.set_phase(%L, ''ready'');', tandem._table_label(p.table_id)) END
  FROM tandem.phase AS p WHERE p.table_id = ANY (ids)
  UNION ALL
  SELECT 'state', tandem._table_label(t.table_id), coalesce(a.state, 'registered') || coalesce(': ' || a.reason, ''), 'syncing, old tables unchanged',
         t.desired_state = 'running' AND a.state = 'syncing' AND a.backfill_done, false, NULL
  FROM tandem.source_table AS t LEFT JOIN tandem.table_state AS a USING (table_id) WHERE t.table_id = ANY (ids)
  UNION ALL
  SELECT 'lag', v.source || '.' || v."table", coalesce(round(v.lag_seconds::numeric, 1)::text, 'not reported yet'), '5 s',
         -- Not reported yet: the drain of the cut-over itself tells.
         coalesce(v.lag_seconds <= 5, true), true,
         'SELECT tandem.wait_caught_up(''1 minute'');'
  FROM tandem.pg_stat_tandem_tables AS v JOIN tandem.tables AS t USING (source, "table") WHERE t.table_id = ANY (ids)
  UNION ALL
  SELECT 'retry', tandem._table_label(i), (SELECT count(*) FROM tandem.retry AS r WHERE r.table_id = i)::text, '0',
         NOT EXISTS (SELECT FROM tandem.retry AS r WHERE r.table_id = i), false, NULL FROM unnest(ids) AS i
  UNION ALL
  SELECT 'queued_writes', tandem._table_label(i), (SELECT count(*) FROM tandem.write_queue AS q WHERE q.table_id = i AND q.given_up)::text || ' given up', '0',
         NOT EXISTS (SELECT FROM tandem.write_queue AS q WHERE q.table_id = i AND q.given_up), true,
         'SELECT * FROM tandem.queued_writes WHERE given_up; then tandem.settle_write. Waived: they stay in the queue.'
  FROM unnest(ids) AS i
  UNION ALL
  SELECT 'dead_letters', tandem._table_label(i), (SELECT count(*) FROM tandem.dead_letter AS d WHERE d.table_id = i)::text, '0',
         NOT EXISTS (SELECT FROM tandem.dead_letter AS d WHERE d.table_id = i), true, 'SELECT * FROM tandem.dead_letters; mend the rows, then tandem.retry_dead_letters().'
  FROM unnest(ids) AS i;
  RETURN QUERY SELECT g.* FROM tandem._reconciliation_gates(ids) AS g;
  RETURN QUERY
  SELECT 'sequences', tandem._table_label(i), (SELECT count(*) FROM tandem.source_table AS t, tandem._sequence_columns(t.target) WHERE t.table_id = i)::text || ' set at the commit',
         NULL, true, false, NULL FROM unnest(ids) AS i
  UNION ALL
  SELECT 'foreign_keys', tandem._table_label(t.table_id), count(c.oid)::text || ' not validated', '0', count(c.oid) = 0, true,
         CASE WHEN count(c.oid) > 0 THEN 'SELECT * FROM tandem.validate_foreign_keys();' END
  FROM tandem.source_table AS t LEFT JOIN pg_constraint AS c ON c.conrelid = t.target AND c.contype = 'f' AND NOT c.convalidated
  WHERE t.table_id = ANY (ids) GROUP BY t.table_id
  UNION ALL
  SELECT 'reverse', tandem._table_label(i), coalesce((SELECT string_agg(o, '; ') FROM tandem._reverse_obstacles(i) AS o), 'the way back is open'), 'open',
         NOT EXISTS (SELECT FROM tandem._reverse_obstacles(i)), true, 'Waived: there is no way back for the whole group.' FROM unnest(ids) AS i
  UNION ALL
  SELECT 'long_transactions', NULL, coalesce((SELECT string_agg(format('session %s of %s: %s s', x ->> 'id', x ->> 'user', x ->> 'seconds'), '; ')
                                              FROM jsonb_array_elements(old -> 'long_transactions') AS x), 'none'),
         format('none older than %s s', old ->> 'long_after'), jsonb_array_length(old -> 'long_transactions') = 0, true,
         'The lock waits for them, and writers behind it. End them, or wait.'
  UNION ALL
  SELECT 'fence', NULL, coalesce((SELECT string_agg(x ->> 'name', ', ') FROM jsonb_array_elements(old -> 'fences') AS x), 'none'), 'no remains of another attempt',
         jsonb_array_length(old -> 'fences') = 0, false, CASE WHEN jsonb_array_length(old -> 'fences') > 0 THEN 'CALL tandem.mend();' END
  UNION ALL
  SELECT 'privileges', NULL, coalesce((SELECT string_agg(x, '; ') FROM jsonb_array_elements_text(old -> 'missing_privileges') AS x), 'complete'), 'complete',
         jsonb_array_length(old -> 'missing_privileges') = 0, false, 'Run these statements on the old side.'
  UNION ALL
  SELECT 'clocks', NULL, format('%s ms apart', round(abs(extract(epoch FROM clock_timestamp()) - (old ->> 'now')::numeric) * 1000)), NULL, true, false, 'For display only: nothing is decided by it.'
  UNION ALL
  SELECT 'max_pause', NULL, max_pause::text, 'at least 100 ms', max_pause >= interval '100 ms', false, NULL;
END
$$;
COMMENT ON FUNCTION tandem._gates(integer[], interval) IS 'every gate of a cut-over of these tables';

CREATE FUNCTION tandem._reconciliation_gates(ids integer[])
RETURNS TABLE (gate text, "table" text, value text, "limit" text, ok boolean, waivable boolean, hint text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT 'clean_pass', tandem._table_label(t.table_id),
         CASE WHEN v.last_clean IS NULL AND k.known THEN format('every row was equal or on its way, %s rows changed since, %s discrepancies open', v.unverified, v.open)
              WHEN v.last_clean IS NULL THEN 'no clean pass yet'
              ELSE format('last clean pass ended %s, %s rows changed since and not verified, %s discrepancies open', v.last_clean, v.unverified, v.open) END,
         'a clean pass, no discrepancy open', coalesce((v.last_clean IS NOT NULL OR k.known) AND v.open = 0 AND v.repairing = 0, false), true,
         format('SELECT * FROM tandem.reconcile(%L);', tandem._table_label(t.table_id))
  FROM tandem.tables AS t LEFT JOIN tandem.pg_stat_tandem_reconcile AS v USING (source, "table")
  CROSS JOIN LATERAL (SELECT tandem._knows_changes(t.table_id) AS known) AS k
  WHERE t.table_id = ANY (ids)
  UNION ALL
  SELECT 'divergence', tandem._table_label(t.table_id),
         CASE WHEN k.known THEN format('all %s rows that changed since the last pass are compared in the pause', coalesce(v.unverified, 0))
              ELSE coalesce(v.divergence_bound_percent::text || ' %', 'not known') END, '0.0001 %',
         k.known OR coalesce(v.divergence_bound_percent <= 0.0001, false), true, format('SELECT * FROM tandem.reconcile(%L);', tandem._table_label(t.table_id))
  FROM tandem.tables AS t LEFT JOIN tandem.pg_stat_tandem_reconcile AS v USING (source, "table")
  CROSS JOIN LATERAL (SELECT coalesce(v.open = 0 AND v.repairing = 0 AND tandem._knows_changes(t.table_id), false) AS known) AS k
  WHERE t.table_id = ANY (ids)
  UNION ALL
  SELECT 'verify', tandem._table_label(i), 'in the pause', 'rows that changed since the last pass are equal', true, true, NULL FROM unnest(ids) AS i
$$;
COMMENT ON FUNCTION tandem._reconciliation_gates(integer[]) IS 'gates that reconciliation has to open';

CREATE FUNCTION tandem.cutover_unverified(run_id bigint) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  SELECT string_agg(format('%s of %s: %s, limit %s', g.gate, g."table", g.value, g."limit"), E'\n' ORDER BY g.gate, g."table")
  FROM tandem.cutover_run AS r CROSS JOIN LATERAL tandem._reconciliation_gates(r.table_ids) AS g
  WHERE r.run_id = cutover_unverified.run_id AND NOT g.ok AND NOT coalesce(r.options -> 'waive', '{}') ? g.gate
$$;
COMMENT ON FUNCTION tandem.cutover_unverified(bigint) IS
  'gates of reconciliation that are closed now although they were open when the run was asked for, NULL when there are none';
GRANT EXECUTE ON FUNCTION tandem.cutover_unverified(bigint) TO tandem_worker;

CREATE FUNCTION tandem.cutover_check(tables text[], max_pause interval DEFAULT '1 s')
RETURNS TABLE (gate text, "table" text, value text, "limit" text, ok boolean, waivable boolean, hint text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  ids integer[] := ARRAY(SELECT DISTINCT tandem._table_id(n) FROM unnest(tables) AS n ORDER BY 1);
  closure integer[] := tandem._fk_closure(ids);
BEGIN
  IF cardinality(ids) = 0 THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'tandem.cutover_check needs tables';
  END IF;
  RETURN QUERY SELECT 'group', NULL::text, array_to_string(tandem._labels(ids), ', '), array_to_string(tandem._labels(closure), ', '), closure <@ ids, false,
    CASE WHEN NOT closure <@ ids THEN format('Foreign keys tie these together: %L::text[]', tandem._labels(closure)) END;
  RETURN QUERY SELECT g.* FROM tandem._gates(ids, max_pause) AS g;
END
$$;
COMMENT ON FUNCTION tandem.cutover_check(text[], interval) IS
  'the gates of a cut-over, each with its value and limit; a gate that is not ok and is waivable can be waived by name and reason';

CREATE FUNCTION tandem._refuse_closed_gates(ids integer[], max_pause interval, waive jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  waived_wrongly text;
  lines text;
BEGIN
  IF jsonb_typeof(waive) IS DISTINCT FROM 'object'
     OR EXISTS (SELECT FROM jsonb_each(waive) AS w WHERE jsonb_typeof(w.value) <> 'string' OR w.value #>> '{}' = '') THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'waive must be an object: gate → reason',
      HINT = 'For example ''{"clean_pass": "compared with our own tool at 02:10"}''.';
  END IF;
  CREATE TEMPORARY TABLE IF NOT EXISTS tandem_gates (gate text, "table" text, value text, "limit" text, ok boolean, waivable boolean, hint text) ON COMMIT DROP;
  DELETE FROM pg_temp.tandem_gates;
  INSERT INTO pg_temp.tandem_gates SELECT g.* FROM tandem._gates(ids, max_pause) AS g;
  SELECT string_agg(w.key, ', ') INTO waived_wrongly FROM jsonb_each(waive) AS w
  WHERE NOT EXISTS (SELECT FROM pg_temp.tandem_gates AS g WHERE g.gate = w.key AND g.waivable);
  IF waived_wrongly IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('gates that cannot be waived: %s', waived_wrongly),
      HINT = 'SELECT * FROM tandem.cutover_check(…); tells which can.';
  END IF;
  SELECT string_agg(format('%s%s: %s, limit %s', g.gate, coalesce(' of ' || g."table", ''), g.value, g."limit"), E'\n' ORDER BY g.gate, g."table") INTO lines
  FROM pg_temp.tandem_gates AS g WHERE NOT g.ok AND NOT (g.waivable AND waive ? g.gate);
  IF lines IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'gates of the cut-over are closed', DETAIL = lines,
      HINT = 'SELECT * FROM tandem.cutover_check(…); shows what helps. A gate that is waivable is opened by waive => ''{"gate": "reason"}''.';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_closed_gates(integer[], interval, jsonb) IS 'error that lists every gate that is closed and not waived';
