-- Views of reconciliation. Counts are for tandem_monitor; values are only in tandem.discrepancies.

CREATE VIEW tandem.reconcile_runs AS
  SELECT r.run_id, s.name || '.' || t.name AS "table", r.kind, r.state, r.clean, r.rows, r.new_rows, r.verified,
         (SELECT count(*) FROM tandem.reconcile_pending AS p WHERE p.run_id = r.run_id) AS in_flight, r.missing, r.extra, r.different, r.repaired,
         r.chunks, r.rechecks, r.busy_ms / 1000.0 AS busy_seconds, r.old_ms / 1000.0 AS old_side_seconds, r.stalled_ms / 1000.0 AS stalled_seconds,
         r.rows * 1000.0 / nullif(r.busy_ms, 0) AS rows_per_second, r.requested_by, r.asked_at, r.started_at, r.updated_at, r.finished_at, r.error
  FROM tandem.reconcile_run AS r JOIN tandem.source_table AS t USING (table_id) JOIN tandem.source AS s USING (source_id);
COMMENT ON VIEW tandem.reconcile_runs IS 'passes of reconciliation, running ones and the history of those that are over';
COMMENT ON COLUMN tandem.reconcile_runs.run_id IS 'number of the pass';
COMMENT ON COLUMN tandem.reconcile_runs."table" IS 'source.table';
COMMENT ON COLUMN tandem.reconcile_runs.kind IS 'call: tandem.reconcile; requested: tandem.reconcile_start; continuous: the paced scan; verify: rows looked at after they were applied, without end';
COMMENT ON COLUMN tandem.reconcile_runs.state IS 'waiting, running, done, failed, cancelled';
COMMENT ON COLUMN tandem.reconcile_runs.clean IS 'everything in its range was compared and equal, and nothing was repaired meanwhile';
COMMENT ON COLUMN tandem.reconcile_runs.rows IS 'rows read on the old side';
COMMENT ON COLUMN tandem.reconcile_runs.new_rows IS 'rows read in the target';
COMMENT ON COLUMN tandem.reconcile_runs.verified IS 'rows that were equal while nothing of them was in flight';
COMMENT ON COLUMN tandem.reconcile_runs.in_flight IS 'rows that were under way and will be looked at again';
COMMENT ON COLUMN tandem.reconcile_runs.missing IS 'confirmed: not in the target';
COMMENT ON COLUMN tandem.reconcile_runs.extra IS 'confirmed: not on the old side';
COMMENT ON COLUMN tandem.reconcile_runs.different IS 'confirmed: other values';
COMMENT ON COLUMN tandem.reconcile_runs.repaired IS 'rows of the table were repaired while it ran';
COMMENT ON COLUMN tandem.reconcile_runs.chunks IS 'chunks, each with a verdict of its own';
COMMENT ON COLUMN tandem.reconcile_runs.rechecks IS 'rows looked at again';
COMMENT ON COLUMN tandem.reconcile_runs.busy_seconds IS 'time spent on chunks';
COMMENT ON COLUMN tandem.reconcile_runs.old_side_seconds IS 'of it, reading the old side';
COMMENT ON COLUMN tandem.reconcile_runs.stalled_seconds IS 'time it stood still for the sake of the old side';
COMMENT ON COLUMN tandem.reconcile_runs.rows_per_second IS 'rows of the old side per busy second';
COMMENT ON COLUMN tandem.reconcile_runs.requested_by IS 'who asked for it';
COMMENT ON COLUMN tandem.reconcile_runs.asked_at IS 'when';
COMMENT ON COLUMN tandem.reconcile_runs.started_at IS 'when it began';
COMMENT ON COLUMN tandem.reconcile_runs.updated_at IS 'when a chunk was last reported';
COMMENT ON COLUMN tandem.reconcile_runs.finished_at IS 'when it ended';
COMMENT ON COLUMN tandem.reconcile_runs.error IS 'why it failed';

