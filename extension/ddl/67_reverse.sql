-- Reverse sync: how a row of the target becomes an image of the old row, the capture on the target, and what the worker calls
-- (docs/protocol.md section 15). Only tables whose mapping can be turned round take part.

-- --- from the target to the old row -----------------------------------------------------------------------------------------------

CREATE FUNCTION tandem._sent(expression text, image_type text) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- Text by convert_to and not by textsend, which would give it in the encoding of whatever client writes.
  RETURN (
    SELECT format(CASE split_part(image_type, '(', 1)
                    WHEN 'boolean' THEN 'pg_catalog.boolsend((%s)::pg_catalog.bool)'
                    WHEN 'smallint' THEN 'pg_catalog.int2send((%s)::pg_catalog.int2)'
                    WHEN 'integer' THEN 'pg_catalog.int4send((%s)::pg_catalog.int4)'
                    WHEN 'bigint' THEN 'pg_catalog.int8send((%s)::pg_catalog.int8)'
                    WHEN 'numeric' THEN 'pg_catalog.numeric_send((%s)::pg_catalog.numeric)'
                    WHEN 'real' THEN 'pg_catalog.float4send((%s)::pg_catalog.float4)'
                    WHEN 'double precision' THEN 'pg_catalog.float8send((%s)::pg_catalog.float8)'
                    WHEN 'bit' THEN 'pg_catalog.bit_send((%s)::pg_catalog."bit")'
                    WHEN 'date' THEN 'pg_catalog.date_send((%s)::pg_catalog.date)'
                    WHEN 'timestamp' THEN 'pg_catalog.timestamp_send((%s)::pg_catalog.timestamp)'
                    WHEN 'timestamptz' THEN 'pg_catalog.timestamptz_send((%s)::pg_catalog.timestamptz)'
                    WHEN 'interval' THEN 'pg_catalog.interval_send((%s)::pg_catalog.interval)'
                    WHEN 'bytea' THEN '(%s)::pg_catalog.bytea'
                    WHEN 'uuid' THEN 'pg_catalog.uuid_send((%s)::pg_catalog.uuid)'
                    WHEN 'inet' THEN 'pg_catalog.inet_send((%s)::pg_catalog.inet)'
                    WHEN 'jsonb' THEN '(''\x01''::pg_catalog.bytea OPERATOR(pg_catalog.||) pg_catalog.convert_to((%s)::pg_catalog.jsonb::pg_catalog.text, ''UTF8''))'
                    ELSE 'pg_catalog.convert_to((%s)::pg_catalog.text, ''UTF8'')' END, expression));
END
$$;
COMMENT ON FUNCTION tandem._sent(text, text) IS 'SQL that gives a value in the binary format of an image type';

CREATE FUNCTION tandem._tuple_of(expressions text[], image_types text[]) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT format('%L::pg_catalog.bytea', '\x' || lpad(to_hex(cardinality(expressions)), 4, '0'))
           || string_agg(CASE WHEN e IS NULL THEN ' OPERATOR(pg_catalog.||) ''\xffffffff''::pg_catalog.bytea'
                              ELSE format(' OPERATOR(pg_catalog.||) coalesce(pg_catalog.int4send(pg_catalog.octet_length(%1$s)) OPERATOR(pg_catalog.||) %1$s, ''\xffffffff''::pg_catalog.bytea)',
                                          tandem._sent(e, t)) END, '' ORDER BY n)
    FROM unnest(expressions, image_types) WITH ORDINALITY AS c(e, t, n));
END
$$;
COMMENT ON FUNCTION tandem._tuple_of(text[], text[]) IS 'SQL that makes a tuple of values (docs/protocol.md section 2); NULL in place of an expression: a field without value';

CREATE FUNCTION tandem._target_key_columns(table_id integer) RETURNS name[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT array_agg(tandem._target_name(t.table_id, k.name) ORDER BY k.position)
    FROM tandem.source_table AS t, unnest(t.key_columns) WITH ORDINALITY AS k(name, position) WHERE t.table_id = _target_key_columns.table_id);
