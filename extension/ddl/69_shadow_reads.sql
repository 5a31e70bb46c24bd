-- Shadow reads: the same row read from both sides and compared, while both are in use (docs/phases.md, "Shadow reads").

CREATE TABLE tandem.shadow_count (
  table_id      integer PRIMARY KEY REFERENCES tandem.source_table ON DELETE CASCADE,
  equal         bigint NOT NULL DEFAULT 0,
  in_flight     bigint NOT NULL DEFAULT 0,
  collation_only bigint NOT NULL DEFAULT 0,
  declared_loss bigint NOT NULL DEFAULT 0,
  real          bigint NOT NULL DEFAULT 0,
  last_read     timestamptz,
  last_real     timestamptz
);
COMMENT ON TABLE tandem.shadow_count IS 'shadow reads by what was found; view: tandem.pg_stat_tandem_shadow_reads';
GRANT SELECT, INSERT, UPDATE ON tandem.shadow_count TO tandem_admin;

CREATE FUNCTION tandem._shadow_foreign(wanted integer) RETURNS regclass
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  foreign_table regclass := (SELECT min(v.foreign_table::oid)::regclass FROM tandem.routed_view AS v JOIN pg_class AS c ON c.oid = v.foreign_table
                             WHERE v.table_id = wanted);
BEGIN
  IF foreign_table IS NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('table "%s" has no routed view', tandem._table_label(wanted)),
      DETAIL = 'The old side is read through the foreign table that comes with one.',
      HINT = format('SELECT tandem.create_routed_view(%L, …);', tandem._table_label(wanted));
  END IF;
  RETURN foreign_table;
END
$$;
COMMENT ON FUNCTION tandem._shadow_foreign(integer) IS 'foreign table through which shadow reads see the old side';

