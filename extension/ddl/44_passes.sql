-- Passes of reconciliation as tandem-sync reports them (docs/protocol.md section 14).

CREATE FUNCTION tandem._new_secret() RETURNS bytea
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tandem_new_secret';
COMMENT ON FUNCTION tandem._new_secret() IS 'random bytes that key the hashes of a pass';

CREATE FUNCTION tandem._changes(table_id integer) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce((SELECT l.pruned_changes FROM tandem.reconcile_ledger AS l WHERE l.table_id = _changes.table_id), 0)
       + coalesce((SELECT sum(length(j.hashes) / 8) FROM tandem.journal_keys AS j WHERE j.table_id = _changes.table_id), 0)::bigint
$$;
COMMENT ON FUNCTION tandem._changes(integer) IS 'rows of a table that apply has touched, counted from some beginning';

CREATE FUNCTION tandem._open_ledger(table_id integer) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO tandem.reconcile_ledger AS l (table_id, evidence_xid, backfill_rows)
  SELECT a.table_id, pg_snapshot_xmax(pg_current_snapshot()), a.backfill_rows
  FROM tandem.table_state AS a WHERE a.table_id = _open_ledger.table_id
  -- Rows that a backfill wrote are in no journal.
  ON CONFLICT ON CONSTRAINT reconcile_ledger_pkey DO UPDATE SET evidence_xid = excluded.evidence_xid, backfill_rows = excluded.backfill_rows, pass_xid = NULL
    WHERE l.backfill_rows IS DISTINCT FROM excluded.backfill_rows
$$;
COMMENT ON FUNCTION tandem._open_ledger(integer) IS 'makes sure that a table has a ledger';

CREATE FUNCTION tandem._endless_run(table_id integer, kind text) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT max(r.run_id) FROM tandem.reconcile_run AS r
  WHERE r.table_id = _endless_run.table_id AND r.kind = _endless_run.kind AND r.kind IN ('continuous', 'verify') AND r.state = 'running'
$$;
COMMENT ON FUNCTION tandem._endless_run(integer, text) IS 'unfinished pass of that kind, which goes on where it was';

CREATE FUNCTION tandem.begin_pass(table_id integer, options jsonb, OUT run_id bigint, OUT secret bytea, OUT cursor jsonb)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  kind text := options ->> 'kind';
BEGIN
  IF kind IS NULL OR kind NOT IN ('call', 'requested', 'continuous', 'verify') THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('kind %s of a pass is not known', coalesce(quote_literal(kind), 'NULL'));
  ELSIF NOT tandem.reconcilable(table_id) THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('table "%s" cannot be reconciled now', (SELECT t.name FROM tandem.source_table AS t WHERE t.table_id = begin_pass.table_id)),
      DETAIL = 'A table can be reconciled while it is in sync: all its rows are here and every change is captured.',
      HINT = 'See tandem.tables for its state.';
  END IF;
  PERFORM tandem._open_ledger(table_id);
  secret := tandem._new_secret();
  run_id := CASE kind WHEN 'requested' THEN (options ->> 'run_id')::bigint ELSE tandem._endless_run(table_id, kind) END;
  IF run_id IS NULL THEN
    INSERT INTO tandem.reconcile_run AS r (table_id, kind, options, requested_by, state)
    VALUES (table_id, kind, options - 'kind' - 'requested_by', coalesce(options ->> 'requested_by', session_user), 'waiting')
    RETURNING r.run_id INTO run_id;
  END IF;
  UPDATE tandem.reconcile_run AS r
  SET state = 'running', started_at = coalesce(r.started_at, clock_timestamp()), updated_at = clock_timestamp(),
      changes = CASE WHEN r.started_at IS NULL THEN tandem._changes(r.table_id) ELSE r.changes END,
      begun_xid = coalesce(r.begun_xid, pg_snapshot_xmin(pg_current_snapshot())),
      begun_moment = coalesce(r.begun_moment, nextval('tandem.reconcile_moment'))
  WHERE r.run_id = begin_pass.run_id AND r.table_id = begin_pass.table_id AND r.state IN ('waiting', 'running') AND NOT r.cancel
  RETURNING r.cursor INTO cursor;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING ERRCODE = 'no_data_found', MESSAGE = format('run %s does not wait to be carried out', run_id);
  END IF;
END
$$;
COMMENT ON FUNCTION tandem.begin_pass(integer, jsonb) IS
  'begins a pass over a table, or goes on with one that was interrupted; the secret is a new one each time';

