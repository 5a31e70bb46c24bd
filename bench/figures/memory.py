"""(d) Memory of the worker over one transaction of a million rows: VmHWM, the highest resident size since the process started, which
covers the backfill before it as well."""
import time

from common import figure, note, peak_megabytes

SCHEMA = """CREATE TABLE big (
  id BIGINT NOT NULL PRIMARY KEY, name VARCHAR(60), amount DECIMAL(12,2), touched DATETIME, filler CHAR(100)
) ENGINE=InnoDB;
"""
BLOCK = 1000


def measure(stage, options):
    scene = stage.scene(SCHEMA)
    scene.add_and_start()
    idle = peak_megabytes(scene.worker.child.pid)
    connection = stage.old.connect(scene.old_database, autocommit=False)
    with connection.cursor() as cursor:
        for first in range(1, options.rows + 1, BLOCK):
            values = ",".join(f"({n},'name {n}',{n}.25,'2024-02-29 12:00:00','filler {n}')"
                              for n in range(first, min(first + BLOCK, options.rows + 1)))
            cursor.execute(f"INSERT INTO big VALUES {values}")
    begun = time.monotonic()
    connection.commit()
    scene.wait_caught_up(600)
    seconds = time.monotonic() - begun
    note(f"  {options.rows} rows visible {seconds:.1f} s after their commit; the worker had {idle:.0f} MB before")
    figure("memory", peak_megabytes(scene.worker.child.pid), "MB", 256, at_least=False)
    figure("memory_drain", options.rows / seconds, "rows/s")
    if not scene.worker.running():
        raise RuntimeError("the worker ended")
    scene.check(600)
