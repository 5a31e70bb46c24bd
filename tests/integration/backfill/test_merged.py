"""Histories that cannot go straight into the target (expressions, a filter, policies, rows that are there already) are merged by the copiers: under
writers and kills. And what happens to the old table in the midst of a direct copy: capture lost, swapped, altered."""
import json
import random
import sys
import threading
from pathlib import Path

import pymysql
import pytest

from lib.process import wait_until

sys.path.insert(0, str(Path(__file__).parent))
from keys import Writer, create, fill  # noqa: E402

ROWS = 3000
TABLES = ("m_expression", "m_filter", "m_policy", "m_kept")


class Changes(threading.Thread):
    """Inserts, updates, deletes and moves of keys in all tables until it is stopped."""

    def __init__(self, scene):
        super().__init__(daemon=True)
        self.scene, self.random, self.stopping, self.committed, self.error = scene, random.Random(5), threading.Event(), 0, None

    def run(self):
        connection = self.scene.app()
        with connection.cursor() as cursor:
            cursor.execute("SET sql_mode = 'ALLOW_INVALID_DATES'")
            while not self.stopping.is_set():
                table, id_, v = self.random.choice(TABLES), self.random.randrange(ROWS + 300), self.random.randrange(1000)
                day = self.random.choice(["'0000-00-00'", "'2024-02-30'", "'2024-02-28'", "NULL"])
                statement = self.random.choice([
                    f"UPDATE {table} SET v = {v}, note = 'changed {v}', day = {day} WHERE id = {id_}", f"DELETE FROM {table} WHERE id = {id_}",
                    f"REPLACE INTO {table} VALUES ({id_}, {v}, 'again', {day})", f"UPDATE {table} SET id = {self.random.randrange(ROWS + 300)} WHERE id = {id_}"])
                try:
                    cursor.execute(statement)
                    self.committed += 1
                except pymysql.err.MySQLError as error:
                    if error.args[0] not in (1062, 1205, 1213):
                        self.error = error
                        return
        connection.close()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        self.join(60)
        assert self.error is None, self.error


def add(scene):
    for table in TABLES:
        scene.old.query(f"CREATE TABLE {table} (id INT PRIMARY KEY, v INT NOT NULL, note VARCHAR(60), day DATE) ENGINE=InnoDB", database=scene.old_database)
        for first in range(0, ROWS, 1000):
            scene.old.query(f"INSERT INTO {table} VALUES " + ",".join(f"({n}, {n % 97}, 'note {n}', NULL)" for n in range(first, first + 1000)), database=scene.old_database)
    scene.sql("""CREATE TABLE m_expression (id int PRIMARY KEY, twice bigint, odd boolean, note text);
        CREATE TABLE m_filter (id int PRIMARY KEY, v int, note text, day text);
        CREATE TABLE m_kept (id int PRIMARY KEY, v int, note text, day text);
        INSERT INTO m_kept SELECT n, -1, 'was here', NULL FROM generate_series(0, 2000, 7) AS n""")
    scene.add_table("m_expression", target="m_expression", columns=json.dumps({"twice": "v * 2::bigint", "odd": "v % 2 = 1"}))
    dates = {"day": "CASE WHEN day IS NOT NULL THEN 'a day' END"}
    null = json.dumps({"day": "null"})
    scene.sql("SELECT tandem.add_table('shop', 'm_filter', 'm_filter', columns => %s, policies => %s, \"where\" => 'v %% 3 <> 0')", (json.dumps(dates), null))
    scene.add_table("m_policy", policies=null)
    scene.add_table("m_kept", target="m_kept", columns=json.dumps(dates), policies=null, on_existing="keep")


def rows(scene, table):
    old = {row[0]: row[1:] for row in scene.old.query(f"SELECT id, v, note, CAST(day AS CHAR) FROM {table}", database=scene.old_database)}
    return old, {row[0]: row[1:] for row in scene.sql(f"SELECT * FROM {table}")}


def check(scene):
    """By rules written here, not those of the product."""
    scene.wait_caught_up(120)
    assert scene.dead_letters() == []
    good = {"2024-02-28"}
    for table in TABLES:
        old, new = rows(scene, table)
        wanted = {}
        for id_, (v, note, day) in old.items():
            if table == "m_expression":
                wanted[id_] = (v * 2, v % 2 == 1, note)
            elif table == "m_policy":
                wanted[id_] = (v, note, day if day in good else None)
            elif table == "m_kept" or v % 3 != 0:
                wanted[id_] = (v, note, "a day" if day in good else None)
        found = {id_: tuple(str(x) if hasattr(x, "isoformat") else x for x in row) for id_, row in new.items()}
        if table == "m_kept":  # rows that only the target had stay, as was asked for
            found = {id_: row for id_, row in found.items() if id_ in wanted or row[1] != "was here"}
        assert found == wanted, table


