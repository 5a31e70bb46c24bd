"""(h) Writes through a routed view while the old side is the source of truth: how fast clients commit them, how fast they reach the old side, and what one
costs its writer. pgbench, four clients, single-row transactions; against the same INSERTs straight through mysql_fdw, which are on the old side at
once and stay there when the transaction is rolled back."""
import re
import time
from pathlib import Path

from common import figure, note
from lib import paths, process
from lib.process import wait_until

SCHEMA = "CREATE TABLE account (id BIGINT PRIMARY KEY, owner VARCHAR(60) NOT NULL, balance DECIMAL(12,2) NOT NULL, changed DATETIME(6) NOT NULL) ENGINE=InnoDB;"
ROWS = 20000
INSERT = "INSERT INTO {relation} VALUES (nextval('numbers'), 'owner of an account', 12.50, '2026-01-01 00:00:00');\n"
UPDATE = "\\set id random(1, {rows})\nUPDATE {relation} SET balance = balance + 1 WHERE id = :id;\n"


def run(stage, scene, name, script, seconds, clients):
    path = Path(scene.folder) / f"{name}.pgbench"
    path.write_text(script)
    # A row with a write under way is refused to the next writer (40001), who tries again as an application does.
    output = process.run([paths.PG_BIN / "pgbench", "-n", "-h", "127.0.0.1", "-p", str(stage.pg.port), "-U", "postgres", "-c", str(clients), "-j", "2",
                          "-T", str(seconds), "--max-tries=100", "-f", path, scene.database]).decode()
    rate = float(re.search(r"tps = ([\d.]+) ", output).group(1))
    done = int(re.search(r"number of transactions actually processed: (\d+)", output).group(1))
    latency = float(re.search(r"latency average = ([\d.]+) ms", output).group(1))
    note(f"  {name}: {rate:.0f} tx/s, {latency:.2f} ms, {done} transactions")
    return rate, done, latency


def measure(stage, options):
    scene = stage.scene(SCHEMA)
    scene.write(*[f"INSERT INTO account VALUES {', '.join(f'({i}, {chr(39)}somebody{chr(39)}, 10, {chr(39)}2026-01-01{chr(39)})' for i in range(first, first + 5000))}"
                  for first in range(1, ROWS, 5000)])
    scene.add_and_start()
    scene.wait_caught_up()
    scene.sql("SELECT tandem.create_routed_view('account', 'account_v')")
    scene.sql(f"CREATE SEQUENCE numbers START {ROWS + 1} CACHE 100")
    rates = {}
    for name, script in (("queued_inserts", INSERT.format(relation="account_v")), ("queued_updates", UPDATE.format(relation="account_v", rows=ROWS))):
        begun = time.monotonic()
        rates[name], done, latency = run(stage, scene, name, script, options.seconds, options.threads)
        wait_until(lambda: scene.value("SELECT count(*) FROM tandem.queued_writes") == 0, 600, 0.02, "the old side to have every write")
        figure(name, rates[name], "tx/s")
        figure(f"{name}_arrived", done / (time.monotonic() - begun), "tx/s")
        figure(f"{name}_latency", latency, "ms")
    direct, _, _ = run(stage, scene, "through mysql_fdw", INSERT.format(relation="account_v_old"), options.seconds, options.threads)
    figure("queued_inserts_against_mysql_fdw", rates["queued_inserts"] / direct, "times")
    scene.check(300)
