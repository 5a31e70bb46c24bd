"""Writes through a routed view while the worker that makes them on the old side is killed, at every step: each is made once. See README.md."""
import pytest

STEPS = ["writes:after_read", "writes:after_write", "writes:after_done"]


@pytest.mark.parametrize("step", STEPS)
def test_killed(fault_scene, step):
    """The old side's application puts the row back after the worker has died: a write that was made must not be made again (mutant NOMARK)."""
    scene = fault_scene

    def held():
        return scene.old.query("SELECT n FROM through WHERE id = 1", database=scene.old_database)[0][0]

    scene.write("CREATE TABLE through (id INT PRIMARY KEY, n INT NOT NULL) ENGINE=InnoDB", "INSERT INTO through VALUES (1, 0), (2, 0)")
    scene.sql("SELECT tandem.add_table('shop', 'through')")
    scene.sql("SELECT tandem.start('through')")
    scene.wait_caught_up()
    scene.sql("SELECT tandem.create_routed_view('through', 'through_v')")
    scene.sql("UPDATE through_v SET n = 1 WHERE id = 2")
    assert scene.value("SELECT tandem.wait_for_old()")
    worker = scene.swap_worker(f"{step}=kill")
    scene.sql("UPDATE through_v SET n = 1 WHERE id = 1")
    assert worker.wait_end() == -9
    made = held() == 1
    assert made == (step != "writes:after_read")
    if made:
        scene.write("UPDATE through SET n = 0 WHERE id = 1")
    worker.failpoint = None
    worker.start()
    assert scene.value("SELECT tandem.wait_for_old('60 s')")
    assert held() == (0 if made else 1)
    assert scene.value("SELECT count(*) FROM tandem.write_queue") == 0
    scene.check()


@pytest.mark.parametrize("step, one_is_refused", [*[(step, False) for step in STEPS], ("writes:after_write", True)])
def test_killed_over_several_transactions(fault_scene, step, one_is_refused):
    """Transactions that waited for the worker share one on the old side; where one of them is refused each goes alone. Whoever dies in it, and whatever
    the old side's application does then, each is made once."""
    scene = fault_scene
    scene.write("CREATE TABLE several (id INT PRIMARY KEY, n INT NOT NULL) ENGINE=InnoDB", "INSERT INTO several VALUES (1, 0), (2, 0), (3, 0), (4, 0), (5, 0)")
    scene.sql("SELECT tandem.add_table('shop', 'several')")
    scene.sql("SELECT tandem.start('several')")
    scene.wait_caught_up()
    scene.sql("SELECT tandem.create_routed_view('several', 'several_v')")
    scene.sql("UPDATE several_v SET n = 1 WHERE id = 5")
    assert scene.value("SELECT tandem.wait_for_old()")
    scene.worker.kill()
    for row in (1, 2, 3, 4):
        scene.sql(f"UPDATE several_v SET n = n + 10 WHERE id = {row}")
    scene.sql("UPDATE several_v SET n = n + 20 WHERE id = 5")
    if one_is_refused:
        scene.write("UPDATE several SET n = 7 WHERE id = 3")  # not what its writer saw
    worker = scene.swap_worker(f"{step}=kill")
    assert worker.wait_end() == -9
    rows = dict(scene.old.query("SELECT id, n FROM several", database=scene.old_database))
    made = [row for row, n in rows.items() if n == (21 if row == 5 else 10)]
    if step == "writes:after_read":
        assert made == []
    else:  # alone, the first has been made when the worker dies
        assert made == ([1] if one_is_refused else [1, 2, 3, 4, 5])
    for row in made:
        scene.write(f"UPDATE several SET n = -1 WHERE id = {row}")
    worker.failpoint = None
    worker.start()
    scene.value("SELECT tandem.wait_for_old('60 s')")
    left = scene.sql("SELECT key ->> 'id', given_up, sqlstate FROM tandem.queued_writes")
    assert left == ([("3", True, "40001")] if one_is_refused else [])
    expected = {row: -1 if row in made else 21 if row == 5 else 10 for row in rows}
    if one_is_refused:
        expected[3] = 7
        scene.sql("SELECT tandem.settle_write(write_id, 'discard') FROM tandem.queued_writes")
    assert dict(scene.old.query("SELECT id, n FROM several", database=scene.old_database)) == expected
    scene.check()
