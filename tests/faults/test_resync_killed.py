"""kill -9 of the worker at each step of the way back from lost capture, under load: what was deleted while nothing was captured goes all the same."""
import pytest

from lib.process import wait_until

STEPS = ["guard:before_lost", "guard:after_lost", "lifecycle:after_outbox", "resync:after_reset", "backfill:after_submit:2", "sweep:after_insert", "sweep:after_report:2",
         "sweep:before_end"]


def times(scene):
    return scene.value("SELECT coalesce(sum(times), 0) FROM tandem.resyncs WHERE \"table\" = 'account'")


@pytest.mark.parametrize("step", STEPS)
def test_worker_killed(fault_scene, step):
    scene = fault_scene
    scene.write("INSERT INTO account VALUES " + ",".join(f"({n}, 'owner', 1, NOW(6))" for n in range(1000, 7000)))
    scene.wait_caught_up()
    worker = scene.swap_worker(f"{step}=kill")
    worker.wait_leader()
    name = scene.old.value("SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = %s AND EVENT_OBJECT_TABLE = 'account'"
                           " AND EVENT_MANIPULATION = 'DELETE'", (scene.old_database,))
    worker.freeze()
    scene.old.query(f"DROP TRIGGER `{name}`", database=scene.old_database)
    scene.write("DELETE FROM account WHERE id BETWEEN 1500 AND 1700 OR id BETWEEN 5500 AND 6500")
    with scene.load() as load:
        worker.thaw()
        assert worker.wait_end(120) == -9
        load.wait(20)
        worker.failpoint = None
        worker.start()
        load.wait(50)
        wait_until(lambda: times(scene) > 0 and scene.states()["account"] == "syncing", 120, 0.1, "account to be in sync again")
    scene.check()
    assert scene.value("SELECT count(*) FROM account WHERE id BETWEEN 1500 AND 1700 OR id BETWEEN 5500 AND 6500") == 0


def test_killed_again_and_again(fault_scene):
    """While everything else happens: a TRUNCATE under load, the worker killed all the time."""
    scene = fault_scene
    scene.write("INSERT INTO account VALUES " + ",".join(f"({n}, 'owner', 1, NOW(6))" for n in range(1000, 9000)))
    scene.wait_caught_up()
    with scene.load() as load:
        scene.old.query("TRUNCATE movement", database=scene.old_database)
        scene.old.query("TRUNCATE account", database=scene.old_database)
        for _ in range(6):
            load.wait(30)
            scene.worker.kill()
            scene.worker.start()
        wait_until(lambda: times(scene) > 0 and set(scene.states().values()) == {"syncing"}, 120, 0.1, "both to be in sync again")
    scene.check()
