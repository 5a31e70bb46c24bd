"""The network between the worker and either side is cut, in both directions, cleanly and not."""
import os
import random

import pytest

from lib import paths


@pytest.mark.parametrize("side", ["old", "new"])
def test_cut(fault_scene, side):
    proxy = fault_scene.old_proxy if side == "old" else fault_scene.pg_proxy
    with fault_scene.load() as load:
        for _ in range(3):
            load.wait(50)
            proxy.cut()
            load.wait(50)
            proxy.restore()
        load.wait(50)
    assert fault_scene.worker.running()
    fault_scene.check()


@pytest.mark.parametrize("side, direction", [("old", "down"), ("old", "up"), ("new", "down"), ("new", "up")])
def test_one_direction_hangs_longer_than_the_lease(fault_scene, side, direction):
    proxy = fault_scene.old_proxy if side == "old" else fault_scene.pg_proxy
    with fault_scene.load(pause=0.01) as load:
        load.wait(50)
        proxy.hold(direction)
        load.wait(400)
        proxy.cut()
        load.wait(30)
        proxy.restore()
        load.wait(50)
    assert fault_scene.worker.running()
    fault_scene.check()


def test_everything_at_random(fault_scene):
    """Kills, crashes and cuts in random order; TANDEM_LONG makes it a long one."""
    scene = fault_scene
    generator = random.Random(int(os.environ.get("TANDEM_SEED", "11")))
    second = scene.run_worker("second")
    rounds = 60 if paths.long_version() else 8
    story = []
    with scene.load(clients=4) as load:
        for _ in range(rounds):
            fault = generator.choice(["worker", "second", "postgres", "mysql", "cut old", "cut new", "freeze"])
            story.append(fault)
            load.wait(generator.randint(10, 150))
            if fault in ("worker", "second"):
                worker = scene.worker if fault == "worker" else second
                worker.kill()
                worker.start()
            elif fault == "postgres":
                scene.stop_pg_hard()
            elif fault == "mysql":
                scene.restart_old()
            elif fault == "freeze":
                scene.worker.freeze()
                load.wait(generator.randint(10, 300))
                scene.worker.thaw()
            else:
                proxy = scene.old_proxy if fault == "cut old" else scene.pg_proxy
                proxy.cut()
                load.wait(20)
                proxy.restore()
    print(story)
    scene.check(timeout=120)
