"""An application that follows its data: clients that write to the side they believe in, go to the other when they are refused, and count what
was acknowledged to them. At the end every acknowledged write must be on the side that is the truth then."""
import threading
import time

import psycopg2
import pymysql

SCHEMA = """CREATE TABLE ledger (client INT NOT NULL, no INT NOT NULL, note VARCHAR(40), PRIMARY KEY (client, no)) CHARACTER SET utf8mb4 ENGINE=InnoDB;
CREATE TABLE counter (client INT NOT NULL PRIMARY KEY, v INT NOT NULL) ENGINE=InnoDB;
"""


class Clients:
    """`faults`: servers or connections may go away, so errors other than a refusal are forgiven (and their write's outcome is not known)."""

    def __init__(self, scene, clients=3, pause=0.002, faults=False):
        self.scene, self.pause, self.faults = scene, pause, faults
        self.acknowledged = [[] for _ in range(clients)]
        self.unknown = [set() for _ in range(clients)]
        self.refused = {"old": 0, "new": 0}
        self.longest = 0.0
        self.errors = []
        self.waits = []  # seconds of each acknowledged write, with its side
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        if kind is None:
            assert not any(t.is_alive() for t in self._threads), "a client hangs"
            assert not self.errors, f"a client got an error: {self.errors[0]!r}"

    def total(self):
        return sum(len(one) for one in self.acknowledged)

    def wait(self, writes, timeout=120):
        goal, deadline = self.total() + writes, time.monotonic() + timeout
        while self.total() < goal:
            assert not self.errors, f"a client got an error: {self.errors[0]!r}"
            assert time.monotonic() < deadline, f"no {writes} writes in {timeout} s"
            time.sleep(0.01)

    def _connect(self, side):
        if side == "old":
            return self.scene.app(connect_timeout=5)
        return self.scene.pg.connect(self.scene.database)

    def _write(self, connection, client, number):
        with connection.cursor() as cursor:
            if number % 2:
                cursor.execute("INSERT INTO ledger VALUES (%s, %s, %s)", (client, number, f"write {number}"))
            else:
                cursor.execute("UPDATE counter SET v = %s WHERE client = %s", (number, client))

    def _run(self, client):
        side, connection, number = "old", None, 0
        while not self._stop.is_set():
            number += 1
            first = time.monotonic()
            while not self._stop.is_set():
                try:
                    if connection is None:
                        connection = self._connect(side)
                    self._write(connection, client, number)
                    self.acknowledged[client].append(number)
                    waited = time.monotonic() - first
                    self.waits.append((waited, side))
                    self.longest = max(self.longest, waited)
                    break
                except (pymysql.err.MySQLError, psycopg2.Error) as error:
                    if self._is_refusal(error):
                        self.refused[side] += 1
                        side = "new" if side == "old" else "old"
                        time.sleep(0.005)
                    else:
                        if not self.faults:
                            self.errors.append(error)
                            return
                        self.unknown[client].add(number)
                        time.sleep(0.05)
                    try:
                        connection and connection.close()
                    except (pymysql.err.MySQLError, psycopg2.Error):
                        pass
                    connection = None
                    if self.unknown[client] and number in self.unknown[client]:
                        break
            time.sleep(self.pause)

    @staticmethod
    def _is_refusal(error):
        if isinstance(error, psycopg2.Error):
            return error.pgcode == "55000"
        return bool(error.args) and error.args[0] == 1644

    def check(self, side):
        """Every acknowledged write is on that side, and nothing that was refused for good."""
        query = self.scene.sql if side == "new" else lambda q: self.scene.old.query(q, database=self.scene.old_database)
        rows = set(query("SELECT client, no FROM ledger"))
        counters = dict(query("SELECT client, v FROM counter"))
        for client, numbers in enumerate(self.acknowledged):
            inserted = {(client, n) for n in numbers if n % 2}
            assert inserted <= {r for r in rows if r[0] == client}, f"lost writes of client {client}: {sorted(inserted - rows)[:10]}"
            known = inserted | {(client, n) for n in self.unknown[client]}
            assert {r for r in rows if r[0] == client} <= known, f"writes of client {client} that nobody acknowledged: {sorted({r for r in rows if r[0] == client} - known)[:10]}"
            updates = [n for n in numbers if n % 2 == 0]
            if updates:
                allowed = {updates[-1]} | {n for n in self.unknown[client] if n > updates[-1]}
                assert counters[client] in allowed, f"counter of client {client} is {counters[client]}, acknowledged {updates[-1]}"
