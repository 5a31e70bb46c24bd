-- Values that PostgreSQL cannot hold and for which a policy was declared (docs/protocol.md section 11). Written by apply, in the
-- transaction that changes the row.

CREATE TABLE tandem.sidecar (
  table_id    integer NOT NULL REFERENCES tandem.source_table ON DELETE CASCADE,
  key         bytea NOT NULL,
  column_name text NOT NULL,
  rule        text NOT NULL,
  original    bytea NOT NULL,
  kept_at     timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  PRIMARY KEY (table_id, key, column_name)
);
COMMENT ON TABLE tandem.sidecar IS 'original bytes of values that PostgreSQL cannot hold, of columns with the policy sidecar, as long as the row has them';
COMMENT ON COLUMN tandem.sidecar.key IS 'key bytes of the row, see tandem.decode_key';
COMMENT ON COLUMN tandem.sidecar.column_name IS 'old column';
COMMENT ON COLUMN tandem.sidecar.rule IS 'why PostgreSQL cannot hold it, such as zero date or U+0000';
COMMENT ON COLUMN tandem.sidecar.original IS 'text: the bytes as stored, in the column''s character set; a date or time: the text of MySQL';

CREATE TABLE tandem.mapped_loss (
  table_id    integer NOT NULL REFERENCES tandem.source_table ON DELETE CASCADE,
  column_name text NOT NULL,
  rule        text NOT NULL,
  policy      text NOT NULL,
  times       bigint NOT NULL,
  first_at    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  last_at     timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  PRIMARY KEY (table_id, column_name, rule, policy)
);
COMMENT ON TABLE tandem.mapped_loss IS 'how often a value was replaced as a policy says; view: tandem.losses';

-- The originals belong to the rows of the targets, which a dump has as well.
SELECT pg_catalog.pg_extension_config_dump('tandem.sidecar', '');

CREATE VIEW tandem.losses AS
  SELECT s.name AS source, t.name AS "table", t.target, m.column_name AS "column", m.rule, m.policy, m.times,
         CASE m.policy WHEN 'sidecar' THEN (SELECT count(*) FROM tandem.sidecar AS k
           WHERE k.table_id = m.table_id AND k.column_name = m.column_name AND k.rule = m.rule) END AS kept,
         m.first_at, m.last_at
  FROM tandem.mapped_loss AS m JOIN tandem.source_table AS t USING (table_id) JOIN tandem.source AS s USING (source_id);
COMMENT ON VIEW tandem.losses IS 'values of the old side that PostgreSQL cannot hold and that were replaced as a policy says';
COMMENT ON COLUMN tandem.losses.source IS 'source of the table';
COMMENT ON COLUMN tandem.losses."table" IS 'old table';
COMMENT ON COLUMN tandem.losses.target IS 'table of this database that holds the replacement';
COMMENT ON COLUMN tandem.losses."column" IS 'old column';
COMMENT ON COLUMN tandem.losses.rule IS 'why PostgreSQL cannot hold the value: zero date, invalid date, U+0000, invalid bytes, …';
COMMENT ON COLUMN tandem.losses.policy IS 'what was put in its place: null, value, or sidecar (NULL, with the original in tandem.sidecar)';
COMMENT ON COLUMN tandem.losses.times IS 'applied images that had such a value; a row that was written twice counts twice';
COMMENT ON COLUMN tandem.losses.kept IS 'rows whose original is in tandem.sidecar now';
COMMENT ON COLUMN tandem.losses.first_at IS 'when it happened first';
COMMENT ON COLUMN tandem.losses.last_at IS 'when it happened last';
GRANT SELECT ON tandem.losses TO tandem_monitor;
GRANT SELECT ON tandem.sidecar TO tandem_admin;