END
$$;
COMMENT ON FUNCTION tandem._target_key_columns(integer) IS 'columns of the target that hold the old key, in key order';

CREATE FUNCTION tandem._key_types(table_id integer) RETURNS text[]
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN (
    SELECT array_agg(c.image_type ORDER BY k.position)
    FROM tandem.source_table AS t CROSS JOIN LATERAL unnest(t.key_columns) WITH ORDINALITY AS k(name, position)
    JOIN tandem.source_column AS c ON c.table_id = t.table_id AND c.name = k.name WHERE t.table_id = _key_types.table_id);
END
$$;
COMMENT ON FUNCTION tandem._key_types(integer) IS 'image types of the old key, in key order';

CREATE FUNCTION tandem._reverse_expressions(table_id integer) RETURNS TABLE (ordinal integer, name text, image_type text, expression text)
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY
    SELECT c.ordinal, c.name, c.image_type,
           CASE WHEN c.generated THEN NULL
                ELSE coalesce(r.expression, 't.' || quote_ident(tandem._target_name(c.table_id, c.name))) END
    FROM tandem.source_column AS c LEFT JOIN tandem.reverse_column AS r ON r.table_id = c.table_id AND r.name = c.name
    WHERE c.table_id = _reverse_expressions.table_id;
END
$$;
COMMENT ON FUNCTION tandem._reverse_expressions(integer) IS 'for each old column the SQL over a row t of the target that gives it back, NULL where there is none';

CREATE FUNCTION tandem._reverse_obstacles(table_id integer) RETURNS SETOF text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN QUERY
    SELECT 'it has a filter: rows outside of it could not be told from rows of others' FROM tandem.source_table AS t
    WHERE t.table_id = _reverse_obstacles.table_id AND t.filter IS NOT NULL
    UNION ALL
    SELECT 'its target is shared with other tables' FROM tandem.source_table AS t
    WHERE t.table_id = _reverse_obstacles.table_id
      AND (t.constants <> '{}' OR EXISTS (SELECT FROM tandem.source_table AS o WHERE o.target = t.target AND o.table_id <> t.table_id))
    UNION ALL
    SELECT format('old column "%s" is in the target only as part of an expression (%s); declare the way back: SELECT tandem.set_reverse(%L, ''{"%s": "…"}'');',
                  e.name, (SELECT string_agg(quote_ident(m.name), ', ') FROM tandem.target_column AS m
                           WHERE m.table_id = _reverse_obstacles.table_id AND m.expression ~ ('\m' || regexp_replace(e.name, '(\W)', '\\\1', 'g') || '\M')),
                  tandem._table_label(_reverse_obstacles.table_id), e.name)
    FROM tandem._reverse_expressions(_reverse_obstacles.table_id) AS e
    JOIN tandem.source_column AS c ON c.table_id = _reverse_obstacles.table_id AND c.ordinal = e.ordinal
    WHERE e.expression IS NULL AND NOT c.generated
      AND EXISTS (SELECT FROM tandem.target_column AS m
                  WHERE m.table_id = _reverse_obstacles.table_id AND m.expression ~ ('\m' || regexp_replace(e.name, '(\W)', '\\\1', 'g') || '\M'));
END
$$;
COMMENT ON FUNCTION tandem._reverse_obstacles(integer) IS 'why rows of the target cannot be written back to the old table, one line each';

