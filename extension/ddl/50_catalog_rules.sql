-- Rules that the catalog keeps by itself, whoever writes to it.
--
-- The functions of the SQL API run with the rights of their caller. Members of tandem_admin may write to the configuration tables,
-- and these triggers keep the rules that matter for safety, so that no function (and no hand) can forget them: a target belongs to
-- the one who adds it, names on the old side belong to this database alone, what is inserted is never running, and every change is
-- seen by the worker.

CREATE FUNCTION tandem._is_superuser() RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT r.rolsuper FROM pg_roles AS r WHERE r.rolname = current_user $$;
COMMENT ON FUNCTION tandem._is_superuser() IS 'whether the current user is a superuser';

CREATE FUNCTION tandem._refuse_foreign_target(target regclass) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  owner oid := (SELECT c.relowner FROM pg_class AS c WHERE c.oid = target);
BEGIN
  IF owner IS NOT NULL AND NOT tandem._is_superuser() AND NOT pg_has_role(current_user, owner, 'USAGE') THEN
    RAISE EXCEPTION USING
      ERRCODE = 'insufficient_privilege',
      MESSAGE = format('must be owner of table %s', target),
      DETAIL = 'Rows are written to the target with the rights of its owner.',
      HINT = format('Run this as role "%s" or as a member of it.', owner::regrole);
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_foreign_target(regclass) IS 'error unless the current user owns the target';

