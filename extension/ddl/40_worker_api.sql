-- What tandem-sync calls (docs/protocol.md section 5), and the functions beside it that wait or wake in shared memory.
-- Functions for the worker are SECURITY DEFINER: tandem_worker has no rights on the tables but to COPY into the queue.

-- --- waking, for the functions and triggers of this extension ----------------------------------------------------------------------

CREATE FUNCTION tandem._config_changed() RETURNS void
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tandem_config_changed';
COMMENT ON FUNCTION tandem._config_changed() IS 'worker and apply read the configuration again when the current transaction commits';

CREATE FUNCTION tandem._requests_changed() RETURNS void
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tandem_notify_waiters';
COMMENT ON FUNCTION tandem._requests_changed() IS 'whoever waits for something committed looks again when the current transaction commits';

CREATE FUNCTION tandem._wake_apply() RETURNS void
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tandem_wake_apply';
COMMENT ON FUNCTION tandem._wake_apply() IS 'wakes the apply worker when the current transaction commits';

-- --- hello and settings -----------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem._library_version() RETURNS text
LANGUAGE c STABLE AS 'MODULE_PATHNAME', 'tandem_library_version';
COMMENT ON FUNCTION tandem._library_version() IS 'version of the loaded library';

CREATE FUNCTION tandem._register_session(worker text) RETURNS void
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'tandem_register_session';
COMMENT ON FUNCTION tandem._register_session(text) IS 'notes in shared memory that the current session belongs to a worker';

CREATE FUNCTION tandem.worker_settings() RETURNS jsonb
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tandem_worker_settings';
COMMENT ON FUNCTION tandem.worker_settings() IS 'settings of the server that the worker follows';

CREATE FUNCTION tandem.worker_hello(version text, worker text) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  installed text := (SELECT e.extversion FROM pg_extension AS e WHERE e.extname = 'pg_tandem');
  loaded text := tandem._library_version();
BEGIN
  IF installed <> loaded THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('extension pg_tandem is at version %s, but the server has loaded version %s', installed, loaded),
      HINT = 'Restart the server if the package was upgraded, then run ALTER EXTENSION pg_tandem UPDATE;';
  ELSIF version IS DISTINCT FROM installed THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('tandem-sync %s does not fit extension pg_tandem %s', coalesce(version, 'without a version'), installed),
      DETAIL = 'Both sides must have the same version.',
      HINT = format('Install tandem-sync %s, or upgrade the extension.', installed);
  ELSIF coalesce(worker, '') = '' THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'a worker needs a name';
  END IF;
  PERFORM tandem._register_session(worker);
  RETURN tandem.worker_settings();
END
$$;
COMMENT ON FUNCTION tandem.worker_hello(text, text) IS 'first call of every session of a worker: refuses another version, registers the session, returns the settings';

-- --- connections to old servers ---------------------------------------------------------------------------------------------------

CREATE TYPE tandem.connection AS (
  source_id integer, name text, database text, metadata_database text, host text, port integer, username text, password text,
  password_ref text, tls text, ssl_ca text, ssl_capath text, ssl_cert text, ssl_key text, ssl_cipher text, hash text
);
COMMENT ON TYPE tandem.connection IS 'how a worker reaches an old server; hash changes when anything in it does';

CREATE FUNCTION tandem._options(options text[]) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(jsonb_object_agg(left(o, strpos(o, '=') - 1), substr(o, strpos(o, '=') + 1)), '{}') FROM unnest(options) AS o
$$;
COMMENT ON FUNCTION tandem._options(text[]) IS 'options of a foreign server or user mapping as an object';

CREATE FUNCTION tandem._server_options(server text) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  wrapper name;
  options text[];
BEGIN
  SELECT w.fdwname, s.srvoptions INTO wrapper, options
  FROM pg_foreign_server AS s JOIN pg_foreign_data_wrapper AS w ON w.oid = s.srvfdw WHERE s.srvname = server;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('server "%s" does not exist', server),
      HINT = format('CREATE SERVER %I FOREIGN DATA WRAPPER mysql_fdw OPTIONS (host ''…'', port ''3306'');', server);
  ELSIF wrapper <> 'mysql_fdw' THEN
    RAISE EXCEPTION USING ERRCODE = 'wrong_object_type', MESSAGE = format('server "%s" is not a server of mysql_fdw', server),
      DETAIL = format('It belongs to foreign-data wrapper "%s".', wrapper);
  END IF;
  RETURN tandem._options(options);
