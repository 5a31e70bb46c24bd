"""See README.md. Uses no part of the product."""
import random
import struct
import subprocess
import sys

import pytest

from lib import compare, paths

MYSQL_TABLE = """CREATE TABLE t (
  a INT NOT NULL, b VARCHAR(20) NOT NULL COLLATE utf8mb4_bin, i BIGINT UNSIGNED, dec1 DECIMAL(12,3), f FLOAT, d DOUBLE, s TEXT, l VARCHAR(30) CHARACTER SET latin1,
  c CHAR(5), y VARBINARY(20), k BINARY(4), bt BIT(10), dt DATE, ts DATETIME(6), tz TIMESTAMP(3) NULL, tm TIME(6), yr YEAR, en ENUM('x','y'),
  st SET('p','q'), PRIMARY KEY (a, b)) CHARACTER SET utf8mb4"""
POSTGRES_TABLE = """CREATE TABLE t (
  a integer, b text, i numeric(20), dec1 numeric(12,3), f real, d double precision, s text, l text,
  c text, y bytea, k bytea, bt bit(10), dt date, ts timestamp(6), tz timestamptz(3), tm interval, yr smallint, en text,
  st text, PRIMARY KEY (a, b))"""
ROW = (1, "key", 18446744073709551615, "-1.500", 1234567.8, 1e23, "Grüße 🦊 ", "café", "ab", b"\x00\xff'", b"ab\0\0", "0000000101",
       "2024-02-29", "2024-02-29 01:02:03.000001", "2024-06-01 12:00:00.120", "-838:59:58.5", 2024, "y", "p,q")


@pytest.fixture
def both(old, bare_pg):
    old.query("DROP DATABASE IF EXISTS comparer")
    old.query("CREATE DATABASE comparer CHARACTER SET utf8mb4")
    bare_pg.query("DROP DATABASE IF EXISTS comparer")
    bare_pg.query("CREATE DATABASE comparer")
    old.query(MYSQL_TABLE, database="comparer")
    bare_pg.query(POSTGRES_TABLE, database="comparer")
    connection = old.connect("comparer")
    with connection.cursor() as cursor:
        cursor.execute("SET time_zone = '+00:00'")
        marks = ["CAST(CONV(%s, 2, 10) AS UNSIGNED)" if i == 11 else "%s" for i in range(len(ROW))]
        cursor.execute(f"INSERT INTO t VALUES ({', '.join(marks)})", ROW)
        cursor.execute("INSERT INTO t (a, b, s) VALUES (2, '', ''), (2, 'n', NULL), (-3, 'K', 'x'), (-3, 'k', 'x')")
    connection.close()
    with bare_pg.connect("comparer") as new, new.cursor() as cursor:
        cursor.execute(f"INSERT INTO t VALUES ({', '.join(['%s'] * len(ROW))})", ROW)
        cursor.execute("INSERT INTO t (a, b, s) VALUES (2, '', ''), (2, 'n', NULL), (-3, 'K', 'x'), (-3, 'k', 'x')")
    return old, bare_pg


def differences(both, mapping=None):
    old, pg = both
    connection = compare.raw_mysql(user="root", unix_socket=str(old.socket))
    new = pg.connect("comparer", autocommit=False)
    comparison = compare.Comparison(connection, "comparer", new)
    plan = mapping or compare.all_tables(comparison)
    found = [d for table in plan for d in comparison.compare(table).differences]
    connection.close()
    new.close()
    return found


def test_equal(both):
    assert differences(both) == []


