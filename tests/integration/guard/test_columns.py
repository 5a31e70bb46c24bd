"""Columns that come and go on the old side, and what needs somebody's word: see README.md."""
import sys
import time
from pathlib import Path

from lib.process import wait_until

sys.path.insert(0, str(Path(__file__).parent))

from watching import Watched, Writes, blocked, old, times, wait_sync  # noqa: E402


def changes(scene, table):
    return scene.sql('SELECT "column", change, old_type, new_type, call FROM tandem.schema_changes WHERE "table" = %s ORDER BY 1', (table,))


def wait_change(scene, table, column, change):
    wait_until(lambda: [c for c in changes(scene, table) if c[:2] == (column, change)], 30, 0.05, f"{column} of {table} to be {change}")
    return next(c for c in changes(scene, table) if c[0] == column)


def test_added_column_is_offered_and_taken(scene):
    with Writes(scene, "altered", columns="v"):
        old(scene, "ALTER TABLE altered ADD fresh VARCHAR(30) DEFAULT 'given', ADD other DECIMAL(6,2)")
        found = wait_change(scene, "altered", "fresh", "added")
        wait_sync(scene, "altered")
        scene.write("INSERT INTO altered VALUES (500, 5, 'w', 'own', 1.25)", "UPDATE altered SET fresh = 'changed' WHERE id = 1")
        scene.sql(found[4])
        scene.sql(wait_change(scene, "altered", "other", "added")[4])
        assert changes(scene, "altered") == []
        wait_until(lambda: scene.states()["altered"] == "syncing" and scene.value("SELECT count(*) FROM altered WHERE fresh IS NOT NULL"), 60, 0.1,
                   "the new columns to be filled")
    scene.check()
    assert scene.value("SELECT other FROM altered WHERE id = 500") is not None


def test_columns_in_a_row(scene):
    """Each begins to copy the table anew; the end of the copy before, wherever it is on its way, ends nothing any more."""
    names = [f"c{i}" for i in range(16)]
    old(scene, "CREATE TABLE wide (id INT NOT NULL PRIMARY KEY, v INT, " + ", ".join(f"{c} INT DEFAULT 1" for c in names) + ") ENGINE=InnoDB",
        "INSERT INTO wide (id, v) VALUES " + ", ".join(f"({i}, {i})" for i in range(10)))
    scene.sql("CREATE TABLE wide (id integer PRIMARY KEY, v integer)")
    scene.add_table("wide", target="wide")
    scene.sql("SELECT tandem.start('wide')")
    wait_sync(scene, "wide")
    with Writes(scene, "wide", columns="v"):
        for i, name in enumerate(names):
            scene.sql(f"ALTER TABLE wide ADD COLUMN {name} integer")
            scene.sql("SELECT tandem.add_column('wide', %s)", (name,))
            time.sleep(i % 7 * 0.012)
        wait_until(lambda: scene.states()["wide"] == "syncing", 180, 0.1, "wide to be in sync")
    scene.check()
    scene.sql("SELECT tandem.drop_table('wide')")
    wait_until(lambda: "wide" not in scene.states(), 60, 0.1, "wide to be forgotten")
    old(scene, "DROP TABLE wide")


def test_column_that_is_not_read_is_dropped_and_retyped(scene):
    old(scene, "CREATE TABLE half (id INT NOT NULL PRIMARY KEY, a INT, b INT, c INT) ENGINE=InnoDB", "INSERT INTO half VALUES (1, 1, 1, 1), (2, 2, 2, 2)")
    scene.sql("CREATE TABLE half (id integer PRIMARY KEY, c integer)")
    scene.add_table("half", target="half")
    scene.sql("SELECT tandem.start('half')")
    wait_sync(scene, "half")
    with Writes(scene, "half", columns="c"):
        old(scene, "ALTER TABLE half DROP a")
        wait_change(scene, "half", "a", "left out")
        scene.write("UPDATE half SET c = 10 WHERE id = 1")
        old(scene, "ALTER TABLE half MODIFY b VARCHAR(40)")
        wait_change(scene, "half", "b", "left out")
        scene.write("UPDATE half SET c = 20, b = 'text' WHERE id = 2", "INSERT INTO half VALUES (3, 'x', 3)")
    wait_sync(scene, "half")
    scene.wait_caught_up()
    assert sorted(scene.sql("SELECT id, c FROM half")) == sorted(scene.old.query("SELECT id, c FROM half", database=scene.old_database))
    assert scene.dead_letters() == []
    # The one that is there may be moved after all.
    scene.sql("ALTER TABLE half ADD COLUMN b text")
    scene.sql("SELECT tandem.add_column('half', 'b')")
    wait_until(lambda: scene.states()["half"] == "syncing" and scene.value("SELECT count(b) FROM half") >= 2, 60, 0.1, "column b to be filled")
    scene.wait_caught_up()
    assert sorted(scene.sql("SELECT id, c, b FROM half"), key=str) == sorted(scene.old.query("SELECT id, c, b FROM half", database=scene.old_database), key=str)
    scene.sql("SELECT tandem.drop_table('half')")
    wait_until(lambda: "half" not in scene.states(), 30, 0.1, "half to be forgotten")
    old(scene, "DROP TABLE half")


