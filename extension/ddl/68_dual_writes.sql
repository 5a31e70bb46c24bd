-- Writes to both sides (docs/phases.md, "Dual writes"): the guard on targets, the record of direct writes, their verification.
--
-- A direct write is recorded in its own transaction, and after the grace its key is fetched from the old side again (tandem.request). The image
-- that is fetched then is compared with the target by apply *before* anything is overwritten. A change of the old side that the target does not
-- have yet is recorded as well, and not applied: the application is about to write it to the target itself, and an INSERT there must not find the
-- row. If it does not within the grace, its write there has failed, and apply makes up for it. Until a key is verified no image of it is applied.

GRANT SELECT ON tandem.dual_policy, tandem.dual_count, tandem.direct_write TO tandem_admin;
GRANT INSERT, UPDATE, DELETE ON tandem.dual_policy TO tandem_admin;
GRANT INSERT (table_id, key, side, operation), DELETE ON tandem.direct_write TO tandem_admin;

-- --- triggers on the target -------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem._guard_target() RETURNS trigger
LANGUAGE c AS 'MODULE_PATHNAME', 'tandem_guard_target';
COMMENT ON FUNCTION tandem._guard_target() IS 'trigger on a target: refuses writes where the table''s phase says so; apply does not fire it';

CREATE FUNCTION tandem._direct_key(wanted integer, new_row jsonb) RETURNS bytea
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT tandem.encode_key(wanted, (SELECT jsonb_object_agg(k.name, new_row -> tandem._target_name(wanted, k.name)) FROM unnest(t.key_columns) AS k(name)))
  FROM tandem.source_table AS t WHERE t.table_id = wanted
$$;
COMMENT ON FUNCTION tandem._direct_key(integer, jsonb) IS 'key bytes of a row of the target';

