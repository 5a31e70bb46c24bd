"""What of PostgreSQL's own work keeps a run from its locks on the targets: autovacuum makes way, a VACUUM of somebody is waited for before any
client waits."""
import threading
import time

import psycopg2
import pytest

from lib.process import wait_until
from test_cutover import WAIVE, call, equal, fences, phase, ready, wait_back

SLOWLY = "autovacuum_vacuum_cost_limit = 1, autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0"


@pytest.fixture(scope="module")
def large(scene):
    """Some hundred pages: at a page in 0.1 s a VACUUM takes longer than any pause."""
    rows = ", ".join(f"(REPEAT('k{n}', 4), {n})" for n in range(2000))
    scene.write(f"INSERT INTO plain VALUES {rows}", "INSERT INTO customer (name) VALUES ('Ann')")
    for statement in ("ALTER SYSTEM SET autovacuum_naptime = '1s'", "SELECT pg_reload_conf()"):
        scene.sql(statement)
    scene.wait_caught_up()
    yield scene
    for statement in ("ALTER SYSTEM RESET autovacuum_naptime", "SELECT pg_reload_conf()"):
        scene.sql(statement)


def autovacuum_works(scene):
    return scene.value("SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'autovacuum worker' AND query LIKE '%plain%'") > 0


def dead_rows(scene, on):
    """Rows for autovacuum to remove, made on the side that is the truth."""
    (scene.write if on == "old" else scene.sql)("UPDATE plain SET v = v + 1")
    scene.wait_caught_up() if on == "old" else wait_back(scene)


def test_autovacuum_makes_way(large):
    large.sql(f"ALTER TABLE plain SET ({SLOWLY})")
    ready(large, ["shop.plain"])
    call(large, "cutover", ["shop.plain"], waive=WAIVE, max_pause="5 s")  # the first attempt creates triggers; those that follow do not
    call(large, "rollback", ["shop.plain"], max_pause="5 s")
    for turn in range(2):
        ready(large, ["shop.plain"])
        dead_rows(large, "old")
        wait_until(lambda: autovacuum_works(large), 60, 0.05, "autovacuum to work on the target")
        call(large, "cutover", ["shop.plain"], waive=WAIVE, max_pause="900 ms", lock_wait="1 s")
        assert phase(large, "plain") == "new_primary"
        dead_rows(large, "new")
        wait_until(lambda: autovacuum_works(large), 60, 0.05, "autovacuum to work on the target")
        call(large, "rollback", ["shop.plain"], max_pause="900 ms", lock_wait="1 s")
    large.sql("ALTER TABLE plain SET (autovacuum_enabled = false)")
    equal(large)


def test_a_vacuum_is_waited_for_while_clients_go_on(large):
    ready(large, ["shop.plain"])
    dead_rows(large, "old")

    def vacuum():
        connection = large.pg.connect(large.database, autocommit=True)
        with connection.cursor() as cursor:
            cursor.execute("SET vacuum_cost_delay = 50; SET vacuum_cost_limit = 1")
            try:
                cursor.execute("VACUUM plain")
            except psycopg2.errors.QueryCanceled:
                pass
        connection.close()
    for lock_wait, works in (("1 s", False), ("60 s", True)):
        thread = threading.Thread(target=vacuum, daemon=True)
        thread.start()
        wait_until(lambda: large.value("SELECT count(*) FROM pg_stat_progress_vacuum") == 1, 30, 0.02, "the VACUUM")
        stop = threading.Event()

        def client():
            connection = large.app()
            while not stop.is_set():
                try:
                    with connection.cursor() as cursor:
                        cursor.execute("UPDATE plain SET v = v + 1 WHERE v < 3")
                except Exception:  # the fence
                    break
                time.sleep(0.01)
            connection.close()
        writer = threading.Thread(target=client, daemon=True)
        writer.start()
        if works:
            call(large, "cutover", ["shop.plain"], waive=WAIVE, max_pause="2 s", lock_wait=lock_wait)
            assert phase(large, "plain") == "new_primary" and not thread.is_alive()
            assert "VACUUM" in large.value("SELECT steps FROM tandem.cutover_runs ORDER BY run_id DESC LIMIT 1")
        else:
            with pytest.raises(psycopg2.Error, match="is being worked on.*VACUUM plain") as refused:
                call(large, "cutover", ["shop.plain"], waive=WAIVE, max_pause="2 s", lock_wait=lock_wait)
            assert refused.value.pgcode == "55P03"
            assert phase(large, "plain") == "ready" and fences(large) == []
            # No pause was begun.
            assert large.value("SELECT pause_ms FROM tandem.cutover_runs ORDER BY run_id DESC LIMIT 1") is None
            large.sql("SELECT pg_cancel_backend(pid) FROM pg_stat_progress_vacuum")
        stop.set()
        writer.join(60)
        thread.join(120)
    call(large, "rollback", ["shop.plain"], max_pause="5 s")
    equal(large)


