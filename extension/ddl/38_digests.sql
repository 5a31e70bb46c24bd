-- Digests and differences (docs/protocol.md section 14), for tandem-sync. They read under the snapshot of the caller.

-- --- the aggregate ----------------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem._digest_add(state internal, part integer, secret bytea, VARIADIC "values" "any") RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_digest_add';
COMMENT ON FUNCTION tandem._digest_add(internal, integer, bytea, "any") IS 'part of tandem._digest';
CREATE FUNCTION tandem._digest_combine(internal, internal) RETURNS internal
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_digest_combine';
COMMENT ON FUNCTION tandem._digest_combine(internal, internal) IS 'part of tandem._digest';
CREATE FUNCTION tandem._digest_serial(internal) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_digest_serial';
COMMENT ON FUNCTION tandem._digest_serial(internal) IS 'part of tandem._digest';
CREATE FUNCTION tandem._digest_deserial(bytea, internal) RETURNS internal
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_digest_deserial';
COMMENT ON FUNCTION tandem._digest_deserial(bytea, internal) IS 'part of tandem._digest';
CREATE FUNCTION tandem._digest_final(internal) RETURNS bigint[]
LANGUAGE c IMMUTABLE PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_digest_final';
COMMENT ON FUNCTION tandem._digest_final(internal) IS 'part of tandem._digest';

CREATE AGGREGATE tandem._digest(part integer, secret bytea, VARIADIC "values" "any") (
  SFUNC = tandem._digest_add, STYPE = internal, FINALFUNC = tandem._digest_final, COMBINEFUNC = tandem._digest_combine,
  SERIALFUNC = tandem._digest_serial, DESERIALFUNC = tandem._digest_deserial, PARALLEL = SAFE
);
COMMENT ON AGGREGATE tandem._digest(integer, bytea, VARIADIC "any") IS
  'for part 0, 1 and so on up to the last that has rows: number of rows, sum of the low and of the high halves of their keyed 128-bit hashes';

-- --- what is compared -------------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem._compared_columns(table_id integer)
RETURNS TABLE ("position" integer, name text, ordinal integer, class text, image_class text, type oid, typmod integer, image_type oid, image_typmod integer)
LANGUAGE c STABLE STRICT ROWS 20 AS 'MODULE_PATHNAME', 'tandem_compared_columns';
COMMENT ON FUNCTION tandem._compared_columns(integer) IS 'columns of a table in the order in which a row is hashed; ordinal is the number of the image''s field';

-- Late binding: tandem._carries comes later in the script.
CREATE FUNCTION tandem._image_is_value(image_type oid, image_typmod integer, type oid, typmod integer, mysql_type text) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- A value that the target refuses makes its row a dead letter, which is in flight.
  RETURN tandem._carries(image_type, image_typmod, type, typmod, substring(mysql_type FROM '^(?:var)?char\((\d+)\)')::bigint) IN ('all', 'errors');
END
$$;
COMMENT ON FUNCTION tandem._image_is_value(oid, integer, oid, integer, text) IS 'whether a target column takes the values of an image column as they are';

CREATE FUNCTION tandem._key_order_is_kept(table_id integer) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- Both sides have keys in the same order, and an index of the target has it as well, if need be behind constants.
  RETURN (WITH key AS (
    SELECT m.name, m.key_position AS position, t.target,
           c.image_type::regtype = ANY (ARRAY['smallint', 'integer', 'bigint', 'numeric', 'date', 'timestamp', 'timestamptz', 'interval', 'bytea', 'bit']::regtype[])
           AND (c.image_type::regtype = coalesce(nullif(y.typbasetype, 0), y.oid)
                OR ARRAY[c.image_type::regtype, coalesce(nullif(y.typbasetype, 0), y.oid)::regtype] <@ ARRAY['smallint', 'integer', 'bigint', 'numeric']::regtype[]) AS ordered
    FROM tandem.source_table AS t
    JOIN tandem.target_column AS m USING (table_id)
    JOIN tandem.source_column AS c ON c.table_id = m.table_id AND c.name = m.source_column
    JOIN pg_attribute AS a ON a.attrelid = t.target AND a.attname = m.name
    JOIN pg_type AS y ON y.oid = a.atttypid
    WHERE t.table_id = _key_order_is_kept.table_id AND m.key_position IS NOT NULL
  )
  SELECT coalesce((SELECT bool_and(k.ordered) FROM key AS k), false) AND EXISTS (
    SELECT FROM pg_index AS i
    WHERE i.indrelid = (SELECT min(k.target::oid) FROM key AS k) AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
      AND ARRAY(SELECT a.attname
                FROM unnest((i.indkey::smallint[])[0:i.indnkeyatts - 1]) WITH ORDINALITY AS n(number, position)
                JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = n.number
                WHERE a.attname NOT IN (SELECT m.name FROM tandem.target_column AS m WHERE m.table_id = _key_order_is_kept.table_id
                                        AND m.key_position IS NOT NULL AND m.source_column IS NULL)
                ORDER BY n.position)
          = ARRAY(SELECT k.name FROM key AS k ORDER BY k.position)));
