-- The phase machine: every transition, allowed and refused; what is lacking; read strategies; history; who may.
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.inc
\i :prelude
SET client_min_messages = warning;
SELECT tandem.add_source('shop', 'old', 'shop') > 0 AS added;
SELECT count(*) FROM tandem.add_tables('shop', 'pairs');
SELECT count(*) FROM tandem.add_tables('shop', 'orgs');
SELECT count(*) FROM tandem.add_tables('shop', 'users');
SELECT "table", phase, epoch, source_of_truth, read_strategy, reads, writes, runs, next_phases FROM tandem.phases ORDER BY 1;

-- Names and arguments.
SELECT tandem.set_phase('nix', 'ready');
SELECT tandem.set_phase('pairs', 'done');
SELECT tandem.set_phase('pairs', NULL);
SELECT tandem.set_phase('{}'::text[], 'ready');
SELECT tandem.set_read_strategy('pairs', 'both');
SELECT tandem.set_read_strategy('{}'::text[], 'old');

-- Starting is what tandem.start does, with its conditions: users is changed by cascades of orgs.
SELECT tandem.set_phase('users', 'syncing');
SELECT tandem.set_phase('users', 'shadow');
SELECT "table", phase, desired_state FROM tandem.phases JOIN tandem.tables USING (source, "table") ORDER BY 1;
SELECT tandem.set_phase(ARRAY['users', 'orgs'], 'shadow', 'first try') > 0 AS moved;
SELECT tandem.start();
SELECT tandem.start();
SELECT tandem.wait_for('users', 'syncing'), tandem.wait_for('orgs', 'syncing'), tandem.wait_for('pairs', 'syncing'), tandem.wait_caught_up('30 s');
SELECT "table", phase, runs, note FROM tandem.phases ORDER BY 1;
SELECT count(DISTINCT epoch) AS one_epoch FROM tandem.phases WHERE phase = 'shadow';

-- Everything that is lacking is listed at once; nothing moves.
SELECT tandem.pause('pairs');
SELECT tandem.wait_for('pairs', 'paused');
SELECT tandem.set_phase('pairs', 'dual_write');
INSERT INTO tandem.dead_letter (table_id, key, op, sqlstate, message)
SELECT table_id, tandem.encode_key(table_id, '{"b": "x", "a": 1}'), 'U', '23514', 'x' FROM tandem.tables WHERE "table" = 'pairs';
SELECT tandem.set_phase('pairs', 'ready');
SELECT tandem.resume('pairs');
SELECT tandem.wait_for('pairs', 'syncing');
SELECT tandem.set_phase('pairs', 'ready');
SELECT tandem.set_phase(ARRAY['users', 'pairs'], 'ready');
SELECT tandem.discard_dead_letter('pairs', '{"b": "x", "a": 1}');

-- A group moves together or not at all, also from different phases; asking twice changes nothing.
SELECT tandem.set_phase(ARRAY['users', 'orgs', 'pairs'], 'syncing') > 0 AS moved;
SELECT "table", phase FROM tandem.phases ORDER BY 1;
SELECT count(*) AS before FROM tandem.phase_history \gset
SELECT tandem.set_phase('users', 'syncing') = (SELECT epoch FROM tandem.phases WHERE "table" = 'users') AS same;
SELECT count(*) - :before AS new_lines FROM tandem.phase_history;
BEGIN;
SELECT tandem.set_phase('users', 'ready') > 0 AS moved;
ROLLBACK;
SELECT phase FROM tandem.phases WHERE "table" = 'users';

-- Every pair of phases, by tandem.set_phase. The table is put into the first phase by the functions of the cut-over's own way.
CREATE PROCEDURE put(wanted text) LANGUAGE plpgsql AS $$
DECLARE
  id integer := (SELECT table_id FROM tandem.tables WHERE "table" = 'pairs');
  step text;
  -- One way that passes through all of them but the first two.
  way CONSTANT text[] := ARRAY['syncing', 'dual_write', 'ready', 'cutover', 'new_primary', 'closing', 'ready'];
BEGIN
  IF wanted = 'contracted' THEN
    CALL put('new_primary');
    PERFORM tandem._move_phase(ARRAY[id], ARRAY['new_primary'], 'contracted', NULL, NULL);
    RETURN;
  END IF;
  FOR i IN 1 .. 20 LOOP
    step := (SELECT phase FROM tandem.phase WHERE table_id = id);
    EXIT WHEN step = wanted;
    PERFORM tandem._move_phase(ARRAY[id], ARRAY[step],
      CASE WHEN step = 'ready' AND wanted IN ('syncing', 'dual_write') THEN wanted ELSE way[array_position(way, step) + 1] END, NULL, NULL);
  END LOOP;
