"""Rows that cannot be applied, for ever or for now: they stop only themselves (I5)."""
import threading
import time

from lib.process import wait_until

BULK = "INSERT INTO movement SELECT a.id, b.id, 1, IF(a.id = 37 AND b.id = 41, 'poison', 'good') FROM account a JOIN account b"


def test_poison_row_among_10000(fault_scene):
    scene = fault_scene
    scene.sql("ALTER TABLE movement ADD CHECK (note <> 'poison')")
    scene.write("INSERT INTO account VALUES " + ",".join(f"({n}, 'x', 1, NOW(6))" for n in range(100)))
    listener = scene.pg.connect(scene.database)
    with listener.cursor() as cursor:
        cursor.execute("SELECT channel FROM (VALUES ('tandem_dead_letter')) AS c(channel)")
        cursor.execute("LISTEN tandem_dead_letter")
    scene.write(BULK)
    scene.wait_caught_up()
    assert scene.value("SELECT count(*) FROM movement") == 9999
    assert [(name, state) for name, state, _ in scene.dead_letters()] == [("movement", "23514")]
    assert [(d.what, d.key) for d in scene.differences()] == [("missing", ("37", "41"))]
    assert scene.pg.log_has("WARNING:.*cannot be applied"), "a dead letter is a WARNING in the server's log"
    listener.poll()
    assert listener.notifies, "and a NOTIFY"
    listener.close()

    # Others go on, and so does another change of the same table.
    scene.write("UPDATE movement SET amount = 2 WHERE account = 37 AND no <> 41")
    scene.wait_caught_up()
    assert len(scene.dead_letters()) == 1

    # The next state of the key supersedes the dead letter.
    scene.write("UPDATE movement SET note = 'mended' WHERE note = 'poison'")
    scene.check()


def test_retry_and_discard_dead_letters(fault_scene):
    scene = fault_scene
    scene.sql("ALTER TABLE movement ADD CONSTRAINT strict CHECK (note <> 'poison')")
    scene.write("INSERT INTO movement VALUES (1, 1, 1, 'poison'), (1, 2, 1, 'poison'), (1, 3, 1, 'good')")
    scene.wait_caught_up()
    assert len(scene.dead_letters()) == 2
    scene.sql("ALTER TABLE movement DROP CONSTRAINT strict")
    scene.sql("SELECT tandem.retry_dead_letters('movement')")
    wait_until(lambda: not scene.dead_letters(), 20, 0.1, "the dead letters to be applied")
    scene.check()


def test_narrowing_in_every_kind_of_batch(fault_scene):
    """Poison at the first, last and middle place, deletes beside it, many batches."""
    scene = fault_scene
    scene.sql("ALTER TABLE movement ADD CHECK (note <> 'poison')")
    scene.write("INSERT INTO movement VALUES " + ",".join(f"(1, {n}, 1, '{'poison' if n in (0, 1, 700, 1999) else 'good'}')" for n in range(2000)))
    scene.wait_caught_up()
    assert len(scene.dead_letters()) == 4 and len(scene.differences()) == 4
    scene.write("UPDATE movement SET note = 'poison' WHERE no = 5", "DELETE FROM movement WHERE no IN (700, 701)", "UPDATE movement SET note = 'fine' WHERE no IN (0, 1)")
    scene.wait_caught_up()
    assert len(scene.dead_letters()) == 2 and {d.key for d in scene.differences()} == {("1", "5"), ("1", "1999")}
    scene.write("UPDATE movement SET note = 'fine' WHERE note = 'poison'")
    scene.check()


def test_lock_timeout_on_target(fault_scene):
    scene = fault_scene
    scene.pg.reload(**{"tandem.apply_lock_timeout": "200ms"})
    scene.write("INSERT INTO account VALUES " + ",".join(f"({n}, 'x', 1, NOW(6))" for n in range(1000, 1050)))
    scene.wait_caught_up()
    blocker = scene.pg.connect(scene.database, autocommit=False)
    with blocker.cursor() as cursor:
        cursor.execute("SELECT * FROM account WHERE id IN (1003, 1004) FOR UPDATE")
    scene.write("UPDATE account SET owner = 'changed' WHERE id BETWEEN 1000 AND 1049", "DELETE FROM account WHERE id = 1004")
    wait_until(lambda: scene.value("SELECT count(*) FROM account WHERE owner = 'changed'") == 48, 30, 0.1, "the other rows to flow past the locked ones")
    assert scene.value("SELECT count(*) FROM tandem.retry") == 2 and not scene.dead_letters()
    # A newer state of a row that waits: the older one must not land after it.
    scene.write("UPDATE account SET owner = 'changed again' WHERE id = 1003")
    blocker.rollback()
    blocker.close()
    scene.check()
    assert scene.value("SELECT owner FROM account WHERE id = 1003") == "changed again"


def test_deadlock_on_target(fault_scene):
    """Another session takes the same rows in the opposite order, again and again."""
    scene = fault_scene
    scene.pg.reload(deadlock_timeout="20ms", **{"tandem.apply_lock_timeout": "5s"})
    scene.write("INSERT INTO account VALUES " + ",".join(f"({n}, 'x', 1, NOW(6))" for n in range(2000, 2100)))
    scene.wait_caught_up()
    stop = threading.Event()

    def disturb():
        import psycopg2
        connection = scene.pg.connect(scene.database, autocommit=False)
        while not stop.is_set():
            try:
                with connection.cursor() as cursor:
                    for number in range(2099, 1999, -3):
                        cursor.execute("SELECT 1 FROM account WHERE id = %s FOR UPDATE", (number,))
                connection.rollback()
            except psycopg2.Error:
                connection.rollback()
        connection.close()
    threads = [threading.Thread(target=disturb, daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    with scene.load(clients=2) as load:
        deadline = time.monotonic() + 90
        number = 0
        while number < 30 or not scene.deadlocks():  # it must happen, however long the machine takes
            assert time.monotonic() < deadline, "no deadlock in 90 s"
            scene.write(f"UPDATE account SET balance = {number} WHERE id >= 2000")
            number += 1
        load.wait(100)
    stop.set()
    for thread in threads:
        thread.join()
    scene.check()


def test_first_id_commits_last(fault_scene):
    """A transaction takes the lowest outbox id and commits after the worker was killed and its lease went on to another."""
    scene = fault_scene
    early = scene.app(autocommit=False)
    with early.cursor() as cursor:
        cursor.execute("INSERT INTO account VALUES (7000, 'first id', 1, NOW(6))")
        with scene.load() as load:
            load.wait(100)
            scene.worker.kill()
            scene.worker.start()
            load.wait(100)
        cursor.execute("INSERT INTO account VALUES (7001, 'first id', 1, NOW(6))")
        scene.wait_caught_up()
        early.commit()
    early.close()
    scene.check()
    assert scene.value("SELECT count(*) FROM account WHERE id IN (7000, 7001)") == 2