def test_null_is_allowed(scene):
    old(scene, "ALTER TABLE texts MODIFY v INT NOT NULL")
    wait_change(scene, "texts", "v", "nullability")
    old(scene, "ALTER TABLE texts MODIFY v INT NULL")
    wait_until(lambda: changes(scene, "texts") == [], 30, 0.1, "the change to be undone")
    wait_sync(scene, "texts")
    scene.check()


def test_not_by_itself(scene):
    scene.sql("ALTER SYSTEM SET tandem.auto_resync = off")
    scene.sql("SELECT pg_reload_conf()")
    try:
        old(scene, "TRUNCATE emptied")
        scene.write("INSERT INTO emptied VALUES (2, 'again')")
        assert "TRUNCATE" in blocked(scene, "emptied")
        scene.sql("SELECT tandem.resume('emptied')")
        wait_sync(scene, "emptied")
    finally:
        scene.sql("ALTER SYSTEM RESET tandem.auto_resync")
        scene.sql("SELECT pg_reload_conf()")
    scene.check()


def test_paused_meanwhile(scene):
    scene.sql("SELECT tandem.pause('hit')")
    scene.wait_state("hit", "paused")
    with Watched(scene, "hit"):
        old(scene, "TRUNCATE hit")
        scene.write("INSERT INTO hit VALUES (9, 'nine')")
    assert scene.states()["hit"].startswith("paused")
    scene.sql("SELECT tandem.resume('hit')")
    wait_sync(scene, "hit")
    scene.check()


def test_without_the_privilege(scene):
    for host in ("localhost", "127.0.0.1", "%"):
        scene.old.query(f"REVOKE PROCESS ON *.* FROM 'tandem'@'{host}'")
    scene.worker.stop()
    scene.worker.start()
    try:
        wait_until(lambda: "PROCESS" in (scene.value("SELECT coalesce(trouble, '') FROM tandem.pg_stat_tandem_guard")), 30, 0.1, "the guard to say what it lacks")
        scene.write("INSERT INTO bystander (v) VALUES (1), (2), (3), (4)")
        scene.check()
        wait_until(lambda: scene.value("SELECT seconds_since_look < 3 FROM tandem.pg_stat_tandem_guard"), 30, 0.1, "a look")
        time.sleep(5)  # it must have seen the counter
        with Watched(scene, "bystander") as seen:
            old(scene, "TRUNCATE bystander")
        assert seen.cause == "truncated", seen.reason
        wait_sync(scene, "bystander")
        with Watched(scene, "texts") as seen:
            old(scene, "ALTER TABLE texts COMMENT 'altered'")
        assert seen.cause == "rebuilt" and "PROCESS" in seen.reason, seen.reason
        wait_sync(scene, "texts")
        scene.check()
    finally:
        for host in ("localhost", "127.0.0.1", "%"):
            scene.old.query(f"GRANT PROCESS, REPLICATION CLIENT ON *.* TO 'tandem'@'{host}'")
        scene.worker.stop()
        scene.worker.start()
    wait_until(lambda: scene.value("SELECT trouble IS NULL FROM tandem.pg_stat_tandem_guard"), 30, 0.1, "the guard to be well")


def test_another_server(scene):
    before = {t: times(scene, t) for t in scene.states()}
    old(scene, f"UPDATE `{scene.metadata}`.server_mark SET id = 'another'")
    wait_until(lambda: all(s.startswith("blocked") for s in scene.states().values()), 30, 0.1, "all tables to be blocked")
    assert "another server" in scene.states()["hit"]
    scene.write("DELETE FROM hit WHERE id = 9", "INSERT INTO hit VALUES (10, 'ten')")
    scene.sql("SELECT tandem.resume()")
    wait_until(lambda: set(scene.states().values()) == {"syncing"}, 90, 0.1, "all tables to be in sync")
    assert all(times(scene, t) > before[t] for t in before)
    scene.check()
