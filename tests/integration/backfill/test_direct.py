"""History that copiers move straight into the target while rows of the chunks in hand change, with every kind of key (I2, model B1)."""
import sys
from pathlib import Path

import pytest

from lib.process import wait_until

sys.path.insert(0, str(Path(__file__).parent))
from keys import KEYS, Writer, change, create, fill  # noqa: E402

ROWS = 3000
COPIER_STEPS = ["backfill:after_mark_chunk", "backfill:after_snapshot", "backfill:in_read_chunk", "backfill:before_end_chunk",
                "backfill:before_commit", "backfill:after_commit"]
PUMP_STEPS = ["pump:after_read_chunks", "pump:after_read_snapshot", "pump:before_discard", "pump:after_copy_batch"]


def modes(scene):
    return dict(scene.sql("SELECT t.name, b.mode FROM tandem.backfill b JOIN tandem.source_table t USING (table_id)"))


@pytest.mark.parametrize("slow", ["none", "backfill:after_mark_chunk", "backfill:after_snapshot", "backfill:before_commit", "pump:after_read_chunks",
                                  "pump:after_read_snapshot", "pump:before_discard"])
def test_every_key_while_rows_change(direct_scene, settings, slow):
    """One step of all takes long, so that changes fall into it. Chunks are small: their time includes the step."""
    scene = direct_scene
    settings.set(backfill_chunk_time="30ms")
    for name in KEYS:
        create(scene, name)
        fill(scene, name, ROWS)
    scene.run_worker(failpoint=None if slow == "none" else f"{slow}=sleep(40)")
    scene.add_source()
    with Writer(scene, KEYS, ROWS) as one, Writer(scene, KEYS, ROWS, seed=2):
        scene.add_and_start("%", wait=False)
        wait_until(lambda: set(s.split(":")[0] for s in scene.states().values()) == {"syncing"}, 180, 0.2, "every table to be in sync")
        so_far = one.committed
        wait_until(lambda: one.committed > so_far + 200, 60, 0.1, "changes after the copy")
    assert set(modes(scene).values()) == {"direct"}
    scene.check(120)


@pytest.mark.parametrize("step", COPIER_STEPS + PUMP_STEPS)
def test_changes_in_the_chunk_in_hand(direct_scene, settings, step):
    """Everything stands still at a step; rows of the chunk in hand, of one that is done and of those not started change; then it goes on."""
    scene = direct_scene
    settings.set(backfill_chunk_time="10ms", backfill_copiers=1)
    names = ["k_int", "k_general", "k_two"]
    for name in names:
        create(scene, name)
        fill(scene, name, ROWS)
    worker = scene.run_worker(failpoint=f"{step}:3=stop")
    scene.add_source()
    with Writer(scene, names, ROWS) as writer:
        scene.add_and_start("%", wait=False)
        wait_until(worker.stopped, 60, 0.01, f"the worker to stand at {step}")
    assert writer.committed > 0
    chunks = scene.sql("SELECT state, count(*) FROM tandem.backfill_chunk GROUP BY 1")
    if step in COPIER_STEPS[:-1]:
        assert dict(chunks).get("in_progress", 0) > 0
    statements = []
    for name in names:
        for n in range(0, ROWS, 7):
            statements.append(change(name, n, ROWS - n if n % 2 else ROWS + n, n * 37 % 100 / 100))
    connection = scene.app()
    with connection.cursor() as cursor:
        for statement in statements:
            try:
                cursor.execute(statement)
            except Exception as error:
                if error.args[0] != 1062:
                    raise
    connection.close()
    worker.thaw()
    scene.check(120)
    assert set(modes(scene).values()) == {"direct"}


