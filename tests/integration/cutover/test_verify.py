"""Rows that changed since the last pass are compared before the cut-over and in its pause: so it needs no quiet hour and no waiver, and a row that differs stops it."""
import sys
import threading
import time
from pathlib import Path

import psycopg2
import pymysql
import pytest

from lib.process import wait_until

sys.path.insert(0, str(Path(__file__).parent))

from test_cutover import GROUP, call, equal, fences, phase, ready  # noqa: E402


class Traffic:
    """Clients that change the same few rows over and over, until the old side tells them that the tables have moved."""

    def __init__(self, scene, clients=3):
        self.scene, self.errors, self.stop, self.written = scene, [], threading.Event(), 0
        self.threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(clients)]

    def _run(self, number):
        connection = self.scene.app()
        turn = 0
        while not self.stop.is_set():
            turn += 1
            try:
                with connection.cursor() as cursor:
                    cursor.execute("UPDATE customer SET balance = balance + 1 WHERE id = %s", (1 + (turn + number) % 5,))
                    cursor.execute("INSERT INTO orders (customer_id, note) VALUES (%s, 'hot')", (1 + turn % 5,))
                    if turn % 3 == 0:
                        cursor.execute("DELETE FROM orders WHERE note = 'hot' ORDER BY id LIMIT 1")
                    self.written += 1
            except pymysql.err.OperationalError as error:
                if error.args[0] not in (1205, 1213):  # deadlocks and waits are part of the game
                    self.errors.append(error)
                    return
            except pymysql.err.MySQLError as error:
                self.errors.append(error)
                return
            time.sleep(0.002)
        connection.close()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *trace):
        self.stop.set()
        for thread in self.threads:
            thread.join(30)


def fill(scene):
    scene.write("INSERT INTO customer (name) VALUES ('a'), ('b'), ('c'), ('d'), ('e')", "INSERT INTO orders (customer_id, note) VALUES (1, 'first'), (5, 'second')")
    ready(scene)
    assert all(valid for (valid,) in scene.sql("SELECT valid FROM tandem.validate_foreign_keys()"))


def reconcile(scene):
    for table in GROUP:
        assert scene.sql("SELECT * FROM tandem.reconcile(%s)", (table,)) == []


def closed(scene):
    return [row for row in scene.sql('SELECT gate, "table", value FROM tandem.cutover_check(%s) WHERE NOT ok', (GROUP,))]


def by_hand(scene, statement):
    scene.sql(f"SET session_replication_role = replica; {statement}; RESET session_replication_role")


def test_hot_small_tables(scene):
    fill(scene)
    with Traffic(scene) as traffic:
        wait_until(lambda: traffic.written > 50, 30, 0.05, "traffic")
        assert {row[0] for row in closed(scene)} >= {"clean_pass", "divergence"}
        reconcile(scene)
        before = traffic.written
        wait_until(lambda: traffic.written > before + 50, 30, 0.05, "more traffic")
        wait_until(lambda: not closed(scene), 30, 0.2, "the gates to open")
        call(scene, "rehearse_cutover", max_pause="5 s")
        assert not traffic.errors
        call(scene, "cutover", max_pause="5 s")
        for thread in traffic.threads:
            thread.join(30)
        assert [error.args[0] for error in traffic.errors] == [1644] * len(traffic.threads)
    steps = scene.value("SELECT steps FROM tandem.cutover_runs ORDER BY run_id DESC LIMIT 1")
    assert "compare" in steps and "verify" in steps
    equal(scene)
    call(scene, "rollback", max_pause="5 s")
    # What changed while the new side was the source of truth is not known: another pass is wanted.
    wait_until(lambda: "divergence" in {row[0] for row in closed(scene)} <= {"clean_pass", "divergence"}, 30, 0.2, "the gate to close again")
    scene.check()


def test_a_changed_row_that_differs(scene):
    fill(scene)
    reconcile(scene)
    scene.write("UPDATE customer SET balance = 5 WHERE id IN (2, 3)")
    scene.wait_caught_up()
    by_hand(scene, "UPDATE customer SET name = 'tampered' WHERE id = 2")
    wait_until(lambda: not closed(scene), 30, 0.2, "the gates to open")
    for procedure in ("rehearse_cutover", "cutover"):
        with pytest.raises(psycopg2.Error, match=r"1 row of table \"customer\" that changed since the last pass differs between the sides: key \(2\)") as error:
            call(scene, procedure, max_pause="5 s")
        assert error.value.pgcode == "55000" and "tandem.repair" in error.value.diag.message_hint
    assert phase(scene, "customer") == "ready" and fences(scene) == []
    scene.write("UPDATE customer SET balance = 6 WHERE id = 3")
    call(scene, "rehearse_cutover", waive='{"verify": "the test knows"}', max_pause="5 s")
    assert len(scene.sql("SELECT * FROM tandem.reconcile('shop.customer')")) == 1
    with pytest.raises(psycopg2.Error, match="gates of the cut-over are closed"):
        call(scene, "cutover", max_pause="5 s")
    scene.sql("SELECT tandem.repair('shop.customer', dry_run => false)")
    scene.wait_caught_up()
    wait_until(lambda: not closed(scene), 60, 0.2, "the repair to be seen")
    call(scene, "cutover", max_pause="5 s")
    equal(scene)
    call(scene, "rollback", max_pause="5 s")
    scene.check()


