"""Dual writes on both old servers."""
import random

import psycopg2
import pytest
from lib.process import wait_until


def rates(scene, table):
    names = ("new_writes", "verified", "both_equal", "missing_on_old", "missing_on_new", "different", "old_failed", "new_failed", "unverified", "in_review",
             "old_success_rate", "new_success_rate", "new_latency_ms")
    return dict(zip(names, scene.sql(f"SELECT {', '.join(names)} FROM tandem.pg_stat_tandem_dual_writes WHERE \"table\" = %s", (table,))[0]))


def verified(scene, table):
    wait_until(lambda: rates(scene, table)["unverified"] == 0, 60, 0.1, lambda: f"writes to be verified: {rates(scene, table)}\n{scene.story()}")


class Application:
    """Writes every change to both sides, in either order; one of the two fails as the test says."""

    def __init__(self, scene):
        self.scene = scene
        self.old = scene.app()
        self.new = scene.pg.connect(scene.database)

    def write(self, old, new, fails=None, old_first=True):
        for side in ("old", "new") if old_first else ("new", "old"):
            if side == fails:
                continue
            with (self.old if side == "old" else self.new).cursor() as cursor:
                cursor.execute(old if side == "old" else new)

    def close(self):
        self.old.close()
        self.new.close()


@pytest.fixture(scope="module")
def application(scene):
    made = Application(scene)
    yield made
    made.close()


def test_rates_are_what_was_injected(scene, application):
    scene.sql("SELECT tandem.set_dual_write_policy('orders', grace => '3 s')")
    scene.sql("SELECT tandem.set_phase('orders', 'dual_write')")
    rng = random.Random(7)
    written = {"none": 0, "old": 0, "new": 0}
    kinds = {"both_equal": 0, "missing_on_old": 0, "missing_on_new": 0, "different": 0}
    # Inserts of new orders, then updates and deletions of orders that both sides have: each key once in each part.
    for number in range(1, 151):
        fails = rng.choice([None, None, None, "old", "new"])
        written[fails or "none"] += 1
        kinds[{None: "both_equal", "old": "missing_on_old", "new": "missing_on_new"}[fails]] += 1
        values = f"{number}, 'customer {number}', {number}.50, NULL"
        application.write(f"INSERT INTO orders VALUES ({values})",
                          f"INSERT INTO orders VALUES ({values})", fails, rng.random() < 0.5)
    verified(scene, "orders")
    present = [row[0] for row in scene.sql("SELECT id FROM orders ORDER BY id")]
    assert len(present) == 150 - written["old"]
    for number in present:
        fails = rng.choice([None, None, "old", "new"])
        written[fails or "none"] += 1
        if rng.random() < 0.3:
            kinds[{None: "both_equal", "old": "missing_on_new", "new": "missing_on_old"}[fails]] += 1
            statement = f"DELETE FROM orders WHERE id = {number}"
        else:
            kinds[{None: "both_equal", "old": "different", "new": "different"}[fails]] += 1
            statement = f"UPDATE orders SET note = 'changed', total = total + 1 WHERE id = {number}"
        application.write(statement, statement, fails, rng.random() < 0.5)
    verified(scene, "orders")
    scene.check(tables=["orders"])
    seen = rates(scene, "orders")
    assert {k: seen[k] for k in kinds} == kinds
    assert (seen["old_failed"], seen["new_failed"]) == (written["old"], written["new"])
    total = sum(written.values())
    assert seen["verified"] == total
    assert seen["old_success_rate"] == pytest.approx(1 - written["old"] / total)
    assert seen["new_success_rate"] == pytest.approx(1 - written["new"] / total)
    assert seen["new_writes"] == total - written["new"]
    assert seen["new_latency_ms"] > 0