END
$$;
COMMENT ON FUNCTION tandem._server_options(text) IS 'options of a foreign server of mysql_fdw, or an error that says what is wrong';

-- The mapping of the role, else that of PUBLIC, as PostgreSQL itself chooses. Without a role: PUBLIC's, else the only one there is.
CREATE FUNCTION tandem._mapping_options(server text, mapping_role name) RETURNS jsonb
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  options text[];
  mappings bigint;
BEGIN
  SELECT m.umoptions INTO options
  FROM pg_user_mappings AS m
  WHERE m.srvname = server AND (m.umuser = 0 OR m.usename = mapping_role)
  ORDER BY m.umuser = 0 LIMIT 1;
  IF NOT FOUND AND mapping_role IS NULL THEN
    SELECT max(m.umoptions), count(*) INTO options, mappings FROM pg_user_mappings AS m WHERE m.srvname = server;
  END IF;
  IF mappings > 1 THEN
    RAISE EXCEPTION USING ERRCODE = 'ambiguous_parameter', MESSAGE = format('server "%s" has %s user mappings', server, mappings),
      HINT = 'Name the role whose mapping is meant, or create one for PUBLIC.';
  ELSIF options IS NULL AND NOT EXISTS (SELECT FROM pg_user_mappings AS m WHERE m.srvname = server
                                        AND (mapping_role IS NULL OR m.umuser = 0 OR m.usename = mapping_role)) THEN
    RAISE EXCEPTION USING ERRCODE = 'undefined_object',
      MESSAGE = CASE WHEN mapping_role IS NULL OR mapping_role = 'public' THEN format('server "%s" has no user mapping', server)
                     ELSE format('server "%s" has no user mapping for role "%s" or PUBLIC', server, mapping_role) END,
      HINT = format('CREATE USER MAPPING FOR %s SERVER %I OPTIONS (username ''…'', password ''…'');',
                    CASE WHEN mapping_role IS NULL OR mapping_role = 'public' THEN 'PUBLIC' ELSE quote_ident(mapping_role) END, server);
  END IF;
  RETURN tandem._options(options);
END
$$;
COMMENT ON FUNCTION tandem._mapping_options(text, name) IS 'options of the user mapping that counts for a role, or an error that says what is wrong';

CREATE FUNCTION tandem._connection_of(server text, database text, mapping_role name) RETURNS tandem.connection
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  options jsonb := tandem._server_options(server) || tandem._mapping_options(server, mapping_role);
  c tandem.connection;
BEGIN
  c.name := server;
  c.database := database;
  c.metadata_database := 'tandem';
  c.tls := 'auto';
  c.host := coalesce(options ->> 'host', '127.0.0.1');
  c.port := coalesce((options ->> 'port')::integer, 3306);
  c.username := options ->> 'username';
  c.password := options ->> 'password';
  c.ssl_ca := options ->> 'ssl_ca';
  c.ssl_capath := options ->> 'ssl_capath';
  c.ssl_cert := options ->> 'ssl_cert';
  c.ssl_key := options ->> 'ssl_key';
  c.ssl_cipher := options ->> 'ssl_cipher';
  RETURN c;
END
$$;
COMMENT ON FUNCTION tandem._connection_of(text, text, name) IS 'connection by a foreign server and its user mapping';

CREATE FUNCTION tandem.worker_server(server text, database text, mapping_role name DEFAULT NULL) RETURNS SETOF tandem.connection
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  c tandem.connection := tandem._connection_of(server, database, mapping_role);
BEGIN
  c.hash := md5(c::text);
  RETURN NEXT c;
END
$$;
COMMENT ON FUNCTION tandem.worker_server(text, text, name) IS 'connection to an old server that is not a source yet';

