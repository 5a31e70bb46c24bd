-- The way back, from the new side to the old one, after the cut-over (docs/protocol.md section 15). Runtime state but for reverse_column.

CREATE TABLE tandem.reverse_column (
  table_id   integer NOT NULL REFERENCES tandem.source_table ON DELETE CASCADE,
  name       text NOT NULL,
  expression text NOT NULL,
  PRIMARY KEY (table_id, name)
);
COMMENT ON TABLE tandem.reverse_column IS 'old column → expression over the target''s columns that gives its value back, where the target holds it in another form; set by tandem.set_reverse';
SELECT pg_catalog.pg_extension_config_dump('tandem.reverse_column', '');

CREATE TABLE tandem.reverse_outbox (
  event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  table_id integer NOT NULL,
  key      bytea NOT NULL,
  at       timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE INDEX reverse_outbox_table ON tandem.reverse_outbox (table_id, event_id);
COMMENT ON TABLE tandem.reverse_outbox IS 'keys of rows that were changed on the new side since it is the source of truth, written in the transaction that changed them';
COMMENT ON COLUMN tandem.reverse_outbox.at IS 'shown as lag only, never decided upon';

CREATE TABLE tandem.reverse_letter (
  table_id     integer NOT NULL REFERENCES tandem.source_table ON DELETE CASCADE,
  key          bytea NOT NULL,
  dead         boolean NOT NULL,
  attempts     integer NOT NULL DEFAULT 1,
  sqlstate     text NOT NULL,
  message      text NOT NULL,
  first_failed timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  next_attempt timestamptz NOT NULL,
  PRIMARY KEY (table_id, key)
);
CREATE INDEX reverse_letter_due ON tandem.reverse_letter (next_attempt) WHERE NOT dead;
COMMENT ON TABLE tandem.reverse_letter IS 'keys whose row the old side did not take, until it takes a later state of the row; dead: it will not take this one';

CREATE TABLE tandem.reverse_stats (
  table_id     integer PRIMARY KEY REFERENCES tandem.source_table ON DELETE CASCADE,
  batches      bigint NOT NULL DEFAULT 0,
  rows         bigint NOT NULL DEFAULT 0,
  refused      bigint NOT NULL DEFAULT 0,
  latency_ms   double precision,
  slowest_ms   double precision,
  last_written timestamptz
);
COMMENT ON TABLE tandem.reverse_stats IS 'what the worker wrote to the old side, counted in the transaction that acknowledges it';