END
$$;
COMMENT ON FUNCTION tandem._key_order_is_kept(integer) IS 'whether a range of keys on the old side is a range of an index of the target';

CREATE FUNCTION tandem._can_sum_parts(table_id integer) RETURNS boolean
LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'tandem_can_sum_parts';
COMMENT ON FUNCTION tandem._can_sum_parts(integer) IS 'whether tandem.digest_parts works for a table';

CREATE FUNCTION tandem._digest_config(table_id integer) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT jsonb_build_object(
      'mode', CASE WHEN t.filter IS NULL AND bool_and(coalesce(c.image_class = c.class OR (c.image_class, c.class) = ('int', 'numeric'), false) AND CASE
                     -- What nearly all columns are, without a call.
                     WHEN c.type = c.image_type AND c.typmod IN (-1, c.image_typmod) THEN true
                     WHEN c.type = 'varchar'::regtype AND c.image_type = 'text'::regtype
                       THEN c.typmod = -1 OR c.typmod - 4 >= coalesce(substring(o.mysql_type FROM '^(?:var)?char\((\d+)\)')::bigint, 2147483647)
                     ELSE tandem._image_is_value(c.image_type, c.image_typmod, c.type, c.typmod, o.mysql_type) END)
                   THEN 'fast' ELSE 'evaluated' END,
      'range', tandem._key_order_is_kept(t.table_id),
      -- By policy, not by rows that come and go: what the worker compares by must not change with them.
      'parts', NOT EXISTS (SELECT FROM tandem.source_column AS s WHERE s.table_id = t.table_id AND s.policy = 'sidecar') AND tandem._can_sum_parts(t.table_id),
      'sidecar', EXISTS (SELECT FROM tandem.source_column AS s WHERE s.table_id = t.table_id AND s.policy = 'sidecar'),
      'columns', jsonb_agg(jsonb_build_object('position', c."position", 'name', c.name, 'ordinal', c.ordinal, 'class', c.class) ORDER BY c."position"))
    FROM tandem.source_table AS t
    CROSS JOIN LATERAL tandem._compared_columns(t.table_id) AS c
    LEFT JOIN LATERAL (SELECT n.mysql_type, row_number() OVER (ORDER BY n.ordinal) AS field FROM tandem.source_column AS n
                       WHERE n.table_id = t.table_id) AS o ON o.field = c.ordinal
    WHERE t.table_id = _digest_config.table_id
    GROUP BY t.table_id);
EXCEPTION WHEN OTHERS THEN
  RETURN jsonb_build_object('mode', 'none', 'reason', SQLERRM);
END
$$;
COMMENT ON FUNCTION tandem._digest_config(integer) IS 'how the worker digests old rows of a table (docs/protocol.md section 14)';

-- xmin is the lower half of a transaction's id; the upper half is the current one's, or one less.
CREATE FUNCTION tandem._full_xid(xmin bigint) RETURNS bigint
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE WHEN x.guess > x.next THEN x.guess - 4294967296 ELSE x.guess END
  FROM (SELECT n.next, (n.next >> 32 << 32) + xmin AS guess
        FROM (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS next) AS n) AS x
$$;
COMMENT ON FUNCTION tandem._full_xid(bigint) IS 'whole transaction id of an xmin';

