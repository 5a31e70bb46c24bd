"""(f) How fast two equal tables are compared by tandem.reconcile, row by row and exactly, against what else could be done with the same table
in the same run: reading the old side once (mysql -q), md5 pushed down to both sides at once (what bisecting tools do when nothing differs),
and a FULL JOIN over mysql_fdw. Then with differences spread out, and the worker's memory. Narrow rows are about 100 bytes in 7 columns, wide
ones 190 bytes in 10."""
import subprocess
import threading
import time

from common import cpu_seconds, figure, median, note, peak_megabytes, sysbench, transactions_per_second

NARROW = ("id BIGINT NOT NULL PRIMARY KEY, n INT, amount DECIMAL(12,2), name VARCHAR(40), at DATETIME(6), x DOUBLE, hash VARCHAR(64)",
          "n % 100000, n / 7, CONCAT('name of row ', n), '2024-01-01' + INTERVAL n SECOND, n / 3e0, IF(n % 10 = 0, NULL, MD5(n))")
WIDE = ("id BIGINT NOT NULL PRIMARY KEY, n INT, email VARCHAR(80), first_name VARCHAR(40), last_name VARCHAR(40), amount DECIMAL(12,2), at DATETIME(6),"
        " updated DATETIME(6), flag TINYINT, note VARCHAR(80)",
        "n % 100000, CONCAT('user', n, '@mail', n % 977, '.example.org'), CONCAT('First', n % 5000), CONCAT('Last name ', n % 9000), n / 7,"
        " '2024-01-01' + INTERVAL n SECOND, '2024-06-01' + INTERVAL n SECOND, n % 2, CONCAT('some words about the row with number ', n, ' ', MD5(n))")


def fill(stage, scene, table, shape, rows):
    columns, values = shape
    names = [part.strip().split()[0] for part in columns.split(", ") if not part.strip()[0].isdigit()]
    connection = stage.old.connect(scene.old_database)
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE TABLE {table} ({columns}) ENGINE=InnoDB CHARACTER SET utf8mb4")
        cursor.execute("SET unique_checks = 0, foreign_key_checks = 0")
        digits = " CROSS JOIN ".join(f"(SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 UNION ALL SELECT 5"
                                     f" UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9) d{i}" for i in range(5))
        for first in range(0, rows, 100000):
            cursor.execute(f"INSERT INTO {table} ({', '.join(names)}) SELECT n, {values} FROM (SELECT {first} + d0.d + d1.d * 10 + d2.d * 100 + d3.d * 1000 + d4.d * 10000 + 1 AS n"
                           f" FROM {digits}) s ORDER BY n LIMIT {min(100000, rows - first)}")
    connection.close()
    return names


def seconds(work):
    begun = time.monotonic()
    work()
    return time.monotonic() - begun


def read_once(stage, scene, table):
    with open("/dev/null", "wb") as nowhere:
        subprocess.run(["mariadb", "--no-defaults", "-q", "-u", "root", f"--socket={stage.old.socket}", "-e", f"SELECT * FROM {table}", scene.old_database],
                       stdout=nowhere, check=True)


