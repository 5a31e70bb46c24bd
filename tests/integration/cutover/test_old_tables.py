"""Old tables that are emptied or rebuilt while the new side is the source of truth: no trigger tells of it, and as the source of truth they would
take the target's rows along."""
import threading
import time

import psycopg2
import pytest

from lib.process import wait_until
from test_cutover import WAIVE, call, equal, phase, ready, wait_back

TABLES = ["shop.plain", "shop.customer", "shop.orders"]


@pytest.fixture(scope="module")
def moved(scene):
    scene.write("INSERT INTO plain VALUES ('a', 1), ('b', 2), ('c', 3)", "INSERT INTO customer (name) VALUES ('Ann')")
    ready(scene, TABLES)
    call(scene, "cutover", TABLES, waive=WAIVE, max_pause="5 s")
    scene.sql("INSERT INTO plain VALUES ('d', 4)")
    wait_back(scene)
    return scene


def readiness(scene, finding):
    return [row for row in scene.sql("SELECT \"table\", detail FROM tandem.rollback_readiness(%s) WHERE finding = %s", (TABLES, finding))]


def in_sync(scene):
    wait_until(lambda: set(scene.states().values()) == {"syncing"}, 30, 0.1, "the tables to be in sync")
    return scene.sql("SELECT \"table\", phase, reason FROM tandem.resyncs")


def test_a_truncated_table_keeps_the_rollback_out(moved):
    assert readiness(moved, "old table") == [] and readiness(moved, "row differs") == []
    moved.old.query("TRUNCATE TABLE plain", database=moved.old_database)
    assert [row[0] for row in readiness(moved, "old table")] == ["shop.plain"]
    with pytest.raises(psycopg2.Error, match="may have lost rows") as refused:
        call(moved, "rollback", TABLES, max_pause="5 s")
    assert refused.value.pgcode == "55000" and "tandem.reconcile" in refused.value.diag.message_hint
    assert phase(moved, "plain") == "new_primary" and moved.value("SELECT count(*) FROM plain") == 4
    moved.sql("INSERT INTO plain VALUES ('e', 5)")  # nothing is closed

    assert len(moved.sql("SELECT * FROM tandem.reconcile('shop.plain')")) >= 4
    with pytest.raises(psycopg2.Error, match="going back would make them right"):
        call(moved, "rollback", TABLES, max_pause="5 s")
    assert len(readiness(moved, "row differs")) >= 4
    moved.sql("SELECT * FROM tandem.repair('shop.plain', dry_run => false)")
    wait_back(moved)
    assert moved.sql("SELECT * FROM tandem.reconcile('shop.plain')") == []
    wait_until(lambda: readiness(moved, "row differs") == [], 60, 0.2, "the discrepancies to be gone")
    assert readiness(moved, "old table") == []
    call(moved, "rollback", TABLES, max_pause="5 s")
    assert in_sync(moved) == []  # it was compared, so it is not copied again
    assert moved.value("SELECT count(*) FROM plain") == 5
    moved.write("INSERT INTO plain VALUES ('f', 6)")
    moved.wait_caught_up()
    time.sleep(5)  # the guard has looked again
    assert in_sync(moved) == []
    equal(moved)


def test_emptied_while_the_rollback_waits_for_writers(moved):
    ready(moved, TABLES)
    call(moved, "cutover", TABLES, waive=WAIVE, max_pause="5 s")
    wait_back(moved)
    before = moved.value("SELECT count(*) FROM plain")
    writer, outcome = moved.pg.connect(moved.database, autocommit=False), []
    with writer.cursor() as cursor:
        cursor.execute("UPDATE plain SET v = v + 1 WHERE k = 'a'")

    def roll_back():
        try:
            call(moved, "rollback", TABLES, max_pause="5 s", lock_wait="60 s")
            outcome.append(None)
        except psycopg2.Error as error:
            outcome.append(error)
    thread = threading.Thread(target=roll_back, daemon=True)
    thread.start()
    wait_until(lambda: "not yet" in (moved.value("SELECT steps FROM tandem.cutover_runs ORDER BY run_id DESC LIMIT 1") or ""), 30, 0.05, "the rollback to wait")
    assert "UPDATE plain" in moved.value("SELECT steps FROM tandem.cutover_runs ORDER BY run_id DESC LIMIT 1")  # who is in the way
    moved.old.query("TRUNCATE TABLE plain", database=moved.old_database)
    writer.commit()
    writer.close()
    thread.join(90)
    assert outcome and isinstance(outcome[0], psycopg2.Error) and "may have lost rows" in str(outcome[0]), outcome
    assert phase(moved, "plain") == "new_primary" and moved.value("SELECT count(*) FROM plain") == before
    assert moved.sql("SELECT * FROM tandem.reconcile('shop.plain')")
    moved.sql("SELECT * FROM tandem.repair('shop.plain', dry_run => false)")
    wait_back(moved)
    assert moved.sql("SELECT * FROM tandem.reconcile('shop.plain')") == []
    wait_until(lambda: readiness(moved, "row differs") == [], 60, 0.2, "the discrepancies to be gone")
    call(moved, "rollback", TABLES, max_pause="5 s")
    assert moved.value("SELECT count(*) FROM plain") == before
    moved.wait_caught_up()
    equal(moved)


