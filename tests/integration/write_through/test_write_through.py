"""See README.md."""
import sys
import threading
from pathlib import Path

import psycopg2
import pytest

from lib.process import wait_until

sys.path.insert(0, str(Path(__file__).parent))
from through_views import arrived, old, refused  # noqa: E402

ADD_ALL = False


@pytest.fixture(scope="module")
def views(scene):
    for table in ("item", "kinds", "pair", "parent", "child", "numbered"):
        scene.sql("SELECT tandem.add_table('shop', %s)", (table,))
    scene.sql('''SELECT tandem.add_table('shop', 'part', "where" => 'v < 100')''')
    for table in ("item", "kinds", "pair", "parent", "child", "numbered", "part"):
        scene.sql("SELECT tandem.create_routed_view(%s, %s)", (table, f"{table}_v"))
    scene.start_all()
    scene.wait_caught_up()
    return scene


@pytest.fixture(autouse=True)
def nothing_left(views):
    """A test that fails leaves no write to the next."""
    yield
    arrived(views)
    for (write,) in views.sql("SELECT min(write_id) FROM tandem.queued_writes WHERE given_up GROUP BY transaction"):
        views.sql("SELECT tandem.settle_write(%s, 'discard')", (write,))


def given_up(scene):
    return scene.sql('SELECT "table", operation, key, sqlstate, message FROM tandem.queued_writes WHERE given_up ORDER BY write_id')