@pytest.mark.parametrize("change, what", [
    ("UPDATE t SET s = replace(s, '🦊', '🦁') WHERE a = 1", "differs"),
    ("UPDATE t SET s = rtrim(s) WHERE a = 1", "differs"),
    ("UPDATE t SET c = c || ' ' WHERE a = 1", "differs"),
    ("UPDATE t SET s = NULL WHERE a = 2 AND b = ''", "differs"),
    ("UPDATE t SET s = '' WHERE a = 2 AND b = 'n'", "differs"),
    ("UPDATE t SET y = '\\x00ff26' WHERE a = 1", "differs"),
    ("UPDATE t SET k = '\\x6162' WHERE a = 1", "differs"),
    ("UPDATE t SET i = i - 1 WHERE a = 1", "differs"),
    ("UPDATE t SET dec1 = -1.501 WHERE a = 1", "differs"),
    ("ALTER TABLE t ALTER dec1 TYPE numeric(12,2)", "differs"),
    ("UPDATE t SET d = 1.0000000000000001e23 WHERE a = 1", "differs"),
    ("UPDATE t SET f = 1234567.9 WHERE a = 1", "differs"),
    ("UPDATE t SET ts = ts + interval '1 microsecond' WHERE a = 1", "differs"),
    ("UPDATE t SET tz = tz + interval '1 hour' WHERE a = 1", "differs"),
    ("UPDATE t SET tm = -tm WHERE a = 1", "differs"),
    ("UPDATE t SET bt = B'0000000100' WHERE a = 1", "differs"),
    ("UPDATE t SET dt = dt + 1 WHERE a = 1", "differs"),
    ("UPDATE t SET st = 'p' WHERE a = 1", "differs"),
    ("UPDATE t SET l = 'cafe' || chr(769) WHERE a = 1", "differs"),
    ("DELETE FROM t WHERE b = 'k'", "missing"),
    ("INSERT INTO t (a, b) VALUES (2, '  ')", "extra"),
    ("UPDATE t SET b = 'KEY' WHERE a = 1", "missing extra"),
    ("ALTER TABLE t DROP CONSTRAINT t_pkey; INSERT INTO t SELECT * FROM t WHERE a = 1", "duplicate"),
])
def test_finds(both, change, what):
    _, pg = both
    pg.query(change, database="comparer")
    assert sorted({d.what for d in differences(both)}) == sorted(what.split())


def test_last_bit_of_floats(both):
    """Any finite double or float is read exactly on both sides, and its neighbour is told apart."""
    old, pg = both
    generator = random.Random(7)
    rows = []
    for number in range(500):
        double = struct.unpack(">d", generator.randbytes(8))[0]
        single = struct.unpack(">f", generator.randbytes(4))[0]
        if abs(double) < 1e300 and abs(double) > 1e-300 and abs(single) < 1e38 and abs(single) > 1e-37:
            rows.append((1000 + number, repr(double), repr(single), double))
    connection = old.connect("comparer")
    with connection.cursor() as cursor, pg.connect("comparer") as new, new.cursor() as new_cursor:
        for number, double, single, _ in rows:
            cursor.execute(f"INSERT INTO t (a, b, d, f) VALUES ({number}, '', {double}, {single})")
            new_cursor.execute(f"INSERT INTO t (a, b, d, f) VALUES ({number}, '', '{double}', '{single}')")
    connection.close()
    assert len(rows) > 300 and differences(both) == []
    with pg.connect("comparer") as new, new.cursor() as cursor:
        for number, _, _, value in rows:
            bits = struct.unpack(">q", struct.pack(">d", value))[0] ^ 1
            cursor.execute("UPDATE t SET d = %s WHERE a = %s", (repr(struct.unpack(">d", struct.pack(">q", bits))[0]), number))
    assert len(differences(both)) == len(rows)


def test_mapping_and_command_line(both, tmp_path):
    old, pg = both
    pg.query("CREATE TABLE other (id text, big boolean)", database="comparer")
    pg.query("INSERT INTO other SELECT a::text || '/' || b, a > 1 FROM t", database="comparer")
    mapping = tmp_path / "mapping.json"
    mapping.write_text("""{"tables": [{"source": "t", "target": "public.other", "key": ["id"], "columns": [
        {"sql": "CONCAT(a, '/', b)", "kind": "text", "target": "id"}, {"sql": "a > 1", "kind": "bool", "target": "big"}]}]}""")
    command = [sys.executable, str(paths.ROOT / "tests/lib/compare.py"), "--mysql-socket", str(old.socket), "--database", "comparer",
               "--postgres", pg.conninfo("comparer"), "--mapping", str(mapping)]
    assert subprocess.run(command).returncode == 0
    pg.query("UPDATE other SET big = NOT big WHERE id = '1/key'", database="comparer")
    assert subprocess.run(command).returncode == 1
    assert subprocess.run([*command, "--database", "no_such"]).returncode == 2
