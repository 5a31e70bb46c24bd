-- Who may call and read what. Nothing in schema tandem is for PUBLIC.
--
-- Functions in SQL or PL/pgSQL without SECURITY DEFINER run with the rights of their caller, so tandem_admin may have them all: each can do
-- only what the caller could do by hand. The others are granted one by one, here or beside their definition.
DO $do$
DECLARE
  signature pg_catalog.regprocedure;
  by_caller boolean;
BEGIN
  FOR signature, by_caller IN
    SELECT p.oid, l.lanname OPERATOR(pg_catalog.=) ANY (ARRAY['sql', 'plpgsql']::pg_catalog.name[]) AND NOT p.prosecdef
                  AND p.prorettype OPERATOR(pg_catalog.<>) 'pg_catalog.trigger'::pg_catalog.regtype
    FROM pg_catalog.pg_proc AS p JOIN pg_catalog.pg_language AS l ON l.oid OPERATOR(pg_catalog.=) p.prolang
    WHERE p.pronamespace OPERATOR(pg_catalog.=) 'tandem'::pg_catalog.regnamespace
  LOOP
    EXECUTE pg_catalog.format('REVOKE ALL ON ROUTINE %s FROM PUBLIC', signature);
    IF by_caller THEN
      EXECUTE pg_catalog.format('GRANT EXECUTE ON ROUTINE %s TO tandem_admin', signature);
    END IF;
  END LOOP;
END
$do$;

GRANT EXECUTE ON FUNCTION tandem.enqueue(text, jsonb) TO tandem_admin;
-- Folded while a routed view is planned, with the rights of whoever reads the view: it tells which side is read, nothing else.
GRANT EXECUTE ON FUNCTION tandem._reads(integer, text) TO PUBLIC;
-- Likewise; it tells whether a key of a table was inserted a moment ago.
GRANT EXECUTE ON FUNCTION tandem._is_inserted_here(integer, jsonb) TO PUBLIC;
-- In C; the functions above call them.
GRANT EXECUTE ON FUNCTION tandem._ask(jsonb, interval), tandem._config_changed(), tandem._requests_changed(), tandem._wake_apply(),
  tandem.encode_key(integer, jsonb), tandem.decode_key(integer, bytea), tandem.key_text(integer, bytea) TO tandem_admin;

GRANT SELECT ON tandem.sources, tandem.tables TO tandem_monitor;
GRANT SELECT ON tandem.dead_letters TO tandem_admin;
