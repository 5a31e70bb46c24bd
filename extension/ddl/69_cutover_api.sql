-- Cut-over for people: tandem.cutover, rehearse_cutover, rollback, contract, mend, doctor, rollback_readiness (docs/cutover.md).
--
-- The procedures write down what is wanted, COMMIT, and follow what the worker that leads the source does. They have no SET clause, which
-- would forbid COMMIT, so everything in them is qualified and all work is done by functions.

-- --- asking and following ---------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem._ask_run(kind text, ids integer[], options jsonb) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  new_run bigint;
  source integer := (SELECT min(t.source_id) FROM tandem.source_table AS t WHERE t.table_id = ANY (ids));
BEGIN
  IF EXISTS (SELECT FROM tandem.cutover_run AS r WHERE r.source_id = source AND r.state IN ('asked', 'running') AND r.kind <> 'mend') AND kind <> 'mend' THEN
    RAISE EXCEPTION USING ERRCODE = 'object_in_use', MESSAGE = 'another run is under way for this source',
      DETAIL = (SELECT format('Run %s, a %s of %s, asked for at %s.', r.run_id, r.kind, array_to_string(r.tables, ', '), r.asked_at)
                FROM tandem.cutover_run AS r WHERE r.source_id = source AND r.state IN ('asked', 'running') ORDER BY r.run_id LIMIT 1),
      HINT = 'SELECT * FROM tandem.cutover_runs; shows it.';
  END IF;
  INSERT INTO tandem.cutover_run AS r (kind, source_id, table_ids, tables, options) VALUES (kind, source, ids, tandem._labels(ids), options)
  RETURNING r.run_id INTO new_run;
  PERFORM tandem._config_changed();
  RETURN new_run;
END
$$;
COMMENT ON FUNCTION tandem._ask_run(text, integer[], jsonb) IS 'asks the worker that leads the source for a run; it sees it after the commit';

CREATE FUNCTION tandem._run_progress(run_id bigint, seen integer) RETURNS TABLE (step integer, line text)
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT s.step, format('%s: %s ms%s', s.name, round(s.ms::numeric, 1), coalesce(', ' || s.detail, ''))
  FROM tandem.cutover_step AS s WHERE s.run_id = _run_progress.run_id AND s.step > seen ORDER BY s.step
$$;
COMMENT ON FUNCTION tandem._run_progress(bigint, integer) IS 'steps of a run after those already seen';

