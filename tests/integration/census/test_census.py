"""See README.md."""
import threading
import time

import psycopg2
import pytest

from lib.process import wait_until

ADD_ALL = False


def census(scene, table, **arguments):
    more = "".join(f", {name} => %({name})s" for name in arguments)
    rows = scene.sql(f"SELECT column_name, finding, count, samples, proposal, mapping FROM tandem.census('shop', %(t)s{more})", {"t": table, **arguments})
    return rows


def findings(rows):
    return {(column, finding): (count, samples) for column, finding, count, samples, _, _ in rows if finding is not None}


def loose(scene, *statements):
    """As an application without strict mode writes."""
    connection = scene.app()
    with connection.cursor() as cursor:
        cursor.execute("SET sql_mode = 'ALLOW_INVALID_DATES'")
        for statement in statements:
            cursor.execute(statement)
    connection.close()


def test_values(scene):
    loose(scene, """INSERT INTO `Odd Values` VALUES
        (1, 0, 0, 0, 0, '2024-01-31', '2024-01-31 00:00:00', '2024-01-31 00:00:00', '23:59:59.9', '23:59:59.999', 'plain', 'plain', 'x', b'0', 1),
        (2, 1, 1, 18446744073709551615, 9223372036854775807, '0000-00-00', '0000-00-00', '0000-00-00', '24:00:00', '00:00:00', 'ü€🦊', 'ü', '', b'1', 2),
        (3, 2, 0, 9223372036854775808, NULL, '2024-00-10', '2024-02-00', NULL, '-00:00:00.1', NULL, CONCAT('a', CHAR(0)), CONCAT(CHAR(0), 'b'), 'nix', NULL, 3),
        (4, -1, 1, NULL, 7, '2023-02-29', '2024-02-30 10:00:00', NULL, '838:59:59', NULL, NULL, NULL, 'y', b'1', 4),
        (5, NULL, 0, 5, 1, '2024-02-29', '2000-02-29', NULL, NULL, NULL, '', '', NULL, b'0', 5),
        (6, 9, 0, 5, 1, '1900-02-29', '2024-04-31', NULL, NULL, NULL, '', '', 'nix', b'0', 6)""")
    rows = census(scene, "Odd Values")
    assert findings(rows) == {
        ("flag", "values other than 0 and 1"): (3, ["3", "4", "6"]),
        ("clean_flag", "only 0 and 1"): (6, []),
        ("big", "values above 9223372036854775807"): (2, ["2", "3"]),
        ("small_big", "all fit bigint"): (6, []),
        ("d", "zero dates"): (1, ["2"]),
        ("d", "dates with year, month or day zero"): (1, ["3"]),
        ("d", "dates that are not in the calendar"): (2, ["4", "6"]),
        ("dt", "zero dates"): (1, ["2"]),
        ("dt", "dates with year, month or day zero"): (1, ["3"]),
        ("dt", "dates that are not in the calendar"): (2, ["4", "6"]),
        ("ts", "zero dates"): (1, ["2"]),
        ("t", "times below 0 or from 24:00:00 on"): (3, ["2", "3", "4"]),
        ("day_time", "all within a day"): (6, []),
        ("u8", "text with U+0000"): (1, ["3"]),
        ("l1", "text with U+0000"): (1, ["3"]),
        ("e", "ENUM values that are no label (stored as '' with number 0)"): (2, ["3", "6"]),
        ("b1", "one bit"): (6, []),
    }
    # Every column has a row; the offers are usable as they are.
    assert {row[0] for row in rows} == set("id flag clean_flag big small_big d dt ts t day_time u8 l1 e b1 n".split())
    offers = {}
    for row in rows:
        offers.update(row[5] or {})
    assert offers == {"clean_flag": "clean_flag <> 0", "small_big": "small_big::bigint", "day_time": "day_time::time(3)", "b1": "b1::integer <> 0"}
    scene.sql("SELECT tandem.add_table('shop', 'Odd Values', columns => (SELECT jsonb_object_agg(k, v) FROM tandem.census('shop', 'Odd Values') AS c,"
              " jsonb_each(c.mapping) AS e(k, v)))")
    assert dict(scene.sql("SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = '\"Odd Values\"'::regclass AND attname IN"
                          " ('clean_flag', 'small_big', 'day_time', 'b1')")) == {
        "clean_flag": "boolean", "small_big": "bigint", "day_time": "time(3) without time zone", "b1": "boolean"}
    assert findings(scene.sql("SELECT column_name, finding, count, samples, proposal, mapping FROM tandem.census('Odd Values')"))[
        ("flag", "values other than 0 and 1")] == (3, ["3", "4", "6"])


