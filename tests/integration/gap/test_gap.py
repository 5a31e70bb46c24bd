"""See README.md."""
from lib.process import wait_until


def left_sync(scene, table):
    return wait_until(lambda: scene.states()[table] != "syncing" and scene.states()[table], 30, 0.05, f"{table} to leave 'syncing'")


def remove_rows_deleted_meanwhile(scene, keys):
    """The documented gap of the plain backfill: what was deleted while nothing was captured stays, and nothing else differs."""
    scene.wait_caught_up()
    assert {(d.what, d.key) for d in scene.differences()} == {("extra", key) for key in keys}
    for (number,) in keys:
        scene.sql("DELETE FROM g WHERE id = %s", (number,))


def test_outbox_dropped(scene):
    scene.check()
    scene.worker.freeze()  # nobody mends it before the application has written
    outbox = scene.value("SELECT outbox FROM tandem.source_table WHERE name = 'g'")
    scene.old.query(f"DROP TABLE `{scene.metadata}`.`{outbox}`")
    scene.write("UPDATE g SET v = 20 WHERE id = 2", "INSERT INTO g VALUES (4, 4)", "DELETE FROM g WHERE id = 3", "INSERT INTO other VALUES (1, 1)")
    assert scene.old_value("SELECT count(*) FROM g") == 3
    assert scene.gaps() > 0
    scene.worker.thaw()
    state = left_sync(scene, "g")
    assert state.split(":")[0] in ("blocked", "capturing", "backfilling"), state
    wait_until(lambda: scene.value("SELECT count(*) FROM other"), 20, 0.05, "the other table to flow")


def test_way_back(scene):
    if scene.states()["g"].startswith("blocked"):
        scene.sql("SELECT tandem.resume('g')")
    scene.wait_state("g", "syncing", 60)
    scene.write("UPDATE g SET v = v + 100")
    remove_rows_deleted_meanwhile(scene, {("3",)})
    scene.check()


def test_trigger_dropped(scene):
    name = scene.old.value("SELECT TRIGGER_NAME FROM information_schema.TRIGGERS WHERE EVENT_OBJECT_SCHEMA = %s AND EVENT_OBJECT_TABLE = 'g'"
                           " AND EVENT_MANIPULATION = 'DELETE'", (scene.old_database,))
    scene.worker.freeze()
    scene.old.query(f"DROP TRIGGER `{scene.old_database}`.`{name}`")
    scene.write("DELETE FROM g WHERE id = 1")
    scene.worker.thaw()
    state = left_sync(scene, "g")
    if state.startswith("blocked"):
        scene.sql("SELECT tandem.resume('g')")
    scene.wait_state("g", "syncing", 60)
    remove_rows_deleted_meanwhile(scene, {("1",)})
    scene.check()
