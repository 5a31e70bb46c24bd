-- The work of a leading worker: configuration and state of tables, batches, requests, waiting for events, barriers (docs/protocol.md section 5).

-- --- configuration of tables ------------------------------------------------------------------------------------------------------

-- Foreign keys of the old side whose cascades change rows that no trigger sees.
CREATE VIEW tandem._cascade AS
  SELECT f.*
  FROM tandem.source_fk AS f
  WHERE f.on_delete IN ('CASCADE', 'SET NULL') OR f.on_update IN ('CASCADE', 'SET NULL');
COMMENT ON VIEW tandem._cascade IS 'foreign keys of the old side with an action that changes children';

-- An expression that has the name anywhere counts: rather too much is taken for mapped than too little.
CREATE FUNCTION tandem._is_mapped(table_id integer, old_column text) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT EXISTS (SELECT FROM tandem.target_column AS m WHERE m.table_id = _is_mapped.table_id
                 AND (m.source_column = old_column OR strpos(m.expression, replace(old_column, '"', '""')) > 0))
      OR EXISTS (SELECT FROM tandem.source_table AS t WHERE t.table_id = _is_mapped.table_id
                 AND (old_column = ANY (t.key_columns) OR strpos(t.filter, replace(old_column, '"', '""')) > 0))
$$;
COMMENT ON FUNCTION tandem._is_mapped(integer, text) IS 'whether the target or the filter of a table reads an old column';

CREATE FUNCTION tandem._table_columns(table_id integer) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
             'name', c.name, 'mysql_type', c.mysql_type, 'data_type', c.data_type, 'unsigned', c.is_unsigned, 'charset', c.charset,
             'collation', c.collation, 'image_type', c.image_type, 'nullable', c.nullable, 'generated', c.generated,
             'policy', c.policy, 'policy_image', encode(c.policy_image, 'hex'), 'mapped', tandem._is_mapped(c.table_id, c.name), 'gone', c.gone)
             ORDER BY c.ordinal), '[]')
    FROM tandem.source_column AS c WHERE c.table_id = _table_columns.table_id);
END
$$;
COMMENT ON FUNCTION tandem._table_columns(integer) IS 'columns of an old table for the worker';

CREATE FUNCTION tandem._referenced_columns(t tandem.source_table, database text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT coalesce(jsonb_agg(DISTINCT r.name), '[]')
    FROM tandem._cascade AS f, unnest(f.ref_columns) AS r(name)
    WHERE f.source_id = t.source_id AND f.parent_database = database AND f.parent = t.name);
END
$$;
COMMENT ON FUNCTION tandem._referenced_columns(tandem.source_table, text) IS 'columns that a cascading foreign key of any table refers to';

CREATE FUNCTION tandem._cascade_parents(t tandem.source_table, database text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_object('table', f.parent)), '[]')
    FROM tandem._cascade AS f
    WHERE f.source_id = t.source_id AND f.child_database = database AND f.child = t.name AND f.parent_database = database);
END
$$;
COMMENT ON FUNCTION tandem._cascade_parents(tandem.source_table, text) IS 'tables of the same database whose cascades change this one';

CREATE FUNCTION tandem._key_cascades(t tandem.source_table, database text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
             'child_table_id', child.table_id, 'child', child.name, 'child_outbox', child.outbox, 'child_key_columns', child.key_columns,
             'columns', f.columns, 'ref_columns', f.ref_columns) ORDER BY child.table_id, f.name), '[]')
    FROM tandem.source_fk AS f
    JOIN tandem.source_table AS child ON child.source_id = f.source_id AND child.name = f.child
    JOIN tandem.table_state AS a ON a.table_id = child.table_id -- captured; others have no outbox
    WHERE f.source_id = t.source_id AND f.parent_database = database AND f.parent = t.name AND f.child_database = database
      AND f.on_update = 'CASCADE' AND f.columns && child.key_columns AND child.desired_state <> 'dropped');
