"""What all figures share: the servers (those of the tests), sysbench, and how a figure is printed."""
import os
import re
import shutil
import statistics
import subprocess
import sys
import time

from lib import mysql, process
from lib.postgres import Postgres
from lib.tandem import Scene

SYSBENCH_SCHEMA_TABLES = 2
SYSBENCH_ROWS = 100000


def note(text):
    print(text, file=sys.stderr, flush=True)


def figure(name, value, unit, goal=None, at_least=True):
    """The one line that counts. `goal` None: shown for comparison, there is nothing to meet."""
    shown = f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}" if abs(value) < 1000 else f"{value:.0f}"
    if goal is None:
        print(f"{name}={shown} {unit} goal=none met", flush=True)
        return
    met = value >= goal if at_least else value <= goal
    print(f"{name}={shown} {unit} goal={'>=' if at_least else '<='}{goal:g} {'met' if met else 'missed'}", flush=True)


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


class Stage:
    """Private servers of one figure. The folder is on the same file system as the tests' (TANDEM_TMP)."""

    def __init__(self, options):
        self.options = options
        self.scenes = []
        self.busy_before = None

    def __enter__(self):
        self._wait_until_idle()
        self.folder = process.Folder("tandem-bench-")
        self.old = mysql.server(self.options.flavor, self.folder.path, options=["--innodb-buffer-pool-size=512M", "--innodb-log-file-size=256M"]).start()
        self.pg = None
        return self

    def __exit__(self, kind, error, trace):
        if error is not None:
            for scene in self.scenes:
                try:
                    note(scene.story())
                except Exception as inner:  # telling the story must not hide the error
                    note(f"no story: {inner}")
        for scene in self.scenes:
            for worker in scene.workers:
                worker.kill()
        if self.pg:
            self.pg.stop("immediate")
        self.old.kill()
        if not self.options.keep:
            self.folder.remove()

    @staticmethod
    def _wait_until_idle():
        """Figures of a busy machine say little: says so, after waiting a while for quiet."""
        for _ in range(6):
            share = busy_share(2)
            if share < 0.15:
                return
            note(f"machine is {share:.0%} busy, waiting")
            time.sleep(5)
        print("# the machine was not idle when this was measured", flush=True)

    def describe(self):
        return f"{self.old.value('SELECT version()')}, {os.cpu_count()} cores"

    def scene(self, schema=None, worker=True, settings=None):
        if self.pg is None:
            self.pg = Postgres(self.folder.path, settings={"shared_buffers": "512MB", "max_wal_size": "4GB", "checkpoint_timeout": "15min",
                                                           **(settings or {})}).start()
        scene = Scene(self.old, self.pg, self.folder.path, "bench")
        self.scenes.append(scene)
        scene.create(schema)
        if worker:
            scene.run_worker()
            scene.add_source()
        return scene


def busy_share(seconds):
    def times():
        with open("/proc/stat", encoding="ascii") as stat:
            values = [int(v) for v in stat.readline().split()[1:]]
        return sum(values), values[3] + values[4]
    total, idle = times()
    time.sleep(seconds)
    total_after, idle_after = times()
    return 1 - (idle_after - idle) / max(1, total_after - total)


# --- sysbench -----------------------------------------------------------------------------------------------------------------------
def sysbench_command(old, database, command, threads=4, **options):
    program = shutil.which("sysbench") or "/usr/bin/sysbench"
    return [program, "oltp_write_only", f"--mysql-socket={old.socket}", "--mysql-user=root", f"--mysql-db={database}",
            f"--tables={SYSBENCH_SCHEMA_TABLES}", f"--table-size={SYSBENCH_ROWS}", f"--threads={threads}", "--report-interval=0",
            *[f"--{name.replace('_', '-')}={value}" for name, value in options.items()], command]


def sysbench(old, database, command, threads=4, **options):
    done = subprocess.run(sysbench_command(old, database, command, threads, **options), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"sysbench: {done.stdout[-1500:]}{done.stderr[-1500:]}")
    return done.stdout


def transactions_per_second(output):
    return float(re.search(r"transactions:\s+\d+\s+\(([\d.]+) per sec", output)[1])


def prepare(old, database):
    sysbench(old, database, "prepare", threads=2)


# --- processes ----------------------------------------------------------------------------------------------------------------------
def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peak_megabytes(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return int(re.search(r"VmHWM:\s+(\d+) kB", status.read())[1]) / 1024


median = statistics.median
