"""A partitioned target through every phase. Applications and maintenance may write to a partition by its own name: what holds for the table holds
there. The tests of this file go on from each other."""
import psycopg2
import pytest

from lib.process import wait_until

ADD_ALL = False
WAIVE = '{"clean_pass": "compared by the test", "divergence": "compared by the test"}'


@pytest.fixture(scope="module")
def sales(scene):
    scene.sql("""CREATE TABLE sale (id int NOT NULL, day date NOT NULL, amount numeric(12,2) NOT NULL, note text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day)""")
    for statement in ("CREATE TABLE sale_2025 PARTITION OF sale FOR VALUES FROM ('2025-01-01') TO ('2026-01-01')",
                      "CREATE TABLE sale_2026 PARTITION OF sale FOR VALUES FROM ('2026-01-01') TO ('2027-01-01') PARTITION BY HASH (id)",
                      "CREATE TABLE sale_2026_0 PARTITION OF sale_2026 FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
                      "CREATE TABLE sale_2026_1 PARTITION OF sale_2026 FOR VALUES WITH (MODULUS 2, REMAINDER 1)",
                      "CREATE INDEX ON sale (note)"):
        scene.sql(statement)
    rows = ", ".join(f"({n}, '202{5 + n % 2}-0{1 + n % 9}-15', {n}.25, 'sale {n}')" for n in range(3000))
    scene.write(f"INSERT INTO sale VALUES {rows}")
    scene.add_table("sale", target="sale")
    scene.start_all()
    scene.wait_caught_up()
    return scene


def change_old(scene):
    scene.write("UPDATE sale SET amount = amount + 1 WHERE id % 7 = 0", "DELETE FROM sale WHERE id % 50 = 1", "UPDATE sale SET day = '2026-11-11' WHERE id % 90 = 4",
                "INSERT INTO sale VALUES (900001, '2025-05-05', 1, 'a'), (900002, '2026-05-05', 2, 'b') ON DUPLICATE KEY UPDATE note = 'again'")


def call(scene, procedure, **options):
    more = "".join(f", {name} => %({name})s" for name in options)
    scene.sql(f"CALL tandem.{procedure}('{{shop.sale}}'{more})", options)


def wait_back(scene):
    wait_until(lambda: scene.value("SELECT count(*) FROM tandem.reverse_outbox") == 0, 60, 0.05, "the old side to follow")


def refused(scene, statement):
    with pytest.raises(psycopg2.Error) as error:
        scene.sql(statement)
    return error.value


def test_copy_changes_and_comparison(sales):
    change_old(sales)
    sales.check()
    assert sales.sql("SELECT * FROM tandem.reconcile('shop.sale')") == []
    sales.sql("UPDATE sale_2025 SET note = 'by hand' WHERE id = 20")
    sales.sql("DELETE FROM sale_2026_0 WHERE id = (SELECT min(id) FROM sale_2026_0)")
    sales.sql("INSERT INTO sale_2026 VALUES (777777, '2026-01-01', 1, 'extra')")
    found = sales.sql("SELECT kind FROM tandem.reconcile('shop.sale') ORDER BY 1")
    assert found == [("different",), ("extra",), ("missing",)]
    sales.sql("SELECT * FROM tandem.repair('shop.sale', dry_run => false)")
    sales.wait_caught_up()
    assert sales.sql("SELECT * FROM tandem.reconcile('shop.sale')") == []


def test_dual_writes_to_partitions(sales):
    sales.sql("SELECT tandem.set_phase('sale', 'dual_write')")
    sales.sql("INSERT INTO sale_2025 VALUES (800001, '2025-02-02', 5, 'both')")
    sales.write("INSERT INTO sale VALUES (800001, '2025-02-02', 5, 'both')")
    sales.sql("UPDATE sale_2026_1 SET note = 'only here' WHERE id = (SELECT min(id) FROM sale_2026_1)")
    wait_until(lambda: sales.value("SELECT count(*) FROM tandem.direct_write") == 0, 60, 0.1, "the writes to be verified")
    assert sales.sql("SELECT sum(verified), sum(both_equal) FROM tandem.pg_stat_tandem_dual_writes") == [(2, 1)]
    sales.check()
    sales.sql("SELECT tandem.set_phase('sale', 'ready')")
    for table in ("sale", "sale_2025", "sale_2026", "sale_2026_0"):
        assert "ready" in str(refused(sales, f"UPDATE {table} SET note = note || '!'")), table
        refused(sales, f"TRUNCATE {table}")


