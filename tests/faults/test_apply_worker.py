"""The apply worker is interrupted, or meets an application that locks the same rows in the other order: nothing is lost, nobody is blamed."""
import psycopg2
import pytest

from lib.process import wait_until

APPLY = "SELECT pid FROM pg_stat_activity WHERE backend_type ~ 'apply' AND datname = current_database()"


def test_cancelled_and_terminated(fault_scene):
    scene = fault_scene
    scene.write("INSERT INTO account VALUES " + ",".join(f"({n}, 'x', 1, NOW(6))" for n in range(100)))
    scene.wait_caught_up()
    ends = 0
    for number in range(6):
        scene.write(f"UPDATE account SET balance = {number + 10}", f"DELETE FROM account WHERE id = {number}")
        function = "pg_terminate_backend" if number % 2 else "pg_cancel_backend"
        ends += len(scene.sql(f"SELECT {function}(pid) FROM ({APPLY}) AS a"))
    assert ends > 0
    scene.check(120)


def locked_accounts(scene):
    """Which rows somebody holds a lock on."""
    probe = scene.pg.connect(scene.database, autocommit=False)
    try:
        with probe.cursor() as cursor:
            cursor.execute("SELECT id FROM account ORDER BY id")
            every = {number for (number,) in cursor.fetchall()}
            cursor.execute("SELECT id FROM account FOR UPDATE SKIP LOCKED")
            return every - {number for (number,) in cursor.fetchall()}
    finally:
        probe.rollback()
        probe.close()


@pytest.mark.settings({"tandem.apply_lock_timeout": "120s", "deadlock_timeout": "200ms"})
def test_deadlock_with_a_client(fault_scene):
    """The client asks for a row that apply holds while apply waits for the client's: whoever is the victim, nothing is lost."""
    scene = fault_scene
    scene.write("INSERT INTO account VALUES " + ",".join(f"({n}, 'x', 1, NOW(6))" for n in range(100)))
    scene.wait_caught_up()
    client = scene.pg.connect(scene.database, autocommit=False)
    own = client.info.backend_pid
    waits = f"SELECT pid FROM ({APPLY}) AS a WHERE {own} = ANY (pg_blocking_pids(a.pid))"
    # In which order apply takes the rows is its own affair: when the client's is the first, apply holds none yet, so another one is tried.
    for number, mine in enumerate((50, 99, 0, 25, 75)):
        with client.cursor() as cursor:
            cursor.execute("SELECT FROM account WHERE id = %s FOR UPDATE", (mine,))
            scene.write(f"UPDATE account SET balance = {number + 7}")
            wait_until(lambda: scene.sql(waits), 60, 0.05, "apply to wait for the client")
            held = locked_accounts(scene) - {mine}
            if held:
                try:
                    cursor.execute("SELECT FROM account WHERE id = %s FOR UPDATE", (min(held),))
                except psycopg2.errors.DeadlockDetected:
                    pass  # either may be the victim
        client.rollback()
        if held:
            break
        scene.wait_caught_up()
    client.close()
    assert held, "apply never held a row while it waited for another"
    wait_until(lambda: scene.deadlocks() > 0, 30, 0.1, "the deadlock")
    scene.check()
