"""What pg_tandem costs when nothing happens: statements per second on the old side, and CPU shares of one core."""
import time

from common import cpu_seconds, figure, prepare

SETTLE = 5  # the poll interval has to reach its longest


def measure(stage, options):
    scene = stage.scene()
    prepare(stage.old, scene.old_database)
    scene.add_and_start("sbtest%")
    time.sleep(SETTLE)
    pids = {"worker": scene.worker.child.pid, "old_side": stage.old.child.pid}
    applies = scene.sql("SELECT pid FROM pg_stat_activity WHERE backend_type LIKE '%%tandem%%apply%%'")
    connection = stage.old.connect()

    def questions():
        with connection.cursor() as cursor:
            cursor.execute("SHOW GLOBAL STATUS LIKE 'Questions'")
            return int(cursor.fetchone()[1])

    before, begun, asked = {name: cpu_seconds(pid) for name, pid in pids.items()}, time.monotonic(), questions()
    apply_before = sum(cpu_seconds(pid) for (pid,) in applies)
    time.sleep(options.duration)
    seconds = time.monotonic() - begun
    statements = (questions() - asked - 1) / seconds
    figure("idle_old_side_statements", statements, "statements/s", 50, at_least=False)
    for name, pid in pids.items():
        figure(f"idle_{name}_cpu", 100 * (cpu_seconds(pid) - before[name]) / seconds, "% of a core", 2, at_least=False)
    if applies:
        figure("idle_apply_cpu", 100 * (sum(cpu_seconds(pid) for (pid,) in applies) - apply_before) / seconds, "% of a core", 2, at_least=False)
