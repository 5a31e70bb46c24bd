"""(a) What capture costs the application: sysbench oltp_write_only on captured tables against the same on plain tables, in interleaved
pairs on one server, with durable commits on both sides. Order alternates, so that drift of the machine cancels out."""
from common import SYSBENCH_SCHEMA_TABLES, figure, median, note, prepare, sysbench, transactions_per_second

# Captured by hand as docs/protocol.md section 3 says, to see the cost before (or without) the product.
RAW = """CREATE TABLE `{outbox}`.sbtest{n}_outbox (
  tandem_id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY, tandem_removes TINYINT NOT NULL,
  tandem_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6), k1 INT) ENGINE=InnoDB;
CREATE TRIGGER `{db}`.raw_ai{n} AFTER INSERT ON `{db}`.sbtest{n} FOR EACH ROW INSERT INTO `{outbox}`.sbtest{n}_outbox (tandem_removes, k1) VALUES (0, NEW.id);
CREATE TRIGGER `{db}`.raw_ad{n} AFTER DELETE ON `{db}`.sbtest{n} FOR EACH ROW INSERT INTO `{outbox}`.sbtest{n}_outbox (tandem_removes, k1) VALUES (1, OLD.id);
CREATE TRIGGER `{db}`.raw_au{n} AFTER UPDATE ON `{db}`.sbtest{n} FOR EACH ROW INSERT INTO `{outbox}`.sbtest{n}_outbox (tandem_removes, k1) VALUES (0, NEW.id);
"""


def measure(stage, options):
    plain, old = "plain", stage.old
    old.query(f"CREATE DATABASE {plain} CHARACTER SET utf8mb4")
    prepare(old, plain)

    def rate(database):
        return transactions_per_second(sysbench(old, database, "run", threads=options.threads, time=options.seconds))

    if options.raw:
        old.query("CREATE DATABASE captured CHARACTER SET utf8mb4")
        old.query("CREATE DATABASE outbox CHARACTER SET utf8mb4")
        prepare(old, "captured")
        for n in range(1, SYSBENCH_SCHEMA_TABLES + 1):
            old.script(RAW.format(db="captured", outbox="outbox", n=n))
        pairs(rate, plain, "captured", options, "capture_overhead_raw", lambda: None)
        return

    scene = stage.scene()
    prepare(old, scene.old_database)
    scene.add_and_start("sbtest%")

    scene.worker.stop()

    def catch_up():  # outside the measured time: the outbox of one pair must not weigh on the next
        scene.worker.start()
        scene.wait_caught_up(300)
        scene.worker.stop()
    pairs(rate, plain, scene.old_database, options, "capture_overhead", catch_up)

    scene.worker.start()
    pairs(rate, plain, scene.old_database, options, "capture_overhead_with_worker", lambda: scene.wait_caught_up(300), goal=None)
    scene.check(300)


def pairs(rate, plain, captured, options, name, between, goal=0.85):
    rate(plain), rate(captured)  # warm up
    between()
    ratios, without, with_capture = [], [], []
    for number in range(options.pairs):
        if number % 2:
            b = rate(captured)
            between()
            a = rate(plain)
        else:
            a = rate(plain)
            b = rate(captured)
            between()
        ratios.append(b / a)
        without.append(a)
        with_capture.append(b)
        note(f"  pair {number + 1}: {a:.0f} tx/s without, {b:.0f} with, ratio {b / a:.3f}")
    figure(name, median(ratios), "ratio", goal)
    figure(f"{name}_tps_without", median(without), "tx/s")
    figure(f"{name}_tps_with", median(with_capture), "tx/s")