CREATE VIEW tandem.pg_stat_progress_tandem_reconcile AS
  SELECT r.run_id, s.name || '.' || t.name AS "table", r.kind, r.state, r.rows, x.expected AS rows_expected,
         CASE WHEN x.expected > 0 THEN least(round(100.0 * r.rows / x.expected, 1), 100) END AS percent, r.verified,
         (SELECT count(*) FROM tandem.reconcile_pending AS p WHERE p.run_id = r.run_id) AS in_flight, r.missing + r.extra + r.different AS confirmed,
         r.rows * 1000.0 / nullif(r.busy_ms, 0) AS rows_per_second, r.stall_reason, r.started_at, r.updated_at, r.requested_by
  FROM tandem.reconcile_run AS r
  LEFT JOIN tandem.reconcile_ledger AS l USING (table_id)
  JOIN tandem.source_table AS t USING (table_id)
  JOIN tandem.source AS s USING (source_id)
  LEFT JOIN pg_class AS c ON c.oid = t.target
  CROSS JOIN LATERAL (SELECT CASE WHEN r.kind <> 'verify' THEN coalesce(l.rows, nullif(c.reltuples, -1)::bigint) END AS expected) AS x
  WHERE r.state IN ('waiting', 'running');
COMMENT ON VIEW tandem.pg_stat_progress_tandem_reconcile IS 'passes of reconciliation that wait or run';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_reconcile.run_id IS 'number of the pass, as tandem.reconcile_cancel takes it';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_reconcile."table" IS 'source.table';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_reconcile.kind IS 'call, requested, continuous or verify';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_reconcile.state IS 'waiting or running';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_reconcile.rows IS 'rows read on the old side so far';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_reconcile.rows_expected IS 'rows of the table in the last pass, or as PostgreSQL estimates';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_reconcile.percent IS 'how far it is by these';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_reconcile.verified IS 'rows that were equal while nothing of them was in flight';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_reconcile.in_flight IS 'rows that were under way and will be looked at again';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_reconcile.confirmed IS 'rows confirmed to differ';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_reconcile.rows_per_second IS 'rows of the old side per busy second';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_reconcile.stall_reason IS 'why it stands still';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_reconcile.started_at IS 'when it began';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_reconcile.updated_at IS 'when a chunk was last reported';
COMMENT ON COLUMN tandem.pg_stat_progress_tandem_reconcile.requested_by IS 'who asked for it';

CREATE VIEW tandem.pg_stat_tandem_reconcile AS
  SELECT s.name AS source, t.name AS "table", t.target, coalesce(c.continuous, false) AS continuous, coalesce(c.paused, false) AS paused, c.period,
         c.rows_per_second AS pace, c.share, coalesce(c.verify, false) AS verify, c.auto_repair,
         coalesce(l.passes, 0) AS passes, coalesce(l.clean_passes, 0) AS clean_passes, l.pass_started_at AS last_pass_started,
         l.pass_finished_at AS last_pass_finished, l.last_clean_at AS last_clean, l.rows, u.unverified::bigint,
         round((1 - u.unverified::numeric / nullif(l.rows, 0)), 6)::double precision AS verified_share,
         extract(epoch FROM clock_timestamp() - l.pass_started_at)::double precision AS oldest_verified_seconds,
         (SELECT count(*) FROM tandem.reconcile_pending AS p WHERE p.table_id = t.table_id) AS in_flight,
         d.open, d.repairing, d.waived, coalesce(l.missing, 0) AS confirmed_missing, coalesce(l.extra, 0) AS confirmed_extra,
         coalesce(l.different, 0) AS confirmed_different,
         (d.open + d.repairing) * 100.0 / nullif(l.rows, 0) AS divergence_percent,
         CASE WHEN l.rows = 0 THEN CASE WHEN u.changed + d.open + d.repairing = 0 THEN 0 ELSE 100 END
              WHEN l.rows > 0 THEN least(((d.open + d.repairing) + u.unverified * tandem._upper_bound(l.pass_confirmed, l.verified + l.pass_confirmed)) * 100.0 / l.rows, 100) END
           AS divergence_bound_percent,
         l.alarm, l.alarm_detail, l.alarm_since
  FROM tandem.source_table AS t
  JOIN tandem.source AS s USING (source_id)
  LEFT JOIN tandem.reconcile_setting AS c USING (table_id)
  LEFT JOIN tandem.reconcile_ledger AS l USING (table_id)
  CROSS JOIN LATERAL (SELECT count(*) FILTER (WHERE e.status = 'open') AS open, count(*) FILTER (WHERE e.status = 'repairing') AS repairing,
                             count(*) FILTER (WHERE e.status = 'waived') AS waived
                      FROM tandem.discrepancy AS e WHERE e.table_id = t.table_id AND e.status IN ('open', 'repairing', 'waived')) AS d
  -- At most so many rows are not known to be equal: those that the pass could not verify, and those that changed since it began.
  CROSS JOIN LATERAL (SELECT least(l.rows, greatest(l.rows - l.verified - l.pass_confirmed, 0) + c.changed) AS unverified, c.changed
                      FROM (SELECT greatest(l.pruned_changes
                                            + (SELECT coalesce(sum(length(j.hashes) / 8), 0) FROM tandem.journal_keys AS j WHERE j.table_id = t.table_id)
                                            - l.changes_at_pass - l.covered, 0) AS changed) AS c) AS u;
