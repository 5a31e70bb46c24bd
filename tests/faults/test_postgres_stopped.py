"""PostgreSQL ends without warning; the apply worker is killed at its named steps; the administrator turned durability off (I1, I3, I10)."""
import time

import pytest


def test_stopped_immediate(fault_scene):
    with fault_scene.load() as load:
        for _ in range(3):
            load.wait(100)
            fault_scene.stop_pg_hard()
        load.wait(100)
    assert fault_scene.worker.running(), "the worker reconnects by itself"
    fault_scene.check()


@pytest.mark.settings({"synchronous_commit": "off", "wal_writer_delay": "10s", "wal_writer_flush_after": "0", "bgwriter_delay": "10s"})
def test_synchronous_commit_off(fault_scene):
    """With this setting PostgreSQL loses its last seconds of commits; events must not have been deleted on the strength of them."""
    assert fault_scene.value("SHOW synchronous_commit") == "off"
    with fault_scene.load() as load:
        for _ in range(3):
            load.wait(150)
            fault_scene.stop_pg_hard()
    for number in range(3):
        # The last row is acknowledged and deleted on the old side at once before the crash.
        fault_scene.write(f"INSERT INTO movement VALUES (9999, {number}, 1, 'last')")
        fault_scene.wait_caught_up()
        fault_scene.stop_pg_hard()
        assert fault_scene.value("SELECT count(*) FROM movement WHERE account = 9999") == number + 1
    fault_scene.check()


@pytest.mark.parametrize("step", ["apply:before_apply", "apply:before_commit", "apply:after_commit"])
def test_apply_killed(fault_scene, step):
    """kill -9 of the apply worker makes PostgreSQL restart all its processes; the queue is unlogged and empty afterwards."""
    with fault_scene.load() as load:
        load.wait(50)
        for _ in range(2):
            before = fault_scene.crashes()
            fault_scene.pg.reload(**{"tandem.debug_failpoint": f"{step} kill"})
            deadline = time.monotonic() + 30
            while fault_scene.crashes() == before:
                assert time.monotonic() < deadline, f"{step} was never reached"
                time.sleep(0.05)
            fault_scene.pg.reload(**{"tandem.debug_failpoint": ""})
            load.wait(100)
    fault_scene.wait_pg_back(before)
    fault_scene.check()
