-- Tables that are copied anew, as people see and ask for it: tandem.resync, and what the capture guard found.

CREATE FUNCTION tandem._begin_resync(table_id integer, reason text) RETURNS void
LANGUAGE sql SET search_path = pg_catalog, pg_temp
AS $$
  SELECT tandem._record_loss(_begin_resync.table_id, 'asked', _begin_resync.reason, false);
  UPDATE tandem.table_state AS a SET state = 'capturing', reason = _begin_resync.reason, detail = '{}', updated_at = now()
  FROM tandem.source_table AS t
  WHERE a.table_id = _begin_resync.table_id AND t.table_id = a.table_id AND t.desired_state = 'running';
  SELECT tandem._config_changed();
$$;
COMMENT ON FUNCTION tandem._begin_resync(integer, text) IS 'a started table is copied anew after the commit; one that is paused, when it is resumed';

CREATE FUNCTION tandem.resync(VARIADIC tables text[]) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  chosen tandem.source_table;
  begun integer := 0;
BEGIN
  IF cardinality(tables) = 0 THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'tandem.resync needs the names of tables',
      HINT = 'SELECT tandem.resync(''source.table'');';
  END IF;
  FOR chosen IN SELECT c.* FROM tandem._chosen(tables) AS c LOOP
    IF chosen.desired_state = 'registered' THEN
      RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = format('table "%s" was never started', tandem._table_label(chosen.table_id)),
        HINT = format('SELECT tandem.start(%L);', tandem._table_label(chosen.table_id));
    END IF;
    PERFORM tandem._refuse_foreign_target(chosen.target);
    UPDATE tandem.source_table AS t SET desired_state = 'running' WHERE t.table_id = chosen.table_id AND t.desired_state <> 'running';
    PERFORM tandem._begin_resync(chosen.table_id, format('tandem.resync was called by "%s"', session_user));
    begun := begun + 1;
  END LOOP;
  RETURN begun;
END
$$;
COMMENT ON FUNCTION tandem.resync(text[]) IS
  'copies tables anew, blocked and paused ones as well: all rows are copied again, then rows of the target that the old table does not have are removed. Changes go on flowing meanwhile. Returns how many';

CREATE FUNCTION tandem._new_target_column(changed tandem.source_table, described jsonb, target_column name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  -- Nullable: rows that are there have no value before they are copied anew.
  command text := format('ALTER TABLE %s ADD COLUMN %I %s', changed.target, target_column, described -> 'columns' -> 0 ->> 'image_type');
BEGIN
  IF EXISTS (SELECT FROM tandem.target_column AS m WHERE m.table_id = changed.table_id AND m.name = target_column) THEN
    RAISE EXCEPTION USING ERRCODE = 'duplicate_column', MESSAGE = format('column "%s" of target %s takes another value already', target_column, changed.target),
      HINT = 'Name another target column: target_column => ….';
  ELSIF EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = changed.target AND a.attname = target_column AND NOT a.attisdropped AND a.attgenerated <> '') THEN
    RAISE EXCEPTION USING ERRCODE = 'generated_always', MESSAGE = format('column "%s" of target %s is generated', target_column, changed.target),
      HINT = 'PostgreSQL computes it by itself; name another one: target_column => ….';
  ELSIF EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = changed.target AND a.attname = target_column AND a.attnum > 0 AND NOT a.attisdropped) THEN
    RETURN;
  ELSIF NOT changed.created_target THEN
    RAISE EXCEPTION USING ERRCODE = 'undefined_column', MESSAGE = format('target %s has no column "%s"', changed.target, target_column),
      DETAIL = 'It was not created by pg_tandem, so it is not altered either.', HINT = command || ';';
  END IF;
  EXECUTE command;
END
$$;
COMMENT ON FUNCTION tandem._new_target_column(tandem.source_table, jsonb, name) IS 'makes sure that a target has a free column for an old one';