def test_a_reported_failure_is_counted_and_mended(scene):
    before = rates(scene, "orders")
    scene.sql("UPDATE orders SET note = 'to be mended' WHERE id = (SELECT min(id) FROM orders)")
    verified(scene, "orders")
    key = scene.value("SELECT min(id) FROM orders")
    assert scene.value(f"SELECT note FROM orders WHERE id = {key}") != "to be mended"
    scene.write("INSERT INTO orders VALUES (1000, 'x', 1, NULL)")
    scene.sql("SELECT tandem.enqueue('orders', '{\"id\": 1000}')")
    scene.wait_caught_up()
    verified(scene, "orders")
    after = rates(scene, "orders")
    assert after["different"] == before["different"] + 1 and after["old_failed"] == before["old_failed"] + 1
    assert after["missing_on_new"] == before["missing_on_new"] + 1 and after["new_failed"] == before["new_failed"] + 1
    scene.check(tables=["orders"])


def test_an_older_image_is_not_written_over_a_direct_write(scene, application):
    scene.sql("SELECT tandem.set_dual_write_policy('orders', grace => '0.2 s')")
    scene.write("INSERT INTO orders VALUES (2000, 'a', 1, NULL)")
    wait_until(lambda: scene.sql("SELECT 1 FROM orders WHERE id = 2000"), 30, 0.1, "a row that only the old side has to be made up for")
    scene.sql("SELECT tandem.set_dual_write_policy('orders', grace => '20 s')")
    scene.sql("SELECT tandem.pause('orders')")
    scene.wait_state("orders", "paused")
    scene.write("UPDATE orders SET note = 'first' WHERE id = 2000")
    scene.sql("UPDATE orders SET note = 'second' WHERE id = 2000")
    scene.sql("SELECT tandem.resume('orders')")
    scene.wait_caught_up()
    assert scene.value("SELECT note FROM orders WHERE id = 2000") == "second"
    scene.write("UPDATE orders SET note = 'second' WHERE id = 2000")
    scene.wait_caught_up()
    verified(scene, "orders")
    assert rates(scene, "orders")["in_review"] == 0
    scene.check(tables=["orders"])


def test_differences_kept_for_review(scene, application):
    scene.sql("SELECT tandem.set_dual_write_policy('kept', settle => 'review', grace => '0.2 s')")
    scene.sql("SELECT tandem.set_phase('kept', 'dual_write')")
    application.write("", "INSERT INTO kept VALUES (1, 'new only')", fails="old")
    application.write("INSERT INTO kept VALUES (2, 'both')", "INSERT INTO kept VALUES (2, 'both')")
    application.write("INSERT INTO kept VALUES (3, 'old')", "INSERT INTO kept VALUES (3, 'new')", old_first=False)
    verified(scene, "kept")
    assert scene.sql("SELECT key->>'id', found FROM tandem.dual_write_reviews ORDER BY 1") == [("1", "missing_on_old"), ("3", "different")]
    assert scene.sql("SELECT * FROM kept ORDER BY id") == [(1, "new only"), (2, "both"), (3, "new")]
    with pytest.raises(psycopg2.Error) as refused:
        scene.sql("SELECT tandem.set_phase('kept', 'ready')")
    assert "review" in refused.value.diag.message_detail
    # The old side is written again, rightly: the difference is gone by itself.
    scene.write("INSERT INTO kept VALUES (1, 'new only')")
    wait_until(lambda: rates(scene, "kept")["in_review"] == 1, 30, 0.1, "row 1 to leave the review")
    assert scene.value("SELECT tandem.settle_dual_write('kept', '{\"id\": 3}')") == 1
    scene.wait_caught_up()
    assert scene.sql("SELECT * FROM kept ORDER BY id") == [(1, "new only"), (2, "both"), (3, "old")]
    assert rates(scene, "kept")["in_review"] == 0
    assert rates(scene, "kept")["old_failed"] == 2
    scene.check(tables=["kept"])


