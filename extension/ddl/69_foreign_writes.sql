-- Writes of applications straight through foreign tables of mysql_fdw (docs/phases.md, "Writing through the view"): the old side has them at once, and
-- keeps them when the transaction here is rolled back. An AFTER trigger asks for their keys, so that the target follows even if no trigger on the old
-- side does. What a rolled back transaction left there only the old side's own capture or a reconciliation finds.

CREATE FUNCTION tandem._capture_foreign() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
SET "DateStyle" = 'ISO' SET "IntervalStyle" = 'postgres' SET extra_float_digits = 1 SET bytea_output = 'hex' SET "TimeZone" = 'UTC'
AS $$
DECLARE
  wanted constant integer := TG_ARGV[0];
  written jsonb;
BEGIN
  -- A table that was dropped, or a database restored from a dump: nobody would fetch the row.
  IF NOT EXISTS (SELECT FROM tandem.source_table AS t JOIN tandem.phase AS p USING (table_id)
                 WHERE t.table_id = wanted AND t.desired_state IN ('running', 'paused') AND tandem._source_of_truth(p.phase) = 'old') THEN
    RETURN NULL;
  END IF;
  FOREACH written IN ARRAY CASE TG_OP WHEN 'INSERT' THEN ARRAY[to_jsonb(NEW)] WHEN 'DELETE' THEN ARRAY[to_jsonb(OLD)] ELSE ARRAY[to_jsonb(OLD), to_jsonb(NEW)] END LOOP
    INSERT INTO tandem.request (table_id, key_text, reason, asked_by)
    SELECT wanted, tandem.key_text(wanted, tandem.encode_key(wanted, (SELECT jsonb_object_agg(k, written -> tandem._short_name(k)::text) FROM unnest(t.key_columns) AS k))),
           'foreign write', session_user
    FROM tandem.source_table AS t WHERE t.table_id = wanted;
  END LOOP;
  PERFORM tandem._requests_changed();
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION tandem._capture_foreign() IS 'trigger on a foreign table of mysql_fdw: the rows that were written through it are fetched from the old side after the commit';

CREATE FUNCTION tandem.capture_foreign(foreign_table regclass, "table" text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  wanted integer := tandem._table_id("table");
  missing text;
BEGIN
  PERFORM tandem._refuse_foreign_target(t.target) FROM tandem.source_table AS t WHERE t.table_id = wanted;
  IF NOT EXISTS (SELECT FROM pg_foreign_table AS f JOIN pg_foreign_server AS s ON s.oid = f.ftserver JOIN pg_foreign_data_wrapper AS w ON w.oid = s.srvfdw
                 WHERE f.ftrelid = foreign_table AND w.fdwname = 'mysql_fdw') THEN
    RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('%s is not a foreign table of mysql_fdw', foreign_table);
  ELSIF NOT EXISTS (SELECT FROM pg_foreign_table AS f JOIN tandem.source_table AS t ON t.table_id = wanted JOIN tandem.source AS s USING (source_id)
                    WHERE f.ftrelid = foreign_table
                      AND coalesce((SELECT o.option_value FROM pg_options_to_table(f.ftoptions) AS o WHERE o.option_name = 'table_name'),
                                   (SELECT c.relname FROM pg_class AS c WHERE c.oid = foreign_table)) = t.name
                      AND (SELECT o.option_value FROM pg_options_to_table(f.ftoptions) AS o WHERE o.option_name = 'dbname') = s.database) THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_table_definition', MESSAGE = format('%s is not over old table "%s"', foreign_table, tandem._table_label(wanted)),
      HINT = 'Its options dbname and table_name must name the old table.';
  END IF;
  SELECT string_agg(format('"%s"', k), ', ') INTO missing
  FROM tandem.source_table AS t, unnest(t.key_columns) AS k
  WHERE t.table_id = wanted
    AND NOT EXISTS (SELECT FROM pg_attribute AS a WHERE a.attrelid = foreign_table AND a.attname = tandem._short_name(k) AND a.attnum > 0 AND NOT a.attisdropped);
  IF missing IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_table_definition', MESSAGE = format('%s lacks key columns of the old table: %s', foreign_table, missing);
  END IF;
  EXECUTE format('DROP TRIGGER IF EXISTS tandem_capture_foreign ON %s', foreign_table);
  EXECUTE format('CREATE TRIGGER tandem_capture_foreign AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION tandem._capture_foreign(%s)',
                 foreign_table, wanted);
END
$$;
COMMENT ON FUNCTION tandem.capture_foreign(regclass, text) IS
  'has rows that are written through a foreign table of mysql_fdw fetched from the old side after the commit, whether the old side''s own capture sees them or not; end it with DROP TRIGGER tandem_capture_foreign';

GRANT EXECUTE ON FUNCTION tandem._capture_foreign() TO tandem_admin;
