-- What the worker calls to change the source of truth (docs/protocol.md section 18; model D). Each function is one transaction of its own;
-- each change of phase is a compare-and-set on the epoch of the attempt.

CREATE FUNCTION tandem._refuse_closed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- A snapshot taken before the table was closed shows the phase of then: only a phase that opens it counts. A table that was dropped is its
  -- owner's again.
  IF coalesce((SELECT p.phase FROM tandem.phase AS p WHERE p.table_id = TG_ARGV[0]::integer), 'dual_write') = 'dual_write' THEN
    RETURN CASE WHEN TG_OP IN ('INSERT', 'UPDATE') THEN NEW WHEN TG_OP = 'DELETE' THEN OLD END; -- for a statement both are null
  END IF;
  RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
    MESSAGE = format('table %s is not the source of truth', TG_RELID::regclass),
    DETAIL = format('Writes go to table "%s" of the old side.', tandem._table_label(TG_ARGV[0]::integer)),
    HINT = 'SELECT * FROM tandem.phases; tells where each table is written.';
END
$$;
COMMENT ON FUNCTION tandem._refuse_closed() IS 'trigger on a target that is not the source of truth, from the first attempt at a cut-over on: refuses writes of applications';

-- For a partitioned target there is one for each row as well, which holds for writes that name a partition, and for partitions that come later.
-- Triggers on targets are enabled and disabled, which waits for writers only. To drop one waits for every reader as well: a long report would keep a
-- cut-over from its commit.
CREATE FUNCTION tandem._close_target(table_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  target regclass := (SELECT t.target FROM tandem.source_table AS t WHERE t.table_id = _close_target.table_id);
BEGIN
  EXECUTE format('CREATE OR REPLACE TRIGGER tandem_closed BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION tandem._refuse_closed(%L)',
                 target, table_id);
  EXECUTE format('ALTER TABLE %s ENABLE TRIGGER tandem_closed', target);
  IF (SELECT c.relkind = 'p' FROM pg_class AS c WHERE c.oid = target) THEN
    EXECUTE format('CREATE OR REPLACE TRIGGER tandem_closed_rows BEFORE INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION tandem._refuse_closed(%L)', target, table_id);
    EXECUTE format('ALTER TABLE %s ENABLE TRIGGER tandem_closed_rows', target);
    PERFORM tandem._on_partitions(target, format('CREATE OR REPLACE TRIGGER tandem_closed BEFORE TRUNCATE ON %%s FOR EACH STATEMENT EXECUTE FUNCTION tandem._refuse_closed(%L)', table_id));
    PERFORM tandem._on_partitions(target, 'ALTER TABLE %s ENABLE TRIGGER tandem_closed');
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._close_target(integer) IS 'applications cannot write to the target from the commit on, whatever their snapshot; apply can';

CREATE FUNCTION tandem._open_target(table_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  target regclass := (SELECT t.target FROM tandem.source_table AS t WHERE t.table_id = _open_target.table_id);
BEGIN
  IF tandem._trigger_on(target, 'tandem_closed') THEN
    EXECUTE format('ALTER TABLE %s DISABLE TRIGGER tandem_closed', target);
  END IF;
  IF tandem._trigger_on(target, 'tandem_closed_rows') THEN
    EXECUTE format('ALTER TABLE %s DISABLE TRIGGER tandem_closed_rows', target);
    PERFORM tandem._on_partitions(target, 'ALTER TABLE %s DISABLE TRIGGER tandem_closed', 'tandem_closed');
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._open_target(integer) IS 'puts to rest what _close_target made';

CREATE FUNCTION tandem._remove_closed(target regclass) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  EXECUTE format('DROP TRIGGER IF EXISTS tandem_closed ON %s', target);
  EXECUTE format('DROP TRIGGER IF EXISTS tandem_closed_rows ON %s', target);
  PERFORM tandem._on_partitions(target, 'DROP TRIGGER IF EXISTS tandem_closed ON %s');
END
$$;
COMMENT ON FUNCTION tandem._remove_closed(regclass) IS 'removes what _close_target made; waits for readers of the target';

CREATE FUNCTION tandem._running(run_id bigint) RETURNS tandem.cutover_run
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  run tandem.cutover_run;
BEGIN
  SELECT r.* INTO run FROM tandem.cutover_run AS r WHERE r.run_id = _running.run_id FOR UPDATE;
  IF run.state IS DISTINCT FROM 'running' THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('run %s is not running', run_id),
      DETAIL = coalesce('It is ' || run.state || '.', 'It does not exist.');
  END IF;
  PERFORM tandem._refuse_other_epoch(run.source_id, run.lease_epoch);
  RETURN run;
END
$$;
COMMENT ON FUNCTION tandem._running(bigint) IS 'a run that this worker executes, locked; an error when somebody else has ended it';

CREATE FUNCTION tandem.cutover_next(source_id integer, epoch bigint) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  run tandem.cutover_run;
BEGIN
  PERFORM tandem._refuse_other_epoch(cutover_next.source_id, cutover_next.epoch);
  -- The worker that leads now has put back or finished what was half-done before it asks here.
  UPDATE tandem.cutover_run AS r SET state = CASE WHEN r.committed AND r.kind <> 'contract' THEN 'done' ELSE 'failed' END, ended_at = clock_timestamp(),
    error = CASE WHEN NOT r.committed OR r.kind = 'contract' THEN
              jsonb_build_object('sqlstate', '08006', 'message', 'tandem-sync ended or lost its sessions during the run',
                                 'detail', 'The worker that leads now has put back what was half-done.', 'hint', 'Call again.') END
  WHERE r.source_id = cutover_next.source_id AND r.state = 'running' AND r.lease_epoch <> cutover_next.epoch;
  UPDATE tandem.cutover_run AS r SET state = 'failed', ended_at = clock_timestamp(),
    error = jsonb_build_object('sqlstate', '57014', 'message', 'the session that asked for the run has gone')
  WHERE r.source_id = cutover_next.source_id AND r.state = 'asked'
    AND NOT EXISTS (SELECT FROM pg_stat_activity AS a WHERE a.pid = r.caller_pid AND a.backend_start <= r.asked_at);
  SELECT r.* INTO run FROM tandem.cutover_run AS r
  WHERE r.source_id = cutover_next.source_id AND r.state = 'asked' ORDER BY r.run_id LIMIT 1 FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  UPDATE tandem.cutover_run AS r SET state = 'running', started_at = clock_timestamp(), lease_epoch = cutover_next.epoch WHERE r.run_id = run.run_id;
  PERFORM tandem._commit_durably();
  RETURN jsonb_build_object('run_id', run.run_id, 'kind', run.kind, 'table_ids', to_jsonb(run.table_ids), 'options', run.options,
    'moved_to', (SELECT jsonb_object_agg(t.table_id, format('%s in PostgreSQL database %s', t.target, current_database()))
                 FROM tandem.source_table AS t WHERE t.table_id = ANY (run.table_ids)));
END
$$;
COMMENT ON FUNCTION tandem.cutover_next(integer, bigint) IS 'the next run that was asked for, which is running from now on; NULL: none. Runs that another worker left are ended';

-- Of a statement the first words only: the rest may be somebody's data. `lasting`: not those who will be gone in a moment, which are writers whose
-- transactions are young, apply, and autovacuum, which makes way (but not one against wraparound).
CREATE FUNCTION tandem._who_locks(target regclass, lasting boolean, readers boolean DEFAULT false) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT string_agg(CASE WHEN b.pid IS NULL THEN 'a prepared transaction, see pg_prepared_xacts' ELSE
                      format('%s, process %s%s, in its transaction for %s s: %s', a.backend_type, b.pid, coalesce(' of ' || quote_ident(a.usename), ''),
                             round(extract(epoch FROM clock_timestamp() - a.xact_start)), substring(a.query FROM '^\s*([[:alpha:]:]+(\s+[[:alnum:]_."]+){0,3})')) END,
                    '; ' ORDER BY a.xact_start)
  FROM (SELECT l.pid, bool_and(l.mode = 'RowExclusiveLock') AS writes FROM pg_locks AS l
        WHERE l.locktype = 'relation' AND l.database = (SELECT d.oid FROM pg_database AS d WHERE d.datname = current_database())
          AND (l.relation = target OR l.relation IN (SELECT p.relid FROM pg_partition_tree(target) AS p))
          AND l.granted AND (readers OR l.mode NOT IN ('AccessShareLock', 'RowShareLock')) AND l.pid IS DISTINCT FROM pg_backend_pid()
        GROUP BY l.pid) AS b
  LEFT JOIN pg_stat_activity AS a ON a.pid = b.pid
  WHERE NOT lasting OR b.pid IS NULL
     OR CASE WHEN b.writes THEN a.backend_type = 'client backend' AND a.xact_start < clock_timestamp() - interval '1 s'
             ELSE a.backend_type <> 'autovacuum worker' OR a.query LIKE '%(to prevent wraparound)' END
$$;
COMMENT ON FUNCTION tandem._who_locks(regclass, boolean, boolean) IS
  'sessions with a lock on a table that keeps others from changing its triggers, all or only those that will not be gone in a moment; with those who only read it, which keep triggers from being dropped. NULL: none';

-- Autovacuum is in the way as well. It makes way for whoever has waited for deadlock_timeout, which by default is longer than a whole pause. Only the
-- owner of the extension may shorten that.
CREATE FUNCTION tandem._lock_targets(table_ids integer[], mode text, timeout_ms integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  target regclass;
  patience text := current_setting('lock_timeout');
  deadlock_patience text := current_setting('deadlock_timeout');
  shortened boolean := true;
BEGIN
  PERFORM set_config('lock_timeout', greatest(timeout_ms, 1)::text, true);
  BEGIN
    PERFORM set_config('deadlock_timeout', '20ms', true);
  EXCEPTION WHEN insufficient_privilege THEN
    shortened := false;
  END;
  FOR target IN SELECT DISTINCT t.target FROM tandem.source_table AS t WHERE t.table_id = ANY (table_ids) ORDER BY t.target LOOP
    BEGIN
      EXECUTE format('LOCK TABLE %s IN %s MODE', target, mode);
    EXCEPTION WHEN lock_not_available THEN
      RAISE EXCEPTION USING ERRCODE = 'lock_not_available', MESSAGE = format('table %s could not be locked within %s ms', target, timeout_ms),
        DETAIL = coalesce('In the way: ' || tandem._who_locks(target, false, mode = 'ACCESS EXCLUSIVE') || '.', 'Whoever was in the way has ended.'),
        HINT = 'Others waited for the lock meanwhile. Call again when whoever is in the way has ended.';
    END;
  END LOOP;
  PERFORM set_config('lock_timeout', patience, true);
  PERFORM set_config('deadlock_timeout', deadlock_patience, true) WHERE shortened;
END
$$;
COMMENT ON FUNCTION tandem._lock_targets(integer[], text, integer) IS 'locks the targets in the order of their oids, waiting for running writers for a bounded time';

CREATE FUNCTION tandem._refuse_cancelled(run tandem.cutover_run) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- A background worker, and a session without track_activities, do not tell what they are at.
  IF NOT EXISTS (SELECT FROM pg_stat_activity AS a
                 WHERE a.pid = run.caller_pid AND (coalesce(a.state, 'disabled') = 'disabled' OR (a.state = 'active' AND a.query_start = run.called_at))) THEN
    RAISE EXCEPTION USING ERRCODE = 'query_canceled', MESSAGE = format('run %s was cancelled: nobody waits for it any more', run.run_id),
      HINT = 'Nothing has changed.';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_cancelled(tandem.cutover_run) IS 'error when the statement that asked for a run has ended: its cancel is the end of the attempt';

CREATE FUNCTION tandem.cutover_probe(run_id bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  run tandem.cutover_run := tandem._running(run_id);
  target regclass;
  found text;
BEGIN
  PERFORM tandem._refuse_cancelled(run);
  FOR target IN SELECT DISTINCT t.target FROM tandem.source_table AS t WHERE t.table_id = ANY (run.table_ids) ORDER BY t.target LOOP
    found := tandem._who_locks(target, true);
    IF found IS NOT NULL THEN
      RAISE EXCEPTION USING ERRCODE = 'lock_not_available', MESSAGE = format('table %s is being worked on', target), DETAIL = 'In the way: ' || found || '.',
        HINT = 'Nothing has changed, and no client waited. Call again when that is over, or allow a longer lock_wait.';
    END IF;
  END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.cutover_probe(bigint) IS
  'whether the commit would get its locks on the targets now, without taking any: an error that names who is in the way for longer than a moment';

CREATE FUNCTION tandem.cutover_begin(run_id bigint, lock_timeout_ms integer) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  run tandem.cutover_run := tandem._running(run_id);
  attempt bigint;
  open_ids integer[];
BEGIN
  PERFORM tandem._refuse_cancelled(run);
  -- Waits for transactions that have written through routed views of the source; those that come later wait for the run (src/write_through.cpp).
  PERFORM set_config('lock_timeout', greatest(lock_timeout_ms, 1)::text, true);
  PERFORM tandem._lock_writers(run.source_id);
  IF run.kind = 'rollback' THEN
    -- Waits for running writers of the targets; whoever comes later meets the closed table.
    PERFORM tandem._lock_targets(run.table_ids, 'SHARE ROW EXCLUSIVE', lock_timeout_ms);
    attempt := tandem._move_phase(run.table_ids, ARRAY['new_primary'], 'closing', NULL, format('run %s: %s', run_id, run.kind));
    PERFORM tandem._close_target(i) FROM unnest(run.table_ids) AS i;
  ELSE
    attempt := tandem._move_phase(run.table_ids, ARRAY['ready'], 'cutover', NULL, format('run %s: %s', run_id, run.kind));
    -- A client that the fence refuses must not find the new side open before it is the truth.
    open_ids := ARRAY(SELECT t.table_id FROM tandem.source_table AS t
                      WHERE t.table_id = ANY (run.table_ids) AND NOT tandem._trigger_on(t.target, 'tandem_closed'));
    PERFORM tandem._lock_targets(open_ids, 'SHARE ROW EXCLUSIVE', lock_timeout_ms);
    PERFORM tandem._close_target(i) FROM unnest(open_ids) AS i;
  END IF;
  UPDATE tandem.cutover_run AS r SET epoch = attempt WHERE r.run_id = run.run_id;
  RETURN attempt;
END
$$;
COMMENT ON FUNCTION tandem.cutover_begin(bigint, integer) IS 'begins an attempt: phase cutover or closing under a new epoch, which is returned';

CREATE FUNCTION tandem.cutover_obstacle(run_id bigint) RETURNS text
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  run tandem.cutover_run;
  found bigint;
BEGIN
  SELECT r.* INTO STRICT run FROM tandem.cutover_run AS r WHERE r.run_id = cutover_obstacle.run_id;
  IF run.kind = 'rollback' THEN
    SELECT count(*) INTO found FROM tandem.reverse_outbox AS o WHERE o.table_id = ANY (run.table_ids);
    IF found > 0 THEN
      RETURN format('%s changes are not on the old side yet', found);
    END IF;
    SELECT count(*) INTO found FROM tandem.reverse_letter AS l
    WHERE l.table_id = ANY (run.table_ids) AND NOT (l.dead AND run.options -> 'waive' ? 'dead_letters');
    RETURN CASE WHEN found > 0 THEN format('%s rows are not taken by the old side', found) END;
  END IF;
  SELECT tandem.cutover_queued(run_id) INTO found;
  IF found > 0 THEN
    RETURN format('%s writes through routed views are not on the old side yet', found);
  END IF;
  SELECT count(*) INTO found FROM tandem.write_queue AS q WHERE q.table_id = ANY (run.table_ids) AND q.given_up;
  IF found > 0 AND NOT run.options -> 'waive' ? 'queued_writes' THEN
    RETURN format('%s writes through routed views were given up: see tandem.queued_writes', found);
  END IF;
  SELECT count(*) INTO found FROM tandem.batch AS b WHERE b.source_id = run.source_id;
  IF found > 0 THEN
    RETURN format('%s batches are not applied yet', found);
  END IF;
  SELECT count(*) INTO found FROM tandem.request AS q WHERE q.table_id = ANY (run.table_ids);
  IF found > 0 THEN
    RETURN format('%s rows are asked for and not fetched yet', found);
  END IF;
  SELECT count(*) INTO found FROM tandem.retry AS q WHERE q.table_id = ANY (run.table_ids);
  IF found > 0 THEN
    RETURN format('%s rows wait to be tried again', found);
  END IF;
  SELECT count(*) INTO found FROM tandem.dead_letter AS d WHERE d.table_id = ANY (run.table_ids);
  RETURN CASE WHEN found > 0 AND NOT run.options -> 'waive' ? 'dead_letters' THEN format('%s dead letters', found) END;
END
$$;
COMMENT ON FUNCTION tandem.cutover_obstacle(bigint) IS 'what is still on its way or stuck, NULL when everything has arrived (model D: DRAINED)';

CREATE FUNCTION tandem._target_has_rows(wanted integer, more_than bigint) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  found boolean;
BEGIN
  EXECUTE (SELECT format('SELECT count(*) > %3$s FROM (SELECT FROM %1$s AS n WHERE %2$s LIMIT %3$s + 1) AS r', t.target,
                         coalesce((SELECT string_agg(format('n.%I = %s', c.key, tandem._constant_as(c.value, t.target, c.key)), ' AND ') FROM jsonb_each_text(t.constants) AS c),
                                  'true'), more_than)
           FROM tandem.source_table AS t WHERE t.table_id = wanted) INTO found;
  RETURN found;
END
$$;
COMMENT ON FUNCTION tandem._target_has_rows(integer, bigint) IS 'whether the target has more than so many rows of this table';

CREATE FUNCTION tandem._has_settled_rows(wanted integer) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT NOT EXISTS (SELECT FROM tandem.reverse_outbox AS o WHERE o.table_id = wanted)
     AND tandem._target_has_rows(wanted, (SELECT count(*) FROM tandem.reverse_letter AS l WHERE l.table_id = wanted))
$$;
COMMENT ON FUNCTION tandem._has_settled_rows(integer) IS 'whether the target has rows that the old side has, as far as is known: nothing is on its way, and they are more than those that it did not take';

-- seen: what the worker's question "old_tables" answers. That an old table is empty says something only if the target had settled rows before the look:
-- whoever looks at one that is written to must know that.
CREATE FUNCTION tandem.old_tables_changed(seen jsonb) RETURNS TABLE (table_id integer, label text, reason text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  one record;
BEGIN
  FOR one IN
    SELECT s.table_id, s.identity, coalesce(s.reason, CASE WHEN s.empty AND tandem._has_settled_rows(s.table_id) THEN 'it is empty' END) AS reason
    FROM jsonb_to_recordset(seen) AS s(table_id integer, identity jsonb, empty boolean, reason text) JOIN tandem.phase AS p USING (table_id)
    WHERE tandem._source_of_truth(p.phase) = 'new' ORDER BY s.table_id
  LOOP
    IF one.reason IS NULL THEN
      DELETE FROM tandem.old_table_change AS c WHERE c.table_id = one.table_id;
      CONTINUE;
    END IF;
    INSERT INTO tandem.old_table_change AS c (table_id, identity, reason) VALUES (one.table_id, one.identity, one.reason)
    ON CONFLICT ON CONSTRAINT old_table_change_pkey DO UPDATE SET identity = excluded.identity, reason = excluded.reason, noticed_at = excluded.noticed_at
      WHERE c.identity <> excluded.identity;
    RETURN QUERY SELECT c.table_id, tandem._table_label(c.table_id), c.reason FROM tandem.old_table_change AS c
      WHERE c.table_id = one.table_id
        AND NOT EXISTS (SELECT FROM tandem.reconcile_ledger AS l
                        WHERE l.table_id = c.table_id AND l.last_clean_at = l.pass_finished_at AND l.pass_started_at > c.noticed_at);
  END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.old_tables_changed(jsonb) IS
  'old tables that may have lost what the way back wrote there, as a look at them tells, and that no clean pass has seen since';

CREATE FUNCTION tandem.cutover_commit(run_id bigint, auto_increments jsonb, lock_timeout_ms integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  run tandem.cutover_run := tandem._running(run_id);
BEGIN
  PERFORM tandem._refuse_cancelled(run);
  PERFORM set_config('lock_timeout', greatest(lock_timeout_ms, 1)::text, true); -- for all that follows: phases and sequences may be locked as well
  PERFORM tandem._lock_targets(run.table_ids, 'SHARE ROW EXCLUSIVE', lock_timeout_ms);
  IF run.kind = 'cutover' THEN
    PERFORM tandem._move_phase(run.table_ids, ARRAY['cutover'], 'new_primary', run.epoch, format('run %s: cutover', run_id));
    PERFORM tandem._open_target(i) FROM unnest(run.table_ids) AS i;
    IF NOT run.options -> 'waive' ? 'reverse' THEN
      PERFORM tandem._install_capture_back(i) FROM unnest(run.table_ids) AS i;
    END IF;
    PERFORM tandem._advance_sequences(i, true, coalesce(auto_increments -> i::text, '{}')) FROM unnest(run.table_ids) AS i;
  ELSIF run.kind = 'rollback' THEN
    PERFORM tandem._move_phase(run.table_ids, ARRAY['closing'], 'ready', run.epoch, format('run %s: rollback', run_id));
    PERFORM tandem._rest_capture_back(i) FROM unnest(run.table_ids) AS i;
    -- Nobody chose to read the side that now lags.
    UPDATE tandem.phase AS p SET read_strategy = 'old' WHERE p.table_id = ANY (run.table_ids);
    -- What the old side did not take, by leave of whoever waived it, is fetched anew from there like every other row.
    INSERT INTO tandem.request (table_id, key_text, reason)
      SELECT l.table_id, tandem.key_text(l.table_id, l.key), 'rollback' FROM tandem.reverse_letter AS l WHERE l.table_id = ANY (run.table_ids);
    DELETE FROM tandem.reverse_letter AS l WHERE l.table_id = ANY (run.table_ids);
    -- Compared since: its rows are known by what it is now. By leave of whoever waived that, it is copied like any table that was emptied.
    UPDATE tandem.capture_identity AS i
    SET identity = i.identity || jsonb_build_object('numbers', c.identity -> 'numbers', 'created', c.identity -> 'created', 'shape', c.identity -> 'shape')
    FROM tandem.old_table_change AS c
    WHERE c.table_id = ANY (run.table_ids) AND i.table_id = c.table_id AND NOT coalesce(run.options -> 'waive', '{}') ? 'old_table';
    DELETE FROM tandem.old_table_change AS c WHERE c.table_id = ANY (run.table_ids);
  ELSE
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('a %s is not committed', run.kind);
  END IF;
  UPDATE tandem.cutover_run AS r SET committed = true WHERE r.run_id = run.run_id;
  PERFORM tandem._commit_durably();
END
$$;
COMMENT ON FUNCTION tandem.cutover_commit(bigint, jsonb, integer) IS
  'the change of the source of truth, all of it in one transaction: phase by compare-and-set, epoch, sequences, capture on the targets';

CREATE FUNCTION tandem.cutover_abort(run_id bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  run tandem.cutover_run;
BEGIN
  SELECT r.* INTO STRICT run FROM tandem.cutover_run AS r WHERE r.run_id = cutover_abort.run_id;
  RETURN run.epoch IS NULL OR tandem._put_back(run.table_ids, CASE run.kind WHEN 'rollback' THEN 'closing' ELSE 'cutover' END, run.epoch,
                                               format('run %s: given up', run_id));
END
$$;
COMMENT ON FUNCTION tandem.cutover_abort(bigint) IS 'makes the commit of this attempt impossible; false: it has been committed, or somebody else has put it back';

CREATE FUNCTION tandem._put_back(table_ids integer[], from_phase text, epoch bigint, note text) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  to_phase text := CASE from_phase WHEN 'cutover' THEN 'ready' WHEN 'closing' THEN 'new_primary' ELSE from_phase END;
BEGIN
  PERFORM tandem._move_phase(table_ids, ARRAY[from_phase], to_phase, epoch, note);
  IF from_phase = 'closing' THEN
    PERFORM tandem._open_target(i) FROM unnest(table_ids) AS i;
  END IF;
  RETURN true;
EXCEPTION WHEN object_not_in_prerequisite_state THEN
  RETURN false;
END
$$;
COMMENT ON FUNCTION tandem._put_back(integer[], text, bigint, text) IS
  'compare-and-set back to the phase before the attempt, or the same phase under a new epoch; false: the tables are not where they are said to be';

CREATE FUNCTION tandem.cutover_step(run_id bigint, name text, ms double precision, detail text) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO tandem.cutover_step (run_id, step, name, ms, detail)
  SELECT cutover_step.run_id, coalesce(max(s.step), 0) + 1, cutover_step.name, cutover_step.ms, cutover_step.detail
  FROM tandem.cutover_step AS s WHERE s.run_id = cutover_step.run_id
$$;
COMMENT ON FUNCTION tandem.cutover_step(bigint, text, double precision, text) IS 'one step of a run is done';

CREATE FUNCTION tandem.cutover_end(run_id bigint, pause_ms double precision, error jsonb) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  UPDATE tandem.cutover_run AS r SET state = CASE WHEN cutover_end.error IS NULL THEN 'done' ELSE 'failed' END, error = cutover_end.error,
    pause_ms = cutover_end.pause_ms, ended_at = clock_timestamp()
  WHERE r.run_id = cutover_end.run_id AND r.state IN ('running', 'failed');
$$;
COMMENT ON FUNCTION tandem.cutover_end(bigint, double precision, jsonb) IS 'a run is over: done, or failed with an error';

CREATE FUNCTION tandem.cutover_state(source_id integer, epoch bigint) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  PERFORM tandem._refuse_other_epoch(cutover_state.source_id, cutover_state.epoch);
  RETURN (SELECT coalesce(jsonb_agg(jsonb_build_object('phase', g.phase, 'epoch', g.epoch, 'table_ids', g.ids)), '[]')
          FROM (SELECT p.phase, p.epoch, jsonb_agg(p.table_id ORDER BY p.table_id) AS ids
                FROM tandem.phase AS p JOIN tandem.source_table AS t USING (table_id)
                WHERE t.source_id = cutover_state.source_id GROUP BY p.phase, p.epoch) AS g);
END
$$;
COMMENT ON FUNCTION tandem.cutover_state(integer, bigint) IS 'tables by phase and epoch: what a worker that begins to lead compares with the old side';

CREATE FUNCTION tandem.cutover_put_back(source_id integer, lease_epoch bigint, table_ids integer[], from_phase text, epoch bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM tandem._refuse_other_epoch(source_id, lease_epoch);
  RETURN tandem._put_back(table_ids, from_phase, epoch, 'put back by tandem-sync: the attempt had been left');
END
$$;
COMMENT ON FUNCTION tandem.cutover_put_back(integer, bigint, integer[], text, bigint) IS
  'ends every attempt up to this epoch, before the worker takes its remains away (model D: Doctor); false: the tables have moved on';

CREATE FUNCTION tandem.cutover_contract(run_id bigint, lock_timeout_ms integer) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  run tandem.cutover_run := tandem._running(run_id);
  one integer;
  dropped text;
  removed bigint;
BEGIN
  PERFORM set_config('lock_timeout', greatest(lock_timeout_ms, 1)::text, true);
  IF EXISTS (SELECT FROM tandem.phase AS p WHERE p.table_id = ANY (run.table_ids) AND p.phase = 'new_primary') THEN
    PERFORM tandem._move_phase(ARRAY(SELECT p.table_id FROM tandem.phase AS p WHERE p.table_id = ANY (run.table_ids) AND p.phase = 'new_primary'),
                               ARRAY['new_primary'], 'contracted', NULL, format('run %s: contract', run_id));
  END IF;
  -- To drop a trigger waits for every reader, and everybody else waits behind: the application lives on this table.
  PERFORM tandem._lock_targets(run.table_ids, 'ACCESS EXCLUSIVE', lock_timeout_ms);
  FOREACH one IN ARRAY run.table_ids LOOP
    IF tandem._remove_capture_back(one) THEN
      PERFORM tandem.cutover_step(run_id, 'new side', 0, format('triggers tandem_capture_back and tandem_refuse_truncate on %s', (SELECT t.target FROM tandem.source_table AS t WHERE t.table_id = one)));
    END IF;
    PERFORM tandem._remove_closed((SELECT t.target FROM tandem.source_table AS t WHERE t.table_id = one));
    IF tandem._drop_guards(one) THEN
      PERFORM tandem.cutover_step(run_id, 'new side', 0, format('guards of direct writes on %s', (SELECT t.target FROM tandem.source_table AS t WHERE t.table_id = one)));
    END IF;
    FOREACH dropped IN ARRAY tandem._drop_lookup_indexes((SELECT t.target FROM tandem.source_table AS t WHERE t.table_id = one)) LOOP
      PERFORM tandem.cutover_step(run_id, 'new side', 0, format('index %s, by which cascades were looked up', dropped));
    END LOOP;
    DELETE FROM tandem.reverse_outbox AS o WHERE o.table_id = one;
    GET DIAGNOSTICS removed = ROW_COUNT;
    IF removed > 0 THEN
      PERFORM tandem.cutover_step(run_id, 'new side', 0, format('%s changes of "%s" that the old side did not have', removed, tandem._table_label(one)));
    END IF;
    DELETE FROM tandem.reverse_letter AS l WHERE l.table_id = one;
    DELETE FROM tandem.retry AS q WHERE q.table_id = one;
    DELETE FROM tandem.request AS q WHERE q.table_id = one;
  END LOOP;
  UPDATE tandem.cutover_run AS r SET committed = true WHERE r.run_id = run.run_id;
  PERFORM tandem._commit_durably();
END
$$;
COMMENT ON FUNCTION tandem.cutover_contract(bigint, integer) IS 'phase contracted, and the machinery of the way back is removed from the new side; can be repeated';

GRANT EXECUTE ON FUNCTION tandem.cutover_next(integer, bigint), tandem.cutover_probe(bigint), tandem.cutover_begin(bigint, integer),
  tandem.cutover_obstacle(bigint), tandem.old_tables_changed(jsonb),
  tandem.cutover_commit(bigint, jsonb, integer), tandem.cutover_abort(bigint), tandem.cutover_step(bigint, text, double precision, text),
  tandem.cutover_end(bigint, double precision, jsonb), tandem.cutover_state(integer, bigint),
  tandem.cutover_put_back(integer, bigint, integer[], text, bigint), tandem.cutover_contract(bigint, integer) TO tandem_worker;
