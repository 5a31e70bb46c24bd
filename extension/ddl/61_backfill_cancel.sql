-- tandem.cancel_backfill: a table whose history is being copied is registered again, with its target as it was declared.

CREATE FUNCTION tandem.cancel_backfill("table" text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  cancelled tandem.source_table;
  actual tandem.table_state;
BEGIN
  SELECT t.* INTO STRICT cancelled FROM tandem.source_table AS t WHERE t.table_id = tandem._table_id("table") FOR UPDATE;
  SELECT a.* INTO actual FROM tandem.table_state AS a WHERE a.table_id = cancelled.table_id;
  IF cancelled.desired_state NOT IN ('running', 'paused') OR actual.table_id IS NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('the history of table "%s" is not being copied', tandem._table_label(cancelled.table_id)),
      DETAIL = format('Its desired state is "%s".', cancelled.desired_state);
  ELSIF actual.backfill_done THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('the history of table "%s" has been copied', tandem._table_label(cancelled.table_id)),
      HINT = format('To stop moving it: SELECT tandem.drop_table(%L);', tandem._table_label(cancelled.table_id));
  END IF;
  PERFORM tandem._refuse_foreign_target(cancelled.target);
  PERFORM tandem._refuse_orphans(cancelled.table_id);
  UPDATE tandem.source_table AS t SET desired_state = 'registered' WHERE t.table_id = cancelled.table_id;
  UPDATE tandem.table_state AS a SET state = 'dropping', reason = 'its backfill was cancelled', updated_at = now() WHERE a.table_id = cancelled.table_id;
  IF EXISTS (SELECT FROM tandem.phase AS p WHERE p.table_id = cancelled.table_id AND p.phase <> 'registered') THEN
    PERFORM tandem._move_phase(ARRAY[cancelled.table_id], ARRAY['shadow', 'syncing'], 'registered', NULL, 'tandem.cancel_backfill');
  END IF;
END
$$;
COMMENT ON FUNCTION tandem.cancel_backfill(text) IS
  'gives up the copy of a table''s history: the worker removes triggers and outbox, rows copied so far are removed from a target that had none before, and the table is registered again. tandem.wait_for(table, ''registered'') waits for that';

CREATE FUNCTION tandem._refuse_cancelled(table_ids integer[]) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  busy integer;
BEGIN
  SELECT t.table_id INTO busy FROM tandem.source_table AS t JOIN tandem.table_state AS a USING (table_id)
  WHERE t.table_id = ANY (table_ids) AND t.desired_state = 'registered' AND a.state = 'dropping' LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('the backfill of table "%s" is being cancelled', tandem._table_label(busy)),
      HINT = format('SELECT tandem.wait_for(%L, ''registered''); then start it again.', tandem._table_label(busy));
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_cancelled(integer[]) IS 'error while the worker still cleans up behind a cancelled backfill';

CREATE FUNCTION tandem._remove_rows(table_id integer) RETURNS void
LANGUAGE c VOLATILE STRICT SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tandem_remove_rows';
COMMENT ON FUNCTION tandem._remove_rows(integer) IS 'empties a target, or what of it belongs to this old table, with the rights of its owner and as apply does';

-- Called by tandem.forget_table when the old side is clean.
CREATE FUNCTION tandem._end_cancelled(table_id integer) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  fresh boolean := (SELECT b.fresh FROM tandem.backfill AS b WHERE b.table_id = _end_cancelled.table_id);
BEGIN
  -- A copier that is still at it finds no chunk to end; one that just ends it is waited for.
  DELETE FROM tandem.backfill_chunk AS c WHERE c.table_id = _end_cancelled.table_id;
  IF fresh THEN
    PERFORM tandem._remove_rows(_end_cancelled.table_id);
  END IF;
  PERFORM tandem._build_index(d.table_id, d.name) FROM tandem.deferred_index AS d WHERE d.table_id = _end_cancelled.table_id;
  DELETE FROM tandem.backfill AS b WHERE b.table_id = _end_cancelled.table_id;
  DELETE FROM tandem.retry AS r WHERE r.table_id = _end_cancelled.table_id;
  DELETE FROM tandem.dead_letter AS d WHERE d.table_id = _end_cancelled.table_id;
  DELETE FROM tandem.request AS r WHERE r.table_id = _end_cancelled.table_id;
  DELETE FROM tandem.sidecar AS s WHERE s.table_id = _end_cancelled.table_id;
  DELETE FROM tandem.mapped_loss AS m WHERE m.table_id = _end_cancelled.table_id;
  DELETE FROM tandem.resync AS r WHERE r.table_id = _end_cancelled.table_id;
  DELETE FROM tandem.table_state AS a WHERE a.table_id = _end_cancelled.table_id;
  PERFORM tandem._config_changed(), tandem._requests_changed();
END
$$;
COMMENT ON FUNCTION tandem._end_cancelled(integer) IS 'a cancelled table is registered, as if it had never been started';