CREATE FUNCTION tandem._trigger_suffix(source_id integer, table_name text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT left(md5(concat_ws('/', i.id, s.source_id, s.database, table_name)), 8)
  FROM tandem.identity AS i, tandem.source AS s
  WHERE s.source_id = _trigger_suffix.source_id
$$;
COMMENT ON FUNCTION tandem._trigger_suffix(integer, text) IS
  'eight hex digits that tell apart outboxes and triggers of all databases that sync from the same old table';

CREATE FUNCTION tandem._guard_source() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF tandem._is_superuser() THEN
    RETURN NEW;
  END IF;
  IF NOT has_server_privilege(NEW.server, 'USAGE') THEN
    RAISE EXCEPTION USING
      ERRCODE = 'insufficient_privilege',
      MESSAGE = format('permission denied for foreign server %s', NEW.server),
      HINT = format('GRANT USAGE ON FOREIGN SERVER %I TO %I;', NEW.server, current_user);
  END IF;
  IF NEW.mapping_role <> 'public' AND NOT pg_has_role(NEW.mapping_role, 'USAGE') THEN
    RAISE EXCEPTION USING
      ERRCODE = 'insufficient_privilege',
      MESSAGE = format('user mapping of role "%s" belongs to somebody else', NEW.mapping_role);
  END IF;
  RETURN NEW;
END
$$;
COMMENT ON FUNCTION tandem._guard_source() IS 'trigger: a source uses only a server and a user mapping that its author may use';

CREATE FUNCTION tandem._constant_as(value text, target regclass, column_name text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT format('CAST(%L AS %s)%s', value, format_type(a.atttypid, a.atttypmod),
                (SELECT format(' COLLATE %I.%I', n.nspname, l.collname) FROM pg_collation AS l JOIN pg_namespace AS n ON n.oid = l.collnamespace
                 WHERE l.oid = a.attcollation AND l.collname <> 'default'))
  FROM pg_attribute AS a WHERE a.attrelid = target AND a.attname = column_name AND a.attnum > 0 AND NOT a.attisdropped
$$;
COMMENT ON FUNCTION tandem._constant_as(text, regclass, text) IS 'SQL of a constant as a value of a target column';

CREATE FUNCTION tandem._constants_differ(target regclass, one jsonb, other jsonb) RETURNS boolean
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  name text;
  differs boolean;
BEGIN
  -- The same columns, and one of them with a value that is another one for the target's key.
  IF ARRAY(SELECT jsonb_object_keys(one) ORDER BY 1) <> ARRAY(SELECT jsonb_object_keys(other) ORDER BY 1) THEN
    RETURN false;
  END IF;
  FOR name IN SELECT jsonb_object_keys(one) LOOP
    EXECUTE format('SELECT %s <> %s', tandem._constant_as(one ->> name, target, name), tandem._constant_as(other ->> name, target, name))
      INTO differs;
    IF differs THEN
      RETURN true;
    END IF;
  END LOOP;
  RETURN false;
END
$$;
COMMENT ON FUNCTION tandem._constants_differ(regclass, jsonb, jsonb) IS
  'whether rows with these constants can never have the same key in the target';

CREATE FUNCTION tandem._refuse_taken_target(target regclass, constants jsonb, except_table integer) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  taker text;
BEGIN
  SELECT s.name || '.' || t.name INTO taker
  FROM tandem.source_table AS t JOIN tandem.source AS s USING (source_id)
  WHERE t.target = _refuse_taken_target.target AND t.table_id IS DISTINCT FROM except_table
    AND NOT (t.constants <> '{}' AND _refuse_taken_target.constants <> '{}'
             AND tandem._constants_differ(t.target, t.constants, _refuse_taken_target.constants))
  ORDER BY t.table_id LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION USING
      ERRCODE = 'duplicate_object',
      MESSAGE = format('target %s already belongs to table "%s"', target, taker),
      HINT = 'Give each old table a target of its own, or tell the rows of each apart by a constant in the key: constants => ''{"shard": "eu"}''.';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_taken_target(regclass, jsonb, integer) IS
  'error when another old table may write rows of the same keys to the target';

CREATE FUNCTION tandem._guard_source_table() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    -- A table enters registered, restored from a dump as well: only tandem.start makes it run.
    NEW.desired_state := 'registered';
    NEW.trigger_suffix := tandem._trigger_suffix(NEW.source_id, NEW.name);
    NEW.outbox := left(NEW.name, 40) || '_outbox_' || NEW.trigger_suffix;
  END IF;
  PERFORM tandem._refuse_foreign_target(NEW.target);
  IF TG_OP = 'INSERT' OR (NEW.target, NEW.constants) IS DISTINCT FROM (OLD.target, OLD.constants) THEN
    -- Two calls at once would not see each other's row.
    PERFORM pg_advisory_xact_lock('tandem.source_table'::regclass::integer, NEW.target::oid::bigint::bit(32)::integer);
    PERFORM tandem._refuse_taken_target(NEW.target, NEW.constants, NEW.table_id);
  END IF;
  RETURN NEW;
END
$$;
COMMENT ON FUNCTION tandem._guard_source_table() IS
  'trigger: a table enters registered, with names of its own on the old side, by the owner of its target';

CREATE FUNCTION tandem._guard_target_column() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM tandem._refuse_foreign_target(t.target) FROM tandem.source_table AS t WHERE t.table_id = NEW.table_id;
  RETURN NEW;
END
$$;
COMMENT ON FUNCTION tandem._guard_target_column() IS 'trigger: only the owner of a target says what is written to it';

CREATE FUNCTION tandem._announce_config() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM tandem._config_changed();
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION tandem._announce_config() IS 'trigger: worker and apply read the configuration again when the transaction commits';

CREATE TRIGGER guard BEFORE INSERT OR UPDATE OF server, mapping_role ON tandem.source
  FOR EACH ROW EXECUTE FUNCTION tandem._guard_source();
CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON tandem.source_table
  FOR EACH ROW EXECUTE FUNCTION tandem._guard_source_table();
CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON tandem.target_column
  FOR EACH ROW EXECUTE FUNCTION tandem._guard_target_column();
CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE ON tandem.source
  FOR EACH STATEMENT EXECUTE FUNCTION tandem._announce_config();
CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE ON tandem.source_table
  FOR EACH STATEMENT EXECUTE FUNCTION tandem._announce_config();
CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE ON tandem.target_column
  FOR EACH STATEMENT EXECUTE FUNCTION tandem._announce_config();
-- Also while a restore or a replication worker has session_replication_role = replica.
ALTER TABLE tandem.source ENABLE ALWAYS TRIGGER guard;
ALTER TABLE tandem.source ENABLE ALWAYS TRIGGER announce;
ALTER TABLE tandem.source_table ENABLE ALWAYS TRIGGER guard;
ALTER TABLE tandem.source_table ENABLE ALWAYS TRIGGER announce;
ALTER TABLE tandem.target_column ENABLE ALWAYS TRIGGER guard;
ALTER TABLE tandem.target_column ENABLE ALWAYS TRIGGER announce;

-- created_by is not among the columns: it is who it is.
GRANT SELECT ON tandem.source, tandem.source_table, tandem.source_column, tandem.target_column, tandem.source_fk, tandem.identity,
  tandem.table_state, tandem.request, tandem.retry, tandem.dead_letter TO tandem_admin;
GRANT INSERT (name, server, database, metadata_database, mapping_role, tls, password_ref, old_side), UPDATE (dropping), DELETE
  ON tandem.source TO tandem_admin;
GRANT INSERT (source_id, name, target, key_columns, outbox, trigger_suffix, created_target, filter, constants), UPDATE (desired_state), DELETE
  ON tandem.source_table TO tandem_admin;
GRANT INSERT, DELETE ON tandem.source_column, tandem.target_column TO tandem_admin;
GRANT INSERT, UPDATE, DELETE ON tandem.source_fk TO tandem_admin;
GRANT INSERT (table_id), UPDATE (state, reason, detail, updated_at) ON tandem.table_state TO tandem_admin;
GRANT INSERT (table_id, key_text, flags, reason), DELETE ON tandem.request TO tandem_admin;
GRANT UPDATE (next_attempt), DELETE ON tandem.retry TO tandem_admin;
GRANT DELETE ON tandem.dead_letter TO tandem_admin;
