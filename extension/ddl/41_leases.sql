-- Which worker leads a source (model A: BUMP). Only PostgreSQL's clock decides, and what fences is the epoch.

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
  -- Also after its end, if nobody took it meanwhile: the epoch is what fences, the row lock decides between two. Not after its release: the thread of
  -- a worker that renews may be late, and the next worker would have to wait for nobody.
  UPDATE tandem.lease AS l SET expires_at = tandem._lease_end()
  WHERE l.source_id = renew_lease.source_id AND l.holder = renew_lease.holder AND l.epoch = renew_lease.epoch AND l.expires_at > '-infinity';
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

GRANT EXECUTE ON FUNCTION tandem.acquire_lease(integer, text), tandem.renew_lease(integer, text, bigint), tandem.release_lease(integer, text, bigint)
TO tandem_worker;
