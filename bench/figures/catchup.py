"""(b) How fast a backlog is drained: sysbench changes rows while the tables are paused; the clock runs from tandem.resume until
tandem.wait_caught_up returns true. A row change is one inserted, updated or deleted row: sysbench's transaction has four. Keys are drawn
uniformly, so that hot keys, whose changes are fetched once, do not flatter the figure. Both sides are compared at once after each round."""
import time

from common import figure, median, note, prepare, sysbench

CHANGES_PER_TRANSACTION = 4
CHAMELEON = 5100  # changes per second of pg_chameleon for the same 100,000 changes on two cores


def measure(stage, options):
    scene = stage.scene()
    prepare(stage.old, scene.old_database)
    scene.add_and_start("sbtest%")
    rates = []
    for number in range(options.rounds):
        scene.sql("SELECT tandem.pause()")
        for table in ("sbtest1", "sbtest2"):
            scene.wait_state(table, "paused")
        sysbench(stage.old, scene.old_database, "run", threads=options.threads, events=options.changes // CHANGES_PER_TRANSACTION, time=0,
                 rand_type="uniform")
        changes = scene.outbox_rows()  # counted, not assumed
        keys = sum(stage.old.value(f"SELECT COUNT(DISTINCT k1) FROM `{scene.metadata}`.`{outbox}`")
                   for (outbox,) in scene.sql("SELECT outbox FROM tandem.source_table"))
        begun = time.monotonic()
        scene.sql("SELECT tandem.resume()")
        scene.wait_caught_up(300)
        seconds = time.monotonic() - begun
        different = scene.differences()  # before anything else can arrive: it said "caught up"
        if different:
            raise RuntimeError(f"wait_caught_up returned, yet {len(different)} rows differ, first {different[0]}")
        rates.append(changes / seconds)
        note(f"  round {number + 1}: {changes} changes of {keys} rows in {seconds:.2f} s")
    figure("catchup", median(rates), "changes/s", 40000)
    figure("catchup_against_pg_chameleon", median(rates) / CHAMELEON, "times", 8)
    scene.check(300)
