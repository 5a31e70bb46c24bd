-- Roles are cluster-wide, so another database may have made them already. A role of that name that can log in or has
-- attributes was not made by us: refuse instead of handing our functions to it.
DO $do$
DECLARE
  wanted name;
  strange boolean;
BEGIN
  FOREACH wanted IN ARRAY ARRAY['tandem_admin', 'tandem_monitor', 'tandem_worker']::name[] LOOP
    SELECT r.rolcanlogin OR r.rolsuper OR r.rolcreaterole OR r.rolcreatedb OR r.rolreplication OR r.rolbypassrls
      INTO strange FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) wanted;
    IF NOT FOUND THEN
      EXECUTE pg_catalog.format('CREATE ROLE %I NOLOGIN', wanted);
    ELSIF strange THEN
      RAISE EXCEPTION USING
        ERRCODE = 'duplicate_object',
        MESSAGE = pg_catalog.format('role "%s" exists and is not a plain group role', wanted),
        DETAIL = 'pg_tandem grants its functions to this role, which must be NOLOGIN and without attributes.',
        HINT = pg_catalog.format('Rename it, or make it plain: ALTER ROLE %I NOLOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION NOBYPASSRLS;', wanted);
    END IF;
  END LOOP;
  GRANT tandem_monitor TO tandem_admin;
END
$do$;

GRANT USAGE ON SCHEMA tandem TO tandem_admin, tandem_monitor, tandem_worker;
