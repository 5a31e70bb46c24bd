-- Shadow writes: what apply notes of a table in phase shadow (docs/phases.md, "Shadow"). Written by apply. Runtime state: logged, not dumped.

CREATE TABLE tandem.shadow_refusal (
  table_id   integer NOT NULL REFERENCES tandem.source_table ON DELETE CASCADE,
  key        bytea NOT NULL,
  sqlstate   text NOT NULL,
  message    text NOT NULL,
  first_at   timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  last_at    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  times      bigint NOT NULL DEFAULT 1,
  PRIMARY KEY (table_id, key)
);
COMMENT ON TABLE tandem.shadow_refusal IS 'rows that the target would refuse as they are now, of tables whose shadow writes are rolled back; see tandem.shadow_report';
COMMENT ON COLUMN tandem.shadow_refusal.key IS 'key bytes of the row, see tandem.decode_key';
COMMENT ON COLUMN tandem.shadow_refusal.first_at IS 'since when it is refused';
COMMENT ON COLUMN tandem.shadow_refusal.times IS 'how often it was refused since then';

CREATE TABLE tandem.shadow_apply (
  table_id integer PRIMARY KEY REFERENCES tandem.source_table ON DELETE CASCADE,
  rows     bigint NOT NULL,
  us       bigint NOT NULL,
  slow     bigint NOT NULL DEFAULT 0,
  since    timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
  last_at  timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
COMMENT ON TABLE tandem.shadow_apply IS 'how long the target takes to apply changes in phase shadow; view: tandem.pg_stat_tandem_shadow_writes';
COMMENT ON COLUMN tandem.shadow_apply.us IS 'time that apply spent on them, in microseconds';
COMMENT ON COLUMN tandem.shadow_apply.slow IS 'sets of rows that took longer than tandem.shadow_slow_apply per row';

CREATE TABLE tandem.shadow_slow (
  slow_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  table_id integer NOT NULL REFERENCES tandem.source_table ON DELETE CASCADE,
  key      bytea NOT NULL,
  rows     integer NOT NULL,
  us       bigint NOT NULL,
  at       timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE INDEX shadow_slow_table ON tandem.shadow_slow (table_id);
COMMENT ON TABLE tandem.shadow_slow IS 'the slowest applies of each table in phase shadow; view: tandem.shadow_slow_applies';
COMMENT ON COLUMN tandem.shadow_slow.key IS 'key bytes of the first row of the set';

-- In order of keys: copiers and apply may write the same ones at the same time.
CREATE FUNCTION tandem._note_refusals(table_id integer, keys bytea[], sqlstates text[], messages text[], fitting bytea[]) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
  WITH gone AS (SELECT r.table_id, r.key FROM tandem.shadow_refusal AS r
                WHERE r.table_id = _note_refusals.table_id AND r.key = ANY (fitting) ORDER BY r.key FOR UPDATE)
  DELETE FROM tandem.shadow_refusal AS r USING gone AS g WHERE r.table_id = g.table_id AND r.key = g.key;
  INSERT INTO tandem.shadow_refusal AS r (table_id, key, sqlstate, message)
  SELECT DISTINCT ON (f.key) _note_refusals.table_id, f.key, f.sqlstate, f.message
  FROM ROWS FROM (unnest(keys), unnest(sqlstates), unnest(messages)) WITH ORDINALITY AS f(key, sqlstate, message, position)
  ORDER BY f.key, f.position DESC
  ON CONFLICT ON CONSTRAINT shadow_refusal_pkey DO UPDATE
    SET sqlstate = excluded.sqlstate, message = excluded.message, last_at = excluded.last_at, times = r.times + 1;
$$;
COMMENT ON FUNCTION tandem._note_refusals(integer, bytea[], text[], text[], bytea[]) IS 'notes rows that would be refused, and forgets those that fit now';

CREATE FUNCTION tandem._note_shadow_time(table_id integer, rows integer, us bigint, key bytea, slow boolean) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
  INSERT INTO tandem.shadow_apply AS a (table_id, rows, us, slow) VALUES (_note_shadow_time.table_id, rows, us, slow::integer)
  ON CONFLICT ON CONSTRAINT shadow_apply_pkey DO UPDATE
    SET rows = a.rows + excluded.rows, us = a.us + excluded.us, slow = a.slow + excluded.slow, last_at = excluded.last_at;
  INSERT INTO tandem.shadow_slow (table_id, key, rows, us) SELECT _note_shadow_time.table_id, key, rows, us WHERE slow;
  DELETE FROM tandem.shadow_slow AS s
  WHERE slow AND s.slow_id IN (SELECT o.slow_id FROM tandem.shadow_slow AS o WHERE o.table_id = _note_shadow_time.table_id
                               ORDER BY o.us / o.rows DESC, o.slow_id DESC OFFSET 20);
$$;
COMMENT ON FUNCTION tandem._note_shadow_time(integer, integer, bigint, bytea, boolean) IS 'counts an apply of a table in phase shadow; the 20 slowest are kept';

GRANT SELECT ON tandem.shadow_refusal TO tandem_admin;
