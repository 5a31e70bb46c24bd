"""(g) What a point read through a routed view costs compared with the same read of the table itself, when only one side is read.
pgbench, one client, pairs of direct and routed runs in turn; the ratio is that of the mean latencies, the figure its median over the pairs.
The new side against the target; the old side against the foreign table of mysql_fdw."""
import re
import statistics
from pathlib import Path

from common import figure, note
from lib import paths, process

ROWS = 100000
READ = "\\set id random(1, {rows})\nSELECT * FROM {relation} WHERE id = :id;\n"
SCHEMA = """CREATE TABLE item (id INT PRIMARY KEY, name VARCHAR(60) NOT NULL, price DECIMAL(10,2) NOT NULL, stock INT NOT NULL, changed DATETIME(6) NOT NULL,
  note VARCHAR(100), flags INT NOT NULL) ENGINE=InnoDB;"""


def latency(stage, scene, relation, mode, seconds):
    script = Path(scene.folder) / f"{relation}.pgbench"
    script.write_text(READ.format(rows=ROWS, relation=relation))
    output = process.run([paths.PG_BIN / "pgbench", "-n", "-h", "127.0.0.1", "-p", str(stage.pg.port), "-U", "postgres", "-M", mode, "-T", str(seconds),
                          "-f", script, scene.database]).decode()
    return float(re.search(r"latency average = ([\d.]+) ms", output).group(1))


def ratio(stage, scene, name, direct, routed, mode, goal, seconds=3, pairs=5):
    ratios, shown = [], []
    for pair in range(pairs):
        order = (direct, routed) if pair % 2 == 0 else (routed, direct)
        measured = {relation: latency(stage, scene, relation, mode, seconds) for relation in order}
        ratios.append(measured[routed] / measured[direct])
        shown.append(f"{measured[direct]:.3f}/{measured[routed]:.3f}")
    note(f"  {name}: direct/routed ms {', '.join(shown)}")
    figure(name, statistics.median(ratios), "times", goal, at_least=False)


def measure(stage, options):
    scene = stage.scene(SCHEMA)
    for first in range(1, ROWS, 10000):
        values = ", ".join(f"({i}, 'item number {i}', {i % 1000}.25, {i % 50}, '2026-01-01 00:00:00', 'a note of some length for row {i}', {i % 7})"
                           for i in range(first, first + 10000))
        scene.write(f"INSERT INTO item VALUES {values}")
    scene.add_and_start()
    scene.sql("SELECT tandem.create_routed_view('item', 'item_v')")
    scene.sql("ANALYZE item")
    scene.sql("SELECT tandem.set_phase('item', 'ready')")
    scene.sql("SELECT tandem.set_read_strategy('item', 'new')")
    ratio(stage, scene, "routed_read_new_prepared", "item", "item_v", "prepared", 1.2)
    ratio(stage, scene, "routed_read_new_simple", "item", "item_v", "simple", 1.2)
    scene.sql("SELECT tandem.set_read_strategy('item', 'old')")
    ratio(stage, scene, "routed_read_old_prepared", "item_v_old", "item_v", "prepared", 1.2)
    ratio(stage, scene, "routed_read_old_simple", "item_v_old", "item_v", "simple", 1.2)
    scene.check(300)
