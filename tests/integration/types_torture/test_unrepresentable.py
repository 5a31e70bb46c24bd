"""Values that PostgreSQL cannot hold, see README.md. Without a policy each is a dead letter, in keys always."""
import json

import pytest

from lib.process import wait_until

ADD_ALL = False

# What an old database may hold: (column definition, MySQL literal, SQLSTATE). The bytes are stored as they are and read back by the old
# server as '?', or as text that is no UTF-8.
TEXTS = {
    "sjis": ("VARCHAR(20) CHARACTER SET sjis", "_sjis X'8740'"),         # a character of cp932 only
    "gbk": ("VARCHAR(20) CHARACTER SET gbk", "_gbk X'FEFE'"),
    "cp1251": ("VARCHAR(20) CHARACTER SET cp1251", "_cp1251 X'98'"),
    "ujis": ("VARCHAR(20) CHARACTER SET ujis", "_ujis X'F4FE'"),
    "ascii": ("VARCHAR(20) CHARACTER SET ascii", "_binary X'E9'"),
    "ascii_utf8": ("VARCHAR(20) CHARACTER SET ascii", "_binary X'41C58A'"),  # would be a letter in UTF-8
    "utf8": ("VARCHAR(20) CHARACTER SET utf8", "_utf8 X'EDA0BD'"),       # half of a surrogate pair
    "utf8mb4": ("VARCHAR(20) CHARACTER SET utf8mb4", "X'EDA0BD'"),
    "ucs2": ("VARCHAR(20) CHARACTER SET ucs2", "_ucs2 X'D83D'"),
    "utf32": ("VARCHAR(20) CHARACTER SET utf32", "_utf32 X'0000D83D'"),
    "latin1": ("VARCHAR(20) CHARACTER SET latin1", "X'410042'"),         # U+0000
}
DATES = {
    "zero": ("DATE", "'0000-00-00'"),
    "partly": ("DATETIME(3)", "'2024-00-10 01:02:03.456'"),
    "invalid": ("DATE", "'2024-02-30'"),
    "instant": ("TIMESTAMP", "'0000-00-00 00:00:00'"),
}
STATES = {**dict.fromkeys(TEXTS, "22021"), **dict.fromkeys(DATES, "22008")}


def lenient(scene):
    connection = scene.app()
    connection.query("SET sql_mode = 'ALLOW_INVALID_DATES'")
    return connection


def insert(cursor, table, offset):
    for number, (name, (_, value)) in enumerate({**TEXTS, **DATES}.items(), 1):
        cursor.execute(f"INSERT INTO {table} (id, `{name}`) VALUES ({offset + number}, {value})")
    cursor.execute(f"INSERT INTO {table} (id, sjis, latin1, zero) VALUES ({offset + 99}, 'a?', '?', '2024-01-01')")


def dead_letters(scene, table):
    return scene.sql("SELECT tandem.decode_key(d.table_id, d.key) ->> 'id', d.sqlstate FROM tandem.dead_letter d JOIN tandem.source_table t USING (table_id)"
                     " WHERE t.name = %s ORDER BY 1", (table,))


def test_dead_letters_by_default(scene):
    columns = ", ".join(f"`{name}` {kind} NULL" for name, (kind, _) in {**TEXTS, **DATES}.items())
    scene.old.query(f"CREATE TABLE plain (id INT NOT NULL PRIMARY KEY, {columns}) CHARACTER SET utf8mb4 ENGINE=InnoDB", database=scene.old_database)
    connection = lenient(scene)
    with connection.cursor() as cursor:
        insert(cursor, "plain", 0)
        scene.add_and_start("plain")
        insert(cursor, "plain", 1000)
    scene.wait_caught_up()
    names = list({**TEXTS, **DATES})
    wanted = sorted((str(offset + n), STATES[name]) for offset in (0, 1000) for n, name in enumerate(names, 1))
    assert dead_letters(scene, "plain") == wanted
    assert scene.sql("SELECT id, sjis, latin1, zero::text FROM plain ORDER BY id") == [(99, "a?", "?", "2024-01-01"), (1099, "a?", "?", "2024-01-01")]
    with connection.cursor() as cursor:
        for number, name in enumerate(names, 1):
            cursor.execute(f"UPDATE plain SET `{name}` = NULL WHERE id IN ({number}, {1000 + number})")
    connection.close()
    scene.wait_caught_up()
    wait_until(lambda: not scene.dead_letters(), 20, 0.1, "the dead letters to be superseded")
    scene.check(tables=["plain"])


