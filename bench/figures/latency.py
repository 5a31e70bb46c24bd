"""(c) Commit-to-visible: from the moment the client's COMMIT returned on the old side until another client reads the row on the new side.
sysbench makes most of the paced load; a writer process adds transactions of its own whose rows are timed by a poller process. Both use the
same machine's clock. The poller asks for the newest row every millisecond, one index look-up; its resolution is part of the figure."""
import multiprocessing
import time

from common import figure, note, percentile, prepare, sysbench, transactions_per_second

PROBES = 100  # timed transactions per second; the rest of the rate is sysbench's


def writer(connect, seconds, out):
    connection = connect()
    sent, begun = [], time.monotonic()
    with connection.cursor() as cursor:
        for number in range(int(seconds * PROBES)):
            due = begun + number / PROBES
            time.sleep(max(0, due - time.monotonic()))
            cursor.execute("INSERT INTO probe (id, filler) VALUES (%s, REPEAT('x', 100))", (number + 1,))
            sent.append(time.time())
    out.put(sent)


def poller(connect, expected, deadline, out):
    connection = connect()
    seen, last = {}, 0
    with connection.cursor() as cursor:
        while len(seen) < expected and time.time() < deadline:
            cursor.execute("SELECT id FROM probe WHERE id > %s", (last,))
            rows, now = cursor.fetchall(), time.time()
            for (number,) in rows:
                seen[number] = now
                last = max(last, number)
            time.sleep(0.001)
    out.put(seen)


def measure(stage, options):
    scene = stage.scene("CREATE TABLE probe (id BIGINT NOT NULL PRIMARY KEY, filler VARCHAR(100)) ENGINE=InnoDB;")
    prepare(stage.old, scene.old_database)
    scene.add_and_start()
    sent_queue, seen_queue = multiprocessing.Queue(), multiprocessing.Queue()
    expected = int(options.duration * PROBES)
    deadline = time.time() + options.duration + 60
    database = scene.database
    probe_poller = multiprocessing.Process(target=poller, args=(lambda: stage.pg.connect(database), expected, deadline, seen_queue))
    probe_writer = multiprocessing.Process(target=writer, args=(scene.app, options.duration, sent_queue))
    probe_poller.start()
    probe_writer.start()
    output = sysbench(stage.old, scene.old_database, "run", threads=options.threads, time=options.duration, rate=options.rate - PROBES)
    sent, seen = sent_queue.get(timeout=120), seen_queue.get(timeout=120)
    probe_writer.join()
    probe_poller.join()
    missing = [n for n in range(1, expected + 1) if n not in seen]
    if missing:
        raise RuntimeError(f"{len(missing)} rows never became visible, the first is {missing[0]}")
    # A row may be seen before COMMIT has returned to the client: that counts as 0.
    delays = [max(0.0, seen[n] - sent[n - 1]) * 1000 for n in range(1, expected + 1)]
    note(f"  {transactions_per_second(output) + PROBES:.0f} tx/s, {len(delays)} timed, largest {max(delays):.1f} ms")
    figure("latency_p50", percentile(delays, 0.50), "ms", 20, at_least=False)
    figure("latency_p95", percentile(delays, 0.95), "ms")
    figure("latency_p99", percentile(delays, 0.99), "ms", 100, at_least=False)
    figure("latency_rate", transactions_per_second(output) + PROBES, "tx/s")
    scene.check(300)