CREATE FUNCTION tandem.add_column("table" text, "column" text, target_column name DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  changed tandem.source_table;
  from_source tandem.source;
  described jsonb;
  old_column jsonb;
  place integer;
  into_column name := coalesce(add_column.target_column, tandem._column_name(add_column."column"));
BEGIN
  SELECT t.* INTO STRICT changed FROM tandem.source_table AS t WHERE t.table_id = tandem._table_id(add_column."table") FOR UPDATE;
  PERFORM tandem._refuse_foreign_target(changed.target);
  IF changed.desired_state = 'dropped' THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('table "%s" is being dropped', tandem._table_label(changed.table_id));
  ELSIF EXISTS (SELECT FROM tandem.target_column AS m WHERE m.table_id = changed.table_id AND m.source_column = add_column."column") THEN
    RAISE EXCEPTION USING ERRCODE = 'duplicate_column',
      MESSAGE = format('column "%s" of table "%s" is moved already', add_column."column", tandem._table_label(changed.table_id));
  END IF;
  SELECT s.* INTO STRICT from_source FROM tandem.source AS s WHERE s.source_id = changed.source_id;
  described := tandem._describe_one(from_source, changed.name);
  SELECT c INTO old_column FROM jsonb_array_elements(described -> 'columns') AS c WHERE c ->> 'name' = add_column."column";
  IF NOT FOUND THEN
    RAISE EXCEPTION USING ERRCODE = 'undefined_column',
      MESSAGE = format('table "%s" has no column "%s" on the old side', tandem._table_label(changed.table_id), add_column."column"),
      HINT = (SELECT format('It has: %s.', string_agg(c ->> 'name', ', ' ORDER BY (c ->> 'ordinal')::integer)) FROM jsonb_array_elements(described -> 'columns') AS c);
  END IF;
  described := jsonb_set(described, '{columns}', jsonb_build_array(old_column));
  PERFORM tandem._refuse_unmappable(described);
  PERFORM tandem._new_target_column(changed, described, into_column);
  PERFORM tandem._make_shape(described);
  PERFORM tandem._refuse_unknown_columns(described, changed.target, jsonb_build_object(into_column, add_column."column"));
  PERFORM tandem._refuse_changed_values(described, changed.target, ARRAY[tandem._plain(into_column, add_column."column")]);
  PERFORM tandem._drop_shape();

  -- One that was left out keeps its place in images, any other comes behind the last.
  DELETE FROM tandem.source_column AS c WHERE c.table_id = changed.table_id AND c.name = add_column."column" RETURNING c.ordinal INTO place;
  INSERT INTO tandem.source_column (table_id, ordinal, name, mysql_type, data_type, is_unsigned, charset, "collation", nullable, generated, image_type)
  SELECT changed.table_id, coalesce(place, max(c.ordinal) + 1), old_column ->> 'name', old_column ->> 'mysql_type', old_column ->> 'data_type',
         (old_column ->> 'unsigned')::boolean, old_column ->> 'charset', old_column ->> 'collation', (old_column ->> 'nullable')::boolean,
         (old_column ->> 'generated')::boolean, old_column ->> 'image_type'
  FROM tandem.source_column AS c WHERE c.table_id = changed.table_id;
  INSERT INTO tandem.target_column (table_id, name, source_column) VALUES (changed.table_id, into_column, add_column."column");
  IF EXISTS (SELECT FROM tandem.table_state AS a WHERE a.table_id = changed.table_id) THEN
    PERFORM tandem._begin_resync(changed.table_id, format('column "%s" is moved, too', add_column."column"));
  END IF;
END
$$;
COMMENT ON FUNCTION tandem.add_column(text, text, name) IS
  'moves one more column of an old table: one that was added there, or that was left out. A target that pg_tandem created gets the column, any other must have it. A started table is copied anew, changes go on flowing meanwhile';

CREATE VIEW tandem.resyncs AS
  SELECT s.name AS source, t.name AS "table", r.phase, r.cause, r.reason, r.automatic, coalesce(a.backfill_rows, 0) AS rows_copied,
         r.swept AS rows_looked_up, r.suspected AS rows_missing, r.loss AS times, r.started_at, r.finished_at
  FROM tandem.resync AS r JOIN tandem.source_table AS t USING (table_id) JOIN tandem.source AS s USING (source_id)
  LEFT JOIN tandem.table_state AS a USING (table_id);
COMMENT ON VIEW tandem.resyncs IS 'tables that are or were copied anew, because capture was lost or because tandem.resync was called; the last time of each';
COMMENT ON COLUMN tandem.resyncs.source IS 'source of the table';
COMMENT ON COLUMN tandem.resyncs."table" IS 'old table';
COMMENT ON COLUMN tandem.resyncs.phase IS 'due: blocked, or about to begin; copying: rows are copied; sweeping: rows that the old side does not have any more are looked for; done';
COMMENT ON COLUMN tandem.resyncs.cause IS 'truncated, partitions, rebuilt, trigger, outbox, gap, cascade, swapped, dropped, engine, column, key, server or asked';
COMMENT ON COLUMN tandem.resyncs.reason IS 'what happened, and the way out';
COMMENT ON COLUMN tandem.resyncs.automatic IS 'it began by itself';
COMMENT ON COLUMN tandem.resyncs.rows_copied IS 'rows copied so far';
COMMENT ON COLUMN tandem.resyncs.rows_looked_up IS 'rows of the target that were looked up on the old side so far';
COMMENT ON COLUMN tandem.resyncs.rows_missing IS 'how many of them the old side did not have';
COMMENT ON COLUMN tandem.resyncs.times IS 'how often the table had to be copied anew';
COMMENT ON COLUMN tandem.resyncs.started_at IS 'when that was found or asked';
COMMENT ON COLUMN tandem.resyncs.finished_at IS 'when the table was in sync again';

CREATE VIEW tandem.schema_changes AS
  SELECT s.name AS source, t.name AS "table", c.column_name AS "column", c.change, c.old_type, c.new_type,
         CASE WHEN c.change = 'added' THEN 'not moved'
              WHEN c.change = 'nullability' THEN CASE WHEN n.not_null AND c.new_type LIKE '% NULL' AND c.new_type NOT LIKE '% NOT NULL'
                                                      THEN 'a row with NULL there becomes a dead letter' ELSE 'none' END
              ELSE 'the table is blocked' END AS effect,
         CASE WHEN c.change = 'added' THEN format('SELECT tandem.add_column(%L, %L);', s.name || '.' || t.name, c.column_name)
              WHEN c.change = 'nullability' AND n.not_null AND c.new_type LIKE '% NULL' AND c.new_type NOT LIKE '% NOT NULL'
                THEN format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL;', t.target, n.name)
              WHEN c.change IN ('dropped', 'altered') THEN format('SELECT tandem.drop_table(%L);', s.name || '.' || t.name) END AS call,
         c.noticed_at
  FROM tandem.column_change AS c JOIN tandem.source_table AS t USING (table_id) JOIN tandem.source AS s USING (source_id)
  LEFT JOIN LATERAL (SELECT m.name, a.attnotnull AS not_null FROM tandem.target_column AS m
                     JOIN pg_attribute AS a ON a.attrelid = t.target AND a.attname = m.name
                     WHERE m.table_id = t.table_id AND m.source_column = c.column_name ORDER BY a.attnotnull DESC, m.name LIMIT 1) AS n ON true
  WHERE c.change <> 'added' OR NOT EXISTS (SELECT FROM tandem.source_column AS k WHERE k.table_id = c.table_id AND k.name = c.column_name AND NOT k.gone)
  UNION ALL
  SELECT s.name, t.name, c.name, 'left out', c.mysql_type, NULL, 'none: the target has nothing of it', NULL, NULL
  FROM tandem.source_column AS c JOIN tandem.source_table AS t USING (table_id) JOIN tandem.source AS s USING (source_id)
  WHERE c.gone;
COMMENT ON VIEW tandem.schema_changes IS 'columns of old tables that are not as they were when the table was added';
COMMENT ON COLUMN tandem.schema_changes.source IS 'source of the table';
COMMENT ON COLUMN tandem.schema_changes."table" IS 'old table';
COMMENT ON COLUMN tandem.schema_changes."column" IS 'old column';
COMMENT ON COLUMN tandem.schema_changes.change IS 'added, dropped, altered, nullability; left out: dropped or altered, and no longer read as the target has nothing of it';
COMMENT ON COLUMN tandem.schema_changes.old_type IS 'type when the table was added';
COMMENT ON COLUMN tandem.schema_changes.new_type IS 'type now';
COMMENT ON COLUMN tandem.schema_changes.effect IS 'what it means for the sync';
COMMENT ON COLUMN tandem.schema_changes.call IS 'statement that deals with it, such as tandem.add_column; tandem.drop_table is followed by tandem.add_table with the mapping that is wanted';
COMMENT ON COLUMN tandem.schema_changes.noticed_at IS 'when the worker saw it';

CREATE VIEW tandem.pg_stat_tandem_guard AS
  SELECT s.name AS source, g.looked_at, extract(epoch FROM clock_timestamp() - g.looked_at)::double precision AS seconds_since_look,
         coalesce(g.tables, 0) AS tables, g.look_ms, g.by_number,
         coalesce(g.error, CASE WHEN l.expires_at IS NULL OR l.expires_at <= clock_timestamp() THEN 'no worker leads this source: nobody looks'
                                WHEN NOT g.by_number THEN 'the user on the old side lacks PROCESS: a TRUNCATE may go unseen, and a harmless ALTER TABLE is taken for one that is not' END) AS trouble,
         g.failing_since
  FROM tandem.source AS s LEFT JOIN tandem.guard AS g USING (source_id) LEFT JOIN tandem.lease AS l USING (source_id);
COMMENT ON VIEW tandem.pg_stat_tandem_guard IS 'one row for each source: how well the captured tables are watched on the old side';
COMMENT ON COLUMN tandem.pg_stat_tandem_guard.source IS 'source';
COMMENT ON COLUMN tandem.pg_stat_tandem_guard.looked_at IS 'last report of a look that succeeded; they are some seconds apart while all is well';
COMMENT ON COLUMN tandem.pg_stat_tandem_guard.seconds_since_look IS 'its age';
COMMENT ON COLUMN tandem.pg_stat_tandem_guard.tables IS 'tables looked at';
COMMENT ON COLUMN tandem.pg_stat_tandem_guard.look_ms IS 'milliseconds that one look at all of them took';
COMMENT ON COLUMN tandem.pg_stat_tandem_guard.by_number IS 'tables are known by InnoDB''s own numbers, which takes the privilege PROCESS';
COMMENT ON COLUMN tandem.pg_stat_tandem_guard.trouble IS 'why changes of tables may go unseen; NULL: all is well';
COMMENT ON COLUMN tandem.pg_stat_tandem_guard.failing_since IS 'since when looks fail';

GRANT SELECT ON tandem.resyncs, tandem.schema_changes TO tandem_monitor;
GRANT SELECT ON tandem.pg_stat_tandem_guard TO tandem_monitor, pg_monitor;
-- tandem.resync runs with the rights of its caller.
GRANT SELECT, INSERT (table_id, cause, reason, automatic), UPDATE ON tandem.resync TO tandem_admin;
GRANT SELECT, DELETE ON tandem.capture_identity TO tandem_admin;
