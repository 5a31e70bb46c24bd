"""See README.md."""
import threading
import time

import psycopg2
import pymysql
import pytest

from lib.process import wait_until

GROUP = ["shop.customer", "shop.orders"]
WAIVE = '{"clean_pass": "compared by the test", "divergence": "compared by the test", "foreign_keys": "validated later"}'


def call(scene, procedure, tables=None, **options):
    more = "".join(f", {name} => %({name})s" for name in options)
    scene.sql(f"CALL tandem.{procedure}(%(tables)s::text[]{more})", {"tables": tables or GROUP, **options})


def ready(scene, tables=None):
    scene.wait_caught_up()
    scene.sql("SELECT tandem.set_phase(%s::text[], 'ready')", (tables or GROUP,))


def phase(scene, table):
    return scene.value("SELECT phase FROM tandem.phases WHERE \"table\" = %s", (table,))


def wait_back(scene, timeout=60):
    wait_until(lambda: scene.value("SELECT count(*) FROM tandem.reverse_outbox") == 0
               and scene.value("SELECT count(*) FROM tandem.reverse_letter WHERE NOT dead") == 0, timeout, 0.05, "the old side to follow")


def fences(scene):
    return [row[0] for row in scene.old.query("SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = %s AND trigger_name LIKE 'tandem\\_f%%'",
                                              (scene.old_database,))]


def equal(scene):
    different = scene.differences()
    assert not different, "\n".join(str(d) for d in different[:20])


def refused_on_old(scene, statement):
    with pytest.raises(pymysql.err.MySQLError, match="has moved to") as error:
        scene.write(statement)
    assert error.value.args[0] == 1644


def test_gates(scene):
    scene.write("INSERT INTO customer (name) VALUES ('Ann'), ('Bob')", "INSERT INTO orders (customer_id, note) VALUES (1, 'first'), (2, 'second')", "INSERT INTO plain VALUES ('a', 1)")
    scene.wait_caught_up()
    wait_until(lambda: scene.value("SELECT bool_and(ok) FROM tandem.cutover_check(%s) WHERE gate = 'lag'", (["shop.orders"],)), 30, 0.2, "the lag to be reported")
    gates = {(row[0], row[1]): row for row in scene.sql("SELECT gate, \"table\", ok, value, hint FROM tandem.cutover_check(%s)", (["shop.orders"],))}
    assert not gates["group", None][2] and "shop.customer" in gates["group", None][4]
    assert not gates["phase", "shop.orders"][2]
    assert gates["lag", "shop.orders"][2], gates
    assert gates["privileges", None][2] and gates["fence", None][2] and gates["reverse", "shop.orders"][2]
    assert not gates["clean_pass", "shop.orders"][2]
    with pytest.raises(psycopg2.Error, match="must move together") as error:
        call(scene, "cutover", ["shop.orders"])
    assert "shop.customer" in error.value.diag.message_hint
    with pytest.raises(psycopg2.Error, match="gates of the cut-over are closed") as error:
        call(scene, "cutover")
    assert "phase of shop.customer" in error.value.diag.message_detail
    ready(scene)
    with pytest.raises(psycopg2.Error, match="gates of the cut-over are closed"):
        call(scene, "cutover")
    with pytest.raises(psycopg2.Error, match="cannot be waived"):
        call(scene, "cutover", waive='{"phase": "in a hurry"}')
    assert scene.value("SELECT count(*) FROM tandem.cutover_runs") == 0


def test_rehearsal(scene):
    ready(scene)
    call(scene, "rehearse_cutover", waive=WAIVE)
    run = scene.sql("SELECT kind, state, committed, pause_ms, steps, waived FROM tandem.cutover_runs ORDER BY run_id DESC LIMIT 1")[0]
    assert run[:3] == ("rehearsal", "done", False) and run[3] > 0
    assert all(step in run[4] for step in ("lock", "drain", "fence", "put back")) and run[5]["clean_pass"] == "compared by the test"
    assert phase(scene, "orders") == "ready" and fences(scene) == []
    scene.write("INSERT INTO orders (customer_id, note) VALUES (1, 'after the rehearsal')")
    scene.check()


