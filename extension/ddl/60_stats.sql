-- Live numbers. Counters are in shared memory: reading them takes no lock that apply waits for, and they start at zero with the server.
-- The views are in schema tandem, as an extension has no business in pg_catalog and must not rely on public.

CREATE FUNCTION tandem._report_table_stats(table_id integer, captured bigint, outbox_rows bigint, oldest_us bigint, capture_cost_us double precision)
RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tandem_report_table_stats';
COMMENT ON FUNCTION tandem._report_table_stats(integer, bigint, bigint, bigint, double precision) IS 'adds what a worker reports of a table to the counters';

CREATE FUNCTION tandem._report_worker_stats(source_id integer, fetch_us bigint, copy_us bigint, delete_us bigint, polls bigint, reconnects bigint, rss_kb bigint, version text)
RETURNS void LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tandem_report_worker_stats';
COMMENT ON FUNCTION tandem._report_worker_stats(integer, bigint, bigint, bigint, bigint, bigint, bigint, text) IS 'adds what a worker reports of itself to the counters';

CREATE FUNCTION tandem.report_stats(source_id integer, epoch bigint, stats jsonb) RETURNS void
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF NOT tandem._leads(source_id, epoch) THEN
    RETURN; -- counted by the one that leads now
  END IF;
  PERFORM tandem._report_table_stats(t.table_id, t.captured, t.outbox_rows, t.oldest_us, t.capture_cost_us)
  FROM jsonb_to_recordset(coalesce(stats -> 'tables', '[]'))
         AS t(table_id integer, captured bigint, outbox_rows bigint, oldest_us bigint, capture_cost_us double precision)
  JOIN tandem.source_table AS known ON known.table_id = t.table_id AND known.source_id = report_stats.source_id;
  PERFORM tandem._report_worker_stats(source_id, w.fetch_us, w.copy_us, w.delete_us, w.polls, w.reconnects, w.rss_kb, w.version)
  FROM jsonb_to_record(stats)
         AS w(fetch_us bigint, copy_us bigint, delete_us bigint, polls bigint, reconnects bigint, rss_kb bigint, version text);
END
$$;
COMMENT ON FUNCTION tandem.report_stats(integer, bigint, jsonb) IS 'counters of the worker since its last report';
GRANT EXECUTE ON FUNCTION tandem.report_stats(integer, bigint, jsonb) TO tandem_worker;

CREATE FUNCTION tandem.reset_stats() RETURNS void
LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tandem_reset_stats';
COMMENT ON FUNCTION tandem.reset_stats() IS 'sets the counters of this database to zero; a restart of the server does the same';
GRANT EXECUTE ON FUNCTION tandem.reset_stats() TO tandem_admin;

-- An earlier installation in this database may have left numbers behind.
SELECT tandem.reset_stats();

-- --- rows of shared memory --------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem._stats_tables(OUT table_id integer, OUT captured bigint, OUT upserted bigint, OUT deleted bigint, OUT retried bigint,
  OUT dead_lettered bigint, OUT superseded bigint, OUT outbox_rows bigint, OUT oldest_seconds double precision, OUT reported_at timestamptz,
  OUT latency_p50_ms double precision, OUT latency_p95_ms double precision, OUT latency_p99_ms double precision,
  OUT capture_cost_us double precision, OUT applied_at timestamptz)
RETURNS SETOF record LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tandem_stats_tables';
COMMENT ON FUNCTION tandem._stats_tables() IS 'counters of the tables of this database';

CREATE FUNCTION tandem._stats_sources(OUT source_id integer, OUT fetch_us bigint, OUT copy_us bigint, OUT delete_us bigint, OUT polls bigint,
  OUT reconnects bigint, OUT rss_kb bigint, OUT version text, OUT reported_at timestamptz, OUT batches bigint, OUT rows bigint, OUT bytes bigint,
  OUT batch_fetch_us bigint, OUT apply_us bigint, OUT apply_p50_ms double precision, OUT apply_p99_ms double precision,
  OUT refused bigint, OUT narrowed bigint, OUT applied_at timestamptz)
RETURNS SETOF record LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tandem_stats_sources';
COMMENT ON FUNCTION tandem._stats_sources() IS 'counters of the sources of this database';

