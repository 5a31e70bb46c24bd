"""See README.md."""
import threading

import psycopg2
import pytest

from lib.process import wait_until

ADD_ALL = False
ROWS = 2000


def never_told_of_the_view(scene):
    """What goes through the view is at every moment in the queue, asked for or applied: nothing is ever reported as different."""
    done, errors = threading.Event(), []

    def writer(first):
        connection = scene.pg.connect(scene.database)
        with connection.cursor() as cursor:
            n = first
            while not done.is_set():
                try:
                    cursor.execute("UPDATE item_v SET n = n + 1 WHERE id = %s", (n % 50 + 10,))
                except psycopg2.Error as error:
                    if error.pgcode != "40001":
                        errors.append(error)
                        break
                n += 1
        connection.close()

    threads = [threading.Thread(target=writer, args=(n,)) for n in (0, 25)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(15):
            assert scene.sql("SELECT * FROM tandem.reconcile('shop.item')") == []
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not errors, errors
    assert scene.value("SELECT tandem.wait_for_old()")
    wait_until(lambda: not scene.value("SELECT count(*) FROM tandem.request"), 60, 0.05, "rows to be fetched")
    scene.check(tables=["item"])


def test_without_triggers(scene):
    scene.add_table("parent")
    with pytest.raises(psycopg2.Error) as error:
        scene.add_table("child", capture="foreign")
    assert error.value.pgcode == "0A000" and "foreign keys" in str(error.value)
    scene.sql("SELECT tandem.drop_table('parent')")
    with pytest.raises(psycopg2.Error) as error:
        scene.add_table("item", capture="magic")
    assert error.value.pgcode == "22023"
    values = ",".join(f"({n}, 'item {n}', 0)" for n in range(1, ROWS + 1))
    scene.write(f"INSERT INTO item VALUES {values}")
    scene.add_table("item", capture="foreign")
    scene.sql("SELECT tandem.create_routed_view('item', 'item_v')")
    scene.sql("SELECT tandem.capture_foreign('item_v_old', 'item')")
    done, counts, errors = threading.Event(), [0, 0], []

    def through_the_view():
        connection = scene.pg.connect(scene.database)
        with connection.cursor() as cursor:
            while not done.is_set():
                number = counts[0] % ROWS + 1
                try:
                    cursor.execute("UPDATE item_v SET n = n + 1 WHERE id = %s", (number,))
                    counts[0] += 1
                    if counts[0] % 7 == 0:
                        cursor.execute("DELETE FROM item_v WHERE id = %s", (ROWS - counts[0] // 7,))
                except psycopg2.Error as error:
                    if error.pgcode != "40001":
                        errors.append(error)
                        break
        connection.close()

    def through_the_table():
        connection = scene.pg.connect(scene.database)
        with connection.cursor() as cursor:
            while not done.is_set():
                counts[1] += 1
                cursor.execute("INSERT INTO item_v_old VALUES (%s, 'foreign', 1)", (100000 + counts[1],))
                cursor.execute("UPDATE item_v_old SET n = 2 WHERE id = %s", (100000 + counts[1] // 2 + 1,))
        connection.close()

    scene.sql("SELECT tandem.start('item')")
    threads = [threading.Thread(target=work) for work in (through_the_view, through_the_table)]
    for thread in threads:
        thread.start()
    wait_until(lambda: scene.states() == {"item": "syncing"} and min(counts) > 100, 60, 0.05, lambda: f"the copy and some writes {counts} {scene.story()}")
    done.set()
    for thread in threads:
        thread.join()
    assert not errors, errors
    assert scene.value("SELECT tandem.wait_for_old()")
    wait_until(lambda: not scene.value("SELECT count(*) FROM tandem.request"), 60, 0.05, "rows to be fetched")
    scene.check(tables=["item"])
    triggers = scene.old.query("SELECT COUNT(*) FROM information_schema.triggers WHERE trigger_schema = %s", (scene.old_database,))
    assert triggers == ((0,),)
    assert scene.sql("SELECT * FROM tandem.reconcile('shop.item')") == []
    never_told_of_the_view(scene)
    # Behind PostgreSQL's back.
    scene.write("UPDATE item SET name = 'unseen' WHERE id = 5", "INSERT INTO item VALUES (999999, 'unseen', 0)", "DELETE FROM item WHERE id = 6")
    found = scene.sql("SELECT key ->> 'id', kind FROM tandem.reconcile('shop.item') ORDER BY 1")
    assert found == [("5", "different"), ("6", "extra"), ("999999", "missing")]
    scene.sql("SELECT * FROM tandem.repair('shop.item', dry_run => false)")
    wait_until(lambda: not scene.differences(["item"]), 30, 0.1, "the repair")
