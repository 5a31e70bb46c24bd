"""See README.md."""
import os
import random

import pymysql
import pytest

from lib.process import wait_until

from oracle import KINDS, MARIADB_KINDS, NOTHING

ADD_ALL = False
BAD_DATES = {"zero dates", "dates with year, month or day zero", "dates that are not in the calendar"}
BAD_TEXTS = {"text with U+0000", "bytes that are no text of the column's character set"}
ZONES = ["+00:00", "+05:30", "-11:00", "+13:00"]


def seeds():
    first, _, last = os.environ.get("TANDEM_FUZZ_SEEDS", "1-3").partition("-")
    return range(int(first), int(last or first) + 1)


class Table:
    def __init__(self, generator, name, kinds):
        self.random, self.name = generator, name
        self.key = [(f"k{i}", kind) for i, kind in enumerate(generator.sample([k for k in kinds if k.key], generator.choice([1, 1, 2, 3])))]
        self.values = [(f"v{i}", generator.choice(kinds)) for i in range(generator.randint(3, 14))]
        self.columns = self.key + self.values

    def ddl(self):
        columns = [f"{name} {kind.name.removesuffix(' NULL')} NOT NULL" for name, kind in self.key] + [f"{name} {kind.name.removesuffix(' NULL')} NULL" for name, kind in self.values]
        self.random.shuffle(columns)
        return f"CREATE TABLE {self.name} ({', '.join(columns)}, PRIMARY KEY ({', '.join(name for name, _ in self.key)})) ENGINE=InnoDB ROW_FORMAT=DYNAMIC"

    def literal(self, kind, nullable=True):
        return "NULL" if nullable and self.random.random() < 0.1 else kind.literals(self.random)

    def row(self):
        return [self.literal(kind, False) for _, kind in self.key] + [self.literal(kind) for _, kind in self.values]

    def statement(self):
        names = ", ".join(name for name, _ in self.columns)
        choice = self.random.random()
        if choice < 0.55:
            rows = ", ".join(f"({', '.join(self.row())})" for _ in range(self.random.choice([1, 1, 5])))
            return f"{self.random.choice(['INSERT IGNORE', 'REPLACE'])} INTO {self.name} ({names}) VALUES {rows}"
        some = f"ORDER BY RAND({self.random.randint(0, 9999)}) LIMIT {self.random.choice([1, 1, 3])}"
        if choice < 0.85:
            sets = ", ".join(f"{name} = {self.literal(kind)}" for name, kind in self.random.sample(self.values, self.random.randint(1, len(self.values))))
            return f"UPDATE IGNORE {self.name} SET {sets} {some}"
        if choice < 0.93:
            name, kind = self.random.choice(self.key)
            return f"UPDATE IGNORE {self.name} SET {name} = {self.literal(kind, False)} {some}"
        return f"DELETE FROM {self.name} {some}"

    def expected(self, scene):
        """Rows that must be on the new side, and the keys of those that PostgreSQL cannot hold."""
        connection = pymysql.connect(unix_socket=str(scene.old.socket), user="root", database=scene.old_database, charset="utf8mb4", conv={}, autocommit=True)
        with connection.cursor() as cursor:
            cursor.execute("SET time_zone = '+00:00', sql_mode = ''")
            cursor.execute(f"SELECT {', '.join(kind.old.format(name) for name, kind in self.columns)} FROM {self.name}")
            rows = [tuple(None if v is None else kind.old_form(v) for v, (_, kind) in zip(row, self.columns)) for row in cursor.fetchall()]
        connection.close()
        self.bad = {name: sum(row[i] is NOTHING for row in rows) for i, (name, _) in enumerate(self.columns)}
        return [row for row in rows if NOTHING not in row], [row[:len(self.key)] for row in rows if NOTHING in row]

    def found(self, scene):
        connection = scene.pg.connect(scene.database)
        with connection.cursor() as cursor:
            cursor.execute("SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET extra_float_digits = 1")
            cursor.execute(f"SELECT {', '.join(kind.new.format(name) for name, kind in self.columns)} FROM {self.name}")
            rows = [tuple(None if v is None else kind.new_form(v) for v, (_, kind) in zip(row, self.columns)) for row in cursor.fetchall()]
        connection.close()
        return rows


