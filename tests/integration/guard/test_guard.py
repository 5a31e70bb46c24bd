"""See README.md."""
import sys
import time
from pathlib import Path

from lib.process import wait_until

sys.path.insert(0, str(Path(__file__).parent))

from watching import Watched, Writes, blocked, old, times, trigger, wait_sync  # noqa: E402


def test_truncate_under_writes(scene):
    with Writes(scene, "emptied") as app:
        with Watched(scene, "emptied") as seen:
            old(scene, "TRUNCATE emptied")
            scene.write("INSERT INTO bystander (v) VALUES (1)")
        assert seen.automatic and seen.cause == "truncated", seen.reason
        wait_sync(scene, "emptied")
    assert app.written > 10
    scene.check()


def test_truncate_of_an_awkward_name(scene):
    with Watched(scene, "awkward näme $ x") as seen:
        old(scene, "TRUNCATE `awkward näme $ x`")
    assert seen.cause == "truncated", seen.reason
    wait_sync(scene, "awkward näme $ x")
    scene.check()


def test_truncate_and_refill_with_the_same_keys(scene):
    scene.worker.freeze()
    old(scene, "TRUNCATE emptied")
    scene.write("INSERT INTO emptied VALUES (1, 'new a'), (3, 'new c')")
    with Watched(scene, "emptied"):
        scene.worker.thaw()
    wait_sync(scene, "emptied")
    scene.check()


def test_truncate_while_no_worker_runs(scene):
    scene.worker.stop()
    old(scene, "TRUNCATE emptied")
    with Watched(scene, "emptied") as seen:
        scene.worker.start()
    assert seen.cause == "truncated", seen.reason
    wait_sync(scene, "emptied")
    scene.check()


def test_triggers_dropped_under_writes(scene):
    with Writes(scene, "hit"):
        for event in ("INSERT", "UPDATE", "DELETE"):
            with Watched(scene, "hit") as seen:
                old(scene, f"DROP TRIGGER `{trigger(scene, 'hit', event)}`")
            assert seen.automatic and seen.cause == "trigger", seen.reason
            wait_sync(scene, "hit")
    scene.check()


def test_rows_deleted_without_a_trigger(scene):
    name = trigger(scene, "hit", "DELETE")
    scene.worker.freeze()
    old(scene, f"DROP TRIGGER `{name}`")
    scene.write("DELETE FROM hit WHERE id IN (1, 3)", "INSERT INTO hit VALUES (50, 'fifty')")
    with Watched(scene, "hit"):
        scene.worker.thaw()
    wait_sync(scene, "hit")
    assert scene.value('SELECT rows_missing FROM tandem.resyncs WHERE "table" = \'hit\'') >= 2
    scene.check()


def test_keys_that_differ_by_case_and_spaces_only(scene):
    name = trigger(scene, "texts", "UPDATE")
    scene.worker.freeze()
    old(scene, f"DROP TRIGGER `{name}`")
    scene.write("UPDATE texts SET k = 'ABC' WHERE n = 1", "UPDATE texts SET k = 'strasse' WHERE n = 2", "UPDATE texts SET k = 'trailing' WHERE n = 5",
                "DELETE FROM texts WHERE n = 3")
    with Watched(scene, "texts"):
        scene.worker.thaw()
    wait_sync(scene, "texts")
    scene.check()


def test_trigger_replaced_by_another(scene):
    name = trigger(scene, "hit", "INSERT")
    with Watched(scene, "hit") as seen:
        old(scene, f"DROP TRIGGER `{name}`", f"CREATE TRIGGER `{name}` AFTER INSERT ON hit FOR EACH ROW SET @nothing = 1")
        scene.write("INSERT INTO hit VALUES (60, 'unseen')")
    assert seen.cause == "trigger", seen.reason
    wait_sync(scene, "hit")
    scene.check()


def test_trigger_moved_to_before(scene):
    name = trigger(scene, "hit", "DELETE")
    with Watched(scene, "hit") as seen:
        old(scene, f"DROP TRIGGER `{name}`", f"CREATE TRIGGER `{name}` BEFORE DELETE ON hit FOR EACH ROW SET @nothing = 1")
    assert seen.cause == "trigger", seen.reason
    wait_sync(scene, "hit")
    scene.check()


