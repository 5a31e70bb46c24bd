"""Read strategy "merge": of each key the newer state, while the application writes both sides. The tests go on from each other."""
import random
import threading

import psycopg2
import pytest

from lib.process import wait_until

STOCK = "SELECT id, n, version FROM stock_v ORDER BY id"


@pytest.fixture(scope="module")
def merged(scene):
    scene.sql("SELECT tandem.create_routed_view('stock', 'stock_v')")  # before it is known what is newer
    for table, column in (("stock", "version"), ("price", "at")):
        scene.sql("SELECT tandem.set_phase(%s, 'dual_write')", (table,))
        with pytest.raises(psycopg2.Error) as refused:
            scene.sql("SELECT tandem.set_read_strategy(%s, 'merge')", (table,))
        assert refused.value.pgcode == "55000" and "version column" in str(refused.value)
        scene.sql("SELECT tandem.set_dual_write_policy(%s, version_column => %s, grace => '3 s')", (table, column))
        scene.sql("SELECT tandem.set_read_strategy(%s, 'merge')", (table,))
    scene.sql("SELECT tandem.create_routed_view('price', 'price_v')")
    return scene


def verified(scene):
    wait_until(lambda: scene.value("SELECT count(*) FROM tandem.direct_write") == 0, 30, 0.1, "verification")
    scene.wait_caught_up()


def test_the_newer_state_is_read(merged):
    assert merged.sql(STOCK) == [(i, i, 1) for i in range(1, 6)]
    merged.sql("UPDATE stock SET n = 10, version = 2 WHERE id = 1")  # the old side is not written yet
    merged.write("UPDATE stock SET n = 20, version = 2 WHERE id = 2")  # the new side is not written yet
    merged.sql("UPDATE stock SET n = 31, version = 2 WHERE id = 3")  # both, the old side more often
    merged.write("UPDATE stock SET n = 32, version = 3 WHERE id = 3")
    merged.sql("UPDATE stock SET n = 44, version = 1 WHERE id = 4")  # neither is newer: the source of truth
    merged.sql("INSERT INTO stock VALUES (6, 6, 1)")  # the old side does not have it yet
    merged.write("INSERT INTO stock VALUES (7, 7, 1)", "DELETE FROM stock WHERE id = 5")
    expected = [(1, 10, 2), (2, 20, 2), (3, 32, 3), (4, 4, 1), (6, 6, 1), (7, 7, 1)]
    assert merged.sql(STOCK) == expected
    for row in expected:
        assert merged.sql("SELECT id, n, version FROM stock_v WHERE id = %s", (row[0],)) == [row]
    assert merged.sql("SELECT * FROM stock_v WHERE id = 5") == []
    assert merged.value("SELECT sum(n) FROM stock_v WHERE n > 15") == 52
    # The other halves of the writes.
    merged.write("UPDATE stock SET n = 10, version = 2 WHERE id = 1", "INSERT INTO stock VALUES (6, 6, 1)")
    merged.sql("UPDATE stock SET n = 20, version = 2 WHERE id = 2; UPDATE stock SET n = 32, version = 3 WHERE id = 3; UPDATE stock SET n = 4 WHERE id = 4;"
               "INSERT INTO stock VALUES (7, 7, 1); DELETE FROM stock WHERE id = 5")
    assert merged.sql(STOCK) == expected
    verified(merged)
    assert merged.sql(STOCK) == expected and merged.sql("SELECT id, n, version FROM stock ORDER BY id") == expected


def test_what_the_truth_deleted_does_not_come_back(merged):
    merged.write("DELETE FROM stock WHERE id = 6")
    assert merged.value("SELECT count(*) FROM stock WHERE id = 6") in (0, 1)  # apply waits for the application
    assert merged.sql("SELECT * FROM stock_v WHERE id = 6") == []
    assert 6 not in [row[0] for row in merged.sql(STOCK)]
    verified(merged)
    # An insert whose other half failed is the newest state until it is settled; then the old side has won.
    merged.sql("INSERT INTO stock VALUES (8, 8, 1)")
    assert merged.sql("SELECT n FROM stock_v WHERE id = 8") == [(8,)]
    verified(merged)
    assert merged.sql("SELECT n FROM stock_v WHERE id = 8") == [] == merged.sql("SELECT n FROM stock WHERE id = 8")


