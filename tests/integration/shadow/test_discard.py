"""Shadow mode "discard": the new schema is tried with the real traffic and nothing of it stays; from "keep" on everything is there.
The tests of this file go on from each other."""
import psycopg2
import pytest

from lib.process import wait_until

ADD_ALL = False


@pytest.fixture(scope="module")
def trial(scene):
    scene.sql("CREATE TABLE trial (id int PRIMARY KEY, owner text, amount int CONSTRAINT not_in_debt CHECK (amount >= 0), code int UNIQUE)")
    scene.sql("CREATE TABLE trial_queued (id int PRIMARY KEY, amount int CONSTRAINT not_in_debt CHECK (amount >= 0))")
    for name, value in (("backfill_direct_rows", "50"), ("shadow_slow_apply", "500ms")):
        scene.sql(f"ALTER SYSTEM SET tandem.{name} = '{value}'")
    scene.sql("SELECT pg_reload_conf()")
    wait_until(lambda: scene.value("SHOW tandem.backfill_direct_rows") == "50", 10, 0.1, "the setting")
    scene.add_table("trial", target="trial")
    scene.add_table("trial_queued", target="trial_queued")
    scene.sql("SELECT tandem.set_shadow_mode(ARRAY['trial', 'trial_queued'], 'discard')")
    scene.sql("SELECT tandem.set_phase(ARRAY['trial', 'trial_queued'], 'shadow')")
    for table in ("trial", "trial_queued"):
        scene.wait_state(table, "syncing")
    scene.wait_caught_up()
    yield scene
    for name in ("backfill_direct_rows", "shadow_slow_apply"):
        scene.sql(f"ALTER SYSTEM RESET tandem.{name}")
    scene.sql("SELECT pg_reload_conf()")


def report(scene, table="trial"):
    return scene.sql("SELECT sqlstate, constraint_name, state, rows FROM tandem.shadow_report(%s)", (table,))


def test_the_copy_is_tried_and_nothing_stays(trial):
    # Ten rows have an amount of -1: one goes through the queue with the copy of the small table.
    assert trial.value("SELECT count(*) FROM trial") == 0 and trial.value("SELECT count(*) FROM trial_queued") == 0
    assert report(trial) == [("23514", "not_in_debt", "would be refused", 10)]
    assert report(trial, "trial_queued") == [("23514", "not_in_debt", "would be refused", 1)]
    assert trial.value("SELECT count(*) FROM tandem.dead_letter") == 0
    assert trial.sql("SELECT shadow_mode, runs FROM tandem.phases WHERE \"table\" = 'trial'") == [("discard", "capture, apply; all rows are rolled back")]


def test_changes_are_tried_and_the_report_is_of_now(trial):
    trial.write("INSERT INTO trial VALUES (1000, 'x', -7, NULL), (1001, 'y', 7, 5000)", "UPDATE trial SET amount = 3 WHERE id = 10",
                "DELETE FROM trial WHERE id = 20", "UPDATE trial SET owner = 'z' WHERE id = 30")
    trial.wait_caught_up()
    # The two that were mended or deleted have gone, the new one has come.
    assert report(trial) == [("23514", "not_in_debt", "would be refused", 9)]
    assert trial.value("SELECT count(*) FROM trial") == 0
    rows, refused, per_row = trial.sql("SELECT rows, refused, ms_per_row FROM tandem.pg_stat_tandem_shadow_writes WHERE \"table\" = 'trial'")[0]
    assert rows == 5 and refused == 9 and per_row > 0
    assert trial.value("SELECT count(*) FROM tandem.retry") == 0
    times = trial.sql("SELECT r.times FROM tandem.shadow_refusal r JOIN tandem.tables t USING (table_id)"
                      " WHERE t.\"table\" = 'trial' AND r.key = tandem.encode_key(r.table_id, '{\"id\": 30}')")
    assert times == [(2,)]


def test_slow_applies_are_listed(trial):
    trial.sql("CREATE FUNCTION dawdle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_catalog.pg_sleep(1); RETURN NEW; END $$;"
              "CREATE TRIGGER slowly BEFORE INSERT OR UPDATE ON trial FOR EACH ROW EXECUTE FUNCTION dawdle();"
              "ALTER TABLE trial ENABLE ALWAYS TRIGGER slowly")
    trial.write("UPDATE trial SET owner = 'slow' WHERE id = 44")
    trial.wait_caught_up()
    trial.sql("DROP TRIGGER slowly ON trial")
    slow = trial.sql("SELECT rows, ms_per_row >= 1000, first_key FROM tandem.shadow_slow_applies WHERE \"table\" = 'trial'")
    assert slow == [(1, True, {"id": 44})]
    assert trial.value("SELECT slow_applies FROM tandem.pg_stat_tandem_shadow_writes WHERE \"table\" = 'trial'") == 1


def test_what_needs_rows_is_refused(trial):
    trial.sql("SELECT tandem.create_routed_view('trial', 'trial_v')")
    for call in ("shadow_read('trial', '{\"id\": 1}')", "sample_reads('trial')"):
        with pytest.raises(psycopg2.Error) as refused:
            trial.sql(f"SELECT tandem.{call}")
        assert refused.value.pgcode == "55000" and "set_shadow_mode" in str(refused.value)
    with pytest.raises(psycopg2.Error):
        trial.sql("SELECT tandem.reconcile('trial')")