END
$$;
COMMENT ON FUNCTION tandem._key_cascades(tandem.source_table, text) IS 'foreign keys with ON UPDATE CASCADE that change keys of captured children';

CREATE FUNCTION tandem.worker_tables(source_id integer, table_id integer DEFAULT NULL) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT coalesce(jsonb_agg(jsonb_build_object(
             'table_id', t.table_id, 'name', t.name, 'outbox', t.outbox, 'trigger_suffix', t.trigger_suffix,
             'desired_state', t.desired_state, 'capture', t.capture, 'state', coalesce(a.state, 'registered'), 'phase', p.phase,
             'backfill_done', coalesce(a.backfill_done, false), 'backfill_cursor', a.backfill_cursor,
             'backfill_mode', (SELECT b.mode FROM tandem.backfill AS b WHERE b.table_id = t.table_id),
             'key_columns', t.key_columns, 'columns', tandem._table_columns(t.table_id),
             'cascade_parents', tandem._cascade_parents(t, s.database),
             'referenced_columns', tandem._referenced_columns(t, s.database),
             'key_cascades', tandem._key_cascades(t, s.database),
             'digest', tandem._digest_config(t.table_id),
             'identity', (SELECT i.identity FROM tandem.capture_identity AS i WHERE i.table_id = t.table_id),
             'resync', (SELECT jsonb_build_object('loss', r.loss, 'phase', r.phase, 'reason', r.reason)
                        FROM tandem.resync AS r WHERE r.table_id = t.table_id)) ORDER BY t.table_id), '[]')
    FROM tandem.source_table AS t JOIN tandem.source AS s USING (source_id) JOIN tandem.phase AS p USING (table_id)
      LEFT JOIN tandem.table_state AS a USING (table_id)
    WHERE t.source_id = worker_tables.source_id AND (worker_tables.table_id IS NULL OR t.table_id = worker_tables.table_id));
END
$$;
COMMENT ON FUNCTION tandem.worker_tables(integer, integer) IS 'configuration of all tables of a source, or of one (docs/protocol.md 5.1)';

-- --- batches ----------------------------------------------------------------------------------------------------------------------

-- What the worker has still to acknowledge: few rows of a long journal.
CREATE INDEX journal_unfinished ON tandem.journal (batch_id) WHERE NOT finished;

GRANT INSERT (batch_id, table_id, op, flags, age_us, key, image) ON tandem.queue TO tandem_worker;

