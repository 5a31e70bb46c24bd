-- Writes through routed views (docs/phases.md, "Writing through the view"; docs/protocol.md section 19). The trigger of the view is in C
-- (src/write_through.cpp): with the new side as source of truth it writes to the target; else it calls tandem._queue_write, and the worker
-- writes to the old side what was committed here.

-- --- while the new side is the source of truth ------------------------------------------------------------------------------------

CREATE FUNCTION tandem._direct_statement(wanted integer, view oid, operation text, null_columns text[]) RETURNS text[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  WITH columns AS (
    SELECT a.attname, a.attnum, a.attgenerated <> '' OR (a.attname = ANY (null_columns) AND s.column_name IS NOT NULL) AS left_out
    FROM tandem.source_table AS t JOIN pg_attribute AS a ON a.attrelid = t.target AND a.attnum > 0 AND NOT a.attisdropped
      JOIN pg_attribute AS shown ON shown.attrelid = _direct_statement.view AND shown.attname = a.attname -- not a column that was added since
      LEFT JOIN tandem._sequence_columns(t.target) AS s(column_name) ON s.column_name = a.attname
    WHERE t.table_id = wanted
  ), lists AS (
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FILTER (WHERE NOT left_out) AS names,
           string_agg(format('($2).%I', attname), ', ' ORDER BY attnum) FILTER (WHERE NOT left_out) AS new_values,
           string_agg(format('t.%I', attname), ', ' ORDER BY attnum) AS held
    FROM columns
  ), found AS (
    SELECT t.target, c.relowner,
           format(' WHERE %s AND CAST(ROW(%s) AS %s) OPERATOR(pg_catalog.*=) $1', k.same_key, l.held, _direct_statement.view::regclass) AS same_row,
           format('%s AND CAST(ROW(%s) AS %s) OPERATOR(pg_catalog.*<>) $1', k.same_key, l.held, _direct_statement.view::regclass) AS other_row, l.*
    FROM tandem.source_table AS t JOIN pg_class AS c ON c.oid = t.target CROSS JOIN lists AS l
      CROSS JOIN (SELECT string_agg(format('t.%1$I OPERATOR(pg_catalog.=) ($1).%1$I', name), ' AND ') AS same_key
                  FROM unnest(tandem._target_key_columns(wanted)) AS name) AS k
    WHERE t.table_id = wanted AND EXISTS (SELECT FROM tandem.routed_view AS v WHERE v.view = _direct_statement.view AND v.table_id = wanted)
  )
  SELECT ARRAY[f.relowner::text,
               CASE operation
                 WHEN 'insert' THEN format('INSERT INTO %s AS t (%s) VALUES (%s) RETURNING %s', f.target, f.names, f.new_values, f.held)
                 WHEN 'update' THEN format('UPDATE %s AS t SET (%s) = ROW(%s)%s RETURNING %s', f.target, f.names, f.new_values, f.same_row, f.held)
                 ELSE format('DELETE FROM %s AS t%s RETURNING %s', f.target, f.same_row, f.held) END,
               format('SELECT FROM %s AS t WHERE %s', f.target, f.other_row)]
  FROM found AS f
$$;
COMMENT ON FUNCTION tandem._direct_statement(integer, oid, text, text[]) IS
  'owner of the target; the statement that makes a write through the view there: $1 is the row as it was read, $2 as it is to be, and a row that is not what was read any more is left alone; the query whether another row has its key now. NULL: not a routed view of the table';

-- --- while the old side is the source of truth ------------------------------------------------------------------------------------

CREATE FUNCTION tandem._write_query(wanted integer, view regclass) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT format('SELECT CASE WHEN %s THEN pg_catalog.encode(%s, ''hex'') END, pg_catalog.encode(%s, ''hex'')'
                  ' FROM (SELECT (CAST($2 OPERATOR(pg_catalog.->>) 0 AS %s)).*) AS t',
                  (SELECT string_agg(format('t.%I IS NOT NULL', k), ' AND ') FROM unnest(tandem._target_key_columns(wanted)) AS k),
                  tandem._tuple_of(ARRAY(SELECT 't.' || quote_ident(k) FROM unnest(tandem._target_key_columns(wanted)) AS k), tandem._key_types(wanted)),
                  (SELECT tandem._tuple_of(array_agg(e.expression ORDER BY e.ordinal), array_agg(e.image_type ORDER BY e.ordinal))
                   FROM tandem._reverse_expressions(wanted) AS e),
                  view));