-- A source whose server or user mapping is gone is left out with a warning: the others go on.
CREATE FUNCTION tandem.worker_sources() RETURNS SETOF tandem.connection
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  source tandem.source;
  c tandem.connection;
  hint text;
BEGIN
  FOR source IN SELECT s.* FROM tandem.source AS s ORDER BY s.source_id LOOP
    BEGIN
      c := tandem._connection_of(source.server, source.database, source.mapping_role);
    EXCEPTION WHEN undefined_object OR wrong_object_type OR ambiguous_parameter THEN
      GET STACKED DIAGNOSTICS hint = PG_EXCEPTION_HINT;
      RAISE WARNING USING MESSAGE = format('source "%s" cannot be reached: %s', source.name, SQLERRM), HINT = hint;
      CONTINUE;
    END;
    c.source_id := source.source_id;
    c.name := source.name;
    c.metadata_database := source.metadata_database;
    c.tls := source.tls;
    c.password_ref := source.password_ref;
    c.hash := md5(c::text);
    RETURN NEXT c;
  END LOOP;
END
$$;
COMMENT ON FUNCTION tandem.worker_sources() IS 'connection of every source, with its secrets';

-- --- leases (model A: BUMP) -------------------------------------------------------------------------------------------------------

-- An epoch that was given out and then lost by a crash could be given out again, to another. So its commit waits for the disk.
CREATE FUNCTION tandem._commit_durably() RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT set_config('synchronous_commit', 'on', true) WHERE current_setting('synchronous_commit') <> 'remote_apply'
$$;
COMMENT ON FUNCTION tandem._commit_durably() IS 'makes the commit of the current transaction wait for the disk, whatever the setting is';

CREATE FUNCTION tandem._lease_end() RETURNS timestamptz
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT clock_timestamp() + current_setting('tandem.lease_ttl')::interval $$;
COMMENT ON FUNCTION tandem._lease_end() IS 'when a lease that is taken or renewed now will end';

CREATE FUNCTION tandem._leads(source_id integer, epoch bigint) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT EXISTS (SELECT FROM tandem.lease AS l WHERE l.source_id = _leads.source_id AND l.epoch = _leads.epoch) $$;
COMMENT ON FUNCTION tandem._leads(integer, bigint) IS 'whether this epoch is that of the lease; a lease that ended but was not taken by another still counts';

CREATE FUNCTION tandem._refuse_other_epoch(source_id integer, epoch bigint) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT tandem._leads(source_id, epoch) THEN
    RAISE EXCEPTION USING
      ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('epoch %s is not that of the lease of source %s', epoch, source_id),
      DETAIL = 'Another session has taken the lease.',
      HINT = 'Forget what was read and acquire the lease again.';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_other_epoch(integer, bigint) IS 'error for a worker that does not lead the source any more';

