"""MySQL ends without warning. MySQL 5.6 forgets the auto-increment counter of an emptied table: ids are used twice (I1)."""

import pytest

from lib.process import wait_until


def test_empty_outbox(fault_scene):
    scene = fault_scene
    for number in range(4):
        scene.write(*(f"INSERT INTO account VALUES ({number * 10 + n}, 'before', 1, NOW(6))" for n in range(5)))
        scene.check()  # and the outbox is empty
        scene.restart_old()
        scene.write(*(f"INSERT INTO account VALUES ({number * 10 + n}, 'after', 1, NOW(6))" for n in range(5, 10)),
                    f"UPDATE account SET owner = 'changed' WHERE id = {number * 10}", f"DELETE FROM account WHERE id = {number * 10 + 1}")
        scene.check()
    assert scene.worker.running()


def test_ids_are_used_twice(fault_scene, flavor):
    """The hazard is real on 5.6 (else the test above would prove nothing)."""
    scene = fault_scene
    outbox = scene.value("SELECT outbox FROM tandem.source_table WHERE name = 'account'")

    def next_id():
        return scene.old.value("SELECT AUTO_INCREMENT FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s", (scene.metadata, outbox))
    scene.write(*(f"INSERT INTO account VALUES ({n}, 'x', 1, NOW(6))" for n in range(20)))
    scene.check()
    before = next_id()
    scene.worker.stop()
    scene.restart_old()
    assert (next_id() < before) == (flavor == "mysql56"), (before, next_id())
    scene.write("UPDATE account SET owner = 'y'")
    scene.worker.start()
    scene.check()


def test_under_load(fault_scene):
    with fault_scene.load() as load:
        for _ in range(4):
            load.wait(100)
            fault_scene.restart_old()
        load.wait(100)
    assert fault_scene.worker.running()
    fault_scene.check()


def test_delete_whose_reply_is_lost(fault_scene):
    """The delete of ids 1..n is committed, its reply is lost, MySQL restarts and hands the same ids out again: a repeated delete would
    remove events that nobody has read."""
    scene = fault_scene
    for number in range(3):
        scene.check()
        scene.old_proxy.lose_reply(b"DELETE ")
        scene.write(*(f"INSERT INTO account VALUES ({number * 100 + n}, 'first', 1, NOW(6))" for n in range(10)))
        assert scene.old_proxy.lost.wait(20), "the worker sent no DELETE"
        scene.old.kill()
        scene.old_proxy.cut()
        scene.old.start()
        scene.write(*(f"INSERT INTO account VALUES ({number * 100 + n}, 'second', 1, NOW(6))" for n in range(10, 30)))
        scene.old_proxy.restore()
        scene.check()


def test_prepared_over_a_restart(fault_scene):
    """A prepared XA transaction survives the server; its events become visible long after younger ones were read and deleted."""
    scene = fault_scene
    scene.write(*(f"INSERT INTO account VALUES ({n}, 'x', 1, NOW(6))" for n in range(10)))
    scene.check()
    session = scene.old.connect(scene.old_database)
    with session.cursor() as cursor:
        for statement in ("XA START 'late'", "UPDATE account SET owner = 'late' WHERE id < 3", "INSERT INTO account VALUES (50, 'late', 1, NOW(6))", "XA END 'late'", "XA PREPARE 'late'"):
            cursor.execute(statement)
    scene.write("UPDATE account SET owner = 'between' WHERE id BETWEEN 6 AND 8")
    scene.wait_caught_up()
    scene.restart_old()
    scene.write("INSERT INTO account VALUES (60, 'after', 1, NOW(6))", "DELETE FROM account WHERE id = 9")
    scene.wait_caught_up()
    assert scene.value("SELECT count(*) FROM account WHERE owner = 'late'") == 0
    scene.old.query("XA COMMIT 'late'")
    scene.check()
    assert scene.value("SELECT count(*) FROM account WHERE owner = 'late'") == 4


def soft_commits(scene, *statements):
    """Commits that others see and that are not on disk, as all are for a moment while the log is written."""
    scene.old.query("SET GLOBAL innodb_flush_log_at_timeout = 2700")
    scene.old.query("SET GLOBAL innodb_flush_log_at_trx_commit = 0")
    scene.write(*statements)
    scene.old.query("SET GLOBAL innodb_flush_log_at_trx_commit = 1")


@pytest.mark.on_disk  # in memory MariaDB maps its log: nothing it commits is ever lost there
def test_seen_before_it_is_on_disk(fault_scene):
    """What the pump reads may be gone after a crash of the old side; the new side must not have it then."""
    scene = fault_scene
    scene.write(*(f"INSERT INTO account VALUES ({n}, 'x', 1, NOW(6))" for n in range(10)))
    scene.check()
    scene.worker.stop()
    # The hazard is real, else the rest would prove nothing. The server may write its log for reasons of its own, so not every time.
    for number in range(90, 95):
        soft_commits(scene, f"INSERT INTO account VALUES ({number}, 'never was', 1, NOW(6))")
        assert scene.old_value(f"SELECT COUNT(*) FROM account WHERE id = {number}") == 1
        scene.restart_old()
        if scene.old_value(f"SELECT COUNT(*) FROM account WHERE id = {number}") == 0:
            break
    else:
        pytest.fail("a commit that is not flushed was never lost")

    scene.worker.failpoint = "pump:after_await_journal=stop"
    scene.worker.start().wait_leader()
    scene.worker.freeze()
    soft_commits(scene, "INSERT INTO account VALUES (100, 'soft', 1, NOW(6))", "UPDATE account SET owner = 'soft' WHERE id = 1", "DELETE FROM account WHERE id = 2")
    scene.worker.thaw()
    wait_until(scene.worker.stopped, 30, 0.05, "the batch to be acknowledged")
    assert scene.value("SELECT count(*) FROM account WHERE owner = 'soft'") > 0
    scene.restart_old()
    scene.worker.kill()
    scene.worker.failpoint = None
    scene.worker.start()
    scene.check()
