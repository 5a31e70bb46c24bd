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