CREATE FUNCTION tandem._run_over(run_id bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  run tandem.cutover_run;
BEGIN
  SELECT r.* INTO STRICT run FROM tandem.cutover_run AS r WHERE r.run_id = _run_over.run_id;
  IF run.state = 'asked' AND clock_timestamp() > run.asked_at + interval '30 s' THEN
    UPDATE tandem.cutover_run AS r SET state = 'failed', ended_at = clock_timestamp(),
      error = '{"sqlstate": "55000", "message": "no tandem-sync took the run up", "hint": "SELECT * FROM tandem.pg_stat_tandem_worker; tells who leads the source."}'
    WHERE r.run_id = _run_over.run_id AND r.state = 'asked';
    RETURN false;
  END IF;
  RETURN run.state IN ('done', 'failed');
END
$$;
COMMENT ON FUNCTION tandem._run_over(bigint) IS 'whether a run has ended; one that nobody took up is ended';

CREATE FUNCTION tandem._run_result(run_id bigint) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  run tandem.cutover_run;
BEGIN
  SELECT r.* INTO STRICT run FROM tandem.cutover_run AS r WHERE r.run_id = _run_result.run_id;
  IF run.state = 'failed' THEN
    RAISE EXCEPTION USING ERRCODE = coalesce(run.error ->> 'sqlstate', 'XX000'), MESSAGE = coalesce(run.error ->> 'message', 'the run failed'),
      DETAIL = concat_ws(' ', run.error ->> 'detail', format('Run %s, a %s of %s.', run.run_id, run.kind, array_to_string(run.tables, ', ')),
                         CASE WHEN run.committed THEN 'The source of truth has changed.' ELSE 'The source of truth is as before.' END),
      HINT = coalesce(run.error ->> 'hint', 'SELECT * FROM tandem.doctor(); tells whether something is left half-done.');
  END IF;
  RETURN format('%s of %s: done%s', run.kind, array_to_string(run.tables, ', '), coalesce(format(', writes waited %s ms', round(run.pause_ms::numeric, 1)), ''));
END
$$;
COMMENT ON FUNCTION tandem._run_result(bigint) IS 'a line about a run that is done, or the error of one that failed';

CREATE PROCEDURE tandem._follow(run_id bigint)
LANGUAGE plpgsql
AS $$
DECLARE
  seen integer := 0;
  over boolean := false;
  progress record;
BEGIN
  LOOP
    over := tandem._run_over(run_id);
    COMMIT;
    FOR progress IN SELECT p.step, p.line FROM tandem._run_progress(run_id, seen) AS p LOOP
      RAISE NOTICE '%', progress.line;
      seen := progress.step;
    END LOOP;
    EXIT WHEN over;
    PERFORM pg_catalog.pg_sleep(0.02);
  END LOOP;
  RAISE NOTICE '%', tandem._run_result(run_id);
END
$$;
COMMENT ON PROCEDURE tandem._follow(bigint) IS 'shows the steps of a run as they come and ends with it';

CREATE FUNCTION tandem._begin_cutover(kind text, tables text[], max_pause interval, lock_wait interval, waive jsonb, kill text[] DEFAULT '{}') RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  ids integer[] := tandem._group_of(tables, CASE kind WHEN 'rehearsal' THEN 'rehearse_cutover' ELSE kind END);
  away text;
BEGIN
  IF kind IN ('cutover', 'rehearsal') THEN
    PERFORM tandem._refuse_closed_gates(ids, max_pause, waive);
  ELSE
    SELECT string_agg(format('%s is %s', tandem._table_label(p.table_id), p.phase), ', ') INTO away
    FROM tandem.phase AS p WHERE p.table_id = ANY (ids) AND p.phase <> 'new_primary';
    IF away IS NOT NULL THEN
      RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'only tables whose source of truth is the new side can be rolled back',
        DETAIL = away || '.', HINT = 'SELECT * FROM tandem.phases;';
    END IF;
    SELECT string_agg(tandem._table_label(t.table_id), ', ') INTO away FROM tandem.source_table AS t
    WHERE t.table_id = ANY (ids) AND NOT tandem._trigger_on(t.target, 'tandem_capture_back');
    IF away IS NOT NULL THEN
      RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('there is no way back for %s', away),
        DETAIL = 'Changes of the new side were not captured: the gate "reverse" was waived, or somebody dropped the trigger tandem_capture_back.';
    END IF;
    IF NOT waive ? 'dead_letters' AND EXISTS (SELECT FROM tandem.reverse_letter AS l WHERE l.table_id = ANY (ids) AND l.dead) THEN
      RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'going back would lose rows that the old side does not take',
        DETAIL = (SELECT string_agg(format('%s: %s', l."table", l.n), ', ') FROM (SELECT r."table", count(*) AS n FROM tandem.reverse_letters AS r WHERE r.dead GROUP BY 1) AS l),
        HINT = 'SELECT * FROM tandem.rollback_readiness(…); lists them. Change the rows, or give them up with waive => ''{"dead_letters": "reason"}''.';
    END IF;
    SELECT string_agg(format('%s: %s', d.label, d.n), ', ') INTO away
    FROM (SELECT tandem._table_label(c.table_id) AS label, count(*) AS n FROM tandem.discrepancy AS c
          WHERE c.table_id = ANY (ids) AND c.status IN ('open', 'repairing') GROUP BY c.table_id ORDER BY 1) AS d;
    IF away IS NOT NULL AND NOT waive ? 'divergence' THEN
      RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'the old side has other rows than the new one, and going back would make them right',
        DETAIL = format('Discrepancies that are open: %s.', away),
        HINT = 'SELECT * FROM tandem.discrepancies; shows them, tandem.repair writes the new side''s rows to the old one. Or give them up with waive => ''{"divergence": "reason"}''.';
    END IF;
  END IF;
  IF array_position(kill, NULL) IS NOT NULL OR '' = ANY (kill) THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'kill names users of the old side',
      HINT = 'For example kill => ''{report,batch}''; the default is nobody.';
  END IF;
  RETURN tandem._ask_run(kind, ids, jsonb_build_object('max_pause_ms', tandem._ms(max_pause), 'lock_wait_ms', tandem._ms(lock_wait), 'waive', waive, 'kill', coalesce(kill, '{}')));
END
$$;
COMMENT ON FUNCTION tandem._begin_cutover(text, text[], interval, interval, jsonb, text[]) IS 'checks and asks for a cut-over, rehearsal or rollback';

CREATE PROCEDURE tandem.cutover(tables text[], max_pause interval DEFAULT '1 s', waive jsonb DEFAULT '{}', lock_wait interval DEFAULT '30 s', kill text[] DEFAULT '{}')
LANGUAGE plpgsql
AS $$
DECLARE
  run bigint;
BEGIN
  run := tandem._begin_cutover('cutover', tables, max_pause, lock_wait, waive, kill);
  COMMIT;
  CALL tandem._follow(run);
END
$$;
COMMENT ON PROCEDURE tandem.cutover(text[], interval, jsonb, interval, text[]) IS
  'makes the new side the source of truth of these tables: locks and fences the old tables, drains, commits. Gives up within max_pause if that does not suffice, and tries for lock_wait to get the lock. waive: gate → reason, recorded. kill: users of the old side whose sessions may be ended when they hold the tables';

CREATE PROCEDURE tandem.rehearse_cutover(tables text[], max_pause interval DEFAULT '1 s', waive jsonb DEFAULT '{}', lock_wait interval DEFAULT '30 s', kill text[] DEFAULT '{}')
LANGUAGE plpgsql
AS $$
DECLARE
  run bigint;
BEGIN
  run := tandem._begin_cutover('rehearsal', tables, max_pause, lock_wait, waive, kill);
  COMMIT;
  CALL tandem._follow(run);
  RAISE NOTICE '%', tandem._predicted_pause(tables);
END
$$;
COMMENT ON PROCEDURE tandem.rehearse_cutover(text[], interval, jsonb, interval, text[]) IS
  'does all of a cut-over but the commit, under the traffic there is, and tells how long writes waited. The old side is as before';

CREATE FUNCTION tandem._predicted_pause(tables text[]) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT format('pause of %s rehearsals and cut-overs of these tables: p50 %s ms, p99 %s ms', count(*),
                round(percentile_cont(0.5) WITHIN GROUP (ORDER BY r.pause_ms)::numeric, 1), round(percentile_cont(0.99) WITHIN GROUP (ORDER BY r.pause_ms)::numeric, 1))
  FROM tandem.cutover_run AS r
  WHERE r.kind IN ('rehearsal', 'cutover') AND r.state = 'done' AND r.pause_ms IS NOT NULL
    AND r.table_ids = ARRAY(SELECT DISTINCT tandem._table_id(n) FROM unnest(tables) AS n ORDER BY 1)
$$;
COMMENT ON FUNCTION tandem._predicted_pause(text[]) IS 'what the history says about the pause of the next cut-over of these tables';

CREATE PROCEDURE tandem.rollback(tables text[], max_pause interval DEFAULT '1 s', waive jsonb DEFAULT '{}', lock_wait interval DEFAULT '30 s')
LANGUAGE plpgsql
AS $$
DECLARE
  run bigint;
BEGIN
  run := tandem._begin_cutover('rollback', tables, max_pause, lock_wait, waive);
  COMMIT;
  CALL tandem._follow(run);
END
$$;
COMMENT ON PROCEDURE tandem.rollback(text[], interval, jsonb, interval) IS
  'makes the old side the source of truth again: closes the targets, brings the old side up to date, commits, takes the fence away. As often as wanted until tandem.contract';

CREATE FUNCTION tandem._begin_contract(tables text[], confirm text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  ids integer[] := ARRAY(SELECT DISTINCT tandem._table_id(n) FROM unnest(tables) AS n ORDER BY 1);
  away text;
BEGIN
  IF cardinality(ids) = 0 THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'tandem.contract needs tables';
  END IF;
  PERFORM tandem._refuse_foreign_target(t.target) FROM (SELECT target FROM tandem.source_table WHERE table_id = ANY (ids) ORDER BY table_id) AS t;
  SELECT string_agg(format('%s is %s', tandem._table_label(p.table_id), p.phase), ', ') INTO away
  FROM tandem.phase AS p WHERE p.table_id = ANY (ids) AND p.phase NOT IN ('new_primary', 'contracted');
  IF away IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'only tables whose source of truth is the new side can be contracted',
      DETAIL = away || '.', HINT = 'SELECT * FROM tandem.phases;';
  ELSIF confirm IS DISTINCT FROM 'no way back' THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'tandem.contract gives up the way back and needs to be confirmed',
      DETAIL = format('Triggers, outboxes, fences and metadata of %s are removed from the old side: it accepts writes again that go nowhere.', array_to_string(tandem._labels(ids), ', ')),
      HINT = 'confirm => ''no way back''';
  END IF;
  RETURN tandem._ask_run('contract', ids, '{}');
END
$$;
COMMENT ON FUNCTION tandem._begin_contract(text[], text) IS 'checks and asks for a contract';

CREATE PROCEDURE tandem.contract(tables text[], confirm text DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
  run bigint;
BEGIN
  run := tandem._begin_contract(tables, confirm);
  COMMIT;
  CALL tandem._follow(run);
END
$$;
COMMENT ON PROCEDURE tandem.contract(text[], text) IS
  'removes triggers, outboxes, fences and metadata of these tables from the old side and the machinery of the way back from the new one, and lists them. confirm must be ''no way back''. Can be repeated';

CREATE PROCEDURE tandem.mend(source text DEFAULT NULL)
LANGUAGE plpgsql
AS $$
DECLARE
  run bigint;
BEGIN
  FOR run IN SELECT tandem._begin_mend(source) LOOP
    COMMIT;
    CALL tandem._follow(run);
  END LOOP;
END
$$;
COMMENT ON PROCEDURE tandem.mend(text) IS 'puts back or finishes what tandem.doctor names, of one source or of all';

CREATE FUNCTION tandem._begin_mend(source text) RETURNS SETOF bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT tandem._ask_run('mend', ARRAY(SELECT t.table_id FROM tandem.source_table AS t WHERE t.source_id = s.source_id ORDER BY 1), '{}')
  FROM tandem.source AS s WHERE (_begin_mend.source IS NULL OR s.source_id = (tandem._source_named(_begin_mend.source)).source_id)
    AND EXISTS (SELECT FROM tandem.source_table AS t WHERE t.source_id = s.source_id)
$$;
COMMENT ON FUNCTION tandem._begin_mend(text) IS 'asks for a run that puts back what is half-done, one for each source';

-- --- doctor and readiness ---------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem._old_state_or_null(ids integer[]) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN tandem._old_state(ids);
EXCEPTION WHEN OTHERS THEN
  RETURN jsonb_build_object('error', SQLERRM);
END
$$;
COMMENT ON FUNCTION tandem._old_state_or_null(integer[]) IS 'the same, or why it could not be asked';

CREATE FUNCTION tandem.doctor() RETURNS TABLE (source text, tables text[], state text, meaning text, call text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  s tandem.source;
  old jsonb;
  ids integer[];
BEGIN
  FOR s IN SELECT x.* FROM tandem.source AS x ORDER BY x.name LOOP
    ids := ARRAY(SELECT p.table_id FROM tandem.phase AS p JOIN tandem.source_table AS t USING (table_id)
                 WHERE t.source_id = s.source_id AND p.phase NOT IN ('registered', 'contracted') ORDER BY 1);
    CONTINUE WHEN cardinality(ids) = 0;
    old := tandem._old_state_or_null(ids);
    IF old ? 'error' THEN
      RETURN QUERY SELECT s.name, NULL::text[], 'not known', 'the old side could not be asked: ' || (old ->> 'error'),
        'tandem-sync run … must be running and reach both sides; call again then';
    END IF;
    RETURN QUERY
    SELECT s.name, r.tables, 'running', format('a %s is under way since %s', r.kind, r.asked_at), 'wait; SELECT * FROM tandem.cutover_runs;'
    FROM tandem.cutover_run AS r WHERE r.source_id = s.source_id AND r.state IN ('asked', 'running');
    IF FOUND THEN
      CONTINUE;
    END IF;
    RETURN QUERY
    SELECT s.name, array_agg(tandem._table_label(p.table_id) ORDER BY p.table_id), p.phase,
           CASE p.phase WHEN 'cutover' THEN 'a cut-over did not end; it has not been committed, the old side is the source of truth and may be fenced'
                        ELSE 'a rollback did not end; it has not been committed, the new side is the source of truth and is closed' END,
           'CALL tandem.mend();'
    FROM tandem.phase AS p WHERE p.table_id = ANY (ids) AND p.phase IN ('cutover', 'closing') GROUP BY p.phase, p.epoch;
    RETURN QUERY
    SELECT s.name, array_agg(DISTINCT tandem._table_label(t.table_id)), 'fenced', 'the old side is the source of truth but refuses writes: an attempt or a rollback did not end', 'CALL tandem.mend();'
    FROM jsonb_array_elements(old -> 'fences') AS f JOIN tandem.source_table AS t ON t.source_id = s.source_id AND t.trigger_suffix = f ->> 'suffix'
    JOIN tandem.phase AS p USING (table_id) WHERE p.phase NOT IN ('cutover', 'closing', 'new_primary', 'contracted')
    HAVING count(*) > 0;
    RETURN QUERY
    SELECT s.name, array_agg(tandem._table_label(p.table_id) ORDER BY p.table_id), 'not fenced',
           'ALARM: the new side is the source of truth and the old side has no fence: writes there are lost. Somebody dropped it, or the old side is another server now', 'CALL tandem.mend();'
    FROM tandem.phase AS p JOIN tandem.source_table AS t USING (table_id)
    WHERE p.table_id = ANY (ids) AND p.phase = 'new_primary' AND NOT old ? 'error'
      AND (SELECT count(*) FROM jsonb_array_elements(old -> 'fences') AS f WHERE f ->> 'suffix' = t.trigger_suffix) < 3
    HAVING count(*) > 0;
    RETURN QUERY
    SELECT s.name, array_agg(tandem._table_label(t.table_id) ORDER BY t.table_id), 'no way back', 'changes of the new side are not captured', NULL::text
    FROM tandem.phase AS p JOIN tandem.source_table AS t USING (table_id)
    WHERE p.table_id = ANY (ids) AND p.phase = 'new_primary' AND NOT tandem._trigger_on(t.target, 'tandem_capture_back')
    HAVING count(*) > 0;
    RETURN QUERY
    SELECT s.name, array_agg(DISTINCT tandem._table_label(l.table_id)), 'letters', format('%s rows are not taken by the old side', count(*)), 'SELECT * FROM tandem.reverse_letters;'
    FROM tandem.reverse_letter AS l WHERE l.table_id = ANY (ids) HAVING count(*) > 0;
  END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.doctor() IS 'what is half-done or wrong between the two sides, what it means, and the call that mends it; no row: nothing';

CREATE FUNCTION tandem._changed_old_tables(ids integer[]) RETURNS TABLE (label text, reason text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  moved integer[];
  settled integer[];
  source integer;
BEGIN
  FOR source, moved IN
    SELECT t.source_id, array_agg(t.table_id ORDER BY t.table_id) FROM tandem.source_table AS t JOIN tandem.phase AS p USING (table_id)
    WHERE t.table_id = ANY (ids) AND p.phase IN ('new_primary', 'closing') GROUP BY t.source_id
  LOOP
    BEGIN
      settled := ARRAY(SELECT i FROM unnest(moved) AS i WHERE tandem._has_settled_rows(i));
      RETURN QUERY SELECT c.label, c.reason
      FROM tandem._ask(jsonb_build_object('kind', 'old_tables', 'source_id', source, 'table_ids', to_jsonb(moved)), interval '30 s') AS a,
           LATERAL (SELECT jsonb_agg(CASE WHEN (o ->> 'table_id')::integer = ANY (settled) THEN o ELSE o || '{"empty": false}' END) AS seen
                    FROM jsonb_array_elements(a) AS o) AS s,
           LATERAL tandem.old_tables_changed(s.seen) AS c;
    EXCEPTION WHEN OTHERS THEN
      RETURN QUERY SELECT tandem._table_label(i), format('could not be looked at: %s', SQLERRM) FROM unnest(moved) AS i;
    END;
  END LOOP;
END
$$;
COMMENT ON FUNCTION tandem._changed_old_tables(integer[]) IS 'old tables that may have lost rows since the cut-over, as the worker sees them now';

CREATE FUNCTION tandem.rollback_readiness(tables text[]) RETURNS TABLE ("table" text, finding text, key jsonb, detail text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  ids integer[] := ARRAY(SELECT DISTINCT tandem._table_id(n) FROM unnest(tables) AS n ORDER BY 1);
BEGIN
  RETURN QUERY
  SELECT tandem._table_label(i), 'obstacle', NULL::jsonb, o FROM unnest(ids) AS i, tandem._reverse_obstacles(i) AS o
  UNION ALL
  SELECT tandem._table_label(t.table_id), 'not captured', NULL, 'the trigger tandem_capture_back is missing: changes of the new side are not known'
  FROM tandem.source_table AS t JOIN tandem.phase AS p USING (table_id)
  WHERE t.table_id = ANY (ids) AND p.phase IN ('new_primary', 'closing')
    AND NOT tandem._trigger_on(t.target, 'tandem_capture_back')
  UNION ALL
  -- Constants and columns made by an expression are given back by the old columns.
  SELECT tandem._table_label(t.table_id), 'column only here', NULL, format('column "%s" of %s has no place on the old side', a.attname, t.target)
  FROM tandem.source_table AS t JOIN pg_attribute AS a ON a.attrelid = t.target AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
  WHERE t.table_id = ANY (ids) AND NOT EXISTS (SELECT FROM tandem.target_column AS m WHERE m.table_id = t.table_id AND m.name = a.attname)
  UNION ALL
  SELECT tandem._table_label(l.table_id), CASE WHEN l.dead THEN 'row refused' ELSE 'row waits' END, tandem.decode_key(l.table_id, l.key), l.message
  FROM tandem.reverse_letter AS l WHERE l.table_id = ANY (ids)
  UNION ALL
  SELECT tandem._table_label(o.table_id), 'lag', NULL, format('%s changes are not on the old side yet', count(*))
  FROM tandem.reverse_outbox AS o WHERE o.table_id = ANY (ids) GROUP BY o.table_id
  UNION ALL
  SELECT tandem._table_label(d.table_id), 'row differs', tandem.decode_key(d.table_id, d.key), concat_ws(': ', d.kind, nullif(array_to_string(d.columns, ', '), ''))
  FROM tandem.discrepancy AS d JOIN tandem.phase AS p USING (table_id)
  WHERE d.table_id = ANY (ids) AND d.status IN ('open', 'repairing') AND tandem._source_of_truth(p.phase) = 'new';
  RETURN QUERY SELECT c.label, 'old table', NULL::jsonb, c.reason FROM tandem._changed_old_tables(ids) AS c;
END
$$;
COMMENT ON FUNCTION tandem.rollback_readiness(text[]) IS
  'what going back would lose, one row each; no row: nothing. Every row changed since the cut-over was written to the old side and read back there, so this is what it really refused';

CREATE VIEW tandem.cutover_runs AS
  SELECT r.run_id, s.name AS source, r.kind, r.tables, r.state, r.committed, r.epoch, r.pause_ms, r.error ->> 'message' AS error, r.options -> 'waive' AS waived,
         (SELECT string_agg(format('%s %s ms%s', p.name, round(p.ms::numeric, 1), coalesce(' (' || p.detail || ')', '')), '; ' ORDER BY p.step)
          FROM tandem.cutover_step AS p WHERE p.run_id = r.run_id) AS steps,
         r.asked_by, r.asked_at, r.started_at, r.ended_at
  FROM tandem.cutover_run AS r LEFT JOIN tandem.source AS s USING (source_id);
COMMENT ON VIEW tandem.cutover_runs IS 'cut-overs, rehearsals, rollbacks and contracts, with their steps';
COMMENT ON COLUMN tandem.cutover_runs.run_id IS 'number of the run';
COMMENT ON COLUMN tandem.cutover_runs.source IS 'source of the tables';
COMMENT ON COLUMN tandem.cutover_runs.kind IS 'cutover, rehearsal, rollback, contract or mend';
COMMENT ON COLUMN tandem.cutover_runs.tables IS 'tables that move together';
COMMENT ON COLUMN tandem.cutover_runs.state IS 'asked, running, done or failed';
COMMENT ON COLUMN tandem.cutover_runs.committed IS 'the source of truth has changed';
COMMENT ON COLUMN tandem.cutover_runs.epoch IS 'epoch of the attempt, which the names of its fence carry';
COMMENT ON COLUMN tandem.cutover_runs.pause_ms IS 'how long writes had to wait, from the request for the lock to its end';
COMMENT ON COLUMN tandem.cutover_runs.error IS 'why it failed';
COMMENT ON COLUMN tandem.cutover_runs.waived IS 'gates that were waived, with the reasons';
COMMENT ON COLUMN tandem.cutover_runs.steps IS 'steps with the time that each took';
COMMENT ON COLUMN tandem.cutover_runs.asked_by IS 'who asked for it';
COMMENT ON COLUMN tandem.cutover_runs.asked_at IS 'when';
COMMENT ON COLUMN tandem.cutover_runs.started_at IS 'when the worker took it up';
COMMENT ON COLUMN tandem.cutover_runs.ended_at IS 'when it ended';

GRANT SELECT ON tandem.cutover_runs TO tandem_monitor;
GRANT SELECT, INSERT (kind, source_id, table_ids, tables, options), UPDATE (state, error, ended_at) ON tandem.cutover_run TO tandem_admin;
GRANT SELECT ON tandem.cutover_step TO tandem_admin;
GRANT EXECUTE ON FUNCTION tandem.doctor(), tandem._changed_old_tables(integer[]) TO tandem_admin;