def test_keys_of_several_columns_and_times(merged):
    merged.sql("UPDATE price SET cents = 101, at = '2026-01-02' WHERE code = 'a' AND region = 1; UPDATE price SET cents = 5, at = '2026-01-02' WHERE code = 'b'")
    query = "SELECT code, region, cents FROM price_v ORDER BY 1, 2"
    # No version on the old side: not known to be older, so the source of truth is right.
    assert merged.sql(query) == [("a", 1, 101), ("a", 2, 200), ("b", 1, None)]
    assert merged.sql("SELECT cents FROM price_v WHERE code = 'a' AND region = 1") == [(101,)]
    assert merged.sql("SELECT sum(cents) FROM price_v WHERE code = 'a'") == [(301,)]


def plan(scene, query):
    return "\n".join(row[0] for row in scene.sql(f"EXPLAIN (VERBOSE, COSTS OFF) {query}"))


def test_a_key_is_looked_for_on_both_sides_and_only_when_merging(merged):
    found = plan(merged, "SELECT * FROM stock_v WHERE id = 3")
    assert "WHERE ((`id` = 3))" in found and "Index Cond: (n.id = 3)" in found.replace("n_1.", "n."), found
    merged.sql("SELECT tandem.set_phase('stock', 'ready')")
    for chosen, foreign, join in (("new", 0, 0), ("old", 1, 0), ("new_fallback_old", 1, 0), ("merge", 1, 1)):
        merged.sql("SELECT tandem.set_read_strategy('stock', %s)", (chosen,))
        for query in ("SELECT * FROM stock_v", "SELECT * FROM stock_v WHERE id = 3"):
            found = plan(merged, query)
            assert found.count("Foreign Scan") == foreign and found.count("Full Join") == join, (chosen, found)
    merged.sql("SELECT tandem.set_phase('stock', 'dual_write')")
    assert merged.value("SELECT read_strategy FROM tandem.phases WHERE \"table\" = 'stock'") == "merge"


def test_versions_never_go_back_under_double_writes(merged):
    """Each writer has keys of its own and writes both sides, now one first and now the other; readers must never see a key go back."""
    verified(merged)
    merged.sql("SELECT tandem.set_read_strategy('stock', 'merge')")
    merged.write("INSERT INTO stock VALUES " + ", ".join(f"({i}, 0, 0)" for i in range(100, 140)))
    merged.wait_caught_up()
    verified(merged)
    done, errors, seen = threading.Event(), [], [0]

    def write(keys, seed):
        chance = random.Random(seed)
        old, new = merged.app(), merged.pg.connect(merged.database)
        new.autocommit = True
        version = 0
        with old.cursor() as there, new.cursor() as here:
            while not done.is_set():
                version += 1
                key = chance.choice(keys)
                statements = [(there, f"UPDATE stock SET n = {version}, version = {version} WHERE id = {key}")]
                statements.insert(chance.randint(0, 1), (here, f"UPDATE stock SET n = {version}, version = {version} WHERE id = {key}"))
                for cursor, statement in statements:
                    cursor.execute(statement)
        old.close()
        new.close()

    def read():
        connection, latest = merged.pg.connect(merged.database), {}
        connection.autocommit = True
        with connection.cursor() as cursor:
            while not done.is_set():
                cursor.execute("SELECT id, n, version FROM stock_v WHERE id >= 100")
                rows = cursor.fetchall()
                if len(rows) != 40:
                    errors.append(("rows", len(rows)))
                for key, n, version in rows:
                    if n != version or version < latest.get(key, 0):
                        errors.append((key, n, version, latest.get(key)))
                    latest[key] = version
                seen[0] += 1
        connection.close()

    threads = [threading.Thread(target=write, args=(list(range(100 + 20 * i, 120 + 20 * i)), i)) for i in range(2)]
    threads += [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    done.wait(4)
    done.set()
    for thread in threads:
        thread.join()
    assert not errors and seen[0] > 20, (errors[:5], seen)
    verified(merged)
    merged.check(tables=["stock"])
