-- Shadow reads and the report of a shadow: refusals and rights. What is found is tested with both servers in tests/integration/shadow.
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.inc
\i :prelude
SET client_min_messages = warning;
SELECT tandem.add_source('shop', 'old', 'shop') > 0 AS added;
SELECT count(*) FROM tandem.add_tables('shop', 'orgs');
-- The mode of a shadow is chosen before it.
SELECT tandem.set_shadow_mode('orgs', 'drop');
SELECT tandem.set_shadow_mode('{}'::text[], 'discard');
SELECT tandem.set_shadow_mode('nix', 'discard');
SELECT tandem.set_shadow_mode('orgs', 'discard', 'a trial');
SELECT phase, shadow_mode, note FROM tandem.phases;
SELECT tandem.set_shadow_mode('orgs', 'keep');
SELECT tandem.set_phase('orgs', 'shadow') > 0 AS moved;
SELECT tandem.set_shadow_mode('orgs', 'keep');
SELECT tandem.set_shadow_mode('orgs', 'discard');
UPDATE tandem.phase SET shadow_mode = 'discard';
SELECT tandem.wait_for('orgs', 'syncing'), tandem.wait_caught_up('30 s');
SELECT tandem.shadow_read('orgs', '{"id": 1}');
SELECT tandem.sample_reads('orgs');
SELECT tandem.create_routed_view('orgs', 'orgs_routed');
SELECT * FROM tandem.shadow_read('orgs', '{"id": 1}');
SELECT * FROM tandem.shadow_read('orgs', '{"id": 77}');
SELECT tandem.shadow_read('orgs', '{"name": 1}');
SELECT tandem.shadow_read('nix', '{"id": 1}');
SELECT verdict, count(*) FROM tandem.sample_reads('orgs', 2) GROUP BY 1;
SELECT tandem.sample_reads('orgs', 0);
SELECT * FROM tandem.shadow_report('orgs');
SELECT tandem.shadow_report('nix');
SELECT source, "table", phase, shadow_mode, slow_applies, refused FROM tandem.pg_stat_tandem_shadow_writes;
SELECT * FROM tandem.shadow_slow_applies;
SELECT source, "table", reads, equal, in_flight, collation_only, declared_loss, real, last_real FROM tandem.pg_stat_tandem_shadow_reads;
-- Where the new side is the source of truth there is nothing to try.
BEGIN;
SELECT table_id AS id FROM tandem.tables WHERE "table" = 'orgs' \gset
SELECT tandem.set_phase('orgs', 'syncing') > 0 AS m, tandem.set_phase('orgs', 'ready') > 0 AS m;
UPDATE tandem.phase SET shadow_mode = 'discard';
SELECT phase, shadow_mode FROM tandem.phase;
SAVEPOINT before;
SELECT tandem.set_shadow_mode('orgs', 'discard');
ROLLBACK TO before;
SELECT tandem._move_phase(ARRAY[:id], '{ready}', 'cutover', NULL, NULL) > 0 AS m, tandem._move_phase(ARRAY[:id], '{cutover}', 'new_primary', NULL, NULL) > 0 AS m;
SELECT tandem.shadow_read('orgs', '{"id": 1}');
ROLLBACK;
CREATE ROLE regress_shadow IN ROLE tandem_monitor;
SET ROLE regress_shadow;
SELECT sum(reads) FROM tandem.pg_stat_tandem_shadow_reads;
SELECT tandem.shadow_read('orgs', '{"id": 1}');
SELECT tandem.shadow_report('orgs');
SELECT count(*) FROM tandem.pg_stat_tandem_shadow_writes;
SELECT * FROM tandem.shadow_slow_applies;
SELECT tandem.set_shadow_mode('orgs', 'discard');
RESET ROLE;
DROP ROLE regress_shadow;
SELECT tandem.drop_routed_view('orgs_routed');
SELECT tandem.drop_source('shop', cascade => true);
SELECT tandem.wait_for('orgs', 'dropped');
DROP TABLE orgs;