CREATE FUNCTION tandem._stats_sessions(OUT pid integer, OUT worker text, OUT answers boolean, OUT since timestamptz)
RETURNS SETOF record LANGUAGE c VOLATILE AS 'MODULE_PATHNAME', 'tandem_stats_sessions';
COMMENT ON FUNCTION tandem._stats_sessions() IS 'database sessions of workers in this database';

CREATE FUNCTION tandem._stats_apply(OUT pid integer, OUT last_error_sqlstate text, OUT last_error text, OUT last_error_at timestamptz, OUT stats_reset timestamptz)
RETURNS SETOF record LANGUAGE c VOLATILE ROWS 1 AS 'MODULE_PATHNAME', 'tandem_stats_apply';
COMMENT ON FUNCTION tandem._stats_apply() IS 'the apply worker of this database';

-- --- views ------------------------------------------------------------------------------------------------------------------------

CREATE VIEW tandem.pg_stat_tandem_tables AS
  SELECT s.name AS source, t.name AS "table", t.target, coalesce(a.state, 'registered') AS state, a.reason,
         coalesce(c.captured, 0) AS captured, coalesce(c.upserted, 0) AS upserted, coalesce(c.deleted, 0) AS deleted,
         coalesce(c.retried, 0) AS retried, coalesce(c.dead_lettered, 0) AS dead_lettered, coalesce(c.superseded, 0) AS superseded,
         (SELECT count(*) FROM tandem.retry AS r WHERE r.table_id = t.table_id) AS retry_rows,
         (SELECT count(*) FROM tandem.dead_letter AS d WHERE d.table_id = t.table_id) AS dead_letters,
         coalesce(a.backfill_done, false) AS backfill_done, coalesce(a.backfill_rows, 0) AS backfill_rows,
         c.outbox_rows AS lag_rows,
         CASE WHEN c.outbox_rows = 0 AND l.expires_at > clock_timestamp() THEN 0
              WHEN l.expires_at > clock_timestamp() THEN c.oldest_seconds
              ELSE c.oldest_seconds + extract(epoch FROM clock_timestamp() - c.reported_at)::double precision END AS lag_seconds,
         c.latency_p50_ms, c.latency_p95_ms, c.latency_p99_ms, c.capture_cost_us, c.applied_at AS last_applied
  FROM tandem.source_table AS t
  JOIN tandem.source AS s USING (source_id)
  LEFT JOIN tandem.table_state AS a USING (table_id)
  LEFT JOIN tandem.lease AS l USING (source_id)
  LEFT JOIN tandem._stats_tables() AS c USING (table_id);
COMMENT ON VIEW tandem.pg_stat_tandem_tables IS 'one row for each table that is moved; counters since the start of the server or tandem.reset_stats';
COMMENT ON COLUMN tandem.pg_stat_tandem_tables.source IS 'source of the table';
COMMENT ON COLUMN tandem.pg_stat_tandem_tables."table" IS 'old table';
COMMENT ON COLUMN tandem.pg_stat_tandem_tables.target IS 'table of this database that it moves to';
COMMENT ON COLUMN tandem.pg_stat_tandem_tables.state IS 'registered, capturing, backfilling, syncing, paused, blocked or dropping';
COMMENT ON COLUMN tandem.pg_stat_tandem_tables.reason IS 'why it is blocked or not further';
COMMENT ON COLUMN tandem.pg_stat_tandem_tables.captured IS 'events that triggers wrote and the worker read';
COMMENT ON COLUMN tandem.pg_stat_tandem_tables.upserted IS 'rows inserted or updated in the target';
COMMENT ON COLUMN tandem.pg_stat_tandem_tables.deleted IS 'rows deleted from the target';
COMMENT ON COLUMN tandem.pg_stat_tandem_tables.retried IS 'rows put aside to be tried again';
COMMENT ON COLUMN tandem.pg_stat_tandem_tables.dead_lettered IS 'rows that became dead letters';
COMMENT ON COLUMN tandem.pg_stat_tandem_tables.superseded IS 'retry rows and dead letters that a later image of their key made pointless';
COMMENT ON COLUMN tandem.pg_stat_tandem_tables.retry_rows IS 'rows that wait to be tried again now';
COMMENT ON COLUMN tandem.pg_stat_tandem_tables.dead_letters IS 'dead letters there are now, see tandem.dead_letters';
COMMENT ON COLUMN tandem.pg_stat_tandem_tables.backfill_done IS 'all rows that were there at the start are applied';
COMMENT ON COLUMN tandem.pg_stat_tandem_tables.backfill_rows IS 'rows of the backfill applied so far';
COMMENT ON COLUMN tandem.pg_stat_tandem_tables.lag_rows IS 'events in the outbox when the worker last counted them';
COMMENT ON COLUMN tandem.pg_stat_tandem_tables.lag_seconds IS 'age of the oldest event in the outbox when the worker last looked; grows while no worker leads the source';
COMMENT ON COLUMN tandem.pg_stat_tandem_tables.latency_p50_ms IS 'milliseconds from a statement on the old side to its row being visible here, median';
COMMENT ON COLUMN tandem.pg_stat_tandem_tables.latency_p95_ms IS 'the same, 95 % of the rows are faster (exact to 6.3 %)';
COMMENT ON COLUMN tandem.pg_stat_tandem_tables.latency_p99_ms IS 'the same, 99 % of the rows are faster (exact to 6.3 %)';
COMMENT ON COLUMN tandem.pg_stat_tandem_tables.capture_cost_us IS 'estimate of what the triggers add to the change of one row on the old side, in microseconds';
COMMENT ON COLUMN tandem.pg_stat_tandem_tables.last_applied IS 'when rows of it were last applied';

