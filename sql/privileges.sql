-- Who may do what: nobody by default; tandem_admin within its own rights; tandem_monitor reads without secrets.
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.inc
\i :prelude
SET client_min_messages = warning;
-- Nothing for PUBLIC, but what the planner asks for a routed view.
SELECT p.oid::regprocedure AS for_public FROM pg_proc AS p
WHERE p.pronamespace = 'tandem'::regnamespace AND (p.proacl IS NULL OR EXISTS (SELECT FROM aclexplode(p.proacl) AS a WHERE a.grantee = 0)) ORDER BY 1;
SELECT c.oid::regclass AS for_public FROM pg_class AS c
WHERE c.relnamespace = 'tandem'::regnamespace AND EXISTS (SELECT FROM aclexplode(c.relacl) AS a WHERE a.grantee = 0) ORDER BY 1;

-- The list, function by function.
SELECT p.oid::regprocedure AS function, string_agg(a.grantee::regrole::text, ', ' ORDER BY a.grantee::regrole::text) AS may_call
FROM pg_proc AS p CROSS JOIN LATERAL aclexplode(p.proacl) AS a
WHERE p.pronamespace = 'tandem'::regnamespace AND a.grantee <> p.proowner AND p.proname NOT LIKE '\_%'
GROUP BY p.oid ORDER BY p.oid::regprocedure::text;
SELECT c.relname AS view, string_agg(DISTINCT a.grantee::regrole::text, ', ' ORDER BY a.grantee::regrole::text) AS may_read
FROM pg_class AS c CROSS JOIN LATERAL aclexplode(c.relacl) AS a
WHERE c.relnamespace = 'tandem'::regnamespace AND c.relkind = 'v' AND a.grantee <> c.relowner GROUP BY 1 ORDER BY 1;

CREATE ROLE regress_nobody;
CREATE ROLE regress_monitor IN ROLE tandem_monitor;
CREATE ROLE regress_admin IN ROLE tandem_admin;
CREATE ROLE regress_other IN ROLE tandem_admin;
GRANT CREATE ON SCHEMA public TO regress_admin, regress_other;

SET ROLE regress_nobody;
TABLE tandem.sources;
SELECT tandem.start();
RESET ROLE;

SET ROLE regress_monitor;
SELECT count(*) FROM tandem.sources;
SELECT count(*) FROM tandem.tables;
TABLE tandem.dead_letters;
TABLE tandem.source;
SELECT tandem.pause();
RESET ROLE;

-- An admin needs the server, a mapping of its own, and owns what it creates.
SET ROLE regress_admin;
SELECT tandem.add_source('mine', 'old', 'shop');
RESET ROLE;
GRANT USAGE ON FOREIGN SERVER old TO regress_admin, regress_other;
SET ROLE regress_admin;
SELECT tandem.add_source('mine', 'old', 'shop');
RESET ROLE;
CREATE USER MAPPING FOR regress_admin SERVER old OPTIONS (username 'tandem', password :'mysql_password');
SET ROLE regress_admin;
SELECT tandem.add_source('mine', 'old', 'shop') > 0 AS added;
SELECT name, mapping_role, created_by FROM tandem.sources;
SELECT tandem.add_table('mine', 'orgs') IS NOT NULL AS added;
SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'orgs'::regclass;
-- By hand, around the functions: still not more than its own rights.
INSERT INTO tandem.source (name, server, database, mapping_role) VALUES ('x', 'old', 'shop', 'postgres');
UPDATE tandem.source_table SET created_by = 'postgres';
INSERT INTO tandem.source_table (source_id, name, target, key_columns, outbox, trigger_suffix)
SELECT source_id, 'x', 'pg_authid', '{}', '', '' FROM tandem.source;
RESET ROLE;

-- Another admin cannot direct rows into a table that is not its own.
SET ROLE regress_other;
SELECT tandem.add_table('mine', 'pairs', 'orgs');
SELECT tandem.start('orgs');
SELECT tandem.drop_table('orgs');
INSERT INTO tandem.target_column (table_id, name, expression) SELECT table_id, 'name', '''x''' FROM tandem.tables;
RESET ROLE;

SET ROLE regress_admin;
SELECT tandem.drop_source('mine', cascade => true);
DROP TABLE orgs;
RESET ROLE;
REVOKE CREATE ON SCHEMA public FROM regress_admin, regress_other;
DROP USER MAPPING FOR regress_admin SERVER old;
REVOKE USAGE ON FOREIGN SERVER old FROM regress_admin, regress_other;
DROP ROLE regress_nobody, regress_monitor, regress_admin, regress_other;