END
$$;
COMMENT ON FUNCTION tandem._write_query(integer, regclass) IS 'query for the old key and the old image of a row of the view, whose text is $2 ->> 0';

CREATE FUNCTION tandem._old_row_of(wanted integer, view regclass, row_text text, OUT key bytea, OUT image bytea)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  SELECT decode(q.key, 'hex'), decode(q.image, 'hex') INTO key, image
  FROM tandem.source_table AS t JOIN pg_class AS c ON c.oid = t.target
  CROSS JOIN LATERAL tandem._query_as_owner(c.relowner, tandem._write_query(wanted, view), '{}', jsonb_build_array(row_text)) AS q
  WHERE t.table_id = wanted;
  IF key IS NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'not_null_violation',
      MESSAGE = format('a row written through %s needs its key', view),
      DETAIL = format('The old side is the source of truth, and the row is found there by (%s).', array_to_string(tandem._target_key_columns(wanted), ', ')),
      HINT = 'Give the key: the old side''s AUTO_INCREMENT cannot be asked for it here.';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._old_row_of(integer, regclass, text) IS 'key and image that the old side would have of a row of the view';

CREATE FUNCTION tandem._queue_write(wanted integer, view oid, operation text, old_row text, new_row text, seen pg_snapshot) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET "DateStyle" = 'ISO' SET "IntervalStyle" = 'postgres' SET extra_float_digits = 1 SET bytea_output = 'hex' SET "TimeZone" = 'UTC'
AS $$
DECLARE
  shown constant regclass := view;
  state text;
  obstacles text;
  later_key bytea;
  later_image bytea;
  pending tandem.write_queue;
  taken tandem.write_taken;
  row_key bytea;
  read_as bytea; -- NULL: there was no row
