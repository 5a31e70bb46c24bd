"""Random schemas and random writes, all drawn from one seed. Values come from small domains, so that rows meet: conflicts, key moves onto keys that were just
freed, cascades into rows that others change."""
import random
import threading
import time
from dataclasses import dataclass, field

import pymysql

from .app import PASSING

# What an application may be told: duplicates, foreign keys, NULL where it may not be, a statement that meets its own changes.
REFUSED = (1048, 1062, 1264, 1690, 1205, 1213, 1216, 1217, 1364, 1451, 1452, 1442, 1761, 1762)

# type → literals; of keys and referenced columns first (compared without loss on both sides), then of values only
KEY_TYPES = {
    "INT": [str(n) for n in range(-2, 9)],
    "INT(10)": [str(n) for n in range(0, 400)],
    "BIGINT UNSIGNED": ["0", "1", "2", "3", "9223372036854775808", "18446744073709551615"],
    "SMALLINT UNSIGNED": [str(n) for n in range(0, 6)] + ["65535"],
    "VARCHAR(20) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci": ["'a'", "'A'", "'a '", "'b'", "'B'", "'á'", "'É'", "'e'", "''", "'x,y'", "'日本'"],
    "VARCHAR(12) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin": ["'a'", "'A'", "'b'", "'é'", "'E'", "'\\\\'", "''"],
    "CHAR(6) CHARACTER SET latin1 COLLATE latin1_swedish_ci": ["'k'", "'K'", "'l'", "'é'", "'E'", "'m'"],
    "VARBINARY(8)": ["x'00'", "x'0001'", "x'61'", "x'41'", "x''", "x'ff'"],
    "BINARY(3)": ["x'000000'", "x'610000'", "x'616263'", "x'ffffff'"],
    "DECIMAL(10,3)": ["1.5", "-2.25", "0", "3.125", "1.500"],
    "DATE": ["'2020-02-29'", "'1999-12-31'", "'2038-01-19'", "'1000-01-01'"],
    "DATETIME(6)": ["'2020-02-29 01:02:03.000004'", "'2020-02-29 01:02:03'", "'1999-12-31 23:59:59.999999'", "'9999-12-31 23:59:59'"],
    "TIMESTAMP(3)": ["'2020-02-29 01:02:03.004'", "'2001-01-01 00:00:01'", "'2037-12-31 23:59:59.999'"],
    "ENUM('red','Green','blue')": ["'red'", "'Green'", "'blue'", "'green'"],
}
VALUE_TYPES = {
    **KEY_TYPES,
    "TINYINT(1)": ["0", "1", "-7", "NULL"],
    "DOUBLE": ["0.1", "1e23", "-1.5", "2.2250738585072014e-308", "NULL"],
    "FLOAT": ["1234567.8", "0.1", "NULL"],
    "TEXT": ["''", "REPEAT('é', 3000)", "'line\\nbreak\\t'", "NULL", "'NULL'"],
    "MEDIUMTEXT": ["REPEAT('xyz ', 20000)", "'short'", "NULL"],
    "BLOB": ["x'00ff00'", "REPEAT(x'00', 1000)", "NULL"],
    "TIME(2)": ["'-12:00:01.25'", "'838:59:59'", "'00:00:00'", "NULL"],
    "YEAR": ["1901", "2155", "NULL"],
    "BIT(9)": ["b'101'", "b'111111111'", "NULL"],
    "SET('a','b','c')": ["'a'", "'a,c'", "''", "NULL"],
}


def name_of(name):
    return "`" + name.replace("`", "``") + "`"


@dataclass
class Column:
    name: str
    type: str
    nullable: bool = True

    def literal(self, generator):
        if self.nullable and generator.random() < 0.12:
            return "NULL"
        value = generator.choice(VALUE_TYPES[self.type])
        return value if value != "NULL" or self.nullable else VALUE_TYPES[self.type][0]

    def sql(self):
        null = "NULL" if self.nullable else "NOT NULL"
        default = " DEFAULT NULL" if self.nullable else " DEFAULT '2000-01-01 00:00:00'" if self.type.startswith("TIMESTAMP") else ""
        return f"{name_of(self.name)} {self.type} {null}{default}"