def test_rows_that_came_and_went(scene):
    """Missing and extra rows among those that changed; keys that differ by their case only."""
    fill(scene)
    reconcile(scene)
    scene.write("INSERT INTO orders (customer_id, note) VALUES (1, 'new'), (2, 'gone')", "DELETE FROM orders WHERE note = 'gone'")
    scene.wait_caught_up()
    number = scene.value("SELECT id FROM orders WHERE note = 'new'")
    by_hand(scene, "DELETE FROM orders WHERE note = 'new'")
    by_hand(scene, f"INSERT INTO orders (id, customer_id, note) VALUES ({number + 1}, 2, 'gone')")
    with pytest.raises(psycopg2.Error, match=rf"2 rows of table .orders. .* differ .*key \({number}\), \({number + 1}\)|key \({number + 1}\), \({number}\)"):
        call(scene, "cutover", max_pause="5 s")
    by_hand(scene, f"DELETE FROM orders WHERE id = {number + 1}")
    scene.sql("SELECT tandem.enqueue('shop.orders', %s::jsonb)", (f'{{"id": {number}}}',))
    scene.wait_caught_up()
    call(scene, "cutover", max_pause="5 s")
    equal(scene)
    call(scene, "rollback", max_pause="5 s")
    scene.check()


def test_keys_of_another_case(scene):
    scene.write("INSERT INTO plain VALUES ('Key', 1), ('other ', 2)")
    ready(scene, ["shop.plain"])
    assert scene.sql("SELECT * FROM tandem.reconcile('shop.plain')") == []
    scene.write("UPDATE plain SET k = 'kEY' WHERE k = 'key'", "UPDATE plain SET v = 3 WHERE k = 'OTHER'", "INSERT INTO plain VALUES ('x', 1)", "UPDATE plain SET k = 'X' WHERE k = 'x'")
    scene.wait_caught_up()
    wait_until(lambda: not scene.sql("SELECT gate, value FROM tandem.cutover_check('{shop.plain}') WHERE NOT ok"), 30, 0.2, "the gates to open")
    call(scene, "cutover", ["shop.plain"], max_pause="5 s")
    equal(scene)
    call(scene, "rollback", ["shop.plain"], max_pause="5 s")
    scene.check()


def test_what_no_pass_saw_at_rest(scene):
    """A row that was in flight until the end of the last sound pass, as a suspected victim of a cascade is, has changed nowhere that the worker knows of."""
    fill(scene)
    reconcile(scene)
    by_hand(scene, "UPDATE customer SET name = 'rogue' WHERE id = 3")
    scene.sql("INSERT INTO tandem.unsettled_key (table_id, key, moment) SELECT table_id, tandem.encode_key(table_id, '{\"id\": 3}'), nextval('tandem.reconcile_moment') FROM tandem.source_table WHERE name = 'customer'")
    with pytest.raises(psycopg2.Error, match=r"1 row of table \"customer\" .* differs between the sides: key \(3\)"):
        call(scene, "cutover", max_pause="5 s")
    assert phase(scene, "customer") == "ready" and fences(scene) == []
    by_hand(scene, "UPDATE customer SET name = 'c' WHERE id = 3")
    call(scene, "cutover", max_pause="5 s")
    equal(scene)
    call(scene, "rollback", max_pause="5 s")
    scene.check()


def test_a_pass_right_after_the_copy(scene):
    """It counts; and values that PostgreSQL cannot hold come and go without the worker forgetting what changed."""
    scene.old.script("CREATE TABLE dates (id INT PRIMARY KEY, d DATE) ENGINE=InnoDB;", scene.old_database)
    connection = scene.app()
    with connection.cursor() as cursor:
        cursor.execute("SET sql_mode = 'ALLOW_INVALID_DATES'")
        cursor.execute("INSERT INTO dates VALUES (1, '0000-00-00'), (2, '2024-02-30'), (3, '2024-01-01')")
        scene.sql("SELECT tandem.add_table('shop', 'dates', policies => '{\"d\": \"sidecar\"}')")
        scene.sql("SELECT tandem.start('dates')")
        scene.wait_caught_up()
        assert scene.sql("SELECT * FROM tandem.reconcile('shop.dates')") == []
        scene.sql("SELECT tandem.set_phase('shop.dates', 'ready')")
        for statement in ("UPDATE dates SET d = '2024-03-01' WHERE id < 3", "UPDATE dates SET d = '0000-00-00' WHERE id = 3", "INSERT INTO dates VALUES (4, '2024-00-00')", "DELETE FROM dates WHERE id = 1"):
            cursor.execute(statement)
            scene.wait_caught_up()
        wait_until(lambda: not scene.sql("SELECT gate, value FROM tandem.cutover_check('{shop.dates}') WHERE NOT ok"), 30, 0.2, "the gates to open")
        call(scene, "rehearse_cutover", ["shop.dates"], max_pause="5 s")
    connection.close()
    scene.sql("SELECT tandem.drop_table('dates')")
    wait_until(lambda: "dates" not in scene.states(), 30, 0.1, "dates to be forgotten")
