-- The phase machine: what follows what, the one function that moves a phase, tandem.set_phase, tandem.set_read_strategy (docs/phases.md).
--
-- The rules are kept by triggers on tandem.phase, whoever writes to it: only along the arrows, only by the owner of the target, always
-- with a greater epoch, never without a line in the history.

CREATE FUNCTION tandem._next_phases(phase text) RETURNS text[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE phase
    WHEN 'registered' THEN '{shadow,syncing}'
    WHEN 'shadow' THEN '{syncing}'
    WHEN 'syncing' THEN '{dual_write,ready}'
    WHEN 'dual_write' THEN '{syncing,ready}'
    WHEN 'ready' THEN '{syncing,dual_write,cutover}'
    WHEN 'cutover' THEN '{ready,new_primary}'
    WHEN 'new_primary' THEN '{closing,contracted}'
    WHEN 'closing' THEN '{new_primary,ready}'
    ELSE '{}' END::text[]
$$;
COMMENT ON FUNCTION tandem._next_phases(text) IS 'phases that may follow a phase';

CREATE FUNCTION tandem._source_of_truth(phase text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$ SELECT CASE WHEN phase IN ('new_primary', 'closing', 'contracted') THEN 'new' ELSE 'old' END $$;
COMMENT ON FUNCTION tandem._source_of_truth(text) IS 'side whose rows are right in a phase: old or new';

CREATE FUNCTION tandem._strategies(phase text) RETURNS text[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE
    WHEN phase IN ('new_primary', 'closing', 'contracted') THEN '{new}'
    WHEN phase = 'dual_write' THEN '{old,new_fallback_old,merge}'
    WHEN phase IN ('ready', 'cutover') THEN '{old,new_fallback_old,merge,new}'
    ELSE '{old}' END::text[]
$$;
COMMENT ON FUNCTION tandem._strategies(text) IS 'read strategies that a phase allows; the first is the one it begins with when the present one is not among them';

-- What becomes of a write to the target by anybody but apply. Declared for the phases in which the new side only follows.
CREATE FUNCTION tandem._direct_writes(table_id integer, phase text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE
    WHEN phase IN ('registered', 'new_primary', 'contracted') THEN 'allow'
    WHEN phase IN ('cutover', 'closing') THEN 'refuse'
    WHEN phase = 'dual_write' THEN 'record'
    ELSE coalesce((SELECT d.direct_writes FROM tandem.dual_policy AS d WHERE d.table_id = _direct_writes.table_id),
                  CASE WHEN phase = 'syncing' THEN 'allow' ELSE 'refuse' END) END
$$;
COMMENT ON FUNCTION tandem._direct_writes(integer, text) IS 'refuse, record or allow: direct writes to the target of a table in a phase';

-- --- rules of tandem.phase --------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem._guard_phase() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM tandem._refuse_foreign_target(t.target) FROM tandem.source_table AS t WHERE t.table_id = NEW.table_id;
  IF NEW.phase <> OLD.phase AND NEW.phase <> ALL (tandem._next_phases(OLD.phase))
     -- The way back of tandem.cancel_backfill, while what is on the old side is removed.
     AND NOT (NEW.phase = 'registered' AND OLD.phase IN ('shadow', 'syncing')
              AND EXISTS (SELECT FROM tandem.table_state AS a WHERE a.table_id = NEW.table_id AND a.state = 'dropping')) THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('table "%s" cannot go from phase "%s" to "%s"', tandem._table_label(NEW.table_id), OLD.phase, NEW.phase),
      HINT = 'Phases are moved by tandem.set_phase and the functions of the cut-over.';
  ELSIF (NEW.phase <> OLD.phase OR NEW.epoch <> OLD.epoch) AND NEW.epoch <= OLD.epoch THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('a move of table "%s" needs an epoch greater than %s', tandem._table_label(NEW.table_id), OLD.epoch);
  END IF;
  IF NEW.read_strategy <> ALL (tandem._strategies(NEW.phase)) THEN
    NEW.read_strategy := (tandem._strategies(NEW.phase))[1];
  ELSIF NEW.read_strategy = 'merge' AND OLD.read_strategy <> 'merge' THEN
    PERFORM tandem._refuse_unfit_merge(NEW.table_id);
  END IF;
  IF NEW.phase NOT IN ('registered', 'shadow') THEN
    NEW.shadow_mode := 'keep';
  ELSIF NEW.shadow_mode = 'discard' AND OLD.shadow_mode = 'keep' AND OLD.phase <> 'registered' THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('table "%s" keeps its rows already', tandem._table_label(NEW.table_id)),
      DETAIL = 'Rows that are in the target would stay there as they are now, while the old side changes.',
      HINT = 'Choose the mode before phase shadow. To begin anew: drop the table with tandem.drop_table and add it again.';
  END IF;
  NEW.direct_writes := tandem._direct_writes(NEW.table_id, NEW.phase);
  NEW.moved_at := clock_timestamp();
  NEW.moved_by := session_user;
  RETURN NEW;
END
$$;
COMMENT ON FUNCTION tandem._guard_phase() IS
  'trigger: a phase moves along the arrows only, with a greater epoch, by the owner of the target; read strategy and shadow mode are such as the phase allows';

CREATE FUNCTION tandem._refuse_torn_shadow(table_id integer) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  parent text;
  child text;
BEGIN
  SELECT tandem._table_label(p.table_id), tandem._table_label(c.table_id) INTO parent, child
  FROM tandem.phase AS c CROSS JOIN LATERAL tandem._cascades_into(c.table_id) AS f JOIN tandem.phase AS p ON p.table_id = f.parent_id
  WHERE _refuse_torn_shadow.table_id IN (c.table_id, p.table_id) AND p.phase = 'shadow' AND p.shadow_mode = 'discard'
    AND c.phase IN ('shadow', 'syncing', 'dual_write', 'ready') AND c.shadow_mode = 'keep'
  ORDER BY p.table_id, c.table_id LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('table "%s" would keep its rows while those of "%s" are rolled back', child, parent),
      DETAIL = format('Cascades of "%s" change rows of "%s"; they are followed through rows of both in PostgreSQL.', parent, child),
      HINT = format('Give both the same mode in one call, such as: SELECT tandem.set_shadow_mode(ARRAY[%L, %L], ''keep'');', parent, child);
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_torn_shadow(integer) IS
  'error when rows of a table are kept, or would be, while those of a table whose cascades change it are rolled back';

CREATE FUNCTION tandem._record_phase() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO tandem.phase_history (table_id, source, table_name, from_phase, to_phase, epoch, read_strategy, note, moved_at, moved_by)
  SELECT NEW.table_id, s.name, t.name, OLD.phase, NEW.phase, NEW.epoch, NEW.read_strategy, NEW.note, NEW.moved_at, NEW.moved_by
  FROM tandem.source_table AS t JOIN tandem.source AS s USING (source_id) WHERE t.table_id = NEW.table_id;
  IF (NEW.phase, NEW.shadow_mode) IS DISTINCT FROM (OLD.phase, OLD.shadow_mode) THEN
    PERFORM tandem._refuse_torn_shadow(NEW.table_id);
  END IF;
  IF OLD.phase = 'registered' AND NEW.phase = 'shadow' THEN
    PERFORM tandem._forget_shadow(NEW.table_id);
  ELSIF OLD.phase = 'shadow' AND NEW.phase <> 'registered' AND OLD.shadow_mode = 'discard' AND NEW.shadow_mode = 'keep' THEN
    PERFORM tandem._begin_resync(NEW.table_id, 'its rows were rolled back in phase "shadow" until now');
    PERFORM tandem._forget_shadow(NEW.table_id);
  END IF;
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION tandem._record_phase() IS
  'trigger: every move has a line in tandem.phase_history; a table whose rows were rolled back so far is copied when they are kept from now on';

CREATE FUNCTION tandem._forget_shadow(table_id integer) RETURNS void
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
  DELETE FROM tandem.shadow_refusal AS r WHERE r.table_id = _forget_shadow.table_id;
  DELETE FROM tandem.shadow_apply AS a WHERE a.table_id = _forget_shadow.table_id;
  DELETE FROM tandem.shadow_slow AS s WHERE s.table_id = _forget_shadow.table_id;
$$;
COMMENT ON FUNCTION tandem._forget_shadow(integer) IS 'what was noted of shadow writes to a table belongs to another time';

CREATE FUNCTION tandem._enter_phase() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  INSERT INTO tandem.phase (table_id) VALUES (NEW.table_id);
  RETURN NULL;
END
$$;
COMMENT ON FUNCTION tandem._enter_phase() IS 'trigger: a table enters in phase registered, restored from a dump as well';

CREATE TRIGGER guard BEFORE UPDATE ON tandem.phase FOR EACH ROW EXECUTE FUNCTION tandem._guard_phase();
CREATE TRIGGER record AFTER UPDATE ON tandem.phase FOR EACH ROW EXECUTE FUNCTION tandem._record_phase();
CREATE TRIGGER announce AFTER UPDATE ON tandem.phase FOR EACH STATEMENT EXECUTE FUNCTION tandem._announce_config();
CREATE TRIGGER enter_phase AFTER INSERT ON tandem.source_table FOR EACH ROW EXECUTE FUNCTION tandem._enter_phase();
ALTER TABLE tandem.phase ENABLE ALWAYS TRIGGER guard;
ALTER TABLE tandem.phase ENABLE ALWAYS TRIGGER record;
ALTER TABLE tandem.phase ENABLE ALWAYS TRIGGER announce;
ALTER TABLE tandem.source_table ENABLE ALWAYS TRIGGER enter_phase;

GRANT SELECT, UPDATE (phase, epoch, read_strategy, shadow_mode, note) ON tandem.phase TO tandem_admin;
GRANT SELECT ON tandem.phase_history TO tandem_monitor;
GRANT USAGE ON SEQUENCE tandem.phase_epoch TO tandem_admin;

-- --- moving -----------------------------------------------------------------------------------------------------------------------

-- Compare-and-set in the caller's transaction. Whoever decides by the outcome of its commit needs that commit on disk.
CREATE FUNCTION tandem._move_phase(table_ids integer[], from_phases text[], to_phase text, expected_epoch bigint, note text) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  moved tandem.phase;
  found_tables integer := 0;
  new_epoch bigint;
BEGIN
  FOR moved IN SELECT p.* FROM tandem.phase AS p WHERE p.table_id = ANY (table_ids) ORDER BY p.table_id FOR NO KEY UPDATE LOOP
    found_tables := found_tables + 1;
    IF moved.phase <> ALL (from_phases) THEN
      RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = format('table "%s" is in phase "%s"', tandem._table_label(moved.table_id), moved.phase),
        DETAIL = format('To go to "%s" it would have to be in: %s.', to_phase, array_to_string(from_phases, ', '));
    ELSIF moved.epoch <> expected_epoch THEN
      RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
        MESSAGE = format('phase of table "%s" was moved by somebody else', tandem._table_label(moved.table_id)),
        DETAIL = format('Its epoch is %s, expected was %s; the last move was by %s at %s.', moved.epoch, expected_epoch, moved.moved_by, moved.moved_at);
    END IF;
  END LOOP;
  IF found_tables = 0 OR found_tables <> (SELECT count(DISTINCT i) FROM unnest(table_ids) AS i) THEN
    RAISE EXCEPTION USING ERRCODE = 'undefined_table', MESSAGE = 'a table whose phase is to be moved is not known to pg_tandem';
  END IF;
  IF current_setting('synchronous_commit') = 'off' THEN
    PERFORM set_config('synchronous_commit', 'on', true);
  END IF;
  new_epoch := nextval('tandem.phase_epoch');
  UPDATE tandem.phase AS p SET phase = to_phase, epoch = new_epoch, note = _move_phase.note WHERE p.table_id = ANY (table_ids);
  RETURN new_epoch;
END
$$;
COMMENT ON FUNCTION tandem._move_phase(integer[], text[], text, bigint, text) IS
  'moves tables together: an error unless all are in one of the phases and, if one is given, at the expected epoch. Returns the new epoch';

CREATE FUNCTION tandem._refuse_unknown_phase(phase text) RETURNS void
LANGUAGE plpgsql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  known constant text[] := ARRAY['registered', 'shadow', 'syncing', 'dual_write', 'ready', 'cutover', 'new_primary', 'closing', 'contracted'];
BEGIN
  IF phase IS NULL OR phase <> ALL (known) THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('phase "%s" is not known', phase),
      HINT = format('Use one of %s.', array_to_string(known, ', '));
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_unknown_phase(text) IS 'error unless there is such a phase';

CREATE FUNCTION tandem._refuse_illegal_move(table_id integer, from_phase text, to_phase text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  label text := tandem._table_label(table_id);
  by_hand text[] := ARRAY(SELECT n FROM unnest(tandem._next_phases(from_phase)) AS n
                          WHERE n NOT IN ('cutover', 'closing', 'contracted') AND from_phase NOT IN ('cutover', 'closing'));
BEGIN
  IF to_phase = ANY (by_hand) THEN
    RETURN;
  END IF;
  RAISE EXCEPTION USING
    ERRCODE = 'object_not_in_prerequisite_state',
    MESSAGE = format('table "%s" cannot go from phase "%s" to "%s"', label, from_phase, to_phase),
    DETAIL = CASE
      WHEN from_phase IN ('cutover', 'closing') THEN 'The source of truth is being changed; whoever does that moves the phase on or back.'
      WHEN from_phase = 'contracted' THEN 'Nothing is left of it on the old side, so there is no way back.'
      WHEN cardinality(by_hand) = 0 THEN 'From here the phase is moved by the functions of the cut-over only.'
      ELSE format('From here it can go to: %s.', array_to_string(by_hand, ', ')) END,
    HINT = CASE
      WHEN from_phase IN ('cutover', 'closing') THEN 'SELECT * FROM tandem.doctor(); tells whether that was left half-done.'
      WHEN from_phase = 'contracted' THEN 'To move it once more, drop it with tandem.drop_table and add it again.'
      WHEN from_phase = 'new_primary' AND to_phase = 'contracted' THEN 'Use tandem.contract.'
      WHEN from_phase = 'new_primary' THEN 'Use tandem.rollback to make the old side the source of truth again.'
      WHEN to_phase = 'registered' THEN format('To stop for a while: SELECT tandem.pause(%L); for good: SELECT tandem.drop_table(%L);', label, label)
      WHEN to_phase IN ('cutover', 'new_primary') THEN
        concat_ws(' ', CASE WHEN from_phase <> 'ready' THEN 'It must be ready first.' END, 'The source of truth is changed by tandem.cutover.')
      WHEN to_phase IN ('closing', 'contracted') THEN 'That comes after tandem.cutover.'
      ELSE format('SELECT tandem.set_phase(%L, %L);', label, by_hand[1]) END;
END
$$;
COMMENT ON FUNCTION tandem._refuse_illegal_move(integer, text, text) IS 'error unless tandem.set_phase may move a table so';

CREATE FUNCTION tandem._unmet(table_id integer, to_phase text) RETURNS SETOF text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp
AS $$
  WITH facts AS (
    SELECT t.filter IS NOT NULL AS filtered, t.constants <> '{}' AS shared,
           (SELECT count(DISTINCT d.key) FROM tandem.direct_write AS d WHERE d.table_id = t.table_id AND d.review) AS in_review, t.desired_state, v.state, v.reason, v.backfill_done, v.retry_rows, v.dead_letters, v.lag_seconds, w.leader IS NOT NULL AS led
    FROM tandem.tables AS t JOIN tandem.pg_stat_tandem_tables AS v USING (source, "table") JOIN tandem.pg_stat_tandem_worker AS w USING (source)
    WHERE t.table_id = _unmet.table_id)
  SELECT unmet FROM facts CROSS JOIN LATERAL (
    VALUES (1, to_phase IN ('dual_write', 'ready') AND desired_state <> 'running', format('it is %s, not running', desired_state)),
           (2, to_phase IN ('dual_write', 'ready') AND state = 'blocked', format('it is blocked: %s', reason)),
           (3, to_phase IN ('dual_write', 'ready') AND state NOT IN ('syncing', 'blocked', 'paused'), format('it is %s, not syncing', state)),
           (4, to_phase IN ('dual_write', 'ready') AND NOT backfill_done, 'the copy of its rows is not finished'),
           (5, to_phase IN ('dual_write', 'ready') AND NOT led, 'no tandem-sync leads its source'),
           (6, to_phase = 'ready' AND dead_letters > 0, format('it has dead letters: %s', dead_letters)),
           (7, to_phase = 'ready' AND retry_rows > 0, format('rows of it wait to be tried again: %s', retry_rows)),
           (8, to_phase = 'ready' AND led AND lag_seconds > 60, format('it lags by %s s, more than 60', lag_seconds::bigint)),
           (9, to_phase = 'dual_write' AND filtered, 'it has a filter: rows outside of it have no place in the target'),
           (10, to_phase = 'dual_write' AND shared, 'its target has a constant column, or is shared with other tables'),
           (11, to_phase = 'ready' AND in_review > 0, format('differences of double writes wait for review: %s', in_review))
    ) AS p(position, applies, unmet)
  WHERE applies ORDER BY position
$$;
COMMENT ON FUNCTION tandem._unmet(integer, text) IS 'what a table lacks to enter a phase, one line each';

CREATE FUNCTION tandem._refuse_unmet(table_ids integer[], to_phase text) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  unmet text;
  tables text;
BEGIN
  SELECT string_agg(format('%s: %s', u.label, u.lacks), E'\n' ORDER BY u.label, u.position),
         string_agg(DISTINCT format('"%s"', u.label), ', ') INTO unmet, tables
  FROM (SELECT tandem._table_label(i) AS label, l.lacks, l.position
        FROM unnest(table_ids) AS i, tandem._unmet(i, to_phase) WITH ORDINALITY AS l(lacks, position)) AS u;
  IF unmet IS NOT NULL THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('phase "%s" is not open yet to %s', to_phase, tables),
      DETAIL = unmet,
      HINT = 'Mend what is listed and call tandem.set_phase again; tandem.wait_for and tandem.wait_caught_up wait for the copy and for lag, tandem.dead_letters shows dead letters.';
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_unmet(integer[], text) IS 'error that lists everything that tables lack to enter a phase';

CREATE FUNCTION tandem.set_phase(tables text[], phase text, note text DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
#variable_conflict use_variable
DECLARE
  ids integer[];
  moving integer[];
  to_start text[];
  new_epoch bigint;
BEGIN
  PERFORM tandem._refuse_unknown_phase(phase);
  IF coalesce(cardinality(tables), 0) = 0 THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'tandem.set_phase needs tables',
      HINT = 'Name them: SELECT tandem.set_phase(ARRAY[''shop.users'', ''shop.orders''], ''ready'');';
  END IF;
  ids := ARRAY(SELECT c.table_id FROM tandem._chosen(tables) AS c);
  PERFORM FROM tandem.phase AS p WHERE p.table_id = ANY (ids) ORDER BY p.table_id FOR NO KEY UPDATE;
  moving := ARRAY(SELECT p.table_id FROM tandem.phase AS p WHERE p.table_id = ANY (ids) AND p.phase <> set_phase.phase ORDER BY p.table_id);
  IF cardinality(moving) = 0 THEN
    RETURN (SELECT max(p.epoch) FROM tandem.phase AS p WHERE p.table_id = ANY (ids)); -- asked for twice: nothing to do
  END IF;
  PERFORM tandem._refuse_illegal_move(p.table_id, p.phase, set_phase.phase) FROM tandem.phase AS p WHERE p.table_id = ANY (moving);
  PERFORM tandem._refuse_unmet(moving, phase);
  new_epoch := tandem._move_phase(moving, ARRAY(SELECT DISTINCT p.phase FROM tandem.phase AS p WHERE p.table_id = ANY (moving)), phase, NULL, note);
  to_start := ARRAY(SELECT tandem._table_label(t.table_id) FROM tandem.source_table AS t
                    WHERE t.table_id = ANY (moving) AND t.desired_state = 'registered');
  IF cardinality(to_start) > 0 THEN
    PERFORM tandem.start(VARIADIC to_start);
  END IF;
  PERFORM tandem._fit_guards(i) FROM unnest(moving) AS i;
  RETURN new_epoch;
END
$$;
COMMENT ON FUNCTION tandem.set_phase(text[], text, text) IS
  'moves tables to a phase, all or none; refused with everything that is lacking. Returns the epoch of the move. See docs/phases.md and tandem.phases';

CREATE FUNCTION tandem.set_phase("table" text, phase text, note text DEFAULT NULL) RETURNS bigint
LANGUAGE sql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$ SELECT tandem.set_phase(ARRAY["table"], phase, note) $$;
COMMENT ON FUNCTION tandem.set_phase(text, text, text) IS 'moves one table to a phase, as tandem.set_phase(text[], text, text)';

-- tandem.start, before it makes tables run.
CREATE FUNCTION tandem._phase_started(table_ids integer[]) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  registered integer[] := ARRAY(SELECT p.table_id FROM tandem.phase AS p WHERE p.table_id = ANY (table_ids) AND p.phase = 'registered');
BEGIN
  IF cardinality(registered) > 0 THEN
    PERFORM tandem._move_phase(registered, ARRAY['registered'], 'syncing', NULL, 'tandem.start');
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._phase_started(integer[]) IS 'registered tables that are started are in phase syncing';

CREATE FUNCTION tandem._refuse_truth_dropped(table_id integer) RETURNS void
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  phase text := (SELECT p.phase FROM tandem.phase AS p WHERE p.table_id = _refuse_truth_dropped.table_id);
BEGIN
  IF phase IN ('cutover', 'new_primary', 'closing') THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('table "%s" is in phase "%s"', tandem._table_label(table_id), phase),
      DETAIL = 'The old side is fenced and kept in step from here; dropping the table would leave it so.',
      HINT = CASE phase WHEN 'new_primary' THEN 'Use tandem.contract, or tandem.rollback and then tandem.drop_table.'
                        ELSE 'SELECT * FROM tandem.doctor(); tells how it is brought to an end.' END;
  END IF;
END
$$;
COMMENT ON FUNCTION tandem._refuse_truth_dropped(integer) IS 'error when a table must not be dropped because of its phase';

-- --- read strategies --------------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem.set_read_strategy(tables text[], strategy text, note text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  known constant text[] := ARRAY['old', 'new_fallback_old', 'merge', 'new'];
  ids integer[];
  refused tandem.phase;
BEGIN
  IF strategy IS NULL OR strategy <> ALL (known) THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = format('read strategy "%s" is not known', strategy),
      HINT = format('Use one of %s.', array_to_string(known, ', '));
  ELSIF coalesce(cardinality(tables), 0) = 0 THEN
    RAISE EXCEPTION USING ERRCODE = 'invalid_parameter_value', MESSAGE = 'tandem.set_read_strategy needs tables';
  END IF;
  ids := ARRAY(SELECT c.table_id FROM tandem._chosen(tables) AS c);
  PERFORM FROM tandem.phase AS p WHERE p.table_id = ANY (ids) ORDER BY p.table_id FOR NO KEY UPDATE;
  SELECT p.* INTO refused FROM tandem.phase AS p
  WHERE p.table_id = ANY (ids) AND strategy <> ALL (tandem._strategies(p.phase)) ORDER BY p.table_id LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION USING ERRCODE = 'object_not_in_prerequisite_state',
      MESSAGE = format('table "%s" cannot be read with strategy "%s" in phase "%s"', tandem._table_label(refused.table_id), strategy, refused.phase),
      DETAIL = format('In this phase it can be: %s.', array_to_string(tandem._strategies(refused.phase), ', ')),
      HINT = CASE WHEN tandem._source_of_truth(refused.phase) = 'new' THEN 'The new side is the source of truth: only it is read.'
                  ELSE 'Move the table on with tandem.set_phase first.' END;
  END IF;
  UPDATE tandem.phase AS p SET read_strategy = strategy, note = set_read_strategy.note WHERE p.table_id = ANY (ids) AND p.read_strategy <> strategy;
END
$$;
COMMENT ON FUNCTION tandem.set_read_strategy(text[], text, text) IS
  'what routed views of these tables read from the next statement on: old, new_fallback_old, merge or new, as far as the phase allows it';

CREATE FUNCTION tandem.set_read_strategy("table" text, strategy text, note text DEFAULT NULL) RETURNS void
LANGUAGE plpgsql VOLATILE SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM tandem.set_read_strategy(ARRAY["table"], strategy, note);
END
$$;
COMMENT ON FUNCTION tandem.set_read_strategy(text, text, text) IS 'read strategy of one table, as tandem.set_read_strategy(text[], text, text)';

-- --- what people see --------------------------------------------------------------------------------------------------------------

CREATE FUNCTION tandem._reads_mean(strategy text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE strategy
    WHEN 'old' THEN 'the old side'
    WHEN 'new_fallback_old' THEN 'the new side, and the old side for keys that the new side does not have'
    WHEN 'merge' THEN 'both sides, of each key the newer state'
    ELSE 'the new side' END
$$;
COMMENT ON FUNCTION tandem._reads_mean(text) IS 'a read strategy in words';

CREATE FUNCTION tandem._writes_mean(phase text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE phase
    WHEN 'dual_write' THEN 'the old side; the application may write the same to the new side itself'
    WHEN 'cutover' THEN 'the old side, until it is fenced'
    WHEN 'closing' THEN 'nowhere: the new side is closed until the old side has caught up'
    WHEN 'new_primary' THEN 'the new side'
    WHEN 'contracted' THEN 'the new side'
    ELSE 'the old side' END
$$;
COMMENT ON FUNCTION tandem._writes_mean(text) IS 'where an application writes in a phase';

CREATE FUNCTION tandem._runs_mean(phase text, desired text, state text, shadow_mode text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE
    WHEN phase IN ('registered', 'contracted') THEN 'nothing'
    WHEN phase = 'new_primary' THEN 'the old side follows'
    WHEN phase = 'closing' THEN 'the old side is caught up, then it becomes the source of truth'
    WHEN phase = 'cutover' THEN 'the new side is caught up, then it becomes the source of truth'
    WHEN state = 'blocked' THEN 'nothing: blocked'
    WHEN desired = 'paused' THEN 'capture; the new side waits: paused'
    WHEN state IN ('registered', 'capturing') THEN 'capture is being installed'
    WHEN state = 'backfilling' THEN 'capture, copy of the rows, apply'
    ELSE 'capture, apply' END
    || CASE WHEN phase = 'shadow' AND shadow_mode = 'discard' THEN '; all rows are rolled back' ELSE '' END
$$;
COMMENT ON FUNCTION tandem._runs_mean(text, text, text, text) IS 'what runs for a table';

CREATE VIEW tandem.phases AS
  SELECT s.name AS source, t.name AS "table", t.target, p.phase, p.epoch, tandem._source_of_truth(p.phase) AS source_of_truth,
         p.read_strategy, tandem._reads_mean(p.read_strategy) AS reads, tandem._writes_mean(p.phase) AS writes,
         tandem._runs_mean(p.phase, t.desired_state, coalesce(a.state, 'registered'), p.shadow_mode) AS runs, p.direct_writes,
         CASE WHEN p.phase IN ('registered', 'shadow') THEN p.shadow_mode END AS shadow_mode, tandem._next_phases(p.phase) AS next_phases,
         p.moved_at AS since, p.moved_by, p.note
  FROM tandem.phase AS p JOIN tandem.source_table AS t USING (table_id) JOIN tandem.source AS s USING (source_id)
    LEFT JOIN tandem.table_state AS a USING (table_id);
COMMENT ON VIEW tandem.phases IS 'who is the source of truth of each table, what reads and writes mean, what runs';
COMMENT ON COLUMN tandem.phases.source IS 'source of the table';
COMMENT ON COLUMN tandem.phases."table" IS 'old table';
COMMENT ON COLUMN tandem.phases.target IS 'table of this database that it moves to';
COMMENT ON COLUMN tandem.phases.phase IS 'registered, shadow, syncing, dual_write, ready, cutover, new_primary, closing or contracted';
COMMENT ON COLUMN tandem.phases.epoch IS 'number of the last move, the same for tables moved together';
COMMENT ON COLUMN tandem.phases.source_of_truth IS 'side whose rows are right: old or new';
COMMENT ON COLUMN tandem.phases.read_strategy IS 'what routed views read: old, new_fallback_old, merge or new';
COMMENT ON COLUMN tandem.phases.reads IS 'the read strategy in words';
COMMENT ON COLUMN tandem.phases.writes IS 'where an application writes';
COMMENT ON COLUMN tandem.phases.runs IS 'what runs for the table now';
COMMENT ON COLUMN tandem.phases.direct_writes IS 'what becomes of a write to the target by anybody but apply: refuse, record (and verify) or allow';
COMMENT ON COLUMN tandem.phases.shadow_mode IS 'what becomes of the rows in phase shadow: keep or discard (tandem.set_shadow_mode); NULL in later phases';
COMMENT ON COLUMN tandem.phases.next_phases IS 'phases that may follow';
COMMENT ON COLUMN tandem.phases.since IS 'when phase or read strategy was changed last';
COMMENT ON COLUMN tandem.phases.moved_by IS 'who changed it';
COMMENT ON COLUMN tandem.phases.note IS 'what they said of it';
GRANT SELECT ON tandem.phases TO tandem_monitor;
