-- What is configured, for people. Live numbers: the pg_stat_tandem views.

CREATE VIEW tandem.sources AS
  SELECT s.name, s.server, s.database, s.metadata_database, s.mapping_role, s.tls, s.password_ref IS NOT NULL AS password_by_reference,
         s.old_side ->> 'server_version' AS server_version, s.dropping,
         (SELECT count(*) FROM tandem.source_table AS t WHERE t.source_id = s.source_id) AS tables, s.created_by, s.created_at
  FROM tandem.source AS s;
COMMENT ON VIEW tandem.sources IS 'old databases, without secrets';
COMMENT ON COLUMN tandem.sources.name IS 'name given to tandem.add_source';
COMMENT ON COLUMN tandem.sources.server IS 'foreign server of mysql_fdw';
COMMENT ON COLUMN tandem.sources.database IS 'old database';
COMMENT ON COLUMN tandem.sources.metadata_database IS 'database on the old side that holds the outboxes';
COMMENT ON COLUMN tandem.sources.mapping_role IS 'role whose user mapping holds the credentials';
COMMENT ON COLUMN tandem.sources.tls IS 'auto, verify or disable';
COMMENT ON COLUMN tandem.sources.password_by_reference IS 'the password is a reference on the worker''s host';
COMMENT ON COLUMN tandem.sources.server_version IS 'version of the old server when the source was added';
COMMENT ON COLUMN tandem.sources.dropping IS 'goes when the worker has cleaned the old side';
COMMENT ON COLUMN tandem.sources.tables IS 'number of tables added';
COMMENT ON COLUMN tandem.sources.created_by IS 'who added it';
COMMENT ON COLUMN tandem.sources.created_at IS 'when it was added';

CREATE VIEW tandem.tables AS
  SELECT s.name AS source, t.name AS "table", t.target, t.desired_state, coalesce(a.state, 'registered') AS state, a.reason,
         coalesce(a.backfill_done, false) AS backfill_done, t.key_columns,
         (SELECT jsonb_object_agg(m.name, coalesce(m.source_column, m.expression)) FROM tandem.target_column AS m
          WHERE m.table_id = t.table_id AND m.written) AS mapping,
         t.created_by, t.created_at, t.table_id, t.filter, t.constants,
         (SELECT jsonb_object_agg(c.name, CASE c.policy WHEN 'value' THEN jsonb_build_object('value', c.policy_value) ELSE to_jsonb(c.policy) END)
          FROM tandem.source_column AS c WHERE c.table_id = t.table_id AND c.policy <> 'dead_letter') AS policies
  FROM tandem.source_table AS t JOIN tandem.source AS s USING (source_id) LEFT JOIN tandem.table_state AS a USING (table_id);
COMMENT ON VIEW tandem.tables IS 'old tables with their targets, what is wanted of them and what is so';
COMMENT ON COLUMN tandem.tables.source IS 'source of the table';
COMMENT ON COLUMN tandem.tables."table" IS 'old table';
COMMENT ON COLUMN tandem.tables.target IS 'table of this database that it moves to';
COMMENT ON COLUMN tandem.tables.desired_state IS 'what was asked for: registered, running, paused, dropped';
COMMENT ON COLUMN tandem.tables.state IS 'what is so: registered, capturing, backfilling, syncing, paused, blocked, dropping';
COMMENT ON COLUMN tandem.tables.reason IS 'why it is blocked or not further';
COMMENT ON COLUMN tandem.tables.backfill_done IS 'all rows that were there at the start are applied';
COMMENT ON COLUMN tandem.tables.key_columns IS 'columns of the old key, in key order';
COMMENT ON COLUMN tandem.tables.mapping IS 'target column → old column or expression over old columns';
COMMENT ON COLUMN tandem.tables.created_by IS 'who added it';
COMMENT ON COLUMN tandem.tables.created_at IS 'when it was added';
COMMENT ON COLUMN tandem.tables.table_id IS 'number by which the internal tables know it';
COMMENT ON COLUMN tandem.tables.filter IS 'the target has the rows of the old table for which this is true; NULL: all';
COMMENT ON COLUMN tandem.tables.constants IS 'target column → value of all rows of this table';
COMMENT ON COLUMN tandem.tables.policies IS 'old column → what becomes of a value that PostgreSQL cannot hold, unless it is a dead letter';