def test_bad_bytes(scene):
    """Bytes that are no text of their column: they get in through tools that do not convert."""
    connection = scene.old.connect(scene.old_database)
    with connection.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        cursor.execute("CREATE TABLE raw (id INT PRIMARY KEY, v VARBINARY(20)) ENGINE=InnoDB")
        cursor.execute("INSERT INTO raw VALUES (1, 'ok'), (2, X'C3'), (3, X'41FF42'), (4, X'C3BC')")
        try:
            cursor.execute("ALTER TABLE raw MODIFY v VARCHAR(20) CHARACTER SET utf8mb4")
            bad = cursor.execute("SELECT id FROM raw WHERE HEX(v) IN ('C3', '41FF42')")
        except Exception:  # a server that refuses to make such a column has none to find
            bad = 0
    connection.close()
    found = findings(census(scene, "raw"))
    if bad:
        assert found[("v", "bytes that are no text of the column's character set")][0] == bad
    else:
        assert not [f for f in found if "no text" in f[1]]
    scene.old.query("DROP TABLE raw", database=scene.old_database)


def test_keys_that_mean_something_else(scene):
    loose(scene, "INSERT INTO people VALUES ('ann', 1), ('Bob', 2), ('zoé', 3), ('carl ', 4), ('dan', 5)",
          "INSERT INTO pets VALUES (1, 'ann'), (2, 'ANN'), (3, 'bob'), (4, 'Bob'), (5, 'zoe'), (6, NULL), (7, 'carl')",
          "SET foreign_key_checks = 0", "INSERT INTO pets VALUES (8, 'nobody')")
    people = findings(census(scene, "people"))
    assert people == {
        ("name", "unique text that ends in spaces"): (1, ["carl "]),
        ("name", "unique text with capitals that the old side finds in any case"): (1, ["Bob"]),
        ("name", "unique text with letters beyond ASCII that the old side may find without accents"): (1, ["zoé"]),
    }
    assert findings(census(scene, "pets")) == {
        ("owner", "rows without the parent that the foreign key names"): (1, ["8"]),
        ("owner", "rows that spell their parent's key in another way"): (4, ["2", "3", "5"]),
    }


def test_target(scene):
    scene.sql("CREATE COLLATION IF NOT EXISTS any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
    scene.sql("CREATE TYPE word AS ENUM ('one', 'two')")
    scene.sql("CREATE TABLE tags (id smallint PRIMARY KEY, label varchar(5) COLLATE any_case NOT NULL UNIQUE, v word NOT NULL, w numeric(4,0))")
    loose(scene, "INSERT INTO tags VALUES (1, 'Abc', 'one', 1), (2, 'abc', 'two', 9999), (3, 'longer', 'three', 10000), (40000, 'x', NULL, -10000), (5, 'X', '', NULL), (6, 'y', 'one', NULL)")
    assert findings(census(scene, "tags", target="tags")) == {
        ("id", "numbers that the target column cannot hold"): (1, ["40000"]),
        ("label", "groups of rows that are one value to a unique index of the target"): (2, ["abc"]),
        ("label", "text longer than the target column"): (1, ["3"]),
        ("v", "NULLs that the target refuses"): (1, ["40000"]),
        ("v", "values that are no label of the target's enum"): (2, ["3", "5"]),
        ("w", "numbers that the target column cannot hold"): (2, ["3", "40000"]),
    }


def test_without_a_key(scene):
    loose(scene, "INSERT INTO keyless VALUES (0), (1), (5)")
    assert findings(census(scene, "keyless")) == {("a", "values other than 0 and 1"): (1, [])}


@pytest.mark.parametrize("table, row", [
    ("by_text", "CONCAT(CHAR(97 + n % 26), IF(n % 3, 'Ü', ' x'), n)"), ("by_bytes", "UNHEX(LPAD(HEX(n * 7919), 8, '0'))"),
    ("by_enum", "1 + n % 3, n"), ("by_time", "'2024-01-01' + INTERVAL (n % 5000) SECOND, n / 7"), ("by_bit", "n * 65537"),
])
def test_slices(scene, table, row):
    """Over every kind of key: each row is counted once, whatever the slices."""
    loose(scene, "CREATE TABLE IF NOT EXISTS digits (d INT PRIMARY KEY)", "REPLACE INTO digits VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9)",
          f"INSERT INTO {table} SELECT {row}, IF(n % 1000 = 7, 3, 0) FROM (SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d AS n"
          " FROM digits a, digits b, digits c, digits e, digits f WHERE f.d < 3) numbers")
    rows = census(scene, table)
    assert findings(rows)[("f", "values other than 0 and 1")][0] == 30
    # A column without a finding tells the number of rows.
    assert [row[2] for row in rows if row[1] is None] in ([30000], [30000, 30000], [])
    if table == "by_text":  # letters n % 26, 30000 rows: 'Ü' where n % 3, else ' x'
        assert findings(rows)[("k", "unique text with letters beyond ASCII that the old side may find without accents")][0] == 20000
    scene.old.query(f"DELETE FROM `{scene.old_database}`.{table}")


def test_cancelled(scene):
    """The asker goes away: the census ends, other questions are answered meanwhile and afterwards, and so is the next census."""
    loose(scene, "INSERT INTO by_bytes VALUES ('a', 0)")
    holder = scene.app()  # holds the census up in the midst of its work
    with holder.cursor() as cursor:
        cursor.execute("LOCK TABLES by_bytes WRITE")
    connection = scene.pg.connect(scene.database)
    connection.autocommit = True
    failed = []

    def ask():
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT count(*) FROM tandem.census('shop', 'by_bytes')")
        except psycopg2.Error as error:
            failed.append(error.pgcode)

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.7)
    assert scene.sql("""SELECT * FROM tandem._ask('{"kind": "ping"}', '3 s')""")
    with pytest.raises(psycopg2.errors.ObjectInUse):
        census(scene, "by_text")
    connection.cancel()
    asking.join(10)
    connection.close()
    assert failed == ["57014"]
    holder.close()

    def taken_again():
        try:
            return census(scene, "by_text")
        except psycopg2.errors.ObjectInUse:
            return None
    wait_until(taken_again, 10, 0.2, "the cancelled census to end on the old side")
    scene.write("DROP TABLE digits")