CREATE FUNCTION tandem._causes(table_id integer, writers bigint[]) RETURNS TABLE (number integer, cause text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT w.number::integer,
         CASE WHEN w.writer <= 2 THEN NULL -- no row, or one that was frozen long ago
              WHEN j.found THEN 'uncaptured'
              -- Untouched here since the pass in which it was equal: so it is the old side that changed.
              WHEN tandem._full_xid(w.writer) < l.pass_xid::text::bigint THEN 'uncaptured'
              WHEN tandem._full_xid(w.writer) >= greatest(h.xid, l.evidence_xid)::text::bigint THEN 'written on new' END
  FROM unnest(writers) WITH ORDINALITY AS w(writer, number)
  CROSS JOIN tandem.journal_horizon AS h
  LEFT JOIN tandem.reconcile_ledger AS l ON l.table_id = _causes.table_id
  CROSS JOIN LATERAL (SELECT EXISTS (SELECT FROM tandem.journal_keys AS k WHERE k.table_id = _causes.table_id
                                     AND (w.writer = ANY (k.writers) OR k.xid::text::bigint = tandem._full_xid(w.writer))) AS found) AS j
$$;
COMMENT ON FUNCTION tandem._causes(integer, bigint[]) IS
  'probable cause why rows with these xmin differ; NULL: the journal does not reach back to their last change';

-- --- digests ----------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem.digest_chunk(table_id integer, secret bytea, low text[], high text[], OUT rows bigint, OUT sum_low bigint, OUT sum_high bigint)
LANGUAGE c STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off
AS 'MODULE_PATHNAME', 'tandem_digest_chunk';
COMMENT ON FUNCTION tandem.digest_chunk(integer, bytea, text[], text[]) IS 'digest of the target''s rows with keys in (low, high]; NULL: no bound';

CREATE FUNCTION tandem.digest_parts(table_id integer, secret bytea, low text[], high text[], starts text[])
RETURNS TABLE (part integer, rows bigint, sum_low bigint, sum_high bigint)
LANGUAGE c STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off
AS 'MODULE_PATHNAME', 'tandem_digest_parts';
COMMENT ON FUNCTION tandem.digest_parts(integer, bytea, text[], text[], text[]) IS
  'the same by parts of a key of one column: part n has keys from starts[n] on, below starts[n + 1]; part 0 those below starts[1]. Parts without rows are left out';

CREATE FUNCTION tandem.digest_rows(table_id integer, secret bytea, low text[], high text[]) RETURNS TABLE (key bytea, low_hash bigint, high_hash bigint)
LANGUAGE c STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off
AS 'MODULE_PATHNAME', 'tandem_digest_rows';
COMMENT ON FUNCTION tandem.digest_rows(integer, bytea, text[], text[]) IS 'the same row by row, in no order';

CREATE FUNCTION tandem.digest_row_parts(table_id integer, secret bytea, lows text[], highs text[])
RETURNS TABLE (part integer, key bytea, low_hash bigint, high_hash bigint)
LANGUAGE c STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off
AS 'MODULE_PATHNAME', 'tandem_digest_row_parts';
COMMENT ON FUNCTION tandem.digest_row_parts(integer, bytea, text[], text[]) IS
  'the same for the parts (lows[n], highs[n]] of a key of one column, by one plan; part counts from 0, NULL: no bound (two parts at most)';

CREATE FUNCTION tandem.digest_keys(table_id integer, secret bytea, keys bytea[]) RETURNS TABLE (key bytea, low_hash bigint, high_hash bigint)
LANGUAGE c STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off
AS 'MODULE_PATHNAME', 'tandem_digest_keys';
COMMENT ON FUNCTION tandem.digest_keys(integer, bytea, bytea[]) IS 'hashes of the target''s rows that have exactly these key bytes';

CREATE FUNCTION tandem.digest_images(table_id integer, secret bytea, keys bytea[], images bytea[]) RETURNS TABLE (key bytea, low_hash bigint, high_hash bigint)
LANGUAGE c STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off
AS 'MODULE_PATHNAME', 'tandem_digest_images';
COMMENT ON FUNCTION tandem.digest_images(integer, bytea, bytea[], bytea[]) IS
  'hashes of what apply would write for these images; NULL where it would fail, no row where the filter leaves the image out';

CREATE FUNCTION tandem.next_keys(table_id integer, after text[], "limit" integer) RETURNS TABLE (key bytea, key_text text[])
LANGUAGE c STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off
AS 'MODULE_PATHNAME', 'tandem_next_keys';
COMMENT ON FUNCTION tandem.next_keys(integer, text[], integer) IS 'the next keys of the target in its own order, behind a key as this function gave it';

CREATE FUNCTION tandem.row_differences(table_id integer, keys bytea[], images bytea[])
RETURNS TABLE (key bytea, kind text, columns text[], old jsonb, new jsonb, cause text)
LANGUAGE c STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET row_security = off
AS 'MODULE_PATHNAME', 'tandem_row_differences';
COMMENT ON FUNCTION tandem.row_differences(integer, bytea[], bytea[]) IS
  'rows that are not what apply would write for the old row (image NULL: there is none), with the columns that differ; equal rows are left out';

-- --- keys in flight ---------------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem.chunk_in_flight(table_id integer, p pg_snapshot, keys bytea[]) RETURNS TABLE (key bytea, reason text)
LANGUAGE c STABLE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS 'MODULE_PATHNAME', 'tandem_chunk_in_flight';
COMMENT ON FUNCTION tandem.chunk_in_flight(integer, pg_snapshot, bytea[]) IS
  'those of the keys that a transaction which snapshot p does not see has applied, or whose last image waits';

CREATE FUNCTION tandem.in_flight_keys(table_id integer, p pg_snapshot) RETURNS TABLE (key bytea, reason text)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT w.key, w.reason FROM tandem._waiting_key AS w WHERE w.table_id = in_flight_keys.table_id LIMIT 100000 $$;
COMMENT ON FUNCTION tandem.in_flight_keys(integer, pg_snapshot) IS 'keys of a table whose last image waits';

CREATE FUNCTION tandem.journalled_after(table_id integer, p pg_snapshot) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(sum(length(j.hashes) / 8), 0)::bigint FROM tandem.journal_keys AS j
  WHERE j.table_id = journalled_after.table_id AND j.xid >= pg_snapshot_xmin(p) AND NOT pg_visible_in_snapshot(j.xid, p)
$$;
COMMENT ON FUNCTION tandem.journalled_after(integer, pg_snapshot) IS 'how many keys were applied by transactions that snapshot p does not see';

CREATE FUNCTION tandem._key_hashes(keys bytea[]) RETURNS bytea
LANGUAGE c IMMUTABLE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 'tandem_key_hashes';
COMMENT ON FUNCTION tandem._key_hashes(bytea[]) IS 'hashes of keys as tandem.journal_keys holds them';

CREATE FUNCTION tandem._journal(table_id integer, keys bytea[]) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO tandem.journal_keys (table_id, xid, hashes) SELECT table_id, pg_current_xact_id(), tandem._key_hashes(keys) WHERE cardinality(keys) > 0
$$;
COMMENT ON FUNCTION tandem._journal(integer, bytea[]) IS 'notes keys that the current transaction has brought to the other side, or given up for now';

CREATE FUNCTION tandem.reconcilable(table_id integer) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  SELECT EXISTS (SELECT FROM tandem.source_table AS t JOIN tandem.table_state AS a USING (table_id) JOIN tandem.phase AS p USING (table_id)
                 WHERE t.table_id = reconcilable.table_id AND t.desired_state = 'running' AND a.state = 'syncing' AND a.backfill_done
                   AND p.phase <> ALL (ARRAY['shadow', 'cutover', 'closing', 'contracted']))
$$;
COMMENT ON FUNCTION tandem.reconcilable(integer) IS
  'whether rows of a table can be compared: all are here, every change is captured, and nobody is about to change the source of truth';

CREATE FUNCTION tandem.verdict_stands(table_id integer, p pg_snapshot) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  SELECT tandem.reconcilable(table_id) AND NOT EXISTS (SELECT FROM tandem.journal_horizon AS h WHERE h.xid > pg_snapshot_xmin(p))
     -- The same phase as in p: the order of the snapshots depends on it.
     AND EXISTS (SELECT FROM tandem.phase AS f WHERE f.table_id = verdict_stands.table_id
                 AND (f.xmin::text::bigint <= 2 OR pg_visible_in_snapshot(tandem._full_xid(f.xmin::text::bigint)::text::xid8, p)))
$$;
COMMENT ON FUNCTION tandem.verdict_stands(integer, pg_snapshot) IS
  'whether keys that were applied after snapshot p are all known still, and the table is in the state and phase that it was in';

GRANT EXECUTE ON FUNCTION tandem.digest_chunk(integer, bytea, text[], text[]), tandem.digest_parts(integer, bytea, text[], text[], text[]), tandem.digest_rows(integer, bytea, text[], text[]),
  tandem.digest_keys(integer, bytea, bytea[]), tandem.digest_images(integer, bytea, bytea[], bytea[]), tandem.next_keys(integer, text[], integer),
  tandem.row_differences(integer, bytea[], bytea[]), tandem.chunk_in_flight(integer, pg_snapshot, bytea[]), tandem.in_flight_keys(integer, pg_snapshot),
  tandem.journalled_after(integer, pg_snapshot), tandem.reconcilable(integer), tandem.verdict_stands(integer, pg_snapshot)
TO tandem_worker;
