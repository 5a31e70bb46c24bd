-- Reconciliation: functions that run with the rights of the extension, for tandem_admin. After the REVOKE of 80_privileges.

-- Digests are computed with the rights of a target's owner. It only adds up what it is given, and without USAGE of the
-- schema nobody can name it.
GRANT EXECUTE ON FUNCTION tandem._digest(integer, bytea, "any") TO PUBLIC;

GRANT EXECUTE ON FUNCTION tandem.reconcilable(integer),
  tandem.reconcile_start(text, jsonb, jsonb, double precision, integer), tandem.reconcile_start(text[], jsonb, jsonb, double precision, integer),
  tandem.reconcile_cancel(bigint), tandem.reconcile_continuously(text, interval, integer, double precision, boolean),
  tandem.reconcile_pause(text), tandem.reconcile_resume(text), tandem.reconcile_set_pace(text, integer, double precision),
  tandem._repair_chosen(bigint[], boolean, integer), tandem.auto_repair(text, text[]), tandem.review(bigint, text, text),
  tandem._story(integer, bytea), tandem._remedy(integer, bytea) TO tandem_admin;
GRANT SELECT ON tandem.reconcile_run, tandem.reconcile_setting, tandem.reconcile_ledger, tandem.reconcile_pending TO tandem_admin;
