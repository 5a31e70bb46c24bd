"""See README.md."""
import pytest

from lib.process import wait_until

from torture_values import BYTES, INSTANTS, MARIADB_ONLY, MARIADB_TIMES, NUMBERS, TEXTS, TIMES

ADD_ALL = False
BACKFILLED, INSERTED, UPDATED = 0, 1000, 2000
TABLES = {"numbers": NUMBERS, "times": TIMES, "texts": TEXTS, "bytes": BYTES}
ONLY_MARIADB = {"times_more": MARIADB_TIMES, "more": MARIADB_ONLY}
# Columns that the old side computes. They arrive as plain columns: n + 1 and n * 2.
GENERATED = {"more": {"stored": ("INT AS (n + 1) STORED", ["8", "-2"]), "computed": ("BIGINT AS (n * 2) VIRTUAL", ["14", "-6"])}}


def pair(value):
    return value if isinstance(value, tuple) else (value, value)


def columns_of(table):
    return {**TABLES, **ONLY_MARIADB}[table]


def expected_rows(table):
    """Row number → the texts of all columns; a column with fewer values is NULL in the rest. The last row is NULL everywhere."""
    columns = columns_of(table)
    longest = max(len(values) for _, values in columns.values())
    for number in range(longest + 1):
        yield number + 1, [pair(values[number]) if number < len(values) else ("NULL", None) for _, values in columns.values()]


def create(scene, table):
    columns = {**columns_of(table), **GENERATED.get(table, {})}
    definitions = ", ".join(f"`{name}` {kind} NULL" if " AS (" not in kind else f"`{name}` {kind}" for name, (kind, _) in columns.items())
    scene.old.query(f"CREATE TABLE `{table}` (id INT NOT NULL PRIMARY KEY, {definitions}) CHARACTER SET utf8mb4 ENGINE=InnoDB ROW_FORMAT=DYNAMIC",
                    database=scene.old_database)


def insert(cursor, table, offset):
    names = ", ".join(f"`{name}`" for name in columns_of(table))
    for number, values in expected_rows(table):
        cursor.execute(f"INSERT INTO `{table}` (id, {names}) VALUES ({offset + number}, {', '.join(literal for literal, _ in values)})")


def update(cursor, table):
    names = list(columns_of(table))
    for number, values in expected_rows(table):
        sets = ", ".join(f"`{name}` = {literal}" for name, (literal, _) in zip(names, values))
        cursor.execute(f"UPDATE `{table}` SET {sets} WHERE id = {UPDATED + number}")


def lenient(scene):
    """An application that may write invalid ENUM labels, as many old ones do."""
    connection = scene.app()
    connection.query("SET sql_mode = '', NAMES utf8mb4")
    return connection


def tables(flavor):
    return [*TABLES, *(ONLY_MARIADB if flavor == "mariadb" else ())]


def comparable(flavor):
    """The comparer does not know spatial types; their bytes are in test_exact_text."""
    return [table for table in tables(flavor) if table != "bytes"] + ["instants"]


@pytest.fixture(scope="module")
def filled(scene, flavor):
    """A third of the rows is there before the start, a third is inserted and a third updated from NULL while the tables sync."""
    for table in tables(flavor):
        create(scene, table)
    scene.old.query("CREATE TABLE instants (id INT NOT NULL PRIMARY KEY, ts TIMESTAMP(6) NULL, ts0 TIMESTAMP NULL) ENGINE=InnoDB", database=scene.old_database)
    connection = lenient(scene)
    with connection.cursor() as cursor:
        for table in tables(flavor):
            insert(cursor, table, BACKFILLED)
        write_instants(cursor, "INSERT INTO instants (id, ts) VALUES ({id}, {value})", BACKFILLED)
        scene.add_and_start("%")
        for table in tables(flavor):
            insert(cursor, table, INSERTED)
            for number, _ in expected_rows(table):
                cursor.execute(f"INSERT INTO `{table}` (id) VALUES ({UPDATED + number})")
        write_instants(cursor, "INSERT INTO instants (id, ts) VALUES ({id}, {value})", INSERTED)
        cursor.execute(f"INSERT INTO instants (id) SELECT id + {UPDATED} FROM instants WHERE id < {INSERTED}")
        scene.wait_caught_up()
        for table in tables(flavor):
            update(cursor, table)
        write_instants(cursor, "UPDATE instants SET ts = {value} WHERE id = {id}", UPDATED)
    connection.close()
    scene.wait_caught_up()
    return scene


