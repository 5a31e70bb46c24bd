"""See README.md."""
from lib.process import wait_until


def times(scene):
    return scene.value('SELECT coalesce(sum(times), 0) FROM tandem.resyncs WHERE "table" = \'g\'')


def test_outbox_dropped(scene):
    scene.check()
    scene.worker.freeze()  # nobody mends it before the application has written
    outbox = scene.value("SELECT outbox FROM tandem.source_table WHERE name = 'g'")
    scene.old.query(f"DROP TABLE `{scene.metadata}`.`{outbox}`")
    scene.write("UPDATE g SET v = 20 WHERE id = 2", "INSERT INTO g VALUES (4, 4)", "DELETE FROM g WHERE id = 3", "INSERT INTO other VALUES (1, 1)")
    assert scene.old_value("SELECT count(*) FROM g") == 3
    assert scene.gaps() > 0
    scene.worker.thaw()
    wait_until(lambda: times(scene) == 1, 30, 0.05, "g to leave 'syncing'")
    wait_until(lambda: scene.value("SELECT count(*) FROM other"), 20, 0.05, "the other table to flow")


def test_way_back(scene):
    scene.wait_state("g", "syncing", 60)
    scene.write("UPDATE g SET v = v + 100")
    scene.check()


def test_trigger_dropped(scene):
    name = scene.old.value("SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = %s AND EVENT_OBJECT_TABLE = 'g'"
                           " AND EVENT_MANIPULATION = 'DELETE'", (scene.old_database,))
    scene.worker.freeze()
    scene.old.query(f"DROP TRIGGER `{scene.old_database}`.`{name}`")
    scene.write("DELETE FROM g WHERE id = 1")
    scene.worker.thaw()
    wait_until(lambda: times(scene) == 2, 30, 0.05, "g to leave 'syncing'")
    scene.wait_state("g", "syncing", 60)
    scene.check()