def test_cut_over_and_writes_to_partitions(sales):
    call(sales, "cutover", waive=WAIVE, max_pause="5 s")
    for statement in ("UPDATE sale SET amount = 0 WHERE id = 30", "UPDATE sale_2025 SET amount = 0.5 WHERE id % 100 = 2", "DELETE FROM sale_2026_0 WHERE id % 40 = 3",
                      "INSERT INTO sale_2026_1 SELECT 850000 + i, '2026-03-03', i, 'new' FROM generate_series(1, 2000) AS i WHERE "
                      "satisfies_hash_partition('sale_2026'::regclass, 2, 1, 850000 + i)",
                      "UPDATE sale SET day = '2025-12-12' WHERE id BETWEEN 850000 AND 850100",
                      # A partition that comes later, and one that comes with rows.
                      "CREATE TABLE sale_2027 PARTITION OF sale FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')",
                      "INSERT INTO sale_2027 VALUES (860000, '2027-01-01', 1, 'next year')"):
        sales.sql(statement)
    wait_back(sales)
    assert not sales.differences()
    for table in ("sale", "sale_2025", "sale_2026", "sale_2026_0"):
        assert "cannot be truncated" in str(refused(sales, f"TRUNCATE {table}")), table


def test_closed_means_closed_for_partitions(sales):
    call(sales, "rollback", max_pause="5 s")
    change_old(sales)
    sales.check()
    for table in ("sale", "sale_2025", "sale_2026", "sale_2026_0", "sale_2027"):
        for statement in (f"UPDATE {table} SET note = note || '!'", f"DELETE FROM {table}", f"TRUNCATE {table}"):
            refused(sales, statement)
    refused(sales, "INSERT INTO sale_2025 VALUES (870000, '2025-01-01', 1, 'x')")
    sales.sql("CREATE TABLE sale_2028 PARTITION OF sale FOR VALUES FROM ('2028-01-01') TO ('2029-01-01')")
    refused(sales, "INSERT INTO sale_2028 VALUES (870000, '2028-01-01', 1, 'x')")
    refused(sales, "UPDATE sale SET note = 'x'")
    call(sales, "cutover", waive=WAIVE, max_pause="5 s")
    sales.sql("INSERT INTO sale_2028 VALUES (870000, '2028-01-01', 1, 'x')")
    wait_back(sales)
    assert not sales.differences()
    call(sales, "rollback", max_pause="5 s")
    sales.check()
    assert sales.sql("SELECT * FROM tandem.reconcile('shop.sale')") == []


def test_in_dual_write_nothing_is_closed_any_more(sales):
    """The triggers of the cut-overs before are there and let every write pass as it is."""
    sales.sql("SELECT tandem.set_phase('sale', 'dual_write')")
    for new, old in (("INSERT INTO sale_2025 VALUES (880001, '2025-02-02', 5, 'a')", "INSERT INTO sale VALUES (880001, '2025-02-02', 5, 'a')"),
                     ("INSERT INTO sale VALUES (880002, '2026-02-02', 6, 'b')",) * 2,
                     ("UPDATE sale SET note = 'c' WHERE id = 880002",) * 2,
                     ("DELETE FROM sale_2025 WHERE id = 20", "DELETE FROM sale WHERE id = 20")):
        sales.sql(new)
        sales.write(old)
    assert sales.sql("SELECT id, note FROM sale WHERE id IN (20, 880001, 880002) ORDER BY 1") == [(880001, "a"), (880002, "c")]
    wait_until(lambda: sales.value("SELECT count(*) FROM tandem.direct_write") == 0, 60, 0.1, "the writes to be verified")
    assert sales.value("SELECT sum(different) + sum(missing_on_old) + sum(missing_on_new) FROM tandem.pg_stat_tandem_dual_writes") == 1  # of the test before
    sales.check()
    sales.sql("SELECT tandem.set_phase('sale', 'ready')")


def test_contract_leaves_no_trigger(sales):
    sales.wait_caught_up()
    call(sales, "cutover", waive=WAIVE, max_pause="5 s")
    sales.sql("DELETE FROM sale_2025 WHERE id % 10 = 0")
    wait_back(sales)
    assert not sales.differences()
    call(sales, "contract", confirm="no way back")
    assert sales.sql("SELECT tgrelid::regclass, tgname FROM pg_trigger WHERE tgname LIKE 'tandem%' AND tgrelid::regclass::text LIKE 'sale%'") == []
    sales.sql("TRUNCATE sale_2027")