@dataclass
class ForeignKey:
    columns: list
    parent: "Table"
    parent_columns: list
    on_delete: str
    on_update: str


@dataclass
class Table:
    name: str
    columns: list = field(default_factory=list)
    key: list = field(default_factory=list)  # columns
    primary: bool = True
    uniques: list = field(default_factory=list)  # lists of columns
    foreign_keys: list = field(default_factory=list)

    def create(self):
        parts = [c.sql() for c in self.columns]
        parts.append(("PRIMARY KEY" if self.primary else "UNIQUE KEY the_key") + " (" + names(self.key) + ")")
        parts += [f"UNIQUE KEY u{n} ({names(columns)})" for n, columns in enumerate(self.uniques)]
        parts += [f"CONSTRAINT {name_of('fk_' + self.name + str(n))} FOREIGN KEY ({names(k.columns)}) REFERENCES {name_of(k.parent.name)} ({names(k.parent_columns)})"
                  f" ON DELETE {k.on_delete} ON UPDATE {k.on_update}" for n, k in enumerate(self.foreign_keys)]
        return f"CREATE TABLE {name_of(self.name)} (\n  " + ",\n  ".join(parts) + "\n) ENGINE=InnoDB DEFAULT CHARSET=utf8mb4"


def names(columns):
    return ", ".join(name_of(c.name) for c in columns)