CREATE FUNCTION tandem._shadow_row(wanted integer, key jsonb, query text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  row_found jsonb;
BEGIN
  -- Literals of the target's types: a parameter would not be sent to the old side.
  EXECUTE (SELECT format('SELECT to_jsonb(q) FROM (%s) AS q WHERE %s', query,
                         string_agg(format('q.%I = CAST(%L AS %s)', m.name, CASE WHEN m.source_column IS NULL THEN t.constants ->> m.name ELSE key ->> m.source_column END,
                                           format_type(a.atttypid, a.atttypmod)), ' AND '))
           FROM tandem.target_column AS m JOIN tandem.source_table AS t USING (table_id) JOIN pg_attribute AS a ON a.attrelid = t.target AND a.attname = m.name
           WHERE m.table_id = wanted AND m.key_position IS NOT NULL)
    INTO row_found;
  RETURN row_found;
END
$$;
COMMENT ON FUNCTION tandem._shadow_row(integer, jsonb, text) IS 'row of a query over the target''s columns, by its key';

CREATE FUNCTION tandem._shadow_differences(wanted integer, old_row jsonb, new_row jsonb) RETURNS text[]
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT array_agg(m.name::text ORDER BY m.name)
  FROM tandem.target_column AS m LEFT JOIN tandem.source_column AS c ON c.table_id = m.table_id AND c.name = m.source_column
  WHERE m.table_id = wanted AND old_row -> m.name::text IS DISTINCT FROM new_row -> m.name::text
    -- mysql_fdw reads FLOAT with 6 digits.
    AND NOT coalesce(c.image_type = 'real' AND jsonb_typeof(old_row -> m.name::text) = 'number' AND jsonb_typeof(new_row -> m.name::text) = 'number'
                     AND abs((old_row ->> m.name::text)::numeric - (new_row ->> m.name::text)::numeric) <= abs((new_row ->> m.name::text)::numeric) * 0.00001, false)
$$;
COMMENT ON FUNCTION tandem._shadow_differences(integer, jsonb, jsonb) IS 'columns in which two rows differ; NULL for equal rows, all when one is absent';

CREATE FUNCTION tandem._refuse_discarded(wanted integer) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF EXISTS (SELECT FROM tandem.phase AS p WHERE p.table_id = wanted AND p.shadow_mode = 'discard') THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('the rows of "%s" are rolled back', tandem._table_label(wanted)),
      DETAIL = 'Its shadow mode is "discard", so the target has nothing to be read.',
      HINT = format('SELECT tandem.set_shadow_mode(%L, ''keep'');', tandem._table_label(wanted));
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_discarded(integer) IS 'error when nothing of a table is kept on the new side';

CREATE FUNCTION tandem.shadow_read("table" text, key jsonb, wait interval DEFAULT '5 s', OUT verdict text, OUT columns text[], OUT old_row jsonb, OUT new_row jsonb,
  OUT detail text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  wanted integer := tandem._table_id("table");
  key_bytes bytea := tandem.encode_key(wanted, key);
  old_query text := tandem._old_select(wanted, tandem._shadow_foreign(wanted));
  new_query text := (SELECT format('SELECT * FROM %s', t.target) FROM tandem.source_table AS t WHERE t.table_id = wanted);
  truth text := (SELECT tandem._source_of_truth(p.phase) FROM tandem.phase AS p WHERE p.table_id = wanted);
  first_old jsonb;
  absent text;
BEGIN
  IF truth = 'new' THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('the new side of "%s" is the source of truth', tandem._table_label(wanted)),
      DETAIL = 'Shadow reads try the new side before that; now the old side follows.',
      HINT = format('To compare the two: SELECT * FROM tandem.reconcile(%L);', tandem._table_label(wanted));
  END IF;
  PERFORM tandem._refuse_discarded(wanted);
  new_row := tandem._shadow_row(wanted, key, new_query);
  old_row := tandem._shadow_row(wanted, key, old_query);
  columns := CASE WHEN old_row IS NOT NULL OR new_row IS NOT NULL THEN tandem._shadow_differences(wanted, old_row, new_row) END;
  IF columns IS NULL THEN
    verdict := 'equal';
  ELSIF old_row IS NOT NULL AND EXISTS (SELECT FROM tandem.target_column AS m WHERE m.table_id = wanted AND m.key_position IS NOT NULL AND m.source_column IS NOT NULL
                                        AND old_row ->> m.name::text IS DISTINCT FROM coalesce(new_row ->> m.name::text, key ->> m.source_column)
                                        AND lower(old_row ->> m.name::text) IS NOT DISTINCT FROM lower(coalesce(new_row ->> m.name::text, key ->> m.source_column))) THEN
    verdict := 'collation_only';
    detail := 'the old side finds this row by its collation, under another spelling of the key';
  ELSIF NOT EXISTS (SELECT FROM tandem._waiting_key AS w WHERE w.table_id = wanted AND w.key = key_bytes AND w.reason <> 'dead_letter')
        -- The barrier says nothing of tables that do not run.
        AND EXISTS (SELECT FROM tandem.tables AS t WHERE t.table_id = wanted AND t.desired_state = 'running' AND t.state = 'syncing')
        AND tandem.wait_caught_up(wait) THEN
    -- Everything that the old side had when it was read has arrived: what differs still, on a row that did not change meanwhile, is different.
    first_old := old_row;
    new_row := tandem._shadow_row(wanted, key, new_query);
    old_row := tandem._shadow_row(wanted, key, old_query);
    columns := CASE WHEN old_row IS NOT NULL OR new_row IS NOT NULL THEN tandem._shadow_differences(wanted, old_row, new_row) END;
    IF columns IS NULL OR old_row IS DISTINCT FROM first_old OR EXISTS (SELECT FROM tandem._waiting_key AS w
                                                                        WHERE w.table_id = wanted AND w.key = key_bytes AND w.reason <> 'dead_letter') THEN
      verdict := 'in_flight';
    ELSIF old_row IS NOT NULL AND new_row IS NOT NULL
          AND NOT EXISTS (SELECT FROM unnest(columns) AS d(name)
                          WHERE NOT EXISTS (SELECT FROM tandem.target_column AS m JOIN tandem.source_column AS c ON c.table_id = m.table_id AND c.name = m.source_column
                                            WHERE m.table_id = wanted AND m.name = d.name AND c.policy <> 'dead_letter')) THEN
      verdict := 'declared_loss';
      detail := 'values that PostgreSQL cannot hold, by the policies of these columns';
    ELSE
      verdict := 'real';
      detail := (SELECT format('dead letter: %s', d.message) FROM tandem.dead_letter AS d WHERE d.table_id = wanted AND d.key = key_bytes);
    END IF;
  ELSE
    verdict := 'in_flight';
    detail := 'the row waits to be applied, or the new side did not catch up in time';
  END IF;
  INSERT INTO tandem.shadow_count AS s (table_id, equal, in_flight, collation_only, declared_loss, real, last_read, last_real)
  VALUES (wanted, (verdict = 'equal')::integer, (verdict = 'in_flight')::integer, (verdict = 'collation_only')::integer, (verdict = 'declared_loss')::integer,
          (verdict = 'real')::integer, clock_timestamp(), CASE WHEN verdict = 'real' THEN clock_timestamp() END)
  ON CONFLICT (table_id) DO UPDATE
    SET equal = s.equal + excluded.equal, in_flight = s.in_flight + excluded.in_flight, collation_only = s.collation_only + excluded.collation_only,
        declared_loss = s.declared_loss + excluded.declared_loss, real = s.real + excluded.real, last_read = excluded.last_read,
        last_real = coalesce(excluded.last_real, s.last_real);
END
$$;
COMMENT ON FUNCTION tandem.shadow_read(text, jsonb, interval) IS
  'reads one row from both sides and says how they compare: equal, in_flight, collation_only, declared_loss or real; counted in pg_stat_tandem_shadow_reads';

CREATE FUNCTION tandem.sample_reads("table" text, reads integer DEFAULT 20) RETURNS TABLE (key jsonb, verdict text, columns text[], detail text)
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  wanted integer := tandem._table_id("table");
  foreign_table regclass := tandem._shadow_foreign(wanted);
  one jsonb;
  share double precision;
BEGIN
  IF reads IS NULL OR reads < 1 OR reads > 10000 THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the number of reads must be between 1 and 10000';
  END IF;
  PERFORM tandem._refuse_discarded(wanted);
  -- Pages of the target at random, about ten times the rows that are needed; of a small target all, since a share of few pages may be none.
  SELECT CASE WHEN c.relkind <> 'p' AND pg_relation_size(c.oid) < 100 * current_setting('block_size')::bigint THEN 100
              ELSE least(100, greatest(0.0001, 1000.0 * reads / greatest(c.reltuples, 1))) END INTO share
  FROM tandem.source_table AS t JOIN pg_class AS c ON c.oid = t.target WHERE t.table_id = wanted;
  FOR one IN EXECUTE (
    SELECT format('SELECT jsonb_build_object(%s) FROM %s AS n TABLESAMPLE SYSTEM (%s) WHERE %s ORDER BY random() LIMIT %s',
                  string_agg(format('%L, n.%I', m.source_column, m.name), ', ') FILTER (WHERE m.source_column IS NOT NULL), t.target, share,
                  coalesce(string_agg(format('n.%I = %s', m.name, tandem._constant_as(t.constants ->> m.name::text, t.target, m.name)), ' AND ')
                             FILTER (WHERE m.source_column IS NULL), 'true'), reads)
    FROM tandem.target_column AS m JOIN tandem.source_table AS t USING (table_id) WHERE m.table_id = wanted AND m.key_position IS NOT NULL
    GROUP BY t.target)
  LOOP
    RETURN QUERY SELECT one, r.verdict, r.columns, r.detail FROM tandem.shadow_read("table", one) AS r;
  END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.sample_reads(text, integer) IS
  'shadow reads of rows of the target at random; rows that only the old side has are not among them, tandem.reconcile finds those';

CREATE VIEW tandem.pg_stat_tandem_shadow_reads AS
  SELECT s.name AS source, t.name AS "table", coalesce(c.equal + c.in_flight + c.collation_only + c.declared_loss + c.real, 0) AS reads,
         coalesce(c.equal, 0) AS equal, coalesce(c.in_flight, 0) AS in_flight, coalesce(c.collation_only, 0) AS collation_only,
         coalesce(c.declared_loss, 0) AS declared_loss, coalesce(c.real, 0) AS real, c.last_read, c.last_real
  FROM tandem.source_table AS t JOIN tandem.source AS s USING (source_id) LEFT JOIN tandem.shadow_count AS c USING (table_id);
COMMENT ON VIEW tandem.pg_stat_tandem_shadow_reads IS 'one row for each table: shadow reads by what was found';
COMMENT ON COLUMN tandem.pg_stat_tandem_shadow_reads.source IS 'source of the table';
COMMENT ON COLUMN tandem.pg_stat_tandem_shadow_reads."table" IS 'old table';
COMMENT ON COLUMN tandem.pg_stat_tandem_shadow_reads.reads IS 'rows read from both sides';
COMMENT ON COLUMN tandem.pg_stat_tandem_shadow_reads.equal IS 'the same on both sides, or on neither';
COMMENT ON COLUMN tandem.pg_stat_tandem_shadow_reads.in_flight IS 'different only because a change was on its way';
COMMENT ON COLUMN tandem.pg_stat_tandem_shadow_reads.collation_only IS 'the old side found the row by its collation, under another spelling of the key';
COMMENT ON COLUMN tandem.pg_stat_tandem_shadow_reads.declared_loss IS 'different only in columns with a policy for values that PostgreSQL cannot hold';
COMMENT ON COLUMN tandem.pg_stat_tandem_shadow_reads.real IS 'different, and nothing explains it';
COMMENT ON COLUMN tandem.pg_stat_tandem_shadow_reads.last_read IS 'when a row was read last';
COMMENT ON COLUMN tandem.pg_stat_tandem_shadow_reads.last_real IS 'when a real difference was found last';
GRANT SELECT ON tandem.pg_stat_tandem_shadow_reads TO tandem_monitor;
