"""Random schemas and writes (tests/integration/fuzz) while worker, PostgreSQL and the old server are killed at random moments (I10)."""
import os
import random
import time

import pytest

from lib.fuzz import Schema, Traffic

SEEDS = [int(seed) for seed in os.environ.get("TANDEM_FUZZ_SEED", "3").split(",")]
SECONDS = float(os.environ.get("TANDEM_FUZZ_SECONDS", "8"))


@pytest.mark.parametrize("seed", SEEDS)
def test_random(bare_fault_scene, seed):
    scene, draw = bare_fault_scene, random.Random(seed)
    schema = Schema(seed, cascades=seed % 2 == 1)
    print(f"TANDEM_FUZZ_SEED={seed}\n" + ";\n".join(schema.create()))
    scene.old.script(";\n".join(schema.create()) + ";\n", scene.old_database)
    scene.add_and_start("%")
    second = scene.run_worker("second")

    def freeze():
        worker = draw.choice(scene.workers)
        worker.freeze()
        traffic.wait(draw.uniform(0.5, 4))
        worker.thaw()

    def kill_worker():
        worker = draw.choice(scene.workers)
        worker.kill()
        worker.start()

    def cut():
        proxy = draw.choice([scene.old_proxy, scene.pg_proxy])
        proxy.cut()
        traffic.wait(draw.uniform(0, 2))
        proxy.restore()

    traffic = Traffic(lambda **o: scene.app(**o), schema, seed)
    with traffic:
        deadline, done = time.monotonic() + SECONDS, []
        while time.monotonic() < deadline and not traffic.failures:
            traffic.wait(draw.uniform(0.3, 2))
            fault = draw.choice([freeze, kill_worker, kill_worker, cut, scene.stop_pg_hard, scene.restart_old])
            done.append(fault.__name__)
            fault()
    print(f"{traffic.statements} statements, {traffic.commits} commits, {done}")
    assert second.running()
    scene.check(timeout=180)
