-- What is done about discrepancies: repair through the queue, review by a person, and the story of one row.

CREATE TABLE tandem.repair (
  repair_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  discrepancy_id bigint NOT NULL,
  table_id       integer NOT NULL REFERENCES tandem.source_table ON DELETE CASCADE,
  key            bytea NOT NULL,
  kind           text NOT NULL,
  old            jsonb,
  new            jsonb,
  automatic      boolean NOT NULL,
  asked_by       name NOT NULL DEFAULT SESSION_USER,
  asked_at       timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE INDEX repair_table ON tandem.repair (table_id, repair_id);
COMMENT ON TABLE tandem.repair IS 'every repair that was asked for, with what the row held on both sides';
COMMENT ON COLUMN tandem.repair.automatic IS 'by tandem.auto_repair';
GRANT SELECT ON tandem.repair TO tandem_admin;

CREATE FUNCTION tandem._is_old_key(table_id integer, key bytea) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN tandem.encode_key(table_id, tandem.decode_key(table_id, key)) = key;
EXCEPTION WHEN OTHERS THEN
  RETURN false;
END
$$;
COMMENT ON FUNCTION tandem._is_old_key(integer, bytea) IS 'whether the old table can have a row of this key';

CREATE FUNCTION tandem._new_is_truth(table_id integer) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT EXISTS (SELECT FROM tandem.phase AS p WHERE p.table_id = _new_is_truth.table_id AND p.phase IN ('new_primary', 'closing')) $$;
COMMENT ON FUNCTION tandem._new_is_truth(integer) IS 'whether rows of the new side are the right ones';

-- One way to write a row: it is read on the side that is the truth and written on the other, like any change.
CREATE FUNCTION tandem._repair(ids bigint[], automatic boolean) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO tandem.request (table_id, key_text, reason, asked_by)
  SELECT d.table_id, tandem.key_text(d.table_id, d.key), format('repair of discrepancy %s', d.discrepancy_id), session_user
  FROM tandem.discrepancy AS d WHERE d.discrepancy_id = ANY (ids) AND NOT tandem._new_is_truth(d.table_id);
  INSERT INTO tandem.reverse_outbox (table_id, key)
  SELECT d.table_id, d.key FROM tandem.discrepancy AS d WHERE d.discrepancy_id = ANY (ids) AND tandem._new_is_truth(d.table_id);
  INSERT INTO tandem.repair (discrepancy_id, table_id, key, kind, old, new, automatic)
  SELECT d.discrepancy_id, d.table_id, d.key, d.kind, d.old, d.new, automatic FROM tandem.discrepancy AS d WHERE d.discrepancy_id = ANY (ids);
  UPDATE tandem.discrepancy AS d
  SET status = 'repairing', changed_by = CASE WHEN NOT automatic THEN session_user END, changed_at = clock_timestamp(),
      next_check = clock_timestamp() + interval '0.5 s'
  WHERE d.discrepancy_id = ANY (ids);
  -- A pass in which something was mended has not shown that everything was right.
  UPDATE tandem.reconcile_run AS r SET repaired = true
  WHERE r.state = 'running' AND NOT r.repaired AND r.kind <> 'verify'
    AND r.table_id IN (SELECT d.table_id FROM tandem.discrepancy AS d WHERE d.discrepancy_id = ANY (ids));
  PERFORM tandem._requests_changed();
END
$$;
COMMENT ON FUNCTION tandem._repair(bigint[], boolean) IS 'has the rows of these discrepancies fetched and applied again, and notes who asked';

CREATE FUNCTION tandem._repair_automatically(table_id integer, ids bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  chosen bigint[] := ARRAY(
    SELECT d.discrepancy_id FROM tandem.discrepancy AS d JOIN tandem.reconcile_setting AS s USING (table_id)
    WHERE d.discrepancy_id = ANY (ids) AND d.status = 'open' AND d.kind = ANY (s.auto_repair) AND tandem._is_old_key(d.table_id, d.key));
BEGIN
  IF cardinality(chosen) > 0 THEN
    PERFORM tandem._repair(chosen, true);
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._repair_automatically(integer, bigint[]) IS 'repairs those of the discrepancies whose kind the table wants repaired without being asked';

CREATE FUNCTION tandem._repair_chosen(candidates bigint[], dry_run boolean, max_rows integer)
RETURNS TABLE (discrepancy_id bigint, "table" text, key jsonb, kind text, action text)
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  chosen bigint[];
BEGIN
  IF dry_run IS NULL OR max_rows IS NULL OR max_rows < 0 THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'dry_run and max_rows must be given, max_rows not below 0';
  END IF;
  PERFORM FROM tandem.discrepancy AS d WHERE d.discrepancy_id = ANY (candidates) ORDER BY d.discrepancy_id FOR UPDATE;
  PERFORM tandem._refuse_not_running(d.table_id) FROM tandem.discrepancy AS d WHERE d.discrepancy_id = ANY (candidates);
  chosen := ARRAY(SELECT d.discrepancy_id FROM tandem.discrepancy AS d
                  WHERE d.discrepancy_id = ANY (candidates) AND d.status = 'open' AND tandem._is_old_key(d.table_id, d.key) ORDER BY d.discrepancy_id);
  IF cardinality(chosen) > max_rows AND NOT dry_run THEN
    RAISE EXCEPTION USING ERRCODE = 'program_limit_exceeded',
      MESSAGE = format('%s rows are to be repaired, max_rows is %s', cardinality(chosen), max_rows),
      DETAIL = 'So many differences at once are rarely single rows that went astray.',
      HINT = 'Look at them first: the cause may be one for all of them. Raise max_rows, or repair a part of them by kinds => ''{missing}''.';
  END IF;
  IF NOT dry_run THEN
    PERFORM tandem._repair(chosen, false);
  END IF;
  RETURN QUERY
    SELECT d.discrepancy_id, tandem._table_label(d.table_id), tandem.decode_key(d.table_id, d.key), d.kind,
           CASE WHEN d.discrepancy_id <> ALL (chosen) THEN 'none: the old table cannot have this key, delete the row by hand'
                WHEN tandem._new_is_truth(d.table_id)
                  THEN CASE WHEN dry_run THEN 'would write it to the old side again' ELSE 'written to the old side again' END
                       || CASE d.kind WHEN 'missing' THEN ': deleted there unless the new side has it then' ELSE '' END
                ELSE CASE WHEN dry_run THEN 'would fetch it again' ELSE 'fetched again' END
                     || CASE d.kind WHEN 'extra' THEN ': deleted unless the old side has it then' ELSE '' END END
    FROM tandem.discrepancy AS d WHERE d.discrepancy_id = ANY (candidates) AND (d.status = 'open' OR d.discrepancy_id = ANY (chosen))
    ORDER BY d.discrepancy_id LIMIT CASE WHEN dry_run THEN max_rows END;
END
$$;
COMMENT ON FUNCTION tandem._repair_chosen(bigint[], boolean, integer) IS 'repairs open discrepancies, or says what would be done';

CREATE FUNCTION tandem._refuse_unknown_kinds(kinds text[]) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT coalesce(kinds <@ ARRAY['missing', 'extra', 'different'], false) THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'kinds must be an array of missing, extra, different';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_unknown_kinds(text[]) IS 'error unless these are kinds of discrepancies';

CREATE FUNCTION tandem.repair(tables text, dry_run boolean DEFAULT true, max_rows integer DEFAULT 1000, kinds text[] DEFAULT '{missing,extra,different}')
RETURNS TABLE (discrepancy_id bigint, "table" text, key jsonb, kind text, action text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  PERFORM tandem._refuse_unknown_kinds(kinds);
  RETURN QUERY SELECT * FROM tandem._repair_chosen(
    ARRAY(SELECT d.discrepancy_id FROM tandem.discrepancy AS d
          WHERE d.table_id = ANY (tandem._tables_named(ARRAY[tables])) AND d.status = 'open' AND d.kind = ANY (kinds)), dry_run, max_rows);
END
$$;
COMMENT ON FUNCTION tandem.repair(text, boolean, integer, text[]) IS
  'has the rows of open discrepancies of a table (or of all with names like a pattern) fetched from the old side and applied again; says only what it would do unless dry_run is false.
max_rows: refused when there are more. kinds: missing, extra, different';

CREATE FUNCTION tandem.repair(run_id bigint, dry_run boolean DEFAULT true, max_rows integer DEFAULT 1000, kinds text[] DEFAULT '{missing,extra,different}')
RETURNS TABLE (discrepancy_id bigint, "table" text, key jsonb, kind text, action text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
BEGIN
  PERFORM tandem._refuse_unknown_kinds(kinds);
  IF NOT EXISTS (SELECT FROM tandem.reconcile_run AS r WHERE r.run_id = repair.run_id) THEN
    RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('there is no pass %s', repair.run_id), HINT = 'See tandem.reconcile_runs.';
  END IF;
  RETURN QUERY SELECT * FROM tandem._repair_chosen(
    ARRAY(SELECT d.discrepancy_id FROM tandem.discrepancy AS d JOIN tandem.reconcile_found AS f USING (discrepancy_id)
          WHERE f.run_id = repair.run_id AND d.status = 'open' AND d.kind = ANY (kinds)), dry_run, max_rows);
END
$$;
COMMENT ON FUNCTION tandem.repair(bigint, boolean, integer, text[]) IS 'the same for what one pass confirmed';

CREATE FUNCTION tandem.auto_repair(tables text, kinds text[] DEFAULT '{}') RETURNS integer
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  ids integer[] := tandem._tables_named(ARRAY[tables]);
BEGIN
  PERFORM tandem._refuse_unknown_kinds(kinds);
  INSERT INTO tandem.reconcile_setting AS s (table_id, auto_repair, verify) SELECT i, kinds, false FROM unnest(ids) AS i
  ON CONFLICT (table_id) DO UPDATE SET auto_repair = excluded.auto_repair;
  RETURN cardinality(ids);
END
$$;
COMMENT ON FUNCTION tandem.auto_repair(text, text[]) IS
  'kinds of discrepancies of a table (or of all with names like a pattern) that are repaired as soon as they are confirmed; none by default. Returns the number of tables';

CREATE FUNCTION tandem.review(discrepancy_id bigint, status text, reason text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  reviewed tandem.discrepancy;
BEGIN
  SELECT d.* INTO reviewed FROM tandem.discrepancy AS d WHERE d.discrepancy_id = review.discrepancy_id FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('there is no discrepancy %s', discrepancy_id),
      HINT = 'The view tandem.discrepancies lists them.';
  ELSIF status IS NULL OR status NOT IN ('waived', 'open') THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('a discrepancy cannot be set to %s', coalesce(quote_literal(status), 'NULL')),
      DETAIL = 'It is waived or opened again by hand; everything else is found out.',
      HINT = 'Use waived or open, or tandem.repair.';
  ELSIF status = 'waived' AND coalesce(reason, '') = '' THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a waived discrepancy needs a reason',
      HINT = format('SELECT tandem.review(%s, ''waived'', ''…'');', discrepancy_id);
  ELSIF reviewed.status NOT IN ('open', 'repairing', 'waived') THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('discrepancy %s is %s already', discrepancy_id, reviewed.status);
  END IF;
  UPDATE tandem.discrepancy AS d SET status = review.status, reason = review.reason, changed_by = session_user, changed_at = clock_timestamp(),
    next_check = clock_timestamp()
  WHERE d.discrepancy_id = review.discrepancy_id;
  PERFORM tandem._check_alarm(reviewed.table_id);
END
$$;
COMMENT ON FUNCTION tandem.review(bigint, text, text) IS
  'waives a discrepancy, with a reason, or opens it again. A waived one raises no alarm as long as it stays as it is';

-- --- one row's story --------------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem._row_writer(table_id integer, key bytea) RETURNS bigint
LANGUAGE c STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off
AS 'MODULE_PATHNAME', 'tandem_row_writer';
COMMENT ON FUNCTION tandem._row_writer(integer, bytea) IS 'xmin of the row of the target with these key bytes, NULL when there is none';

CREATE FUNCTION tandem._has_hash(hashes bytea, key bytea) RETURNS boolean
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_has_hash';
COMMENT ON FUNCTION tandem._has_hash(bytea, bytea) IS 'whether a row of tandem.journal_keys has this key (or, once in 2^64, another)';

CREATE FUNCTION tandem._story(table_id integer, key bytea) RETURNS TABLE (step integer, fact text, detail text, at timestamptz)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  writer bigint := tandem._row_writer(table_id, key);
BEGIN
  RETURN QUERY
    SELECT 1, 'table', format('state %s%s', coalesce(a.state, 'registered'), coalesce(': ' || a.reason, '')), a.updated_at
    FROM tandem.source_table AS t LEFT JOIN tandem.table_state AS a USING (table_id) WHERE t.table_id = _story.table_id;
  RETURN QUERY
    SELECT 2, 'asked for', format('%s, by %s', r.reason, r.asked_by), r.asked_at
    FROM tandem.request AS r WHERE r.table_id = _story.table_id AND r.key_text = tandem.key_text(_story.table_id, key) ORDER BY r.asked_at;
  RETURN QUERY
    SELECT 3, 'captured', format('%s, waits to be applied in batch %s', CASE q.op WHEN 'D' THEN 'gone on the old side' ELSE 'fetched' END, q.batch_id),
           b.arrived_at - q.age_us * interval '1 us'
    FROM tandem.queue AS q JOIN tandem.batch AS b USING (batch_id) WHERE q.table_id = _story.table_id AND q.key = _story.key ORDER BY b.arrival;
  RETURN QUERY
    SELECT 4, 'applied', 'a transaction of apply took it up (written, deleted or put aside)', j.at
    FROM tandem.journal_keys AS j WHERE j.table_id = _story.table_id AND tandem._has_hash(j.hashes, key) ORDER BY j.at;
  RETURN QUERY
    SELECT 5, 'retried', format('%s attempts failed, last with SQLSTATE %s: %s; the next is due %s', r.attempts, r.sqlstate, r.message, r.next_attempt), r.first_failed
    FROM tandem.retry AS r WHERE r.table_id = _story.table_id AND r.key = _story.key;
  RETURN QUERY
    SELECT 6, 'dead letter', format('after %s attempts, SQLSTATE %s: %s', d.attempts, d.sqlstate, d.message), d.dead_since
    FROM tandem.dead_letter AS d WHERE d.table_id = _story.table_id AND d.key = _story.key;
  RETURN QUERY
    SELECT 7, 'new side', CASE WHEN writer IS NULL THEN 'there is no such row'
                               WHEN c.cause = 'written on new' THEN 'last written by somebody else than apply'
                               WHEN j.found THEN 'last written by apply'
                               ELSE 'last written before the time that the journal knows of' END,
           CASE WHEN writer > 2 AND current_setting('track_commit_timestamp')::boolean
                THEN (SELECT pg_xact_commit_timestamp((writer % 4294967296)::text::xid)) END
    FROM (SELECT EXISTS (SELECT FROM tandem.journal_keys AS k WHERE k.table_id = _story.table_id
                         AND (writer = ANY (k.writers) OR k.xid::text::bigint = tandem._full_xid(writer))) AS found) AS j
    LEFT JOIN tandem._causes(_story.table_id, ARRAY[writer]) AS c ON true;
  RETURN QUERY
    SELECT 8, 'verified', CASE WHEN EXISTS (SELECT FROM tandem.journal_keys AS j WHERE j.table_id = _story.table_id AND j.at > l.pass_started_at
                                            AND tandem._has_hash(j.hashes, key))
                               THEN 'in the last complete pass, but it may have changed since' ELSE 'in the last complete pass' END, l.pass_finished_at
    FROM tandem.reconcile_ledger AS l
    WHERE l.table_id = _story.table_id AND l.pass_finished_at IS NOT NULL
      AND NOT EXISTS (SELECT FROM tandem.discrepancy AS d WHERE d.table_id = _story.table_id AND d.key = _story.key
                      AND d.status IN ('open', 'repairing', 'waived'));
  RETURN QUERY
    SELECT 9, 'in flight', format('a pass found it under way (%s) and looks again', p.reason), p.since
    FROM tandem.reconcile_pending AS p WHERE p.table_id = _story.table_id AND p.key = _story.key;
  RETURN QUERY
    SELECT 10, 'discrepancy', format('number %s, %s, %s%s%s', d.discrepancy_id, d.kind, d.status, coalesce(', columns ' || nullif(array_to_string(d.columns, ', '), ''), ''),
                                     coalesce(', probable cause: ' || d.cause, '')), d.first_seen
    FROM tandem.discrepancy AS d WHERE d.table_id = _story.table_id AND d.key = _story.key ORDER BY d.discrepancy_id;
  RETURN QUERY
    SELECT 11, 'repair', format('asked for by %s%s', r.asked_by, CASE WHEN r.automatic THEN ' (automatic)' ELSE '' END), r.asked_at
    FROM tandem.repair AS r WHERE r.table_id = _story.table_id AND r.key = _story.key ORDER BY r.repair_id;
END
$$;
COMMENT ON FUNCTION tandem._story(integer, bytea) IS 'everything that is known of one row';

CREATE FUNCTION tandem._remedy(table_id integer, key bytea) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE
    WHEN a.state = 'blocked' THEN format('SELECT tandem.resume(%L);', tandem._table_label(t.table_id))
    WHEN a.state IS NULL THEN format('SELECT tandem.start(%L);', tandem._table_label(t.table_id))
    WHEN t.desired_state = 'paused' THEN format('SELECT tandem.resume(%L);', tandem._table_label(t.table_id))
    WHEN EXISTS (SELECT FROM tandem.dead_letter AS d WHERE d.table_id = t.table_id AND d.key = _remedy.key)
      THEN format('SELECT tandem.retry_dead_letters(%L, %L);', tandem._table_label(t.table_id), tandem.decode_key(t.table_id, key))
    WHEN EXISTS (SELECT FROM tandem._waiting_key AS w WHERE w.table_id = t.table_id AND w.key = _remedy.key)
      OR EXISTS (SELECT FROM tandem.request AS r WHERE r.table_id = t.table_id AND r.key_text = tandem.key_text(t.table_id, _remedy.key)) THEN NULL
    WHEN EXISTS (SELECT FROM tandem.discrepancy AS d WHERE d.table_id = t.table_id AND d.key = _remedy.key AND d.status = 'open')
      THEN CASE WHEN tandem._new_is_truth(t.table_id) THEN format('SELECT * FROM tandem.repair(%L, dry_run => false);', tandem._table_label(t.table_id))
                ELSE format('SELECT tandem.enqueue(%L, %L);', tandem._table_label(t.table_id), tandem.decode_key(t.table_id, key)) END END
  FROM tandem.source_table AS t LEFT JOIN tandem.table_state AS a USING (table_id) WHERE t.table_id = _remedy.table_id
$$;
COMMENT ON FUNCTION tandem._remedy(integer, bytea) IS 'the call that would mend a row, NULL when nothing is wrong or it mends itself';

CREATE FUNCTION tandem.why("table" text, key jsonb) RETURNS TABLE (fact text, detail text, at timestamptz)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  wanted integer := tandem._table_id("table");
  bytes bytea := tandem.encode_key(wanted, key);
  remedy text := tandem._remedy(wanted, bytes);
BEGIN
  RETURN QUERY SELECT s.fact, s.detail, s.at FROM tandem._story(wanted, bytes) AS s ORDER BY s.step, s.at;
  IF remedy IS NOT NULL THEN
    RETURN QUERY SELECT 'remedy', remedy, NULL::timestamptz;
  END IF;
END
$$;
COMMENT ON FUNCTION tandem.why(text, jsonb) IS
  'one row''s story: asked for, captured, applied, each failure, who wrote it last on the new side, verified, discrepancies, repairs, and the call that would mend it';
