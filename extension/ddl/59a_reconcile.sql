-- Reconciliation as the DBA calls it: passes, the continuous scan, alarms. See docs/reconciliation.md.

CREATE FUNCTION tandem._ancestor_waits(table_id integer) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  WITH RECURSIVE ancestor AS (
    SELECT c.parent_id FROM tandem._cascades_into(_ancestor_waits.table_id) AS c WHERE c.parent_id IS NOT NULL
    UNION
    SELECT c.parent_id FROM ancestor AS a CROSS JOIN LATERAL tandem._cascades_into(a.parent_id) AS c WHERE c.parent_id IS NOT NULL
  )
  SELECT EXISTS (SELECT FROM ancestor AS a JOIN tandem.request AS r ON r.table_id = a.parent_id)
      OR EXISTS (SELECT FROM ancestor AS a JOIN tandem.retry AS r ON r.table_id = a.parent_id WHERE r.op = 'D' OR r.flags & 3 <> 0)
$$;
COMMENT ON FUNCTION tandem._ancestor_waits(integer) IS
  'whether a row waits whose removal on the old side may have changed rows of this table behind the triggers'' back';

-- --- which tables -----------------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem._tables_named(tables text[]) RETURNS integer[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  wanted text;
  ids integer[] := '{}';
  matching integer[];
BEGIN
  IF tables IS NULL OR cardinality(tables) = 0 THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'no table is named',
      HINT = 'Name tables, or give a pattern: ''shop.%'' are all tables of source shop, ''%'' all of all sources.';
  END IF;
  FOREACH wanted IN ARRAY tables LOOP
    IF strpos(wanted, '%') > 0 THEN
      matching := ARRAY(SELECT t.table_id FROM tandem.source_table AS t WHERE tandem._table_label(t.table_id) LIKE wanted AND t.desired_state <> 'dropped'
                    ORDER BY t.table_id);
      IF cardinality(matching) = 0 THEN
        RAISE EXCEPTION USING ERRCODE = 'undefined_table', MESSAGE = format('no table has a name like "%s"', wanted),
          HINT = 'The pattern is one of LIKE, on source.table; the view tandem.tables lists them.';
      END IF;
    ELSE
      matching := ARRAY[tandem._table_id(wanted)];
    END IF;
    ids := ids || ARRAY(SELECT i FROM unnest(matching) AS i WHERE i <> ALL (ids));
  END LOOP;
  RETURN ids;
END
$$;
COMMENT ON FUNCTION tandem._tables_named(text[]) IS 'tables by their names and by patterns; error when there is none';

CREATE FUNCTION tandem._refuse_unreconcilable(table_id integer) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  actual tandem.table_state;
BEGIN
  IF NOT tandem.reconcilable(table_id) THEN
    SELECT a.* INTO actual FROM tandem.table_state AS a WHERE a.table_id = _refuse_unreconcilable.table_id;
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('table "%s" cannot be reconciled while it is %s', tandem._table_label(table_id), coalesce(actual.state, 'registered')),
      DETAIL = coalesce(actual.reason, 'Rows are compared once all of them are here and every change is captured.'),
      HINT = CASE coalesce(actual.state, 'registered')
               WHEN 'registered' THEN format('SELECT tandem.start(%L);', tandem._table_label(table_id))
               WHEN 'blocked' THEN format('Mend the cause, then SELECT tandem.resume(%L);', tandem._table_label(table_id))
               WHEN 'paused' THEN format('SELECT tandem.resume(%L);', tandem._table_label(table_id))
               ELSE format('SELECT tandem.wait_for(%L, ''syncing'', ''1 hour'');', tandem._table_label(table_id)) END;
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_unreconcilable(integer) IS 'error unless the rows of the table can be compared now';

CREATE FUNCTION tandem._bound_key(table_id integer, key jsonb) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT to_jsonb(tandem.key_text(table_id, tandem.encode_key(table_id, key))) WHERE key IS NOT NULL $$;
COMMENT ON FUNCTION tandem._bound_key(integer, jsonb) IS 'bound of a range as a text key';

CREATE FUNCTION tandem._pass_options(table_id integer, low jsonb, high jsonb, sample double precision, rows_per_second integer) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT coalesce(sample > 0 AND sample <= 1, true) THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'sample must be above 0 and at most 1',
      DETAIL = 'It is the part of the rows that is compared.';
  ELSIF rows_per_second <= 0 THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'rows_per_second must be above 0';
  END IF;
  RETURN jsonb_build_object('low', tandem._bound_key(table_id, low), 'high', tandem._bound_key(table_id, high), 'sample', sample,
                            'rows_per_second', rows_per_second);
END
$$;
COMMENT ON FUNCTION tandem._pass_options(integer, jsonb, jsonb, double precision, integer) IS 'options of a pass, checked';

CREATE FUNCTION tandem._refuse_bounds_of_several(ids integer[], low jsonb, high jsonb) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF cardinality(ids) > 1 AND (low IS NOT NULL OR high IS NOT NULL) THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a range of keys is for one table';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_bounds_of_several(integer[], jsonb, jsonb) IS 'error when bounds are given for more than one table';

-- --- the view of discrepancies ----------------------------------------------------------------------------------------------------

CREATE VIEW tandem.discrepancies AS
  SELECT d.discrepancy_id, tandem._table_label(d.table_id) AS "table", t.target, tandem.decode_key(d.table_id, d.key) AS key, d.kind, d.columns,
         CASE WHEN v.readable THEN d.old END AS old, CASE WHEN v.readable THEN d.new END AS new, d.cause, d.status, d.reason,
         d.first_seen, d.last_seen, d.times, d.changed_by, d.changed_at
  FROM tandem.discrepancy AS d JOIN tandem.source_table AS t USING (table_id)
  -- Values are for those who may read the target.
  CROSS JOIN LATERAL (SELECT coalesce(has_table_privilege(t.target, 'SELECT'), false) AS readable) AS v;
COMMENT ON VIEW tandem.discrepancies IS 'rows that were confirmed to differ; for tandem_admin';
COMMENT ON COLUMN tandem.discrepancies.discrepancy_id IS 'number, as tandem.review takes it';
COMMENT ON COLUMN tandem.discrepancies."table" IS 'source.table';
COMMENT ON COLUMN tandem.discrepancies.target IS 'table of this database';
COMMENT ON COLUMN tandem.discrepancies.key IS 'old key of the row; {"bytes": …} for a key that the old table cannot have';
COMMENT ON COLUMN tandem.discrepancies.kind IS 'missing: the row is not in the target; extra: it is not on the old side; different: its values differ';
COMMENT ON COLUMN tandem.discrepancies.columns IS 'target columns that differ; "name (original)" is an original in tandem.sidecar, of an old column';
COMMENT ON COLUMN tandem.discrepancies.old IS 'what apply would write, as text; of the columns that differ, or of all; long values are cut. NULL for a reader without SELECT on the target';
COMMENT ON COLUMN tandem.discrepancies.new IS 'what is there, likewise';
COMMENT ON COLUMN tandem.discrepancies.cause IS 'probable cause: uncaptured (a change of the old side that no trigger saw), apply, written on new; NULL: nothing tells it any more';
COMMENT ON COLUMN tandem.discrepancies.status IS 'open, repairing (asked for), repaired, waived, gone (equal again by itself)';
COMMENT ON COLUMN tandem.discrepancies.reason IS 'why it was waived or opened again';
COMMENT ON COLUMN tandem.discrepancies.first_seen IS 'when it was confirmed first';
COMMENT ON COLUMN tandem.discrepancies.last_seen IS 'when it was confirmed last';
COMMENT ON COLUMN tandem.discrepancies.times IS 'how often it was confirmed';
COMMENT ON COLUMN tandem.discrepancies.changed_by IS 'who reviewed it or had it repaired last; NULL: automatically';
COMMENT ON COLUMN tandem.discrepancies.changed_at IS 'when its status last changed';
GRANT SELECT ON tandem.discrepancies, tandem.discrepancy, tandem.reconcile_found TO tandem_admin;

-- --- one call ---------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem._reconcile_one(table_id integer, options jsonb) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  summary jsonb;
BEGIN
  PERFORM tandem._refuse_unreconcilable(table_id);
  -- Silence for so long means that a side is stuck; progress is told more often.
  SELECT a INTO summary
  FROM tandem._ask(options || jsonb_build_object('kind', 'reconcile', 'table_id', table_id, 'requested_by', session_user), interval '2 min') AS a;
  IF summary ->> 'state' = 'failed' THEN
    RAISE EXCEPTION USING ERRCODE = 'fdw_error', MESSAGE = format('table "%s" could not be reconciled', tandem._table_label(table_id)),
      DETAIL = (SELECT r.error FROM tandem.reconcile_runs AS r WHERE r.run_id = (summary ->> 'run_id')::bigint);
  ELSIF (summary ->> 'in_flight')::bigint > 0 THEN
    RAISE NOTICE USING MESSAGE = format('%s rows of table "%s" wait to be applied and were not compared', summary ->> 'in_flight', tandem._table_label(table_id)),
      HINT = 'See tandem.dead_letters, and retry_rows in tandem.pg_stat_tandem_tables.';
  END IF;
  RETURN (summary ->> 'run_id')::bigint;
END
$$;
COMMENT ON FUNCTION tandem._reconcile_one(integer, jsonb) IS 'has a worker carry out one pass and waits for its end';

CREATE FUNCTION tandem.reconcile(tables text[], low jsonb DEFAULT NULL, high jsonb DEFAULT NULL, sample double precision DEFAULT NULL,
  rows_per_second integer DEFAULT NULL) RETURNS SETOF tandem.discrepancies
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  ids integer[] := tandem._tables_named(tables);
  id integer;
  run bigint;
BEGIN
  PERFORM tandem._refuse_bounds_of_several(ids, low, high);
  PERFORM tandem._refuse_unreconcilable(i) FROM unnest(ids) AS i;
  FOREACH id IN ARRAY ids LOOP
    run := tandem._reconcile_one(id, tandem._pass_options(id, low, high, sample, rows_per_second));
    RETURN QUERY SELECT v.* FROM tandem.discrepancies AS v JOIN tandem.reconcile_found AS f USING (discrepancy_id)
                 WHERE f.run_id = run ORDER BY v.discrepancy_id;
  END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.reconcile(text[], jsonb, jsonb, double precision, integer) IS
  'compares all rows of the tables on both sides, while both are being written, and returns those that differ. Shows progress as notices; a cancel ends it on both sides.
low, high: only keys above low and up to high, in the order of the old side. sample: only so large a part of the rows. rows_per_second: at most so fast';

CREATE FUNCTION tandem.reconcile(tables text, low jsonb DEFAULT NULL, high jsonb DEFAULT NULL, sample double precision DEFAULT NULL,
  rows_per_second integer DEFAULT NULL) RETURNS SETOF tandem.discrepancies
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT * FROM tandem.reconcile(ARRAY[tables], low, high, sample, rows_per_second) $$;
COMMENT ON FUNCTION tandem.reconcile(text, jsonb, jsonb, double precision, integer) IS 'the same for one table, or for all with names like a pattern such as ''shop.%''';

-- --- in the background ------------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem.reconcile_start(tables text[], low jsonb DEFAULT NULL, high jsonb DEFAULT NULL, sample double precision DEFAULT NULL,
  rows_per_second integer DEFAULT NULL) RETURNS SETOF bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  ids integer[] := tandem._tables_named(tables);
BEGIN
  PERFORM tandem._refuse_bounds_of_several(ids, low, high);
  PERFORM tandem._refuse_unreconcilable(i) FROM unnest(ids) AS i;
  RETURN QUERY INSERT INTO tandem.reconcile_run AS r (table_id, kind, state, options, requested_by)
    SELECT i, 'requested', 'waiting', tandem._pass_options(i, low, high, sample, rows_per_second), session_user FROM unnest(ids) AS i
    RETURNING r.run_id;
  PERFORM tandem._config_changed();
END
$$;
COMMENT ON FUNCTION tandem.reconcile_start(text[], jsonb, jsonb, double precision, integer) IS
  'has passes carried out in the background after the commit, for schedulers; returns their numbers in tandem.reconcile_runs';

CREATE FUNCTION tandem.reconcile_start(tables text, low jsonb DEFAULT NULL, high jsonb DEFAULT NULL, sample double precision DEFAULT NULL,
  rows_per_second integer DEFAULT NULL) RETURNS SETOF bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT tandem.reconcile_start(ARRAY[tables], low, high, sample, rows_per_second) $$;
COMMENT ON FUNCTION tandem.reconcile_start(text, jsonb, jsonb, double precision, integer) IS 'the same for one table, or for all with names like a pattern';

CREATE FUNCTION tandem.reconcile_cancel(run_id bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  UPDATE tandem.reconcile_run AS r SET cancel = true, state = CASE r.state WHEN 'waiting' THEN 'cancelled' ELSE r.state END,
    finished_at = CASE r.state WHEN 'waiting' THEN clock_timestamp() END
  WHERE r.run_id = reconcile_cancel.run_id AND r.state IN ('waiting', 'running') AND r.kind <> 'verify';
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM tandem._config_changed();
  RETURN true;
END
$$;
COMMENT ON FUNCTION tandem.reconcile_cancel(bigint) IS 'ends a pass at its next chunk; what it found stays. False if it was over already';

-- --- all the time -----------------------------------------------------------------------------------------------------------------

CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE ON tandem.reconcile_setting
  FOR EACH STATEMENT EXECUTE FUNCTION tandem._announce_config();
ALTER TABLE tandem.reconcile_setting ENABLE ALWAYS TRIGGER announce;

CREATE FUNCTION tandem._refuse_pace(rows_per_second integer, share double precision) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF rows_per_second <= 0 THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'rows_per_second must be above 0', HINT = 'NULL is no limit.';
  ELSIF NOT coalesce(share > 0 AND share <= 1, false) THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'share must be above 0 and at most 1',
      DETAIL = 'It is the part of the time in which the old side is read.';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_pace(integer, double precision) IS 'error when a pace makes no sense';

CREATE FUNCTION tandem.reconcile_continuously(tables text, period interval DEFAULT '1 day', rows_per_second integer DEFAULT NULL,
  share double precision DEFAULT 0.1, verify boolean DEFAULT true) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  ids integer[] := tandem._tables_named(ARRAY[tables]);
BEGIN
  PERFORM tandem._refuse_pace(rows_per_second, share);
  IF period <= interval '0' THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'period must be above 0', HINT = 'NULL ends the continuous scan.';
  END IF;
  INSERT INTO tandem.reconcile_setting AS s (table_id, continuous, period, rows_per_second, share, verify)
  SELECT i, period IS NOT NULL, coalesce(period, '1 day'), rows_per_second, share, verify AND period IS NOT NULL FROM unnest(ids) AS i
  ON CONFLICT (table_id) DO UPDATE
  SET continuous = excluded.continuous, period = CASE WHEN excluded.continuous THEN excluded.period ELSE s.period END,
      rows_per_second = excluded.rows_per_second, share = excluded.share, verify = excluded.verify, paused = false,
      since = CASE WHEN s.continuous AND NOT s.paused THEN s.since ELSE clock_timestamp() END;
  UPDATE tandem.reconcile_run AS r SET cancel = true
  WHERE period IS NULL AND r.table_id = ANY (ids) AND r.kind IN ('continuous', 'verify') AND r.state = 'running';
  PERFORM tandem._open_ledger(i), tandem._check_alarm(i) FROM unnest(ids) AS i;
  RETURN cardinality(ids);
END
$$;
COMMENT ON FUNCTION tandem.reconcile_continuously(text, interval, integer, double precision, boolean) IS
  'has pass follow pass, one in each period, and rows verified after they were applied (verify); the period NULL ends that. Returns the number of tables.
rows_per_second, share: how fast the old side is read at most, and in what part of the time';

CREATE FUNCTION tandem._set_paused(tables text, paused boolean) RETURNS integer
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  changed integer;
BEGIN
  UPDATE tandem.reconcile_setting AS s SET paused = _set_paused.paused, since = CASE WHEN _set_paused.paused THEN s.since ELSE clock_timestamp() END
  WHERE s.table_id = ANY (tandem._tables_named(ARRAY[tables])) AND s.paused <> _set_paused.paused;
  GET DIAGNOSTICS changed = ROW_COUNT;
  RETURN changed;
END
$$;
COMMENT ON FUNCTION tandem._set_paused(text, boolean) IS 'pauses or resumes the continuous scan of tables';

CREATE FUNCTION tandem.reconcile_pause(tables text DEFAULT '%') RETURNS integer
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT tandem._set_paused(tables, true) $$;
COMMENT ON FUNCTION tandem.reconcile_pause(text) IS 'holds the continuous scan of tables where it is; returns how many were running';

CREATE FUNCTION tandem.reconcile_resume(tables text DEFAULT '%') RETURNS integer
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT tandem._set_paused(tables, false) $$;
COMMENT ON FUNCTION tandem.reconcile_resume(text) IS 'goes on with the continuous scan of tables; returns how many were paused';

CREATE FUNCTION tandem.reconcile_set_pace(tables text, rows_per_second integer, share double precision DEFAULT 0.1) RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  changed integer;
BEGIN
  PERFORM tandem._refuse_pace(rows_per_second, share);
  UPDATE tandem.reconcile_setting AS s SET rows_per_second = reconcile_set_pace.rows_per_second, share = reconcile_set_pace.share
  WHERE s.table_id = ANY (tandem._tables_named(ARRAY[tables]));
  GET DIAGNOSTICS changed = ROW_COUNT;
  RETURN changed;
END
$$;
COMMENT ON FUNCTION tandem.reconcile_set_pace(text, integer, double precision) IS
  'changes how fast the continuous scan reads the old side, at once; returns the number of tables';

-- --- alarms -----------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem._upper_bound(found bigint, looks bigint, confidence double precision DEFAULT 0.95) RETURNS double precision
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_upper_bound';
COMMENT ON FUNCTION tandem._upper_bound(bigint, bigint, double precision) IS
  'highest rate that agrees with so many findings in so many looks (Clopper and Pearson); without findings about 3 / looks';

CREATE FUNCTION tandem._alarm_of(l tandem.reconcile_ledger, OUT alarm text, OUT detail text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  open_rows bigint := (SELECT count(*) FROM tandem.discrepancy AS d WHERE d.table_id = l.table_id AND d.status IN ('open', 'repairing'));
  threshold double precision := current_setting('tandem.alarm_threshold')::double precision;
  s tandem.reconcile_setting;
  deadline timestamptz;
BEGIN
  IF open_rows * 100.0 / greatest(l.rows, 1) > threshold THEN
    alarm := 'divergence';
    detail := format('%s rows differ, %s %% of %s; tandem.alarm_threshold is %s %%', open_rows,
                     round((least(open_rows * 100.0 / greatest(l.rows, 1), 100))::numeric, 6), coalesce(l.rows::text, 'an unknown number'), threshold);
    RETURN;
  END IF;
  SELECT c.* INTO s FROM tandem.reconcile_setting AS c WHERE c.table_id = l.table_id AND c.continuous AND NOT c.paused;
  -- A pass begins one period after the last began, and must be over a period later.
  deadline := greatest(s.since + s.period, l.pass_started_at + 2 * s.period);
  IF clock_timestamp() > deadline THEN
    alarm := 'silence';
    detail := format('no pass has ended within its period of %s; the last one ended %s', s.period, coalesce(l.pass_finished_at::text, 'never'));
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._alarm_of(tandem.reconcile_ledger) IS 'the alarm that a table deserves now, NULL for none';

CREATE FUNCTION tandem._check_alarm(table_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  l tandem.reconcile_ledger;
  due record;
BEGIN
  SELECT k.* INTO l FROM tandem.reconcile_ledger AS k WHERE k.table_id = _check_alarm.table_id FOR UPDATE;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  due := tandem._alarm_of(l);
  IF due.alarm IS NOT DISTINCT FROM l.alarm THEN
    UPDATE tandem.reconcile_ledger AS k SET alarm_detail = due.detail WHERE k.table_id = l.table_id AND k.alarm_detail IS DISTINCT FROM due.detail;
    RETURN;
  END IF;
  UPDATE tandem.reconcile_ledger AS k
  SET alarm = due.alarm, alarm_detail = due.detail, alarm_since = CASE WHEN due.alarm IS NOT NULL THEN clock_timestamp() END
  WHERE k.table_id = l.table_id;
  PERFORM pg_notify('tandem_alarm', jsonb_build_object('table_id', l.table_id, 'table', tandem._table_label(l.table_id), 'alarm', due.alarm,
                                                       'detail', due.detail)::text);
  IF due.alarm IS NOT NULL THEN
    RAISE WARNING USING MESSAGE = format('alarm for table "%s": %s', tandem._table_label(l.table_id), due.alarm), DETAIL = due.detail,
      HINT = 'See tandem.pg_stat_tandem_reconcile and tandem.discrepancies.';
  ELSE
    RAISE LOG USING MESSAGE = format('alarm for table "%s" is over', tandem._table_label(l.table_id));
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._check_alarm(integer) IS 'raises or ends the alarm of a table: in its ledger, in the log of the server, as a notification on channel tandem_alarm';

CREATE FUNCTION tandem._maintain_reconciliation() RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT tandem._check_alarm(l.table_id) FROM tandem.reconcile_ledger AS l;
  -- A call whose worker or session went away without a word.
  UPDATE tandem.reconcile_run AS r SET state = 'failed', finished_at = clock_timestamp(), error = 'whoever carried it out went away'
  WHERE r.kind = 'call' AND r.state = 'running' AND r.updated_at < clock_timestamp() - interval '15 min';
  -- What is over and has nothing open is history.
  DELETE FROM tandem.discrepancy AS d WHERE d.status IN ('repaired', 'gone') AND d.changed_at < clock_timestamp() - interval '90 days';
  DELETE FROM tandem.reconcile_run AS r
  WHERE r.finished_at < clock_timestamp() - interval '90 days'
    AND NOT EXISTS (SELECT FROM tandem.reconcile_found AS f WHERE f.run_id = r.run_id)
$$;
COMMENT ON FUNCTION tandem._maintain_reconciliation() IS 'silence alarms as well, so somebody must look from time to time: the apply worker does';