@pytest.mark.parametrize("name", ["sjis", "ascii", "utf8", "latin1", "zero", "partly"])
def test_keys(scene, name):
    """A key that PostgreSQL cannot hold is a dead letter: no row is written or removed under another key, and backfill goes on behind it."""
    kind, bad = {**TEXTS, **DATES}[name]
    low, high, question = ("'1999-01-01'", "'2030-01-01'", "'2001-01-01'") if name in DATES else ("'!'", "_latin1 X'7A7A'", "'?'")
    table = f"key_{name}"
    scene.old.query(f"CREATE TABLE {table} (k {kind} NOT NULL PRIMARY KEY, v INT) CHARACTER SET utf8mb4 ENGINE=InnoDB", database=scene.old_database)
    connection = lenient(scene)
    with connection.cursor() as cursor:
        for number, value in enumerate((low, bad, high, question), 1):
            cursor.execute(f"INSERT INTO {table} VALUES ({value}, {number})")
        scene.sql("SELECT tandem.add_tables('shop', %s)", (table,))
        scene.start_all()
        scene.wait_caught_up()
        wait_until(lambda: scene.value("SELECT bool_and(backfill_done) FROM tandem.table_state"), 20, 0.1, "the backfill")
        assert scene.sql(f"SELECT v FROM {table} ORDER BY v") == [(1,), (3,), (4,)]
        assert [d[0] for d in scene.dead_letters()] == [table]
        cursor.execute(f"UPDATE {table} SET v = v + 10")
        scene.wait_caught_up()
        assert scene.sql(f"SELECT v FROM {table} ORDER BY v") == [(11,), (13,), (14,)]
        assert [d[0] for d in scene.dead_letters()] == [table]
        # It is shown, not asked for again, and can be given up; the row's next change brings it back, and its end takes it away.
        key = scene.value("SELECT key FROM tandem.dead_letters")
        assert set(key) == {"bytes"} and scene.value("SELECT tandem.retry_dead_letters()") == 0
        assert scene.value("SELECT tandem.discard_dead_letter(%s, %s)", (table, json.dumps(key))) and not scene.dead_letters()
        cursor.execute(f"UPDATE {table} SET v = 12 WHERE v = 12")
        scene.wait_caught_up()
        assert scene.value("SELECT key FROM tandem.dead_letters") == key
        cursor.execute(f"DELETE FROM {table} WHERE v = 12")
        scene.wait_caught_up()
        assert scene.sql(f"SELECT v FROM {table} ORDER BY v") == [(11,), (13,), (14,)], "nothing goes away under another key"
    connection.close()
    scene.check(tables=[table])


def test_composite_keys(scene):
    """Two keys that look the same when they are joined are two dead letters; a key that is mended is one no more."""
    scene.old.query("CREATE TABLE composite (a VARCHAR(20), b VARCHAR(20), v INT, PRIMARY KEY (a, b)) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin ENGINE=InnoDB", database=scene.old_database)
    connection = lenient(scene)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO composite VALUES ('x,y', X'7A00', 1), ('x', X'792C7A00', 2), (X'00', '', 3), ('', X'00', 4), ('fine', '', 5)")
        scene.sql("SELECT tandem.add_tables('shop', 'composite')")
        scene.start_all()
        scene.wait_caught_up()
        assert len(scene.dead_letters()) == 4
        cursor.execute("DELETE FROM composite WHERE v = 1")
        cursor.execute("UPDATE composite SET a = 'mended', v = 30 WHERE v = 3")
        scene.wait_caught_up()
        assert len(scene.dead_letters()) == 2
        assert scene.sql("SELECT a, b, v FROM composite ORDER BY v") == [("fine", "", 5), ("mended", "", 30)]
        cursor.execute("UPDATE composite SET b = 'b', v = v * 10 WHERE b LIKE '%\0'")
        scene.wait_caught_up()
    connection.close()
    scene.check(tables=["composite"])