CREATE FUNCTION tandem.set_reverse("table" text, columns jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  chosen tandem.source_table;
  one record;
  old_column tandem.source_column;
BEGIN
  SELECT t.* INTO STRICT chosen FROM tandem.source_table AS t WHERE t.table_id = tandem._table_id("table") FOR UPDATE;
  PERFORM tandem._refuse_foreign_target(chosen.target);
  IF jsonb_typeof(columns) IS DISTINCT FROM 'object' THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'columns must be an object of old columns',
      HINT = 'For example ''{"is_admin": "CASE WHEN is_admin THEN 1 ELSE 0 END"}''; null takes an expression back.';
  END IF;
  FOR one IN SELECT c.key AS name, c.value AS expression FROM jsonb_each_text(columns) AS c LOOP
    SELECT c.* INTO old_column FROM tandem.source_column AS c WHERE c.table_id = chosen.table_id AND c.name = one.name;
    IF NOT FOUND THEN
      RAISE EXCEPTION USING ERRCODE = 'undefined_column',
        MESSAGE = format('column "%s" of old table "%s" does not exist', one.name, tandem._table_label(chosen.table_id));
    ELSIF one.name = ANY (chosen.key_columns) THEN
      RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
        MESSAGE = format('column "%s" is part of the key, which the target holds as it is', one.name);
    END IF;
    DELETE FROM tandem.reverse_column AS r WHERE r.table_id = chosen.table_id AND r.name = one.name;
    IF one.expression IS NOT NULL THEN
      BEGIN
        EXECUTE format('SELECT CAST((%s) AS %s) FROM %s AS t LIMIT 0', one.expression, old_column.image_type, chosen.target);
      EXCEPTION WHEN syntax_error OR undefined_column OR undefined_function OR cannot_coerce OR datatype_mismatch THEN
        RAISE EXCEPTION USING ERRCODE = SQLSTATE,
          MESSAGE = format('expression for old column "%s" cannot be used: %s', one.name, SQLERRM),
          DETAIL = format('It must give %s from the columns of %s.', old_column.image_type, chosen.target);
      END;
      INSERT INTO tandem.reverse_column (table_id, name, expression) VALUES (chosen.table_id, one.name, '(' || one.expression || ')');
    END IF;
  END LOOP;
  PERFORM tandem._config_changed();
END
$$;
COMMENT ON FUNCTION tandem.set_reverse(text, jsonb) IS
  'declares how old columns are computed from the target''s, where the mapping is an expression: old column → expression, null takes it back. Needed before a cut-over with the way back';

-- --- capture on the target --------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem._capture_back_statement(table_id integer) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  -- In a database restored from a dump the trigger may be there, but the table is registered only.
  SELECT format('INSERT INTO tandem.reverse_outbox (table_id, key) SELECT %1$s, %2$s WHERE EXISTS (SELECT FROM tandem.phase AS p'
                ' WHERE p.table_id OPERATOR(pg_catalog.=) %1$s AND p.phase OPERATOR(pg_catalog.<>) ''registered'')', table_id,
                tandem._tuple_of(ARRAY(SELECT '$' || n FROM generate_subscripts(t.key_columns, 1) AS n), tandem._key_types(table_id)))
  FROM tandem.source_table AS t WHERE t.table_id = _capture_back_statement.table_id
$$;
COMMENT ON FUNCTION tandem._capture_back_statement(integer) IS 'statement by which the capture on a target records a key, whose columns are its parameters';

CREATE FUNCTION tandem._capture_back() RETURNS trigger
LANGUAGE c SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tandem_capture_back';
COMMENT ON FUNCTION tandem._capture_back() IS 'trigger on a target that is the source of truth: records the keys of changed rows in the writer''s transaction';

CREATE FUNCTION tandem._refuse_truncate() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
    MESSAGE = format('table %s cannot be truncated while the old side follows it', TG_RELID::regclass),
    HINT = 'Use DELETE, or give up the way back with tandem.contract first.';
END
$$;
COMMENT ON FUNCTION tandem._refuse_truncate() IS 'trigger on a target that is the source of truth: TRUNCATE names no keys';

CREATE FUNCTION tandem._trigger_on(target regclass, trigger_name name) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT EXISTS (SELECT FROM pg_trigger AS g WHERE g.tgrelid = target AND g.tgname = trigger_name AND g.tgenabled <> 'D') $$;
COMMENT ON FUNCTION tandem._trigger_on(regclass, name) IS 'whether a trigger is there and enabled';

-- Triggers for each row hold for partitions by themselves, also for those that come later. Triggers for a statement do not: a TRUNCATE may name a
-- partition.
CREATE FUNCTION tandem._partitions(target regclass) RETURNS SETOF regclass
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT p.relid FROM pg_partition_tree(target) AS p WHERE p.relid <> target ORDER BY p.relid $$;
COMMENT ON FUNCTION tandem._partitions(regclass) IS 'all partitions of a target, those of partitions as well';

CREATE FUNCTION tandem._on_partitions(target regclass, command text, with_trigger name DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  part regclass;
BEGIN
  FOR part IN SELECT p FROM tandem._partitions(target) AS p WHERE with_trigger IS NULL OR tandem._trigger_on(p, with_trigger) LOOP
    EXECUTE format(command, part);
  END LOOP;
END
$$;
COMMENT ON FUNCTION tandem._on_partitions(regclass, text, name) IS
  'runs a command for each partition of a target, whose name comes in place of %s; only for those that have this trigger enabled, if one is named';

CREATE FUNCTION tandem._install_capture_back(table_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  target regclass := (SELECT t.target FROM tandem.source_table AS t WHERE t.table_id = _install_capture_back.table_id);
BEGIN
  -- Replaced and not dropped: that would wait for readers.
  EXECUTE format('CREATE OR REPLACE TRIGGER tandem_capture_back AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION tandem._capture_back(%s)',
                 target, (SELECT string_agg(quote_literal(a), ', ' ORDER BY n)
                          FROM unnest(ARRAY[table_id::text] || tandem._target_key_columns(table_id)::text[]) WITH ORDINALITY AS u(a, n)));
  EXECUTE format('CREATE OR REPLACE TRIGGER tandem_refuse_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION tandem._refuse_truncate()', target);
  -- Also for writers with session_replication_role = replica, such as a subscription.
  EXECUTE format('ALTER TABLE %s ENABLE ALWAYS TRIGGER tandem_capture_back, ENABLE ALWAYS TRIGGER tandem_refuse_truncate', target);
  PERFORM tandem._on_partitions(target, 'CREATE OR REPLACE TRIGGER tandem_refuse_truncate BEFORE TRUNCATE ON %s FOR EACH STATEMENT EXECUTE FUNCTION tandem._refuse_truncate()');
  PERFORM tandem._on_partitions(target, 'ALTER TABLE %s ENABLE ALWAYS TRIGGER tandem_refuse_truncate');
END
$$;
COMMENT ON FUNCTION tandem._install_capture_back(integer) IS 'capture on a target; whoever writes to it from the commit on is recorded';

CREATE FUNCTION tandem._rest_capture_back(table_id integer) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  target regclass := (SELECT t.target FROM tandem.source_table AS t WHERE t.table_id = _rest_capture_back.table_id);
BEGIN
  IF tandem._trigger_on(target, 'tandem_capture_back') THEN
    EXECUTE format('ALTER TABLE %s DISABLE TRIGGER tandem_capture_back, DISABLE TRIGGER tandem_refuse_truncate', target);
    PERFORM tandem._on_partitions(target, 'ALTER TABLE %s DISABLE TRIGGER tandem_refuse_truncate', 'tandem_refuse_truncate');
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._rest_capture_back(integer) IS 'ends the capture on a target, without waiting for its readers as a removal would';

CREATE FUNCTION tandem._remove_capture_back(table_id integer) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  target regclass := (SELECT t.target FROM tandem.source_table AS t WHERE t.table_id = _remove_capture_back.table_id);
  there boolean := EXISTS (SELECT FROM pg_trigger AS g WHERE g.tgrelid = target AND g.tgname = 'tandem_capture_back');
BEGIN
  IF there THEN
    EXECUTE format('DROP TRIGGER IF EXISTS tandem_capture_back ON %s', target);
    EXECUTE format('DROP TRIGGER IF EXISTS tandem_refuse_truncate ON %s', target);
    PERFORM tandem._on_partitions(target, 'DROP TRIGGER IF EXISTS tandem_refuse_truncate ON %s');
  END IF;
  RETURN there;
END
$$;
COMMENT ON FUNCTION tandem._remove_capture_back(integer) IS 'takes the capture on a target away; false: there was none';

-- --- what the worker calls --------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem.reverse_tables(source_id integer, epoch bigint) RETURNS jsonb
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM tandem._refuse_other_epoch(source_id, epoch);
  RETURN (SELECT coalesce(jsonb_agg(jsonb_build_object('table_id', t.table_id, 'known',
                   (SELECT jsonb_agg(e.expression IS NOT NULL ORDER BY e.ordinal) FROM tandem._reverse_expressions(t.table_id) AS e)) ORDER BY t.table_id), '[]')
          FROM tandem.source_table AS t JOIN tandem.phase AS p USING (table_id)
          WHERE t.source_id = reverse_tables.source_id AND p.phase IN ('new_primary', 'closing'));
END
$$;
COMMENT ON FUNCTION tandem.reverse_tables(integer, bigint) IS 'tables whose changes go back to the old side, and which of their old columns the target knows';

CREATE FUNCTION tandem.reverse_events(source_id integer, "limit" integer) RETURNS TABLE (event_id bigint, table_id integer, key text, age_ms double precision)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  (SELECT o.event_id, o.table_id, encode(o.key, 'hex'), extract(epoch FROM clock_timestamp() - o.at)::double precision * 1000
   FROM tandem.reverse_outbox AS o JOIN tandem.source_table AS t USING (table_id) JOIN tandem.phase AS p USING (table_id)
   WHERE t.source_id = reverse_events.source_id AND p.phase IN ('new_primary', 'closing') ORDER BY o.event_id LIMIT reverse_events."limit")
  UNION ALL
  (SELECT NULL, l.table_id, encode(l.key, 'hex'), NULL
   FROM tandem.reverse_letter AS l JOIN tandem.source_table AS t USING (table_id) JOIN tandem.phase AS p USING (table_id)
   WHERE t.source_id = reverse_events.source_id AND p.phase IN ('new_primary', 'closing') AND NOT l.dead AND l.next_attempt <= clock_timestamp()
   ORDER BY l.next_attempt LIMIT reverse_events."limit")
$$;
COMMENT ON FUNCTION tandem.reverse_events(integer, integer) IS 'oldest events of the new side, and keys that are due to be tried again (without event_id)';

CREATE FUNCTION tandem._query_as_owner(owner oid, query text, keys bytea[], texts jsonb) RETURNS TABLE (key text, image text)
LANGUAGE c STABLE STRICT AS 'MODULE_PATHNAME', 'tandem_query_as_owner';
COMMENT ON FUNCTION tandem._query_as_owner(oid, text, bytea[], jsonb) IS
  'runs a query of two parameters with the rights of a role; the expressions in it are that role''s';

CREATE FUNCTION tandem._reverse_query(table_id integer) RETURNS text
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
BEGIN
  RETURN (
    SELECT format('SELECT pg_catalog.encode(tandem_k.tandem_key, ''hex''), pg_catalog.encode(CASE WHEN t.ctid IS NOT NULL AND %4$s OPERATOR(pg_catalog.=) tandem_k.tandem_key THEN %1$s END, ''hex'')'
                  ' FROM (SELECT u.tandem_key, $2 OPERATOR(pg_catalog.->) (u.tandem_n::pg_catalog.int4 OPERATOR(pg_catalog.-) 1) AS tandem_texts'
                  ' FROM pg_catalog.unnest($1) WITH ORDINALITY AS u (tandem_key, tandem_n) OFFSET 0) AS tandem_k LEFT JOIN %3$s AS t ON %5$s',
                  (SELECT tandem._tuple_of(array_agg(e.expression ORDER BY e.ordinal), array_agg(e.image_type ORDER BY e.ordinal))
                   FROM tandem._reverse_expressions(table_id) AS e),
                  table_id, t.target,
                  tandem._tuple_of(ARRAY(SELECT 't.' || quote_ident(k) FROM unnest(tandem._target_key_columns(table_id)) AS k), tandem._key_types(table_id)),
                  (SELECT string_agg(format('t.%I = (tandem_k.tandem_texts OPERATOR(pg_catalog.->>) %s)::%s', k, n - 1, format_type(a.atttypid, a.atttypmod)), ' AND ' ORDER BY n)
                   FROM unnest(tandem._target_key_columns(table_id)) WITH ORDINALITY AS u(k, n)
                   JOIN pg_attribute AS a ON a.attrelid = t.target AND a.attname = k AND NOT a.attisdropped))
    FROM tandem.source_table AS t WHERE t.table_id = _reverse_query.table_id);
END
$$;
COMMENT ON FUNCTION tandem._reverse_query(integer) IS 'query for the images of the rows of keys $1, whose text forms are $2';

CREATE FUNCTION tandem._reverse_rows(table_id integer, keys bytea[]) RETURNS TABLE (key text, image text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT q.key, q.image
  FROM tandem.source_table AS t JOIN pg_class AS c ON c.oid = t.target
  CROSS JOIN LATERAL tandem._query_as_owner(c.relowner, tandem._reverse_query(t.table_id), keys,
    (SELECT coalesce(jsonb_agg(to_jsonb(tandem.key_text(t.table_id, k.key)) ORDER BY k.n), '[]') FROM unnest(keys) WITH ORDINALITY AS k(key, n))) AS q
  WHERE t.table_id = _reverse_rows.table_id
$$;
COMMENT ON FUNCTION tandem._reverse_rows(integer, bytea[]) IS 'images of the rows of these keys, in hexadecimal';

CREATE FUNCTION tandem.reverse_rows(table_id integer, keys text[]) RETURNS TABLE (key text, image text, sqlstate text, message text)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  wanted bytea[] := ARRAY(SELECT decode(k, 'hex') FROM unnest(keys) AS k);
  one bytea;
BEGIN
  BEGIN
    RETURN QUERY SELECT r.key, r.image, NULL::text, NULL::text FROM tandem._reverse_rows(table_id, wanted) AS r;
    RETURN;
  EXCEPTION WHEN data_exception OR integrity_constraint_violation OR raise_exception THEN
    NULL; -- some row of them: one by one
  END;
  FOREACH one IN ARRAY wanted LOOP
    BEGIN
      RETURN QUERY SELECT r.key, r.image, NULL::text, NULL::text FROM tandem._reverse_rows(table_id, ARRAY[one]) AS r;
    EXCEPTION WHEN data_exception OR integrity_constraint_violation OR raise_exception THEN
      RETURN QUERY SELECT encode(one, 'hex'), NULL::text, SQLSTATE, SQLERRM;
    END;
  END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.reverse_rows(integer, text[]) IS
  'images of the rows of these keys as the old side would hold them, all in hexadecimal; no image: the row is absent, or there is an error';

CREATE FUNCTION tandem.reverse_done(source_id integer, epoch bigint, event_ids bigint[], results jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM tandem._refuse_other_epoch(source_id, epoch);
  DELETE FROM tandem.reverse_outbox AS o WHERE o.event_id = ANY (event_ids);
  -- A later state of a row that was taken ends what an earlier one had met.
  DELETE FROM tandem.reverse_letter AS l USING jsonb_array_elements(results -> 'tables') AS t, jsonb_array_elements_text(t -> 'taken') AS k
  WHERE l.table_id = (t ->> 'table_id')::integer AND l.key = decode(k, 'hex');
  INSERT INTO tandem.reverse_letter AS l (table_id, key, dead, sqlstate, message, next_attempt)
  SELECT (t ->> 'table_id')::integer, decode(r ->> 'key', 'hex'), NOT (r ->> 'may_pass')::boolean, r ->> 'sqlstate', r ->> 'message',
         clock_timestamp() + interval '0.2 s'
  FROM jsonb_array_elements(results -> 'tables') AS t, jsonb_array_elements(t -> 'refused') AS r
  ON CONFLICT (table_id, key) DO UPDATE SET attempts = l.attempts + 1, sqlstate = excluded.sqlstate, message = excluded.message,
    dead = excluded.dead OR l.attempts + 1 >= current_setting('tandem.max_attempts')::integer,
    next_attempt = clock_timestamp() + least(interval '0.2 s' * 2 ^ least(l.attempts, 12), current_setting('tandem.retry_backoff_max')::interval);
  -- For reconciliation (docs/protocol.md section 13): who does not see this does not see what it acknowledges.
  PERFORM tandem._journal((t ->> 'table_id')::integer,
                          ARRAY(SELECT decode(k, 'hex') FROM jsonb_array_elements_text(t -> 'taken') AS k
                                UNION ALL SELECT decode(r ->> 'key', 'hex') FROM jsonb_array_elements(t -> 'refused') AS r))
  FROM jsonb_array_elements(results -> 'tables') AS t;
  INSERT INTO tandem.reverse_stats AS s (table_id, batches, rows, refused, latency_ms, slowest_ms, last_written)
  SELECT (t ->> 'table_id')::integer, 1, jsonb_array_length(t -> 'taken'), jsonb_array_length(t -> 'refused'), (t ->> 'age_ms')::double precision,
         (t ->> 'age_ms')::double precision, clock_timestamp()
  FROM jsonb_array_elements(results -> 'tables') AS t
  ON CONFLICT (table_id) DO UPDATE SET batches = s.batches + 1, rows = s.rows + excluded.rows, refused = s.refused + excluded.refused,
    latency_ms = coalesce(excluded.latency_ms, s.latency_ms), slowest_ms = greatest(s.slowest_ms, excluded.slowest_ms), last_written = excluded.last_written;
END
$$;
COMMENT ON FUNCTION tandem.reverse_done(integer, bigint, bigint[], jsonb) IS
  'exactly these events are written to the old side, committed there; what it refused is kept to be tried again or as a dead letter';

CREATE FUNCTION tandem.retry_reverse_letters("table" text DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  wanted integer := CASE WHEN "table" IS NOT NULL THEN tandem._table_id("table") END;
  asked bigint;
BEGIN
  UPDATE tandem.reverse_letter AS l SET dead = false, attempts = 0, next_attempt = now() WHERE wanted IS NULL OR l.table_id = wanted;
  GET DIAGNOSTICS asked = ROW_COUNT;
  RETURN asked;
END
$$;
COMMENT ON FUNCTION tandem.retry_reverse_letters(text) IS
  'has the rows that the old side did not take written again as they are now, of one table or of all. Returns how many';

-- --- what people see --------------------------------------------------------------------------------------------------------------

CREATE VIEW tandem.reverse_letters AS
  SELECT s.name AS source, t.name AS "table", tandem.decode_key(l.table_id, l.key) AS key, l.dead, l.attempts, l.sqlstate, l.message, l.first_failed,
         CASE WHEN NOT l.dead THEN l.next_attempt END AS next_attempt
  FROM tandem.reverse_letter AS l JOIN tandem.source_table AS t USING (table_id) JOIN tandem.source AS s USING (source_id);
COMMENT ON VIEW tandem.reverse_letters IS 'rows of the new side that the old side did not take as they are now';
COMMENT ON COLUMN tandem.reverse_letters.source IS 'source of the table';
COMMENT ON COLUMN tandem.reverse_letters."table" IS 'old table';
COMMENT ON COLUMN tandem.reverse_letters.key IS 'key of the row';
COMMENT ON COLUMN tandem.reverse_letters.dead IS 'it is not tried again by itself; a later change of the row is';
COMMENT ON COLUMN tandem.reverse_letters.attempts IS 'how often it was tried';
COMMENT ON COLUMN tandem.reverse_letters.sqlstate IS 'of the last error';
COMMENT ON COLUMN tandem.reverse_letters.message IS 'the last error';
COMMENT ON COLUMN tandem.reverse_letters.first_failed IS 'when it was first tried';
COMMENT ON COLUMN tandem.reverse_letters.next_attempt IS 'when it is tried next, NULL for a dead letter';

CREATE VIEW tandem.pg_stat_tandem_reverse AS
  SELECT s.name AS source, t.name AS "table", t.target, p.phase, coalesce(o.waiting, 0) AS lag_rows,
         coalesce(extract(epoch FROM clock_timestamp() - o.oldest)::double precision, 0) AS lag_seconds, coalesce(r.batches, 0) AS batches, coalesce(r.rows, 0) AS rows,
         coalesce(r.refused, 0) AS refused,
         (SELECT count(*) FROM tandem.reverse_letter AS l WHERE l.table_id = t.table_id AND NOT l.dead) AS retry_rows,
         (SELECT count(*) FROM tandem.reverse_letter AS l WHERE l.table_id = t.table_id AND l.dead) AS dead_letters,
         r.latency_ms, r.slowest_ms, r.last_written
  FROM tandem.source_table AS t JOIN tandem.source AS s USING (source_id) JOIN tandem.phase AS p USING (table_id)
  LEFT JOIN tandem.reverse_stats AS r USING (table_id)
  LEFT JOIN LATERAL (SELECT count(*) AS waiting, min(e.at) AS oldest FROM tandem.reverse_outbox AS e WHERE e.table_id = t.table_id) AS o ON true
  WHERE p.phase IN ('new_primary', 'closing');
COMMENT ON VIEW tandem.pg_stat_tandem_reverse IS 'one row for each table whose source of truth is the new side: how the old side follows';
COMMENT ON COLUMN tandem.pg_stat_tandem_reverse.source IS 'source of the table';
COMMENT ON COLUMN tandem.pg_stat_tandem_reverse."table" IS 'old table';
COMMENT ON COLUMN tandem.pg_stat_tandem_reverse.target IS 'table of this database';
COMMENT ON COLUMN tandem.pg_stat_tandem_reverse.phase IS 'new_primary or closing';
COMMENT ON COLUMN tandem.pg_stat_tandem_reverse.lag_rows IS 'changes that the old side does not have yet';
COMMENT ON COLUMN tandem.pg_stat_tandem_reverse.lag_seconds IS 'age of the oldest of them';
COMMENT ON COLUMN tandem.pg_stat_tandem_reverse.batches IS 'transactions on the old side';
COMMENT ON COLUMN tandem.pg_stat_tandem_reverse.rows IS 'rows written or removed there';
COMMENT ON COLUMN tandem.pg_stat_tandem_reverse.refused IS 'attempts of rows that the old side did not take';
COMMENT ON COLUMN tandem.pg_stat_tandem_reverse.retry_rows IS 'rows that wait to be tried again now';
COMMENT ON COLUMN tandem.pg_stat_tandem_reverse.dead_letters IS 'rows that the old side does not take, see tandem.reverse_letters';
COMMENT ON COLUMN tandem.pg_stat_tandem_reverse.latency_ms IS 'from the write here to the commit there, oldest row of the last transaction';
COMMENT ON COLUMN tandem.pg_stat_tandem_reverse.slowest_ms IS 'the greatest of these';
COMMENT ON COLUMN tandem.pg_stat_tandem_reverse.last_written IS 'when rows were last written to the old side';

GRANT SELECT ON tandem.pg_stat_tandem_reverse TO tandem_monitor, pg_monitor;
GRANT SELECT ON tandem.reverse_letters TO tandem_admin;
GRANT SELECT, INSERT, DELETE ON tandem.reverse_column TO tandem_admin;
GRANT SELECT ON tandem.reverse_outbox, tandem.reverse_letter, tandem.reverse_stats TO tandem_admin;
GRANT UPDATE (dead, attempts, next_attempt), DELETE ON tandem.reverse_letter TO tandem_admin;
GRANT EXECUTE ON FUNCTION tandem.reverse_tables(integer, bigint), tandem.reverse_events(integer, integer), tandem.reverse_rows(integer, text[]),
  tandem.reverse_done(integer, bigint, bigint[], jsonb) TO tandem_worker;