def test_a_blocked_table_keeps_its_changes(trial):
    trial.sql("ALTER TABLE trial_queued RENAME COLUMN amount TO sum")
    trial.write("UPDATE trial_queued SET amount = 8 WHERE id = 2")
    trial.wait_state("trial_queued", "blocked")
    trial.sql("ALTER TABLE trial_queued RENAME COLUMN sum TO amount; SELECT tandem.resume('trial_queued')")
    trial.wait_state("trial_queued", "syncing")
    wait_until(lambda: report(trial, "trial_queued") == [], 30, 0.1, "the row tried again")
    assert trial.value("SELECT count(*) FROM trial_queued") == 0


def test_from_keep_on_everything_is_there(trial):
    trial.sql("SELECT tandem.set_shadow_mode('trial', 'keep')")
    trial.write("UPDATE trial SET owner = 'now' WHERE id = 50", "INSERT INTO trial VALUES (1002, 'after', 1, NULL)")
    trial.sql("SELECT tandem.set_phase('trial_queued', 'syncing')")  # which keeps as well
    trial.write("INSERT INTO trial_queued VALUES (3, 3)")
    for table in ("trial", "trial_queued"):
        wait_until(lambda table=table: trial.sql("SELECT state, backfill_done FROM tandem.pg_stat_tandem_tables WHERE \"table\" = %s", (table,))
                   == [("syncing", True)], 60, 0.1, "the new copy")
    trial.wait_caught_up()
    # Real dead letters now, until the rows are mended.
    assert report(trial) == [("23514", "not_in_debt", "given up", 9)]
    trial.write("UPDATE trial SET amount = 0 WHERE amount < 0")
    trial.wait_caught_up()
    assert report(trial) == [] and trial.value("SELECT count(*) FROM tandem.shadow_refusal") == 0
    trial.check(tables=["trial", "trial_queued"])
    assert trial.sql("SELECT shadow_mode FROM tandem.phase ORDER BY table_id") == [("keep",), ("keep",)]
    with pytest.raises(psycopg2.Error) as refused:
        trial.sql("SELECT tandem.set_shadow_mode('trial', 'discard')")
    assert refused.value.pgcode == "55000" and "keeps its rows already" in str(refused.value)


def test_paused_when_rows_are_kept_from_now_on(trial):
    """The copy begins when the table goes on."""
    trial.write("CREATE TABLE idle (id INT PRIMARY KEY, v INT) ENGINE=InnoDB", "INSERT INTO idle VALUES (1, 1), (2, 2)")
    trial.add_table("idle")
    trial.sql("SELECT tandem.set_shadow_mode('idle', 'discard'); SELECT tandem.set_phase('idle', 'shadow')")
    trial.wait_state("idle", "syncing")
    trial.sql("SELECT tandem.pause('idle')")
    trial.wait_state("idle", "paused")
    trial.sql("SELECT tandem.set_shadow_mode('idle', 'keep')")
    trial.write("UPDATE idle SET v = 3 WHERE id = 2")
    assert trial.value("SELECT count(*) FROM idle") == 0
    trial.sql("SELECT tandem.resume('idle')")
    wait_until(lambda: trial.sql("SELECT state, backfill_done FROM tandem.pg_stat_tandem_tables WHERE \"table\" = 'idle'") == [("syncing", True)], 60, 0.1, "the copy")
    trial.check(tables=["idle"])


def test_cascades_go_through_tables_of_one_mode(trial):
    trial.old.script("""CREATE TABLE stem (id INT PRIMARY KEY) ENGINE=InnoDB;
        CREATE TABLE twig (id INT PRIMARY KEY, stem INT, FOREIGN KEY (stem) REFERENCES stem (id) ON DELETE CASCADE ON UPDATE CASCADE) ENGINE=InnoDB;""", trial.old_database)
    trial.write("INSERT INTO stem VALUES (1), (2)", "INSERT INTO twig VALUES (10, 1), (20, 2)")
    for table in ("stem", "twig"):
        trial.add_table(table)
    trial.sql("SELECT tandem.set_shadow_mode(ARRAY['stem', 'twig'], 'discard'); SELECT tandem.set_phase(ARRAY['stem', 'twig'], 'shadow')")
    for table in ("stem", "twig"):
        trial.wait_state(table, "syncing")
    for call in ("set_shadow_mode('twig', 'keep')", "set_phase('twig', 'syncing')"):
        with pytest.raises(psycopg2.Error) as refused:
            trial.sql(f"SELECT tandem.{call}")
        assert refused.value.pgcode == "55000" and "ARRAY['shop.stem', 'shop.twig']" in refused.value.diag.message_hint, refused.value
    trial.write("UPDATE stem SET id = 3 WHERE id = 1")
    trial.wait_caught_up()
    assert trial.value("SELECT count(*) FROM stem") + trial.value("SELECT count(*) FROM twig") == 0
    trial.sql("SELECT tandem.set_shadow_mode(ARRAY['stem', 'twig'], 'keep')")
    trial.write("DELETE FROM stem WHERE id = 2", "UPDATE stem SET id = 4 WHERE id = 3")
    for table in ("stem", "twig"):
        wait_until(lambda table=table: trial.sql("SELECT state, backfill_done FROM tandem.pg_stat_tandem_tables WHERE \"table\" = %s", (table,))
                   == [("syncing", True)], 60, 0.1, "the copy")
    trial.check(tables=["stem", "twig"])
