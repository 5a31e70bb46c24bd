-- Shadow writes: the mode of phase shadow, and what the new schema did with the real traffic (docs/phases.md, "Shadow").

CREATE FUNCTION tandem.set_shadow_mode(tables text[], mode text, note text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  ids integer[];
  refused tandem.phase;
BEGIN
  IF mode IS NULL OR mode NOT IN ('keep', 'discard') THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('shadow mode "%s" is not known', mode),
      HINT = 'Use keep (rows that the target takes stay there) or discard (every row is tried and rolled back).';
  ELSIF coalesce(cardinality(tables), 0) = 0 THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'tandem.set_shadow_mode needs tables';
  END IF;
  ids := ARRAY(SELECT c.table_id FROM tandem._chosen(tables) AS c);
  PERFORM FROM tandem.phase AS p WHERE p.table_id = ANY (ids) ORDER BY p.table_id FOR NO KEY UPDATE;
  SELECT p.* INTO refused FROM tandem.phase AS p
  WHERE p.table_id = ANY (ids) AND p.phase NOT IN ('registered', 'shadow') ORDER BY p.table_id LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('table "%s" is in phase "%s"', tandem._table_label(refused.table_id), refused.phase),
      DETAIL = 'The mode says what becomes of rows in phase "shadow"; in every later one they are kept.',
      HINT = 'Choose it before tandem.set_phase(…, ''shadow'').';
  END IF;
  UPDATE tandem.phase AS p SET shadow_mode = mode, note = set_shadow_mode.note WHERE p.table_id = ANY (ids) AND p.shadow_mode <> mode;
END
$$;
COMMENT ON FUNCTION tandem.set_shadow_mode(text[], text, text) IS
  'what becomes of rows that are applied in phase shadow: keep, or discard (each is tried and rolled back). discard is chosen before the phase; from discard to keep the tables are copied';

CREATE FUNCTION tandem.set_shadow_mode("table" text, mode text, note text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM tandem.set_shadow_mode(ARRAY["table"], mode, note);
END
$$;
COMMENT ON FUNCTION tandem.set_shadow_mode(text, text, text) IS 'shadow mode of one table, as tandem.set_shadow_mode(text[], text, text)';

CREATE FUNCTION tandem.shadow_report("table" text) RETURNS TABLE (sqlstate text, constraint_name text, column_name text, state text, rows bigint, first_at timestamptz,
  last_at timestamptz, sample_key jsonb, sample_message text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  WITH wanted AS (SELECT tandem._table_id(shadow_report."table") AS id),
  failed AS (
    SELECT d.sqlstate, d.message, d.key, d.table_id, 'given up' AS state, d.first_failed, d.dead_since AS last_failed
    FROM tandem.dead_letter AS d JOIN wanted AS w ON w.id = d.table_id
    UNION ALL
    SELECT r.sqlstate, r.message, r.key, r.table_id, 'tried again', r.first_failed, r.next_attempt FROM tandem.retry AS r JOIN wanted AS w ON w.id = r.table_id
    UNION ALL
    SELECT s.sqlstate, s.message, s.key, s.table_id, 'would be refused', s.first_at, s.last_at FROM tandem.shadow_refusal AS s JOIN wanted AS w ON w.id = s.table_id)
  SELECT f.sqlstate, substring(f.message FROM 'constraint "([^"]+)"'), substring(f.message FROM 'column "([^"]+)"'), f.state, count(*), min(f.first_failed),
         max(f.last_failed), tandem.decode_key(min(f.table_id), (array_agg(f.key ORDER BY f.first_failed))[1]), (array_agg(f.message ORDER BY f.first_failed))[1]
  FROM failed AS f GROUP BY 1, 2, 3, 4 ORDER BY 5 DESC, 1, 2, 3
$$;
COMMENT ON FUNCTION tandem.shadow_report(text) IS
  'what the new schema refuses of the real traffic: rows that cannot be applied now, by SQLSTATE, constraint and column, with a sample';

CREATE VIEW tandem.pg_stat_tandem_shadow_writes AS
  SELECT s.name AS source, t.name AS "table", p.phase, p.shadow_mode, a.rows, a.us / 1000.0 / nullif(a.rows, 0) AS ms_per_row, coalesce(a.slow, 0) AS slow_applies,
         (SELECT count(*) FROM tandem.shadow_refusal AS r WHERE r.table_id = t.table_id)
           + (SELECT count(*) FROM tandem.dead_letter AS d WHERE d.table_id = t.table_id)
           + (SELECT count(*) FROM tandem.retry AS r WHERE r.table_id = t.table_id) AS refused, a.since, a.last_at
  FROM tandem.source_table AS t JOIN tandem.source AS s USING (source_id) JOIN tandem.phase AS p USING (table_id)
    LEFT JOIN tandem.shadow_apply AS a USING (table_id)
  WHERE p.phase = 'shadow' OR a.table_id IS NOT NULL;
COMMENT ON VIEW tandem.pg_stat_tandem_shadow_writes IS 'one row for each table that is or was in phase shadow: how the target took the real traffic';
COMMENT ON COLUMN tandem.pg_stat_tandem_shadow_writes.source IS 'source of the table';
COMMENT ON COLUMN tandem.pg_stat_tandem_shadow_writes."table" IS 'old table';
COMMENT ON COLUMN tandem.pg_stat_tandem_shadow_writes.phase IS 'present phase; the numbers are those of phase shadow';
COMMENT ON COLUMN tandem.pg_stat_tandem_shadow_writes.shadow_mode IS 'keep, or discard: every row is tried and rolled back';
COMMENT ON COLUMN tandem.pg_stat_tandem_shadow_writes.rows IS 'changed rows that were applied, or tried; those of the copy are not counted';
COMMENT ON COLUMN tandem.pg_stat_tandem_shadow_writes.ms_per_row IS 'mean time that the target took for one of them, triggers and constraints included, in milliseconds';
COMMENT ON COLUMN tandem.pg_stat_tandem_shadow_writes.slow_applies IS 'sets of rows that took longer than tandem.shadow_slow_apply per row; see tandem.shadow_slow_applies';
COMMENT ON COLUMN tandem.pg_stat_tandem_shadow_writes.refused IS 'rows that the target does not take as they are now; see tandem.shadow_report';
COMMENT ON COLUMN tandem.pg_stat_tandem_shadow_writes.since IS 'when counting began';
COMMENT ON COLUMN tandem.pg_stat_tandem_shadow_writes.last_at IS 'when rows were applied last';
GRANT SELECT ON tandem.pg_stat_tandem_shadow_writes TO tandem_monitor;

CREATE VIEW tandem.shadow_slow_applies AS
  SELECT s.name AS source, t.name AS "table", w.at, w.rows, w.us / 1000.0 AS ms, w.us / 1000.0 / w.rows AS ms_per_row,
         tandem.decode_key(w.table_id, w.key) AS first_key
  FROM tandem.shadow_slow AS w JOIN tandem.source_table AS t USING (table_id) JOIN tandem.source AS s USING (source_id);
COMMENT ON VIEW tandem.shadow_slow_applies IS 'the 20 slowest applies of each table in phase shadow, of those slower than tandem.shadow_slow_apply per row';
COMMENT ON COLUMN tandem.shadow_slow_applies.source IS 'source of the table';
COMMENT ON COLUMN tandem.shadow_slow_applies."table" IS 'old table';
COMMENT ON COLUMN tandem.shadow_slow_applies.at IS 'when it was';
COMMENT ON COLUMN tandem.shadow_slow_applies.rows IS 'rows that were applied together';
COMMENT ON COLUMN tandem.shadow_slow_applies.ms IS 'time for all of them, in milliseconds';
COMMENT ON COLUMN tandem.shadow_slow_applies.ms_per_row IS 'time for one of them';
COMMENT ON COLUMN tandem.shadow_slow_applies.first_key IS 'key of the first of them';
GRANT SELECT ON tandem.shadow_slow_applies TO tandem_admin;
