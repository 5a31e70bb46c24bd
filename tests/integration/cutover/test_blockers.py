"""What of the old side's clients keeps a cut-over from its lock, and ending those whose users were named (`kill`)."""
import sys
import threading
import time
from pathlib import Path

import psycopg2
import pymysql
import pytest

from lib.process import wait_until

sys.path.insert(0, str(Path(__file__).parent))
from test_cutover import WAIVE, call, equal, fences, phase, ready  # noqa: E402

WAIVE_ALL = WAIVE.replace("}", ', "long_transactions": "they are to be ended"}')


@pytest.fixture
def report(scene):
    """Sessions of another user, who only reads; and whether the worker may end them."""
    opened = []
    for host in ("localhost", "127.0.0.1", "%"):
        scene.old.query(f"GRANT USAGE ON *.* TO 'report'@'{host}' IDENTIFIED BY 'report'")
        scene.old.query(f"GRANT SELECT, LOCK TABLES ON `{scene.old_database}`.* TO 'report'@'{host}'")
        scene.old.query(f"GRANT SUPER ON *.* TO 'tandem'@'{host}'")

    def connect():
        opened.append(scene.old.connect(scene.old_database, "report", "report", autocommit=False))
        return opened[-1]
    yield connect
    for connection in opened:
        try:
            connection.close()
        except pymysql.err.MySQLError:
            pass
    may_kill(scene, False)


def may_kill(scene, may):
    for host in ("localhost", "127.0.0.1", "%"):
        scene.old.query(f"GRANT SUPER ON *.* TO 'tandem'@'{host}'" if may else f"REVOKE SUPER ON *.* FROM 'tandem'@'{host}'")
        if not may and scene.old.flavor == "mariadb":
            scene.old.query(f"REVOKE CONNECTION ADMIN ON *.* FROM 'tandem'@'{host}'")


def run(connection, statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def restart_worker(scene):
    """Rights of a user count from its next connection on."""
    scene.worker.kill()
    scene.worker.start()
    scene.wait_caught_up()


def last_steps(scene):
    return scene.value("SELECT steps FROM tandem.cutover_runs ORDER BY run_id DESC LIMIT 1")


def test_named_users_are_ended_and_nobody_else(scene, report):
    restart_worker(scene)
    ready(scene)
    reader, application = report(), scene.app(autocommit=False)
    run(reader, "SELECT * FROM customer")
    run(application, "SELECT 1")
    with pytest.raises(psycopg2.Error, match="could not be locked"):
        call(scene, "cutover", waive=WAIVE_ALL, lock_wait="1 s")
    with pytest.raises(psycopg2.Error, match="could not be locked"):
        call(scene, "cutover", waive=WAIVE_ALL, lock_wait="2 s", kill=["somebody"])
    with pytest.raises(psycopg2.Error) as error:
        call(scene, "cutover", waive=WAIVE_ALL, kill=[""])
    assert error.value.pgcode == "22023"
    assert run(reader, "SELECT COUNT(*) FROM customer"), "nobody has ended it"
    call(scene, "cutover", waive=WAIVE_ALL, max_pause="5 s", kill=["report"])
    assert phase(scene, "customer") == "new_primary" and "of report@" in last_steps(scene) and "ended" in last_steps(scene), last_steps(scene)
    with pytest.raises(pymysql.err.MySQLError):
        run(reader, "SELECT 1")
    assert run(application, "SELECT 2") == ((2,),), "an application's session is none of them"
    application.close()
    call(scene, "rollback", max_pause="5 s")
    equal(scene)


def test_idle_sessions_may_hold_locks_too(scene, report):
    """No server tells who holds LOCK TABLES: after some attempts the idle sessions of the named users go as well."""
    restart_worker(scene)
    ready(scene)
    holder = report()
    run(holder, "LOCK TABLES orders READ")
    call(scene, "rehearse_cutover", waive=WAIVE_ALL, kill=["report"])
    assert "ended" in last_steps(scene) and phase(scene, "customer") == "ready"
    with pytest.raises(pymysql.err.MySQLError):
        run(holder, "SELECT 1")
    assert fences(scene) == []


def test_without_the_right_to_end_them(scene, report):
    may_kill(scene, False)
    restart_worker(scene)
    ready(scene)
    reader = report()
    run(reader, "SELECT * FROM customer")
    time.sleep(1.1)
    with pytest.raises(psycopg2.Error, match="could not be locked"):
        call(scene, "cutover", waive=WAIVE_ALL, lock_wait="3 s", kill=["report"])
    assert "could not be ended" in last_steps(scene), last_steps(scene)
    assert run(reader, "SELECT COUNT(*) FROM customer")
    assert phase(scene, "customer") == "ready" and fences(scene) == []
    may_kill(scene, True)


def test_alter_table_is_in_the_way(scene, report):
    """An ALTER that waits for a reader, writers behind it: the cut-over gives up within its budget, and works when the ALTER is done."""
    ready(scene)
    reader = report()
    run(reader, "SELECT * FROM customer")
    errors, stop = [], threading.Event()

    def alter():
        scene.old.query("ALTER TABLE customer ADD KEY (name)", database=scene.old_database)

    def client():
        connection = scene.app()
        while not stop.is_set():
            try:
                run(connection, "UPDATE customer SET balance = balance + 1 WHERE id = 1")
            except pymysql.err.MySQLError as error:
                errors.append(error)
                return
            time.sleep(0.005)
        connection.close()
    threads = [threading.Thread(target=work, daemon=True) for work in (alter, client)]
    for thread in threads:
        thread.start()
    wait_until(lambda: scene.old.query("SELECT 1 FROM information_schema.processlist WHERE info LIKE 'ALTER TABLE%' AND state LIKE 'Waiting%'"), 30, 0.05, "the ALTER to wait")
    started = time.monotonic()
    with pytest.raises(psycopg2.Error, match="could not be locked"):
        call(scene, "cutover", waive=WAIVE_ALL, max_pause="400 ms", lock_wait="2 s")
    assert time.monotonic() - started < 30
    assert phase(scene, "customer") == "ready" and fences(scene) == []
    reader.rollback()
    threads[0].join(60)
    stop.set()
    threads[1].join(60)
    assert not errors, errors
    scene.check()
    wait_until(lambda: set(state.split(":")[0] for state in scene.states().values()) == {"syncing"}, 60, 0.1, "all tables to be in sync")
    call(scene, "cutover", waive=WAIVE_ALL, max_pause="5 s")
    assert phase(scene, "customer") == "new_primary"
    call(scene, "rollback", max_pause="5 s")
    equal(scene)
