-- Differences of double writes that the new side may win (docs/phases.md, "Dual writes"): its row goes to the old side by tandem.write_queue, if that still
-- holds what the verification saw. Until the two are equal the row is in review, so a refusal is seen.

CREATE FUNCTION tandem._image_number(wanted integer, image bytea, column_name text) RETURNS bigint
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  place constant integer := (SELECT count(*) FROM tandem.source_column AS c JOIN tandem.source_column AS mine USING (table_id)
                             WHERE c.table_id = wanted AND mine.name = column_name AND c.ordinal <= mine.ordinal);
  at integer := 3; -- behind the number of fields
  size integer;
BEGIN
  FOR field IN 1 .. place LOOP
    size := ('x' || encode(substr(image, at, 4), 'hex'))::bit(32)::integer; -- -1: NULL
    at := at + 4;
    IF field = place THEN
      RETURN CASE size WHEN 2 THEN ('x' || encode(substr(image, at, 2), 'hex'))::bit(16)::bit(32)::integer >> 16
                       WHEN 4 THEN ('x' || encode(substr(image, at, 4), 'hex'))::bit(32)::integer
                       WHEN 8 THEN ('x' || encode(substr(image, at, 8), 'hex'))::bit(64)::bigint END;
    END IF;
    at := at + greatest(size, 0);
  END LOOP;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION tandem._image_number(integer, bytea, text) IS
  'value of an integer, timestamp or timestamptz column in an image, as a number that sorts like it; NULL for NULL (docs/protocol.md section 2)';

CREATE FUNCTION tandem._settle_by_both(wanted integer, batch bigint, row_key bytea, policy tandem.dual_policy) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  old_image bytea;
  new_image bytea;
  old_version bigint;
  new_version bigint;
BEGIN
  SELECT q.image INTO old_image FROM tandem.queue AS q WHERE q.batch_id = batch AND q.table_id = wanted AND q.key = row_key AND q.op IN ('U', 'D');
  IF NOT FOUND THEN
    RETURN 'review';
  END IF;
  SELECT decode(r.image, 'hex') INTO new_image FROM tandem._reverse_rows(wanted, ARRAY[row_key]) AS r;
  IF policy.settle = 'latest' THEN
    old_version := tandem._image_number(wanted, old_image, policy.version_column);
    new_version := tandem._image_number(wanted, new_image, policy.version_column);
    IF old_version IS NULL OR new_version IS NULL OR old_version = new_version THEN
      RETURN 'review'; -- a row that is missing has no version, and equal ones say nothing
    ELSIF old_version > new_version THEN
      RETURN 'old_wins';
    END IF;
  END IF;
  INSERT INTO tandem.write_queue (source_id, table_id, transaction, operation, key, before, after, written_by)
  SELECT t.source_id, wanted, gen_random_uuid()::text, CASE WHEN old_image IS NULL THEN 'insert' WHEN new_image IS NULL THEN 'delete' ELSE 'update' END, row_key, old_image, new_image, 'tandem'
  FROM tandem.source_table AS t
  WHERE t.table_id = wanted AND NOT (old_image IS NULL AND new_image IS NULL)
    AND NOT EXISTS (SELECT FROM tandem.write_queue AS q WHERE q.table_id = wanted AND q.key = row_key AND NOT q.given_up);
  RETURN 'review';
EXCEPTION WHEN data_exception OR integrity_constraint_violation OR raise_exception THEN
  RETURN 'review'; -- the row cannot be turned into one of the old side
END
$$;
COMMENT ON FUNCTION tandem._settle_by_both(integer, bigint, bytea, tandem.dual_policy) IS
  'the same for the policies new_wins and latest, which look at both rows';

CREATE FUNCTION tandem._settle_dual(wanted integer, batch bigint, row_key bytea, policy tandem.dual_policy) RETURNS text
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE WHEN policy.settle IN ('new_wins', 'latest') THEN tandem._settle_by_both(wanted, batch, row_key, policy) ELSE policy.settle END
$$;
COMMENT ON FUNCTION tandem._settle_dual(integer, bigint, bytea, tandem.dual_policy) IS
  'who wins a difference: old_wins, or review; with a new side that wins its row is queued for the old side, and in review until the two are equal';

CREATE FUNCTION tandem._refuse_unfit_policy(wanted integer, settle text, version_column text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  obstacles text;
  chosen tandem.source_column;
BEGIN
  IF version_column IS NOT NULL THEN
    SELECT c.* INTO chosen FROM tandem.source_column AS c WHERE c.table_id = wanted AND c.name = version_column;
    IF NOT FOUND THEN
      RAISE EXCEPTION USING ERRCODE = 'undefined_column', MESSAGE = format('column "%s" of old table "%s" does not exist', version_column, tandem._table_label(wanted));
    ELSIF chosen.image_type !~ '^(smallint|integer|bigint|timestamp|timestamptz)' OR (SELECT e.expression IS NULL FROM tandem._reverse_expressions(wanted) AS e WHERE e.name = version_column) THEN
      RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('column "%s" cannot tell which row is the later one', version_column),
        DETAIL = 'It must be an integer, a DATETIME or a TIMESTAMP that both sides hold.';
    END IF;
  ELSIF settle = 'latest' AND NOT EXISTS (SELECT FROM tandem.dual_policy AS d WHERE d.table_id = wanted AND d.version_column IS NOT NULL) THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'policy "latest" needs a version column',
      HINT = 'For example version_column => ''updated_at''.';
  END IF;
  SELECT string_agg(o, '; ') INTO obstacles FROM tandem._reverse_obstacles(wanted) AS o;
  IF settle IN ('new_wins', 'latest') AND obstacles IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'feature_not_supported', MESSAGE = format('rows of the target of "%s" cannot be written to the old side', tandem._table_label(wanted)),
      DETAIL = obstacles;
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_unfit_policy(integer, text, text) IS 'error unless the new side can win, and a version column tells which row is the later one';