def test_the_guard_refuses_and_apply_passes(scene):
    scene.sql("INSERT INTO strict VALUES (50, 'while it is syncing')")
    scene.sql("DELETE FROM strict WHERE id = 50")
    scene.sql("SELECT tandem.set_phase('strict', 'ready')")
    for statement in ("INSERT INTO strict VALUES (2, 'x')", "UPDATE strict SET v = 'x'", "DELETE FROM strict", "TRUNCATE strict"):
        with pytest.raises(psycopg2.Error) as refused:
            scene.sql(statement)
        assert refused.value.pgcode == "55000" and 'phase "ready"' in str(refused.value)
    scene.write("INSERT INTO strict VALUES (3, 'from the old side')", "UPDATE strict SET v = 'two' WHERE id = 1", "DELETE FROM strict WHERE id = 3")
    scene.wait_caught_up()
    assert scene.sql("SELECT * FROM strict") == [(1, "two")]
    scene.sql("SELECT tandem.set_direct_writes('strict', 'allow')")
    scene.sql("UPDATE strict SET v = 'by hand'")
    scene.sql("SELECT tandem.set_direct_writes('strict', 'record')")
    scene.sql("SELECT tandem.set_dual_write_policy('strict', grace => '0.1 s')")
    scene.sql("UPDATE strict SET v = 'by hand, recorded'")
    verified(scene, "strict")
    assert scene.sql("SELECT * FROM strict") == [(1, "two")]
    assert rates(scene, "strict")["old_failed"] == 1
    scene.sql("SELECT tandem.set_direct_writes('strict', 'by_phase')")
    with pytest.raises(psycopg2.Error):
        scene.sql("UPDATE strict SET v = 'x'")
    # A writer at REPEATABLE READ whose snapshot is older than the move is refused as well.
    scene.sql("SELECT tandem.set_phase('strict', 'syncing')")
    connection = scene.pg.connect(scene.database, autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        cursor.execute("SELECT * FROM strict")
        scene.sql("SELECT tandem.set_phase('strict', 'ready')")
        with pytest.raises(psycopg2.Error) as refused:
            cursor.execute("UPDATE strict SET v = 'x'")
        assert refused.value.pgcode == "55000"
    connection.close()
    scene.check(tables=["strict"])


def test_the_guard_goes_with_the_table(scene):
    scene.sql("SELECT tandem.set_phase('parted', 'dual_write')")
    scene.sql("SELECT tandem.set_phase('parted', 'ready')")
    triggers = "SELECT count(*) FROM pg_trigger WHERE tgrelid = 'parted'::regclass AND NOT tgisinternal"
    assert scene.value(triggers + " AND tgenabled <> 'D'") == 3  # the one that records is at rest
    scene.sql("SELECT tandem.drop_table('parted')")
    assert scene.value(triggers) == 0
    scene.sql("INSERT INTO parted VALUES (1, 'mine now')")


def test_the_new_side_wins(scene, application):
    scene.sql("SELECT tandem.set_dual_write_policy('won', settle => 'new_wins', grace => '0.2 s')")
    scene.sql("SELECT tandem.set_phase('won', 'dual_write')")
    application.write("", "INSERT INTO won VALUES (10, 'new only', 1)", fails="old")
    application.write("UPDATE won SET v = 'old' WHERE id = 1", "UPDATE won SET v = 'new' WHERE id = 1", old_first=False)
    application.write("", "DELETE FROM won WHERE id = 2", fails="old")
    application.write("INSERT INTO won VALUES (11, 'old only', 1)", "", fails="new")
    application.write("UPDATE won SET v = 'both' WHERE id = 4", "UPDATE won SET v = 'both' WHERE id = 4")
    verified(scene, "won")
    wait_until(lambda: rates(scene, "won")["in_review"] == 0, 30, 0.1, lambda: f"rows to leave the review: {scene.sql('SELECT * FROM tandem.queued_writes')}\n{scene.story()}")
    scene.check(tables=["won"])
    assert scene.sql("SELECT id, v FROM won ORDER BY id") == [(1, "new"), (3, "three"), (4, "both"), (10, "new only")]
    found = rates(scene, "won")
    assert (found["both_equal"], found["old_failed"], found["new_failed"]) == (1, 3, 1), found


def test_one_that_the_old_side_refuses_holds_up_no_other(scene, application):
    """Rows that were written in one transaction are settled each for itself."""
    scene.sql("SELECT tandem.set_dual_write_policy('single', settle => 'new_wins', grace => '0.2 s')")
    scene.sql("SELECT tandem.set_phase('single', 'dual_write')")
    application.write("", "UPDATE single SET v = CASE id WHEN 1 THEN 'no' ELSE 'yes' END", fails="old")
    verified(scene, "single")
    wait_until(lambda: rates(scene, "single")["in_review"] == 1, 30, 0.1, lambda: f"two of three rows to leave the review: {scene.sql('SELECT * FROM tandem.queued_writes')}")
    assert scene.old.query("SELECT id, v FROM single ORDER BY id", database=scene.old_database) == ((1, "one"), (2, "yes"), (3, "yes"))
    ((write, state, message),) = scene.sql("SELECT write_id, sqlstate, message FROM tandem.queued_writes WHERE given_up")
    assert state == "45000" and "refused by the old side" in message
    scene.sql("SELECT tandem.settle_write(%s, 'discard')", (write,))
    scene.sql("SELECT tandem.settle_dual_write('single')")
    scene.wait_caught_up()
    scene.check(tables=["single"])


def test_the_later_one_wins(scene, application):
    with pytest.raises(psycopg2.Error) as error:
        scene.sql("SELECT tandem.set_dual_write_policy('timed', settle => 'latest')")
    assert error.value.pgcode == "22023" and "version column" in str(error.value)
    for column, state in (("nix", "42703"), ("v", "22023")):
        with pytest.raises(psycopg2.Error) as error:
            scene.sql("SELECT tandem.set_dual_write_policy('timed', settle => 'latest', version_column => %s)", (column,))
        assert error.value.pgcode == state
    scene.sql("SELECT tandem.set_dual_write_policy('timed', settle => 'latest', grace => '0.2 s', version_column => 'at')")
    scene.sql("SELECT tandem.set_phase('timed', 'dual_write')")
    change = "UPDATE timed SET v = '{0}', at = '{1}' WHERE id = {2}"
    application.write(change.format("old", "2024-01-02 00:00:00", 1), change.format("new", "2024-01-03 00:00:00", 1), old_first=False)
    application.write(change.format("old", "2024-01-03 00:00:00", 2), change.format("new", "2024-01-02 00:00:00.5", 2), old_first=False)
    application.write(change.format("old", "1960-01-01 00:00:00", 3), change.format("new", "1959-01-01 00:00:00", 3), old_first=False)
    application.write("", "DELETE FROM timed WHERE id = 4", fails="old")
    verified(scene, "timed")
    wait_until(lambda: rates(scene, "timed")["in_review"] == 1, 30, 0.1, lambda: f"rows to leave the review: {scene.sql('SELECT * FROM tandem.queued_writes')}\n{scene.story()}")
    assert scene.sql("SELECT id, v FROM timed ORDER BY id") == [(1, "new"), (2, "old"), (3, "old")]
    assert scene.sql("SELECT key ->> 'id', found FROM tandem.dual_write_reviews WHERE \"table\" = 'timed'") == [("4", "missing_on_new")], "a deletion has no version"
    scene.sql("SELECT tandem.settle_dual_write('timed')")
    scene.wait_caught_up()
    scene.check(tables=["timed"])


def test_a_row_that_the_application_is_writing_is_not_overwritten(scene):
    """The verification of a write whose other half failed finds the row locked by the next write: that one must not be taken back."""
    scene.sql("SELECT tandem.set_dual_write_policy('busy', grace => '1.5 s')")
    scene.sql("SELECT tandem.set_phase('busy', 'dual_write')")
    scene.sql("UPDATE busy SET n = 2 WHERE id = 1")  # the old side's half fails
    connection = scene.pg.connect(scene.database)
    connection.autocommit = False
    with connection.cursor() as cursor:
        cursor.execute("UPDATE busy SET n = 3 WHERE id = 1")
        # Should apply wait for the row, it is about to overwrite it.
        waits = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        wait_until(lambda: rates(scene, "busy")["old_failed"] == 1 or scene.value(waits), 10, 0.02, "the verdict on the first write")
        connection.commit()
    connection.close()
    seen = {scene.value("SELECT n FROM busy WHERE id = 1")}
    scene.write("UPDATE busy SET n = 3 WHERE id = 1")

    def quiet():
        seen.add(scene.value("SELECT n FROM busy WHERE id = 1"))
        return rates(scene, "busy")["unverified"] == 0
    wait_until(quiet, 20, 0.005, "verification")
    assert seen == {3}
    assert rates(scene, "busy")["old_failed"] == 1
    scene.check(tables=["busy"])
