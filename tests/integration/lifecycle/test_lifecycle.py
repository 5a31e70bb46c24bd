"""See README.md. The order matters: each test goes on where the one before it stopped."""
from lib.process import wait_until


def triggers(scene, table=None):
    rows = scene.old.query("SELECT EVENT_OBJECT_TABLE, TRIGGER_NAME FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = %s", (scene.old_database,))
    return [name for on, name in rows if table in (None, on)]


def test_pause_and_resume(scene):
    scene.check()
    scene.sql("SELECT tandem.pause('a')")
    scene.wait_state("a", "paused")
    scene.write("INSERT INTO a VALUES (3, 'while paused')", "UPDATE a SET v = 'w' WHERE id = 1", "DELETE FROM a WHERE id = 2",
                "INSERT INTO b VALUES (3, 'flows')")
    wait_until(lambda: scene.value("SELECT count(*) FROM b WHERE id = 3"), 20, 0.05, "table b to flow while a is paused")
    assert scene.sql("SELECT id, v FROM a ORDER BY id") == [(1, "x"), (2, "y")]
    scene.sql("SELECT tandem.resume('a')")
    scene.wait_state("a", "syncing")
    scene.check()


def test_worker_away(scene):
    assert scene.worker.stop() == 0
    scene.write("INSERT INTO a VALUES (10, 'nobody listens')", "UPDATE b SET v = 'z'", "DELETE FROM b WHERE id = 2")
    scene.worker.start()
    scene.check()


def test_rollback_leaves_no_trace(scene):
    before = triggers(scene)
    connection = scene.pg.connect(scene.database, autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute("SELECT tandem.pause('a')")
        cursor.execute("SELECT tandem.drop_table('b')")
    connection.rollback()
    connection.close()
    scene.write("INSERT INTO a VALUES (11, 'still there')", "INSERT INTO b VALUES (11, 'still there')")
    scene.check()
    assert sorted(triggers(scene)) == sorted(before)


def test_drop_table(scene):
    outbox = scene.value("SELECT outbox FROM tandem.source_table WHERE name = 'b'")
    scene.sql("SELECT tandem.drop_table('b')")
    wait_until(lambda: "b" not in scene.states(), 30, 0.1, "b to be forgotten")
    assert triggers(scene, "b") == [] and len(triggers(scene, "a")) == 3
    assert scene.old.value("SELECT count(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s", (scene.metadata, outbox)) == 0
    scene.write("INSERT INTO b VALUES (20, 'not captured')", "INSERT INTO a VALUES (20, 'captured')")
    scene.check(tables=["a"])
    assert scene.value("SELECT count(*) FROM b") == 3


def test_add_again(scene):
    """A table that was dropped can be added again; its target, which exists and is stale, becomes equal."""
    scene.sql("SELECT tandem.add_table('shop', 'b', on_existing => 'truncate')")
    scene.start_all()
    scene.check()


def test_drop_source(scene):
    scene.sql("SELECT tandem.drop_source('shop', cascade => true)")
    wait_until(lambda: scene.value("SELECT count(*) FROM tandem.source") == 0, 30, 0.1, "the source to be forgotten")
    assert triggers(scene) == []
    assert scene.old.value("SELECT count(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_NAME LIKE '%%outbox%%'", (scene.metadata,)) == 0
    scene.write("INSERT INTO a VALUES (99, 'life goes on')")
