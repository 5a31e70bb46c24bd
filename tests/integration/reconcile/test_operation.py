"""How reconciliation is operated: verification after apply, a continuous scan that survives the worker, pace and pause, way for the application,
Ctrl-C, automatic repair, and all of it after a cut-over. See README.md."""
import threading

import psycopg2
import pytest

from lib.process import wait_until

from helpers import reconcile

ADD_ALL = False
ROWS = 6000


@pytest.fixture
def ready(empty_scene):
    scene = empty_scene
    scene.old.script("CREATE TABLE item (id INT NOT NULL PRIMARY KEY, v INT NOT NULL, note VARCHAR(40)) ENGINE=InnoDB CHARACTER SET utf8mb4;", scene.old_database)
    for first in range(0, ROWS, 1000):
        scene.write("INSERT INTO item VALUES " + ",".join(f"({n}, {n % 7}, 'note {n}')" for n in range(first, first + 1000)))
    scene.add_source()
    scene.add_and_start("%")
    return scene


def by_hand(scene, *statements):
    """On the new side, past the guard, as an administrator does who knows better."""
    for statement in statements:
        scene.sql(f"SET session_replication_role = replica; {statement}; RESET session_replication_role")


def statuses(scene):
    return sorted(scene.sql("SELECT kind, status FROM tandem.discrepancies"))


def ledger(scene, column):
    return scene.value(f"SELECT {column} FROM tandem.pg_stat_tandem_reconcile")


def continuous(scene):
    return scene.sql("SELECT run_id, rows, state FROM tandem.reconcile_run WHERE kind = 'continuous' ORDER BY run_id")


def test_each_row_after_its_apply(ready):
    """What apply leaves wrong is found by verification after apply, without any pass: here by a trigger that changes what is written."""
    ready.sql("SELECT tandem.reconcile_continuously('shop.item', period => '30 days', rows_per_second => 1)")
    wait_until(lambda: ready.value("SELECT count(*) FROM tandem.reconcile_run WHERE kind = 'continuous'") > 0, 30, 0.1, "the settings to be known")
    ready.write("UPDATE item SET v = 8 WHERE id BETWEEN 100 AND 120")
    ready.wait_caught_up()
    wait_until(lambda: (ready.value("SELECT sum(verified) FROM tandem.reconcile_run WHERE kind = 'verify'") or 0) >= 21, 30, 0.1, "the rows to be verified")
    assert statuses(ready) == []
    ready.sql("""CREATE FUNCTION spoil() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.note := NEW.note || '?'; RETURN NEW; END $$;
        CREATE TRIGGER spoil BEFORE INSERT OR UPDATE ON item FOR EACH ROW WHEN (NEW.id % 2 = 0) EXECUTE FUNCTION spoil();
        ALTER TABLE item ENABLE ALWAYS TRIGGER spoil""")
    ready.write("UPDATE item SET v = 9 WHERE id BETWEEN 200 AND 209", "DELETE FROM item WHERE id = 5", "INSERT INTO item VALUES (70000, 1, 'new')")
    wait_until(lambda: len(statuses(ready)) >= 6, 30, 0.1, "what was spoilt to be found")
    assert ready.sql("SELECT key ->> 'id', kind, columns FROM tandem.discrepancies ORDER BY 1") == [
        *((str(n), "different", ["note"]) for n in range(200, 210, 2)), ("70000", "different", ["note"])]
    ready.sql("DROP TRIGGER spoil ON item")
    ready.sql("SELECT tandem.repair('shop.item', dry_run => false)")
    wait_until(lambda: {s for _, s in statuses(ready)} == {"repaired"}, 30, 0.1, "the repair to be verified")
    ready.check()


def test_a_scan_goes_on_after_kill_9(ready):
    """The pass that was begun is the one that ends, and what it had read is not read again. Then pause, resume and pace."""
    ready.sql("SELECT tandem.reconcile_continuously('shop.item', period => '30 days', rows_per_second => 1500, share => 1)")
    wait_until(lambda: continuous(ready) and 0 < continuous(ready)[0][1] < ROWS, 30, 0.02, "the scan to be in its midst")
    ready.worker.kill()
    run, read, state = continuous(ready)[0]
    assert state == "running" and 0 < read < ROWS
    ready.worker.start()
    wait_until(lambda: continuous(ready)[0][1] > read, 30, 0.05, "the scan to go on")
    ready.sql("SELECT tandem.reconcile_pause('shop.item')")
    ready.worker.wait_leader()
    wait_until(lambda: ready.value("SELECT paused FROM tandem.pg_stat_tandem_reconcile"), 10, 0.1, "the pause")
    ready.value("SELECT pg_sleep(2)")  # settings are looked at every second
    held = continuous(ready)[0][1]
    ready.value("SELECT pg_sleep(1.5)")
    assert continuous(ready) == [(run, held, "running")] and held < ROWS
    ready.sql("SELECT tandem.reconcile_resume('shop.item'), tandem.reconcile_set_pace('shop.item', NULL, 1)")
    wait_until(lambda: continuous(ready)[0][2] == "done", 60, 0.1, "the pass to end")
    (ended, rows, _), *others = continuous(ready)
    assert (ended, others) == (run, []) and ROWS <= rows < 1.3 * ROWS
    assert ledger(ready, "clean_passes") == 1 and ledger(ready, "verified_share") == 1