CREATE FUNCTION tandem._record_key(wanted integer, key bytea, operation text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  recorded bigint;
BEGIN
  INSERT INTO tandem.direct_write (table_id, key, operation, latency_us)
  VALUES (wanted, key, operation, extract(epoch FROM clock_timestamp() - statement_timestamp()) * 1000000)
  RETURNING direct_id INTO recorded;
  INSERT INTO tandem.request (table_id, key_text, reason, asked_by, not_before, direct_id)
  VALUES (wanted, tandem.key_text(wanted, key), 'direct write', session_user,
          clock_timestamp() + coalesce((SELECT d.grace FROM tandem.dual_policy AS d WHERE d.table_id = wanted), interval '2 s'), recorded);
END
$$;
COMMENT ON FUNCTION tandem._record_key(integer, bytea, text) IS 'records a direct write, to be verified after the grace';

CREATE FUNCTION tandem._expect_key(wanted integer, key bytea, operation text, grace interval) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  recorded bigint;
BEGIN
  INSERT INTO tandem.direct_write (table_id, key, side, operation) VALUES (wanted, key, 'old', operation) RETURNING direct_id INTO recorded;
  INSERT INTO tandem.request (table_id, key_text, reason, asked_by, not_before, direct_id)
  VALUES (wanted, tandem.key_text(wanted, key), 'write of the old side', session_user, clock_timestamp() + grace, recorded);
END
$$;
COMMENT ON FUNCTION tandem._expect_key(integer, bytea, text, interval) IS
  'a change of the old side that the target lacks: the application is expected to write it there within the grace';

CREATE FUNCTION tandem._record_direct_write() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  wanted constant integer := TG_ARGV[0];
  old_key bytea;
  new_key bytea;
BEGIN
  IF TG_OP <> 'INSERT' THEN
    old_key := tandem._direct_key(wanted, to_jsonb(OLD));
  END IF;
  IF TG_OP <> 'DELETE' THEN
    new_key := tandem._direct_key(wanted, to_jsonb(NEW));
  END IF;
  PERFORM tandem._record_key(wanted, new_key, TG_OP) WHERE new_key IS NOT NULL;
  PERFORM tandem._record_key(wanted, old_key, TG_OP) WHERE old_key IS DISTINCT FROM new_key AND old_key IS NOT NULL;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION tandem._record_direct_write() IS 'trigger on a target: records the keys that the application writes, in its transaction';

-- Triggers are there only where something is to be refused or recorded; a table that is only started has none.
CREATE FUNCTION tandem._fit_guards(wanted integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  t tandem.source_table;
  guard constant name := format('tandem_guard_%s', wanted);
  truncate_guard constant name := format('tandem_guard_truncate_%s', wanted);
  record constant name := format('tandem_record_%s', wanted);
  policy text := (SELECT p.direct_writes FROM tandem.phase AS p WHERE p.table_id = wanted);
  own_new text;
  own_old text;
  present name[];
BEGIN
  SELECT s.* INTO t FROM tandem.source_table AS s WHERE s.table_id = wanted;
  present := ARRAY(SELECT g.tgname FROM pg_trigger AS g WHERE g.tgrelid = t.target AND NOT g.tgisinternal);
  IF policy <> 'allow' AND guard <> ALL (present) THEN
    -- Of a shared target, the rows of this table.
    SELECT string_agg(format('NEW.%I = %s', c.key, tandem._constant_as(c.value, t.target, c.key)), ' AND '),
           string_agg(format('OLD.%I = %s', c.key, tandem._constant_as(c.value, t.target, c.key)), ' AND ')
      INTO own_new, own_old FROM jsonb_each_text(t.constants) AS c;
    EXECUTE format('CREATE TRIGGER %I BEFORE INSERT OR UPDATE ON %s FOR EACH ROW %s EXECUTE FUNCTION tandem._guard_target(%s)',
                   guard, t.target, 'WHEN (' || own_new || ')', wanted);
    EXECUTE format('CREATE TRIGGER %I BEFORE DELETE ON %s FOR EACH ROW %s EXECUTE FUNCTION tandem._guard_target(%s)',
                   guard || '_delete', t.target, 'WHEN (' || own_old || ')', wanted);
    EXECUTE format('CREATE TRIGGER %I BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION tandem._guard_target(%s)', truncate_guard, t.target, wanted);
  END IF;
  IF policy <> 'allow' THEN
    PERFORM tandem._on_partitions(t.target, format('CREATE OR REPLACE TRIGGER %I BEFORE TRUNCATE ON %%s FOR EACH STATEMENT EXECUTE FUNCTION tandem._guard_target(%s)', truncate_guard, wanted));
  END IF;
  -- Put to rest and not dropped, which would wait for every reader.
  IF policy = 'record' AND NOT tandem._trigger_on(t.target, record) THEN
    EXECUTE format('CREATE OR REPLACE TRIGGER %I AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION tandem._record_direct_write(%s)',
                   record, t.target, wanted);
    EXECUTE format('ALTER TABLE %s ENABLE TRIGGER %I', t.target, record);
  ELSIF policy <> 'record' AND tandem._trigger_on(t.target, record) THEN
    EXECUTE format('ALTER TABLE %s DISABLE TRIGGER %I', t.target, record);
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._fit_guards(integer) IS 'creates and drops triggers on the target so that they fit the table''s phase and policy';

CREATE FUNCTION tandem._drop_guards(wanted integer) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  dropped record;
  any_dropped boolean := false;
BEGIN
  FOR dropped IN
    SELECT g.tgname, g.tgrelid::regclass AS target
    FROM tandem.source_table AS t
      JOIN pg_trigger AS g ON (g.tgrelid = t.target OR g.tgrelid IN (SELECT tandem._partitions(t.target))) AND NOT g.tgisinternal AND g.tgparentid = 0
    WHERE t.table_id = wanted AND g.tgname IN (format('tandem_guard_%s', wanted), format('tandem_guard_%s_delete', wanted),
                                               format('tandem_guard_truncate_%s', wanted), format('tandem_record_%s', wanted))
  LOOP
    EXECUTE format('DROP TRIGGER %I ON %s', dropped.tgname, dropped.target);
    any_dropped := true;
  END LOOP;
  RETURN any_dropped;
END
$$;
COMMENT ON FUNCTION tandem._drop_guards(integer) IS 'removes what tandem._fit_guards made; false: there was nothing';

-- --- policy -----------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem._declare_dual(wanted integer, direct_writes text, settle text, grace interval, version_column text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
  PERFORM tandem._refuse_foreign_target(t.target) FROM tandem.source_table AS t WHERE t.table_id = wanted FOR UPDATE;
  INSERT INTO tandem.dual_policy AS d (table_id) VALUES (wanted) ON CONFLICT DO NOTHING;
  UPDATE tandem.dual_policy AS d
  SET direct_writes = CASE WHEN _declare_dual.direct_writes = 'by_phase' THEN NULL ELSE coalesce(_declare_dual.direct_writes, d.direct_writes) END,
      settle = coalesce(_declare_dual.settle, d.settle), version_column = coalesce(_declare_dual.version_column, d.version_column), grace = coalesce(_declare_dual.grace, d.grace)
  WHERE d.table_id = wanted;
  UPDATE tandem.phase AS p SET note = p.note WHERE p.table_id = wanted; -- computes direct_writes anew
  PERFORM tandem._remake_routed_views(wanted);
  PERFORM tandem._fit_guards(wanted);
END
$$;
COMMENT ON FUNCTION tandem._declare_dual(integer, text, text, interval, text) IS 'writes tandem.dual_policy and makes it so; NULL leaves a part as it is';

CREATE FUNCTION tandem.set_direct_writes("table" text, policy text) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  wanted integer := tandem._table_id("table");
  known constant text[] := ARRAY['refuse', 'record', 'allow', 'by_phase'];
BEGIN
  IF policy IS NULL OR policy <> ALL (known) THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('policy "%s" for direct writes is not known', policy),
      HINT = format('Use one of %s.', array_to_string(known, ', '));
  ELSIF policy = 'record' AND EXISTS (SELECT FROM tandem.source_table AS t WHERE t.table_id = wanted AND (t.filter IS NOT NULL OR t.constants <> '{}')) THEN
    RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
      MESSAGE = format('direct writes to the target of "%s" cannot be verified', tandem._table_label(wanted)),
      DETAIL = 'The table has a filter, or its target a constant column.',
      HINT = 'Refuse or allow them.';
  END IF;
  PERFORM tandem._declare_dual(wanted, policy, NULL, NULL);
END
$$;
COMMENT ON FUNCTION tandem.set_direct_writes(text, text) IS
  'what becomes of writes to the target by anybody but apply while the table is in shadow, syncing or ready: refuse, record (and verify), allow, or by_phase (syncing allows, the others refuse)';

CREATE FUNCTION tandem.set_dual_write_policy("table" text, settle text DEFAULT NULL, grace interval DEFAULT NULL, version_column text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  wanted integer := tandem._table_id("table");
  known constant text[] := ARRAY['old_wins', 'new_wins', 'latest', 'review'];
BEGIN
  IF settle <> ALL (known) THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('policy "%s" for differences is not known', settle),
      HINT = format('Use one of %s.', array_to_string(known, ', '));
  ELSIF grace < interval '0' OR grace > interval '1 hour' THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'the grace must be between 0 and 1 hour';
  END IF;
  PERFORM tandem._refuse_unfit_policy(wanted, settle, version_column);
  PERFORM tandem._declare_dual(wanted, NULL, settle, grace, version_column);
END
$$;
COMMENT ON FUNCTION tandem.set_dual_write_policy(text, text, interval, text) IS
  'what becomes of a difference that the verification of a double write finds, and how long after a write the other side is looked at. settle: old_wins (the old side''s row is applied), new_wins (the target''s row is written to the old side), latest (whose version_column, an old column, is greater), review (both stay as they are). Routed views merge by the version column';

-- --- verification, called by apply ------------------------------------------------------------------------------------------------

-- states: e equal, m missing on new, x missing on old, d different. Returns the positions of rows that are not to be applied.
CREATE FUNCTION tandem._verify_dual(wanted integer, batch bigint, keys bytea[], states text[], ages bigint[], natural_ones boolean[]) RETURNS integer[]
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  policy tandem.dual_policy;
  in_dual boolean := (SELECT p.phase = 'dual_write' FROM tandem.phase AS p WHERE p.table_id = wanted);
  held integer[];
  r record;
  counted tandem.dual_count;
  done bigint[] := '{}';
  failed_kind text;
BEGIN
  SELECT d.* INTO policy FROM tandem.dual_policy AS d WHERE d.table_id = wanted;
  policy.settle := coalesce(policy.settle, 'old_wins');
  policy.grace := coalesce(policy.grace, interval '2 s');
  counted.equal := 0; counted.missing_on_old := 0; counted.missing_on_new := 0; counted.different := 0; counted.old_failed := 0; counted.new_failed := 0;
  counted.new_writes := 0; counted.latency_us := 0; counted.latency_max_us := 0; counted.apart_us := 0; counted.apart_count := 0;
  held := '{}';
  FOR r IN
    SELECT s.position, s.key, s.state, s.age_us, s.is_natural, p.*
    FROM unnest(keys, states, ages, natural_ones) WITH ORDINALITY AS s(key, state, age_us, is_natural, position)
    LEFT JOIN LATERAL (
      SELECT count(*) FILTER (WHERE d.side = 'new') AS new_writes, count(*) AS writes, bool_or(d.review) AS in_review, bool_or(d.operation = 'SETTLE') AS settled, array_agg(d.direct_id) AS ids,
             bool_and(a.asked_after IS NOT NULL AND a.asked_after < batch) AS verifying, min(d.at) FILTER (WHERE d.side = 'new') AS first_at,
             sum(d.latency_us) AS latency_us, max(d.latency_us) AS latency_max_us
      FROM tandem.direct_write AS d LEFT JOIN tandem.direct_asked AS a USING (direct_id) WHERE d.table_id = wanted AND d.key = s.key) AS p ON true
    ORDER BY s.position
  LOOP
    IF r.writes = 0 THEN
      IF in_dual AND r.is_natural AND r.state <> 'e' THEN
        PERFORM tandem._expect_key(wanted, r.key, CASE r.state WHEN 'x' THEN 'DELETE' WHEN 'm' THEN 'INSERT' ELSE 'UPDATE' END, policy.grace);
        held := held || r.position::integer;
      END IF;
      CONTINUE;
    ELSIF r.new_writes = 0 THEN
      IF NOT r.verifying THEN
        held := held || r.position::integer;
        CONTINUE;
      END IF;
      IF r.in_review AND r.state <> 'e' THEN
        held := held || r.position::integer; -- the target's row is on its way to the old side
        CONTINUE;
      END IF;
      -- The grace is over and nobody wrote it here: that write failed. If the old side took its change back there is nothing to be said.
      IF r.state = 'e' OR r.settled THEN
        done := done || r.ids;
        CONTINUE;
      END IF;
      counted.new_failed := counted.new_failed + 1;
      failed_kind := CASE r.state WHEN 'x' THEN 'missing_on_old' WHEN 'm' THEN 'missing_on_new' ELSE 'different' END;
      -- Kept for review means the write to the target: a change that only the old side has is applied, unless the new side wins.
      IF policy.settle IN ('new_wins', 'latest') AND tandem._settle_dual(wanted, batch, r.key, policy) = 'review' THEN
        UPDATE tandem.direct_write AS d SET review = true, found = failed_kind WHERE d.direct_id = ANY (r.ids);
        held := held || r.position::integer;
      ELSE
        done := done || r.ids;
      END IF;
    ELSIF r.state = 'e' THEN
      counted.equal := counted.equal + 1;
      failed_kind := NULL;
      done := done || r.ids;
      IF NOT r.verifying AND r.age_us IS NOT NULL AND r.new_writes = 1 THEN
        counted.apart_us := counted.apart_us + (extract(epoch FROM clock_timestamp() - r.first_at) * 1000000)::bigint - r.age_us;
        counted.apart_count := counted.apart_count + 1;
      END IF;
    ELSIF r.in_review OR NOT r.verifying THEN
      held := held || r.position::integer;
      CONTINUE;
    ELSE
      counted.old_failed := counted.old_failed + 1;
      failed_kind := CASE r.state WHEN 'x' THEN 'missing_on_old' WHEN 'm' THEN 'missing_on_new' ELSE 'different' END;
      IF tandem._settle_dual(wanted, batch, r.key, policy) = 'review' THEN
        UPDATE tandem.direct_write AS d SET review = true, found = failed_kind WHERE d.direct_id = ANY (r.ids);
        held := held || r.position::integer;
      ELSE
        done := done || r.ids;
      END IF;
    END IF;
    IF NOT coalesce(r.in_review, false) THEN
      counted.missing_on_old := counted.missing_on_old + (failed_kind IS NOT DISTINCT FROM 'missing_on_old')::integer;
      counted.missing_on_new := counted.missing_on_new + (failed_kind IS NOT DISTINCT FROM 'missing_on_new')::integer;
      counted.different := counted.different + (failed_kind IS NOT DISTINCT FROM 'different')::integer;
      counted.new_writes := counted.new_writes + r.new_writes;
      counted.latency_us := counted.latency_us + coalesce(r.latency_us, 0);
      counted.latency_max_us := greatest(counted.latency_max_us, r.latency_max_us);
    ELSE
      counted.equal := counted.equal - 1; -- counted when it was found different
    END IF;
  END LOOP;
  DELETE FROM tandem.direct_write AS d WHERE d.direct_id = ANY (done);
  DELETE FROM tandem.direct_asked AS a WHERE a.direct_id = ANY (done);
  IF counted.equal + counted.old_failed + counted.new_failed <> 0 OR counted.new_writes <> 0 THEN
    INSERT INTO tandem.dual_count AS c (table_id, equal, missing_on_old, missing_on_new, different, old_failed, new_failed, new_writes, latency_us, latency_max_us,
      apart_us, apart_count)
    VALUES (wanted, counted.equal, counted.missing_on_old, counted.missing_on_new, counted.different, counted.old_failed, counted.new_failed, counted.new_writes,
            counted.latency_us, counted.latency_max_us, counted.apart_us, counted.apart_count)
    ON CONFLICT (table_id) DO UPDATE
      SET equal = c.equal + excluded.equal, missing_on_old = c.missing_on_old + excluded.missing_on_old, missing_on_new = c.missing_on_new + excluded.missing_on_new,
          different = c.different + excluded.different, old_failed = c.old_failed + excluded.old_failed, new_failed = c.new_failed + excluded.new_failed,
          new_writes = c.new_writes + excluded.new_writes, latency_us = c.latency_us + excluded.latency_us,
          latency_max_us = greatest(c.latency_max_us, excluded.latency_max_us), apart_us = c.apart_us + excluded.apart_us,
          apart_count = c.apart_count + excluded.apart_count;
  END IF;
  RETURN held;
END
$$;
COMMENT ON FUNCTION tandem._verify_dual(integer, bigint, bytea[], text[], bigint[], boolean[]) IS
  'what images say of writes that wait to be verified: counts, settles, records what only the old side has; returns the positions of images that are not to be applied';

-- Images that cannot be applied now cannot verify either: their keys are asked for again.
CREATE FUNCTION tandem._verify_later(wanted integer, keys bytea[]) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
  WITH put_off AS (
    DELETE FROM tandem.direct_asked AS a USING tandem.direct_write AS d
    WHERE d.direct_id = a.direct_id AND d.table_id = wanted AND d.key = ANY (keys) AND NOT d.review RETURNING d.direct_id, d.key)
  INSERT INTO tandem.request (table_id, key_text, reason, direct_id)
  SELECT wanted, tandem.key_text(wanted, p.key), 'direct write', p.direct_id FROM put_off AS p
$$;
COMMENT ON FUNCTION tandem._verify_later(integer, bytea[]) IS 'writes whose verifying image could not be applied are verified by another one';

CREATE FUNCTION tandem._put_off(wanted integer, keys bytea[]) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT tandem._expect_key(wanted, k, 'SETTLE', interval '0.2 s') FROM unnest(keys) AS k $$;
COMMENT ON FUNCTION tandem._put_off(integer, bytea[]) IS
  'images that were to be applied, of rows that the application is writing at this moment: a newer image is fetched soon, and not counted as a failed write';

-- --- what people see and decide ---------------------------------------------------------------------------------------------------

CREATE VIEW tandem.pg_stat_tandem_dual_writes AS
  SELECT s.name AS source, t.name AS "table", p.phase, coalesce(c.new_writes, 0) AS new_writes,
         coalesce(c.equal + c.old_failed + c.new_failed, 0) AS verified, coalesce(c.equal, 0) AS both_equal,
         coalesce(c.missing_on_old, 0) AS missing_on_old, coalesce(c.missing_on_new, 0) AS missing_on_new, coalesce(c.different, 0) AS different,
         coalesce(c.old_failed, 0) AS old_failed, coalesce(c.new_failed, 0) AS new_failed,
         1 - c.old_failed::double precision / nullif(c.equal + c.old_failed + c.new_failed, 0) AS old_success_rate,
         1 - c.new_failed::double precision / nullif(c.equal + c.old_failed + c.new_failed, 0) AS new_success_rate,
         c.latency_us / 1000.0::double precision / nullif(c.new_writes, 0) AS new_latency_ms, c.latency_max_us / 1000.0::double precision AS new_latency_max_ms,
         c.apart_us / 1000.0::double precision / nullif(c.apart_count, 0) AS old_behind_new_ms,
         w.unverified, w.in_review, w.oldest_unverified_seconds, coalesce(d.settle, 'old_wins') AS settle, coalesce(d.grace, interval '2 s') AS grace, c.since
  FROM tandem.source_table AS t JOIN tandem.source AS s USING (source_id) JOIN tandem.phase AS p USING (table_id)
    LEFT JOIN tandem.dual_count AS c USING (table_id) LEFT JOIN tandem.dual_policy AS d USING (table_id)
    CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE NOT u.review) AS unverified, count(DISTINCT u.key) FILTER (WHERE u.review) AS in_review,
                               extract(epoch FROM clock_timestamp() - min(u.at) FILTER (WHERE NOT u.review))::double precision AS oldest_unverified_seconds
                        FROM tandem.direct_write AS u WHERE u.table_id = t.table_id) AS w;
COMMENT ON VIEW tandem.pg_stat_tandem_dual_writes IS 'one row for each table: writes that the application made to both sides, verified; counted in tables, so exact and kept over restarts';
COMMENT ON COLUMN tandem.pg_stat_tandem_dual_writes.source IS 'source of the table';
COMMENT ON COLUMN tandem.pg_stat_tandem_dual_writes."table" IS 'old table';
COMMENT ON COLUMN tandem.pg_stat_tandem_dual_writes.phase IS 'phase of the table';
COMMENT ON COLUMN tandem.pg_stat_tandem_dual_writes.new_writes IS 'rows that the application wrote to the target, of those verified';
COMMENT ON COLUMN tandem.pg_stat_tandem_dual_writes.verified IS 'verdicts: writes to one key within the grace are verified together';
COMMENT ON COLUMN tandem.pg_stat_tandem_dual_writes.both_equal IS 'both sides had the same row, or both had none';
COMMENT ON COLUMN tandem.pg_stat_tandem_dual_writes.missing_on_old IS 'the target had a row that the old side did not have';
COMMENT ON COLUMN tandem.pg_stat_tandem_dual_writes.missing_on_new IS 'the old side had a row that the target did not have';
COMMENT ON COLUMN tandem.pg_stat_tandem_dual_writes.different IS 'both had a row, with other values';
COMMENT ON COLUMN tandem.pg_stat_tandem_dual_writes.old_failed IS 'written to the target and not to the old side';
COMMENT ON COLUMN tandem.pg_stat_tandem_dual_writes.new_failed IS 'written to the old side and not to the target';
COMMENT ON COLUMN tandem.pg_stat_tandem_dual_writes.old_success_rate IS 'share of the verdicts in which the write to the old side had succeeded';
COMMENT ON COLUMN tandem.pg_stat_tandem_dual_writes.new_success_rate IS 'share of the verdicts in which the write to the target had succeeded';
COMMENT ON COLUMN tandem.pg_stat_tandem_dual_writes.new_latency_ms IS 'mean time from the beginning of a statement here until its row was written';
COMMENT ON COLUMN tandem.pg_stat_tandem_dual_writes.new_latency_max_ms IS 'the longest';
COMMENT ON COLUMN tandem.pg_stat_tandem_dual_writes.old_behind_new_ms IS 'mean time by which the write to the old side came after the one here, negative: before; of those whose capture arrived within the grace';
COMMENT ON COLUMN tandem.pg_stat_tandem_dual_writes.unverified IS 'writes that wait to be verified';
COMMENT ON COLUMN tandem.pg_stat_tandem_dual_writes.in_review IS 'keys that are different and wait for tandem.settle_dual_write';
COMMENT ON COLUMN tandem.pg_stat_tandem_dual_writes.oldest_unverified_seconds IS 'age of the oldest write that waits to be verified';
COMMENT ON COLUMN tandem.pg_stat_tandem_dual_writes.settle IS 'what becomes of a difference: old_wins, new_wins, latest or review';
COMMENT ON COLUMN tandem.pg_stat_tandem_dual_writes.grace IS 'how long after a write the other side is looked at';
COMMENT ON COLUMN tandem.pg_stat_tandem_dual_writes.since IS 'since when it is counted';
GRANT SELECT ON tandem.pg_stat_tandem_dual_writes TO tandem_monitor;

CREATE VIEW tandem.dual_write_reviews AS
  SELECT s.name AS source, t.name AS "table", tandem.decode_key(d.table_id, d.key) AS key, min(d.found) AS found, max(d.operation) AS operation,
         count(*) AS writes, min(d.at) AS written_at, min(d.by) AS written_by
  FROM tandem.direct_write AS d JOIN tandem.source_table AS t USING (table_id) JOIN tandem.source AS s USING (source_id)
  WHERE d.review GROUP BY s.name, t.name, d.table_id, d.key;
COMMENT ON VIEW tandem.dual_write_reviews IS 'rows that the two sides hold differently after a double write, kept so until tandem.settle_dual_write';
COMMENT ON COLUMN tandem.dual_write_reviews.source IS 'source of the table';
COMMENT ON COLUMN tandem.dual_write_reviews."table" IS 'old table';
COMMENT ON COLUMN tandem.dual_write_reviews.key IS 'key of the row';
COMMENT ON COLUMN tandem.dual_write_reviews.found IS 'missing_on_old, missing_on_new or different';
COMMENT ON COLUMN tandem.dual_write_reviews.operation IS 'what the application did to the target';
COMMENT ON COLUMN tandem.dual_write_reviews.writes IS 'how often, before it was verified';
COMMENT ON COLUMN tandem.dual_write_reviews.written_at IS 'when it did so first';
COMMENT ON COLUMN tandem.dual_write_reviews.written_by IS 'session user who did';

GRANT SELECT ON tandem.dual_write_reviews TO tandem_admin;

CREATE FUNCTION tandem.settle_dual_write("table" text, key jsonb DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  wanted integer := tandem._table_id("table");
  wanted_key bytea := tandem._dead_key(wanted, key);
  settled bytea[];
BEGIN
  PERFORM tandem._refuse_foreign_target(t.target), tandem._refuse_not_running(wanted) FROM tandem.source_table AS t WHERE t.table_id = wanted;
  WITH gone AS (
    DELETE FROM tandem.direct_write AS d WHERE d.table_id = wanted AND d.review AND (wanted_key IS NULL OR d.key = wanted_key) RETURNING d.key)
  SELECT array_agg(DISTINCT g.key) INTO settled FROM gone AS g;
  PERFORM tandem._expect_key(wanted, k, 'SETTLE', interval '0') FROM unnest(settled) AS k;
  PERFORM tandem._requests_changed();
  RETURN coalesce(cardinality(settled), 0);
END
$$;
COMMENT ON FUNCTION tandem.settle_dual_write(text, jsonb) IS
  'ends the review of a row, or of all of a table, for the source of truth: the row is fetched from the old side and applied. Returns how many';
