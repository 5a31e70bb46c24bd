"""kill -9 of the worker before and after each named step, under load and during the backfill (I1, I10)."""
import pytest

STEPS = ["pump:after_read_snapshot", "pump:before_copy_batch", "pump:in_copy_batch", "pump:after_copy_batch", "pump:after_await_journal",
         "pump:before_delete_exact", "pump:after_delete_exact", "pump:before_finish_batches", "request:after_insert"]


def survive(scene, load, failpoint):
    worker = scene.swap_worker(failpoint)
    asked = 0
    while worker.running():
        scene.sql("SELECT tandem.enqueue('account', jsonb_build_object('id', %s))", (asked % 200,))  # so that requests flow as well
        asked += 1
        load.wait(5)
        assert asked < 2000, f"{failpoint} was never reached"
    assert worker.wait_end() == -9
    worker.failpoint = None
    worker.start()
    load.wait(50)


@pytest.mark.parametrize("step", STEPS)
def test_under_load(fault_scene, step):
    with fault_scene.load() as load:
        load.wait(50)
        survive(fault_scene, load, f"{step}=kill")
        survive(fault_scene, load, f"{step}:3=kill")
    fault_scene.check()


@pytest.mark.parametrize("step", ["pump:in_copy_batch", "pump:after_copy_batch", "pump:after_await_journal"])
def test_during_backfill(fresh_fault_scene, step):
    scene = fresh_fault_scene
    scene.write("INSERT INTO account VALUES " + ",".join(f"({n}, 'owner', 1, NOW(6))" for n in range(1000, 8000)))
    worker = scene.swap_worker(f"{step}:4=kill")
    worker.wait_leader()
    with scene.load() as load:
        scene.wait_worker()
        scene.add_and_start("%", wait=False)
        assert worker.wait_end() == -9
        worker.failpoint = None
        worker.start()
        load.wait(100)
    scene.check()


def test_terminated_politely(fault_scene):
    """SIGTERM finishes the batch in hand: nothing is left half-done and the lease is handed over at once."""
    with fault_scene.load() as load:
        for _ in range(3):
            load.wait(50)
            assert fault_scene.worker.stop() == 0
            fault_scene.worker.start().wait_leader(timeout=10)
        load.wait(50)
    fault_scene.check()
