"""See README.md."""
import re

import psycopg2
import pytest

ADD_ALL = False


def refused(scene, table, sqlstate):
    with pytest.raises(psycopg2.Error) as caught:
        scene.add_table(table)
    assert caught.value.pgcode == sqlstate, caught.value
    assert table in caught.value.diag.message_primary
    assert caught.value.diag.message_hint, "a refusal names the way out"
    return caught.value.diag.message_hint


def moves(scene, table, *changes):
    scene.add_table(table)
    scene.sql("SELECT tandem.start(%s)", (table,))
    scene.wait_caught_up()
    scene.write(*changes)
    scene.check(tables=[table])


CHANGES = ["UPDATE {} SET v = v * 10", "DELETE FROM {} WHERE id = 1", "INSERT INTO {} VALUES (7, 7)", "UPDATE {} SET id = 8 WHERE id = 7"]


@pytest.mark.parametrize("table, sqlstate, word, way_out", [
    ("no_key", "42P16", "key", "ALTER TABLE no_key ADD PRIMARY KEY (id)"),
    ("null_key", "42P16", "NOT NULL", "ALTER TABLE null_key MODIFY id INT NOT NULL"),
    ("no_transactions", "0A000", "InnoDB", "ALTER TABLE no_transactions ENGINE=InnoDB"),
])
def test_way_out(scene, table, sqlstate, word, way_out):
    assert word in refused(scene, table, sqlstate)
    scene.old.query(way_out, database=scene.old_database)
    moves(scene, table, *(change.format(table) for change in CHANGES))


def test_trigger_slot_taken(scene):
    """Servers with one trigger per table, timing and event say which is in the way; the others run it beside ours."""
    if scene.old.flavor == "mysql56":
        refused(scene, "taken", "55006")
        body = scene.old.query("SHOW CREATE TRIGGER theirs", database=scene.old_database)
        assert body and scene.value("SELECT count(*) FROM tandem.source_table WHERE name = 'taken'") == 0
        scene.old.query("DROP TRIGGER theirs", database=scene.old_database)
    moves(scene, "taken", *(change.format("taken") for change in CHANGES))


def test_missing_privilege(scene):
    """The hint is the GRANT, complete."""
    scene.old.query("CREATE TABLE later (id INT NOT NULL PRIMARY KEY, v INT) ENGINE=InnoDB", database=scene.old_database)
    for host in ("localhost", "127.0.0.1", "%"):
        scene.old.query(f"REVOKE TRIGGER ON `{scene.old_database}`.* FROM 'tandem'@'{host}'")
    hint = refused(scene, "later", "42501")
    grant = re.search(r"GRANT [A-Z, ]*TRIGGER[A-Z, ]* ON \S+ TO \S+@[^; \n]+", hint)
    assert grant, hint  # with all that is needed on this database: under the escaped name it stands alone
    scene.old.query(grant[0])
    moves(scene, "later", "INSERT INTO later VALUES (1, 1)")


def test_unknown_table(scene):
    with pytest.raises(psycopg2.Error) as caught:
        scene.add_table("nowhere")
    assert caught.value.pgcode == "42P01" and "nowhere" in caught.value.diag.message_primary and caught.value.diag.message_hint
