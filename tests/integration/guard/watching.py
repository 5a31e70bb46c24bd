"""What the tests of the guard share: doing something to an old table, and waiting until it is found."""
import threading
import time

from lib.process import wait_until


def times(scene, table):
    found = scene.sql('SELECT times FROM tandem.resyncs WHERE "table" = %s', (table,))
    return found[0][0] if found else 0


class Watched:
    """`with Watched(scene, table) as w:` do it there; afterwards w.cause, w.reason and w.seconds until it was found."""

    def __init__(self, scene, table):
        self.scene, self.table = scene, table

    def __enter__(self):
        self.before = times(self.scene, self.table)
        self.done = time.monotonic()
        return self

    def happened(self):
        self.done = time.monotonic()

    def __exit__(self, kind, value, trace):
        if kind is not None:
            return
        wait_until(lambda: times(self.scene, self.table) > self.before, 60, 0.05, f"the guard to find what happened to {self.table}")
        self.seconds = time.monotonic() - self.done
        self.cause, self.reason, self.automatic = self.scene.sql(
            'SELECT cause, reason, automatic FROM tandem.resyncs WHERE "table" = %s', (self.table,))[0]
        print(f"{self.table}: {self.cause} found after {self.seconds:.2f} s: {self.reason}")


class Writes:
    """The application goes on: inserts, updates and deletes, until the end of the block. A statement that fails because the table is away is left out."""

    def __init__(self, scene, table, first=1000, columns="v"):
        self.scene, self.table, self.first, self.columns = scene, table, first, columns
        self.stop = threading.Event()
        self.written = 0
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        connection = self.scene.app()
        n = self.first
        with connection.cursor() as cursor:
            while not self.stop.is_set():
                for statement in (f"INSERT INTO `{self.table}` (id, {self.columns}) VALUES ({n}, {n})", f"UPDATE `{self.table}` SET v = v + 1 WHERE id = {n - 3}",
                                  f"DELETE FROM `{self.table}` WHERE id = {n - 7}"):
                    try:
                        cursor.execute(statement)
                        self.written += 1
                    except Exception:  # away for a moment, or truncated under its feet
                        pass
                n += 1
                time.sleep(0.005)
        connection.close()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        self.thread.join()


def wait_sync(scene, table, timeout=90):
    scene.wait_state(table, "syncing", timeout)


def blocked(scene, table):
    scene.wait_state(table, "blocked", 30)
    return scene.states()[table]


def trigger(scene, table, event):
    return scene.old.value("SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = %s AND EVENT_OBJECT_TABLE = %s"
                           " AND EVENT_MANIPULATION = %s AND TRIGGER_NAME LIKE 'tandem%%'", (scene.old_database, table, event))


def old(scene, *statements):
    """As the administrator of the old side."""
    for statement in statements:
        scene.old.query(statement, database=scene.old_database)
