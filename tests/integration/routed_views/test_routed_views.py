"""Routed views on both old servers."""
import threading

import pytest

ITEM = "SELECT id, name, n FROM item_v ORDER BY id"


@pytest.fixture(scope="module")
def views(scene):
    for table in ("item", "kinds", "pair"):
        scene.sql("SELECT tandem.create_routed_view(%s, %s)", (table, f"{table}_v"))
        scene.sql("SELECT tandem.set_phase(%s, 'ready')", (table,))
    return scene


def strategy(scene, table, wanted):
    scene.sql("SELECT tandem.set_read_strategy(%s, %s)", (table, wanted))


def test_values_are_the_same_from_either_side(views):
    for table in ("kinds", "pair"):
        strategy(views, table, "old")
        from_old = views.sql(f"SELECT v::text FROM {table}_v AS v ORDER BY 1")
        strategy(views, table, "new")
        assert views.sql(f"SELECT v::text FROM {table}_v AS v ORDER BY 1") == from_old
        strategy(views, table, "new_fallback_old")
        assert views.sql(f"SELECT v::text FROM {table}_v AS v ORDER BY 1") == from_old
        views.sql("SELECT tandem.set_dual_write_policy(%s, version_column => %s)", (table, {"kinds": "dt", "pair": "v"}[table]))
        strategy(views, table, "merge")
        assert views.sql(f"SELECT v::text FROM {table}_v AS v ORDER BY 1") == from_old
        assert len(from_old) == 2
    views.check()


def test_what_each_strategy_returns_while_the_new_side_lags(views):
    views.sql("SELECT tandem.pause('item')")
    views.wait_state("item", "paused")
    views.write("INSERT INTO item VALUES (4, 'four', 4)", "DELETE FROM item WHERE id = 1", "UPDATE item SET n = 20 WHERE id = 2")
    old = [(2, "two", 20), (3, "three", 3), (4, "four", 4)]
    new = [(1, "one", 1), (2, "two", 2), (3, "three", 3)]
    strategy(views, "item", "old")
    assert views.sql(ITEM) == old
    strategy(views, "item", "new")
    assert views.sql(ITEM) == new
    # The row that is not there yet comes from the old side; what was deleted there is not brought back by the fallback, it is only not gone yet.
    strategy(views, "item", "new_fallback_old")
    assert views.sql(ITEM) == new + [(4, "four", 4)]
    assert views.sql("SELECT n FROM item_v WHERE id = 4") == [(4,)]
    views.sql("SELECT tandem.resume('item')")
    views.wait_caught_up()
    assert views.sql(ITEM) == old
    # A row that the new side has lost is found on the old side, and the deletion on the old side is final.
    views.sql("SELECT tandem.set_direct_writes('item', 'allow')")
    views.sql("DELETE FROM item WHERE id = 3")
    assert views.sql(ITEM) == old
    views.write("DELETE FROM item WHERE id = 3")
    views.wait_caught_up()
    assert views.sql(ITEM) == [(2, "two", 20), (4, "four", 4)]
    views.check()


def test_readers_see_every_row_once_while_the_strategy_changes(views):
    views.write("INSERT INTO item VALUES " + ", ".join(f"({i}, 'row', 0)" for i in range(100, 200)))
    views.wait_caught_up()
    wrong, reads, done = [], [0], threading.Event()

    def read():
        connection = views.pg.connect(views.database)
        with connection.cursor() as cursor:
            cursor.execute("PREPARE one(int) AS SELECT count(*), min(name) FROM item_v WHERE id = $1")
            cursor.execute("PREPARE all_rows AS SELECT count(*), count(DISTINCT id) FROM item_v WHERE id BETWEEN 100 AND 199")
            number = 100
            while not done.is_set():
                cursor.execute("EXECUTE one(%s)", (number,))
                row = cursor.fetchone()
                cursor.execute("EXECUTE all_rows")
                every = cursor.fetchone()
                if row != (1, "row") or every != (100, 100):
                    wrong.append((number, row, every))
                reads[0] += 1
                number = 100 + (number + 1) % 100
        connection.close()

    def write():
        n = 0
        while not done.is_set():
            n += 1
            views.write(f"UPDATE item SET n = {n} WHERE id = {100 + n % 100}")

    threads = [threading.Thread(target=read) for _ in range(2)] + [threading.Thread(target=write)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(60):
            strategy(views, "item", ("new", "old", "new_fallback_old")[turn % 3])
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not wrong, wrong[:5]
    assert reads[0] > 20
    views.check()


def test_dates_that_postgresql_cannot_hold_follow_their_policy(empty_scene):
    scene = empty_scene
    scene.add_source()
    scene.add_table("dated", policies='{"d": "null", "at": {"value": "1970-01-01 00:00:00+00"}}')
    scene.start_all()
    connection = scene.app()
    with connection.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        cursor.execute("INSERT INTO dated VALUES (1, '0000-00-00', '0000-00-00 00:00:00'), (2, '2020-00-00', '2020-06-01 12:00:00'), (3, '2020-02-29', NULL)")
    connection.close()
    scene.wait_caught_up()
    scene.sql("SELECT tandem.create_routed_view('dated', 'dated_v')")
    from_old = scene.sql("SELECT v::text FROM dated_v AS v ORDER BY 1")
    scene.sql("SELECT tandem.set_phase('dated', 'ready')")
    strategy(scene, "dated", "new")
    assert scene.sql("SELECT v::text FROM dated_v AS v ORDER BY 1") == from_old
    assert len(from_old) == 3
