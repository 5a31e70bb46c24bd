-- Installation, what it needs, what it makes, and what it refuses.
\set SHOW_CONTEXT never
SET client_min_messages = warning;

-- A role of our name that is not a plain group is not given our functions.
CREATE ROLE tandem_monitor LOGIN;
CREATE EXTENSION pg_tandem CASCADE;
DROP ROLE tandem_monitor;
CREATE EXTENSION mysql_fdw;

-- Objects made beforehand are not taken over, nor is a schema that somebody else owns; an empty one of a superuser is used.
CREATE SCHEMA tandem;
CREATE TABLE tandem.source (trap integer);
CREATE EXTENSION pg_tandem;
DROP TABLE tandem.source;
CREATE FUNCTION tandem.format(text, name) RETURNS text LANGUAGE sql AS $$ SELECT 'caught' $$;
CREATE EXTENSION pg_tandem;
DROP FUNCTION tandem.format;
CREATE ROLE regress_squatter;
ALTER SCHEMA tandem OWNER TO regress_squatter;
CREATE EXTENSION pg_tandem;
ALTER SCHEMA tandem OWNER TO CURRENT_USER;
DROP ROLE regress_squatter;
BEGIN;
CREATE EXTENSION pg_tandem;
ROLLBACK;
DROP SCHEMA tandem;

-- A hostile search_path changes nothing.
CREATE SCHEMA evil;
CREATE FUNCTION evil.now() RETURNS timestamptz LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'caught'; END $$;
CREATE FUNCTION evil.equal(text, text) RETURNS boolean LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'caught'; END $$;
CREATE OPERATOR evil.= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.equal);
SET search_path = evil, pg_catalog, public;
CREATE EXTENSION pg_tandem;
RESET search_path;
DROP SCHEMA evil CASCADE;

SELECT extname FROM pg_extension WHERE extname IN ('mysql_fdw', 'pg_tandem') ORDER BY 1;
SELECT rolname, rolcanlogin FROM pg_roles WHERE rolname LIKE 'tandem\_%' ORDER BY 1;

-- Each relation, column of a view, function and type says what it is for.
SELECT c.relname AS undocumented FROM pg_class AS c
WHERE c.relnamespace = 'tandem'::regnamespace AND c.relkind IN ('r', 'v') AND obj_description(c.oid, 'pg_class') IS NULL ORDER BY 1;
SELECT c.relname || '.' || a.attname AS undocumented FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0
WHERE c.relnamespace = 'tandem'::regnamespace AND c.relkind = 'v' AND c.relname NOT LIKE '\_%' AND col_description(c.oid, a.attnum) IS NULL ORDER BY 1;
SELECT p.oid::regprocedure AS undocumented FROM pg_proc AS p
WHERE p.pronamespace = 'tandem'::regnamespace AND obj_description(p.oid, 'pg_proc') IS NULL ORDER BY 1;

-- Every function in SQL or PL/pgSQL is pinned to a safe search_path. Procedures that COMMIT cannot be; they qualify everything and call functions.
SELECT p.oid::regprocedure AS unpinned FROM pg_proc AS p JOIN pg_language AS l ON l.oid = p.prolang
WHERE p.pronamespace = 'tandem'::regnamespace AND l.lanname IN ('sql', 'plpgsql') AND p.prokind <> 'p'
  AND NOT coalesce('search_path=pg_catalog, pg_temp' = ANY (p.proconfig), false) ORDER BY 1;

-- It can go and come back. The apply worker and tandem-sync look into its tables at any time, so DROP may lose a deadlock against them.
DO $$
BEGIN
  LOOP
    BEGIN
      DROP EXTENSION pg_tandem;
      EXIT;
    EXCEPTION WHEN deadlock_detected THEN
      -- once more
    END;
  END LOOP;
END
$$;
SELECT count(*) FROM pg_class WHERE relnamespace = to_regnamespace('tandem');
CREATE EXTENSION pg_tandem;
