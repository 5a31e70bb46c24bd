"""Leadership: two workers at once, a leader that sleeps through its lease and wakes up, a COPY that commits after its client is gone (I4)."""
import pytest

from lib.process import wait_until

STEPS = ["pump:after_read_snapshot", "pump:before_copy_batch", "pump:in_copy_batch", "pump:after_copy_batch", "pump:after_await_journal",
         "pump:before_delete_exact", "pump:after_delete_exact"]


def test_two_at_once(fault_scene):
    scene = fault_scene
    second = scene.run_worker("second")
    with scene.load() as load:
        load.wait(200)
        assert second.running() and scene.worker.running()
        scene.worker.kill()
        load.wait(50)
        scene.wait_caught_up(30)  # the second has taken over when the lease ended
        scene.worker.start()
        load.wait(50)
        assert second.stop() == 0
        load.wait(50)
    scene.check()


@pytest.mark.settings({"tandem.lease_ttl": "1s"})  # renewed all the time, so at the end of the process too
def test_clean_stop_hands_over_at_once(fault_scene):
    scene = fault_scene
    for _ in range(8):
        assert scene.worker.stop() == 0
        assert scene.value("SELECT expires_at = '-infinity' FROM tandem.lease"), "the next worker waits for nobody"
        scene.worker.start().wait_leader()
    scene.check()


@pytest.mark.parametrize("step", STEPS)
def test_leader_sleeps_and_wakes(fault_scene, step):
    scene = fault_scene
    with scene.load() as load:
        load.wait(50)
        first = scene.swap_worker(f"{step}:2=stop")
        wait_until(first.stopped, 20, 0.02, f"{step} to be reached")
        epoch = scene.epoch()
        second = scene.run_worker("second")
        wait_until(lambda: scene.epoch() > epoch, 20, 0.05, "the second worker to take over")
        load.wait(100)
        first.thaw()
        load.wait(100)
        assert second.running()
    scene.check()


def test_frozen_at_random(fault_scene):
    scene = fault_scene
    second = scene.run_worker("second")
    with scene.load() as load:
        for worker in (scene.worker, second) * 2:
            epoch = scene.epoch()
            worker.freeze()
            try:
                wait_until(lambda: scene.epoch() > epoch, 6, 0.05, "a take-over")
            except TimeoutError:
                pass  # the one that stood by was frozen
            load.wait(50)
            worker.thaw()
            load.wait(50)
    scene.check()


def test_copy_that_commits_late(fault_scene):
    """The COMMIT of a batch hangs in the network; its worker dies; another one takes over and applies newer states; then it arrives."""
    scene = fault_scene
    scene.write(*(f"INSERT INTO account VALUES ({n}, 'old state', 1, NOW(6))" for n in range(20)))
    scene.wait_caught_up()
    scene.pg_proxy.hold_request(b"COMMIT")
    scene.write("UPDATE account SET owner = 'held state'", "DELETE FROM account WHERE id = 3")
    assert scene.pg_proxy.held.wait(20), "the worker sent no COMMIT"
    scene.worker.kill()
    epoch = scene.epoch()
    second = scene.run_worker("second")
    wait_until(lambda: scene.epoch() > epoch, 20, 0.05, "the second worker to take over")
    scene.write("UPDATE account SET owner = 'new state'", "INSERT INTO account VALUES (3, 'again', 2, NOW(6))", "DELETE FROM account WHERE id = 4")
    scene.wait_caught_up()
    refused = scene.value("SELECT count(*) FROM tandem.journal")
    scene.pg_proxy.restore()
    scene.write("UPDATE account SET balance = 7 WHERE id = 5")
    scene.check()
    assert second.running() and scene.value("SELECT count(*) FROM tandem.journal") >= refused
    assert scene.value("SELECT count(*) FROM account WHERE owner = 'held state'") == 0
