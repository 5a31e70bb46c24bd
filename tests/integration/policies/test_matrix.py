"""Every kind of value that PostgreSQL cannot hold under every policy, see README.md."""
import json

import pytest

ADD_ALL = False

# Column → type, MySQL literal, rule, original bytes (text: as stored; a date: as MySQL writes it), declared value, that value as PostgreSQL shows it
LOSSES = {
    "zero": ("DATE", "'0000-00-00'", "zero date", b"0000-00-00", "1900-01-01", "1900-01-01"),
    "partly": ("DATETIME(3)", "'2024-00-10 01:02:03.456'", "zero date", b"2024-00-10 01:02:03.456000", "1900-01-01 00:00:00.5", "1900-01-01 00:00:00.5"),
    "year_zero": ("DATE", "'0000-05-05'", "zero date", b"0000-05-05", "infinity", "infinity"),
    "invalid": ("DATE", "'2023-02-29'", "invalid date", b"2023-02-29", "2023-03-01", "2023-03-01"),
    "invalid_time": ("DATETIME", "'2024-04-31 23:59:59'", "invalid date", b"2024-04-31 23:59:59.000000", "2024-05-01 00:00:00", "2024-05-01 00:00:00"),
    "instant": ("TIMESTAMP(6)", "'0000-00-00 00:00:00'", "zero date", b"0000-00-00 00:00:00.000000", "1970-01-01 00:00:00+00", "1970-01-01 00:00:00+00"),
    "nul": ("VARCHAR(20) CHARACTER SET utf8mb4", "X'61004200'", "U+0000", b"a\0B\0", "none", "none"),
    "nul_latin1": ("TEXT CHARACTER SET latin1", "_latin1 X'E900'", "U+0000", b"\xe9\0", "\u00e9", "\u00e9"),
    "nul_utf16": ("VARCHAR(20) CHARACTER SET utf16", "_utf16 X'006100000062'", "U+0000", b"\0a\0\0\0b", "", ""),
    "half": ("LONGTEXT CHARACTER SET utf8", "_utf8 X'41EDA0BD'", "invalid bytes", b"A\xed\xa0\xbd", "?", "?"),
    "sjis": ("VARCHAR(20) CHARACTER SET sjis", "_sjis X'418740'", "invalid bytes", b"A\x87\x40", "\u2460", "\u2460"),
    "gbk": ("CHAR(20) CHARACTER SET gbk", "_gbk X'FEFE'", "invalid bytes", b"\xfe\xfe", "x", "x"),
    "ascii": ("VARCHAR(20) CHARACTER SET ascii", "_binary X'C3A9'", "invalid bytes", b"\xc3\xa9", "e", "e"),
    "cp1251": ("TINYTEXT CHARACTER SET cp1251", "_cp1251 X'98CF'", "invalid bytes", b"\x98\xcf", "x", "x"),
}
GOOD = {name: "'2024-01-02'" if kind.startswith(("DATE", "TIME")) else "'ok'" for name, (kind, *_) in LOSSES.items()}


@pytest.fixture
def app(scene):
    connection = scene.app()
    with connection.cursor() as cursor:
        cursor.execute("SET sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00'")
        yield cursor
    connection.close()


def shown(scene, table, id_):
    names = ", ".join(f"({name} AT TIME ZONE 'UTC')::text || '+00'" if name == "instant" else f"{name}::text" for name in LOSSES)
    found = scene.sql(f"SELECT {names} FROM {table} WHERE id = %s", (id_,))
    return dict(zip(LOSSES, found[0])) if found else None


