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
