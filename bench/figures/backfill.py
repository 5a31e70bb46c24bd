"""(f) The copy of history: 2 million rows of about 190 bytes, 10 columns, target with its primary key. Against two raw pipes `mysql -q | psql COPY` in parallel,
each half of the table, in the same run, and against pgloader where it is installed. Then the same copy beside sysbench on another table of the same old
server, with the throttle at its default: what the foreground loses. Both sides are compared after each copy."""
import os
import shutil
import subprocess
import threading
import time

from common import busy_share, figure, median, note, peak_megabytes, sysbench, transactions_per_second
from lib import paths

TABLE = """CREATE TABLE history (
  id BIGINT NOT NULL PRIMARY KEY, customer INT NOT NULL, status SMALLINT NOT NULL, amount DECIMAL(12,2) NOT NULL, ratio DOUBLE NOT NULL,
  created DATETIME NOT NULL, touched DATETIME(6) NOT NULL, name VARCHAR(60) NOT NULL, note VARCHAR(100), code CHAR(16) NOT NULL
) ENGINE=InnoDB DEFAULT CHARSET utf8mb4;
"""
TARGET = """CREATE TABLE {name} (id bigint PRIMARY KEY, customer integer NOT NULL, status smallint NOT NULL, amount numeric(12,2) NOT NULL, ratio double precision NOT NULL,
  created timestamp(0) NOT NULL, touched timestamp(6) NOT NULL, name text NOT NULL, note text, code text NOT NULL)"""
ROW = """SELECT n, n * 7919 % 100003, n % 7, n * 13 % 1000000 / 100, n / 3, '2023-01-01' + INTERVAL n SECOND, '2023-01-01' + INTERVAL n * 1000003 MICROSECOND,
  CONCAT('customer name ', n, ' of the old shop'), CONCAT('a note of some length about the order number ', n, ', unchanged since'), LPAD(HEX(n * 2654435761 % 4294967296), 16, '0')"""
PGLOADER_GOAL = 3


def fill(stage, database, rows):
    connection = stage.old.connect(database, autocommit=True)
    with connection.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        cursor.execute(TABLE)
        cursor.execute("CREATE TABLE digits (n INT NOT NULL PRIMARY KEY)")
        cursor.execute("INSERT INTO digits VALUES " + ",".join(f"({n})" for n in range(1000)))
        for first in range(0, rows, 100000):
            cursor.execute(f"INSERT INTO history {ROW} FROM (SELECT a.n + 1000 * b.n + {first} + 1 AS n FROM digits a JOIN digits b WHERE b.n < 100) s"
                           f" WHERE n <= {rows}")
        cursor.execute("DROP TABLE digits")
        cursor.execute("ANALYZE TABLE history")
    connection.close()


