"""Old tables with every kind of key, and a writer that changes rows of all of them: values, keys, deletions, insertions."""
import random
import threading

import pymysql

PASSING = (1062, 1205, 1213)  # a key that is taken, a lock waited for too long, a deadlock lost: any application lives with them

# name → definition of the key's columns, columns, n → SQL literals. Neighbours by number are no neighbours by key where order is the point.
KEYS = {
    "k_int": ("id INT NOT NULL", "id", lambda n: f"{n}"),
    "k_negative": ("id BIGINT NOT NULL", "id", lambda n: f"{(n - 2000) * 1000003}"),
    "k_unsigned": ("id BIGINT UNSIGNED NOT NULL", "id", lambda n: f"{2**64 - 1 - n * 77}"),
    "k_two": ("shop INT NOT NULL, no INT NOT NULL", "shop, no", lambda n: f"{n % 3}, {n}"),
    "k_three": ("a VARCHAR(10) NOT NULL, b DATE NOT NULL, c SMALLINT NOT NULL", "a, b, c",
                lambda n: f"'{'xyZ'[n % 3]}', '20{n % 90 + 10}-0{n % 9 + 1}-11', {n}"),
    "k_general": ("id VARCHAR(40) NOT NULL COLLATE utf8mb4_general_ci", "id", lambda n: f"'{'aBcDeF'[n % 6]}{'éEê'[n % 3]}{n * 7919 % 100003}'"),
    "k_latin": ("id VARCHAR(40) CHARACTER SET latin1 COLLATE latin1_swedish_ci NOT NULL", "id",
                lambda n: f"'{'zÄaÖå'[n % 5]}{n * 7919 % 100003}'"),
    "k_bin": ("id CHAR(20) NOT NULL COLLATE utf8mb4_bin", "id", lambda n: f"'{'aAbB'[n % 4]}-{n * 31 % 99991}'"),
    "k_binary": ("id BINARY(16) NOT NULL", "id", lambda n: f"UNHEX(MD5('{n}'))"),
    "k_varbinary": ("id VARBINARY(20) NOT NULL", "id", lambda n: f"CONCAT(CHAR({n % 256}), CHAR(0), '{n}')"),
    "k_datetime": ("id DATETIME(6) NOT NULL", "id", lambda n: f"'2024-02-28 23:59:59.5' + INTERVAL {n * 1000003} MICROSECOND"),
    "k_timestamp": ("id TIMESTAMP NOT NULL DEFAULT '2001-01-01 00:00:01', no INT NOT NULL", "id, no",
                    lambda n: f"'2024-03-31 00:30:00' + INTERVAL {n * 7} SECOND, {n}"),
    "k_decimal": ("id DECIMAL(30,10) NOT NULL", "id", lambda n: f"{n * 7919 % 100003}.{n:010d}"),
    "k_enum": ("kind ENUM('zebra','ape','Cow','bee') NOT NULL, no INT NOT NULL", "kind, no",
               lambda n: f"'{('zebra', 'ape', 'Cow', 'bee')[n % 4]}', {n}"),
    "k_double": ("id DOUBLE NOT NULL, no INT NOT NULL", "id, no", lambda n: f"{n % 50}.1e{n % 7}, {n}"),
    "k_unique": ("id INT NOT NULL", None, lambda n: f"{n * 3}"),  # no primary key, a unique one
}


def create(scene, name):
    columns, key, _ = KEYS[name]
    constraint = f"PRIMARY KEY ({key})" if key else "UNIQUE KEY the_key (id)"
    scene.write(f"CREATE TABLE {name} ({columns}, v INT NOT NULL, note VARCHAR(60), {constraint}) ENGINE=InnoDB DEFAULT CHARSET utf8mb4")


def columns_of(name):
    """Names of the key's columns."""
    return [part.split()[0] for part in KEYS[name][0].split(", ")] if name != "k_decimal" else ["id"]


def fill(scene, name, rows):
    key = KEYS[name][2]
    for first in range(0, rows, 500):
        values = ",".join(f"({key(n)}, {n}, 'note {n}')" for n in range(first, min(first + 500, rows)))
        scene.write(f"INSERT INTO {name} VALUES {values}")


def match(name, n):
    return f"({', '.join(columns_of(name))}) = ({KEYS[name][2](n)})"


def assign(name, n):
    columns = columns_of(name)
    if len(columns) == 1:
        return f"{columns[0]} = {KEYS[name][2](n)}"
    values = KEYS[name][2](n).split(", ")
    return ", ".join(f"{c} = {v}" for c, v in zip(columns, values))


def change(name, n, other, chance):
    """A statement that changes row n."""
    if chance < 0.4:
        return f"UPDATE {name} SET v = v + 1, note = CONCAT('changed ', v) WHERE {match(name, n)}"
    if chance < 0.6:
        return f"DELETE FROM {name} WHERE {match(name, n)}"
    if chance < 0.8:
        return f"UPDATE {name} SET {assign(name, other)}, v = v + 1 WHERE {match(name, n)}"
    return f"REPLACE INTO {name} VALUES ({KEYS[name][2](n)}, {n}, 'put again')"


class Writer(threading.Thread):
    """Changes rows of the tables until it is stopped; counts what was committed."""

    def __init__(self, scene, names, rows, seed=1):
        super().__init__(daemon=True)
        self.scene, self.names, self.rows, self.random = scene, list(names), rows, random.Random(seed)
        self.stopping, self.committed, self.error = threading.Event(), 0, None

    def run(self):
        connection = None
        while not self.stopping.is_set():
            try:
                connection = connection or self.scene.app()
                with connection.cursor() as cursor:
                    name = self.random.choice(self.names)
                    cursor.execute(change(name, self.random.randrange(self.rows), self.random.randrange(self.rows + 500), self.random.random()))
                self.committed += 1
            except pymysql.err.MySQLError as error:
                if error.args[0] in PASSING:
                    continue
                if error.args[0] in (2003, 2006, 2013, 1927, 0):
                    connection = None
                    self.stopping.wait(0.2)
                    continue
                self.error = error
                return

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.join(60)
        assert self.error is None, self.error
        assert not self.is_alive()