BEGIN
  IF NOT EXISTS (SELECT FROM tandem.routed_view AS v WHERE v.view = shown AND v.table_id = wanted) THEN
    RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('%s is not a routed view of this table', shown),
      HINT = 'Make one with tandem.create_routed_view.';
  END IF;
  SELECT string_agg(format('"%s"', a.attname), ', ') INTO obstacles
  FROM tandem.source_table AS t JOIN pg_attribute AS a ON a.attrelid = t.target AND a.attnum > 0 AND NOT a.attisdropped
  WHERE t.table_id = wanted AND NOT EXISTS (SELECT FROM pg_attribute AS s WHERE s.attrelid = shown AND s.attname = a.attname);
  IF obstacles IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('%s lacks columns that were added to its table: %s', shown, obstacles),
      HINT = format('Make it anew: SELECT tandem.drop_routed_view(%L); SELECT tandem.create_routed_view(%L, %L);', shown, tandem._table_label(wanted), shown);
  END IF;
  -- The lock of the trigger keeps the table from being dropped; a transaction with an older snapshot must see that it was.
  IF current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
    PERFORM FROM tandem.source_table AS t WHERE t.table_id = wanted FOR SHARE;
  END IF;
  state := coalesce((SELECT t.desired_state FROM tandem.source_table AS t WHERE t.table_id = wanted), 'dropped');
  IF state NOT IN ('running', 'paused') THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('%s cannot be written through %s: the table is %s', coalesce(tandem._table_label(wanted), 'the old table'), shown, CASE state WHEN 'dropped' THEN 'being removed' ELSE 'not started' END),
      HINT = CASE state WHEN 'dropped' THEN 'Write to the old side itself, and drop the view.' ELSE format('SELECT tandem.start(%L);', tandem._table_label(wanted)) END;
  END IF;
  IF operation <> 'insert' AND (SELECT p.read_strategy FROM tandem.phase AS p WHERE p.table_id = wanted) <> 'old' THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('%s shows a side that lags, so its rows cannot be changed through it', shown),
      DETAIL = format('The old side is the source of truth, the read strategy is "%s": the change would be based on an older row, and be refused there.',
                      (SELECT p.read_strategy FROM tandem.phase AS p WHERE p.table_id = wanted)),
      HINT = format('SELECT tandem.set_read_strategy(%L, ''old'');', tandem._table_label(wanted));
  END IF;
  SELECT string_agg(o, '; ') INTO obstacles FROM tandem._reverse_obstacles(wanted) AS o;
  IF obstacles IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = format('rows of %s cannot be written to the old side through %s', tandem._table_label(wanted), shown),
      DETAIL = obstacles, HINT = 'Write to the old side itself.';
  END IF;
  IF operation <> 'insert' THEN
    SELECT o.key, o.image INTO row_key, read_as FROM tandem._old_row_of(wanted, shown, old_row) AS o;
  END IF;
  IF operation <> 'delete' THEN
    SELECT o.key, o.image INTO later_key, later_image FROM tandem._old_row_of(wanted, shown, new_row) AS o;
    IF operation = 'update' AND row_key <> later_key THEN
      RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = format('the key of a row cannot be changed through %s', shown),
        DETAIL = format('Key %s would become %s.', tandem.decode_key(wanted, row_key), tandem.decode_key(wanted, later_key)),
        HINT = 'Change the key on the old side, or DELETE and INSERT.';
    END IF;
    row_key := later_key;
  END IF;
  -- Writes to one key come into the queue in the order of their commits; docs/model/g_writes.pml.
  PERFORM pg_advisory_xact_lock(hashtextextended(encode(row_key, 'hex'), wanted));
  SELECT q.* INTO pending FROM tandem.write_queue AS q
  WHERE q.table_id = wanted AND q.key = row_key AND NOT q.given_up ORDER BY q.write_id DESC LIMIT 1;
  IF pending.transaction = pg_current_xact_id()::text THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('row %s of %s was already written in this transaction', tandem.decode_key(wanted, row_key), tandem._table_label(wanted)),
      DETAIL = 'The old side is the source of truth: the view shows the row there as it was.',
      HINT = 'Write a row once, or commit, SELECT tandem.wait_for_old(); and write it again.';
  ELSIF pending.write_id IS NOT NULL AND pending.after IS DISTINCT FROM read_as THEN
    RAISE EXCEPTION USING ERRCODE = 'serialization_failure',
      MESSAGE = format('row %s of %s has a write that the old side does not have yet', tandem.decode_key(wanted, row_key), tandem._table_label(wanted)),
      DETAIL = format('It was made at %s by %s.', pending.at, pending.written_by),
      HINT = 'SELECT tandem.wait_for_old(); then read the row again and try once more.';
  ELSIF pending.write_id IS NULL THEN
    SELECT k.* INTO taken FROM tandem.write_taken AS k WHERE k.table_id = wanted AND k.key = row_key;
    IF FOUND AND NOT pg_visible_in_snapshot(taken.taken_in, seen) AND taken.after IS DISTINCT FROM read_as THEN
      RAISE EXCEPTION USING ERRCODE = 'serialization_failure',
        MESSAGE = format('row %s of %s was written by somebody else since this statement began', tandem.decode_key(wanted, row_key), tandem._table_label(wanted)),
        HINT = 'Try the transaction again.';
    END IF;
  END IF;
  INSERT INTO tandem.write_queue (source_id, table_id, operation, key, before, after)
  SELECT t.source_id, wanted, _queue_write.operation, row_key, read_as, later_image
  FROM tandem.source_table AS t WHERE t.table_id = wanted;
END
$$;
COMMENT ON FUNCTION tandem._queue_write(integer, oid, text, text, text, pg_snapshot) IS
  'a write through a routed view, kept for the old side in the caller''s transaction; called by the view''s trigger, which keeps the phase from moving, with the snapshot of its statement';