def test_there_and_back(scene):
    ready(scene)
    for turn in range(3):
        scene.write("INSERT INTO customer (name) VALUES ('old side')")
        call(scene, "cutover", waive=WAIVE, max_pause="5 s")
        assert phase(scene, "customer") == phase(scene, "orders") == "new_primary"
        assert len(fences(scene)) == 6
        for statement in ("INSERT INTO customer (name) VALUES ('late')", "UPDATE customer SET balance = 1", "DELETE FROM orders"):
            refused_on_old(scene, statement)
        equal(scene)
        # Numbers go on above those of the old side.
        number = scene.value("INSERT INTO customer (name) VALUES ('new side') RETURNING id")
        assert number > scene.old_value("SELECT max(id) FROM customer") - 1
        scene.sql("INSERT INTO orders (customer_id, note) VALUES (%s, 'new side'), (1, 'more')", (number,))
        scene.sql("UPDATE customer SET balance = balance + 1 WHERE id = 1; DELETE FROM orders WHERE note = 'more' AND id % 2 = 0")
        wait_back(scene)
        equal(scene)
        assert scene.sql("SELECT * FROM tandem.doctor()") == []
        assert scene.sql("SELECT * FROM tandem.rollback_readiness(%s)", (GROUP,)) == []
        scene.sql("UPDATE customer SET name = %s WHERE id = 2", (f"turn {turn}",))
        call(scene, "rollback", max_pause="5 s")
        assert phase(scene, "customer") == "ready" and fences(scene) == []
        with pytest.raises(psycopg2.Error, match="not the source of truth"):
            scene.sql("INSERT INTO customer (name) VALUES ('too late')")
        equal(scene)
        scene.write("INSERT INTO orders (customer_id, note) VALUES (1, 'old side again')", "DELETE FROM customer WHERE name = 'new side' LIMIT 1")
        scene.check()
    assert scene.sql("SELECT * FROM tandem.doctor()") == []


def test_other_tables_go_on(scene):
    ready(scene)
    call(scene, "cutover", waive=WAIVE, max_pause="5 s")
    scene.write("INSERT INTO plain VALUES ('b', 2)")
    scene.wait_caught_up()
    assert scene.value("SELECT v FROM plain WHERE k = 'b'") == 2
    call(scene, "rollback", max_pause="5 s")
    scene.check()


def test_long_transaction_is_in_the_way(scene):
    """The cut-over gives up within its budget; clients wait a little and see no error."""
    ready(scene)
    blocker = scene.app(autocommit=False)
    with blocker.cursor() as cursor:
        cursor.execute("UPDATE customer SET balance = 7 WHERE id = 1")
    slowest, stop = [0.0], threading.Event()
    errors = []

    def client():
        connection = scene.app()
        while not stop.is_set():
            started = time.monotonic()
            try:
                with connection.cursor() as cursor:
                    cursor.execute("INSERT INTO orders (customer_id, note) VALUES (2, 'steady')")
            except pymysql.err.MySQLError as error:
                errors.append(error)
                return
            slowest[0] = max(slowest[0], time.monotonic() - started)
            time.sleep(0.005)
        connection.close()
    thread = threading.Thread(target=client, daemon=True)
    thread.start()
    started = time.monotonic()
    with pytest.raises(psycopg2.Error, match="could not be locked") as error:
        call(scene, "cutover", waive=WAIVE, max_pause="400 ms", lock_wait="3 s")
    assert "Nothing has changed" in error.value.diag.message_hint
    assert 2 < time.monotonic() - started < 30
    stop.set()
    thread.join(30)
    assert not errors
    assert slowest[0] < 3, "one slice of the lock, on a loaded machine"
    blocker.commit()
    blocker.close()
    assert phase(scene, "customer") == "ready" and fences(scene) == []
    scene.check()
    # What the long transaction wrote is as old as it was long: a gate until the worker has reported that it is through.
    wait_until(lambda: scene.value("SELECT bool_and(ok) FROM tandem.cutover_check(%s::text[]) WHERE gate = 'lag'", (GROUP,)), 30, 0.1, "the lag to pass")
    call(scene, "cutover", waive=WAIVE, max_pause="5 s")
    call(scene, "rollback", max_pause="5 s")


def test_writer_on_the_new_side_is_waited_for(scene):
    ready(scene)
    call(scene, "cutover", waive=WAIVE, max_pause="5 s")
    writer = scene.pg.connect(scene.database, autocommit=False)
    writer.set_session(isolation_level="REPEATABLE READ")
    with writer.cursor() as cursor:
        cursor.execute("UPDATE customer SET balance = 100 WHERE id = 2")
    with pytest.raises(psycopg2.Error):
        call(scene, "rollback", max_pause="400 ms", lock_wait="1 s")
    assert phase(scene, "customer") == "new_primary"
    # A snapshot from before the rollback is of no use after it.
    stale = scene.pg.connect(scene.database, autocommit=False)
    stale.set_session(isolation_level="REPEATABLE READ")
    with stale.cursor() as cursor:
        cursor.execute("SELECT 1 FROM plain")
    writer.commit()
    writer.close()
    call(scene, "rollback", max_pause="5 s")
    with stale.cursor() as cursor, pytest.raises(psycopg2.Error):
        cursor.execute("UPDATE customer SET balance = 200 WHERE id = 2")
    stale.close()
    assert scene.old_value("SELECT balance FROM customer WHERE id = 2") == 100
    scene.check()