def test_outbox_dropped_and_emptied(scene):
    outbox = scene.value("SELECT outbox FROM tandem.source_table WHERE name = 'hit'")
    with Writes(scene, "hit", 2000):
        for statement in (f"DROP TABLE `{scene.metadata}`.`{outbox}`", f"TRUNCATE `{scene.metadata}`.`{outbox}`"):
            with Watched(scene, "hit") as seen:
                old(scene, statement)
            assert seen.automatic and seen.cause in ("outbox", "gap"), seen.reason
            wait_sync(scene, "hit")
    scene.check()


def test_partitions(scene):
    with Writes(scene, "parted", 210):
        for statement in ("ALTER TABLE parted TRUNCATE PARTITION p0", "ALTER TABLE parted DROP PARTITION p1",
                          "ALTER TABLE parted REORGANIZE PARTITION p2 INTO (PARTITION p2 VALUES LESS THAN (250), PARTITION p3 VALUES LESS THAN (100000))"):
            with Watched(scene, "parted") as seen:
                old(scene, statement)
            assert seen.automatic and seen.cause == "partitions", seen.reason
            wait_sync(scene, "parted")
    scene.check()


def test_partition_exchanged(scene):
    old(scene, "CREATE TABLE elsewhere (id INT NOT NULL PRIMARY KEY, v INT) ENGINE=InnoDB", "INSERT INTO elsewhere VALUES (5, 5), (6, 6)")
    with Watched(scene, "parted") as seen:
        old(scene, "ALTER TABLE parted EXCHANGE PARTITION p0 WITH TABLE elsewhere")
    assert seen.cause == "partitions", seen.reason
    wait_sync(scene, "parted")
    old(scene, "DROP TABLE elsewhere")
    scene.check()


def test_partition_added_is_no_loss(scene):
    before = scene.value("SELECT count(*) FROM tandem.resyncs")
    old(scene, "ALTER TABLE parted ADD PARTITION (PARTITION p9 VALUES LESS THAN MAXVALUE)")
    scene.write("INSERT INTO parted VALUES (1000000, 1)")
    scene.check()
    assert scene.value("SELECT count(*) FROM tandem.resyncs") == before


def test_cascades_without_the_parents_triggers(scene):
    """A parent that goes and comes again while its capture is away looks the same afterwards, but its children are gone."""
    name = trigger(scene, "parent", "DELETE")
    scene.worker.freeze()
    old(scene, f"DROP TRIGGER `{name}`")
    old(scene, f"DROP TRIGGER `{trigger(scene, 'parent', 'INSERT')}`")
    scene.write("DELETE FROM parent WHERE id = 1", "INSERT INTO parent VALUES (1, 1)", "DELETE FROM parent WHERE id = 3")
    with Watched(scene, "child") as seen:
        scene.worker.thaw()
    assert seen.cause == "cascade", seen.reason
    wait_sync(scene, "parent")
    wait_sync(scene, "child")
    scene.check()


def test_swapped_by_rename(scene):
    """gh-ost, and pt-online-schema-change at its end: one atomic RENAME."""
    old(scene, "CREATE TABLE _swapped_gho LIKE swapped", "ALTER TABLE _swapped_gho ADD extra INT", "INSERT INTO _swapped_gho (id, v) SELECT id, v FROM swapped WHERE id <> 2")
    with Writes(scene, "swapped"):
        with Watched(scene, "swapped") as seen:
            old(scene, "RENAME TABLE swapped TO _swapped_del, _swapped_gho TO swapped")
        assert not seen.automatic and seen.cause == "swapped", seen.reason
        state = blocked(scene, "swapped")
        assert "another table has the name" in state and "tandem.resume" in state, state
        scene.write("INSERT INTO bystander (v) VALUES (2)")
        scene.sql("SELECT tandem.resume('swapped')")
        wait_sync(scene, "swapped")
    old(scene, "DROP TABLE _swapped_del", "ALTER TABLE swapped DROP COLUMN extra")
    time.sleep(5)  # MySQL 5.6 rebuilds the table for that, and what happens to it before it is copied anew is mended with it
    wait_sync(scene, "swapped")
    scene.check()


