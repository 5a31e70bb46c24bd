-- Tables that are copied anew, as people see and ask for it: tandem.resync, and what the capture guard found.

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
    PERFORM tandem._record_loss(chosen.table_id, 'asked', format('tandem.resync was called by "%s"', session_user), false);
    UPDATE tandem.source_table AS t SET desired_state = 'running' WHERE t.table_id = chosen.table_id AND t.desired_state <> 'running';
    UPDATE tandem.table_state AS a SET state = 'capturing', reason = NULL, detail = '{}', updated_at = now() WHERE a.table_id = chosen.table_id;
    begun := begun + 1;
  END LOOP;
  PERFORM tandem._config_changed();
  RETURN begun;
END
$$;
COMMENT ON FUNCTION tandem.resync(text[]) IS
  'copies tables anew, blocked and paused ones as well: all rows are copied again, then rows of the target that the old table does not have are removed. Changes go on flowing meanwhile. Returns how many';

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
         CASE WHEN c.change = 'nullability' AND n.not_null AND c.new_type LIKE '% NULL' AND c.new_type NOT LIKE '% NOT NULL'
                THEN format('ALTER TABLE %s ALTER COLUMN %I DROP NOT NULL;', t.target, n.name)
              WHEN c.change IN ('dropped', 'altered') THEN format('SELECT tandem.drop_table(%L);', s.name || '.' || t.name) END AS call,
         c.noticed_at
  FROM tandem.column_change AS c JOIN tandem.source_table AS t USING (table_id) JOIN tandem.source AS s USING (source_id)
  LEFT JOIN LATERAL (SELECT m.name, a.attnotnull AS not_null FROM tandem.target_column AS m
                     JOIN pg_attribute AS a ON a.attrelid = t.target AND a.attname = m.name
                     WHERE m.table_id = t.table_id AND m.source_column = c.column_name ORDER BY a.attnotnull DESC, m.name LIMIT 1) AS n ON true
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
COMMENT ON COLUMN tandem.schema_changes.call IS 'statement that deals with it; tandem.drop_table is followed by tandem.add_table with the mapping that is wanted';
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
