-- Single rows: tandem.enqueue, dead letters. A row is addressed by its old key, a jsonb object of the key columns.
--
-- There is one way to write a row: it is fetched from the old side and applied. So enqueue and retry_dead_letters only ask for that
-- fetch (tandem.request → outbox → snapshot → apply), and the row as it is now arrives in its order. Applying the stored image of a dead letter
-- again would need a second way, and would not see a row that was mended on the old side behind the triggers' back.

CREATE FUNCTION tandem._request(table_id integer, key bytea, reason text) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO tandem.request (table_id, key_text, reason) VALUES (table_id, tandem.key_text(table_id, key), reason)
$$;
COMMENT ON FUNCTION tandem._request(integer, bytea, text) IS 'asks the worker to fetch a row again';

CREATE FUNCTION tandem._refuse_not_running(table_id integer) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  desired text := (SELECT t.desired_state FROM tandem.source_table AS t WHERE t.table_id = _refuse_not_running.table_id);
BEGIN
  IF desired NOT IN ('running', 'paused') THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('table "%s" is %s, so no row of it can be fetched', tandem._table_label(table_id), desired),
      HINT = CASE desired WHEN 'registered' THEN format('SELECT tandem.start(%L);', tandem._table_label(table_id)) END;
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_not_running(integer) IS 'error unless the table was started';

CREATE FUNCTION tandem.enqueue("table" text, key jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  wanted integer := tandem._table_id("table");
BEGIN
  PERFORM tandem._refuse_not_running(wanted);
  IF EXISTS (SELECT FROM tandem.phase AS p WHERE p.table_id = wanted AND p.phase = 'dual_write') THEN
    -- Nothing is to be waited for: the write to the target is known to have failed, and is counted.
    PERFORM tandem._expect_key(wanted, tandem.encode_key(wanted, key), 'ENQUEUE', interval '0');
  ELSE
    INSERT INTO tandem.request (table_id, key_text, reason, asked_by)
    VALUES (wanted, tandem.key_text(wanted, tandem.encode_key(wanted, key)), 'enqueue', session_user);
  END IF;
  PERFORM tandem._requests_changed();
END
$$;
COMMENT ON FUNCTION tandem.enqueue(text, jsonb) IS
  'has the row of that key, such as {"id": 42}, fetched and applied again after the commit; for an application whose second write failed. Asking twice does no harm';

CREATE FUNCTION tandem._dead_key(table_id integer, key jsonb) RETURNS bytea
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE WHEN key IS NULL THEN NULL
              WHEN jsonb_typeof(key) = 'object' AND key ->> 'bytes' ~ '^([0-9a-f]{2})*$' AND key - 'bytes' = '{}'
                   AND NOT EXISTS (SELECT FROM tandem.source_table AS t WHERE t.table_id = _dead_key.table_id AND 'bytes' = ANY (t.key_columns)) THEN
                decode(key ->> 'bytes', 'hex')
              ELSE tandem.encode_key(table_id, key) END
$$;
COMMENT ON FUNCTION tandem._dead_key(integer, jsonb) IS 'key bytes, NULL for no key; {"bytes": "…"} is a key that PostgreSQL cannot hold, as the view dead_letters shows it';

CREATE FUNCTION tandem.retry_dead_letters("table" text DEFAULT NULL, key jsonb DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  wanted integer := CASE WHEN "table" IS NOT NULL THEN tandem._table_id("table") END;
  wanted_key bytea;
  asked bigint;
  unfit bigint;
BEGIN
  IF wanted IS NULL AND key IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a key needs its table',
      HINT = 'SELECT tandem.retry_dead_letters(''source.table'', ''{"id": 42}'');';
  END IF;
  wanted_key := tandem._dead_key(wanted, key);
  PERFORM tandem._refuse_not_running(wanted) WHERE wanted IS NOT NULL;
  PERFORM tandem._request(d.table_id, d.key, 'retry of a dead letter')
  FROM tandem.dead_letter AS d JOIN tandem.source_table AS t USING (table_id)
  WHERE (wanted IS NULL OR d.table_id = wanted) AND (wanted_key IS NULL OR d.key = wanted_key)
    AND t.desired_state IN ('running', 'paused') AND tandem.decode_key(d.table_id, d.key) ?& t.key_columns;
  GET DIAGNOSTICS asked = ROW_COUNT;
  SELECT count(*) INTO unfit FROM tandem.dead_letter AS d JOIN tandem.source_table AS t USING (table_id)
  WHERE (wanted IS NULL OR d.table_id = wanted) AND (wanted_key IS NULL OR d.key = wanted_key) AND NOT tandem.decode_key(d.table_id, d.key) ?& t.key_columns;
  IF asked > 0 THEN
    PERFORM tandem._requests_changed();
  END IF;
  IF unfit > 0 THEN
    RAISE NOTICE USING MESSAGE = format('%s dead letters have keys that PostgreSQL cannot hold', unfit),
      HINT = 'They go when their rows are mended or deleted on the old side.';
  END IF;
  RETURN asked;
END
$$;
COMMENT ON FUNCTION tandem.retry_dead_letters(text, jsonb) IS
  'has the rows behind dead letters (all, of one table, of one key) fetched and applied again; returns how many. A dead letter goes when its row has been applied';

CREATE FUNCTION tandem.discard_dead_letter("table" text, key jsonb) RETURNS boolean
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  wanted integer := tandem._table_id("table");
BEGIN
  DELETE FROM tandem.dead_letter AS d WHERE d.table_id = wanted AND d.key = tandem._dead_key(wanted, discard_dead_letter.key);
  RETURN FOUND;
END
$$;
COMMENT ON FUNCTION tandem.discard_dead_letter(text, jsonb) IS
  'forgets one dead letter: its row stays different on the two sides until it changes again; false if there is none for the key';

CREATE VIEW tandem.dead_letters AS
  SELECT s.name AS source, t.name AS "table", t.target, tandem.decode_key(d.table_id, d.key) AS key, d.sqlstate, d.message, d.detail,
         CASE d.op WHEN 'D' THEN 'delete' ELSE 'write' END AS operation, d.attempts, d.first_failed, d.dead_since
  FROM tandem.dead_letter AS d JOIN tandem.source_table AS t USING (table_id) JOIN tandem.source AS s USING (source_id);
COMMENT ON VIEW tandem.dead_letters IS
  'rows that could not be applied, with the reason; messages may hold values, so it is for tandem_admin';
COMMENT ON COLUMN tandem.dead_letters.source IS 'source of the table';
COMMENT ON COLUMN tandem.dead_letters."table" IS 'old table';
COMMENT ON COLUMN tandem.dead_letters.target IS 'table of this database that lacks the change';
COMMENT ON COLUMN tandem.dead_letters.key IS 'key of the row on the old side, as enqueue and discard_dead_letter take it; one that PostgreSQL cannot hold as {"bytes": "…"}';
COMMENT ON COLUMN tandem.dead_letters.sqlstate IS 'SQLSTATE of the error that stopped the row';
COMMENT ON COLUMN tandem.dead_letters.message IS 'message of the error';
COMMENT ON COLUMN tandem.dead_letters.detail IS 'detail of the error';
COMMENT ON COLUMN tandem.dead_letters.operation IS 'write: the row exists on the old side, delete: it is gone there';
COMMENT ON COLUMN tandem.dead_letters.attempts IS 'how often it was tried';
COMMENT ON COLUMN tandem.dead_letters.first_failed IS 'when it failed first';
COMMENT ON COLUMN tandem.dead_letters.dead_since IS 'when it was given up';
