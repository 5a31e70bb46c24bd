"""See README.md."""
import random
import struct

import pytest

from lib.process import wait_until


def test_numbers(scene):
    scene.write(
        "INSERT INTO numbers (id) VALUES (0)",
        "INSERT INTO numbers VALUES (1, -128, 0, -32768, 0, -8388608, 0, -2147483648, 0, -9223372036854775808, 0, 0, 0, 0, -3.4028234e38, 0, -9999.999, -1.7976931348623157e308,"
        " -99999999.99, -99999999999999999999999999999999999.999999999999999999999999999999, -99999999.99, 0, b'0', b'0', b'0', 1901)",
        "INSERT INTO numbers VALUES (2, 127, 255, 32767, 65535, 8388607, 16777215, 2147483647, 4294967295, 9223372036854775807, 18446744073709551615, 42, 1, -5, 3.4028234e38, 1.17549e-38,"
        " 9999.999, 2.2250738585072014e-308, 99999999.99, 0.000000000000000000000000000001, 0.01, 99999999, b'1', b'111111111', b'" + "1" * 64 + "', 2155)",
        "INSERT INTO numbers (id, f, d, dd, y, b9) VALUES (3, 0.1, 0.1, 0.1, 2024, b'1'), (4, 1234567.8, 1e23, -0.005, 0, b'100000000'), (5, -0e0, -0e0, 0, 69, b'10')")
    generator = random.Random(5)
    rows = []
    for number in range(100, 400):
        double = struct.unpack(">d", generator.randbytes(8))[0]
        single = struct.unpack(">f", generator.randbytes(4))[0]
        if 1e-300 < abs(double) < 1e300 and 1e-37 < abs(single) < 3e38:
            rows.append(f"({number}, {single!r}, {double!r})")
    scene.write("INSERT INTO numbers (id, f, d) VALUES " + ", ".join(rows))
    scene.check()


def test_lengths_that_grow(scene):
    """Values longer than any before, in every column in turn: the reader's buffers grow while the other values of the same row are in them."""
    generator = random.Random(7)
    columns = ["v", "tx", "mt", "lt"]
    rows, longest = [], 20
    for number in range(1000, 1120):
        lengths = dict.fromkeys(columns, 0)
        for column in columns:
            lengths[column] = generator.randrange(0, 60)
        grown = columns[1 + number % 3]
        longest = int(longest * 1.06) + 1
        lengths[grown] = min(longest, 21000) if grown == "tx" else longest  # TEXT holds 65,535 bytes, a character up to three
        rows.append(f"({number}, " + ", ".join(f"REPEAT('{generator.choice('aé€')}', {lengths[column]})" for column in columns) + ", 'B b')")
    scene.write(*(f"INSERT INTO texts (id, {', '.join(columns)}, e) VALUES " + ", ".join(rows[n:n + 40]) for n in range(0, 120, 40)))
    scene.check()
    scene.write("UPDATE texts SET mt = CONCAT(mt, mt, tx), lt = CONCAT(lt, mt, 'x') WHERE id >= 1000", "DELETE FROM texts WHERE id % 3 = 1 AND id >= 1000")
    scene.check()


def test_times(scene):
    connection = scene.app()
    with connection.cursor() as cursor:
        cursor.execute("SET time_zone = 'America/New_York'" if scene.old.value("SELECT count(*) FROM mysql.time_zone_name") else "SET time_zone = '-05:00'")
        cursor.execute("INSERT INTO times VALUES (1, '1000-01-01', '1000-01-01 00:00:00', '1000-01-01 00:00:00.001', '1000-01-01 00:00:00.000001',"
                       " '1970-01-02 00:00:01', '2038-01-18 03:14:07.999999', '-838:59:59', '-838:59:58.999999')")
        cursor.execute("INSERT INTO times VALUES (2, '9999-12-31', '9999-12-31 23:59:59', '9999-12-31 23:59:59.999', '9999-12-31 23:59:59.999999',"
                       " '2024-03-10 02:30:00', '2024-11-03 01:30:00.5', '838:59:59', '00:00:00.000001')")
        cursor.execute("INSERT INTO times VALUES (3, '2024-02-29', '2024-02-29 12:00:00', '2024-02-29 12:00:00.120', '2024-02-29 12:00:00.100000', '2024-02-29 12:00:00',"
                       " '2024-02-29 12:00:00.000100', '-00:00:01', '-00:00:00.500000'), (4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),"
                       " (5, '0999-01-01', '0001-01-01 00:00:00', NULL, NULL, NULL, NULL, '00:00:00', '24:00:00')")
    connection.close()
    scene.check()


