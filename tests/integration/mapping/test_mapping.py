"""See README.md."""
import json

ADD_ALL = False

MAPPING = [{"source": "users", "target": "accounts.people", "key": ["id"], "columns": [
    {"source": "id", "target": "id"},
    {"source": "first", "target": "given name"},
    {"source": "last", "target": "family"},
    {"sql": "is_admin <> 0", "kind": "bool", "target": "admin"},
    {"sql": "CAST(CAST(cents AS DECIMAL(20,0)) / 100 AS DECIMAL(20,2))", "kind": "decimal", "target": "balance"},
    {"sql": "CONCAT(UPPER(first), '-', COALESCE(last, '?'))", "kind": "text", "target": "label"},
]}]


def test_mapped_columns(scene):
    scene.sql('''CREATE SCHEMA accounts; CREATE TABLE accounts.people (
        id integer PRIMARY KEY, "given name" text NOT NULL, family varchar(30), admin boolean NOT NULL, balance numeric(20,2), label text,
        imported boolean NOT NULL DEFAULT true, remark text DEFAULT 'none')''')
    scene.add_table("users", target="accounts.people", columns=json.dumps({
        "id": "id", "given name": "first", "family": "last", "admin": "is_admin <> 0", "balance": "(cents::numeric / 100)::numeric(20,2)",
        "label": "upper(first) || '-' || coalesce(last, '?')"}))
    scene.start_all()
    scene.check(mapping=MAPPING)
    scene.write("INSERT INTO users (first, last, is_admin, cents) VALUES ('Zo\u00eb', 'X', 0, 5)", "UPDATE users SET is_admin = 0, cents = cents * 7 WHERE id = 1",
                "UPDATE users SET id = 50 WHERE id = 2", "DELETE FROM users WHERE id = 3", "UPDATE users SET secret = 'not mapped'")
    scene.check(mapping=MAPPING)
    assert scene.sql("SELECT DISTINCT imported, remark FROM accounts.people") == [(True, "none")]
    # What belongs to the new side only is left alone by later changes of the row.
    scene.sql("UPDATE accounts.people SET remark = 'mine' WHERE id = 1")
    scene.write("UPDATE users SET last = 'Lovelace' WHERE id = 1")
    scene.check(mapping=MAPPING)
    assert scene.value("SELECT remark FROM accounts.people WHERE id = 1") == "mine"


def test_generated_columns(scene, flavor):
    """A column that PostgreSQL computes is not written, and belongs to what is compared: with the old column of the same name, computed there as well or
    not, or with the one that `columns` names."""
    if flavor == "mariadb":
        computed = "total INT AS (a + b) VIRTUAL, label VARCHAR(20) AS (CONCAT(a, '-', b)) STORED"
        insert = "INSERT INTO computed (id, a, b, plain) VALUES "
    else:
        computed, insert = "total INT, label VARCHAR(20)", "INSERT INTO computed (id, a, b, plain, total, label) VALUES "
    rows = [f"({i}, {i}, {i * 2}, {i * 10}" + ("" if flavor == "mariadb" else f", {i * 3}, '{i}-{i * 2}'") + ")" for i in range(1, 6)]
    scene.old.query(f"CREATE TABLE computed (id INT PRIMARY KEY, a INT, b INT, plain INT, {computed}) ENGINE=InnoDB", database=scene.old_database)
    scene.sql("CREATE TABLE computed (id int PRIMARY KEY, a int, b int, total int GENERATED ALWAYS AS (a + b) STORED,"
              " ten_times bigint GENERATED ALWAYS AS (a::bigint * 10) STORED, label text, own int GENERATED ALWAYS AS (a * 7) STORED, plain text GENERATED ALWAYS AS ('x') STORED)")
    scene.write(insert + ", ".join(rows[:3]))
    scene.sql("SELECT tandem.add_table('shop', 'computed', 'computed', '{\"ten_times\": \"plain\", \"plain\": null}')")
    found = scene.sql("SELECT m.name, m.source_column, m.written FROM tandem.target_column m JOIN tandem.source_table t USING (table_id) WHERE t.name = 'computed' ORDER BY 1")
    assert found == [("a", "a", True), ("b", "b", True), ("id", "id", True), ("label", "label", True), ("ten_times", "plain", False), ("total", "total", False)]
    scene.start_all()
    scene.write(insert + ", ".join(rows[3:]), "UPDATE computed SET a = 50" + ("" if flavor == "mariadb" else ", total = 50 + b, label = CONCAT(50, '-', b)") + ", plain = 500 WHERE id = 2",
                "DELETE FROM computed WHERE id = 1")
    columns = [{"source": c, "target": c} for c in ("id", "a", "b", "total", "label")] + [{"source": "plain", "target": "ten_times"}]
    scene.check(mapping=[{"source": "computed", "target": "public.computed", "columns": columns}])
    table_id = scene.value("SELECT table_id FROM tandem.source_table WHERE name = 'computed'")
    assert {name for (name,) in scene.sql("SELECT name FROM tandem._compared_columns(%s)", (table_id,))} == {"id", "a", "b", "label", "total", "ten_times"}
    assert scene.value("SELECT mapping FROM tandem.tables WHERE \"table\" = 'computed'") == {c: c for c in ("id", "a", "b", "label")}
    assert scene.sql("SELECT * FROM tandem.census('shop.computed')")
