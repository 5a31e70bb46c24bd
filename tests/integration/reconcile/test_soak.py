"""Reconciliation without pause under the most hostile load: nothing is ever confirmed. Then divergences are injected, exactly these are
reported, repaired, and both sides are equal. See README.md."""
import json
import os
import threading
import time

from lib import paths
from lib.process import wait_until

import hostile
from helpers import key_text, reconcile

ADD_ALL = False
SECONDS = int(os.environ.get("TANDEM_SOAK", 1200 if paths.long_version() else 40))


class Calls:
    """tandem.reconcile again and again, table after table, in threads of its own."""

    def __init__(self, scene, tables, threads=2):
        self.scene, self.tables = scene, tables
        self.passes, self.found, self.errors = 0, {}, []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(120)
        assert not any(thread.is_alive() for thread in self._threads), "a reconciliation hangs"

    def _run(self, number):
        at = number
        while not self._stop.is_set():
            try:
                found = reconcile(self.scene, self.tables[at % len(self.tables)])
                self.passes += 1
                self.found.update(found)
            except Exception as error:
                self.errors.append(error)
                return
            at += 1


def confirmed(scene):
    return scene.sql('SELECT "table", key::text, kind, columns, old::text, new::text, cause, status, first_seen FROM tandem.discrepancies ORDER BY discrepancy_id LIMIT 20')


def inject_new(scene):
    """Rows of PostgreSQL changed by hand. Returns what must be reported."""
    connection = scene.pg.connect(scene.database)
    with connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute("UPDATE plain SET t = t || ' ' WHERE id = 2000; UPDATE plain SET v = NULL WHERE id = 2001; DELETE FROM plain WHERE id = 2002;"
                       "INSERT INTO plain (id, v) VALUES (900000, 1)")
    connection.close()
    return {("plain", (("id", "2000"),)): "different", ("plain", (("id", "2001"),)): "different", ("plain", (("id", "2002"),)): "missing",
            ("plain", (("id", "900000"),)): "extra"}


def inject_old(scene):
    """Changes of the old side without events: as if the triggers had not fired. These rows are not touched by the load, so the events of
    this transaction are found by their keys."""
    outbox = scene.value("SELECT outbox FROM tandem.source_table WHERE name = 'plain'")
    connection = scene.old.connect(scene.old_database, autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE plain SET t = 'uncaptured' WHERE id = 2500")
        cursor.execute("DELETE FROM plain WHERE id = 2501")
        cursor.execute("INSERT INTO plain (id, v) VALUES (800000, 5)")
        # By id, as a condition on the key would wait for the events of everybody else.
        cursor.execute(f"SELECT tandem_id FROM `{scene.metadata}`.`{outbox}` WHERE k1 IN (2500, 2501, 800000)")
        ids = ", ".join(str(row[0]) for row in cursor.fetchall())
        cursor.execute(f"DELETE FROM `{scene.metadata}`.`{outbox}` WHERE tandem_id IN ({ids})")
    connection.commit()
    connection.close()
    return {("plain", (("id", "2500"),)): "different", ("plain", (("id", "2501"),)): "extra", ("plain", (("id", "800000"),)): "missing"}


def test_soak(scene):
    scene.old.script(hostile.SCHEMA, scene.old_database)
    hostile.fill(scene)
    scene.add_and_start("%")
    scene.sql("SELECT tandem.reconcile_continuously('shop.%', period => '1 s', share => 0.5)")
    with hostile.Hostile(scene.app, clients=4, pause=0.003) as load:
        with Calls(scene, hostile.TABLES) as calls:
            end = time.monotonic() + SECONDS
            while time.monotonic() < end and not calls.errors and not load.failures and not confirmed(scene):
                time.sleep(1)
            assert not load.failures, load.failures
            assert not calls.errors, calls.errors
            found = confirmed(scene)
            assert not found, f"confirmed though nothing diverged: {found}"
            assert calls.passes > 0 and load.committed > 0
            print(f"{calls.passes} passes on call, {scene.value('SELECT count(*) FROM tandem.reconcile_run WHERE kind = %s AND state = %s', ('continuous', 'done'))}"
                  f" continuous ones, {load.committed} transactions: nothing confirmed")

            # Exactly what is injected is found, while all of it goes on.
            expected = {**inject_new(scene), **inject_old(scene)}
            wait_until(lambda: len(confirmed(scene)) >= len(expected) or calls.errors, 120, 0.5, "the injected divergences to be found")
            time.sleep(5)
        assert not calls.errors, calls.errors
        reported = {(table.removeprefix("shop."), key_text(json.loads(key))): kind for table, key, kind, *_ in confirmed(scene)}
        assert reported == expected
        scene.sql("SELECT tandem.repair('shop.plain', dry_run => false)")
        wait_until(lambda: scene.value("SELECT count(*) FROM tandem.discrepancies WHERE status IN ('open', 'repairing')") == 0, 120, 0.5, "the repair to be verified")
    assert {row[0] for row in scene.sql("SELECT status FROM tandem.discrepancy")} <= {"repaired", "gone"}
    scene.check(120)
    assert reconcile(scene, *hostile.TABLES) == {}
