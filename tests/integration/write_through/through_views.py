"""What the tests of writes through routed views have in common."""
import psycopg2
import pytest


def old(scene, statement):
    return scene.old.query(statement, database=scene.old_database)


def arrived(scene):
    return scene.value("SELECT tandem.wait_for_old('30 s')")


def refused(scene, statement, state, text=""):
    with pytest.raises(psycopg2.Error) as error:
        scene.sql(statement)
    assert error.value.pgcode == state and text in str(error.value), error.value
