"""(g) How long writes wait in a cut-over and in a rollback, as clients saw it: the longest write of any client during each change of the
source of truth, connecting to the other side included. A table of a million rows and a hot one move back and forth while clients write to
them without pause and follow their refusals, and sysbench writes as fast as it can to tables beside them, which are moved as well. All on
the same cores. Before each cut-over the tables are compared by tandem.reconcile, so no gate is waived. At the end every acknowledged write
must be on the side that is the truth, and both sides are compared by tests/lib/compare.py."""
import subprocess
import time

import psycopg2

from common import figure, note, percentile, prepare, sysbench_command
from lib import dual
from lib.process import wait_until

GROUP = ["shop.ledger", "shop.counter"]


def fill(scene, rows):
    scene.old.script(dual.SCHEMA, scene.old_database)
    scene.write(*[f"INSERT INTO counter VALUES ({client}, 0)" for client in range(4)], "INSERT INTO ledger VALUES (1000, 1, REPEAT('x', 30))")
    filled = 1
    while filled < rows:
        more = min(filled, rows - filled)
        scene.write(f"INSERT INTO ledger SELECT client, no + {filled}, note FROM ledger WHERE client = 1000 AND no <= {more}")
        filled += more


def change(scene, clients, procedure):
    """Seconds that the slowest write waited; None: the call gave up within its budget."""
    clients.wait(20)
    first = len(clients.waits)
    try:
        scene.sql(f"CALL tandem.{procedure}(%s, max_pause => '1 s')", (GROUP,))
    except psycopg2.Error as error:
        note(f"  {procedure} gave up: {error.diag.message_primary}; steps: " + scene.value("SELECT steps FROM tandem.cutover_runs ORDER BY run_id DESC LIMIT 1"))
        return None
    clients.wait(20)
    return max(waited for waited, _ in clients.waits[first:])


def measure(stage, options):
    scene = stage.scene("")
    prepare(stage.old, scene.old_database)
    fill(scene, options.rows)
    scene.add_and_start()
    scene.wait_caught_up(600)
    scene.sql("SELECT tandem.set_phase(%s, 'ready')", (GROUP,))
    scene.sql("VACUUM ANALYZE ledger")
    waits = {"cutover": [], "rollback": []}
    gave_up = 0
    load = subprocess.Popen(sysbench_command(stage.old, scene.old_database, "run", threads=options.threads, time=3600), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with dual.Clients(scene) as clients:
            while len(waits["rollback"]) < options.cutovers:
                wait_until(lambda: set(scene.states().values()) == {"syncing"}, 60, 0.05, "the tables to be in sync")
                found = scene.sql("SELECT * FROM tandem.reconcile(%s::text[])", (GROUP,))
                if found:
                    raise RuntimeError(f"the sides differ: {found[:3]}")
                for procedure in ("cutover", "rollback"):
                    waited = None
                    while waited is None:
                        waited = change(scene, clients, procedure)
                        gave_up += waited is None
                        if gave_up > options.cutovers:
                            raise RuntimeError("more calls gave up than there are rounds")
                    waits[procedure].append(waited * 1000)
                if len(waits["rollback"]) % 10 == 0:
                    note(f"  {len(waits['rollback'])} rounds, {clients.total()} acknowledged writes, refused {clients.refused}")
    finally:
        load.kill()
        load.wait()
    time.sleep(0.5)
    scene.wait_caught_up(120)
    clients.check("old")
    different = scene.differences(["ledger", "counter"])
    if different:
        raise RuntimeError(f"the sides differ: {different[:3]}")
    for procedure in waits:
        note(f"  steps of the last {procedure}: " + scene.value("SELECT steps FROM tandem.cutover_runs WHERE kind = %s ORDER BY run_id DESC LIMIT 1", (procedure,)))
    for procedure, measured in waits.items():
        figure(f"{procedure}_pause_p50", percentile(measured, 0.50), "ms", 250, at_least=False)
        figure(f"{procedure}_pause_p99", percentile(measured, 0.99), "ms", 1000, at_least=False)
    figure("cutover_calls_that_gave_up", gave_up, "of " + str(2 * options.cutovers), None)