-- --- what a chunk found -----------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem._hold_pending(run tandem.reconcile_run, keys jsonb) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
  -- What waits to be retried is looked at less and less often, what is only under way soon.
  INSERT INTO tandem.reconcile_pending AS p (table_id, key, run_id, reason, next_check)
  SELECT DISTINCT ON (k.key) run.table_id, decode(k.key, 'hex'), run.run_id, k.reason, clock_timestamp() + interval '0.2 s'
  FROM jsonb_to_recordset(keys) AS k(key text, reason text) WHERE k.key IS NOT NULL
  ON CONFLICT (table_id, key) DO UPDATE SET reason = excluded.reason, checks = p.checks + 1,
    run_id = CASE WHEN p.run_id IN (SELECT r.run_id FROM tandem.reconcile_run AS r WHERE r.state = 'running') THEN p.run_id ELSE excluded.run_id END,
    next_check = clock_timestamp() + interval '0.2 s'
                 * least(2 ^ least(p.checks + 1, 20), CASE WHEN excluded.reason IN ('retry', 'dead_letter') THEN 1500 ELSE 50 END)
$$;
COMMENT ON FUNCTION tandem._hold_pending(tandem.reconcile_run, jsonb) IS 'notes keys in flight, to be looked at again';

CREATE FUNCTION tandem._close_equal(run tandem.reconcile_run, keys jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  equal bytea[] := ARRAY(SELECT decode(k, 'hex') FROM jsonb_array_elements_text(keys) AS k);
BEGIN
  IF cardinality(equal) = 0 THEN
    RETURN;
  END IF;
  DELETE FROM tandem.reconcile_pending AS p WHERE p.table_id = run.table_id AND p.key = ANY (equal);
  UPDATE tandem.discrepancy AS d SET status = CASE d.status WHEN 'repairing' THEN 'repaired' ELSE 'gone' END, changed_at = clock_timestamp()
  WHERE d.table_id = run.table_id AND d.key = ANY (equal) AND d.status IN ('open', 'repairing', 'waived');
END
$$;
COMMENT ON FUNCTION tandem._close_equal(tandem.reconcile_run, jsonb) IS 'keys that were looked at and are equal: nothing is open for them any more';

CREATE FUNCTION tandem._confirm(run tandem.reconcile_run, differing jsonb, OUT ids bigint[], OUT counts jsonb)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  fresh record;
BEGIN
  WITH told AS (
    SELECT DISTINCT ON (f.key) decode(f.key, 'hex') AS key, f.kind, coalesce(f.columns, '{}') AS columns, f.old, f.new, f.cause
    FROM jsonb_to_recordset(differing) AS f(key text, kind text, columns text[], old jsonb, new jsonb, cause text)
  ), confirmed AS (
    INSERT INTO tandem.discrepancy AS d (table_id, key, kind, columns, old, new, cause, next_check)
    SELECT run.table_id, t.key, t.kind, t.columns, t.old, t.new, t.cause, clock_timestamp() + interval '10 s' FROM told AS t ORDER BY t.key
    ON CONFLICT (table_id, key) WHERE status IN ('open', 'repairing', 'waived') DO UPDATE
    SET kind = excluded.kind, columns = excluded.columns, old = excluded.old, new = excluded.new, cause = coalesce(excluded.cause, d.cause),
        last_seen = clock_timestamp(), times = d.times + 1,
        next_check = clock_timestamp() + interval '10 s' * 2 ^ least(d.times, 9),
        -- Waived as it was, not as it is now.
        status = CASE WHEN d.status = 'waived' AND (d.kind, d.columns, d.new) IS DISTINCT FROM (excluded.kind, excluded.columns, excluded.new)
                      THEN 'open' ELSE d.status END
    RETURNING d.discrepancy_id, d.key, d.kind, d.times = 1 AS fresh
  ), looked_at AS (
    DELETE FROM tandem.reconcile_pending AS p USING confirmed AS c WHERE p.table_id = run.table_id AND p.key = c.key
  ), noted AS (
    INSERT INTO tandem.reconcile_found (run_id, discrepancy_id) SELECT run.run_id, c.discrepancy_id FROM confirmed AS c
    ON CONFLICT DO NOTHING RETURNING discrepancy_id
  )
  SELECT coalesce(array_agg(c.discrepancy_id ORDER BY c.discrepancy_id), '{}') AS ids,
         jsonb_build_object('missing', count(n) FILTER (WHERE c.kind = 'missing'), 'extra', count(n) FILTER (WHERE c.kind = 'extra'),
                            'different', count(n) FILTER (WHERE c.kind = 'different')) AS counts,
         count(*) FILTER (WHERE c.fresh AND c.kind = 'missing') AS missing, count(*) FILTER (WHERE c.fresh AND c.kind = 'extra') AS extra,
         count(*) FILTER (WHERE c.fresh AND c.kind = 'different') AS different
  INTO fresh FROM confirmed AS c LEFT JOIN noted AS n USING (discrepancy_id);
  ids := fresh.ids;
  counts := fresh.counts;
  UPDATE tandem.reconcile_ledger AS l
  SET missing = l.missing + fresh.missing, extra = l.extra + fresh.extra, different = l.different + fresh.different
  WHERE l.table_id = run.table_id AND fresh.missing + fresh.extra + fresh.different > 0;
END
$$;
COMMENT ON FUNCTION tandem._confirm(tandem.reconcile_run, jsonb) IS 'writes confirmed discrepancies; counts are those that are new to the run';

CREATE FUNCTION tandem.report_chunk(run_id bigint, chunk jsonb, discrepancies jsonb DEFAULT '[]') RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  run tandem.reconcile_run;
  confirmed record;
BEGIN
  SELECT r.* INTO run FROM tandem.reconcile_run AS r WHERE r.run_id = report_chunk.run_id AND r.state = 'running' FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING ERRCODE = 'no_data_found', MESSAGE = format('run %s is not running', run_id);
  END IF;
  PERFORM tandem._close_equal(run, coalesce(chunk -> 'equal', '[]'));
  PERFORM tandem._hold_pending(run, coalesce(chunk -> 'in_flight', '[]'));
  confirmed := tandem._confirm(run, coalesce(discrepancies, '[]'));
  UPDATE tandem.reconcile_run AS r
  SET cursor = CASE WHEN chunk ? 'cursor' THEN chunk -> 'cursor' ELSE r.cursor END,
      rows = r.rows + coalesce((chunk ->> 'rows')::bigint, 0),
      new_rows = r.new_rows + coalesce((chunk ->> 'new_rows')::bigint, 0),
      verified = r.verified + coalesce((chunk ->> 'verified')::bigint, 0),
      chunks = r.chunks + coalesce((chunk ->> 'chunks')::bigint, 1),
      rechecks = r.rechecks + coalesce((chunk ->> 'rechecks')::bigint, 0),
      busy_ms = r.busy_ms + coalesce((chunk ->> 'ms')::bigint, 0),
      old_ms = r.old_ms + coalesce((chunk ->> 'old_ms')::bigint, 0),
      stalled_ms = r.stalled_ms + coalesce((chunk ->> 'stalled_ms')::bigint, 0),
      stall_reason = chunk ->> 'stall_reason',
      missing = r.missing + (confirmed.counts ->> 'missing')::bigint,
      extra = r.extra + (confirmed.counts ->> 'extra')::bigint,
      different = r.different + (confirmed.counts ->> 'different')::bigint,
      updated_at = clock_timestamp()
  WHERE r.run_id = report_chunk.run_id;
  UPDATE tandem.reconcile_ledger AS l SET covered = l.covered + (chunk ->> 'covered')::bigint
  WHERE l.table_id = run.table_id AND chunk ? 'covered';
  IF cardinality(confirmed.ids) > 0 THEN
    PERFORM tandem._repair_automatically(run.table_id, confirmed.ids);
    PERFORM tandem._check_alarm(run.table_id);
  END IF;
  RETURN jsonb_build_object('continue', NOT run.cancel AND tandem.reconcilable(run.table_id), 'confirmed', to_jsonb(confirmed.ids));
END
$$;
COMMENT ON FUNCTION tandem.report_chunk(bigint, jsonb, jsonb) IS 'verdict of one chunk: position, counts, keys in flight, keys found equal, confirmed discrepancies';

CREATE FUNCTION tandem._is_whole(run tandem.reconcile_run) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT run.kind <> 'verify' AND coalesce(run.options -> 'low', 'null') = 'null' AND coalesce(run.options -> 'high', 'null') = 'null'
     AND coalesce(run.options -> 'sample', 'null') = 'null'
$$;
COMMENT ON FUNCTION tandem._is_whole(tandem.reconcile_run) IS 'whether a pass is one over all rows of its table';

CREATE FUNCTION tandem._run_summary(run tandem.reconcile_run) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object('run_id', run.run_id, 'state', run.state, 'clean', run.clean, 'rows', run.rows, 'new_rows', run.new_rows,
    'verified', run.verified, 'in_flight', (SELECT count(*) FROM tandem.reconcile_pending AS p WHERE p.run_id = run.run_id),
    'confirmed', run.missing + run.extra + run.different, 'missing', run.missing, 'extra', run.extra, 'different', run.different)
$$;
COMMENT ON FUNCTION tandem._run_summary(tandem.reconcile_run) IS 'what a pass has found';

CREATE FUNCTION tandem.end_pass(run_id bigint, state text, error text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  run tandem.reconcile_run;
  heir bigint;
  sound boolean;
  moment bigint := nextval('tandem.reconcile_moment');
  summary jsonb;
BEGIN
  IF state IS NULL OR state NOT IN ('done', 'failed', 'cancelled') THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('a pass cannot end as %s', coalesce(quote_literal(state), 'NULL'));
  END IF;
  UPDATE tandem.reconcile_run AS r
  SET state = end_pass.state, error = end_pass.error, finished_at = clock_timestamp(), updated_at = clock_timestamp(),
      clean = CASE WHEN end_pass.state = 'done'
                   THEN r.missing + r.extra + r.different = 0 AND NOT r.repaired
                        AND NOT EXISTS (SELECT FROM tandem.reconcile_pending AS p WHERE p.run_id = r.run_id) END
  WHERE r.run_id = end_pass.run_id AND r.state IN ('waiting', 'running')
  RETURNING r.* INTO run;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING ERRCODE = 'no_data_found', MESSAGE = format('run %s is not running', run_id);
  END IF;
  summary := tandem._run_summary(run);
  sound := run.state = 'done' AND tandem._is_whole(run) AND run.missing + run.extra + run.different = 0 AND NOT run.repaired;
  -- What no pass has seen at rest is compared by a cut-over. A key is watched under one run only: a pass that goes on beside this one may
  -- have met it and left it to this one, so it stays until a sound pass that began later ends. In order of keys, as passes end at once.
  INSERT INTO tandem.unsettled_key AS u (table_id, key, moment)
  SELECT p.table_id, p.key, moment FROM tandem.reconcile_pending AS p
  WHERE p.table_id = run.table_id AND (sound OR p.run_id = run.run_id) ORDER BY p.key
  ON CONFLICT ON CONSTRAINT unsettled_key_pkey DO UPDATE SET moment = greatest(u.moment, excluded.moment);
  IF sound THEN
    DELETE FROM tandem.unsettled_key AS u WHERE u.table_id = run.table_id AND u.moment < run.begun_moment;
  END IF;
  -- Keys that are still in flight stay under watch where something watches.
  SELECT max(r.run_id) INTO heir FROM tandem.reconcile_run AS r
  WHERE r.table_id = run.table_id AND r.state = 'running' AND r.kind IN ('verify', 'continuous');
  UPDATE tandem.reconcile_pending AS p SET run_id = heir WHERE p.run_id = run.run_id AND heir IS NOT NULL;
  DELETE FROM tandem.reconcile_pending AS p WHERE p.run_id = run.run_id;
  IF run.state = 'done' AND tandem._is_whole(run) THEN
    UPDATE tandem.reconcile_ledger AS l
    SET passes = l.passes + 1, clean_passes = l.clean_passes + run.clean::integer, rows = greatest(run.rows, run.new_rows), verified = run.verified,
        pass_confirmed = run.missing + run.extra + run.different, pass_started_at = run.started_at, pass_finished_at = run.finished_at,
        last_clean_at = CASE WHEN run.clean THEN run.finished_at ELSE l.last_clean_at END, changes_at_pass = run.changes, covered = 0,
        pass_xid = run.begun_xid, sound_moment = CASE WHEN sound THEN greatest(l.sound_moment, run.begun_moment) ELSE l.sound_moment END
    WHERE l.table_id = run.table_id;
  END IF;
  PERFORM tandem._check_alarm(run.table_id);
  RETURN summary;
END
$$;
COMMENT ON FUNCTION tandem.end_pass(bigint, text, text) IS 'a pass is over: done, failed or cancelled';

-- --- what is to be done -----------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem._due_tables(source_id integer) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(jsonb_agg(jsonb_build_object(
           'table_id', s.table_id, 'continuous', s.continuous, 'period_s', extract(epoch FROM s.period), 'rows_per_second', s.rows_per_second,
           'share', s.share, 'verify', s.verify, 'verify_share', s.verify_share,
           'due', s.continuous AND (tandem._endless_run(s.table_id, 'continuous') IS NOT NULL
                                    OR NOT EXISTS (SELECT FROM tandem.reconcile_run AS r WHERE r.table_id = s.table_id AND r.kind = 'continuous'
                                                   AND r.started_at > clock_timestamp() - s.period AND r.state = 'done')))
           ORDER BY s.table_id), '[]')
  FROM tandem.reconcile_setting AS s JOIN tandem.source_table AS t USING (table_id)
  WHERE t.source_id = _due_tables.source_id AND NOT s.paused AND (s.continuous OR s.verify) AND tandem.reconcilable(s.table_id)
$$;
COMMENT ON FUNCTION tandem._due_tables(integer) IS 'tables of a source that are reconciled without being asked';

CREATE FUNCTION tandem._due_keys(source_id integer) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  WITH due AS (
    (SELECT p.table_id, p.run_id, p.key FROM tandem.reconcile_pending AS p JOIN tandem.reconcile_run AS r USING (run_id)
     JOIN tandem.source_table AS t ON t.table_id = p.table_id
     WHERE p.next_check <= clock_timestamp() AND r.state = 'running' AND t.source_id = _due_keys.source_id ORDER BY p.next_check LIMIT 5000)
    UNION ALL
    (SELECT d.table_id, NULL, d.key FROM tandem.discrepancy AS d JOIN tandem.source_table AS t USING (table_id)
     WHERE d.status IN ('open', 'repairing') AND d.next_check <= clock_timestamp() AND t.source_id = _due_keys.source_id
     ORDER BY d.next_check LIMIT 1000)
  )
  SELECT coalesce(jsonb_agg(g.entry), '[]')
  FROM (SELECT jsonb_build_object('table_id', d.table_id, 'run_id', coalesce(d.run_id, tandem._endless_run(d.table_id, 'verify')),
                                  'keys', jsonb_agg(encode(d.key, 'hex') ORDER BY d.key)) AS entry
        FROM due AS d GROUP BY d.table_id, d.run_id HAVING tandem.reconcilable(d.table_id) ORDER BY d.table_id, d.run_id) AS g
$$;
COMMENT ON FUNCTION tandem._due_keys(integer) IS 'keys of a source that must be looked at again now';

CREATE FUNCTION tandem.reconcile_work(source_id integer) RETURNS jsonb
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  -- A discrepancy is looked at again under the endless pass of its table.
  SELECT tandem.begin_pass(d.table_id, '{"kind": "verify"}')
  FROM (SELECT DISTINCT d.table_id FROM tandem.discrepancy AS d WHERE d.status IN ('open', 'repairing')) AS d
  JOIN tandem.source_table AS t USING (table_id)
  WHERE t.source_id = reconcile_work.source_id AND tandem.reconcilable(d.table_id) AND tandem._endless_run(d.table_id, 'verify') IS NULL;
  SELECT jsonb_build_object(
    'tables', tandem._due_tables(source_id),
    'runs', (SELECT coalesce(jsonb_agg(jsonb_build_object('run_id', r.run_id, 'table_id', r.table_id, 'options', r.options) ORDER BY r.run_id), '[]')
             FROM tandem.reconcile_run AS r JOIN tandem.source_table AS t USING (table_id)
             WHERE t.source_id = reconcile_work.source_id AND r.state IN ('waiting', 'running') AND r.kind = 'requested' AND NOT r.cancel
               AND tandem.reconcilable(r.table_id)),
    'recheck', tandem._due_keys(source_id),
    'cancel', (SELECT coalesce(jsonb_agg(r.run_id ORDER BY r.run_id), '[]')
               FROM tandem.reconcile_run AS r JOIN tandem.source_table AS t USING (table_id)
               WHERE t.source_id = reconcile_work.source_id AND r.state = 'running' AND r.cancel))
$$;
COMMENT ON FUNCTION tandem.reconcile_work(integer) IS 'what the worker that leads a source has to reconcile now';

GRANT EXECUTE ON FUNCTION tandem.begin_pass(integer, jsonb), tandem.report_chunk(bigint, jsonb, jsonb), tandem.end_pass(bigint, text, text),
  tandem.reconcile_work(integer) TO tandem_worker;