def test_the_application_comes_first(ready):
    """A busy old side lets the scan wait, and the view says why; when it is over the scan ends."""
    sleepers = [ready.app() for _ in range(4)]
    ready.pg.query("ALTER SYSTEM SET tandem.backfill_max_threads_running = 2")
    ready.pg.query("SELECT pg_reload_conf()")
    try:
        for connection in sleepers:
            connection._execute_command(3, "SELECT SLEEP(300)")  # sent, not waited for
        ready.sql("SELECT tandem.reconcile_continuously('shop.item', period => '30 days', rows_per_second => 1000)")
        wait_until(lambda: "reconciliation waits for the old side" in ready.worker.log_text(), 30, 0.1, "reconciliation to wait")
        # The pass may be begun before the wait or in it, but no row is read.
        wait_until(lambda: continuous(ready), 30, 0.1, "the pass to be begun")
        before = continuous(ready)
        ready.value("SELECT pg_sleep(2)")
        assert continuous(ready) == before and before[0][1] < ROWS
    finally:
        for connection in sleepers:
            ready.old.query(f"KILL {connection.thread_id()}")
            connection._force_close()
        ready.pg.query("ALTER SYSTEM RESET tandem.backfill_max_threads_running")
        ready.pg.query("SELECT pg_reload_conf()")
    ready.sql("SELECT tandem.reconcile_set_pace('shop.item', NULL, 1)")
    wait_until(lambda: any(row[2] == "done" for row in continuous(ready)), 60, 0.1, "the pass to end")


def test_ctrl_c(ready):
    """A call that is cancelled ends on both sides at once, and says so in the history; the next one works."""
    errors = []

    def call():
        try:
            reconcile(ready, "item", rows_per_second=100)
        except psycopg2.Error as error:
            errors.append(error)
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    running = "SELECT pid FROM pg_stat_activity WHERE query LIKE '%%FROM tandem.reconcile(%%' AND state = 'active' AND pid <> pg_backend_pid()"
    wait_until(lambda: ready.value("SELECT coalesce(sum(rows), 0) FROM tandem.reconcile_run WHERE kind = 'call' AND state = 'running'") > 0, 30, 0.05, "the call to be under way")
    ready.sql(f"SELECT pg_cancel_backend(pid) FROM ({running}) AS r")
    thread.join(20)
    assert not thread.is_alive() and errors and errors[0].pgcode == "57014", errors
    wait_until(lambda: ready.value("SELECT state FROM tandem.reconcile_run WHERE kind = 'call'") == "cancelled", 30, 0.1, "the pass to be ended")
    wait_until(lambda: ready.old.value("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'tandem' AND info LIKE '%%`item`%%' AND command = 'Query'") == 0,
               30, 0.1, "the old side to be left alone")
    assert reconcile(ready, "item") == {}


def test_automatic_repair_of_a_kind(ready):
    """Only the kinds that were asked for; a pass while something is repaired is not clean, the next one is."""
    ready.sql("SELECT tandem.auto_repair('shop.item', '{missing,extra}')")
    by_hand(ready, "DELETE FROM item WHERE id = 10", "INSERT INTO item VALUES (80000, 1, 'nobody')", "UPDATE item SET v = 77 WHERE id = 20")
    found = reconcile(ready, "item")
    assert {where[1][0][1]: what[0] for where, what in found.items()} == {"10": "missing", "80000": "extra", "20": "different"}
    wait_until(lambda: statuses(ready) == [("different", "open"), ("extra", "repaired"), ("missing", "repaired")], 60, 0.1, "two of three to be repaired")
    assert ledger(ready, "clean_passes") == 0
    ready.sql("SELECT tandem.repair('shop.item', dry_run => false)")
    wait_until(lambda: ("different", "repaired") in statuses(ready), 60, 0.1, "the third to be repaired by hand")
    assert reconcile(ready, "item") == {}
    assert ledger(ready, "clean_passes") == 1
    assert ready.sql("SELECT DISTINCT count(*) FROM tandem.repair") == [(3,)]
    ready.check()


def test_after_the_cut_over(ready):
    """PostgreSQL is the truth: the same calls, and a repair mends the old side."""
    ready.sql("SELECT tandem.set_phase('shop.item', 'ready')")
    waive = '{"clean_pass": "by the test", "divergence": "by the test"}'
    ready.sql("CALL tandem.cutover('{shop.item}', max_pause => '5 s', lock_wait => '20 s', waive => %s)", (waive,))
    ready.sql("UPDATE item SET note = 'on the new side' WHERE id < 50")
    assert reconcile(ready, "item") == {}
    # The old side is changed behind the fence's back, the new side past its capture.
    connection = ready.old.connect(ready.old_database, autocommit=True)
    with connection.cursor() as cursor:
        names = [row[0] for row in ready.old.query("SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = %s AND trigger_name LIKE 'tandem\\_f%%'", (ready.old_database,))]
        assert names
        suffix = ready.value("SELECT trigger_suffix FROM tandem.source_table")
        cursor.execute(f"SET @tandem_unseen_{suffix} = 1")
        cursor.execute("UPDATE item SET v = 55 WHERE id = 1000")
        cursor.execute("DELETE FROM item WHERE id = 1001")
    connection.close()
    ready.sql("ALTER TABLE item DISABLE TRIGGER tandem_capture_back; DELETE FROM item WHERE id = 1002; ALTER TABLE item ENABLE ALWAYS TRIGGER tandem_capture_back")
    found = reconcile(ready, "item")
    assert {where[1][0][1]: what[0] for where, what in found.items()} == {"1000": "different", "1001": "extra", "1002": "missing"}
    ready.sql("SELECT tandem.repair('shop.item', dry_run => false)")
    wait_until(lambda: {s for _, s in statuses(ready)} == {"repaired"}, 60, 0.1, "the old side to be mended")
    assert reconcile(ready, "item") == {}
    assert not ready.differences(["item"])
