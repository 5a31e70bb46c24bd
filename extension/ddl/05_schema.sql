\echo Use "CREATE EXTENSION pg_tandem CASCADE" to load this file. \quit

-- A schema of our name may be there already. Whoever owns it could replace what we make in it, and what lies in it could be taken for ours: only an
-- empty schema of a superuser is used (one that pg_restore or an administrator made).
DO $do$
DECLARE
  owner name;
  trusted boolean;
  stranger text;
BEGIN
  SELECT r.rolname, r.rolsuper INTO owner, trusted
  FROM pg_catalog.pg_namespace AS n JOIN pg_catalog.pg_roles AS r ON r.oid OPERATOR(pg_catalog.=) n.nspowner
  WHERE n.nspname OPERATOR(pg_catalog.=) 'tandem'::name;
  IF NOT trusted THEN
    RAISE EXCEPTION USING
      ERRCODE = 'duplicate_schema',
      MESSAGE = pg_catalog.format('schema "tandem" exists and belongs to "%s"', owner),
      DETAIL = 'Its owner could replace what pg_tandem makes in it.',
      HINT = 'Rename or drop it, or give it to a superuser: ALTER SCHEMA tandem OWNER TO CURRENT_USER;';
  END IF;
  SELECT pg_catalog.pg_describe_object(d.classid, d.objid, d.objsubid) INTO stranger
  FROM pg_catalog.pg_depend AS d JOIN pg_catalog.pg_namespace AS n ON n.oid OPERATOR(pg_catalog.=) d.refobjid
  WHERE n.nspname OPERATOR(pg_catalog.=) 'tandem'::name AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_namespace'::pg_catalog.regclass::pg_catalog.oid
    AND d.deptype OPERATOR(pg_catalog.=) 'n'::"char"
    AND d.classid OPERATOR(pg_catalog.<>) 'pg_catalog.pg_extension'::pg_catalog.regclass::pg_catalog.oid
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS e WHERE e.classid OPERATOR(pg_catalog.=) d.classid AND e.objid OPERATOR(pg_catalog.=) d.objid
                    AND e.deptype OPERATOR(pg_catalog.=) 'e'::"char")
  ORDER BY d.classid, d.objid LIMIT 1;
  IF stranger IS NOT NULL THEN
    RAISE EXCEPTION USING
      ERRCODE = 'duplicate_object',
      MESSAGE = 'schema "tandem" is not empty',
      DETAIL = pg_catalog.format('It holds %s, which pg_tandem did not make.', stranger),
      HINT = 'Move it elsewhere or drop it.';
  END IF;
END
$do$;