CREATE VIEW tandem.pg_stat_tandem_worker AS
  SELECT s.name AS source, CASE WHEN l.expires_at > clock_timestamp() THEN l.holder END AS leader, l.epoch,
         CASE WHEN l.expires_at > '-infinity' THEN l.expires_at END AS lease_expires,
         (SELECT count(DISTINCT w.worker) FROM tandem._stats_sessions() AS w) AS workers, c.version,
         coalesce(c.fetch_us, 0) / 1000.0::double precision AS fetch_ms, coalesce(c.copy_us, 0) / 1000.0::double precision AS copy_ms, coalesce(c.delete_us, 0) / 1000.0::double precision AS delete_ms,
         coalesce(c.polls, 0) AS polls, coalesce(c.reconnects, 0) AS reconnects, nullif(c.rss_kb, 0) AS rss_kb, c.reported_at AS last_report
  FROM tandem.source AS s LEFT JOIN tandem.lease AS l USING (source_id) LEFT JOIN tandem._stats_sources() AS c USING (source_id);
COMMENT ON VIEW tandem.pg_stat_tandem_worker IS 'one row for each source: the tandem-sync worker that leads it; counters since the start of the server or tandem.reset_stats';
COMMENT ON COLUMN tandem.pg_stat_tandem_worker.source IS 'source';
COMMENT ON COLUMN tandem.pg_stat_tandem_worker.leader IS 'worker that holds the lease, NULL: none does';
COMMENT ON COLUMN tandem.pg_stat_tandem_worker.epoch IS 'epoch of the lease: grows with every session that took it';
COMMENT ON COLUMN tandem.pg_stat_tandem_worker.lease_expires IS 'when another worker takes over unless the leader renews the lease; NULL: given back';
COMMENT ON COLUMN tandem.pg_stat_tandem_worker.workers IS 'workers connected to this database, those that stand by included';
COMMENT ON COLUMN tandem.pg_stat_tandem_worker.version IS 'version of the worker that leads';
COMMENT ON COLUMN tandem.pg_stat_tandem_worker.fetch_ms IS 'milliseconds spent reading outboxes and rows on the old side';
COMMENT ON COLUMN tandem.pg_stat_tandem_worker.copy_ms IS 'milliseconds spent copying batches to PostgreSQL';
COMMENT ON COLUMN tandem.pg_stat_tandem_worker.delete_ms IS 'milliseconds spent deleting acknowledged events on the old side';
COMMENT ON COLUMN tandem.pg_stat_tandem_worker.polls IS 'looks at the outboxes';
COMMENT ON COLUMN tandem.pg_stat_tandem_worker.reconnects IS 'connections to the old side that were lost and made again';
COMMENT ON COLUMN tandem.pg_stat_tandem_worker.rss_kb IS 'memory of the worker process at its last report, in kB';
COMMENT ON COLUMN tandem.pg_stat_tandem_worker.last_report IS 'when the worker last reported';

