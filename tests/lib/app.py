"""The application: threads that write to the old side and count what was acknowledged to them. They survive restarts of the server."""
import random
import threading
import time

import pymysql

SCHEMA = """CREATE TABLE account (
  id INT NOT NULL PRIMARY KEY,
  owner VARCHAR(40) COLLATE utf8mb4_general_ci,
  balance DECIMAL(12,2) NOT NULL DEFAULT 0,
  touched DATETIME(6)
) ENGINE=InnoDB;
CREATE TABLE movement (
  account INT NOT NULL,
  no BIGINT NOT NULL,
  amount DECIMAL(12,2),
  note VARCHAR(100),
  PRIMARY KEY (account, no)
) ENGINE=InnoDB;
"""

# A statement that failed for one of these reasons is simply not counted: the server was away, or the transaction lost a deadlock.
PASSING = (1205, 1213, 2003, 2006, 2013, 2014, 0, 1053, 1927, 1045, 1040)


class Load:
    """`clients` threads of random transactions over `keys` accounts. The first statement of a transaction always takes an outbox id early,
    its COMMIT comes after more statements, so commits overtake each other. Counts acknowledged COMMITs."""

    def __init__(self, connect, clients=3, keys=200, pause=0.001, seed=1):
        self.connect, self.keys, self.pause = connect, keys, pause
        self.committed = 0
        self.failures = []
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(random.Random(seed * 1000 + n), n), daemon=True) for n in range(clients)]

    def start(self):
        for thread in self._threads:
            thread.start()
        return self

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
        assert not any(t.is_alive() for t in self._threads), "a client of the load hangs"
        assert not self.failures, f"the application got an error: {self.failures[0]}"
        return self.committed

    def wait(self, commits, timeout=60):
        """Until that many more commits were acknowledged."""
        goal, deadline = self.committed + commits, time.monotonic() + timeout
        while self.committed < goal:
            assert not self.failures, f"the application got an error: {self.failures[0]}"
            if time.monotonic() > deadline:
                raise TimeoutError(f"the load made no {commits} commits in {timeout} s")
            time.sleep(0.01)

    def _run(self, generator, number):
        connection = None
        while not self._stop.is_set():
            try:
                if connection is None:
                    connection = self.connect(autocommit=False, connect_timeout=5)
                self._transaction(connection, generator, number)
                with self._lock:
                    self.committed += 1
            except (pymysql.err.OperationalError, pymysql.err.InterfaceError, pymysql.err.InternalError) as error:
                if error.args and error.args[0] not in PASSING:
                    self.failures.append(error)
                    break
                if connection is not None:
                    try:
                        connection.close()
                    except pymysql.err.Error:
                        pass
                connection = None
                self._stop.wait(0.05)
            except Exception as error:  # an error of the application: the test must fail
                self.failures.append(error)
                break
            if self.pause:
                self._stop.wait(self.pause)
        # After an error as well: an open transaction would hold the database against its removal.
        if connection is not None:
            try:
                connection.close()
            except pymysql.err.Error:
                pass

    def _transaction(self, connection, generator, number):
        with connection.cursor() as cursor:
            for _ in range(generator.randint(1, 4)):
                a, b = generator.randrange(self.keys), generator.randrange(self.keys)
                kind = generator.random()
                if kind < 0.40:
                    cursor.execute("INSERT INTO account VALUES (%s, %s, %s, NOW(6)) ON DUPLICATE KEY UPDATE balance = balance + VALUES(balance),"
                                   " touched = NOW(6)", (a, f"owner {b}", generator.randint(-5000, 5000) / 100))
                elif kind < 0.55:
                    cursor.execute("DELETE FROM account WHERE id = %s", (a,))
                elif kind < 0.65:
                    cursor.execute("UPDATE IGNORE account SET id = %s WHERE id = %s", (b, a))
                elif kind < 0.90:
                    cursor.execute("REPLACE INTO movement VALUES (%s, %s, %s, %s)",
                                   (a, generator.randrange(30), generator.randint(0, 999), "x" * generator.randrange(60)))
                else:
                    cursor.execute("DELETE FROM movement WHERE account = %s LIMIT 5", (a,))
            if generator.random() < 0.1:
                connection.rollback()
            else:
                connection.commit()
