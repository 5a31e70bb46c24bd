-- The worker's side of a direct backfill (docs/protocol.md section 16). Steps have the names of docs/model/b1_chunks.pml.

-- --- secondary indexes of created targets -------------------------------------------------------------------------------------------

-- Only what can be made again exactly as it was: no constraint, nothing that depends on it or is marked by it.
CREATE FUNCTION tandem._deferrable_indexes(target regclass) RETURNS TABLE (index regclass, name name, definition text, remark text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT c.oid::regclass, c.relname, pg_get_indexdef(c.oid), obj_description(c.oid, 'pg_class')
  FROM pg_index AS i JOIN pg_class AS c ON c.oid = i.indexrelid
  WHERE i.indrelid = target AND i.indisvalid AND NOT i.indisprimary AND NOT i.indisreplident AND NOT i.indisclustered AND c.reltablespace = 0
    AND NOT EXISTS (SELECT FROM pg_constraint AS k WHERE k.conindid = c.oid)
    AND NOT EXISTS (SELECT FROM pg_depend AS d WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid)
$$;
COMMENT ON FUNCTION tandem._deferrable_indexes(regclass) IS 'indexes of a target that can be dropped and built again without a trace';

CREATE FUNCTION tandem._key_index(table_id integer) RETURNS regclass
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT i.indexrelid::regclass
  FROM tandem.source_table AS t JOIN pg_index AS i ON i.indrelid = t.target
  WHERE t.table_id = _key_index.table_id AND i.indisunique AND i.indpred IS NULL AND i.indexprs IS NULL
    AND ARRAY(SELECT a.attname FROM pg_attribute AS a WHERE a.attrelid = t.target AND a.attnum = ANY (i.indkey[0:i.indnkeyatts - 1]) ORDER BY a.attname)
      = ARRAY(SELECT m.name FROM tandem.target_column AS m WHERE m.table_id = t.table_id AND m.key_position IS NOT NULL ORDER BY m.name)
  ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1
$$;
COMMENT ON FUNCTION tandem._key_index(integer) IS 'index of the target by which apply finds rows';

CREATE FUNCTION tandem._defer_indexes(table_id integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  deferred record;
BEGIN
  FOR deferred IN
    SELECT d.* FROM tandem.source_table AS t CROSS JOIN LATERAL tandem._deferrable_indexes(t.target) AS d
    WHERE t.table_id = _defer_indexes.table_id AND d.index <> tandem._key_index(t.table_id)
  LOOP
    INSERT INTO tandem.deferred_index (table_id, name, definition, remark) VALUES (table_id, deferred.name, deferred.definition, deferred.remark);
    EXECUTE format('DROP INDEX %s', deferred.index);
  END LOOP;
END
$$;
COMMENT ON FUNCTION tandem._defer_indexes(integer) IS 'takes the secondary indexes off a created target that is still empty, and notes them';

CREATE FUNCTION tandem._build_index(table_id integer, name name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  deferred tandem.deferred_index;
  made regclass;
BEGIN
  DELETE FROM tandem.deferred_index AS d WHERE d.table_id = _build_index.table_id AND d.name = _build_index.name RETURNING d.* INTO STRICT deferred;
  EXECUTE deferred.definition;
  IF deferred.remark IS NOT NULL THEN
    SELECT c.oid::regclass INTO made FROM tandem.source_table AS t JOIN pg_index AS i ON i.indrelid = t.target JOIN pg_class AS c ON c.oid = i.indexrelid
    WHERE t.table_id = deferred.table_id AND c.relname = deferred.name;
    EXECUTE format('COMMENT ON INDEX %s IS %L', made, deferred.remark);
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._build_index(integer, name) IS 'builds a deferred index as it was; the note goes in the same transaction';

-- --- how a table is copied ----------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem._source_of(table_id integer) RETURNS integer
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT t.source_id FROM tandem.source_table AS t WHERE t.table_id = _source_of.table_id $$;
COMMENT ON FUNCTION tandem._source_of(integer) IS 'source of a table';

CREATE FUNCTION tandem._tied_by_cascades(table_id integer) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT EXISTS (
    SELECT FROM tandem.source_table AS t JOIN tandem.source AS s USING (source_id) JOIN tandem.source_fk AS f USING (source_id)
    WHERE t.table_id = _tied_by_cascades.table_id
      AND (f.on_delete IN ('CASCADE', 'SET NULL', 'SET DEFAULT') OR f.on_update IN ('CASCADE', 'SET NULL', 'SET DEFAULT'))
      AND (f.parent_database = s.database AND f.parent = t.name OR f.child_database = s.database AND f.child = t.name))
$$;
COMMENT ON FUNCTION tandem._tied_by_cascades(integer) IS 'whether a foreign key with an action ties the old table to another, as parent or child';

CREATE FUNCTION tandem._ordered_reason(table_id integer, rows_at_least bigint) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE
    WHEN current_setting('tandem.backfill_copiers')::integer = 0 THEN 'tandem.backfill_copiers is 0'
    -- Children are looked up on the new side as it is when a parent's change is applied: a chunk that was read before and lands after would be missed.
    WHEN tandem._tied_by_cascades(table_id) THEN 'foreign keys with actions tie it to other tables'
    -- What waits there may be older than the rows that would be copied.
    WHEN a.backfill_done OR a.backfill_cursor IS NOT NULL OR EXISTS (SELECT FROM tandem.retry AS r WHERE r.table_id = a.table_id)
         OR EXISTS (SELECT FROM tandem.dead_letter AS d WHERE d.table_id = a.table_id) THEN 'it was copied before, wholly or in part'
    WHEN rows_at_least < current_setting('tandem.backfill_direct_rows')::bigint THEN 'it is small' END
  FROM tandem.table_state AS a WHERE a.table_id = _ordered_reason.table_id
$$;
COMMENT ON FUNCTION tandem._ordered_reason(integer, bigint) IS 'why the history of a table goes through the queue, NULL: it is copied directly';

CREATE FUNCTION tandem._has_rows(target regclass) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  found_one boolean;
BEGIN
  EXECUTE format('SELECT EXISTS (SELECT FROM %s)', target) INTO found_one;
  RETURN found_one;
END
$$;
COMMENT ON FUNCTION tandem._has_rows(regclass) IS 'whether a target has rows';

CREATE FUNCTION tandem.begin_backfill(table_id integer, epoch bigint, rows_at_least bigint, rows_estimate bigint, bytes_estimate bigint) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '1s' SET deadlock_timeout = '100ms'
AS $$
DECLARE
  known tandem.backfill;
  moved tandem.source_table;
  reason text;
  fresh boolean;
BEGIN
  PERFORM tandem._refuse_other_epoch(tandem._source_of(table_id), epoch);
  SELECT b.* INTO known FROM tandem.backfill AS b WHERE b.table_id = begin_backfill.table_id FOR UPDATE;
  IF NOT FOUND THEN
    SELECT t.* INTO STRICT moved FROM tandem.source_table AS t WHERE t.table_id = begin_backfill.table_id;
    reason := tandem._ordered_reason(table_id, rows_at_least);
    fresh := NOT tandem._has_rows(moved.target);
    INSERT INTO tandem.backfill AS b (table_id, mode, mode_reason, fresh, rows_estimate, bytes_estimate)
    VALUES (table_id, CASE WHEN reason IS NULL THEN 'direct' ELSE 'ordered' END, coalesce(reason, 'a first copy of a large table'), fresh,
            greatest(begin_backfill.rows_estimate, rows_at_least), begin_backfill.bytes_estimate)
    RETURNING b.* INTO known;
    IF known.mode = 'direct' AND fresh AND moved.created_target THEN
      BEGIN
        PERFORM tandem._defer_indexes(table_id);
      EXCEPTION WHEN lock_not_available OR dependent_objects_still_exist THEN
        NULL; -- somebody uses the target: its indexes stay, the load takes longer
      END;
    END IF;
  END IF;
  IF known.mode = 'ordered' THEN
    -- The last chunk of an ordered copy puts the table in sync by itself.
    PERFORM tandem._build_index(d.table_id, d.name) FROM tandem.deferred_index AS d WHERE d.table_id = begin_backfill.table_id;
  END IF;
  PERFORM tandem._commit_durably();
  RETURN known.mode;
END
$$;
COMMENT ON FUNCTION tandem.begin_backfill(integer, bigint, bigint, bigint, bigint) IS
  'decides, once, how the history of a table is copied: "direct" or "ordered"; takes secondary indexes off a created target that is still empty';

-- --- chunks -------------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem.plan_chunks(table_id integer, epoch bigint, after_chunk integer, bounds jsonb, last boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  planned integer;
BEGIN
  PERFORM tandem._refuse_other_epoch(tandem._source_of(table_id), epoch);
  PERFORM FROM tandem.backfill AS b WHERE b.table_id = plan_chunks.table_id AND b.mode = 'direct' AND NOT b.planned_all FOR UPDATE;
  SELECT coalesce(max(c.chunk), 0) INTO planned FROM tandem.backfill_chunk AS c WHERE c.table_id = plan_chunks.table_id;
  IF NOT EXISTS (SELECT FROM tandem.backfill AS b WHERE b.table_id = plan_chunks.table_id AND b.mode = 'direct' AND NOT b.planned_all)
     OR planned <> after_chunk THEN
    RETURN; -- set back, cancelled, or planned by another meanwhile
  END IF;
  INSERT INTO tandem.backfill_chunk (table_id, chunk, low, high)
  SELECT plan_chunks.table_id, planned + b.n, coalesce(lag(b.high) OVER (ORDER BY b.n), p.high), b.high
  FROM (SELECT ARRAY(SELECT jsonb_array_elements_text(e.bound)) AS high, e.n FROM jsonb_array_elements(bounds) WITH ORDINALITY AS e(bound, n)
        UNION ALL SELECT NULL, jsonb_array_length(bounds) + 1 WHERE last) AS b
  LEFT JOIN tandem.backfill_chunk AS p ON p.table_id = plan_chunks.table_id AND p.chunk = planned
  ORDER BY b.n;
  UPDATE tandem.backfill AS b SET planned_all = true WHERE b.table_id = plan_chunks.table_id AND last;
END
$$;
COMMENT ON FUNCTION tandem.plan_chunks(integer, bigint, integer, jsonb, boolean) IS
  'appends chunks: bounds are their last keys, text form, in the order of the old side''s index; last: one more to the end of the key';

CREATE FUNCTION tandem._copies_now(table_id integer) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT EXISTS (SELECT FROM tandem.source_table AS t JOIN tandem.table_state AS a USING (table_id) JOIN tandem.backfill AS b USING (table_id)
                 WHERE t.table_id = _copies_now.table_id AND t.desired_state = 'running' AND a.state IN ('capturing', 'backfilling')
                   AND b.mode = 'direct' AND b.phase <> 'done'
                   -- After a loss the table is copied through the queue.
                   AND NOT EXISTS (SELECT FROM tandem.resync AS r WHERE r.table_id = t.table_id AND r.phase <> 'done'))
$$;
COMMENT ON FUNCTION tandem._copies_now(integer) IS 'whether chunks of a table may be copied: neither paused nor blocked nor done';

-- Chunks are started in order of their numbers, one after the other, so that those not started are all behind the last started one.
CREATE FUNCTION tandem.mark_chunk(table_id integer, epoch bigint, busy integer[],
  OUT chunk integer, OUT low text[], OUT high text[], OUT attempt integer, OUT unstarted integer, OUT planned integer, OUT planned_all boolean,
  OUT last_high text[], OUT undone integer)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  copied tandem.backfill;
BEGIN
  PERFORM tandem._refuse_other_epoch(tandem._source_of(mark_chunk.table_id), mark_chunk.epoch);
  SELECT b.* INTO copied FROM tandem.backfill AS b WHERE b.table_id = mark_chunk.table_id FOR UPDATE;
  IF NOT tandem._copies_now(mark_chunk.table_id) THEN
    RETURN;
  END IF;
  UPDATE tandem.backfill_chunk AS c
  SET state = 'in_progress', attempt = c.attempt + 1, epoch = mark_chunk.epoch, started_at = clock_timestamp()
  WHERE c.table_id = mark_chunk.table_id
    AND c.chunk = (SELECT o.chunk FROM tandem.backfill_chunk AS o
                   WHERE o.table_id = mark_chunk.table_id AND o.state <> 'done' AND o.chunk <> ALL (busy) ORDER BY o.chunk LIMIT 1)
  RETURNING c.chunk, c.low, c.high, c.attempt INTO mark_chunk.chunk, mark_chunk.low, mark_chunk.high, mark_chunk.attempt;
  SELECT count(*) FILTER (WHERE o.state = 'not_started'), count(*) INTO unstarted, undone
  FROM tandem.backfill_chunk AS o WHERE o.table_id = mark_chunk.table_id AND o.state <> 'done';
  SELECT o.chunk, o.high INTO planned, last_high FROM tandem.backfill_chunk AS o WHERE o.table_id = mark_chunk.table_id ORDER BY o.chunk DESC LIMIT 1;
  planned := coalesce(planned, 0);
  mark_chunk.planned_all := copied.planned_all;
  PERFORM tandem._commit_durably();
END
$$;
COMMENT ON FUNCTION tandem.mark_chunk(integer, bigint, integer[]) IS
  'marks the first chunk that is neither done nor in the hands of the caller''s other copiers as in progress; commit it before the snapshot is taken';

CREATE FUNCTION tandem.read_chunks(source_id integer) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(jsonb_agg(jsonb_build_object(
           'table_id', t.table_id,
           'done', b.phase = 'done' OR a.backfill_done,
           'held', b.phase = 'building indexes',
           'planned', p.chunk,
           'planned_all', b.planned_all,
           'done_high', d.high,
           'open', o.open) ORDER BY t.table_id), '[]')
  FROM tandem.source_table AS t JOIN tandem.backfill AS b USING (table_id) JOIN tandem.table_state AS a USING (table_id)
  LEFT JOIN LATERAL (SELECT c.chunk FROM tandem.backfill_chunk AS c WHERE c.table_id = t.table_id ORDER BY c.chunk DESC LIMIT 1) AS p ON true
  CROSS JOIN LATERAL (SELECT coalesce(min(c.chunk), p.chunk + 1) AS first FROM tandem.backfill_chunk AS c
                      WHERE c.table_id = t.table_id AND c.state <> 'done') AS f
  LEFT JOIN tandem.backfill_chunk AS d ON d.table_id = t.table_id AND d.chunk = f.first - 1
  CROSS JOIN LATERAL (SELECT coalesce(jsonb_agg(jsonb_build_object('chunk', c.chunk, 'high', c.high, 'state', c.state) ORDER BY c.chunk), '[]') AS open
                      FROM tandem.backfill_chunk AS c WHERE c.table_id = t.table_id AND c.chunk >= f.first) AS o
  WHERE t.source_id = read_chunks.source_id AND b.mode = 'direct' AND b.phase <> 'done'
$$;
COMMENT ON FUNCTION tandem.read_chunks(integer) IS
  'chunks of the tables of a source that are copied directly, behind those at the beginning that are done (docs/protocol.md section 16)';

CREATE FUNCTION tandem.write_chunk(table_id integer, chunk integer, attempt integer, epoch bigint, rows bytea) RETURNS bigint
LANGUAGE c VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'tandem_write_chunk';
COMMENT ON FUNCTION tandem.write_chunk(integer, integer, integer, bigint, bytea) IS
  'puts rows of a chunk into the target, in the transaction that end_chunk ends; returns how many went in as they were, without a merge';

CREATE FUNCTION tandem._refuse_lost_chunk(table_id integer, chunk integer, attempt integer, epoch bigint) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM tandem._refuse_other_epoch(tandem._source_of(table_id), epoch);
  IF NOT tandem._copies_now(table_id)
     OR NOT EXISTS (SELECT FROM tandem.backfill_chunk AS c WHERE c.table_id = _refuse_lost_chunk.table_id AND c.chunk = _refuse_lost_chunk.chunk
                    AND c.attempt = _refuse_lost_chunk.attempt AND c.state = 'in_progress') THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('chunk %s of table %s is not being copied by attempt %s any more', chunk, table_id, attempt),
      DETAIL = 'The table was paused, blocked, cancelled or set back, or another attempt has begun.',
      HINT = 'Roll back, and mark a chunk again.';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_lost_chunk(integer, integer, integer, bigint) IS 'error unless this attempt at a chunk is the latest, under the epoch of the lease';

CREATE FUNCTION tandem.end_chunk(table_id integer, chunk integer, attempt integer, epoch bigint, rows bigint, bytes bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM tandem._refuse_other_epoch(tandem._source_of(table_id), epoch);
  -- Waits for another attempt that is being marked or ended, and then finds its number.
  UPDATE tandem.backfill_chunk AS c
  SET state = 'done', rows = end_chunk.rows, bytes = end_chunk.bytes, done_at = clock_timestamp()
  WHERE c.table_id = end_chunk.table_id AND c.chunk = end_chunk.chunk AND c.attempt = end_chunk.attempt AND c.state = 'in_progress';
  IF NOT FOUND THEN
    PERFORM tandem._refuse_lost_chunk(table_id, chunk, attempt, epoch);
  END IF;
  UPDATE tandem.table_state AS a SET backfill_rows = a.backfill_rows + end_chunk.rows, updated_at = clock_timestamp()
  WHERE a.table_id = end_chunk.table_id;
  PERFORM tandem._commit_durably();
END
$$;
COMMENT ON FUNCTION tandem.end_chunk(integer, integer, integer, bigint, bigint, bigint) IS
  'the chunk is done, in the transaction that has its rows, and only if no other attempt has begun';

CREATE FUNCTION tandem.end_backfill(table_id integer, epoch bigint) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  copied tandem.backfill;
BEGIN
  PERFORM tandem._refuse_other_epoch(tandem._source_of(table_id), epoch);
  SELECT b.* INTO copied FROM tandem.backfill AS b WHERE b.table_id = end_backfill.table_id FOR UPDATE;
  IF copied.phase = 'done' THEN
    RETURN 'done';
  ELSIF NOT tandem._copies_now(table_id) OR NOT copied.planned_all
     OR EXISTS (SELECT FROM tandem.backfill_chunk AS c WHERE c.table_id = end_backfill.table_id AND c.state <> 'done') THEN
    RETURN 'copying';
  ELSIF EXISTS (SELECT FROM tandem.deferred_index AS d WHERE d.table_id = end_backfill.table_id) THEN
    UPDATE tandem.backfill AS b SET phase = 'building indexes' WHERE b.table_id = end_backfill.table_id AND b.phase <> 'building indexes';
    RETURN 'building indexes';
  END IF;
  UPDATE tandem.backfill AS b
  SET phase = 'done', ended_at = clock_timestamp(), rows = s.rows, bytes = s.bytes
  FROM (SELECT coalesce(sum(c.rows), 0) AS rows, coalesce(sum(c.bytes), 0) AS bytes FROM tandem.backfill_chunk AS c
        WHERE c.table_id = end_backfill.table_id) AS s
  WHERE b.table_id = end_backfill.table_id;
  DELETE FROM tandem.backfill_chunk AS c WHERE c.table_id = end_backfill.table_id;
  UPDATE tandem.table_state AS a SET backfill_done = true, state = 'syncing', reason = NULL, updated_at = clock_timestamp()
  WHERE a.table_id = end_backfill.table_id;
  PERFORM tandem._commit_durably(), tandem._config_changed(), tandem._requests_changed();
  RETURN 'done';
END
$$;
COMMENT ON FUNCTION tandem.end_backfill(integer, bigint) IS
  'when every chunk is done and no index is missing, the table is in sync; returns "copying", "building indexes" or "done"';

CREATE FUNCTION tandem.build_index(table_id integer, epoch bigint) RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '10s'
AS $$
DECLARE
  next_name name;
BEGIN
  PERFORM tandem._refuse_other_epoch(tandem._source_of(table_id), epoch);
  SELECT d.name INTO next_name FROM tandem.deferred_index AS d
  WHERE d.table_id = build_index.table_id ORDER BY d.problem IS NOT NULL, d.name LIMIT 1;
  IF next_name IS NULL THEN
    RETURN NULL;
  END IF;
  BEGIN
    PERFORM tandem._build_index(table_id, next_name);
  EXCEPTION WHEN OTHERS THEN
    -- A unique value may be on its way from one row to another: changes must flow before it is tried again.
    UPDATE tandem.backfill AS b SET phase = 'copying' WHERE b.table_id = build_index.table_id AND b.phase <> 'done';
    UPDATE tandem.deferred_index AS d SET problem = SQLERRM WHERE d.table_id = build_index.table_id AND d.name = next_name;
    RETURN format('index "%s" cannot be built yet: %s', next_name, SQLERRM);
  END;
  RETURN '';
END
$$;
COMMENT ON FUNCTION tandem.build_index(integer, bigint) IS
  'builds one deferred index: NULL there is none left, empty text one was built, else why it could not be built yet';

CREATE FUNCTION tandem.report_pace(source_id integer, epoch bigint, pace jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM tandem._refuse_other_epoch(source_id, epoch);
  INSERT INTO tandem.backfill_pace AS p (source_id, throttle, threads_running, history_list, replica_lag, unreadable)
  VALUES (source_id, pace ->> 'throttle', (pace ->> 'threads_running')::integer, (pace ->> 'history_list')::bigint,
          (pace ->> 'replica_lag')::double precision, pace ->> 'unreadable')
  ON CONFLICT ON CONSTRAINT backfill_pace_pkey DO UPDATE
    SET throttle = excluded.throttle, threads_running = excluded.threads_running, history_list = excluded.history_list,
        replica_lag = excluded.replica_lag, unreadable = excluded.unreadable, reported_at = clock_timestamp();
END
$$;
COMMENT ON FUNCTION tandem.report_pace(integer, bigint, jsonb) IS 'load of the old side and what holds the copy back, from the worker that leads the source';

GRANT EXECUTE ON FUNCTION tandem.begin_backfill(integer, bigint, bigint, bigint, bigint), tandem.plan_chunks(integer, bigint, integer, jsonb, boolean),
  tandem.mark_chunk(integer, bigint, integer[]), tandem.read_chunks(integer), tandem.write_chunk(integer, integer, integer, bigint, bytea),
  tandem.end_chunk(integer, integer, integer, bigint, bigint, bigint), tandem.end_backfill(integer, bigint), tandem.build_index(integer, bigint),
  tandem.report_pace(integer, bigint, jsonb)
TO tandem_worker;