COMMENT ON VIEW tandem.pg_stat_tandem_reconcile IS 'one row for each table that is moved: what reconciliation knows of it; kept in tables, so it survives a restart';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.source IS 'source of the table';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile."table" IS 'old table';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.target IS 'table of this database';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.continuous IS 'pass follows pass (tandem.reconcile_continuously)';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.paused IS 'held by tandem.reconcile_pause';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.period IS 'time from the beginning of one pass to that of the next';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.pace IS 'rows of the old side read per second at most, NULL: no limit';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.share IS 'part of the time in which the old side is read';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.verify IS 'rows are verified after they were applied';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.auto_repair IS 'kinds that are repaired without being asked';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.passes IS 'complete passes';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.clean_passes IS 'of them, those in which every row was compared and equal and nothing was repaired';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.last_pass_started IS 'when the last complete pass began';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.last_pass_finished IS 'when it ended';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.last_clean IS 'when the last clean pass ended';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.rows IS 'rows in the last complete pass';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.unverified IS 'rows that were not verified since their last change, at most';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.verified_share IS 'share of the rows that were verified since their last change, at least';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.oldest_verified_seconds IS 'every row was verified since so long, or changed since; NULL: there was no complete pass';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.in_flight IS 'rows that were under way when a pass came by and wait to be looked at again';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.open IS 'discrepancies that are open';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.repairing IS 'discrepancies whose repair was asked for and not seen yet';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.waived IS 'discrepancies that were waived';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.confirmed_missing IS 'discrepancies of kind missing ever confirmed';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.confirmed_extra IS 'discrepancies of kind extra ever confirmed';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.confirmed_different IS 'discrepancies of kind different ever confirmed';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.divergence_percent IS 'rows known to differ, in percent of the rows';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.divergence_bound_percent IS 'upper bound (95 %) of the rows that differ, in percent: those known, and of the unverified ones as many as the last pass allows';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.alarm IS 'divergence: more rows differ than tandem.alarm_threshold allows; silence: no pass has ended in its period';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.alarm_detail IS 'the figures';
COMMENT ON COLUMN tandem.pg_stat_tandem_reconcile.alarm_since IS 'since when';

GRANT SELECT ON tandem.reconcile_runs, tandem.pg_stat_progress_tandem_reconcile, tandem.pg_stat_tandem_reconcile TO tandem_monitor, pg_monitor;
-- A function in a view runs with the rights of whoever reads the view.
GRANT EXECUTE ON FUNCTION tandem._upper_bound(bigint, bigint, double precision) TO tandem_monitor, pg_monitor;