def push_down(stage, scene, table, names):
    """Both servers at once; each sums two halves of the md5 of every row."""
    def old():
        halves = ", ".join(f"SUM(CAST(CONV(SUBSTRING(h, {at}, 16), 16, 10) AS UNSIGNED))" for at in (1, 17))
        stage.old.query(f"SELECT COUNT(*), {halves} FROM (SELECT MD5(CONCAT_WS('|', {', '.join(f'IFNULL({n}, 0)' for n in names)})) AS h FROM {table}) r", database=scene.old_database)

    def new():
        halves = ", ".join(f"sum(('x' || substr(h, {at}, 16))::bit(64)::bigint)" for at in (1, 17))
        text = ", ".join(f"coalesce({n}::text, '0')" for n in names)
        scene.sql(f"SELECT count(*), {halves} FROM (SELECT md5(concat_ws('|', {text})) AS h FROM {table} OFFSET 0) r")
    threads = [threading.Thread(target=work) for work in (old, new)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def full_join(scene, table, names):
    scene.sql(f"""CREATE SCHEMA IF NOT EXISTS fdw; IMPORT FOREIGN SCHEMA "{scene.old_database}" LIMIT TO ({table}) FROM SERVER old INTO fdw""")
    different = " OR ".join(f"o.{n} IS DISTINCT FROM n.{n}" for n in names)
    scene.sql(f"SELECT count(*) FROM fdw.{table} o FULL JOIN {table} n ON o.id = n.id WHERE {different}")


def compare(scene, table, expected=0):
    found = scene.value(f"SELECT count(*) FROM tandem.reconcile('shop.{table}')")
    if found != expected:
        raise RuntimeError(f"{found} differences found, not {expected}")


def beside_the_application(stage, scene, options):
    """An endless scan at the default pace beside sysbench on tables that are not moved: what the application loses."""
    stage.old.query("CREATE DATABASE beside")
    sysbench(stage.old, "beside", "prepare", threads=2)

    def rate(seconds):
        return transactions_per_second(sysbench(stage.old, "beside", "run", threads=options.threads, time=seconds))
    rate(3)
    alone, beside = [], []
    for _ in range(3):
        alone.append(rate(options.seconds))
        scene.sql("SELECT tandem.reconcile_continuously('shop.narrow', period => '1 s', verify => false)")
        time.sleep(2)
        before = scene.value("SELECT sum(rows) FROM tandem.reconcile_runs")
        beside.append(rate(options.seconds))
        read = scene.value("SELECT sum(rows) FROM tandem.reconcile_runs") - before
        scene.sql("SELECT tandem.reconcile_continuously('shop.narrow', period => NULL)")
        note(f"  {alone[-1]:.0f} tx/s alone, {beside[-1]:.0f} beside the scan, which compared {read / options.seconds:.0f} rows/s")
        time.sleep(2)
    figure("reconcile_foreground_loss", 1 - median(beside) / median(alone), "share", 0.25, at_least=False)


def measure(stage, options):
    rows = options.compare_rows
    scene = stage.scene()
    for table, shape in (("wide", WIDE), ("narrow", NARROW)):
        if options.compare_only not in (None, table):
            continue
        names = fill(stage, scene, table, shape, rows)
        note(f"  {table}: {rows} rows on the old side, now to the new one")
        scene.add_and_start(table, wait=False)
        scene.wait_caught_up(1800)
        scene.sql(f"VACUUM ANALYZE {table}")
        once = seconds(lambda: read_once(stage, scene, table))
        before = cpu_seconds(stage.old.child.pid)
        ours = min(seconds(lambda: compare(scene, table)) for _ in range(3))
        cpu = (cpu_seconds(stage.old.child.pid) - before) / 3
        pushed = seconds(lambda: push_down(stage, scene, table, names))
        note(f"  {table}: mysql -q {once:.2f} s, ours {ours:.2f} s (old side's CPU {cpu:.2f} s), md5 push-down {pushed:.2f} s")
        figure(f"reconcile_{table}_old_side_cores", cpu / ours, "cores")
        figure(f"reconcile_{table}", rows / ours / 1e6, "Mrows/s", 0.7 if table == "wide" else 1.3)
        figure(f"reconcile_{table}_against_mysql_q", once / ours, "times")
        figure(f"reconcile_{table}_against_md5", pushed / ours, "times", 2.5 if table == "narrow" else 2)
        if table == "narrow":
            joined = seconds(lambda: full_join(scene, table, names))
            figure("reconcile_narrow_against_full_join", joined / ours, "times", 5)
        scene.sql(f"UPDATE {table} SET n = n + 1 WHERE id % {rows // 1000} = 7")
        with_differences = min(seconds(lambda: compare(scene, table, 1000)) for _ in range(2))
        figure(f"reconcile_{table}_1000_differences", with_differences / ours, "times", 1.2, at_least=False)
    if not options.compare_only:
        beside_the_application(stage, scene, options)
    figure("reconcile_worker_memory", peak_megabytes(scene.worker.child.pid), "MB", 256, at_least=False)
