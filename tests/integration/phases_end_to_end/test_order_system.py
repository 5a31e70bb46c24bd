"""The order system, phase by phase, under load."""
import random
import threading

import psycopg2
import pytest
from lib.process import wait_until

ADD_ALL = False


class OrderSystem:
    """Places orders and moves them on, each order in turn. With `both` it writes every change to both sides, MySQL first, and one of the two may fail:
    an error of the statement, a timeout, a constraint. Never two changes of one order within a grace."""

    def __init__(self, scene):
        self.scene = scene
        self.rng = random.Random(11)
        self.both = False
        self.rate = 0.2
        self.injected = {"none": 0, "old": 0, "new": 0}
        self.next_order, self.placed, self.errors = 1, [], []
        self.done = threading.Event()
        self.pause = threading.Lock()
        self.thread = threading.Thread(target=self._run)

    def _old(self, cursor, statement, fails):
        if fails:
            with pytest.raises(Exception):
                cursor.execute(self.rng.choice(["INSERT INTO nowhere VALUES (1)", "INSERT INTO customers VALUES (1, 'twice')"]))
        else:
            cursor.execute(statement)

    def _new(self, cursor, statement, fails):
        if fails:
            with pytest.raises(psycopg2.Error):
                cursor.execute(self.rng.choice(["SELECT 1 / 0", "SET statement_timeout = '5ms'; SELECT pg_sleep(1)", "INSERT INTO customers VALUES (1, 'twice')"]))
            cursor.execute("RESET statement_timeout")
        else:
            cursor.execute(statement)

    def _change(self):
        if self.both or len(self.placed) < 50 or self.rng.random() < 0.3:
            number = self.next_order
            self.next_order += 1
            self.placed.append(number)
            return (f"INSERT INTO orders VALUES ({number}, {self.rng.randint(1, 3)}, 'open', {self.rng.randint(100, 99999) / 100},"
                    f" '2026-01-01 00:00:00.{number % 1000:03d}')")
        return f"UPDATE orders SET state = '{self.rng.choice(['paid', 'sent'])}', total = total + 1 WHERE id = {self.rng.choice(self.placed)}"

    def _run(self):
        old, new = self.scene.app(), self.scene.pg.connect(self.scene.database)
        try:
            with old.cursor() as on_old, new.cursor() as on_new:
                while not self.done.is_set():
                    with self.pause:
                        if self.done.is_set():
                            break
                        statement = self._change()
                        fails = None
                        if self.both and self.rng.random() < 2 * self.rate:
                            fails = self.rng.choice(["old", "new"])
                        self._old(on_old, statement, fails == "old")
                        if self.both:
                            self._new(on_new, statement, fails == "new")
                            self.injected[fails or "none"] += 1
                    self.done.wait(0.003)
        except Exception as error:  # told by the test
            self.errors.append(repr(error))
        finally:
            old.close()
            new.close()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *unused):
        self.done.set()
        self.thread.join()
        assert not self.errors, self.errors


def view(scene):
    return scene.sql("SELECT id, customer_id, state::text, total FROM orders_v ORDER BY id")


def truth(scene):
    rows = scene.old.query("SELECT id, customer_id, state, total FROM orders ORDER BY id", database=scene.old_database)
    return [tuple(row) for row in rows]


def stats(scene):
    return scene.sql("SELECT verified, both_equal, old_failed, new_failed, unverified, old_success_rate, new_success_rate"
                     " FROM tandem.pg_stat_tandem_dual_writes WHERE \"table\" = 'orders'")[0]


def test_an_order_system_goes_through_the_phases(scene):
    scene.sql("SELECT tandem.add_tables('shop')")
    scene.sql("SELECT tandem.set_dual_write_policy('orders', grace => '3 s')")
    with OrderSystem(scene) as shop:
        # Shadow: real traffic, nobody relies on it, nobody else writes there.
        scene.sql("SELECT tandem.set_phase(ARRAY['orders', 'customers'], 'shadow')")
        scene.wait_caught_up()
        scene.sql("SELECT tandem.create_routed_view('orders', 'orders_v')")
        with pytest.raises(psycopg2.Error):
            scene.sql("DELETE FROM orders")
        with shop.pause:
            assert view(scene) == truth(scene)
        assert scene.sql("SELECT * FROM tandem.shadow_report('orders')") == []
        assert set(scene.sql("SELECT verdict FROM tandem.sample_reads('orders', 10)")) <= {("equal",), ("in_flight",)}

        # Syncing: reads are from the old side.
        scene.sql("SELECT tandem.set_phase(ARRAY['orders', 'customers'], 'syncing')")
        with shop.pause:
            assert view(scene) == truth(scene)

        # Ready: readers move, strategy by strategy, while orders are placed.
        scene.sql("SELECT tandem.set_phase(ARRAY['orders', 'customers'], 'ready')")
        for strategy in ("old", "new_fallback_old", "new"):
            scene.sql("SELECT tandem.set_read_strategy('orders', %s)", (strategy,))
            with shop.pause:
                scene.wait_caught_up()
                assert view(scene) == truth(scene), strategy

        # Dual writes: both sides are written by the application, one of the two writes fails at random.
        with shop.pause:
            scene.wait_caught_up()
            scene.sql("SELECT tandem.set_phase('orders', 'dual_write')")
            assert scene.sql("SELECT read_strategy FROM tandem.phases WHERE \"table\" = 'orders'") == [("old",)]
            scene.sql("SELECT tandem.set_read_strategy('orders', 'new_fallback_old')")
            shop.both = True
        wait_until(lambda: sum(shop.injected.values()) >= 300, 120, 0.1, "300 orders written to both sides")
        with shop.pause:
            # What MySQL has is found, whether its write to PostgreSQL succeeded or not.
            missing = {row[0] for row in truth(scene)} - {row[0] for row in view(scene)}
            assert not missing
            shop.both = False
            shop.done.set()
    wait_until(lambda: stats(scene)[4] == 0, 120, 0.1, lambda: f"all writes to be verified: {stats(scene)}\n{scene.story()}")
    verified, equal, old_failed, new_failed, _, old_rate, new_rate = stats(scene)
    total = sum(shop.injected.values())
    assert (verified, equal, old_failed, new_failed) == (total, shop.injected["none"], shop.injected["old"], shop.injected["new"])
    assert old_rate == pytest.approx(1 - shop.injected["old"] / total) and new_rate == pytest.approx(1 - shop.injected["new"] / total)
    assert view(scene) == truth(scene)

    # And to where the cut-over begins.
    scene.sql("SELECT tandem.set_phase('orders', 'ready')")
    with pytest.raises(psycopg2.Error):
        scene.sql("UPDATE orders SET total = 0")
    phases = [row[0] for row in scene.sql("SELECT to_phase FROM tandem.phase_history WHERE table_name = 'orders' AND from_phase <> to_phase ORDER BY history_id")]
    assert phases == ["shadow", "syncing", "ready", "dual_write", "ready"]
    scene.check()
    to_the_end(scene)