def application(scene, generator):
    connection = scene.app()
    connection.query(f"SET sql_mode = 'ALLOW_INVALID_DATES', time_zone = '{generator.choice(ZONES)}', NAMES utf8mb4")
    return connection


def write(connection, table, statements):
    refused = (1366, 1300, 1292, 1264, 1265, 1406, 1062, 1411, 1525, 1048, 1205, 1213, 4078, 1690, 1441)  # values the old server does not take
    with connection.cursor() as cursor:
        for _ in range(statements):
            statement = table.statement()
            try:
                cursor.execute(statement)
            except pymysql.MySQLError as error:
                assert error.args[0] in refused, f"{statement}\n{error}"


@pytest.fixture(params=["queue", "direct"])
def road(request, scene):
    """Both ways of a backfill: these tables are small, so without a word they take the queue."""
    if request.param == "direct":
        scene.sql("ALTER SYSTEM SET tandem.backfill_direct_rows = 0")
        scene.sql("SELECT pg_reload_conf()")
    yield request.param
    scene.sql("ALTER SYSTEM RESET tandem.backfill_direct_rows")
    scene.sql("SELECT pg_reload_conf()")


@pytest.mark.parametrize("seed", seeds())
def test_random_tables(scene, flavor, road, seed):
    seed = seed if road == "queue" else seed + 100000
    generator = random.Random(seed)
    kinds = KINDS + (MARIADB_KINDS if flavor == "mariadb" else [])
    tables = [Table(generator, f"f{seed}_{number}", kinds) for number in range(6)]
    for table in tables:
        scene.old.query(table.ddl(), database=scene.old_database)
        connection = application(scene, generator)
        write(connection, table, 40)
        connection.close()
    if road == "direct":
        wait_until(lambda: scene.value("SHOW tandem.backfill_direct_rows") == "0", 10, 0.1, "the setting")
    scene.add_and_start(f"f{seed}\\_%", wait=False)
    for _ in range(3):
        for table in tables:
            connection = application(scene, generator)
            write(connection, table, 15)
            connection.close()
    scene.wait_caught_up(180)
    modes = {mode for (mode,) in scene.sql("SELECT mode FROM tandem.backfill JOIN tandem.source_table USING (table_id) WHERE name LIKE %s", (f"f{seed}\\_%",))}
    assert modes == {"direct" if road == "direct" else "ordered"}
    for table in tables:
        wanted, refused = table.expected(scene)
        found = table.found(scene)
        what = f"seed {seed}: {table.ddl()}\n"
        for row in wanted:
            assert row in found, what + "missing: " + repr([(n, k.name, v) for v, (n, k) in zip(row, table.columns)]) + f"\nnearest: {nearest(row, found, table)}"
        # A row that got such a value stays as it was before.
        others = [row for row in found if row not in wanted and row[:len(table.key)] not in refused]
        assert not others and len({row[:len(table.key)] for row in found}) == len(found), what + f"too many: {others[:3]}"
        letters = scene.value("SELECT count(*) FROM tandem.dead_letter JOIN tandem.source_table USING (table_id) WHERE name = %s", (table.name,))
        assert letters == len(refused), what + f"{letters} dead letters, {len(refused)} rows that PostgreSQL cannot hold"
        check_census(scene, table, what)


def check_census(scene, table, what):
    """The census finds the same columns, and for dates the same number of rows."""
    found = {name: 0 for name, _ in table.columns}
    for name, finding, count in scene.sql("SELECT column_name, finding, count FROM tandem.census('shop', %s)", (table.name,)):
        if finding is not None and (finding in BAD_DATES or finding in BAD_TEXTS):
            found[name] += count
    for name, kind in table.columns:
        dates = kind.name.startswith(("DATE", "TIMESTAMP"))
        assert found[name] == table.bad[name] if dates else bool(found[name]) == bool(table.bad[name]), \
            what + f"column {name}: the census finds {found[name]}, {table.bad[name]} are bad"


def nearest(row, found, table):
    keyed = [other for other in found if other[:len(table.key)] == row[:len(table.key)]]
    return [(n, k.name, a, b) for a, b, (n, k) in zip(row, keyed[0], table.columns) if a != b] if keyed else "no row of that key"
