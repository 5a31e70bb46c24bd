-- The skeleton every later version is checked with: each version that can be installed reaches the present one, and nothing else is offered.
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.inc
\i :prelude
SELECT p.source AS without_a_way_up
FROM pg_extension_update_paths('pg_tandem') AS p JOIN pg_extension AS e ON e.extname = 'pg_tandem' AND e.extversion = p.target
WHERE p.path IS NULL;
-- The script made exactly these tables and views: a difference here needs an upgrade script.
SELECT c.relkind, c.relname FROM pg_class AS c JOIN pg_depend AS d ON d.objid = c.oid AND d.classid = 'pg_class'::regclass AND d.deptype = 'e'
WHERE d.refobjid = (SELECT oid FROM pg_extension WHERE extname = 'pg_tandem') AND c.relkind IN ('r', 'v') ORDER BY 1, 2;
