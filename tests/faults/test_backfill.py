"""Something ends, crashes or is cut while the history of tables is copied directly, under load (I2, I10): the copy goes on where it was."""
import pytest

from lib.process import wait_until

ROWS = 6000
STEPS = ["backfill:after_begin", "backfill:after_mark_chunk:3", "backfill:after_snapshot:2", "backfill:in_read_chunk:4", "backfill:before_end_chunk:3",
         "backfill:before_commit:3", "backfill:after_commit:3", "backfill:before_end_backfill", "backfill:before_build_index",
         "backfill:after_build_index", "pump:after_read_chunks:2", "pump:before_discard", "pump:after_discard"]


@pytest.fixture
def big_scene(request, folder, flavor):
    """Tables with history, one of them with secondary indexes, before they are added."""
    from conftest import make_scene
    scene = make_scene(request, folder, flavor, {"tandem.backfill_direct_rows": "0", "tandem.backfill_chunk_time": "20ms",
                                                 "tandem.backfill_yield": "0"}, add=False)
    scene.write("ALTER TABLE account ADD INDEX owner_index (owner), ADD UNIQUE INDEX touched_index (touched, id)")
    for first in range(1000, 1000 + ROWS, 1000):
        scene.write("INSERT INTO account VALUES " + ",".join(f"({n}, 'owner {n}', 1, NOW(6))" for n in range(first, first + 1000)),
                    "INSERT INTO movement VALUES " + ",".join(f"({n % 500}, {n}, 1, 'note')" for n in range(first, first + 1000)))
    return scene


def begin(scene):
    scene.wait_worker()
    scene.add_and_start("%", wait=False)


def done_chunks(scene):
    return scene.value("SELECT count(*) FROM tandem.backfill_chunk WHERE state = 'done'")


def check(scene):
    scene.check(120)
    assert set(scene.sql("SELECT mode, phase FROM tandem.backfill")) == {("direct", "done")}
    assert scene.value("SELECT count(*) FROM pg_index WHERE indrelid = 'account'::regclass AND indisvalid") == 3
    assert scene.value("SELECT count(*) FROM tandem.deferred_index") == 0


@pytest.mark.parametrize("step", STEPS)
def test_worker_killed(big_scene, step):
    scene = big_scene
    worker = scene.swap_worker(f"{step}=kill")
    worker.wait_leader()
    with scene.load() as load:
        begin(scene)
        assert worker.wait_end(120) == -9
        before = done_chunks(scene)
        worker.failpoint = None
        worker.start()
        load.wait(100)
    check(scene)
    if "after_commit" in step:
        assert before > 0  # and those were not copied again:
    assert scene.value("SELECT backfill_rows FROM tandem.table_state s JOIN tandem.source_table t USING (table_id) WHERE t.name = 'movement'") < 1.3 * ROWS


@pytest.mark.parametrize("fault", ["postgres", "mysql", "cut old", "cut new", "hang old", "hang new", "freeze", "backend"])
def test_around_the_worker(big_scene, fault):
    scene = big_scene
    worker = scene.swap_worker("backfill:in_read_chunk=sleep(100)")  # so that the copy takes a while
    worker.wait_leader()
    with scene.load() as load:
        begin(scene)
        for _ in range(3):
            wait_until(lambda: done_chunks(scene) > 0 or scene.value("SELECT bool_and(phase = 'done') FROM tandem.backfill"), 60, 0.05, "chunks to be done")
            if fault == "postgres":
                scene.stop_pg_hard()
            elif fault == "mysql":
                scene.restart_old()
            elif fault == "freeze":
                worker.freeze()
                load.wait(200)
                worker.thaw()
            elif fault == "backend":
                scene.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'tandem-sync backfill %'")
            else:
                proxy = scene.old_proxy if fault.endswith("old") else scene.pg_proxy
                if fault.startswith("hang"):
                    proxy.hold("down")
                    load.wait(100)
                proxy.cut()
                load.wait(30)
                proxy.restore()
            load.wait(50)
    assert worker.running()
    check(scene)


def test_two_workers_take_turns(big_scene):
    """The worker that leads stands still in the middle of a chunk until another leads, and then goes on: its rows must not land."""
    scene = big_scene
    worker = scene.swap_worker("backfill:before_end_chunk:3=stop")
    worker.wait_leader()
    with scene.load() as load:
        begin(scene)
        wait_until(worker.stopped, 60, 0.02, "the worker to stand still")
        second = scene.run_worker("second")
        epoch = scene.epoch()
        wait_until(lambda: scene.epoch() > epoch, 30, 0.1, "the second to lead")
        wait_until(lambda: done_chunks(scene) > 2 or scene.value("SELECT bool_and(phase = 'done') FROM tandem.backfill"), 60, 0.1, "it to copy")
        worker.thaw()
        load.wait(200)
    assert second.running()
    check(scene)
