"""Pause, resume and cancel in the middle of a copy; the view of progress; what slows the copy."""
import sys
from pathlib import Path

from lib.process import wait_until

sys.path.insert(0, str(Path(__file__).parent))
from keys import Writer, create, fill  # noqa: E402

ROWS = 3000


def begin(scene, settings, **more):
    """A copy that takes its time: so many rows in a second, small chunks."""
    settings.set(backfill_rows_per_second=100, backfill_chunk_time="50ms", **more)
    create(scene, "k_int")
    scene.write("ALTER TABLE k_int ADD INDEX by_v (v), ADD INDEX by_note (note)")
    fill(scene, "k_int", ROWS)
    scene.old.query("ANALYZE TABLE k_int", database=scene.old_database)  # its estimate is what progress is measured by
    scene.run_worker()
    scene.add_source()
    scene.add_and_start("%", wait=False)
    wait_until(lambda: done(scene) > 0, 60, 0.02, "the first chunk to be done")


def done(scene):
    return scene.value("SELECT coalesce(sum(chunks_done), 0) FROM tandem.pg_stat_progress_tandem_backfill WHERE phase <> 'done'")


def test_pause_and_resume(direct_scene, settings):
    scene = direct_scene
    begin(scene, settings)
    with Writer(scene, ["k_int"], ROWS) as writer:
        scene.sql("SELECT tandem.pause('k_int')")
        scene.wait_state("k_int", "paused")
        assert scene.value("SELECT phase FROM tandem.pg_stat_progress_tandem_backfill") == "paused"
        chunks = scene.sql("SELECT chunk, state, attempt FROM tandem.backfill_chunk WHERE state = 'done' ORDER BY 1")
        before = writer.committed
        wait_until(lambda: writer.committed > before + 50, 60, 0.05, "changes while it is paused")
        assert scene.sql("SELECT chunk, state, attempt FROM tandem.backfill_chunk WHERE state = 'done' ORDER BY 1") == chunks
        scene.sql("SELECT tandem.resume('k_int')")
        settings.set(backfill_rows_per_second=0)
        scene.wait_state("k_int", "syncing", 60)
    scene.check()
    assert scene.value("SELECT rows FROM tandem.backfill") < ROWS * 1.2  # not begun anew


def test_cancel_and_start_again(direct_scene, settings):
    scene = direct_scene
    begin(scene, settings)
    scene.sql("SELECT tandem.cancel_backfill('k_int')")
    scene.sql("SELECT tandem.wait_for('k_int', 'registered', '1 minute')")
    assert scene.value("SELECT count(*) FROM k_int") == 0
    assert scene.value("SELECT count(*) FROM pg_index WHERE indrelid = 'k_int'::regclass AND indisvalid") == 3
    assert scene.old.value(f"SELECT count(*) FROM information_schema.triggers WHERE trigger_schema = '{scene.old_database}'") == 0
    assert scene.old.value(f"SELECT count(*) FROM information_schema.tables WHERE table_schema = '{scene.metadata}' AND table_name LIKE '%outbox%'") == 0
    assert scene.sql("SELECT * FROM tandem.pg_stat_progress_tandem_backfill") == []
    scene.write("DELETE FROM k_int WHERE id % 3 = 0")
    settings.set(backfill_rows_per_second=0)
    scene.sql("SELECT tandem.start('k_int')")
    scene.check()


def test_progress_is_told(direct_scene, settings):
    scene = direct_scene
    begin(scene, settings)
    row = scene.sql("SELECT mode, phase, rows_done, rows_total, bytes_done, percent, rows_per_second, eta IS NOT NULL, indexes_left"
                    " FROM tandem.pg_stat_progress_tandem_backfill")[0]
    assert row[:2] == ("direct", "copying")
    assert 0 < row[2] < ROWS and row[3] > 0 and row[4] > 0 and 0 < row[5] < 100 and row[6] > 0 and row[7]
    assert row[8] == ["k_int_note_idx", "k_int_v_idx"]
    settings.set(backfill_rows_per_second=0)
    scene.check()
    assert scene.sql("SELECT phase, rows_done, indexes_left FROM tandem.pg_stat_progress_tandem_backfill") == [("done", ROWS, None)]
    assert "history copied" in scene.worker.log_text()


