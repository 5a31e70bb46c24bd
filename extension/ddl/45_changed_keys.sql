-- Rows that changed since the last sound pass of reconciliation (none was found to differ): the worker keeps their keys and compares them in the pause of a cut-over
-- (docs/protocol.md section 18). Here is only from which moment on it has them all.

CREATE TABLE tandem.changed_keys (
  table_id integer PRIMARY KEY REFERENCES tandem.source_table ON DELETE CASCADE,
  epoch    bigint NOT NULL,
  since    bigint NOT NULL
);
COMMENT ON TABLE tandem.changed_keys IS 'from which moment on the worker that leads the source knows every key that changed';
COMMENT ON COLUMN tandem.changed_keys.epoch IS 'of the lease of that worker; what another knew is lost';
COMMENT ON COLUMN tandem.changed_keys.since IS 'number of tandem.reconcile_moment; a pass that began later saw every row that is not among the keys';

CREATE FUNCTION tandem.next_moment() RETURNS bigint
LANGUAGE sql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT nextval('tandem.reconcile_moment') $$;
COMMENT ON FUNCTION tandem.next_moment() IS 'a moment later than all before: passes begin at one, and the worker begins to keep keys at one';

CREATE FUNCTION tandem.report_changed_keys(source_id integer, epoch bigint, since jsonb) RETURNS jsonb
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM tandem._refuse_other_epoch(source_id, epoch);
  DELETE FROM tandem.changed_keys AS k USING tandem.source_table AS t
  WHERE t.table_id = k.table_id AND t.source_id = report_changed_keys.source_id AND NOT report_changed_keys.since ? k.table_id::text;
  INSERT INTO tandem.changed_keys AS k (table_id, epoch, since)
  SELECT t.table_id, report_changed_keys.epoch, s.value::bigint
  FROM jsonb_each_text(report_changed_keys.since) AS s JOIN tandem.source_table AS t ON t.table_id = s.key::integer AND t.source_id = report_changed_keys.source_id
  ON CONFLICT ON CONSTRAINT changed_keys_pkey DO UPDATE SET epoch = excluded.epoch, since = excluded.since
    WHERE (k.epoch, k.since) <> (excluded.epoch, excluded.since);
  RETURN (
    SELECT coalesce(jsonb_object_agg(t.table_id, jsonb_build_object('sound', coalesce(l.sound_moment, 0), 'running', coalesce(r.moment, 0))), '{}')
    FROM tandem.source_table AS t
    LEFT JOIN tandem.reconcile_ledger AS l USING (table_id)
    LEFT JOIN LATERAL (SELECT max(r.begun_moment) AS moment FROM tandem.reconcile_run AS r
                       WHERE r.table_id = t.table_id AND r.state = 'running' AND tandem._is_whole(r)) AS r ON true
    WHERE t.source_id = report_changed_keys.source_id);
END
$$;
COMMENT ON FUNCTION tandem.report_changed_keys(integer, bigint, jsonb) IS
  'the worker tells since which moment it knows the changed keys of each table; returns the moments of their last sound pass and of one that runs';

CREATE FUNCTION tandem._knows_changes(table_id integer) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT EXISTS (SELECT FROM tandem.changed_keys AS k
                 JOIN tandem.source_table AS t USING (table_id)
                 JOIN tandem.reconcile_ledger AS l USING (table_id)
                 WHERE k.table_id = _knows_changes.table_id AND tandem._leads(t.source_id, k.epoch) AND l.sound_moment > k.since)
$$;
COMMENT ON FUNCTION tandem._knows_changes(integer) IS 'whether the worker knows every row that changed since the last sound pass began';

CREATE FUNCTION tandem.accepted_keys(run_id bigint, table_id integer) RETURNS SETOF bytea
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
  SELECT d.key FROM tandem.discrepancy AS d WHERE d.table_id = accepted_keys.table_id AND d.status = 'waived'
  UNION
  SELECT d.key FROM tandem.dead_letter AS d JOIN tandem.cutover_run AS r ON r.run_id = accepted_keys.run_id
  WHERE d.table_id = accepted_keys.table_id AND r.options -> 'waive' ? 'dead_letters'
$$;
COMMENT ON FUNCTION tandem.accepted_keys(bigint, integer) IS 'keys of rows that may differ in a cut-over, because somebody has said so';

CREATE FUNCTION tandem.unsettled_keys(table_id integer) RETURNS SETOF bytea
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$ SELECT u.key FROM tandem.unsettled_key AS u WHERE u.table_id = unsettled_keys.table_id $$;
COMMENT ON FUNCTION tandem.unsettled_keys(integer) IS 'keys that the last sound pass never saw at rest';

GRANT EXECUTE ON FUNCTION tandem.unsettled_keys(integer), tandem.next_moment(), tandem.report_changed_keys(integer, bigint, jsonb), tandem.accepted_keys(bigint, integer) TO tandem_worker;