@pytest.mark.parametrize("step", [None, "backfill:in_read_chunk:5", "backfill:before_end_chunk:4", "backfill:after_commit:3", "pump:before_discard"])
def test_merged_under_load(direct_scene, settings, step):
    scene = direct_scene
    settings.set(backfill_chunk_time="20ms")
    worker = scene.run_worker(failpoint=step and f"{step}=kill")
    scene.add_source()
    add(scene)
    with Changes(scene) as changes:
        scene.start_all()
        if step:
            assert worker.wait_end(120) == -9
            worker.failpoint = None
            worker.start()
        wait_until(lambda: set(scene.states().values()) == {"syncing"}, 120, 0.1, "every table to be in sync")
        so_far = changes.committed
        wait_until(lambda: changes.committed > so_far + 100, 60, 0.05, "changes after the copy")
    assert {mode for (mode,) in scene.sql("SELECT mode FROM tandem.backfill")} == {"direct"}
    check(scene)


def middle(scene, settings):
    """A direct copy of k_int that stands in its midst, and a writer."""
    settings.set(backfill_chunk_time="20ms", backfill_rows_per_second=2000)
    create(scene, "k_int")
    fill(scene, "k_int", ROWS)
    scene.run_worker()
    scene.add_source()
    scene.add_and_start("%", wait=False)
    wait_until(lambda: scene.value("SELECT count(*) FROM tandem.backfill_chunk WHERE state = 'done'") > 1, 60, 0.01, "chunks to be done")
    assert scene.states()["k_int"] == "backfilling"


@pytest.mark.parametrize("loss", ["DROP TRIGGER {trigger}", "TRUNCATE TABLE k_int", "ALTER TABLE k_int ENGINE=InnoDB"])
def test_capture_is_lost_in_the_midst(direct_scene, settings, loss):
    """Events are lost while chunks are copied: the table is copied anew by itself, and rows that went unseen go here as well."""
    scene = direct_scene
    middle(scene, settings)
    trigger = scene.value("SELECT 'tandem_ad_' || trigger_suffix FROM tandem.source_table WHERE name = 'k_int'")
    with Writer(scene, ["k_int"], ROWS) as writer:
        scene.old.query(loss.format(trigger=trigger), database=scene.old_database)
        if "TRIGGER" in loss:
            scene.write("DELETE FROM k_int WHERE id BETWEEN 500 AND 900")  # nobody sees these
        settings.set(backfill_rows_per_second=0)
        wait_until(lambda: scene.value("SELECT count(*) FROM tandem.resyncs WHERE finished_at IS NOT NULL") > 0 or
                   ("ENGINE" in loss and scene.states()["k_int"] == "syncing"), 120, 0.1, "the table to be copied anew")
        so_far = writer.committed
        wait_until(lambda: writer.committed > so_far + 50, 60, 0.05, "changes after it")
    scene.check(120)


def test_swapped_in_the_midst(direct_scene, settings):
    """As gh-ost and pt-online-schema-change do it: the table is blocked and says so; resume copies what is there now."""
    scene = direct_scene
    middle(scene, settings)
    for statement in ("CREATE TABLE k_ghost LIKE k_int", "INSERT INTO k_ghost SELECT * FROM k_int WHERE id % 2 = 0",
                      "RENAME TABLE k_int TO k_gone, k_ghost TO k_int", "DROP TABLE k_gone"):
        scene.old.query(statement, database=scene.old_database)
    settings.set(backfill_rows_per_second=0)
    scene.wait_state("k_int", "blocked", 60)
    assert "has the name" in scene.states()["k_int"], scene.states()
    scene.write("UPDATE k_int SET v = v + 1 WHERE id < 100")
    scene.sql("SELECT tandem.resume('shop.k_int')")
    scene.check(120)


def test_altered_in_the_midst(direct_scene, settings):
    """A column that the target takes goes: blocked with its name, not with an error of reading; brought back, it goes on."""
    scene = direct_scene
    middle(scene, settings)
    scene.old.query("ALTER TABLE k_int DROP COLUMN note", database=scene.old_database)
    settings.set(backfill_rows_per_second=0)
    scene.wait_state("k_int", "blocked", 60)
    wait_until(lambda: '"note"' in scene.states()["k_int"] and "does not exist any more" in scene.states()["k_int"], 30, 0.1, f"the reason to name the column: {scene.states()}")
    scene.old.query("ALTER TABLE k_int ADD COLUMN note VARCHAR(60) AFTER v", database=scene.old_database)
    scene.write("UPDATE k_int SET note = 'back' WHERE id < 1000")
    scene.sql("SELECT tandem.resume('shop.k_int')")
    scene.check(120)