class Schema:
    """`cascades`: foreign keys change their children; otherwise they only refuse."""

    def __init__(self, seed, cascades=True, most=6):
        self.generator = random.Random(f"schema {seed}")
        self.cascades = cascades
        self.tables = []
        for number in range(self.generator.randint(3, most)):
            self.tables.append(self._table(number))

    def _table(self, number):
        draw = self.generator
        table = Table(draw.choice(["t", "Order", "we ird", "t_"]) + str(number), primary=draw.random() < 0.85)
        kept = []  # columns that may refer to a parent
        for position in range(draw.choice([1, 1, 1, 2, 2, 3])):
            column = Column(f"k{position}", draw.choice(list(KEY_TYPES)), nullable=False)
            parent = self._parent(draw, 0.3)
            if parent is not None:
                column = self._refer(table, draw, parent, column)
            table.columns.append(column)
            table.key.append(column)
        for position in range(draw.randint(1, 6)):
            column = Column(f"v{position}", draw.choice(list(VALUE_TYPES)), nullable=draw.random() < 0.8)
            parent = self._parent(draw, 0.35, table)
            if parent is not None:
                column = self._refer(table, draw, parent, column)
            table.columns.append(column)
            kept.append(column)
        self._refer_to_several(table, draw)
        plain = [c for c in kept if c.type in KEY_TYPES]
        for _ in range(draw.choice([0, 0, 1, 1, 2])):
            if plain:
                columns = draw.sample(plain, min(len(plain), draw.choice([1, 1, 2])))
                if columns not in table.uniques:
                    table.uniques.append(columns)
        draw.shuffle(table.columns)
        return table

    def _parent(self, draw, chance, itself=None):
        candidates = [t for t in self.tables if len(t.key) == 1 or t.uniques]
        if itself is not None and len(itself.key) == 1:
            candidates += [itself] * (1 + len(candidates) // 2)
        return draw.choice(candidates) if candidates and draw.random() < chance else None

    def _refer(self, table, draw, parent, column):
        targets = [u for u in parent.uniques if len(u) == 1] + ([parent.key] if len(parent.key) == 1 else [])
        if not targets:
            return column
        target = draw.choice(targets)[0]
        column = Column(column.name, target.type, column.nullable)
        actions = ["RESTRICT", "NO ACTION"]
        if self.cascades:
            actions = ["CASCADE", "CASCADE", "RESTRICT"] + (["SET NULL"] if column.nullable else [])
        on_delete, on_update = draw.choice(actions), draw.choice(actions)
        if target.nullable and not column.nullable:
            on_update = "RESTRICT"  # else the servers refuse the table
        table.foreign_keys.append(ForeignKey([column], parent, [target], on_delete, on_update))
        return column

    def _refer_to_several(self, table, draw):
        """A foreign key over a composite key or unique key of an earlier table: new columns for it."""
        targets = [(t, u) for t in self.tables for u in (t.uniques + [t.key]) if len(u) > 1]
        if not targets or draw.random() > 0.4:
            return
        parent, target = draw.choice(targets)
        columns = [Column(f"f{n}", c.type, nullable=True) for n, c in enumerate(target)]
        actions = ["CASCADE", "CASCADE", "SET NULL", "RESTRICT"] if self.cascades else ["RESTRICT"]
        table.columns += columns
        table.foreign_keys.append(ForeignKey(columns, parent, target, draw.choice(actions), draw.choice(actions)))

    def create(self):
        return [t.create() for t in self.tables]


class Writer:
    """Statements for a schema."""

    def __init__(self, schema, generator):
        self.schema, self.draw = schema, generator

    def row(self, table):
        return "(" + ", ".join(c.literal(self.draw) for c in table.columns) + ")"

    def rows(self, table, most=5):
        return ", ".join(self.row(table) for _ in range(self.draw.randint(1, most)))

    def where(self, table, prefix=""):
        draw, column = self.draw, self.draw.choice(table.key if self.draw.random() < 0.6 else table.columns)
        name = prefix + name_of(column.name)
        kind = draw.random()
        if kind < 0.7:
            value = column.literal(draw)
            return f"{name} IS NULL" if value == "NULL" else f"{name} = {value}"
        if kind < 0.85:
            return f"{name} IN (" + ", ".join(column.literal(draw) for _ in range(3)) + ")"
        value = column.literal(draw)
        return f"{name} >= {value}"

    def changes(self, table, prefix="", keys=True):
        columns = self.draw.sample(table.columns, min(len(table.columns), self.draw.randint(1, 2)))
        if not keys:
            columns = [c for c in table.columns if c not in table.key][:1]
        return ", ".join(f"{prefix}{name_of(c.name)} = {c.literal(self.draw)}" for c in columns)

    def case_change(self, table):
        text = [c for c in table.columns if "_ci" in c.type]
        if not text:
            return None
        name = name_of(self.draw.choice(text).name)
        return f"UPDATE IGNORE {name_of(table.name)} SET {name} = IF(BINARY {name} = BINARY UPPER({name}), LOWER({name}), UPPER({name})) WHERE {self.where(table)}"

    def shift(self, table):
        """Every value moves onto one that another row has just left."""
        numbers = [c for c in table.columns if c.type.startswith(("INT", "DECIMAL"))]
        if not numbers:
            return None
        name = name_of(self.draw.choice(numbers).name)
        if self.draw.random() < 0.5:
            return f"UPDATE {name_of(table.name)} SET {name} = {name} + 1 ORDER BY {name} DESC"
        return f"UPDATE IGNORE {name_of(table.name)} SET {name} = 3 - {name}"

    def fill(self, table):
        """Many rows at once."""
        return f"INSERT IGNORE INTO {name_of(table.name)} ({names(table.columns)}) VALUES " + ", ".join(self.row(table) for _ in range(400))

    def statement(self):
        draw = self.draw
        table, other = draw.choice(self.schema.tables), draw.choice(self.schema.tables)
        name, kind = name_of(table.name), draw.random()
        columns = names(table.columns)
        if kind < 0.22:
            return f"INSERT INTO {name} ({columns}) VALUES {self.row(table)}"
        if kind < 0.23:
            return self.fill(table)
        if kind < 0.34:
            return f"INSERT IGNORE INTO {name} ({columns}) VALUES {self.rows(table, 8)}"
        if kind < 0.42:
            return f"INSERT INTO {name} ({columns}) VALUES {self.rows(table, 3)} ON DUPLICATE KEY UPDATE {self.changes(table)}"
        if kind < 0.50:
            return f"REPLACE INTO {name} ({columns}) VALUES {self.rows(table, 3)}"
        if kind < 0.66:
            ignore = "IGNORE " if draw.random() < 0.4 else ""
            tail = f" ORDER BY {names(table.key)} LIMIT {draw.randint(1, 3)}" if draw.random() < 0.2 else ""
            return f"UPDATE {ignore}{name} SET {self.changes(table)} WHERE {self.where(table)}{tail}"
        if kind < 0.72:
            return self.case_change(table) or f"UPDATE {name} SET {self.changes(table, keys=False)}"
        if kind < 0.75:
            return self.shift(table) or f"DELETE FROM {name} WHERE {self.where(table)}"
        if kind < 0.78 and other is not table:
            return (f"UPDATE {name} a, {name_of(other.name)} b SET {self.changes(table, 'a.')}, {self.changes(other, 'b.', False)}"
                    f" WHERE {self.where(table, 'a.')} AND {self.where(other, 'b.')}")
        if kind < 0.80 and other is not table:
            return f"DELETE a, b FROM {name} a, {name_of(other.name)} b WHERE {self.where(table, 'a.')} AND {self.where(other, 'b.')}"
        if kind < 0.82:
            return f"DELETE FROM {name} ORDER BY {names(table.key)} DESC LIMIT {draw.randint(1, 4)}"
        if kind < 0.84:
            return f"REPLACE INTO {name} ({columns}) SELECT {columns} FROM {name} WHERE {self.where(table)}"
        if kind < 0.85:
            return f"DELETE FROM {name}"
        return f"DELETE FROM {name} WHERE {self.where(table)}"


class Traffic:
    """`clients` threads that write until stopped. Errors that an application must expect are not counted, any other fails the test."""

    def __init__(self, connect, schema, seed, clients=3):
        self.connect, self.schema = connect, schema
        self.commits, self.statements = 0, 0
        self.failures = []
        self.history = []  # of statements, to read after a failure
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(random.Random(f"traffic {seed} {n}"),), daemon=True) for n in range(clients)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(90)
        assert not any(t.is_alive() for t in self._threads), "a client hangs"
        assert not self.failures, f"the application got an error: {self.failures[0]}"

    def wait(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and not self.failures:
            time.sleep(0.05)

    def _run(self, draw):
        writer, connection = Writer(self.schema, draw), None
        while not self._stop.is_set() and not self.failures:
            try:
                if connection is None:
                    connection = self.connect(autocommit=False, connect_timeout=5)
                    with connection.cursor() as cursor:
                        cursor.execute("SET SESSION innodb_lock_wait_timeout = 2")
                        if draw.random() < 0.5:
                            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
                self._transaction(connection, writer, draw)
            except (pymysql.err.OperationalError, pymysql.err.InterfaceError, pymysql.err.InternalError) as error:
                if error.args and error.args[0] not in PASSING:
                    self.failures.append(error)
                    return
                try:
                    if connection is not None:
                        connection.close()
                except pymysql.err.Error:
                    pass
                connection = None
                self._stop.wait(0.05)
            except Exception as error:
                self.failures.append(error)
                return
        if connection is not None:
            connection.close()

    def _transaction(self, connection, writer, draw):
        count = draw.choice([1, 1, 1, 2, 4, 12])
        with connection.cursor() as cursor:
            for _ in range(count):
                mark = draw.random()
                if mark < 0.1:
                    cursor.execute("SAVEPOINT s")
                sql = writer.statement()
                try:
                    cursor.execute(sql)
                except pymysql.err.MySQLError as error:
                    if error.args[0] not in REFUSED or error.args[0] == 1213:
                        if error.args[0] not in PASSING:
                            raise RuntimeError(f"{error} in {sql}") from error
                        raise
                else:
                    with self._lock:
                        self.statements += 1
                        self.history.append(sql)
                if 0.05 < mark < 0.1:
                    cursor.execute("ROLLBACK TO SAVEPOINT s")
                if mark > 0.98:
                    self._stop.wait(0.3)  # a transaction that others overtake
            if draw.random() < 0.1:
                connection.rollback()
            else:
                connection.commit()
                with self._lock:
                    self.commits += 1
