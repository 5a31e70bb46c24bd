-- How far the copy of each table's history is.

CREATE VIEW tandem.pg_stat_progress_tandem_backfill AS
  SELECT s.name AS source, t.name AS "table", t.target, b.mode, b.mode_reason, d.phase, d.rows_done, greatest(b.rows_estimate, d.rows_done) AS rows_total, d.bytes_done,
         CASE WHEN b.rows_estimate > 0 THEN (d.bytes_done / nullif(d.rows_done, 0)::numeric * b.rows_estimate)::bigint END AS bytes_total,
         round(100.0 * least(d.rows_done, b.rows_estimate) / nullif(b.rows_estimate, 0), 1)::double precision AS percent,
         r.rate AS rows_per_second,
         CASE WHEN d.phase = 'copying' AND r.rate > 0 THEN make_interval(secs => greatest(b.rows_estimate - d.rows_done, 0) / r.rate) END AS eta,
         d.chunks_done, d.chunks_in_progress, CASE WHEN d.phase = 'copying' AND b.mode = 'direct' THEN p.throttle END AS throttle, i.names AS indexes_left, i.problem,
         b.started_at, b.ended_at
  FROM tandem.backfill AS b JOIN tandem.source_table AS t USING (table_id) JOIN tandem.source AS s USING (source_id)
  JOIN tandem.table_state AS a USING (table_id)
  CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE c.state = 'done') AS chunks_done, count(*) FILTER (WHERE c.state = 'in_progress') AS chunks_in_progress,
           coalesce(sum(c.bytes), 0)::bigint AS bytes, coalesce(sum(c.rows), 0)::bigint AS rows,
           sum(c.rows) FILTER (WHERE c.done_at > clock_timestamp() - interval '30 s') AS lately,
           min(c.started_at) FILTER (WHERE c.done_at > clock_timestamp() - interval '30 s') AS since
    FROM tandem.backfill_chunk AS c WHERE c.table_id = b.table_id) AS c
  CROSS JOIN LATERAL (
    SELECT CASE WHEN b.phase = 'copying' AND t.desired_state = 'paused' THEN 'paused'
                WHEN b.phase = 'copying' AND a.state = 'blocked' THEN 'blocked' ELSE b.phase END AS phase,
           CASE WHEN b.mode = 'direct' AND b.phase <> 'done' THEN c.rows WHEN b.mode = 'direct' THEN b.rows ELSE a.backfill_rows END AS rows_done,
           CASE WHEN b.mode = 'direct' AND b.phase <> 'done' THEN c.bytes WHEN b.mode = 'direct' THEN b.bytes END AS bytes_done,
           c.chunks_done, c.chunks_in_progress) AS d
  CROSS JOIN LATERAL (
    SELECT CASE WHEN b.phase = 'done' THEN d.rows_done / nullif(extract(epoch FROM b.ended_at - b.started_at), 0)
                WHEN b.mode = 'direct' THEN c.lately / nullif(extract(epoch FROM clock_timestamp() - c.since), 0)
                ELSE d.rows_done / nullif(extract(epoch FROM clock_timestamp() - b.started_at), 0) END::double precision AS rate) AS r
  CROSS JOIN LATERAL (SELECT array_agg(x.name ORDER BY x.name) AS names, min(x.problem) AS problem
                      FROM tandem.deferred_index AS x WHERE x.table_id = b.table_id) AS i
  LEFT JOIN tandem.backfill_pace AS p ON p.source_id = t.source_id AND p.reported_at > clock_timestamp() - interval '10 s';
COMMENT ON VIEW tandem.pg_stat_progress_tandem_backfill IS 'one row for each table whose history is being copied, or was: how far it is';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_backfill.source IS 'source of the table';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_backfill."table" IS 'old table';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_backfill.target IS 'table of this database that it is copied to';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_backfill.mode IS 'direct: by chunks, in parallel, straight into the target; ordered: through the queue';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_backfill.mode_reason IS 'why it is this mode';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_backfill.phase IS 'copying, building indexes, done; paused or blocked while the table is';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_backfill.rows_done IS 'rows copied and committed';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_backfill.rows_total IS 'rows of the old table when the copy began, as the old server estimates them';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_backfill.bytes_done IS 'bytes of these rows on their way; NULL in ordered mode';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_backfill.bytes_total IS 'the same for all rows, if the others are as long as those copied';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_backfill.percent IS 'rows_done of rows_total';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_backfill.rows_per_second IS 'rate of the last half minute (direct), or of the whole copy (ordered, done)';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_backfill.eta IS 'time left at that rate, indexes not counted';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_backfill.chunks_done IS 'chunks that are done, while the copy runs';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_backfill.chunks_in_progress IS 'chunks in the hands of copiers, or of a worker that has ended';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_backfill.throttle IS 'what slows the copy or lets it wait now; NULL: nothing';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_backfill.indexes_left IS 'secondary indexes of a created target that are still to be built; NULL: none';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_backfill.problem IS 'why one of them could not be built yet; it is tried again';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_backfill.started_at IS 'when the copy began';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_backfill.ended_at IS 'when it ended';
GRANT SELECT ON tandem.pg_stat_progress_tandem_backfill TO tandem_monitor, pg_monitor;