def test_busy_old_side_comes_first(direct_scene, settings):
    """Statements of others that run on the old server let the copy wait; when they end it goes on. What cannot be read does not hold it up."""
    scene = direct_scene
    begin(scene, settings, backfill_max_threads_running=1)
    sleepers = [scene.app() for _ in range(4)]
    try:
        for connection in sleepers:
            connection._execute_command(3, "SELECT SLEEP(300)")  # sent, not waited for
        wait_until(lambda: (scene.value("SELECT throttle FROM tandem.pg_stat_progress_tandem_backfill") or "").startswith("waits: "), 30, 0.1, "the copy to wait")
        settings.set(backfill_rows_per_second=0)
        wait_until(lambda: scene.value("SELECT chunks_in_progress FROM tandem.pg_stat_progress_tandem_backfill") == 0, 60, 0.1, "the chunks in hand to end")
        assert scene.states()["k_int"] == "backfilling"
    finally:
        for connection in sleepers:
            scene.old.query(f"KILL {connection.thread_id()}")
            connection._force_close()
    scene.check()
    assert scene.value("SELECT unreadable FROM tandem.backfill_pace") is None or "replica lag" in scene.value("SELECT unreadable FROM tandem.backfill_pace")


def test_history_through_the_queue_makes_way_too(direct_scene, settings):
    """Tables tied by cascades go through the queue; the same settings slow them and let them wait."""
    scene = direct_scene
    settings.set(backfill_rows_per_second=1)
    scene.old.script("""CREATE TABLE trunk (id INT PRIMARY KEY) ENGINE=InnoDB;
        CREATE TABLE leaf (id INT AUTO_INCREMENT PRIMARY KEY, trunk INT, pad VARCHAR(100), FOREIGN KEY (trunk) REFERENCES trunk (id) ON DELETE CASCADE) ENGINE=InnoDB;""",
                     scene.old_database)
    scene.write("INSERT INTO trunk VALUES (1), (2)", "INSERT INTO leaf (trunk, pad) VALUES (1, REPEAT('x', 100))")
    for _ in range(13):
        scene.write("INSERT INTO leaf (trunk, pad) SELECT trunk, pad FROM leaf")
    scene.run_worker()
    scene.add_source()
    scene.add_and_start("%", wait=False)
    wait_until(lambda: scene.value("SELECT count(*) FROM trunk") + scene.value("SELECT count(*) FROM leaf") > 0, 60, 0.02, "the first chunk")
    # At a row a second the next chunk is hours away, while changes flow.
    copied = scene.value("SELECT count(*) FROM leaf")
    assert copied < 8192
    scene.write("INSERT INTO trunk VALUES (3)")
    wait_until(lambda: scene.value("SELECT count(*) FROM trunk WHERE id = 3"), 30, 0.02, "a change to arrive")
    assert scene.value("SELECT count(*) FROM leaf") == copied
    assert "backfilling" in scene.states().values()

    sleepers = [scene.app() for _ in range(4)]
    try:
        for connection in sleepers:
            connection._execute_command(3, "SELECT SLEEP(300)")  # sent, not waited for
        settings.set(backfill_max_threads_running=1)
        wait_until(lambda: (scene.value("SELECT min(throttle) FROM tandem.backfill_pace") or "").startswith("waits: "), 30, 0.1, "the copy to wait")
        copied = scene.value("SELECT count(*) FROM leaf")
        settings.set(backfill_rows_per_second=0)
        scene.write("INSERT INTO trunk VALUES (4)")
        wait_until(lambda: scene.value("SELECT count(*) FROM trunk WHERE id = 4"), 30, 0.02, "a change to arrive")
        assert scene.value("SELECT count(*) FROM leaf") == copied < 8192
    finally:
        for connection in sleepers:
            scene.old.query(f"KILL {connection.thread_id()}")
            connection._force_close()
    scene.check()