CREATE FUNCTION tandem._write_through() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'tandem_write_through';
COMMENT ON FUNCTION tandem._write_through() IS 'trigger of a routed view: a write goes to the source of truth';

CREATE FUNCTION tandem._make_writable(view regclass, wanted integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  one record;
BEGIN
  EXECUTE format('CREATE TRIGGER tandem_write_through INSTEAD OF INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION tandem._write_through(%s, %s)',
                 view, wanted, (SELECT t.source_id FROM tandem.source_table AS t WHERE t.table_id = wanted));
  -- Defaults as the target has them. Not those of sequences: while the old side is the source of truth their numbers are not free there.
  FOR one IN
    SELECT a.attname, pg_get_expr(d.adbin, d.adrelid) AS expression
    FROM tandem.source_table AS t JOIN pg_attrdef AS d ON d.adrelid = t.target JOIN pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
    WHERE t.table_id = wanted AND a.attgenerated = '' AND a.attname NOT IN (SELECT s.column_name FROM tandem._sequence_columns(t.target) AS s(column_name))
  LOOP
    EXECUTE format('ALTER VIEW %s ALTER COLUMN %I SET DEFAULT %s', view, one.attname, one.expression);
  END LOOP;
END
$$;
COMMENT ON FUNCTION tandem._make_writable(regclass, integer) IS 'trigger and defaults of a routed view';

-- --- waiting and settling ---------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem.wait_for_old(timeout interval DEFAULT '30 s') RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  deadline constant timestamptz := clock_timestamp() + timeout;
  told constant bigint := coalesce(nullif(current_setting('tandem_session.told', true), ''), '0');
  wanted bigint[];
  pause double precision := 0.001;
  lost record;
BEGIN
  IF EXISTS (SELECT FROM tandem.write_queue AS q WHERE q.transaction = pg_current_xact_id_if_assigned()::text) THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'writes of this transaction reach the old side only after its commit',
      HINT = 'COMMIT, then wait.';
  ELSIF current_setting('transaction_isolation') NOT IN ('read committed', 'read uncommitted') THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = 'tandem.wait_for_old needs isolation level READ COMMITTED',
      HINT = 'Call it outside of the transaction.';
  END IF;
  wanted := ARRAY(SELECT q.write_id FROM tandem.write_queue AS q WHERE NOT q.given_up);
  WHILE EXISTS (SELECT FROM tandem.write_queue AS q WHERE q.write_id = ANY (wanted) AND NOT q.given_up) LOOP
    IF clock_timestamp() >= deadline THEN
      RETURN false;
    END IF;
    PERFORM pg_sleep(pause);
    pause := least(pause * 1.5, 0.05);
  END LOOP;
  SELECT count(*) AS writes, max(q.write_id) AS last, min(format('%s %s: %s', tandem._table_label(q.table_id), tandem.decode_key(q.table_id, q.key), q.message)) AS first
    INTO lost
  FROM tandem.write_queue AS q WHERE q.given_up AND q.pid = pg_backend_pid() AND q.write_id > told
    AND q.at >= (SELECT a.backend_start FROM pg_stat_activity AS a WHERE a.pid = pg_backend_pid());
  IF lost.writes > 0 THEN
    RAISE WARNING USING MESSAGE = format('writes of this session that the old side did not take: %s', lost.writes), DETAIL = format('Such as %s.', lost.first),
      HINT = 'SELECT * FROM tandem.queued_writes WHERE given_up; tandem.settle_write tries them again, overwrites or discards them.';
    PERFORM set_config('tandem_session.told', lost.last::text, false);
    RETURN false;
  END IF;
  RETURN true;
END
$$;
COMMENT ON FUNCTION tandem.wait_for_old(interval) IS
  'waits until the old side has every write through a routed view that was committed before the call; false: the time was over first, or it did not take a write of this session (a warning tells, once)';

CREATE FUNCTION tandem.settle_write(write_id bigint, how text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  one tandem.write_queue;
  moved text;
  settled bigint;
BEGIN
  SELECT q.* INTO one FROM tandem.write_queue AS q WHERE q.write_id = settle_write.write_id FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('write %s is not in the queue', write_id),
      HINT = 'The view tandem.queued_writes lists what is.';
  ELSIF NOT one.given_up AND (how <> 'discard' OR one.attempts = 0) THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('write %s is not given up', write_id),
      HINT = 'It is on its way: SELECT tandem.wait_for_old();';
  END IF;
  PERFORM tandem._refuse_foreign_target(t.target) FROM tandem.source_table AS t
  WHERE t.table_id IN (SELECT q.table_id FROM tandem.write_queue AS q WHERE q.transaction = one.transaction);
  IF how = 'discard' THEN
    DELETE FROM tandem.write_queue AS q WHERE q.transaction = one.transaction AND q.given_up = one.given_up;
  ELSIF how IN ('retry', 'overwrite') THEN
    -- Like a writer: the truth does not move while this transaction is open.
    PERFORM pg_advisory_xact_lock_shared(1952542308, one.source_id);
    SELECT format('%s is in phase "%s"', tandem._table_label(p.table_id), p.phase) INTO moved
    FROM tandem.phase AS p JOIN tandem.write_queue AS q USING (table_id)
    WHERE q.transaction = one.transaction AND (tandem._source_of_truth(p.phase) <> 'old' OR p.phase = 'cutover') LIMIT 1;
    IF moved IS NOT NULL THEN
      RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('write %s cannot go to the old side: that is not the source of truth', write_id),
        DETAIL = moved || '.', HINT = 'Make the change on the new side, and settle the write with ''discard''.';
    END IF;
    UPDATE tandem.write_queue AS q SET given_up = false, attempts = 0, next_attempt = NULL, overwrite = how = 'overwrite'
    WHERE q.transaction = one.transaction AND q.given_up;
  ELSE
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('a write cannot be settled by "%s"', how),
      HINT = 'retry: once more as it is; overwrite: whatever the old side holds now; discard: forget it.';
  END IF;
  GET DIAGNOSTICS settled = ROW_COUNT;
  RETURN settled;
END
$$;
COMMENT ON FUNCTION tandem.settle_write(bigint, text) IS
  'a write that was given up, with all of its transaction: how is retry, overwrite (whatever the old side holds) or discard, which also ends a write that is refused again and again. Returns the number of writes';

-- --- what the worker calls --------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem.write_groups(source_id integer, epoch bigint)
RETURNS TABLE (transaction text, token text, write_id bigint, table_id integer, key text, before text, after text, overwrite boolean, age_ms double precision)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  most constant integer := 500;
  -- Order of commits where it matters: who writes a key that another has written commits after him. So a transaction goes by its last row, and
  -- only those are known to be next that end among the rows looked at.
  edge bigint;
BEGIN
  PERFORM tandem._refuse_other_epoch(write_groups.source_id, write_groups.epoch);
  SELECT max(w.write_id) INTO edge
  FROM (SELECT q.write_id FROM tandem.write_queue AS q WHERE q.source_id = write_groups.source_id AND NOT q.given_up ORDER BY q.write_id LIMIT most) AS w
  HAVING count(*) = most;
  IF edge IS NOT NULL AND NOT EXISTS (SELECT FROM tandem.write_queue AS q WHERE q.source_id = write_groups.source_id AND NOT q.given_up
                                        AND q.transaction IN (SELECT f.transaction FROM tandem.write_queue AS f
                                                              WHERE f.source_id = write_groups.source_id AND NOT f.given_up AND f.write_id <= edge)
                                      GROUP BY q.transaction HAVING max(q.write_id) <= edge) THEN
    edge := NULL; -- a transaction of very many rows: all are looked at
  END IF;
  RETURN QUERY
  WITH groups AS (
    SELECT q.transaction, max(q.write_id) AS last, max(q.next_attempt) AS due, (array_agg(q.token ORDER BY q.write_id))[1] AS token
    FROM tandem.write_queue AS q
    WHERE q.source_id = write_groups.source_id AND NOT q.given_up
      AND q.transaction IN (SELECT f.transaction FROM tandem.write_queue AS f
                            WHERE f.source_id = write_groups.source_id AND NOT f.given_up AND (edge IS NULL OR f.write_id <= edge))
    GROUP BY q.transaction
  ), due AS (
    -- One that waits to be tried again holds up those behind it.
    SELECT g.*, bool_or(coalesce(g.due > clock_timestamp(), false)) OVER (ORDER BY g.last) AS held_up FROM groups AS g WHERE edge IS NULL OR g.last <= edge
  )
  SELECT q.transaction, d.token::text, q.write_id, q.table_id, encode(q.key, 'hex'), encode(q.before, 'hex'), encode(q.after, 'hex'), q.overwrite,
         extract(epoch FROM clock_timestamp() - q.at)::double precision * 1000
  FROM due AS d JOIN tandem.write_queue AS q ON q.transaction = d.transaction AND q.source_id = write_groups.source_id AND NOT q.given_up
  WHERE NOT d.held_up ORDER BY d.last, q.write_id;
END
$$;
COMMENT ON FUNCTION tandem.write_groups(integer, bigint) IS 'the next writes for the old side, those of one transaction together, transactions in the order of their commits';

CREATE FUNCTION tandem.write_known(table_id integer) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT jsonb_agg(e.expression IS NOT NULL ORDER BY e.ordinal) FROM tandem._reverse_expressions(write_known.table_id) AS e $$;
COMMENT ON FUNCTION tandem.write_known(integer) IS 'which columns of the old table the target knows, in their order';

CREATE FUNCTION tandem.write_done(source_id integer, epoch bigint, transaction text, refusal jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  wanted constant text := transaction;
BEGIN
  PERFORM tandem._refuse_other_epoch(source_id, epoch);
  INSERT INTO tandem.write_stats AS s (table_id, written, refused, conflicts, latency_ms, slowest_ms, last_written)
  SELECT q.table_id, count(*) FILTER (WHERE refusal IS NULL), count(*) FILTER (WHERE q.write_id = (refusal ->> 'write_id')::bigint),
         count(*) FILTER (WHERE q.write_id = (refusal ->> 'write_id')::bigint AND (refusal ->> 'conflict')::boolean),
         max(extract(epoch FROM clock_timestamp() - q.at)) * 1000, max(extract(epoch FROM clock_timestamp() - q.at)) * 1000, clock_timestamp()
  FROM tandem.write_queue AS q WHERE q.transaction = wanted AND q.source_id = write_done.source_id AND NOT q.given_up GROUP BY q.table_id
  ON CONFLICT (table_id) DO UPDATE SET written = s.written + excluded.written, refused = s.refused + excluded.refused, conflicts = s.conflicts + excluded.conflicts,
    latency_ms = CASE WHEN refusal IS NULL THEN excluded.latency_ms ELSE s.latency_ms END,
    slowest_ms = CASE WHEN refusal IS NULL THEN greatest(s.slowest_ms, excluded.slowest_ms) ELSE s.slowest_ms END,
    last_written = CASE WHEN refusal IS NULL THEN excluded.last_written ELSE s.last_written END;
  IF refusal IS NULL THEN
    DELETE FROM tandem.write_taken AS k WHERE k.taken_at < clock_timestamp() - interval '10 minutes';
    INSERT INTO tandem.write_taken AS k (table_id, key, after)
    SELECT q.table_id, q.key, q.after FROM tandem.write_queue AS q WHERE q.transaction = wanted AND q.source_id = write_done.source_id AND NOT q.given_up
    ON CONFLICT (table_id, key) DO UPDATE SET after = excluded.after, taken_in = excluded.taken_in, taken_at = excluded.taken_at;
    -- Without triggers on the old side nothing else tells that the row has changed there.
    INSERT INTO tandem.request (table_id, key_text, reason)
    SELECT q.table_id, tandem.key_text(q.table_id, q.key), 'written through' FROM tandem.write_queue AS q JOIN tandem.source_table AS t USING (table_id)
    WHERE q.transaction = wanted AND q.source_id = write_done.source_id AND NOT q.given_up AND t.capture = 'foreign';
    IF FOUND THEN
      PERFORM tandem._requests_changed();
    END IF;
    DELETE FROM tandem.write_queue AS q WHERE q.transaction = wanted AND q.source_id = write_done.source_id AND NOT q.given_up;
  ELSE
    UPDATE tandem.write_queue AS q
    SET attempts = q.attempts + 1, given_up = NOT (refusal ->> 'may_pass')::boolean,
        sqlstate = refusal ->> 'sqlstate',
        message = CASE WHEN q.write_id = (refusal ->> 'write_id')::bigint THEN refusal ->> 'message'
                       ELSE format('write %s of its transaction was not taken: %s', refusal ->> 'write_id', refusal ->> 'message') END,
        next_attempt = clock_timestamp() + least(interval '0.1 s' * 2 ^ least(q.attempts, 12), current_setting('tandem.retry_backoff_max')::interval)
    WHERE q.transaction = wanted AND q.source_id = write_done.source_id AND NOT q.given_up;
  END IF;
END
$$;
COMMENT ON FUNCTION tandem.write_done(integer, bigint, text, jsonb) IS
  'the old side has the writes of a transaction, committed there; or, with a refusal, has none of them: they are given up, or tried again for as long as what is in their way may pass';

CREATE FUNCTION tandem.cutover_queued(run_id bigint) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  SELECT count(*) FROM tandem.cutover_run AS r JOIN tandem.write_queue AS q ON q.source_id = r.source_id AND q.table_id = ANY (r.table_ids) AND NOT q.given_up
  WHERE r.run_id = cutover_queued.run_id
$$;
COMMENT ON FUNCTION tandem.cutover_queued(bigint) IS 'writes through routed views that must reach the old side before it is fenced; no more come once the attempt has begun';

CREATE FUNCTION tandem._lock_writers(source_id integer) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT pg_advisory_xact_lock(1952542308, source_id) $$;
COMMENT ON FUNCTION tandem._lock_writers(integer) IS
  'waits for transactions that have written through routed views of a source, each of which shares this lock (src/write_through.cpp); those that come later wait for this one';

CREATE FUNCTION tandem._refuse_queued(table_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  found bigint;
BEGIN
  PERFORM tandem._lock_writers(t.source_id) FROM tandem.source_table AS t WHERE t.table_id = _refuse_queued.table_id;
  SELECT count(*) INTO found FROM tandem.write_queue AS q WHERE q.table_id = _refuse_queued.table_id;
  IF found > 0 THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('%s writes through %s have not reached the old side', found, tandem._table_label(table_id)),
      HINT = 'SELECT tandem.wait_for_old(); those that were given up are in tandem.queued_writes, see tandem.settle_write.';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_queued(integer) IS 'error while writes through routed views wait; none comes before the end of the caller''s transaction';

-- --- what people see --------------------------------------------------------------------------------------------------------------

CREATE VIEW tandem.queued_writes AS
  SELECT s.name AS source, t.name AS "table", q.write_id, q.transaction, q.operation, tandem.decode_key(q.table_id, q.key) AS key, q.given_up, q.attempts, q.sqlstate,
         q.message, CASE WHEN NOT q.given_up THEN q.next_attempt END AS next_attempt, q.written_by, q.at
  FROM tandem.write_queue AS q JOIN tandem.source_table AS t USING (table_id) JOIN tandem.source AS s ON s.source_id = t.source_id;
COMMENT ON VIEW tandem.queued_writes IS 'writes through routed views that the old side does not have';
COMMENT ON COLUMN tandem.queued_writes.source IS 'source of the table';
COMMENT ON COLUMN tandem.queued_writes."table" IS 'old table';
COMMENT ON COLUMN tandem.queued_writes.write_id IS 'for tandem.settle_write';
COMMENT ON COLUMN tandem.queued_writes.transaction IS 'of the writer; its writes are taken together or not at all';
COMMENT ON COLUMN tandem.queued_writes.operation IS 'insert, update or delete';
COMMENT ON COLUMN tandem.queued_writes.key IS 'key of the row';
COMMENT ON COLUMN tandem.queued_writes.given_up IS 'not tried again by itself';
COMMENT ON COLUMN tandem.queued_writes.attempts IS 'how often it was tried';
COMMENT ON COLUMN tandem.queued_writes.sqlstate IS 'of the last error; 40001: the row was not what the writer had read';
COMMENT ON COLUMN tandem.queued_writes.message IS 'the last error';
COMMENT ON COLUMN tandem.queued_writes.next_attempt IS 'when it is tried next, NULL: at once, or given up';
COMMENT ON COLUMN tandem.queued_writes.written_by IS 'session user';
COMMENT ON COLUMN tandem.queued_writes.at IS 'when it was written here';

CREATE VIEW tandem.pg_stat_tandem_writes AS
  SELECT s.name AS source, t.name AS "table", count(q.write_id) FILTER (WHERE NOT q.given_up) AS waiting, count(q.write_id) FILTER (WHERE q.given_up) AS given_up,
         coalesce(extract(epoch FROM clock_timestamp() - min(q.at) FILTER (WHERE NOT q.given_up))::double precision, 0) AS lag_seconds,
         coalesce(w.written, 0) AS written, coalesce(w.refused, 0) AS refused, coalesce(w.conflicts, 0) AS conflicts, w.latency_ms, w.slowest_ms, w.last_written
  FROM tandem.source_table AS t JOIN tandem.source AS s USING (source_id)
    LEFT JOIN tandem.write_queue AS q USING (table_id) LEFT JOIN tandem.write_stats AS w USING (table_id)
  WHERE q.write_id IS NOT NULL OR w.table_id IS NOT NULL OR EXISTS (SELECT FROM tandem.routed_view AS v WHERE v.table_id = t.table_id)
  GROUP BY s.name, t.name, w.written, w.refused, w.conflicts, w.latency_ms, w.slowest_ms, w.last_written;
COMMENT ON VIEW tandem.pg_stat_tandem_writes IS 'one row for each table with a routed view: writes through it that go to the old side';
COMMENT ON COLUMN tandem.pg_stat_tandem_writes.source IS 'source of the table';
COMMENT ON COLUMN tandem.pg_stat_tandem_writes."table" IS 'old table';
COMMENT ON COLUMN tandem.pg_stat_tandem_writes.waiting IS 'writes that are on their way';
COMMENT ON COLUMN tandem.pg_stat_tandem_writes.given_up IS 'writes that the old side does not take, see tandem.queued_writes';
COMMENT ON COLUMN tandem.pg_stat_tandem_writes.lag_seconds IS 'age of the oldest that waits';
COMMENT ON COLUMN tandem.pg_stat_tandem_writes.written IS 'writes that the old side has taken';
COMMENT ON COLUMN tandem.pg_stat_tandem_writes.refused IS 'attempts that it refused';
COMMENT ON COLUMN tandem.pg_stat_tandem_writes.conflicts IS 'of them: the row was not what the writer had read';
COMMENT ON COLUMN tandem.pg_stat_tandem_writes.latency_ms IS 'from the write here to the commit there, last transaction';
COMMENT ON COLUMN tandem.pg_stat_tandem_writes.slowest_ms IS 'the greatest of these';
COMMENT ON COLUMN tandem.pg_stat_tandem_writes.last_written IS 'when the old side last took one';

GRANT SELECT ON tandem.pg_stat_tandem_writes TO tandem_monitor, pg_monitor;
GRANT SELECT ON tandem.queued_writes, tandem.write_stats TO tandem_admin;
GRANT SELECT, UPDATE (given_up, attempts, next_attempt, overwrite), DELETE ON tandem.write_queue TO tandem_admin;
GRANT EXECUTE ON FUNCTION tandem._write_through() TO tandem_admin;
GRANT EXECUTE ON FUNCTION tandem.wait_for_old(interval) TO tandem_admin;
GRANT EXECUTE ON FUNCTION tandem.write_groups(integer, bigint), tandem.write_known(integer), tandem.write_done(integer, bigint, text, jsonb),
  tandem.cutover_queued(bigint) TO tandem_worker;