def test_by_leave_the_old_table_counts_as_it_is(moved):
    ready(moved, TABLES)
    call(moved, "cutover", TABLES, waive=WAIVE, max_pause="5 s")
    moved.sql("INSERT INTO plain VALUES ('g', 7)")
    wait_back(moved)
    moved.old.query("ALTER TABLE plain ADD COLUMN extra INT, ALGORITHM=COPY", database=moved.old_database)
    moved.old.query("ALTER TABLE plain DROP COLUMN extra", database=moved.old_database)
    with pytest.raises(psycopg2.Error, match="may have lost rows"):
        call(moved, "rollback", TABLES, max_pause="5 s")
    call(moved, "rollback", TABLES, max_pause="5 s", waive='{"old_table": "widened by hand, looked at"}')
    assert moved.value("SELECT waived ->> 'old_table' FROM tandem.cutover_runs ORDER BY run_id DESC LIMIT 1") == "widened by hand, looked at"
    # Like any table that was rebuilt, it is copied anew.
    wait_until(lambda: moved.value("SELECT count(*) FROM tandem.resyncs WHERE \"table\" = 'plain' AND phase = 'done'") == 1, 60, 0.2, "the new copy")
    assert [row[:2] for row in in_sync(moved)] == [("plain", "done")]
    moved.wait_caught_up()
    equal(moved)


def test_a_cutover_right_after_a_rollback(moved):
    for turn in range(3):
        ready(moved, TABLES)
        call(moved, "cutover", TABLES, waive=WAIVE, max_pause="5 s")
        moved.sql(f"INSERT INTO plain VALUES ('turn {turn}', {turn})")
        call(moved, "rollback", TABLES, max_pause="5 s")
        assert set(moved.states().values()) == {"syncing"}
    moved.wait_caught_up()
    equal(moved)


def test_a_queue_whose_rows_come_and_go_is_not_taken_for_emptied(moved):
    """The old table is empty most of the time, and the target has a row that is on its way."""
    moved.write("DELETE FROM plain")
    for _ in range(3):
        ready(moved, TABLES)
        call(moved, "cutover", TABLES, waive=WAIVE, max_pause="5 s")
        stop, written = threading.Event(), [0]

        def client():
            connection = moved.pg.connect(moved.database, autocommit=True)
            with connection.cursor() as cursor:
                while not stop.is_set():
                    try:
                        cursor.execute("INSERT INTO plain VALUES ('job', 1) ON CONFLICT DO NOTHING")
                        cursor.execute("DELETE FROM plain")
                    except psycopg2.Error:  # the closed table
                        break
                    written[0] += 1
            connection.close()
        thread = threading.Thread(target=client, daemon=True)
        thread.start()
        for _ in range(5):
            assert readiness(moved, "old table") == []
        call(moved, "rollback", TABLES, max_pause="5 s")
        stop.set()
        thread.join(30)
        assert written[0] > 0
        moved.wait_caught_up()
        equal(moved)


def test_contract_of_the_last_tables_leaves_nothing_of_ours(moved):
    ready(moved, TABLES)
    call(moved, "cutover", TABLES, waive=WAIVE, max_pause="5 s")
    call(moved, "contract", TABLES, confirm="no way back")
    assert "capture_gap of the metadata database" in moved.value("SELECT steps FROM tandem.cutover_runs ORDER BY run_id DESC LIMIT 1")
    assert moved.old.value("SELECT count(*) FROM information_schema.tables WHERE table_schema = %s", (moved.metadata,)) == 0
    assert moved.old.value("SELECT count(*) FROM information_schema.triggers WHERE trigger_schema = %s", (moved.old_database,)) == 0
    assert moved.sql("SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname LIKE 'tandem%' AND tgrelid IN ('plain'::regclass, 'customer'::regclass, 'orders'::regclass)") == []
    # And another table begins as the first did, with the same worker.
    moved.write("CREATE TABLE late (id INT PRIMARY KEY, v INT) ENGINE=InnoDB", "INSERT INTO late VALUES (1, 1)")
    moved.add_table("late")
    moved.sql("SELECT tandem.start('late')")
    moved.wait_caught_up()
    moved.sql("SELECT tandem.create_routed_view('late', 'late_v')")
    moved.sql("UPDATE late_v SET v = 2 WHERE id = 1")
    assert moved.value("SELECT tandem.wait_for_old()")
    moved.wait_caught_up()
    assert not moved.differences(["late"])
    moved.sql("SELECT tandem.drop_table('late')")
    wait_until(lambda: moved.old.value("SELECT count(*) FROM information_schema.tables WHERE table_schema = %s", (moved.metadata,)) == 0, 30, 0.1, "nothing of ours")