def raw_pipes(stage, scene, rows):
    """Two clients, each half of the rows; seconds until both are committed."""
    scene.sql(TARGET.format(name="raw_history"))
    commands = []
    for low, high in ((1, rows // 2), (rows // 2 + 1, rows)):
        select = f"SELECT * FROM history WHERE id BETWEEN {low} AND {high}"
        commands.append(f"mysql -q -N --default-character-set=utf8mb4 --socket={stage.old.socket} -u root {scene.old_database} -e '{select}'"
                        f" | {paths.PG_BIN}/psql -q -v ON_ERROR_STOP=1 -h 127.0.0.1 -p {stage.pg.port} -U postgres -d {scene.database}"
                        " -c \"COPY raw_history FROM STDIN (NULL 'NULL')\"")
    begun = time.monotonic()
    children = [subprocess.Popen(["bash", "-o", "pipefail", "-c", command]) for command in commands]
    failed = [child.wait() for child in children]
    seconds = time.monotonic() - begun
    if any(failed) or scene.value("SELECT count(*) FROM raw_history") != rows:
        raise RuntimeError(f"the raw pipes failed: {failed}")
    scene.sql("DROP TABLE raw_history")
    return seconds


def direct_copy(stage, scene):
    """Seconds from tandem.start until the table is in sync, its primary key included."""
    scene.add_table("history")
    begun = time.monotonic()
    scene.sql("SELECT tandem.start('history')")
    while not scene.value("SELECT coalesce(bool_and(backfill_done), false) FROM tandem.table_state"):
        time.sleep(0.02)
    seconds = time.monotonic() - begun
    mode = scene.value("SELECT mode FROM tandem.backfill")
    if mode != "direct":
        raise RuntimeError(f"the table was copied in mode {mode}")
    return seconds


def drop(scene):
    scene.sql("SELECT tandem.drop_table('history', keep_target => false)")
    scene.value("SELECT tandem.wait_for('shop.history', 'dropped', '1 minute')")


def settle(scene):
    scene.sql("CHECKPOINT")


def pgloader(stage, scene, rows):
    program = shutil.which("pgloader")
    if program is None:
        note("  pgloader is not installed (apt-get install pgloader): not compared")
        return None
    script = stage.folder.path / "history.load"
    script.write_text(f"""LOAD DATABASE FROM mysql://root@unix:{stage.old.socket}:/{scene.old_database}
 INTO postgresql://postgres@127.0.0.1:{stage.pg.port}/{scene.database}
 WITH include drop, create tables, create indexes, reset no sequences, no foreign keys, workers = 2, concurrency = 1, batch rows = 25000, prefetch rows = 25000
 INCLUDING ONLY TABLE NAMES MATCHING 'history';
""")
    begun = time.monotonic()
    done = subprocess.run([program, str(script)], capture_output=True, text=True, check=False, timeout=600)
    seconds = time.monotonic() - begun
    copied = scene.sql(f"SELECT count(*) FROM \"{scene.old_database}\".history") if done.returncode == 0 else None
    if not copied or copied[0][0] != rows:
        note(f"  pgloader failed: {done.stdout[-800:]}{done.stderr[-400:]}")
        return None
    scene.sql(f'DROP SCHEMA "{scene.old_database}" CASCADE')
    return seconds


def foreground(stage, scene, plain, options):
    """sysbench on tables that are not moved, without and with a copy beside it."""
    def rate(seconds):
        return transactions_per_second(sysbench(stage.old, plain, "run", threads=options.threads, time=seconds))
    rate(3)
    alone, beside = [], []
    for _ in range(3):
        alone.append(rate(options.seconds))
        scene.add_table("history")
        scene.sql("SELECT tandem.start('history')")
        scene.wait_state("history", "backfilling")
        beside.append(rate(options.seconds))
        copied = scene.value("SELECT coalesce(sum(rows), 0) FROM tandem.backfill_chunk")
        throttle = scene.sql('SELECT throttle FROM tandem.pg_stat_progress_tandem_backfill')
        note(f"  {alone[-1]:.0f} tx/s alone, {beside[-1]:.0f} beside the copy, which moved {copied} rows meanwhile ({throttle[0][0] if throttle else 'done'})")
        if scene.states()["history"].startswith("syncing"):
            note("  the copy ended before sysbench did")
        drop(scene)
        settle(scene)
    figure("backfill_foreground_loss", 1 - median(beside) / median(alone), "share", 0.25, at_least=False)


def measure(stage, options):
    rows = options.history
    scene = stage.scene()
    fill(stage, scene.old_database, rows)
    raw, direct = [], []
    for number in range(options.rounds):
        settle(scene)
        raw.append(raw_pipes(stage, scene, rows))
        settle(scene)
        direct.append(direct_copy(stage, scene))
        different = scene.differences(tables=["history"]) if number == 0 else []
        if different:
            raise RuntimeError(f"{len(different)} rows differ, first {different[0]}")
        note(f"  round {number + 1}: two raw pipes {raw[-1]:.2f} s, pg_tandem {direct[-1]:.2f} s")
        drop(scene)
    figure("backfill_against_raw_pipes", median([r / d for r, d in zip(raw, direct)]), "times", 1.0)
    figure("backfill_rows_per_second", rows / median(direct), "rows/s")
    figure("backfill_worker_memory", peak_megabytes(scene.worker.child.pid), "MB", 256, at_least=False)
    settle(scene)
    other = pgloader(stage, scene, rows)
    if other is not None:
        figure("backfill_against_pgloader", other / median(direct), "times", PGLOADER_GOAL)

    stage.old.query("CREATE DATABASE plain")
    sysbench(stage.old, "plain", "prepare", threads=2)
    foreground(stage, scene, "plain", options)
