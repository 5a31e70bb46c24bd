"""See README.md."""
import json
import re

import pytest

from lib.process import wait_until

ADD_ALL = False
POLICIES = {"born": "sidecar", "seen": "null", "since": {"value": "1970-01-01 00:00:00+00"}, "note": "sidecar", "raw": "sidecar"}
BAD = "'2024-00-10', '2024-02-30 01:02:03.004', '0000-00-00 00:00:00', _sjis X'8740', X'E900', NULL"
GOOD = "'2024-01-10', '2024-02-28 01:02:03.004', '2024-01-01 00:00:00', 'a', 'b', NULL"
BAD_HERE = (None, None, "1970-01-01 00:00:00+00", None, None)
ORIGINALS = {"born": b"2024-00-10", "note": b"\x87\x40", "raw": b"\xe9\x00"}


@pytest.fixture(scope="module")
def app(scene):
    connection = scene.app()
    with connection.cursor() as cursor:
        cursor.execute("SET sql_mode = 'ALLOW_INVALID_DATES', time_zone = '+00:00'")
        cursor.execute(f"INSERT INTO people VALUES (1, {BAD}), (2, {GOOD})")
        scene.add_table("people", policies=json.dumps(POLICIES))
        scene.start_all()
        scene.wait_caught_up()
        yield cursor
    connection.close()


def row(scene, id_):
    found = scene.sql("SELECT born::text, seen::text, (since AT TIME ZONE 'UTC')::text || '+00', note, raw FROM people WHERE id = %s", (id_,))
    return found[0] if found else None


def originals(scene, id_):
    return {name: bytes(original) for name, original in scene.sql(
        "SELECT column_name, original FROM tandem.sidecar WHERE tandem.decode_key(table_id, key) ->> 'id' = %s", (str(id_),))}


def test_backfill(scene, app):
    assert row(scene, 1) == BAD_HERE
    assert originals(scene, 1) == ORIGINALS
    assert row(scene, 2)[0] == "2024-01-10"
    assert originals(scene, 2) == {}
    assert scene.dead_letters() == []


def test_losses_are_counted(scene, app):
    found = scene.sql('SELECT "column", rule, policy, times, kept FROM tandem.losses ORDER BY 1')
    assert found == [("born", "zero date", "sidecar", 1, 1), ("note", "invalid bytes", "sidecar", 1, 1), ("raw", "U+0000", "sidecar", 1, 1),
                     ("seen", "invalid date", "null", 1, None), ("since", "zero date", "value", 1, None)]


def test_live_rows(scene, app):
    app.execute(f"INSERT INTO people VALUES (3, {BAD})")
    scene.wait_caught_up()
    assert (row(scene, 3), originals(scene, 3)) == (BAD_HERE, ORIGINALS)
    app.execute("UPDATE people SET born = '2001-02-03', raw = X'0001' WHERE id = 3")
    scene.wait_caught_up()
    assert row(scene, 3) == ("2001-02-03", *BAD_HERE[1:])
    assert originals(scene, 3) == {"note": b"\x87\x40", "raw": b"\x00\x01"}, "a mended value has no original, a changed one its new one"
    app.execute("UPDATE people SET id = 4 WHERE id = 3")
    scene.wait_caught_up()
    assert (row(scene, 3), originals(scene, 3)) == (None, {})
    assert originals(scene, 4) == {"note": b"\x87\x40", "raw": b"\x00\x01"}
    app.execute("DELETE FROM people WHERE id = 4")
    scene.wait_caught_up()
    assert (row(scene, 4), originals(scene, 4)) == (None, {})


def test_through_retry_and_dead_letters(scene, app):
    """The originals follow the row that is there: while a row waits or is dead, they stay as they were."""
    app.execute(f"INSERT INTO people VALUES (5, {BAD}), (6, {GOOD})")
    scene.wait_caught_up()
    before = originals(scene, 5)
    scene.sql("ALTER TABLE people ADD CONSTRAINT no_x CHECK (email <> 'x')")
    app.execute("UPDATE people SET email = 'x', raw = X'00' WHERE id = 5")
    scene.wait_caught_up()
    assert len(scene.dead_letters()) == 1
    assert originals(scene, 5) == before
    scene.sql("ALTER TABLE people DROP CONSTRAINT no_x")
    scene.sql("SELECT tandem.retry_dead_letters('people')")
    wait_until(lambda: not scene.dead_letters(), 20, 0.1, "the dead letter to be applied")
    assert originals(scene, 5) == {**before, "raw": b"\x00"}
    # A unique violation waits in tandem.retry until the other row moves away.
    scene.sql("CREATE UNIQUE INDEX ON people (email)")
    app.execute("UPDATE people SET email = 'y' WHERE id = 6")
    scene.wait_caught_up()
    scene.sql("INSERT INTO people (id, email) VALUES (-1, 'z')")
    app.execute("UPDATE people SET email = 'z', born = '2001-00-01', note = NULL WHERE id = 5")
    wait_until(lambda: scene.value("SELECT count(*) FROM tandem.retry") == 1, 20, 0.1, "the row to wait")
    assert originals(scene, 5)["born"] == b"2024-00-10"
    scene.sql("DELETE FROM people WHERE id = -1")
    scene.wait_caught_up()
    assert originals(scene, 5) == {"born": b"2001-00-01", "raw": b"\x00"}


def test_what_may_be_declared(scene, app):
    for policies, message in (
            ('{"nix": "null"}', 'has no column "nix"'), ('{"seen": "skip"}', 'policy "skip" of column "seen" is not known'),
            ('{"seen": {"value": "soon"}}', "is no value of type timestamp(3)"), ('{"seen": {"value": "2024-01-01 00:00:00.0001"}}', "more digits"),
            ('{"id": "null"}', "belongs to the key"), ('[]', "must be a JSON object")):
        with pytest.raises(Exception, match=re.escape(message)):
            scene.sql("SELECT tandem._refuse_malformed_policies(d, ARRAY['id'], %(p)s), tandem._with_policies(d, %(p)s)"
                      " FROM tandem._describe_one(tandem._source_named('shop'), 'people') AS d", {"p": policies})


def test_the_rest_is_equal(scene, app):
    app.execute("UPDATE people SET born = '2000-01-01', seen = NULL, since = NULL, note = NULL, raw = NULL")
    scene.check(tables=["people"])
    assert scene.value("SELECT count(*) FROM tandem.sidecar") == 0
