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


@pytest.mark.parametrize("key", ["ENUM('zebra','ape','Cow','bee')", "SET('zebra','ape')"])
def test_keys_of_labels_are_read_once(direct_scene, settings, key):
    """The index serves an ENUM or SET by its values only, not by its number: no chunk may begin to read at the first row again."""
    scene, rows = direct_scene, 30000
    settings.set(backfill_chunk_time="10ms", backfill_copiers=1)
    scene.write(f"CREATE TABLE labelled (kind {key} NOT NULL, no INT NOT NULL, v INT, PRIMARY KEY (kind, no)) ENGINE=InnoDB")
    for first in range(0, rows, 5000):
        values = ",".join(f"({n % 3 + 1}, {n}, {n})" for n in range(first, first + 5000))
        scene.write(f"INSERT INTO labelled VALUES {values}")
    scene.old.query("ANALYZE TABLE labelled", database=scene.old_database)  # as a table that was not filled a second ago
    scene.run_worker()
    scene.add_source()

    def rows_read():
        steps = ("Handler_read_first", "Handler_read_key", "Handler_read_next", "Handler_read_prev")
        return sum(int(value) for name, value in scene.old.query("SHOW GLOBAL STATUS LIKE 'Handler_read%'") if name in steps)

    before = rows_read()
    scene.add_and_start("%")
    copied = rows_read() - before
    scene.sql("SELECT * FROM tandem.reconcile('shop.labelled')")
    compared = rows_read() - before - copied
    # Some 5 times each row on a machine at rest; with chunks that begin to read at the first row it was 70 to 900 times.
    assert max(copied, compared) < 40 * rows, f"{copied} rows read to copy {rows}, {compared} to compare them"
    scene.check()