CREATE FUNCTION tandem.acquire_lease(source_id integer, holder text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_column
DECLARE
  next_epoch bigint;
BEGIN
  -- Whoever stands by asks often: look before locking.
  IF EXISTS (SELECT FROM tandem.lease AS l
             WHERE l.source_id = acquire_lease.source_id AND l.holder <> acquire_lease.holder AND l.expires_at > clock_timestamp()) THEN
    RETURN NULL;
  END IF;
  UPDATE tandem.epoch AS e SET epoch = e.epoch + 1 RETURNING e.epoch INTO STRICT next_epoch;
  INSERT INTO tandem.lease AS l (source_id, epoch, holder, expires_at)
  VALUES (acquire_lease.source_id, next_epoch, acquire_lease.holder, tandem._lease_end())
  ON CONFLICT (source_id) DO UPDATE SET epoch = excluded.epoch, holder = excluded.holder, expires_at = tandem._lease_end()
    WHERE l.holder = excluded.holder OR l.expires_at <= clock_timestamp();
  IF NOT FOUND THEN
    RETURN NULL; -- another one was faster; an epoch nobody has is no harm
  END IF;
  PERFORM tandem._commit_durably(), tandem._requests_changed();
  RETURN next_epoch;
EXCEPTION WHEN foreign_key_violation THEN
  RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('source %s does not exist', source_id);
END
$$;
COMMENT ON FUNCTION tandem.acquire_lease(integer, text) IS 'new epoch if the lease is free, has ended or is the holder''s own; NULL: another worker leads';

CREATE FUNCTION tandem.renew_lease(source_id integer, holder text, epoch bigint) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- Also after its end, if nobody took it meanwhile: the epoch is what fences, the row lock decides between two.
  UPDATE tandem.lease AS l SET expires_at = tandem._lease_end()
  WHERE l.source_id = renew_lease.source_id AND l.holder = renew_lease.holder AND l.epoch = renew_lease.epoch;
  RETURN FOUND;
END
$$;
COMMENT ON FUNCTION tandem.renew_lease(integer, text, bigint) IS 'keeps the lease for another tandem.lease_ttl; false: it is lost';

CREATE FUNCTION tandem.release_lease(source_id integer, holder text, epoch bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  UPDATE tandem.lease AS l SET expires_at = '-infinity'
  WHERE l.source_id = release_lease.source_id AND l.holder = release_lease.holder AND l.epoch = release_lease.epoch;
  PERFORM tandem._requests_changed();
END
$$;
COMMENT ON FUNCTION tandem.release_lease(integer, text, bigint) IS 'ends the lease now, so that another worker need not wait; batches already submitted still count';

-- --- configuration of tables ------------------------------------------------------------------------------------------------------

-- Foreign keys of the old side whose cascades change rows that no trigger sees.
CREATE VIEW tandem._cascade AS
  SELECT f.*
  FROM tandem.source_fk AS f
  WHERE f.on_delete IN ('CASCADE', 'SET NULL') OR f.on_update IN ('CASCADE', 'SET NULL');
COMMENT ON VIEW tandem._cascade IS 'foreign keys of the old side with an action that changes children';

CREATE FUNCTION tandem._table_columns(table_id integer) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(jsonb_agg(jsonb_build_object(
           'name', c.name, 'mysql_type', c.mysql_type, 'data_type', c.data_type, 'unsigned', c.is_unsigned, 'charset', c.charset,
           'collation', c.collation, 'image_type', c.image_type, 'nullable', c.nullable, 'generated', c.generated) ORDER BY c.ordinal), '[]')
  FROM tandem.source_column AS c WHERE c.table_id = _table_columns.table_id
$$;
COMMENT ON FUNCTION tandem._table_columns(integer) IS 'columns of an old table for the worker';

CREATE FUNCTION tandem._referenced_columns(t tandem.source_table, database text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(jsonb_agg(DISTINCT r.name), '[]')
  FROM tandem._cascade AS f, unnest(f.ref_columns) AS r(name)
  WHERE f.source_id = t.source_id AND f.parent_database = database AND f.parent = t.name
$$;
COMMENT ON FUNCTION tandem._referenced_columns(tandem.source_table, text) IS 'columns that a cascading foreign key of any table refers to';

CREATE FUNCTION tandem._cascade_parents(t tandem.source_table, database text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_object('table', f.parent)), '[]')
  FROM tandem._cascade AS f
  WHERE f.source_id = t.source_id AND f.child_database = database AND f.child = t.name AND f.parent_database = database
$$;
COMMENT ON FUNCTION tandem._cascade_parents(tandem.source_table, text) IS 'tables of the same database whose cascades change this one';

CREATE FUNCTION tandem._key_cascades(t tandem.source_table, database text) RETURNS jsonb
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(jsonb_agg(jsonb_build_object(
           'child_table_id', child.table_id, 'child', child.name, 'child_outbox', child.outbox, 'child_key_columns', child.key_columns,
           'columns', f.columns, 'ref_columns', f.ref_columns) ORDER BY child.table_id, f.name), '[]')
  FROM tandem.source_fk AS f
  JOIN tandem.source_table AS child ON child.source_id = f.source_id AND child.name = f.child
  JOIN tandem.table_state AS a ON a.table_id = child.table_id -- captured; others have no outbox
  WHERE f.source_id = t.source_id AND f.parent_database = database AND f.parent = t.name AND f.child_database = database
    AND f.on_update = 'CASCADE' AND f.columns && child.key_columns AND child.desired_state <> 'dropped'
$$;
COMMENT ON FUNCTION tandem._key_cascades(tandem.source_table, text) IS 'foreign keys with ON UPDATE CASCADE that change keys of captured children';

CREATE FUNCTION tandem.worker_tables(source_id integer) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(jsonb_agg(jsonb_build_object(
           'table_id', t.table_id, 'name', t.name, 'outbox', t.outbox, 'trigger_suffix', t.trigger_suffix,
           'desired_state', t.desired_state, 'state', coalesce(a.state, 'registered'),
           'backfill_done', coalesce(a.backfill_done, false), 'backfill_cursor', a.backfill_cursor,
           'key_columns', t.key_columns, 'columns', tandem._table_columns(t.table_id),
           'cascade_parents', tandem._cascade_parents(t, s.database),
           'referenced_columns', tandem._referenced_columns(t, s.database),
           'key_cascades', tandem._key_cascades(t, s.database)) ORDER BY t.table_id), '[]')
  FROM tandem.source_table AS t JOIN tandem.source AS s USING (source_id) LEFT JOIN tandem.table_state AS a USING (table_id)
  WHERE t.source_id = worker_tables.source_id
$$;
COMMENT ON FUNCTION tandem.worker_tables(integer) IS 'configuration of all tables of a source (docs/protocol.md 5.1)';

-- --- batches ----------------------------------------------------------------------------------------------------------------------

-- What the worker has still to acknowledge: few rows of a long journal.
CREATE INDEX journal_unfinished ON tandem.journal (batch_id) WHERE NOT finished;

GRANT INSERT (batch_id, table_id, op, flags, age_us, key, image) ON tandem.queue TO tandem_worker;

-- Does not look at the lease: apply does, in the transaction that counts.
CREATE FUNCTION tandem.submit_batch(batch_id bigint, source_id integer, epoch bigint, rows integer, bytes bigint, fetch_us integer, backfill jsonb DEFAULT NULL)
RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF batch_id >> 32 IS DISTINCT FROM epoch OR batch_id & 4294967295 = 0 OR epoch < 1 OR rows < 0 THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('batch %s of epoch %s is misnamed', batch_id, epoch),
      DETAIL = 'A batch is named by its epoch and a number counted from 1 within the epoch.';
  ELSIF backfill IS NOT NULL AND NOT (backfill ?& ARRAY['table_id', 'cursor', 'done', 'rows']) THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('backfill of batch %s lacks table_id, cursor, done or rows', batch_id);
  END IF;
  INSERT INTO tandem.batch (batch_id, source_id, epoch, rows, bytes, fetch_us, backfill)
  VALUES (batch_id, source_id, epoch, rows, bytes, fetch_us, backfill);
  PERFORM tandem._wake_apply();
END
$$;
COMMENT ON FUNCTION tandem.submit_batch(bigint, integer, bigint, integer, bigint, integer, jsonb) IS
  'ends a batch whose rows were copied to tandem.queue in the same transaction: apply takes it up at the commit';

CREATE FUNCTION tandem.finish_batches(batch_ids bigint[]) RETURNS void
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ UPDATE tandem.journal AS j SET finished = true WHERE j.batch_id = ANY (batch_ids) AND NOT j.finished $$;
COMMENT ON FUNCTION tandem.finish_batches(bigint[]) IS 'the outbox rows of these batches are deleted on the old side';

-- --- requests ---------------------------------------------------------------------------------------------------------------------

-- A request waits while its table has no outbox that is read.
CREATE VIEW tandem._takable_requests AS
  SELECT r.request_id, t.source_id, r.table_id, r.key_text, r.flags
  FROM tandem.request AS r JOIN tandem.source_table AS t USING (table_id) JOIN tandem.table_state AS a USING (table_id)
  WHERE t.desired_state = 'running' AND a.state IN ('backfilling', 'syncing');
COMMENT ON VIEW tandem._takable_requests IS 'requests of tables whose outbox is there and is read';

CREATE FUNCTION tandem.take_requests(source_id integer, "limit" integer) RETURNS TABLE (request_id bigint, table_id integer, key_text text[], flags integer)
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  SELECT r.request_id, r.table_id, r.key_text, r.flags
  FROM tandem._takable_requests AS r WHERE r.source_id = take_requests.source_id ORDER BY r.request_id LIMIT take_requests."limit"
$$;
COMMENT ON FUNCTION tandem.take_requests(integer, integer) IS 'keys to be put into outboxes; they stay until finish_requests';

CREATE FUNCTION tandem.finish_requests(ids bigint[]) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  DELETE FROM tandem.request AS r WHERE r.request_id = ANY (ids);
  PERFORM tandem._requests_changed();
END
$$;
COMMENT ON FUNCTION tandem.finish_requests(bigint[]) IS 'these keys are in their outboxes, committed on the old side';

-- --- states -----------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem.report_table(table_id integer, epoch bigint, state text, reason text, detail jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  source integer := (SELECT t.source_id FROM tandem.source_table AS t WHERE t.table_id = report_table.table_id);
BEGIN
  IF source IS NULL THEN
    RETURN; -- dropped meanwhile
  END IF;
  PERFORM tandem._refuse_other_epoch(source, epoch);
  UPDATE tandem.table_state AS a
  SET state = report_table.state, reason = report_table.reason, detail = coalesce(report_table.detail, '{}'), updated_at = clock_timestamp()
  WHERE a.table_id = report_table.table_id
    -- What apply has blocked (detail names the error) stays blocked until tandem.resume: the worker may not have heard of it yet.
    AND NOT (a.state = 'blocked' AND a.detail ? 'sqlstate' AND report_table.state IN ('backfilling', 'syncing'));
  PERFORM tandem._requests_changed();
END
$$;
COMMENT ON FUNCTION tandem.report_table(integer, bigint, text, text, jsonb) IS 'actual state of a table, from the worker that leads its source';

CREATE FUNCTION tandem._forget_table_stats(table_id integer) RETURNS void
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'tandem_forget_table_stats';
COMMENT ON FUNCTION tandem._forget_table_stats(integer) IS 'frees the counters of a table';

CREATE FUNCTION tandem.forget_table(table_id integer, epoch bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  forgotten tandem.source_table;
BEGIN
  SELECT t.* INTO forgotten FROM tandem.source_table AS t WHERE t.table_id = forget_table.table_id FOR UPDATE;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  PERFORM tandem._refuse_other_epoch(forgotten.source_id, epoch);
  IF forgotten.desired_state <> 'dropped' THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state', MESSAGE = format('table "%s" is not being dropped', forgotten.name),
      DETAIL = format('Its desired state is "%s".', forgotten.desired_state);
  END IF;
  DELETE FROM tandem.source_table AS t WHERE t.table_id = forget_table.table_id;
  PERFORM tandem._forget_table_stats(forget_table.table_id), tandem._requests_changed();
END
$$;
COMMENT ON FUNCTION tandem.forget_table(integer, bigint) IS 'the old side of a dropped table is clean: it leaves the catalog';

-- --- waiting ----------------------------------------------------------------------------------------------------------------------

-- Index scans only: the journal is long, and a plan made while it was short would be kept.
CREATE FUNCTION tandem.wait_events(source_id integer, epoch bigint, seen_generation bigint, timeout_ms integer,
  OUT acked bigint[], OUT fenced boolean, OUT generation bigint, OUT requests boolean, OUT barrier bigint)
LANGUAGE c VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET enable_seqscan = off
AS 'MODULE_PATHNAME', 'tandem_wait_events';
COMMENT ON FUNCTION tandem.wait_events(integer, bigint, bigint, integer) IS
  'waits until batches are acknowledged, the lease is lost, the configuration changes, requests or a barrier are there, or the time is over';

CREATE FUNCTION tandem._set_barrier_reached(source_id integer, barrier bigint) RETURNS void
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'tandem_set_barrier_reached';
COMMENT ON FUNCTION tandem._set_barrier_reached(integer, bigint) IS 'notes in shared memory how far a source has come, and wakes who waits for it';

CREATE FUNCTION tandem.reached_barrier(source_id integer, epoch bigint, barrier bigint) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM tandem._refuse_other_epoch(source_id, epoch);
  PERFORM tandem._set_barrier_reached(source_id, barrier);
END
$$;
COMMENT ON FUNCTION tandem.reached_barrier(integer, bigint, bigint) IS 'everything committed on the old side before this barrier was raised is applied';

CREATE FUNCTION tandem._raise_barriers() RETURNS integer
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tandem_raise_barriers';
COMMENT ON FUNCTION tandem._raise_barriers() IS 'raises the barrier of every source with running tables; returns how many there are';

CREATE FUNCTION tandem.wait_caught_up(timeout interval DEFAULT NULL) RETURNS boolean
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tandem_wait_caught_up';
COMMENT ON FUNCTION tandem.wait_caught_up(interval) IS
  'waits until everything that was committed on the old side before the call is applied, and no row waits to be retried; false when the time is over first. Without a timeout it waits as long as it takes. Dead letters do not hold it up';
GRANT EXECUTE ON FUNCTION tandem.wait_caught_up(interval) TO tandem_monitor;

-- --- questions --------------------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem._ask(question jsonb, timeout interval DEFAULT NULL) RETURNS SETOF jsonb
LANGUAGE c VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tandem_ask';
COMMENT ON FUNCTION tandem._ask(jsonb, interval) IS
  'has a worker ask the old side and returns its answer; gives up when it is silent for the timeout, by default tandem.question_timeout';

CREATE FUNCTION tandem._question_live(question_id bigint) RETURNS boolean
LANGUAGE c VOLATILE STRICT AS 'MODULE_PATHNAME', 'tandem_question_live';
COMMENT ON FUNCTION tandem._question_live(bigint) IS 'whether somebody waits for the answer';

CREATE FUNCTION tandem.next_question(timeout_ms integer) RETURNS TABLE (question_id bigint, question jsonb)
LANGUAGE c VOLATILE STRICT SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'MODULE_PATHNAME', 'tandem_next_question';
COMMENT ON FUNCTION tandem.next_question(integer) IS 'waits for a question and takes it; no row when none came, which may be before the time is over';

-- The row after the last one, seq 2147483647, tells that the answer has ended, and holds the error if there was one.
CREATE FUNCTION tandem.answer(question_id bigint, seq integer, payload jsonb, last boolean, error jsonb DEFAULT NULL) RETURNS boolean
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT tandem._question_live(question_id) THEN
    RETURN false;
  ELSIF seq < 0 OR seq = 2147483647 THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('sequence number %s of an answer is out of range', seq);
  END IF;
  IF payload IS NOT NULL THEN
    INSERT INTO tandem.answer (question_id, seq, payload) VALUES (question_id, seq, payload);
  END IF;
  IF last OR error IS NOT NULL THEN
    INSERT INTO tandem.answer (question_id, seq, payload) VALUES (question_id, 2147483647, error);
  END IF;
  PERFORM tandem._requests_changed();
  RETURN true;
END
$$;
COMMENT ON FUNCTION tandem.answer(bigint, integer, jsonb, boolean, jsonb) IS
  'one row of an answer, numbered upwards; last or an error ends it. False: nobody waits for it any more';

-- --- who may call -----------------------------------------------------------------------------------------------------------------

GRANT EXECUTE ON FUNCTION
  tandem.worker_hello(text, text), tandem.worker_settings(), tandem.worker_sources(), tandem.worker_server(text, text, name),
  tandem.acquire_lease(integer, text), tandem.renew_lease(integer, text, bigint), tandem.release_lease(integer, text, bigint),
  tandem.worker_tables(integer), tandem.submit_batch(bigint, integer, bigint, integer, bigint, integer, jsonb),
  tandem.wait_events(integer, bigint, bigint, integer), tandem.finish_batches(bigint[]),
  tandem.take_requests(integer, integer), tandem.finish_requests(bigint[]),
  tandem.report_table(integer, bigint, text, text, jsonb), tandem.forget_table(integer, bigint),
  tandem.reached_barrier(integer, bigint, bigint), tandem.next_question(integer),
  tandem.answer(bigint, integer, jsonb, boolean, jsonb)
TO tandem_worker;