@pytest.mark.parametrize("policy", ["dead_letter", "null", "value", "sidecar"])
def test_policy(scene, app, policy):
    table = f"by_{policy}"
    columns = ", ".join(f"{name} {kind} NULL" for name, (kind, *_) in LOSSES.items())
    scene.old.query(f"CREATE TABLE {table} (id INT PRIMARY KEY, {columns}) ENGINE=InnoDB", database=scene.old_database)
    names = ", ".join(LOSSES)
    bad, good = (", ".join(values) for values in ([literal for _, literal, *_ in LOSSES.values()], GOOD.values()))
    app.execute(f"INSERT INTO {table} (id, {names}) VALUES (1, {bad}), (2, {good})")
    for number, (name, (_, literal, *_)) in enumerate(LOSSES.items(), 100):
        app.execute(f"INSERT INTO {table} (id, {name}) VALUES ({number}, {literal})")
    declared = {name: {"value": value} if policy == "value" else policy for name, (_, _, _, _, value, _) in LOSSES.items()}
    scene.add_table(table, policies=json.dumps(declared))
    scene.start_all()
    scene.wait_caught_up()
    app.execute(f"INSERT INTO {table} (id, {names}) VALUES (3, {bad}), (4, {good})")
    scene.wait_caught_up()
    app.execute(f"UPDATE {table} SET " + ", ".join(f"{name} = {literal}" for name, (_, literal, *_) in LOSSES.items()) + " WHERE id = 4")
    scene.wait_caught_up()
    letters = scene.value("SELECT count(*) FROM tandem.dead_letter JOIN tandem.source_table USING (table_id) WHERE name = %s", (table,))
    ids = [id_ for (id_,) in scene.sql(f"SELECT id FROM {table} ORDER BY id")]
    kept = {}
    for id_, name, rule, original in scene.sql("SELECT (tandem.decode_key(table_id, key) ->> 'id')::int, column_name, rule, original FROM tandem.sidecar"
                                               " JOIN tandem.source_table USING (table_id) WHERE name = %s", (table,)):
        kept[id_, name] = (rule, bytes(original))
    counted = {(name, rule, found): (times, now) for name, rule, found, times, now in scene.sql(
        "SELECT \"column\", rule, policy, times, kept FROM tandem.losses WHERE \"table\" = %s", (table,))}
    if policy == "dead_letter":
        # Row 4 stays as it was: good.
        assert ids == [2, 4] and letters == 3 + len(LOSSES) and not kept and not counted
        app.execute(f"UPDATE {table} SET " + ", ".join(f"{name} = {value}" for name, value in GOOD.items()))
        scene.check(tables=[table])
        return
    assert letters == 0 and ids == [1, 2, 3, 4, *range(100, 100 + len(LOSSES))]
    wanted = {name: value[5] if policy == "value" else None for name, value in LOSSES.items()}
    for id_ in (1, 3, 4):
        assert shown(scene, table, id_) == wanted
    assert None not in shown(scene, table, 2).values()
    # Each was written four times: alone, in the backfill, as a live row, and by the update.
    assert counted == {(name, rule, policy): (4, 4 if policy == "sidecar" else None) for name, (_, _, rule, *_) in LOSSES.items()}
    originals = {(id_, name): (rule, original) for number, (name, (_, _, rule, original, _, _)) in enumerate(LOSSES.items(), 100) for id_ in (1, 3, 4, number)}
    assert kept == (originals if policy == "sidecar" else {})
    # What was replaced as declared is no difference; an original that is lost or spoilt is one.
    reconcile = f"SELECT kind, key FROM tandem.reconcile('shop.{table}') ORDER BY key"
    assert scene.sql(reconcile) == []
    if policy == "sidecar":
        entry = "FROM tandem.source_table AS t WHERE t.table_id = s.table_id AND t.name = %s AND (tandem.decode_key(s.table_id, s.key) ->> 'id')::int = %s AND s.column_name = %s"
        scene.sql("UPDATE tandem.sidecar AS s SET original = s.original || '\\x00' " + entry, (table, 1, "sjis"))
        scene.sql("DELETE FROM tandem.sidecar AS s USING" + entry[4:], (table, 3, "zero"))
        assert scene.sql(reconcile) == [("different", {"id": 1}), ("different", {"id": 3})]
        scene.sql("SELECT tandem.repair(%s, dry_run => false)", (f"shop.{table}",))
        scene.wait_caught_up()
        assert scene.sql(reconcile) == []
    # Mended, and gone.
    app.execute(f"UPDATE {table} SET " + ", ".join(f"{name} = {value}" for name, value in GOOD.items()) + " WHERE id <> 3")
    app.execute(f"DELETE FROM {table} WHERE id = 3")
    scene.check(tables=[table])
    assert scene.value("SELECT count(*) FROM tandem.sidecar JOIN tandem.source_table USING (table_id) WHERE name = %s", (table,)) == 0