def write_instants(cursor, statement, offset):
    for number, (zone, value, _) in enumerate(INSTANTS, 1):
        cursor.execute(f"SET time_zone = '{zone}'")
        cursor.execute(statement.format(id=offset + number, value=value))
    cursor.execute("SET time_zone = DEFAULT")


def texts(scene, table, names, id_):
    connection = scene.pg.connect(scene.database)
    with connection.cursor() as cursor:
        cursor.execute("SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres'; SET extra_float_digits = 1; SET bytea_output = 'hex'")
        cursor.execute(f"SELECT {', '.join(f'({chr(34)}{name}{chr(34)})::text' for name in names)} FROM {table} WHERE id = %s", (id_,))
        row = cursor.fetchone()
    connection.close()
    return row


def short(value):
    return value if value is None or len(value) <= 80 else f"{value[:40]}… ({len(value)})"


@pytest.mark.parametrize("way", ["backfill", "insert", "update"])
@pytest.mark.parametrize("table", [*TABLES, *ONLY_MARIADB])
def test_exact_text(filled, flavor, table, way):
    if table not in tables(flavor):
        pytest.skip("types of MariaDB only")
    offset = {"backfill": BACKFILLED, "insert": INSERTED, "update": UPDATED}[way]
    names = [*columns_of(table), *GENERATED.get(table, {})]
    wrong = []
    for number, values in expected_rows(table):
        found = texts(filled, table, names, offset + number)
        assert found is not None, f"row {offset + number} of {table} did not arrive; dead letters: {filled.dead_letters()}"
        wanted = [text[flavor] if isinstance(text, dict) else text for _, text in values] + [v[number - 1] if number <= len(v) else None for _, v in GENERATED.get(table, {}).values()]
        wrong += [f"{table}.{name} {columns_of(table).get(name, ('',))[0]}, row {number}: wanted {short(w)!r}, got {short(f)!r}"
                  for name, w, f in zip(names, wanted, found) if w != f]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("way", ["backfill", "insert", "update"])
def test_instants(filled, way):
    offset = {"backfill": BACKFILLED, "insert": INSERTED, "update": UPDATED}[way]
    assert [texts(filled, "instants", ["ts"], offset + n)[0] for n in range(1, len(INSTANTS) + 1)] == [text for _, _, text in INSTANTS]


def test_types_of_targets(filled, flavor):
    """The types themselves, from docs/type-mapping.md."""
    wanted = {("numbers", "i8"): "smallint", ("numbers", "u16"): "integer", ("numbers", "u32"): "bigint", ("numbers", "u64"): "numeric(20,0)",
              ("numbers", "dec65"): "numeric(65,30)", ("numbers", "f"): "real", ("numbers", "d"): "double precision", ("numbers", "b33"): "bit(33)",
              ("numbers", "y"): "smallint", ("times", "dt3"): "timestamp(3) without time zone", ("instants", "ts"): "timestamp(6) with time zone",
              ("times", "t6"): "interval", ("texts", "c"): "text", ("texts", "e"): "text", ("texts", "s"): "text", ("bytes", "b"): "bytea",
              ("bytes", "point"): "bytea"}
    if flavor == "mariadb":
        wanted |= {("more", "j"): "text", ("more", "u"): "uuid", ("more", "a4"): "inet", ("more", "a6"): "inet", ("more", "computed"): "bigint"}
    found = {(table, column): filled.value("SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s",
                                           (table, column)) for table, column in wanted}
    assert found == wanted


def test_nothing_is_left(filled, flavor):
    """Every other byte as well, by the independent comparison; and the way back to NULL and to no row at all."""
    filled.check(tables=comparable(flavor))
    connection = lenient(filled)
    with connection.cursor() as cursor:
        for table in tables(flavor):
            cursor.execute(f"UPDATE `{table}` SET " + ", ".join(f"`{name}` = NULL" for name in columns_of(table)) + f" WHERE id > {UPDATED}")
            cursor.execute(f"DELETE FROM `{table}` WHERE id BETWEEN {INSERTED} AND {UPDATED}")
    connection.close()
    filled.check(tables=comparable(flavor))
    for table in tables(flavor):
        assert filled.value(f"SELECT count(*) FROM {table} WHERE id BETWEEN {INSERTED} AND {UPDATED}") == 0
    wait_until(lambda: filled.outbox_rows() == 0, 20, 0.1, "the outboxes to be empty")
