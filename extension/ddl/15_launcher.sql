-- Tells the launcher, at commit, that this database has the extension (called at the very end of this script).
CREATE FUNCTION tandem._database_ready() RETURNS void
  LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tandem_database_ready';
REVOKE ALL ON FUNCTION tandem._database_ready() FROM PUBLIC;
COMMENT ON FUNCTION tandem._database_ready() IS 'starts the apply worker of this database when the current transaction commits';