def test_a_lock_that_the_commit_meets_is_no_reason_to_wait_longer(large):
    """Whatever it is that cannot be locked in the commit: the pause has its bound, and the old side is as before."""
    ready(large)
    holder = large.pg.connect(large.database, autocommit=False)
    with holder.cursor() as cursor:
        cursor.execute("SELECT pg_get_serial_sequence('customer', 'id')")
        cursor.execute(f"ALTER SEQUENCE {cursor.fetchone()[0]} CACHE 1")
    started = time.monotonic()
    with pytest.raises(psycopg2.Error) as refused:
        call(large, "cutover", waive=WAIVE, max_pause="1 s", lock_wait="1 s")
    assert refused.value.pgcode == "55P03" and time.monotonic() - started < 20
    assert large.value("SELECT pause_ms FROM tandem.cutover_runs ORDER BY run_id DESC LIMIT 1") < 5000
    assert phase(large, "customer") == "ready" and fences(large) == []
    large.write("INSERT INTO customer (name) VALUES ('still here')")
    holder.close()
    large.check()


def test_contract_does_not_let_the_application_wait_behind_a_report(large):
    """To drop a trigger waits for readers, and everybody else behind it."""
    ready(large, ["shop.plain"])
    call(large, "cutover", ["shop.plain"], waive=WAIVE, max_pause="5 s")
    report = large.pg.connect(large.database, autocommit=False)
    with report.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM plain")
    slowest, stop = [0.0], threading.Event()

    def client():
        connection = large.pg.connect(large.database, autocommit=True)
        while not stop.is_set():
            started = time.monotonic()
            with connection.cursor() as cursor:
                cursor.execute("UPDATE plain SET v = v + 1 WHERE k = 'k1k1k1k1'")
            slowest[0] = max(slowest[0], time.monotonic() - started)
        connection.close()
    writer = threading.Thread(target=client, daemon=True)
    writer.start()
    contract = threading.Thread(target=lambda: call(large, "contract", ["shop.plain"], confirm="no way back"), daemon=True)
    contract.start()
    wait_until(lambda: "not yet" in (large.value("SELECT steps FROM tandem.cutover_runs ORDER BY run_id DESC LIMIT 1") or ""), 30, 0.1, "the contract to wait")
    time.sleep(3)
    assert "SELECT count" in large.value("SELECT steps FROM tandem.cutover_runs ORDER BY run_id DESC LIMIT 1")
    report.rollback()
    contract.join(60)
    stop.set()
    writer.join(60)
    assert not contract.is_alive() and not writer.is_alive()
    assert phase(large, "plain") == "contracted" and slowest[0] < 2.5, slowest
    assert large.sql("SELECT tgname FROM pg_trigger WHERE tgrelid = 'plain'::regclass AND tgname LIKE 'tandem%'") == []
    report.close()


def test_a_dropped_table_is_its_owners_again(large):
    ready(large)
    call(large, "cutover", waive=WAIVE, max_pause="5 s")
    call(large, "rollback", max_pause="5 s")
    report = large.pg.connect(large.database, autocommit=False)
    with report.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM orders")
    with pytest.raises(psycopg2.Error, match="could not be locked") as refused:
        large.sql("SELECT tandem.drop_table('orders')")
    assert refused.value.pgcode == "55P03" and "SELECT count" in refused.value.diag.message_detail
    report.close()
    # By somebody who is no superuser.
    large.sql("CREATE ROLE keeper LOGIN IN ROLE tandem_admin")
    large.sql("ALTER TABLE orders OWNER TO keeper")
    keeper = large.pg.connect(large.database, autocommit=True)
    with keeper.cursor() as cursor:
        cursor.execute("SET ROLE keeper")
        cursor.execute("SELECT tandem.drop_table('orders')")
    keeper.close()
    assert large.sql("SELECT tgname FROM pg_trigger WHERE tgrelid = 'orders'::regclass AND tgname LIKE 'tandem%'") == []
    wait_until(lambda: "orders" not in large.states(), 30, 0.1, "the table to be dropped")
    large.sql("DROP OWNED BY keeper")
    large.sql("DROP ROLE keeper")
