"""A crash in the middle of tandem.set_phase: all tables of the call have moved or none, with their guards and history, and the next call works (I9)."""
import os
import signal

import psycopg2
import pytest

from lib.process import wait_until


def phases(scene):
    return {row[0] for row in scene.sql("SELECT phase FROM tandem.phases")}


def guards(scene):
    return scene.value("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgname LIKE 'tandem%'")


def well(scene):
    """Nothing is half-done. The doctor asks the old side through a worker, which may just be coming back."""
    wait_until(lambda: scene.sql("SELECT * FROM tandem.doctor()") == [], 60, 0.2, lambda: f"the doctor to find nothing: {scene.sql('SELECT * FROM tandem.doctor()')}")


def move(cursor, tables, phase):
    cursor.execute("SELECT tandem.set_phase(%s::text[], %s)", (tables, phase))


@pytest.mark.parametrize("steps", [["dual_write"], ["dual_write", "ready"], ["ready"]], ids=lambda steps: "-".join(steps))
def test_killed_in_set_phase(fault_scene, steps):
    scene = fault_scene
    tables = [f"shop.{row[0]}" for row in scene.sql("SELECT name FROM tandem.source_table ORDER BY 1")]
    with scene.load() as load:
        wait_until(lambda: load.committed > 20, 60, 0.05, "the application to write")
        for step in steps:
            before = (phases(scene), guards(scene), scene.value("SELECT count(*) FROM tandem.phase_history"))
            connection = scene.pg.connect(scene.database, autocommit=False)
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                (pid,) = cursor.fetchone()
                move(cursor, tables, step)
                crashes = scene.crashes()
                os.kill(pid, signal.SIGKILL)
                with pytest.raises(psycopg2.OperationalError):
                    cursor.execute("SELECT 1")
                    connection.commit()
            scene.wait_pg_back(crashes)
            assert (phases(scene), guards(scene), scene.value("SELECT count(*) FROM tandem.phase_history")) == before
            well(scene)
            # And once more, to the end; what comes directly behind the commit finds all of it moved.
            wait_until(lambda: not moved_error(scene, tables, step), 60, 0.2, lambda: f"the move to {step}: {moved_error(scene, tables, step)}")
            scene.worker.kill()
            assert phases(scene) == {step}
            scene.worker.start()
            well(scene)
    # In dual_write what only the old side has waits for its second write before it is applied.
    scene.wait_caught_up()
    wait_until(lambda: not scene.value("SELECT count(*) FROM tandem.direct_write"), 60, 0.1, "all writes to be verified")
    scene.check()


def moved_error(scene, tables, step):
    """What is lacking; None when the tables have moved. After a crash they are in sync again in a moment."""
    try:
        scene.sql("SELECT tandem.set_phase(%s::text[], %s)", (tables, step))
    except psycopg2.Error as error:
        assert error.pgcode == "55000", error
        return str(error)
    return None
