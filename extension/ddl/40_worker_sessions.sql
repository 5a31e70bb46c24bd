-- Who tandem-sync is and how it reaches the old servers (docs/protocol.md section 5), and what wakes others.
-- What tandem-sync calls is SECURITY DEFINER, here and in the next files: tandem_worker has no rights on the tables but to COPY into the queue.

-- --- waking, for the functions and triggers of this extension ---------------------------------------------------------------------

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

GRANT EXECUTE ON FUNCTION tandem.worker_hello(text, text), tandem.worker_settings(), tandem.worker_sources(), tandem.worker_server(text, text, name)
TO tandem_worker;
