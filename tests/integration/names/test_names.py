"""See README.md."""
import pytest

ADD_ALL = False

# Table → columns, the first so many of them are the key. All are INT.
TABLES = {
    # PostgreSQL has system columns of these names in every table; oid is one no more, XMIN never was one.
    "system columns": (["id", "xmin", "xmax", "cmin", "cmax", "ctid", "tableoid", "oid"], 1),
    "system key": (["xmin", "CTID"], 1),
    # Names inside pg_tandem's own statements, on either side.
    "own": (["id", "t", "s", "k1", "k2", "number", "excluded", "tandem_id", "tandem_removes", "tandem_at", "tandem_row_number", "tandem_k1", "tandem_kept_row",
             "tandem_kept_1", "tandem_rows", "tandem_keys", "tandem value", "value"], 1),
    "t": (["t", "s", "k1", "a"], 3),
    "s": (["k1", "t", "a"], 2),
    "outbox": (["tandem_id", "tandem_removes", "tandem_at", "a"], 3),
    "tandem_rows": (["id", "a"], 1), "tandem_keys": (["id", "a"], 1), "tandem_shape": (["id", "a"], 1), "queue": (["id", "a"], 1),
    "source_table": (["id", "a"], 1), "pg_class": (["oid", "relname"], 1), "capture_gap": (["gap_id", "at"], 1),
    # For the parsers of both.
    "select": (["from", "order", "User", "table", "a b", 'q"u', "b`t", "x'y", "per%cent", "%s", "a.b", "back\\slash", "$1", "1", ":x", "?"], 1),
    "a.b c`d\"e'f%g\\": (["id", "a"], 1),
    '{"a": [1]}': (["{}", "[1]"], 1),
    " lead": ([" id", "a\tb", "c\nd"], 1),
    # Case and alphabets.
    "Users": (["ID", "Name"], 1), "users": (["ID", "name"], 1),
    "\u65e5\u672c\u8a9e": (["\u30ad\u30fc", "\u00fcn\u00ef", "e\u0301", "\u00e9"], 1),
    # 64 characters; the second and the third differ only behind the 63rd byte.
    "t" * 64: (["id", "c" * 63 + "1", "c" * 63 + "2", "\u00fc" * 64], 1),
    "\u00fc" * 63 + "1": (["\u00e9" * 64, "b"], 1), "\u00fc" * 63 + "2": (["\u00e9" * 63, "b"], 1),
}

RENAMED = {"xmin", "xmax", "cmin", "cmax", "ctid", "tableoid", "c" * 63 + "1", "c" * 63 + "2", "\u00fc" * 64, "\u00e9" * 64, "\u00e9" * 63}


def quoted(name):
    return "`" + name.replace("`", "``") + "`"


@pytest.fixture(scope="module")
def filled(scene):
    for table, (columns, key) in TABLES.items():
        definitions = ", ".join(f"{quoted(c)} INT NOT NULL" if i < key else f"{quoted(c)} INT" for i, c in enumerate(columns))
        scene.old.query(f"CREATE TABLE {quoted(table)} ({definitions}, PRIMARY KEY ({', '.join(map(quoted, columns[:key]))})) ENGINE=InnoDB",
                        database=scene.old_database)
        insert(scene, table, range(1, 4))
    scene.add_and_start("%")
    return scene


def insert(scene, table, numbers):
    columns, _ = TABLES[table]
    scene.write(*(f"INSERT INTO {quoted(table)} VALUES ({', '.join(str(100 * number + i) for i in range(len(columns)))})" for number in numbers))


def mapping(scene):
    """From the catalog: which target and which columns."""
    found = []
    for table_id, name, target in scene.sql("SELECT table_id, name, format('%I.%I', n.nspname, c.relname) FROM tandem.source_table t"
                                            " JOIN pg_class c ON c.oid = t.target JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY 1"):
        columns = [{"source": old, "target": new} for old, new in
                   scene.sql("SELECT source_column, name FROM tandem.target_column WHERE table_id = %s", (table_id,))]
        found.append({"source": name, "target": target, "columns": columns})
    return found


def test_every_table_is_there(filled):
    """Names as they are, but for the longest and those of system columns."""
    mapped = {table["source"]: table for table in mapping(filled)}
    assert set(mapped) == set(TABLES)
    for table, (columns, _) in TABLES.items():
        new = {c["source"]: c["target"] for c in mapped[table]["columns"]}
        assert set(new) == set(columns)
        assert {old for old in columns if new[old] != old} == set(columns) & RENAMED
        assert len(set(new.values())) == len(columns)
    assert new_name(filled, "system columns", "xmin") == "xmin_" + filled.value("SELECT left(md5('xmin'), 8)")
    assert filled.value("SELECT count(*) FROM tandem.source_table t JOIN pg_class c ON c.oid = t.target WHERE octet_length(relname) = 63") == 3


def new_name(scene, table, column):
    return scene.value("SELECT m.name FROM tandem.target_column m JOIN tandem.source_table t USING (table_id) WHERE t.name = %s AND source_column = %s", (table, column))


def test_rows(filled):
    for table, (columns, key) in TABLES.items():
        insert(filled, table, range(4, 8))
        filled.write(f"UPDATE {quoted(table)} SET {quoted(columns[-1])} = -1 WHERE {quoted(columns[0])} IN (100, 400)",
                     f"UPDATE {quoted(table)} SET {quoted(columns[0])} = 9 WHERE {quoted(columns[0])} = 500",
                     f"DELETE FROM {quoted(table)} WHERE {quoted(columns[0])} IN (200, 600)")
    filled.check(mapping=mapping(filled))


def test_census_and_enqueue(filled):
    for table, (columns, key) in TABLES.items():
        assert len(filled.sql("SELECT * FROM tandem.census('shop', %s)", (table,))) == len(columns), table
    filled.sql("SELECT tandem.enqueue('shop.system key', '{\"xmin\": 100}')")
    filled.sql("SELECT tandem.enqueue('shop.own', '{\"id\": 100}')")
    filled.check(mapping=mapping(filled))


def test_renamed_columns_in_expressions(scene, flavor):
    """In expressions a renamed column goes by its new name; as a whole value by either."""
    scene.old.query("CREATE TABLE written (id INT PRIMARY KEY, xmin INT, `tandem value` INT, `a b` INT) ENGINE=InnoDB", database=scene.old_database)
    scene.write("INSERT INTO written VALUES (1, 10, 20, 30)")
    renamed = scene.value("SELECT tandem._column_name('xmin')::text")
    scene.sql("CREATE TABLE rewritten (id int PRIMARY KEY, twice int, same int, sum int)")
    scene.sql("SELECT tandem.add_table('shop', 'written', 'rewritten', jsonb_build_object('twice', %s, 'same', 'xmin', 'sum', '\"tandem value\" + \"a b\"'), \"where\" => '\"tandem value\" > 0')",
              (f"{renamed} * 2",))
    scene.start_all()
    scene.write("INSERT INTO written VALUES (2, 1, 0, 1), (3, 5, 6, 7)")
    scene.wait_caught_up()
    assert scene.sql("SELECT * FROM rewritten ORDER BY id") == [(1, 20, 10, 50), (3, 10, 5, 13)]