def test_swapped_and_the_old_one_dropped(scene):
    """The older way: the new table is made beside the old one, which is dropped."""
    old(scene, "CREATE TABLE _swapped_new LIKE swapped", "INSERT INTO _swapped_new SELECT * FROM swapped WHERE id < 3",
        "RENAME TABLE swapped TO _swapped_old, _swapped_new TO swapped", "DROP TABLE _swapped_old")
    state = blocked(scene, "swapped")
    assert "another table has the name" in state, state
    scene.sql("SELECT tandem.resume('swapped')")
    wait_sync(scene, "swapped")
    scene.check()


def test_dropped_and_made_again(scene):
    old(scene, "RENAME TABLE dropped TO away")
    state = blocked(scene, "dropped")
    assert "does not exist" in state, state
    old(scene, "RENAME TABLE away TO dropped")
    scene.sql("SELECT tandem.resume('dropped')")
    wait_sync(scene, "dropped")
    old(scene, "DROP TABLE dropped", "CREATE TABLE dropped (id INT NOT NULL PRIMARY KEY, v INT) ENGINE=InnoDB")
    scene.write("INSERT INTO dropped VALUES (2, 20), (7, 7)")
    blocked(scene, "dropped")
    scene.sql("SELECT tandem.resume('dropped')")
    wait_sync(scene, "dropped")
    scene.check()
    assert sorted(scene.sql("SELECT id, v FROM dropped")) == [(2, 20), (7, 7)]


def test_engine(scene):
    old(scene, "ALTER TABLE engines ENGINE=MyISAM")
    state = blocked(scene, "engines")
    assert "MyISAM" in state, state
    scene.write("INSERT INTO engines VALUES (9, 9)", "DELETE FROM engines WHERE id = 1")
    old(scene, "ALTER TABLE engines ENGINE=InnoDB")
    scene.sql("SELECT tandem.resume('engines')")
    wait_sync(scene, "engines")
    assert sorted(scene.sql("SELECT id, v FROM engines")) == [(2, 2), (9, 9)]


def test_retyped_renamed_and_back(scene):
    for there, back, words in (("ALTER TABLE altered MODIFY v BIGINT", "ALTER TABLE altered MODIFY v INT", ('"v"', "int", "bigint")),
                               ("ALTER TABLE altered CHANGE w x VARCHAR(20)", "ALTER TABLE altered CHANGE x w VARCHAR(20)", ('"w"', '"x"')),
                               ("ALTER TABLE altered DROP PRIMARY KEY", "ALTER TABLE altered ADD PRIMARY KEY (id)", ("unique key on (id)",))):
        old(scene, there)
        state = blocked(scene, "altered")
        assert all(word in state for word in words) and "tandem.resume" in state, state
        scene.write("INSERT INTO bystander (v) VALUES (3)", "UPDATE altered SET v = v + 1 WHERE id = 1", "DELETE FROM altered WHERE id = 2")
        # Resumed before the cause is mended it is blocked again.
        scene.sql("SELECT tandem.resume('altered')")
        blocked(scene, "altered")
        old(scene, back)
        scene.sql("SELECT tandem.resume('altered')")
        wait_sync(scene, "altered")
    scene.check()


def test_index_is_no_loss(scene):
    before = times(scene, "bystander")
    old(scene, "ALTER TABLE bystander ADD KEY (v)")
    scene.write("INSERT INTO bystander (v) VALUES (5)")
    time.sleep(5)
    scene.check()
    assert times(scene, "bystander") == before


def test_resync_by_call(scene):
    scene.sql("INSERT INTO bystander VALUES (100000, 1)")  # somebody wrote to the target
    scene.sql("DELETE FROM bystander WHERE id = 1")
    scene.sql("SELECT tandem.resync('bystander')")
    wait_sync(scene, "bystander")
    scene.check()


def test_guard_is_shown(scene):
    # A table that is copied anew is not watched until capture is whole again.
    wait_until(lambda: scene.sql("SELECT source, tables, by_number, trouble FROM tandem.pg_stat_tandem_guard") == [("shop", 12, True, None)], 30, 0.1,
               "the guard to be well")
