-- How the old side's collations compare at their loosest: without regard to case and accents. Apply looks children of foreign keys up with it.
CREATE COLLATION tandem.loose (provider = icu, locale = 'und-u-ks-level1', deterministic = false);
COMMENT ON COLLATION tandem.loose IS 'compares text without regard to case and accents, for foreign keys of the old side with such a collation';

-- Keys between their forms (docs/protocol.md section 2). STABLE: they read the columns of the table from the catalog.

CREATE FUNCTION tandem.encode_key(table_id integer, key jsonb) RETURNS bytea
  LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tandem_encode_key';
COMMENT ON FUNCTION tandem.encode_key(integer, jsonb) IS 'key bytes of {"column": value, …}; error unless exactly the key columns are given';

CREATE FUNCTION tandem.decode_key(table_id integer, key bytea) RETURNS jsonb
  LANGUAGE c STABLE STRICT PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tandem_decode_key';
COMMENT ON FUNCTION tandem.decode_key(integer, bytea) IS 'key bytes as {"column": value, …}; {"bytes": "hex"} when they are not valid';

CREATE FUNCTION tandem.key_text(table_id integer, key bytea) RETURNS text[]
  LANGUAGE c STABLE STRICT PARALLEL RESTRICTED AS 'MODULE_PATHNAME', 'tandem_key_text';
COMMENT ON FUNCTION tandem.key_text(integer, bytea) IS 'key bytes as the text key that requests carry';

REVOKE ALL ON FUNCTION tandem.encode_key(integer, jsonb), tandem.decode_key(integer, bytea), tandem.key_text(integer, bytea) FROM PUBLIC;
