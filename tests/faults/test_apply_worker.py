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


@pytest.mark.settings({"tandem.apply_lock_timeout": "30s", "deadlock_timeout": "200ms"})
def test_deadlock_with_a_client(fault_scene):
    scene = fault_scene
    scene.write("INSERT INTO account VALUES " + ",".join(f"({n}, 'x', 1, NOW(6))" for n in range(100)))
    scene.wait_caught_up()
    client = scene.pg.connect(scene.database, autocommit=False)
    with client.cursor() as cursor:
        cursor.execute("SELECT FROM account WHERE id = 99 FOR UPDATE")
        scene.write("UPDATE account SET balance = 7")
        wait_until(lambda: scene.sql(f"SELECT pid FROM ({APPLY}) AS a JOIN pg_locks AS l USING (pid) WHERE NOT l.granted"), 20, 0.05,
                   "apply to wait for the client")
        try:
            cursor.execute("SELECT FROM account WHERE id = 1 FOR UPDATE")
        except psycopg2.errors.DeadlockDetected:
            pass  # either may be the victim
    client.rollback()
    client.close()
    assert scene.pg.log_has("deadlock detected")
    scene.check()
