-- Sources: the old databases. tandem.add_source checks everything that can be checked before a table is added.

CREATE FUNCTION tandem._refuse_wrong_encoding() RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  encoding text := getdatabaseencoding();
BEGIN
  IF encoding <> 'UTF8' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'feature_not_supported',
      MESSAGE = format('database "%s" has encoding %s', current_database(), encoding),
      DETAIL = 'Text of the old side travels as UTF-8 and must fit without a conversion that could change it.',
      HINT = 'Use a database created with ENCODING ''UTF8'' TEMPLATE template0.';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_wrong_encoding() IS 'error unless the database is UTF8';

CREATE FUNCTION tandem._refuse_wrong_server(server name) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  wrapper name;
BEGIN
  SELECT w.fdwname INTO wrapper
  FROM pg_foreign_server AS s JOIN pg_foreign_data_wrapper AS w ON w.oid = s.srvfdw
  WHERE s.srvname = server;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'undefined_object',
      MESSAGE = format('server "%s" does not exist', server),
      HINT = format('CREATE SERVER %I FOREIGN DATA WRAPPER mysql_fdw OPTIONS (host ''…'', port ''3306'');', server);
  ELSIF wrapper <> 'mysql_fdw' THEN
    RAISE EXCEPTION USING
      ERRCODE = 'wrong_object_type',
      MESSAGE = format('server "%s" belongs to foreign data wrapper "%s"', server, wrapper),
      HINT = 'A source needs a server of mysql_fdw.';
  ELSIF NOT has_server_privilege(server, 'USAGE') THEN
    RAISE EXCEPTION USING
      ERRCODE = 'insufficient_privilege',
      MESSAGE = format('permission denied for foreign server %s', server),
      HINT = format('GRANT USAGE ON FOREIGN SERVER %I TO %I;', server, current_user);
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_wrong_server(name) IS 'error unless the server is one of mysql_fdw that the current user may use';

CREATE FUNCTION tandem._mapping_role(server name) RETURNS name
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  mapped name;
BEGIN
  SELECT m.usename INTO mapped FROM pg_user_mappings AS m
  WHERE m.srvname = server AND m.usename IN (current_user, 'public')
  ORDER BY m.usename = current_user DESC LIMIT 1;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'undefined_object',
      MESSAGE = format('user mapping not found for "%s" on server "%s"', current_user, server),
      HINT = format('CREATE USER MAPPING FOR %I SERVER %I OPTIONS (username ''…'', password ''…'');', current_user, server);
  END IF;
  RETURN mapped;
END
$$;
COMMENT ON FUNCTION tandem._mapping_role(name) IS
  'role whose user mapping a source of the current user takes, public for the one of everybody';

CREATE FUNCTION tandem._connection(source tandem.source) RETURNS jsonb
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT jsonb_build_object('server', source.server, 'database', source.database, 'metadata_database', source.metadata_database,
                            'mapping_role', source.mapping_role, 'tls', source.tls, 'password_ref', source.password_ref)
$$;
COMMENT ON FUNCTION tandem._connection(tandem.source) IS 'part of a question that says which old database is asked';

CREATE FUNCTION tandem._refuse_unfit_server(facts jsonb, server name) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF (facts ->> 'read_only')::boolean THEN
    RAISE EXCEPTION USING
      ERRCODE = 'read_only_sql_transaction',
      MESSAGE = format('old server behind "%s" is read-only', server),
      DETAIL = 'Changes are captured by triggers where they are made; a replica or a read-only server cannot capture them.',
      HINT = 'Let the server''s host and port name the primary.';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_unfit_server(jsonb, name) IS 'error when the old server cannot be a source';

CREATE FUNCTION tandem.add_source(
  name text,
  server name,
  database text,
  metadata_database text DEFAULT 'tandem',
  tls text DEFAULT 'auto',
  password_ref text DEFAULT NULL
) RETURNS integer
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  source tandem.source;
BEGIN
  IF name IS NULL OR name = '' OR name LIKE '%.%' THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'name of a source must not be empty or contain a dot',
      HINT = 'Tables are addressed as source.table.';
  ELSIF EXISTS (SELECT FROM tandem.source AS s WHERE s.name = add_source.name) THEN
    RAISE EXCEPTION USING ERRCODE = 'duplicate_object', MESSAGE = format('source "%s" already exists', name),
      HINT = 'Choose another name, or drop it with tandem.drop_source.';
  ELSIF database = metadata_database THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value',
      MESSAGE = format('metadata database "%s" is the database that is moved', metadata_database),
      HINT = 'Outboxes need a database of their own, by default "tandem".';
  ELSIF tls NOT IN ('auto', 'verify', 'disable') THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('tls "%s" is not known', tls),
      HINT = 'Use auto, verify or disable.';
  ELSIF password_ref !~ '^(file:/|env:[A-Za-z_])' THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'password_ref is not a reference',
      HINT = 'Use file:/path/on/the/worker''s/host or env:NAME_OF_A_VARIABLE.';
  END IF;
  PERFORM tandem._refuse_wrong_encoding();
  PERFORM tandem._refuse_wrong_server(server);

  source.name := name;
  source.server := server;
  source.database := database;
  source.metadata_database := metadata_database;
  source.mapping_role := tandem._mapping_role(server);
  source.tls := tls;
  source.password_ref := password_ref;
  SELECT a INTO STRICT source.old_side
  FROM tandem._ask(jsonb_build_object('kind', 'connect') || tandem._connection(source), interval '30 s') AS a;
  PERFORM tandem._refuse_unfit_server(source.old_side, server);

  INSERT INTO tandem.source AS s (name, server, database, metadata_database, mapping_role, tls, password_ref, old_side)
  VALUES (source.name, source.server, source.database, source.metadata_database, source.mapping_role, source.tls, source.password_ref,
          source.old_side)
  RETURNING s.source_id INTO source.source_id;
  RETURN source.source_id;
END
$$;
COMMENT ON FUNCTION tandem.add_source(text, name, text, text, text, text) IS
  'makes an old MySQL or MariaDB database known, after connecting to it; returns its source_id';

CREATE FUNCTION tandem._source_named(name text) RETURNS tandem.source
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  source tandem.source;
BEGIN
  SELECT s.* INTO source FROM tandem.source AS s WHERE s.name = _source_named.name;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING ERRCODE = 'undefined_object', MESSAGE = format('source "%s" does not exist', name),
      HINT = 'Make it known with tandem.add_source; the view tandem.sources lists what there is.';
  END IF;
  RETURN source;
END
$$;
COMMENT ON FUNCTION tandem._source_named(text) IS 'source of that name, or an error';
