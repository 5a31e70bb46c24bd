"""The most hostile load: keys that move and change places, case-only changes of keys, cascades over several steps and in a cycle, long
transactions, rollbacks, deadlocks, REPLACE, hot rows. Every error of the application that is not one of concurrency fails the test."""
import threading

import pymysql

from lib.app import Load

SCHEMA = """CREATE TABLE plain (id INT NOT NULL PRIMARY KEY, v INT, t VARCHAR(60), at DATETIME(6)) ENGINE=InnoDB CHARACTER SET utf8mb4;
CREATE TABLE word (k VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL PRIMARY KEY, v INT) ENGINE=InnoDB;
CREATE TABLE org (id INT NOT NULL PRIMARY KEY, name VARCHAR(20)) ENGINE=InnoDB;
CREATE TABLE dept (id INT NOT NULL PRIMARY KEY, org_id INT, v INT,
  FOREIGN KEY (org_id) REFERENCES org (id) ON DELETE CASCADE ON UPDATE CASCADE) ENGINE=InnoDB;
CREATE TABLE person (dept_id INT NOT NULL, no INT NOT NULL, boss INT, v INT, PRIMARY KEY (dept_id, no),
  FOREIGN KEY (dept_id) REFERENCES dept (id) ON DELETE CASCADE ON UPDATE CASCADE,
  FOREIGN KEY (boss) REFERENCES org (id) ON DELETE SET NULL) ENGINE=InnoDB;
CREATE TABLE tree (id INT NOT NULL PRIMARY KEY, parent INT, v INT, FOREIGN KEY (parent) REFERENCES tree (id) ON DELETE CASCADE) ENGINE=InnoDB;
"""
TABLES = ("plain", "word", "org", "dept", "person", "tree")
ROWS = 3000
NOT_TOUCHED = 1000  # rows of `plain` from here on are left alone by the load


def fill(scene):
    def rows(table, columns, values):
        for first in range(0, len(values), 500):
            scene.write(f"INSERT INTO {table} ({columns}) VALUES " + ", ".join(values[first:first + 500]))
    rows("plain", "id, v, t", [f"({n}, {n % 10}, 'text {n}')" for n in range(ROWS)])
    rows("word", "k, v", [f"('Word {n}', {n})" for n in range(300)])
    rows("org", "id, name", [f"({n}, 'org {n}')" for n in range(20)])
    rows("dept", "id, org_id, v", [f"({n}, {n % 20}, 0)" for n in range(100)])
    rows("person", "dept_id, no, boss, v", [f"({n % 100}, {n // 100}, {n % 20}, 0)" for n in range(500)])
    rows("tree", "id, parent, v", [f"({n}, {(n - 1) // 3 if n else 'NULL'}, 0)" for n in range(200)])


class Hostile(Load):
    def _transaction(self, connection, r, number):
        with connection.cursor() as c:
            for _ in range(r.randint(1, 5)):
                try:
                    self._statement(c, r)
                except pymysql.err.IntegrityError:
                    pass  # a constraint of the old side: the statement did nothing
                except pymysql.err.OperationalError as error:
                    if error.args[0] not in (1761, 1762):  # the same, met by a cascade
                        raise
            if r.random() < 0.03:
                threading.Event().wait(r.uniform(0.2, 1.5))  # a long transaction
            if r.random() < 0.1:
                connection.rollback()
            else:
                connection.commit()

    def _statement(self, c, r):
        a, b = r.randrange(NOT_TOUCHED - 1), r.randrange(NOT_TOUCHED - 1)
        hot = r.randrange(5)
        kind = r.randrange(20)
        if kind < 3:
            c.execute("UPDATE plain SET v = v + 1, at = NOW(6) WHERE id = %s", (hot if kind == 0 else a,))
        elif kind == 3:
            c.execute("UPDATE IGNORE plain SET id = %s WHERE id = %s", (b, a))  # a key moves
        elif kind == 4:  # two rows change places
            c.execute("UPDATE plain SET id = %s WHERE id = %s", (-1 - number_of_thread(), a))
            c.execute("UPDATE IGNORE plain SET id = %s WHERE id = %s", (a, b))
            c.execute("UPDATE IGNORE plain SET id = %s WHERE id = %s", (b, -1 - number_of_thread()))
            c.execute("DELETE FROM plain WHERE id = %s", (-1 - number_of_thread(),))
        elif kind == 5:
            c.execute("REPLACE INTO plain (id, v, t) VALUES (%s, %s, %s)", (a, b, "x" * r.randrange(50)))
        elif kind == 6:
            c.execute("DELETE FROM plain WHERE id = %s", (a,))
        elif kind == 7:
            c.execute("UPDATE IGNORE word SET k = IF(BINARY k = UPPER(k), LOWER(k), UPPER(k)) WHERE k = %s", (f"word {r.randrange(300)}",))
        elif kind == 8:
            c.execute("INSERT INTO word VALUES (%s, 1) ON DUPLICATE KEY UPDATE v = v + 1", (f"WORD {r.randrange(320)}",))
        elif kind == 9:
            c.execute("DELETE FROM word WHERE k = %s", (f"Word {r.randrange(320)}",))
        elif kind == 10:
            c.execute("REPLACE INTO org VALUES (%s, %s)", (r.randrange(20), f"o{b}"))  # deletes over two steps
        elif kind == 11:
            c.execute("UPDATE IGNORE org SET id = %s WHERE id = %s", (r.randrange(25), r.randrange(25)))
        elif kind == 12:
            c.execute("INSERT IGNORE INTO dept VALUES (%s, %s, 0)", (r.randrange(120), r.randrange(20)))
        elif kind == 13:
            c.execute("UPDATE IGNORE dept SET id = %s WHERE id = %s", (r.randrange(120), r.randrange(120)))
        elif kind == 14:
            c.execute("UPDATE IGNORE dept SET org_id = %s, v = v + 1 WHERE id = %s", (r.randrange(20), r.randrange(120)))
        elif kind in (15, 16):
            c.execute("INSERT IGNORE INTO person VALUES (%s, %s, %s, 0)", (r.randrange(120), r.randrange(8), r.randrange(20)))
        elif kind == 17:
            c.execute("UPDATE IGNORE person SET v = v + 1, boss = %s WHERE dept_id = %s", (r.randrange(20), r.randrange(120)))
        elif kind == 18:
            c.execute("DELETE FROM tree WHERE id = %s", (r.randrange(1, 400),))
        else:
            c.execute("INSERT IGNORE INTO tree VALUES (%s, %s, 0)", (r.randrange(1, 400), r.randrange(60)))


def number_of_thread():
    return threading.get_ident() % 100000