-- Does not look at the lease: apply does, in the transaction that counts.
CREATE FUNCTION tandem.submit_batch(batch_id bigint, source_id integer, epoch bigint, rows integer, bytes bigint, fetch_us integer, backfill jsonb DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF batch_id >> 32 IS DISTINCT FROM epoch OR batch_id & 4294967295 = 0 OR epoch < 1 OR rows < 0 THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('batch %s of epoch %s is misnamed', batch_id, epoch),
      DETAIL = 'A batch is named by its epoch and a number counted from 1 within the epoch.';
  ELSIF backfill IS NOT NULL AND NOT (backfill ?& ARRAY['table_id', 'cursor', 'done', 'rows']) THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('backfill of batch %s lacks table_id, cursor, done or rows', batch_id);
  ELSIF EXISTS (SELECT FROM tandem.journal AS j WHERE j.batch_id = submit_batch.batch_id) THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('batch %s has been applied before', batch_id),
      DETAIL = 'A name of a batch is never used twice: its acknowledgement is in tandem.journal already.',
      HINT = 'Acquire the lease anew and number batches in the new epoch.';
  END IF;
  INSERT INTO tandem.batch (batch_id, source_id, epoch, rows, bytes, fetch_us, backfill)
  VALUES (batch_id, source_id, epoch, rows, bytes, fetch_us, backfill);
  PERFORM tandem._wake_apply();
END
$$;
COMMENT ON FUNCTION tandem.submit_batch(bigint, integer, bigint, integer, bigint, integer, jsonb) IS
  'ends a batch whose rows were copied to tandem.queue in the same transaction: apply takes it up at the commit';

CREATE FUNCTION tandem.finish_batches(batch_ids bigint[]) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ UPDATE tandem.journal AS j SET finished = true WHERE j.batch_id = ANY (batch_ids) AND NOT j.finished $$;
COMMENT ON FUNCTION tandem.finish_batches(bigint[]) IS 'the outbox rows of these batches are deleted on the old side';

-- --- requests ---------------------------------------------------------------------------------------------------------------------

-- A request waits while its table has no outbox that is read.
CREATE VIEW tandem._takable_requests AS
  SELECT r.request_id, t.source_id, r.table_id, r.key_text, r.flags
  FROM tandem.request AS r JOIN tandem.source_table AS t USING (table_id) JOIN tandem.table_state AS a USING (table_id)
  WHERE t.desired_state = 'running' AND a.state IN ('backfilling', 'syncing') AND r.not_before <= clock_timestamp();
COMMENT ON VIEW tandem._takable_requests IS 'requests that are due, of tables whose outbox is there and is read';

CREATE FUNCTION tandem.take_requests(source_id integer, "limit" integer) RETURNS TABLE (request_id bigint, table_id integer, key_text text[], flags integer)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  SELECT r.request_id, r.table_id, r.key_text, r.flags
  FROM tandem._takable_requests AS r WHERE r.source_id = take_requests.source_id ORDER BY r.request_id LIMIT take_requests."limit"
$$;
COMMENT ON FUNCTION tandem.take_requests(integer, integer) IS 'keys to be put into outboxes; they stay until finish_requests';

CREATE FUNCTION tandem.finish_requests(ids bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- Images of batches that are already here were read before the keys were in the outbox.
  INSERT INTO tandem.direct_asked (direct_id, asked_after)
  SELECT r.direct_id, greatest(l.epoch << 32, (SELECT max(b.batch_id) FROM tandem.batch AS b WHERE b.batch_id >= l.epoch << 32 AND b.batch_id < (l.epoch + 1) << 32),
                               (SELECT max(j.batch_id) FROM tandem.journal AS j WHERE j.batch_id >= l.epoch << 32 AND j.batch_id < (l.epoch + 1) << 32))
  FROM tandem.request AS r JOIN tandem.source_table AS t USING (table_id) JOIN tandem.lease AS l USING (source_id)
  WHERE r.request_id = ANY (ids) AND r.direct_id IS NOT NULL
  ON CONFLICT (direct_id) DO UPDATE SET asked_after = excluded.asked_after;
  DELETE FROM tandem.request AS r WHERE r.request_id = ANY (ids);
  PERFORM tandem._requests_changed();
END
$$;
COMMENT ON FUNCTION tandem.finish_requests(bigint[]) IS 'these keys are in their outboxes, committed on the old side';

-- --- states -----------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem.report_table(table_id integer, epoch bigint, state text, reason text, detail jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  source integer := (SELECT t.source_id FROM tandem.source_table AS t WHERE t.table_id = report_table.table_id);
BEGIN
  IF source IS NULL THEN
    RETURN; -- dropped meanwhile
  END IF;
  PERFORM tandem._refuse_other_epoch(source, epoch);
  UPDATE tandem.table_state AS a
  SET state = report_table.state, reason = report_table.reason, detail = coalesce(report_table.detail, '{}'), updated_at = clock_timestamp()
  WHERE a.table_id = report_table.table_id
    -- What apply has blocked (detail names the error) stays blocked until tandem.resume: the worker may not have heard of it yet.
    AND NOT (a.state = 'blocked' AND a.detail ? 'sqlstate' AND report_table.state IN ('backfilling', 'syncing'));
  PERFORM tandem._requests_changed();
END
$$;
COMMENT ON FUNCTION tandem.report_table(integer, bigint, text, text, jsonb) IS 'actual state of a table, from the worker that leads its source';

CREATE FUNCTION tandem._forget_table_stats(table_id integer) RETURNS void
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'tandem_forget_table_stats';
COMMENT ON FUNCTION tandem._forget_table_stats(integer) IS 'frees the counters of a table';

CREATE FUNCTION tandem.forget_table(table_id integer, epoch bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  forgotten tandem.source_table;
BEGIN
  SELECT t.* INTO forgotten FROM tandem.source_table AS t WHERE t.table_id = forget_table.table_id FOR UPDATE;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  PERFORM tandem._refuse_other_epoch(forgotten.source_id, epoch);
  IF forgotten.desired_state = 'registered'
     AND EXISTS (SELECT FROM tandem.table_state AS a WHERE a.table_id = forget_table.table_id AND a.state = 'dropping') THEN
    PERFORM tandem._end_cancelled(forget_table.table_id);
    RETURN;
  ELSIF forgotten.desired_state <> 'dropped' THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('table "%s" is not being dropped', forgotten.name),
      DETAIL = format('Its desired state is "%s".', forgotten.desired_state);
  END IF;
  DELETE FROM tandem.source_table AS t WHERE t.table_id = forget_table.table_id;
  PERFORM tandem._forget_table_stats(forget_table.table_id), tandem._requests_changed();
END
$$;
COMMENT ON FUNCTION tandem.forget_table(integer, bigint) IS 'the old side of a dropped table is clean: it leaves the catalog';

-- --- waiting ----------------------------------------------------------------------------------------------------------------------

-- Index scans only: the journal is long, and a plan made while it was short would be kept.
CREATE FUNCTION tandem.wait_events(source_id integer, epoch bigint, seen_generation bigint, timeout_ms integer,
  OUT acked bigint[], OUT fenced boolean, OUT generation bigint, OUT requests boolean, OUT barrier bigint)
LANGUAGE c VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS 'MODULE_PATHNAME', 'tandem_wait_events';
COMMENT ON FUNCTION tandem.wait_events(integer, bigint, bigint, integer) IS
  'waits until batches are acknowledged, the lease is lost, the configuration changes, requests or a barrier are there, or the time is over';

CREATE FUNCTION tandem._set_barrier_reached(source_id integer, barrier bigint) RETURNS void
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'tandem_set_barrier_reached';
COMMENT ON FUNCTION tandem._set_barrier_reached(integer, bigint) IS 'notes in shared memory how far a source has come, and wakes who waits for it';

CREATE FUNCTION tandem.reached_barrier(source_id integer, epoch bigint, barrier bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM tandem._refuse_other_epoch(source_id, epoch);
  PERFORM tandem._set_barrier_reached(source_id, barrier);
END
$$;
COMMENT ON FUNCTION tandem.reached_barrier(integer, bigint, bigint) IS 'everything committed on the old side before this barrier was raised is applied';

CREATE FUNCTION tandem._raise_barriers() RETURNS integer
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tandem_raise_barriers';
COMMENT ON FUNCTION tandem._raise_barriers() IS 'raises the barrier of every source with running tables; returns how many there are';

CREATE FUNCTION tandem.wait_caught_up(timeout interval DEFAULT NULL) RETURNS boolean
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tandem_wait_caught_up';
COMMENT ON FUNCTION tandem.wait_caught_up(interval) IS
  'waits until everything that was committed on the old side before the call is applied, and no row waits to be retried; false when the time is over first. Without a timeout it waits as long as it takes. Dead letters do not hold it up, nor rows of phase dual_write whose second write may still come (pg_stat_tandem_dual_writes.unverified)';
GRANT EXECUTE ON FUNCTION tandem.wait_caught_up(interval) TO tandem_monitor;

GRANT EXECUTE ON FUNCTION tandem.worker_tables(integer, integer), tandem.submit_batch(bigint, integer, bigint, integer, bigint, integer, jsonb),
  tandem.wait_events(integer, bigint, bigint, integer), tandem.finish_batches(bigint[]),
  tandem.take_requests(integer, integer), tandem.finish_requests(bigint[]),
  tandem.report_table(integer, bigint, text, text, jsonb), tandem.forget_table(integer, bigint),
  tandem.reached_barrier(integer, bigint, bigint)
TO tandem_worker;
