-- Sequences of targets: the next value that PostgreSQL would give a row must be one that neither side has used.
--
-- The old side gives the values while it is the source of truth, and rows come here with them. So sequences follow the rows: when a table
-- reaches "syncing" and with the maintenance of the apply worker from what the target holds, and with tandem.advance_sequences
-- from the counter of the old side as well, which also knows of rows that are gone.

CREATE FUNCTION tandem._sequence_columns(target regclass) RETURNS TABLE (column_name name, attnum smallint, sequence_name regclass)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT a.attname, a.attnum, d.objid::regclass
  FROM pg_depend AS d JOIN pg_class AS c ON c.oid = d.objid AND c.relkind = 'S'
  JOIN pg_attribute AS a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
  WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = target AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
    -- Built-in types only: the highest value is also looked for with the rights of a superuser.
    AND a.atttypid = ANY (ARRAY['smallint', 'integer', 'bigint', 'numeric', 'real', 'double precision']::regtype[])
$$;
COMMENT ON FUNCTION tandem._sequence_columns(regclass) IS 'columns of a table to which a sequence belongs: identity, serial, OWNED BY';

CREATE FUNCTION tandem._advance_sequence(sequence_name regclass, at_least numeric) RETURNS bigint
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  s pg_sequence;
  last_value bigint;
  is_called boolean;
  next_value numeric;
BEGIN
  SELECT q.* INTO STRICT s FROM pg_sequence AS q WHERE q.seqrelid = sequence_name;
  EXECUTE format('SELECT last_value, is_called FROM %s', sequence_name) INTO last_value, is_called;
  next_value := CASE WHEN is_called THEN last_value::numeric + s.seqincrement ELSE last_value END;
  -- Forward only: a value once given is not given again.
  IF s.seqincrement > 0 AND at_least > next_value THEN
    IF at_least > s.seqmax THEN
      -- All values are used: the next call is an error, not a value of somebody else.
      PERFORM setval(sequence_name, s.seqmax, true);
    ELSE
      PERFORM setval(sequence_name, at_least::bigint, false);
    END IF;
    next_value := at_least;
  END IF;
  RETURN least(next_value, 9223372036854775807);
END
$$;
COMMENT ON FUNCTION tandem._advance_sequence(regclass, numeric) IS 'moves a sequence forward, never back, to a next value of at least that; returns the next value';

CREATE FUNCTION tandem._advance_sequences(table_id integer, only_indexed boolean DEFAULT false, old_next jsonb DEFAULT '{}')
RETURNS TABLE (target regclass, column_name name, sequence_name regclass, next_value bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  highest numeric;
  q record;
BEGIN
  FOR q IN
    SELECT t.target, s.column_name, s.sequence_name, (_advance_sequences.old_next ->> m.source_column)::numeric AS old_next
    FROM tandem.source_table AS t
    JOIN pg_class AS k ON k.oid = t.target
    CROSS JOIN LATERAL tandem._sequence_columns(t.target) AS s
    JOIN tandem.target_column AS m ON m.table_id = t.table_id AND m.name = s.column_name
    WHERE t.table_id = _advance_sequences.table_id
      AND (NOT only_indexed OR EXISTS (SELECT FROM pg_index AS i WHERE i.indrelid = t.target AND i.indisvalid AND i.indpred IS NULL AND i.indkey[0] = s.attnum))
    ORDER BY s.attnum
  LOOP
    EXECUTE format('SELECT max(%I) FROM %s', q.column_name, q.target) INTO highest;
    target := q.target;
    column_name := q.column_name;
    sequence_name := q.sequence_name;
    next_value := tandem._advance_sequence(q.sequence_name, greatest(floor(highest) + 1, q.old_next));
    RETURN NEXT;
  END LOOP;
END
$$;
COMMENT ON FUNCTION tandem._advance_sequences(integer, boolean, jsonb) IS
  'moves the sequences of a target forward past its rows, and past the next values of old columns in old_next; asks nobody';

CREATE FUNCTION tandem.advance_sequences("table" text DEFAULT NULL)
RETURNS TABLE (target regclass, column_name name, sequence_name regclass, next_value bigint)
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  wanted integer := CASE WHEN advance_sequences."table" IS NOT NULL THEN tandem._table_id(advance_sequences."table") END;
  one record;
  description jsonb;
BEGIN
  FOR one IN
    SELECT t.table_id, t.name, t.target, s AS source
    FROM tandem.source_table AS t JOIN tandem.source AS s USING (source_id)
    WHERE (t.table_id = wanted OR wanted IS NULL) AND EXISTS (SELECT FROM tandem._sequence_columns(t.target))
    ORDER BY t.table_id
  LOOP
    PERFORM tandem._refuse_foreign_target(one.target);
    description := tandem._describe_one(one.source, one.name);
    RETURN QUERY SELECT a.* FROM tandem._advance_sequences(one.table_id, false, (
      SELECT coalesce(jsonb_object_agg(c ->> 'name', description -> 'auto_increment'), '{}')
      FROM jsonb_array_elements(description -> 'columns') AS c
      WHERE c ->> 'extra' ILIKE '%auto_increment%' AND jsonb_typeof(description -> 'auto_increment') = 'number')) AS a;
  END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.advance_sequences(text) IS
  'moves sequences of targets (identity, serial) forward to the next value of AUTO_INCREMENT on the old side, or past the highest row; of one table or all';

-- Called by the apply worker now and then, and by the trigger below. An error of one table is its own.
CREATE FUNCTION tandem._sequences_follow(table_id integer DEFAULT NULL) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  one integer;
BEGIN
  FOR one IN
    SELECT t.table_id FROM tandem.source_table AS t JOIN tandem.table_state AS a USING (table_id)
    -- A table that has just reached "syncing" may be told so before its backfill is.
    WHERE (a.backfill_done OR t.table_id = _sequences_follow.table_id) AND t.desired_state = 'running'
      AND t.table_id = coalesce(_sequences_follow.table_id, t.table_id) ORDER BY 1
  LOOP
    BEGIN
      PERFORM tandem._advance_sequences(one, only_indexed => true);
    EXCEPTION WHEN OTHERS THEN
      RAISE WARNING 'sequences of table "%" could not be advanced: %', tandem._table_label(one), SQLERRM;
    END;
  END LOOP;
END
$$;
COMMENT ON FUNCTION tandem._sequences_follow(integer) IS 'advances sequences of tables that are in sync, where an index leads to the highest value; called by the apply worker';

CREATE FUNCTION tandem._sequences_at_sync() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM tandem._sequences_follow(NEW.table_id);
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION tandem._sequences_at_sync() IS 'trigger: the sequences of a table that reaches "syncing" stand behind its rows';
CREATE TRIGGER sequences AFTER UPDATE OF state ON tandem.table_state
  FOR EACH ROW WHEN (NEW.state = 'syncing' AND OLD.state <> 'syncing') EXECUTE FUNCTION tandem._sequences_at_sync();
ALTER TABLE tandem.table_state ENABLE ALWAYS TRIGGER sequences;