def test_readers_of_the_new_side_are_not_waited_for(scene):
    """A report that runs for long keeps neither a cut-over nor a rollback from its commit, the second time as little as the first."""
    ready(scene)
    reader = scene.pg.connect(scene.database, autocommit=False)
    with reader.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM customer, orders")
        for _ in range(2):
            call(scene, "cutover", waive=WAIVE)
            assert phase(scene, "customer") == "new_primary"
            call(scene, "rollback")
            assert phase(scene, "customer") == "ready"
            ready(scene)
    reader.close()
    scene.check()


def test_fence_dropped_by_hand(scene):
    ready(scene)
    call(scene, "cutover", waive=WAIVE, max_pause="5 s")
    for name in fences(scene)[:4]:
        scene.old.query(f"DROP TRIGGER `{scene.old_database}`.`{name}`")
    assert any("ALARM" in row[3] for row in scene.sql("SELECT * FROM tandem.doctor()"))
    scene.sql("CALL tandem.mend()")
    assert scene.sql("SELECT * FROM tandem.doctor()") == []
    refused_on_old(scene, "INSERT INTO customer (name) VALUES ('late')")
    call(scene, "rollback", max_pause="5 s")
    scene.check()


def test_slots_of_the_application(scene):
    """The application has BEFORE triggers: MySQL 5.6 has no place for a second one, so the fence takes the place of our AFTER triggers."""
    scene.old.query("CREATE TRIGGER app_bi BEFORE INSERT ON plain FOR EACH ROW SET NEW.v = COALESCE(NEW.v, 5)", database=scene.old_database)
    scene.old.query("CREATE TRIGGER app_bd BEFORE DELETE ON plain FOR EACH ROW SET @deleted = OLD.v", database=scene.old_database)
    ready(scene, ["shop.plain"])
    for turn in range(2):
        call(scene, "rehearse_cutover", ["shop.plain"], waive=WAIVE, max_pause="5 s")
        scene.write(f"INSERT INTO plain (k) VALUES ('default {turn}')", f"UPDATE plain SET v = {turn} WHERE k = 'a'")
        call(scene, "cutover", ["shop.plain"], waive=WAIVE, max_pause="5 s")
        for statement in ("INSERT INTO plain VALUES ('late', 1)", "UPDATE plain SET v = v + 1", "DELETE FROM plain"):
            refused_on_old(scene, statement)
        equal(scene)
        scene.sql(f"INSERT INTO plain VALUES ('new {turn}', 1); UPDATE plain SET v = 9 WHERE k = 'a'; DELETE FROM plain WHERE k = 'b'")
        wait_back(scene)
        equal(scene)
        call(scene, "rollback", ["shop.plain"], max_pause="5 s")
        scene.write("INSERT INTO plain VALUES ('b', 3)", "UPDATE plain SET v = 11 WHERE k = 'a'", f"DELETE FROM plain WHERE k = 'new {turn}'")
        scene.check()


def test_contract(scene):
    ready(scene)
    with pytest.raises(psycopg2.Error, match="can be contracted"):
        call(scene, "contract", confirm="no way back")
    call(scene, "cutover", waive=WAIVE, max_pause="5 s")
    with pytest.raises(psycopg2.Error, match="needs to be confirmed"):
        call(scene, "contract")
    call(scene, "contract", confirm="no way back")
    steps = scene.value("SELECT steps FROM tandem.cutover_runs ORDER BY run_id DESC LIMIT 1")
    assert "fence tandem_f" in steps and "outbox" in steps
    left = scene.old.query("SELECT trigger_name FROM information_schema.triggers WHERE trigger_schema = %s AND event_object_table <> 'plain'", (scene.old_database,))
    assert not left
    assert scene.old.query("SELECT table_name FROM information_schema.tables WHERE table_schema = %s AND (table_name LIKE 'customer%%' OR table_name LIKE 'orders%%')", (scene.metadata,)) in ((), [])
    scene.sql("INSERT INTO customer (name) VALUES ('alone')")
    assert scene.value("SELECT count(*) FROM tandem.reverse_outbox") == 0
    call(scene, "contract", confirm="no way back")
    with pytest.raises(psycopg2.Error):
        call(scene, "rollback")