def test_texts(scene):
    connection = scene.app()
    with connection.cursor() as cursor:
        everything = "".join(chr(c) for c in (*range(1, 0x250), 0x20AC, 0xFFFD, 0xFFFE, 0x1F98A, 0x10FFFF))
        cursor.execute("INSERT INTO texts (id, v, tx, lt) VALUES (1, %s, %s, %s)", (everything[:100], everything, everything * 200))
        cursor.execute("INSERT INTO texts (id, c, v, tt, tx, e, s) VALUES (2, '', '', '', '', '', ''), (3, ' a ', ' a ', ' ', '\\n', 'a', 'x'),"
                       " (4, 'a  ', 'a  ', NULL, '  ', 'B b', 'x,z w'), (5, '\\\\', '\\\\N', '\\\\.', '\\t', '\u00fc', 'x,y,z w'), (6, NULL, 'NULL', 'null', '{}', NULL, NULL)")
        cursor.execute("INSERT INTO texts (id, vl, vu, vc, vs) VALUES (7, 'caf\u00e9 \u20ac', '\u00fc\u4e2d', '\u041f\u0440\u0438\u0432\u0435\u0442', '\u65e5\u672c\u8a9e'), (8, '', ' ', '', NULL)")
        cursor.execute("INSERT INTO texts (id, v) VALUES (9, CONCAT('e', CHAR(0xCC81 USING utf8mb4))), (10, '\u00e9')")  # composed and decomposed stay apart
    connection.close()
    scene.check()


def test_bytes(scene):
    connection = scene.app(binary_prefix=True)
    with connection.cursor() as cursor:
        every = bytes(range(256))
        cursor.execute("INSERT INTO bytes VALUES (1, %s, %s, %s, %s, %s, %s)", (b"\0\1", every[:100], every[:255], every, every * 40, every * 4000))
        cursor.execute("INSERT INTO bytes VALUES (2, '', '', '', '', '', ''), (3, NULL, NULL, NULL, NULL, NULL, NULL)")
        cursor.execute("INSERT INTO bytes (id, vb, bl) VALUES (4, %s, %s)", (b"\\x41", b"abc  "))
    connection.close()
    scene.check()


def test_updates_to_and_from_null(scene):
    scene.write("UPDATE numbers SET d = NULL, de = 1, b9 = NULL WHERE id IN (1, 2)", "UPDATE times SET d = '2000-01-01', t = NULL WHERE id = 4",
                "UPDATE texts SET v = NULL, c = '' WHERE id = 3", "UPDATE bytes SET b = 'zz', vb = '' WHERE id = 3")
    scene.check()


@pytest.mark.parametrize("table, bad, good", [
    ("times", "INSERT INTO times (id, d) VALUES (90, '0000-00-00')", "UPDATE times SET d = '2001-02-03' WHERE id = 90"),
    ("times", "INSERT INTO times (id, dt) VALUES (91, '2024-00-10 00:00:00')", "UPDATE times SET dt = NULL WHERE id = 91"),
    ("times", "INSERT INTO times (id, ts) VALUES (92, '0000-00-00 00:00:00')", "DELETE FROM times WHERE id = 92"),
    ("texts", "INSERT INTO texts (id, v) VALUES (90, CONCAT('a', CHAR(0), 'b'))", "UPDATE texts SET v = 'ab' WHERE id = 90"),
])
def test_what_postgres_cannot_hold(scene, table, bad, good):
    """Never another value, never a cut string: a dead letter that stops only its own row."""
    scene.wait_caught_up()
    connection = scene.app()
    with connection.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        cursor.execute(bad)
        cursor.execute("REPLACE INTO numbers (id) VALUES (77)")
    scene.wait_caught_up()
    assert [d[0] for d in scene.dead_letters()] == [table]
    assert [d.what for d in scene.differences()] == ["missing"]
    with connection.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        cursor.execute(good)
    connection.close()
    wait_until(lambda: not scene.dead_letters(), 20, 0.1, "the dead letter to be superseded")
    scene.check()