class Clerks:
    """Clerks who only know the routed view: they place orders and move them on while the source of truth moves under them. An order counts once
    PostgreSQL has said so and, while MySQL is the truth, MySQL has taken it."""

    def __init__(self, scene, clerks=3):
        self.scene, self.orders, self.errors, self.lost = scene, {}, [], []
        self.done = threading.Event()
        self.threads = [threading.Thread(target=self._work, args=(1000000 * n,)) for n in range(1, clerks + 1)]

    def _work(self, number):
        connection = self.scene.pg.connect(self.scene.database)
        try:
            with connection.cursor() as cursor:
                mine = []
                while not self.done.is_set():
                    try:
                        if len(mine) < 5 or number % 3 == 0:
                            number += 1
                            cursor.execute("INSERT INTO orders_v VALUES (%s, 1, 'open', 10, '2026-01-01')", (number,))
                            mine.append(number)
                            self.orders[number] = 10
                        else:
                            order = mine[number % len(mine)]
                            number += 1
                            cursor.execute("UPDATE orders_v SET state = 'paid', total = total + 1 WHERE id = %s", (order,))
                            assert cursor.rowcount == 1
                            self.orders[order] += 1
                        cursor.execute("SELECT tandem.wait_for_old()")
                        if not cursor.fetchone()[0]:
                            self.lost.append(number)
                    except psycopg2.Error as error:
                        if error.pgcode not in ("40001", "40P01"):
                            raise
        except Exception as error:  # told by the test
            self.errors.append(repr(error))
        finally:
            connection.close()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *unused):
        self.done.set()
        for thread in self.threads:
            thread.join()
        assert not self.errors, self.errors
        assert not self.lost, self.lost

    def work_on(self):
        before = sum(self.orders.values())
        wait_until(lambda: sum(self.orders.values()) > before + 50, 60, 0.05, lambda: f"the clerks to work on {self.errors}")


GROUP = "ARRAY['shop.orders', 'shop.customers']"


def refused_there(scene):
    """MySQL tells an application that was forgotten where the table went."""
    with pytest.raises(Exception) as error:
        scene.write("UPDATE orders SET total = 0")
    assert "has moved to" in str(error.value)


def to_the_end(scene):
    """Cut over, back, over again, and the old side is let go; all gates open, none waived."""
    with Clerks(scene) as clerks:
        scene.sql("SELECT tandem.set_read_strategy('orders', 'old')")
        clerks.work_on()
        for n in range(2):
            for table in ("orders", "customers"):
                assert scene.sql(f"SELECT * FROM tandem.reconcile('shop.{table}')") == []
            scene.sql("SELECT * FROM tandem.validate_foreign_keys()")
            scene.sql(f"CALL tandem.cutover({GROUP}, max_pause => '3 s')")
            assert scene.sql("SELECT DISTINCT phase, read_strategy, source_of_truth FROM tandem.phases") == [("new_primary", "new", "new")]
            clerks.work_on()
            refused_there(scene)
            if n == 0:
                scene.sql(f"CALL tandem.rollback({GROUP}, max_pause => '3 s')")
                assert scene.sql("SELECT DISTINCT phase, read_strategy, source_of_truth FROM tandem.phases") == [("ready", "old", "old")]
                clerks.work_on()
    held = dict(scene.sql("SELECT id, total FROM orders_v WHERE id > 1000000"))
    assert {order: int(total) for order, total in held.items()} == clerks.orders
    wait_until(lambda: not scene.value("SELECT count(*) FROM tandem.reverse_outbox"), 60, 0.05, "the old side to follow")
    assert not scene.differences()
    scene.sql(f"CALL tandem.contract({GROUP}, confirm => 'no way back')")
    scene.sql("UPDATE orders_v SET total = total + 1 WHERE id = 1000001")
    assert scene.sql("SELECT DISTINCT phase FROM tandem.phases") == [("contracted",)]
