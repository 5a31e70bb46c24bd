"""See README.md."""
from lib.app import SCHEMA, Load
from lib.process import wait_until

ADD_ALL = False


def test_backfill_beside_live_changes(scene):
    scene.old.script(SCHEMA, scene.old_database)
    rows = ",".join(f"({n}, 'owner', {n}.5, NOW(6))" for n in range(1000, 21000))
    scene.write("INSERT INTO account VALUES " + rows, "INSERT INTO movement SELECT id, 1, balance, 'backfilled' FROM account")
    with Load(lambda **o: scene.app(**o), clients=4) as load:
        scene.add_and_start("%", wait=False)
        load.wait(500)
        scene.write("DELETE FROM account WHERE id BETWEEN 5000 AND 5100", "UPDATE account SET balance = -balance WHERE id BETWEEN 19000 AND 19500",
                    "UPDATE account SET id = id + 100000 WHERE id BETWEEN 9000 AND 9200")
        load.wait(500)
    scene.check(timeout=120)


def test_views(scene):
    rows = scene.sql("SELECT * FROM tandem.pg_stat_tandem_tables")
    assert len(rows) == 2
    assert len(scene.sql("SELECT * FROM tandem.pg_stat_tandem_worker")) >= 1
    assert len(scene.sql("SELECT * FROM tandem.pg_stat_tandem_apply")) >= 1
    # Every column is documented.
    assert scene.sql("SELECT attrelid::regclass::text, attname FROM pg_attribute WHERE attrelid IN ('tandem.pg_stat_tandem_tables'::regclass,"
                     " 'tandem.pg_stat_tandem_worker'::regclass, 'tandem.pg_stat_tandem_apply'::regclass) AND attnum > 0 AND col_description(attrelid, attnum) IS NULL") == []


def test_idle_costs_little(scene):
    """With nothing to do, the old side is asked only now and then."""
    import time
    scene.wait_caught_up()
    time.sleep(2)
    def questions():
        return int(scene.old.query("SHOW GLOBAL STATUS LIKE 'Questions'")[0][1])
    before = questions()
    time.sleep(3)
    assert questions() - before < 200


def test_settings_by_reload(scene):
    """Neither program is restarted for a setting."""
    def batches():
        return scene.value("SELECT sum(batches) FROM tandem.pg_stat_tandem_apply")

    def write(first):
        scene.write(f"INSERT INTO movement SELECT {first}, id, 1, 'by reload' FROM account LIMIT 40")
        scene.wait_caught_up()

    scene.wait_caught_up()
    before = batches()
    write(-1)
    assert batches() - before <= 5
    try:
        scene.pg.reload(**{"tandem.batch_rows": "4"})
        wait_until(lambda: scene.value("SELECT setting FROM pg_settings WHERE name = 'tandem.batch_rows'") == "4", 20, 0.05, "the reload")
        def small():
            before = batches()
            scene.write("DELETE FROM movement WHERE note = 'by reload'")
            write(-2)
            return batches() - before >= 20
        wait_until(small, 30, 0.1, "tandem-sync to send small batches")
    finally:
        scene.pg.reload(**{"tandem.batch_rows": "20000"})
    scene.check()