def test_moved_afterwards(scene):
    loose(scene, "DELETE FROM `Odd Values` WHERE id IN (2, 3, 4, 6)", "SET foreign_key_checks = 0", "DELETE FROM pets WHERE id = 8", "DROP TABLE keyless")
    for table in ("people", "pets", "by_text", "by_bytes", "by_enum", "by_time", "by_bit"):
        scene.add_table(table)
    scene.start_all()
    scene.check(tables=["people", "pets", "by_text", "by_bytes", "by_enum", "by_time", "by_bit"])


def test_mislabelled(scene):
    """UTF-8 written through a connection of latin1, in both ways in which it is found: latin1 columns with UTF-8 bytes, and doubly encoded utf8mb4."""
    scene.old.query("CREATE TABLE labels (id INT PRIMARY KEY, l VARCHAR(40) CHARACTER SET latin1, u VARCHAR(40) CHARACTER SET utf8mb4) ENGINE=InnoDB", database=scene.old_database)
    connection = scene.app()
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO labels VALUES (1, _latin1 X'C3A9', _utf8mb4 X'C383C2A9'), (2, _latin1 X'E9', '\u00e9'), (3, 'plain', 'plain'), (4, NULL, '\u20ac\u4e2d'),"
                       " (5, _latin1 X'C3A9E9', '\u00c3\u00a9\u4e2d'), (6, _latin1 X'E282AC', CONVERT(_latin1 X'61E282AC62' USING utf8mb4)), (7, '', '')")
        cursor.execute("SELECT CONVERT(CAST(CONVERT(u USING latin1) AS BINARY) USING utf8mb4) FROM labels WHERE id IN (1, 6) ORDER BY id")
        assert cursor.fetchall() == (("\u00e9",), ("a\u20acb",))  # the proposal
    connection.close()
    name = "text that looks like UTF-8 read as latin1 (such as '\u00c3\u00a9' for '\u00e9')"
    assert findings(census(scene, "labels")) == {("l", name): (2, ["1", "6"]), ("u", name): (2, ["1", "6"])}


def test_index_entries(scene, flavor):
    """Values that no B-tree of PostgreSQL takes: the index is not created, and the census says how many there are."""
    if flavor != "mariadb":
        pytest.skip("an index of 2,800 bytes is more than the default of this server")
    scene.old.query("CREATE TABLE wide (id INT PRIMARY KEY, v VARCHAR(700) CHARACTER SET utf8mb4, KEY (v)) ENGINE=InnoDB ROW_FORMAT=DYNAMIC", database=scene.old_database)
    scene.write("INSERT INTO wide VALUES (1, REPEAT('\U0001f98a', 700)), (2, REPEAT('a', 700)), (3, REPEAT('\u20ac', 700)), (4, NULL)")
    assert findings(census(scene, "wide")) == {("v", "values too long for an index entry of PostgreSQL"): (1, ["1"])}
    scene.add_table("wide")
    scene.start_all()
    scene.check(tables=["wide"])
