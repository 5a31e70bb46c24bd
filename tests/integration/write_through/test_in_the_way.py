"""Writes through routed views that meet something in their way: a lock, a value that is taken, a row or a table that goes, a cut-over."""
import sys
import threading
import time
from pathlib import Path

import psycopg2
import pytest

from lib.process import wait_until

sys.path.insert(0, str(Path(__file__).parent))
from through_views import arrived, old, refused  # noqa: E402

ADD_ALL = False
WAIVED = '{"clean_pass": "test", "divergence": "test"}'


@pytest.fixture(scope="module")
def views(scene):
    for table in ("item", "tree", "dropped", "numbered"):
        scene.sql("SELECT tandem.add_table('shop', %s)", (table,))
        scene.sql("SELECT tandem.create_routed_view(%s, %s)", (table, f"{table}_v"))
    scene.start_all()
    scene.wait_caught_up()
    return scene


def waiting(scene):
    return scene.sql("SELECT key ->> 'id', given_up, attempts, sqlstate, message FROM tandem.queued_writes ORDER BY write_id")


def discard(scene):
    scene.sql("SELECT tandem.settle_write(min(write_id), 'discard') FROM tandem.queued_writes WHERE given_up GROUP BY transaction")


def test_a_lock_on_the_old_side_holds_up_and_nothing_overtakes(views):
    """Longer than tandem.max_attempts would allow a row: a lock is no fault of the write."""
    connection = views.old.connect(views.old_database, autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM item WHERE id = 1 FOR UPDATE")
        views.sql("UPDATE item_v SET n = 101 WHERE id = 1")
        views.sql("UPDATE item_v SET n = 102 WHERE id = 2")
        wait_until(lambda: [w for w in waiting(views) if w[2] > 0], 30, 0.1, "an attempt that waited for the lock")
        (first, second) = waiting(views)
        assert first[0] == "1" and not first[1] and "1205" in first[4], first
        assert second == ("2", False, 0, None, None), second
        refused(views, "SELECT tandem.settle_write(max(write_id), 'discard') FROM tandem.queued_writes", "55000", "is not given up")
    assert old(views, "SELECT n FROM item WHERE id = 2") == ((2,),)
    connection.rollback()
    assert arrived(views)
    assert old(views, "SELECT n FROM item WHERE id <= 2 ORDER BY id") == ((101,), (102,))
    views.check(tables=["item"])


def test_a_write_that_is_held_up_can_be_given_up_by_hand(views):
    connection = views.old.connect(views.old_database, autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute("SELECT * FROM item WHERE id = 3 FOR UPDATE")
        views.sql("UPDATE item_v SET n = 103 WHERE id = 3")
        wait_until(lambda: [w for w in waiting(views) if w[2] > 0], 30, 0.1, "an attempt that waited for the lock")
        assert views.value("SELECT tandem.settle_write(min(write_id), 'discard') FROM tandem.queued_writes") == 1
    assert waiting(views) == []
    connection.rollback()
    connection.close()
    views.check(tables=["item"])


def test_a_unique_value_that_is_taken_holds_nobody_up(views):
    views.sql("INSERT INTO tree_v VALUES (10, NULL, 1, 'taken')")
    views.sql("INSERT INTO tree_v VALUES (11, NULL, 11, 'free')")
    assert not views.value("SELECT tandem.wait_for_old('30 s')") or old(views, "SELECT COUNT(*) FROM tree WHERE id = 11") == ((1,),)
    wait_until(lambda: old(views, "SELECT COUNT(*) FROM tree WHERE id = 11") == ((1,),), 30, 0.05, "the write behind it")
    ((key, given_up, _, state, _),) = waiting(views)
    assert (key, given_up, state) == ("10", True, "23000")
    discard(views)
    views.check(tables=["tree"])


def test_a_swap_of_unique_values_takes_no_children_with_it(views):
    """Two rows can only be swapped by taking one away, and its children would go with it: refused instead."""
    views.sql("UPDATE tree_v SET place = 3 - place WHERE id IN (1, 2)")
    arrived(views)
    assert [w[1] for w in waiting(views)] == [True, True]
    assert old(views, "SELECT id, parent_id, place FROM tree WHERE id <= 4 ORDER BY id") == ((1, None, 1), (2, None, 2), (3, 1, 3), (4, 2, 4))
    discard(views)
    views.check(tables=["tree"])


def test_what_is_gone_is_gone(views):
    """DELETE of a row that another had deleted is done, on the old side as on the new one."""
    connection = views.pg.connect(views.database, autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM item_v WHERE id = 3")
        views.write("DELETE FROM item WHERE id = 3")
    connection.commit()
    assert arrived(views) and waiting(views) == []
    views.sql("SELECT tandem.set_phase('numbered', 'ready')")
    views.wait_caught_up()
    views.sql("CALL tandem.cutover(ARRAY['shop.numbered'], waive => %s)", (WAIVED,))
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM numbered WHERE id = 1")
        counts = []

        def late():
            other = views.pg.connect(views.database)
            with other.cursor() as second:
                second.execute("UPDATE numbered_v SET v = 'late' WHERE id = 1")
                counts.append(second.rowcount)
                second.execute("DELETE FROM numbered_v WHERE id = 1")
                counts.append(second.rowcount)
            other.close()
        thread = threading.Thread(target=late)
        thread.start()
        time.sleep(0.3)
    connection.commit()
    connection.close()
    thread.join()
    assert counts == [0, 0]
    views.sql("CREATE FUNCTION leave_out() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    views.sql("CREATE TRIGGER leave_out BEFORE UPDATE ON numbered FOR EACH ROW EXECUTE FUNCTION leave_out()")
    assert views.sql("UPDATE numbered_v SET v = 'x' WHERE id = 2 RETURNING id") == [], "a trigger of the target left it out, nobody changed it"
    views.sql("DROP TRIGGER leave_out ON numbered; DROP FUNCTION leave_out()")


def test_a_table_is_not_dropped_under_its_writers(views):
    connection = views.pg.connect(views.database, autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE dropped_v SET v = 100 WHERE id = 1")
        errors = []

        def drop():
            try:
                views.sql("SELECT tandem.drop_table('dropped')")
            except psycopg2.Error as error:
                errors.append(error.pgcode)
        thread = threading.Thread(target=drop)
        thread.start()
        time.sleep(0.5)
        assert thread.is_alive(), "it waits for the writer"
    connection.commit()
    thread.join()
    assert errors in ([], ["55000"]) and (not errors) == (old(views, "SELECT v FROM dropped WHERE id = 1") == ((100,),)), errors
    assert arrived(views)
    assert old(views, "SELECT v FROM dropped WHERE id = 1") == ((100,),)
    # The other way round: whoever comes while the table goes is told so, in any isolation level.
    if errors:
        with connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("SELECT count(*) FROM dropped")
            views.sql("SELECT tandem.drop_table('dropped')")
            with pytest.raises(psycopg2.Error) as error:
                cursor.execute("UPDATE dropped_v SET v = 200 WHERE id = 2")
            assert error.value.pgcode in ("40001", "55000"), error.value
        connection.rollback()
    connection.close()
    refused(views, "UPDATE dropped_v SET v = 200 WHERE id = 2", "55000")
    assert old(views, "SELECT v FROM dropped WHERE id = 2") == ((2,),)


def test_what_was_given_up_stops_a_cutover_and_is_settled_before(views):
    views.sql("SELECT tandem.set_phase('item', 'ready')")
    connection = views.pg.connect(views.database, autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE item_v SET n = 500 WHERE id = 1")
        views.write("UPDATE item SET n = 50 WHERE id = 1")
    connection.commit()
    connection.close()
    wait_until(lambda: [w for w in waiting(views) if w[1]], 30, 0.05, "the conflict")
    views.wait_caught_up()
    refused(views, f"CALL tandem.cutover(ARRAY['shop.item'], waive => '{WAIVED}')", "55000", "queued_writes")
    assert views.value("SELECT phase FROM tandem.phases WHERE \"table\" = 'item'") == "ready"
    waived = WAIVED.replace("}", ', "queued_writes": "the old row is right"}')
    views.sql(f"CALL tandem.cutover(ARRAY['shop.item'], waive => '{waived}')")
    assert views.value("SELECT phase FROM tandem.phases WHERE \"table\" = 'item'") == "new_primary"
    refused(views, "SELECT tandem.settle_write(min(write_id), 'overwrite') FROM tandem.queued_writes", "55000", "not the source of truth")
    assert views.value("SELECT tandem.settle_write(min(write_id), 'discard') FROM tandem.queued_writes") == 1
    assert views.value("SELECT n FROM item_v WHERE id = 1") == 50


def test_given_up_during_a_cutover_stops_it(views):
    """The gates were open; the write in the queue is refused while the attempt drains."""
    views.sql("CALL tandem.rollback(ARRAY['shop.item'])")
    connection = views.old.connect(views.old_database, autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE item SET n = 60 WHERE id = 1")
        views.sql("UPDATE item_v SET n = 600 WHERE id = 1")
        errors = []

        def move():
            try:
                views.sql(f"CALL tandem.cutover(ARRAY['shop.item'], max_pause => '8 s', waive => '{WAIVED}')")
            except psycopg2.Error as error:
                errors.append(str(error))
        thread = threading.Thread(target=move)
        thread.start()
        wait_until(lambda: views.value("SELECT phase FROM tandem.phases WHERE \"table\" = 'item'") == "cutover", 30, 0.01, "the attempt to begin")
    connection.commit()
    connection.close()
    thread.join()
    assert errors and "given up" in errors[0], errors
    assert views.value("SELECT phase FROM tandem.phases WHERE \"table\" = 'item'") == "ready"
    discard(views)
    views.check(tables=["item"])