CREATE VIEW tandem.pg_stat_tandem_apply AS
  SELECT s.name AS source, y.pid, coalesce(c.batches, 0) AS batches, coalesce(c.rows, 0) AS rows, coalesce(c.bytes, 0) AS bytes,
         round((c.batch_fetch_us / 1000.0) / nullif(c.batches, 0), 3)::double precision AS fetch_ms_per_batch,
         round((c.apply_us / 1000.0) / nullif(c.batches, 0), 3)::double precision AS apply_ms_per_batch,
         c.apply_p50_ms, c.apply_p99_ms,
         (SELECT count(*) FROM tandem.batch AS b WHERE b.source_id = s.source_id) AS pending_batches,
         coalesce(c.refused, 0) AS refused, coalesce(c.narrowed, 0) AS narrowed,
         y.last_error_sqlstate, y.last_error, y.last_error_at, c.applied_at AS last_applied, y.stats_reset
  FROM tandem.source AS s CROSS JOIN tandem._stats_apply() AS y LEFT JOIN tandem._stats_sources() AS c USING (source_id);
COMMENT ON VIEW tandem.pg_stat_tandem_apply IS 'one row for each source: what the apply worker did with its batches; counters since the start of the server or tandem.reset_stats';
COMMENT ON COLUMN tandem.pg_stat_tandem_apply.source IS 'source';
COMMENT ON COLUMN tandem.pg_stat_tandem_apply.pid IS 'process of the apply worker, the same for all sources of a database; NULL: it is not running';
COMMENT ON COLUMN tandem.pg_stat_tandem_apply.batches IS 'batches applied';
COMMENT ON COLUMN tandem.pg_stat_tandem_apply.rows IS 'rows in these batches';
COMMENT ON COLUMN tandem.pg_stat_tandem_apply.bytes IS 'bytes of keys and images in these batches';
COMMENT ON COLUMN tandem.pg_stat_tandem_apply.fetch_ms_per_batch IS 'mean time that the worker took to fetch a batch';
COMMENT ON COLUMN tandem.pg_stat_tandem_apply.apply_ms_per_batch IS 'mean time that apply took for a batch, commit included';
COMMENT ON COLUMN tandem.pg_stat_tandem_apply.apply_p50_ms IS 'median of the latter';
COMMENT ON COLUMN tandem.pg_stat_tandem_apply.apply_p99_ms IS '99 % of the batches are faster (exact to 6.3 %)';
COMMENT ON COLUMN tandem.pg_stat_tandem_apply.pending_batches IS 'batches that wait now';
COMMENT ON COLUMN tandem.pg_stat_tandem_apply.refused IS 'batches of a worker that had lost its lease: not applied, fetched again by the one that leads';
COMMENT ON COLUMN tandem.pg_stat_tandem_apply.narrowed IS 'batches that failed as a whole and were taken apart to find the rows that failed';
COMMENT ON COLUMN tandem.pg_stat_tandem_apply.last_error_sqlstate IS 'SQLSTATE of the last error of the apply worker';
COMMENT ON COLUMN tandem.pg_stat_tandem_apply.last_error IS 'its message';
COMMENT ON COLUMN tandem.pg_stat_tandem_apply.last_error_at IS 'when it happened';
COMMENT ON COLUMN tandem.pg_stat_tandem_apply.last_applied IS 'when a batch of the source was last applied';
COMMENT ON COLUMN tandem.pg_stat_tandem_apply.stats_reset IS 'since when the counters count';

-- A function in a view runs with the rights of whoever reads the view.
GRANT EXECUTE ON FUNCTION tandem._stats_tables(), tandem._stats_sources(), tandem._stats_sessions(), tandem._stats_apply() TO tandem_monitor, pg_monitor;
GRANT SELECT ON tandem.pg_stat_tandem_tables, tandem.pg_stat_tandem_worker, tandem.pg_stat_tandem_apply TO tandem_monitor, pg_monitor;
GRANT USAGE ON SCHEMA tandem TO pg_monitor;