END $$;
CREATE FUNCTION attempt(wanted text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  detail text;
  hint text;
BEGIN
  PERFORM tandem.set_phase('pairs', wanted);
  RETURN 'moved';
EXCEPTION WHEN object_not_in_prerequisite_state THEN
  GET STACKED DIAGNOSTICS detail = PG_EXCEPTION_DETAIL, hint = PG_EXCEPTION_HINT;
  RETURN concat_ws(' | ', SQLERRM, nullif(detail, ''), nullif(hint, ''));
END $$;
CREATE TABLE outcome (n serial, from_phase text, to_phase text, result text);
DO $$
DECLARE
  a text;
  b text;
  said text;
BEGIN
  FOREACH a IN ARRAY ARRAY['syncing', 'dual_write', 'ready', 'cutover', 'new_primary', 'closing', 'contracted'] LOOP
    FOREACH b IN ARRAY ARRAY['registered', 'shadow', 'syncing', 'dual_write', 'ready', 'cutover', 'new_primary', 'closing', 'contracted'] LOOP
      CONTINUE WHEN a = b;
      BEGIN
        CALL put(a);
        said := attempt(b);
        RAISE EXCEPTION USING ERRCODE = 'P0002'; -- undo
      EXCEPTION WHEN SQLSTATE 'P0002' THEN
        INSERT INTO outcome (from_phase, to_phase, result) VALUES (a, b, said);
      END;
    END LOOP;
  END LOOP;
END $$;
\pset format unaligned
SELECT from_phase, to_phase, result FROM outcome ORDER BY n;
\pset format aligned
-- From the first two phases.
SELECT count(*) FROM tandem.add_tables('shop', 'by_unique');
SELECT tandem.set_phase('by_unique', 'dual_write');
SELECT tandem.set_phase('by_unique', 'ready');
SELECT tandem.set_phase('by_unique', 'cutover');
SELECT tandem.set_phase('by_unique', 'new_primary');
SELECT tandem.set_phase('by_unique', 'contracted');
SELECT tandem.set_phase('by_unique', 'registered') AS where_it_is;
SELECT tandem.set_phase('by_unique', 'shadow') > 0 AS moved;
SELECT tandem.set_phase('by_unique', 'ready');
SELECT tandem.set_phase('by_unique', 'registered');
SELECT tandem.set_phase('by_unique', 'syncing') > 0 AS moved;
SELECT desired_state FROM tandem.tables WHERE "table" = 'by_unique';

-- Compare-and-set.
SELECT table_id AS id FROM tandem.tables WHERE "table" = 'pairs' \gset
SELECT epoch FROM tandem.phases WHERE "table" = 'pairs' \gset
SELECT tandem._move_phase(ARRAY[:id], '{ready}', 'cutover', NULL, NULL);
SELECT tandem._move_phase(ARRAY[:id], '{syncing,ready}', 'ready', :epoch, 'a') > :epoch AS moved;
\set VERBOSITY terse
SELECT tandem._move_phase(ARRAY[:id], '{syncing,ready}', 'cutover', :epoch, NULL);
\set VERBOSITY default
SELECT tandem._move_phase(ARRAY[:id], '{ready}', 'contracted', NULL, NULL);
SELECT tandem._move_phase(ARRAY[:id, -1], '{ready}', 'cutover', NULL, NULL);
SELECT tandem._move_phase('{}', '{ready}', 'cutover', NULL, NULL);
\set VERBOSITY sqlstate
UPDATE tandem.phase SET phase = 'cutover' WHERE table_id = :id;
\set VERBOSITY default
-- The same phase again with a new epoch is an attempt that takes over.
SELECT tandem._move_phase(ARRAY[:id], '{ready}', 'cutover', NULL, 'first') < tandem._move_phase(ARRAY[:id], '{cutover}', 'cutover', NULL, 'second') AS taken_over;
-- What is decided by a commit is on disk.
BEGIN;
SET LOCAL synchronous_commit = off;
SELECT tandem._move_phase(ARRAY[:id], '{cutover}', 'ready', NULL, 'given up') > 0 AS moved;
SHOW synchronous_commit;
COMMIT;
SELECT from_phase, to_phase, note, moved_by = session_user AS by_me FROM tandem.phase_history WHERE table_id = :id ORDER BY history_id DESC LIMIT 4;

-- Read strategies: what the phase allows, and no more than that when it changes.
SELECT tandem.set_read_strategy('users', 'new');
SELECT tandem.set_phase('users', 'dual_write') > 0 AS moved;
SELECT tandem.set_read_strategy('users', 'new');
-- Merging needs to know which state is the newer one.
SELECT tandem.set_read_strategy('users', 'merge');
SELECT tandem.set_read_strategy(ARRAY['users', 'orgs'], 'new_fallback_old');
SELECT tandem.set_read_strategy(ARRAY['users', 'pairs'], 'new_fallback_old', 'half of the readers are moved');
SELECT "table", phase, read_strategy, reads, note FROM tandem.phases ORDER BY 1;
SELECT tandem.set_read_strategy('pairs', 'new');
SELECT tandem.set_phase(ARRAY['users', 'pairs'], 'syncing') > 0 AS moved;
SELECT "table", read_strategy FROM tandem.phases ORDER BY 1;
BEGIN;
SELECT tandem._move_phase(ARRAY[:id], '{syncing}', 'ready', NULL, NULL) > 0 AS m, tandem._move_phase(ARRAY[:id], '{ready}', 'cutover', NULL, NULL) > 0 AS m,
  tandem._move_phase(ARRAY[:id], '{cutover}', 'new_primary', NULL, NULL) > 0 AS m;
SELECT phase, source_of_truth, read_strategy, reads, writes, runs FROM tandem.phases WHERE "table" = 'pairs';
SAVEPOINT s;
SELECT tandem.set_read_strategy('pairs', 'old');
ROLLBACK TO s;
SELECT tandem.drop_table('pairs');
ROLLBACK TO s;
SELECT tandem._move_phase(ARRAY[:id], '{new_primary}', 'closing', NULL, NULL) > 0 AS m;
SELECT phase, source_of_truth, read_strategy, writes, runs FROM tandem.phases WHERE "table" = 'pairs';
SAVEPOINT s;
SELECT tandem.drop_source('shop', cascade => true);
ROLLBACK;

-- Only the owner of the target moves it; a monitor looks.
CREATE ROLE regress_phase_admin IN ROLE tandem_admin;
CREATE ROLE regress_phase_monitor IN ROLE tandem_monitor;
SET ROLE regress_phase_admin;
SELECT tandem.set_phase('users', 'ready');
SELECT tandem._move_phase(ARRAY[:id], '{syncing}', 'ready', NULL, NULL);
SELECT tandem.set_read_strategy('pairs', 'new');
UPDATE tandem.phase SET moved_by = 'somebody';
DELETE FROM tandem.phase_history;
SET ROLE regress_phase_monitor;
SELECT count(*) > 0 AS sees FROM tandem.phases;
SELECT count(*) > 0 AS sees FROM tandem.phase_history;
SELECT tandem.set_phase('users', 'ready');
RESET ROLE;
ALTER TABLE users OWNER TO regress_phase_admin;
SET ROLE regress_phase_admin;
SELECT tandem.set_phase('users', 'ready') > 0 AS moved;
RESET ROLE;
ALTER TABLE users OWNER TO CURRENT_USER;

-- A copy of the database is not the source of truth of anything.
CREATE TABLE phases_before AS SELECT "table", phase FROM tandem.phases;
\! psql -Xqd postgres -c 'CREATE DATABASE regression_copy'
\! pg_dump regression | psql -Xqd regression_copy -v ON_ERROR_STOP=1 >/dev/null && echo restored
\c regression_copy
SET client_min_messages = warning;
SELECT b."table", b.phase AS was, p.phase, p.epoch, p.read_strategy FROM phases_before AS b JOIN tandem.phases AS p USING ("table") ORDER BY 1;
\c regression
\! psql -Xqd postgres -c 'DROP DATABASE regression_copy WITH (FORCE)'
SET client_min_messages = warning;
SELECT tandem.drop_source('shop', cascade => true);
SELECT tandem.wait_for('users', 'dropped'), tandem.wait_for('orgs', 'dropped'), tandem.wait_for('pairs', 'dropped'), tandem.wait_for('by_unique', 'dropped');
SELECT count(*) AS phases FROM tandem.phase;
SELECT count(*) > 0 AS kept FROM tandem.phase_history;
DROP TABLE users, orgs, pairs, by_unique, outcome, phases_before;
DROP PROCEDURE put;
DROP FUNCTION attempt;
DROP ROLE regress_phase_admin, regress_phase_monitor;