def test_a_write_is_part_of_its_transaction(views):
    connection = views.pg.connect(views.database, autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO item_v VALUES (10, 'ten', 10); UPDATE item_v SET n = 11 WHERE id = 1; DELETE FROM item_v WHERE id = 2")
        assert cursor.rowcount == 1
    assert old(views, "SELECT COUNT(*) FROM item WHERE id = 10 OR n = 11") == ((0,),)
    connection.rollback()
    assert arrived(views)
    assert old(views, "SELECT id, n FROM item ORDER BY id") == ((1, 1), (2, 2), (3, 3))
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO item_v VALUES (10, 'ten', 10) RETURNING id, name")
        assert cursor.fetchall() == [(10, "ten")]
        cursor.execute("UPDATE item_v SET n = n + 10 WHERE id IN (1, 3)")
        assert cursor.rowcount == 2
        cursor.execute("DELETE FROM item_v WHERE id = 2")
        cursor.execute("SAVEPOINT s; INSERT INTO item_v VALUES (11, 'no', 0); ROLLBACK TO s")
        with pytest.raises(psycopg2.Error) as error:
            cursor.execute("SELECT tandem.wait_for_old()")
        assert error.value.pgcode == "55000"
    connection.rollback()
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO item_v VALUES (10, 'ten', 10); UPDATE item_v SET n = n + 10 WHERE id IN (1, 3); DELETE FROM item_v WHERE id = 2")
        cursor.execute("SAVEPOINT s; INSERT INTO item_v VALUES (11, 'no', 0); ROLLBACK TO s")
    connection.commit()
    connection.close()
    assert arrived(views)
    assert old(views, "SELECT id, name, n FROM item ORDER BY id") == ((1, "one", 11), (3, "three", 13), (10, "ten", 10))
    views.check(tables=["item"])
    assert views.sql("SELECT written, refused, waiting, given_up FROM tandem.pg_stat_tandem_writes WHERE \"table\" = 'item'") == [(4, 0, 0, 0)]


def test_values_of_every_type(views):
    views.sql("SELECT tandem.set_phase('kinds', 'ready'), tandem.set_phase('pair', 'ready')")
    for strategy in ("old", "new"):
        views.sql("SELECT tandem.set_read_strategy('kinds', 'old')")
        views.sql("DELETE FROM kinds_v WHERE id = 0")
        assert arrived(views)
        views.wait_caught_up()
        views.sql("SELECT tandem.set_read_strategy('kinds', %s)", (strategy,))
        views.sql("INSERT INTO kinds_v SELECT (json_populate_record(v, '{\"id\": 0}')).* FROM kinds_v AS v WHERE id = 18446744073709551615")
        assert arrived(views) and given_up(views) == []
        columns = [row[0] for row in old(views, "SHOW COLUMNS FROM kinds") if row[0] != "id"]
        assert len(old(views, f"SELECT DISTINCT {', '.join(columns)} FROM kinds")) == 1
        views.check(tables=["kinds"])
    refused(views, "UPDATE kinds_v SET ti = 0", "55000", "shows a side that lags")
    views.sql("SELECT tandem.set_read_strategy('kinds', 'old')")
    views.sql("UPDATE kinds_v SET ti = -7, de = 0.0001, db = 1e-300, bt = B'00001', da = '9999-12-31', dt = '1000-01-01', ts = '2038-01-01 00:00:00.5+00', tm = '838:59:58.75', yr = 1901,"
              " vc = '', tx = repeat('é', 70000), en = 'x', st = '', vb = '', bl = decode(repeat('00', 60000), 'hex'), latin = 'ÿ' WHERE id = 0")
    assert arrived(views) and given_up(views) == []
    assert old(views, "SELECT ti, de, db, bt + 0, yr, en, st, LENGTH(tx), LENGTH(bl), HEX(latin) FROM kinds WHERE id = 0")[0][2:6] == (1e-300, 1, 1901, "x")
    views.sql("UPDATE kinds_v SET vc = NULL, bl = NULL, dt = NULL, db = NULL WHERE id = 0")
    views.sql("UPDATE pair_v SET v = v + 1")
    views.sql("INSERT INTO pair_v VALUES ('Ünique', '2024-03-31 02:30:00+02', 5)")
    assert arrived(views) and given_up(views) == []
    views.check(tables=["kinds", "pair"])


def test_what_is_not_written_stays_as_it_is(views):
    """mysql_fdw reads FLOAT with 6 digits: an update of another column neither fails for that nor changes it."""
    exact = old(views, "SELECT f + 0e0 FROM numbered WHERE id = 1")
    views.sql("UPDATE numbered_v SET v = 'changed' WHERE id = 1")
    assert arrived(views) and given_up(views) == []
    assert old(views, "SELECT v FROM numbered WHERE id = 1") == (("changed",),) and old(views, "SELECT f + 0e0 FROM numbered WHERE id = 1") == exact
    views.check(tables=["numbered"])


def test_a_row_that_was_changed_meanwhile_is_not_overwritten(views):
    connection = views.pg.connect(views.database, autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE item_v SET n = 100 WHERE id = 1; INSERT INTO item_v VALUES (12, 'twelve', 12)")
        views.write("UPDATE item SET n = 50 WHERE id = 1")
    connection.commit()
    with connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("SELECT tandem.wait_for_old()")
        assert cursor.fetchone() == (False,) and "did not take: 2" in connection.notices[-1]
        cursor.execute("SELECT tandem.wait_for_old()")
        assert cursor.fetchone() == (True,), "told once"
    found = given_up(views)
    assert [row[:4] for row in found] == [("item", "update", {"id": 1}, "40001"), ("item", "insert", {"id": 12}, "40001")]
    assert 'column "n" was 11 and is 50' in found[0][4] and "was not taken" in found[1][4]
    assert old(views, "SELECT n FROM item WHERE id = 1") == ((50,),) and old(views, "SELECT COUNT(*) FROM item WHERE id = 12") == ((0,),), "all of a transaction or nothing"
    refused(views, "SELECT tandem.drop_table('item')", "55000", "writes through")
    ids = [row[0] for row in views.sql("SELECT write_id FROM tandem.queued_writes ORDER BY 1")]
    refused(views, f"SELECT tandem.settle_write({ids[0]}, 'somehow')", "22023")
    refused(views, "SELECT tandem.settle_write(999999, 'retry')", "42704")
    assert views.value(f"SELECT tandem.settle_write({ids[0]}, 'retry')") == 2
    wait_until(lambda: len(given_up(views)) == 2, 20, 0.05, "the same conflict")
    assert views.value(f"SELECT tandem.settle_write({ids[1]}, 'overwrite')") == 2
    arrived(views)
    assert old(views, "SELECT id, n FROM item WHERE id IN (1, 12) ORDER BY id") == ((1, 100), (12, 12))
    # What exists, and what is gone.
    for statement, before in (("INSERT INTO item_v VALUES (13, 'mine', 1)", "INSERT INTO item VALUES (13, 'theirs', 2)"), ("DELETE FROM item_v WHERE id = 12", "UPDATE item SET n = 0 WHERE id = 12"),
                              ("UPDATE item_v SET n = 1 WHERE id = 10", "DELETE FROM item WHERE id = 10")):
        with connection.cursor() as cursor:
            connection.autocommit = False
            cursor.execute(statement)
            views.write(before)
            connection.commit()
        arrived(views)
        (lost,) = given_up(views)
        assert lost[3] in ("23505", "40001"), lost
        views.sql("SELECT tandem.settle_write(write_id, 'discard') FROM tandem.queued_writes")
    connection.close()
    assert old(views, "SELECT id, name, n FROM item WHERE id >= 10 ORDER BY id") == ((12, "twelve", 0), (13, "theirs", 2))
    views.check(tables=["item"])


def test_foreign_keys_and_order(views):
    connection = views.pg.connect(views.database, autocommit=False)
    with connection.cursor() as cursor:
        for n in range(20):
            cursor.execute(f"INSERT INTO parent_v VALUES ({n}, 'p'); INSERT INTO child_v VALUES ({n}, {n})")
    connection.commit()
    assert arrived(views) and given_up(views) == []
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO parent_v VALUES (50, 'with'); INSERT INTO child_v VALUES (50, 99)")
    connection.commit()
    arrived(views)
    found = given_up(views)
    assert [row[3] for row in found] == ["23000", "23000"] and old(views, "SELECT COUNT(*) FROM parent WHERE id = 50") == ((0,),)
    views.sql("SELECT tandem.settle_write(min(write_id), 'discard') FROM tandem.queued_writes")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM parent_v WHERE id = 3")
    connection.commit()
    arrived(views)
    assert [row[3] for row in given_up(views)] == ["23000"]
    views.sql("SELECT tandem.settle_write(min(write_id), 'discard') FROM tandem.queued_writes")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM child_v WHERE id = 3; DELETE FROM parent_v WHERE id = 3")
    connection.commit()
    connection.close()
    assert arrived(views) and given_up(views) == []
    views.check(tables=["parent", "child"])


def test_refusals(views):
    refused(views, "UPDATE item_v SET id = 99 WHERE id = 1", "0A000", "key of a row cannot be changed")
    refused(views, "INSERT INTO numbered_v (v) VALUES ('x')", "23502", "needs its key")
    refused(views, "INSERT INTO part_v VALUES (1, 1)", "0A000", "it has a filter")
    refused(views, "UPDATE item_v SET n = 1 WHERE id = 1; UPDATE item_v SET n = 2 WHERE id = 1", "55000", "already written in this transaction")
    views.sql("CREATE ROLE nobody_v LOGIN; CREATE ROLE writer_v LOGIN; GRANT SELECT, INSERT, UPDATE, DELETE ON item_v TO writer_v")
    try:
        views.sql("CREATE USER MAPPING FOR writer_v SERVER old OPTIONS (username 'tandem', password %s)", (views.sql(
            "SELECT o.option_value FROM pg_user_mappings AS m, pg_options_to_table(m.umoptions) AS o WHERE m.usename = 'postgres' AND o.option_name = 'password'")[0][0],))
        refused(views, "SET ROLE nobody_v; INSERT INTO item_v VALUES (70, 'x', 1)", "42501")
        views.sql("SET ROLE writer_v; INSERT INTO item_v VALUES (70, 'x', 1); UPDATE item_v SET n = 3 WHERE id = 1; RESET ROLE")
        refused(views, "SET ROLE writer_v; SELECT * FROM tandem.write_queue", "42501")
        refused(views, "SET ROLE writer_v; SELECT tandem._queue_write(1, 1, 'insert', NULL, NULL)", "42501")
        assert arrived(views) and given_up(views) == []
        assert old(views, "SELECT id, n FROM item WHERE id IN (1, 70) ORDER BY id") == ((1, 3), (70, 1))
    finally:
        views.sql("RESET ROLE; DROP USER MAPPING FOR writer_v SERVER old; DROP OWNED BY writer_v; DROP ROLE writer_v, nobody_v")
    views.check(tables=["item"])


def add_one(scene, key, times, counts, errors):
    """What an application does: read and write in one statement, and try again when it is told to."""
    connection = scene.pg.connect(scene.database)
    try:
        done = 0
        while done < times:
            try:
                with connection.cursor() as cursor:
                    cursor.execute("UPDATE item_v SET n = n + 1 WHERE id = %s", (key,))
                    assert cursor.rowcount == 1
                done += 1
                counts.append(1)
            except psycopg2.Error as error:
                if error.pgcode not in ("40001", "40P01"):
                    raise
            with connection.cursor() as cursor:
                cursor.execute("SELECT tandem.wait_for_old()")
    except Exception as error:  # shown by the test
        errors.append(error)
    finally:
        connection.close()


def test_no_increment_is_lost_among_writers_of_both_sides(views):
    """PostgreSQL's writers among each other, and MySQL's beside them: what was acknowledged and not given up is there."""
    views.sql("INSERT INTO item_v VALUES (80, 'counted', 0)")
    assert arrived(views)
    counts, errors = [], []
    threads = [threading.Thread(target=add_one, args=(views, 80, 25, counts, errors)) for _ in range(3)]
    for thread in threads:
        thread.start()
    natives = 0
    while any(thread.is_alive() for thread in threads):
        views.write("UPDATE item SET n = n + 1 WHERE id = 80")
        natives += 1
        threading.Event().wait(0.1)
    for thread in threads:
        thread.join()
    assert not errors, errors
    arrived(views)
    lost = len(given_up(views))
    assert old(views, "SELECT n FROM item WHERE id = 80") == ((len(counts) + natives - lost,),), (len(counts), natives, lost)
    views.sql("SELECT tandem.settle_write(write_id, 'discard') FROM tandem.queued_writes")
    views.check(tables=["item"])


def test_the_view_writes_to_the_side_that_is_the_truth(views):
    """Writers go on while the truth moves to the new side and back: no error but those that say try again, and nothing is lost."""
    views.sql("SELECT tandem.set_phase('item', 'ready')")
    views.sql("INSERT INTO item_v SELECT 200 + g, 'w', 0 FROM generate_series(0, 3) AS g")
    assert arrived(views)
    views.wait_caught_up()
    counts, errors = {}, []
    threads = []
    for key in range(200, 204):
        counts[key] = []
        threads.append(threading.Thread(target=add_one, args=(views, key, 150, counts[key], errors)))
    for thread in threads:
        thread.start()
    for _ in range(2):
        views.sql("CALL tandem.cutover(ARRAY['shop.item'], max_pause => '2 s', waive => '{\"clean_pass\": \"test\", \"divergence\": \"test\"}')")
        assert views.value("SELECT phase FROM tandem.phases WHERE \"table\" = 'item'") == "new_primary"
        threading.Event().wait(0.3)
        views.sql("CALL tandem.rollback(ARRAY['shop.item'], max_pause => '2 s')")
        threading.Event().wait(0.3)
    for thread in threads:
        thread.join()
    assert not errors, errors
    arrived(views)
    assert given_up(views) == []
    views.check(tables=["item"])
    for key, done in counts.items():
        assert old(views, f"SELECT n FROM item WHERE id = {key}") == ((len(done),),)


def test_after_the_cutover(views):
    views.sql("SELECT tandem.set_phase('numbered', 'ready')")
    views.sql("CALL tandem.cutover(ARRAY['shop.numbered'], waive => '{\"clean_pass\": \"test\", \"divergence\": \"test\"}')")
    ((given,),) = views.sql("INSERT INTO numbered_v (v) VALUES ('fresh') RETURNING id")
    assert given > 2 and views.sql("INSERT INTO numbered_v (f) VALUES (1) RETURNING v") == [("new",)]
    assert views.sql("UPDATE numbered_v SET v = 'again' WHERE id = %s RETURNING v", (given,)) == [("again",)]
    connection = views.pg.connect(views.database, autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE numbered SET v = 'other' WHERE id = %s", (given,))
        errors = []

        def late():
            try:
                views.sql("UPDATE numbered_v SET v = v || '!' WHERE id = %s", (given,))
            except psycopg2.Error as error:
                errors.append(error.pgcode)
        thread = threading.Thread(target=late)
        thread.start()
        threading.Event().wait(0.3)
    connection.commit()
    connection.close()
    thread.join()
    assert errors == ["40001"], "the row was not what the statement had read"
    views.sql("DELETE FROM numbered_v WHERE id = 2")
    assert views.sql("SELECT id, v FROM numbered_v WHERE id IN (1, 2, %s) ORDER BY id", (given,)) == [(1, "changed"), (given, "other")]
    wait_until(lambda: not views.value("SELECT count(*) FROM tandem.reverse_outbox"), 20, 0.05, "the way back")
    assert not views.differences(["numbered"])
    assert arrived(views) and given_up(views) == []


def test_writes_through_a_plain_foreign_table(views):
    """The old side has them at once; their keys are asked for, whether its triggers capture them or not."""
    refused(views, "SELECT tandem.capture_foreign('item', 'shop.item')", "42809")
    refused(views, "SELECT tandem.capture_foreign('pair_v_old', 'shop.item')", "42P16", "not over old table")
    views.sql("SELECT tandem.capture_foreign('pair_v_old', 'shop.pair')")
    connection = views.pg.connect(views.database, autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO pair_v_old (code, at, v) VALUES ('Zürich', '2024-01-01 00:00:00', 1)")
        cursor.execute("UPDATE pair_v_old SET v = 77 WHERE code = 'Zürich'")
        cursor.execute("DELETE FROM pair_v_old WHERE code = 'abc'")
        cursor.execute("SELECT key_text FROM tandem.request WHERE reason = 'foreign write' ORDER BY request_id")
        asked = [row[0] for row in cursor.fetchall()]
    connection.commit()
    connection.close()
    assert [key[0] for key in asked] == ["Zürich", "Zürich", "Zürich", "abc"] and asked[0][1].startswith("2024-01-01 00:00:00"), asked
    wait_until(lambda: not views.value("SELECT count(*) FROM tandem.request"), 20, 0.05, "the rows to be fetched")
    views.check(tables=["pair"])
    assert views.value("SELECT v FROM pair WHERE code = 'Zürich'") == 77


def test_a_column_that_is_added(views):
    views.sql("INSERT INTO item_v VALUES (300, 'before', 1)")
    assert arrived(views)
    views.write("ALTER TABLE item ADD COLUMN extra VARCHAR(10)")
    wait_until(lambda: views.sql("SELECT * FROM tandem.schema_changes WHERE change = 'added'"), 30, 0.1, "the column to be offered")
    views.sql("SELECT tandem.add_column('item', 'extra')")
    refused(views, "UPDATE item_v SET n = 2 WHERE id = 300", "55000", 'lacks columns that were added to its table: "extra"')
    views.sql("SELECT tandem.drop_routed_view('item_v')")
    views.wait_caught_up()
    views.sql("SELECT tandem.create_routed_view('item', 'item_v')")
    views.sql("UPDATE item_v SET extra = 'more' WHERE id = 300")
    assert arrived(views) and given_up(views) == []
    assert old(views, "SELECT name, extra FROM item WHERE id = 300") == (("before", "more"),)
    views.check(tables=["item"])
