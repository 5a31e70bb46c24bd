"""See README.md."""
import pytest


def run(scene, *statements):
    connection = scene.app()
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    connection.close()


def test_xa(scene):
    run(scene, "XA START 'one'", "INSERT INTO acc VALUES (10, 10, 'xa')", "UPDATE acc SET v = 20 WHERE id = 2", "XA END 'one'", "XA PREPARE 'one'", "XA COMMIT 'one'",
        "XA START 'two'", "DELETE FROM acc WHERE id = 10", "XA END 'two'", "XA PREPARE 'two'", "XA ROLLBACK 'two'",
        "XA START 'three'", "DELETE FROM acc WHERE id = 3", "XA END 'three'", "XA COMMIT 'three' ONE PHASE")
    scene.check()
    assert scene.value("SELECT count(*) FROM acc WHERE id IN (3, 10)") == 1


def test_prepared_while_others_commit(scene):
    """A prepared transaction has taken its outbox ids long before it commits."""
    connection = scene.app()
    with connection.cursor() as cursor:
        for statement in ("XA START 'long'", "INSERT INTO acc VALUES (20, 1, 'long')", "UPDATE up SET v = 9 WHERE id = 1", "XA END 'long'", "XA PREPARE 'long'"):
            cursor.execute(statement)
        scene.write("INSERT INTO acc VALUES (21, 1, 'short')", "DELETE FROM acc WHERE id = 1")
        scene.wait_caught_up()
        assert scene.value("SELECT count(*) FROM acc WHERE id IN (20, 21)") == 1
        cursor.execute("XA COMMIT 'long'")
    connection.close()
    scene.check()


def test_temporary_table_of_the_same_name(scene):
    run(scene, "CREATE TEMPORARY TABLE up (id INT PRIMARY KEY, v INT)", "INSERT INTO up VALUES (1, 99), (77, 77)", "DELETE FROM up", "DROP TEMPORARY TABLE up",
        "UPDATE up SET v = v + 1")
    scene.check()


def test_triggers_and_procedures_of_the_application(scene):
    scene.write("CALL work(20)", "UPDATE acc SET v = 13 WHERE id > 60", "DELETE FROM acc WHERE id BETWEEN 62 AND 64", "REPLACE INTO acc VALUES (65, 1, 'replaced')",
                "INSERT INTO acc VALUES (66, 1, 'odku') ON DUPLICATE KEY UPDATE v = 13, note = 'second'")
    scene.check()
    assert scene.value("SELECT count(*) FROM history") > 20


def test_checks_switched_off(scene):
    """Without foreign key checks no cascade runs: orphans are what the old side has, and what the new side gets."""
    run(scene, "SET foreign_key_checks = 0, unique_checks = 0", "DELETE FROM up WHERE id = 3", "UPDATE up SET id = 22 WHERE id = 2", "INSERT INTO down VALUES (9, 999)")
    scene.check()
    assert scene.value("SELECT count(*) FROM down WHERE up IN (2, 3, 999)") >= 3
    run(scene, "INSERT INTO up VALUES (999, 0)", "DELETE FROM up WHERE id = 999")
    scene.check()


def test_statements_of_mariadb(scene, flavor):
    if flavor != "mariadb":
        pytest.skip("MariaDB only")
    scene.old.script("""CREATE TABLE priced (item INT NOT NULL, price INT, since DATE NOT NULL, till DATE NOT NULL, PERIOD FOR valid (since, till), PRIMARY KEY (item, since)) ENGINE=InnoDB;
CREATE TABLE kept (id INT NOT NULL PRIMARY KEY, v INT) ENGINE=InnoDB;
""", scene.old_database)
    scene.write("INSERT INTO priced VALUES (1, 100, '2020-01-01', '2030-01-01'), (2, 50, '2020-01-01', '2022-01-01')", "INSERT INTO kept VALUES (1, 1), (2, 2)")
    scene.sql("SELECT tandem.add_table('shop', 'priced'), tandem.add_table('shop', 'kept')")
    scene.sql("SELECT tandem.start('priced', 'kept')")
    scene.check()
    scene.write("UPDATE priced FOR PORTION OF valid FROM '2023-01-01' TO '2024-01-01' SET price = 120",
                "DELETE FROM priced FOR PORTION OF valid FROM '2025-01-01' TO '2026-01-01'",
                "INSERT INTO kept VALUES (3, 3) RETURNING id", "DELETE FROM kept WHERE id = 1 RETURNING v",
                "INSERT INTO kept SELECT 4, 4 UNION SELECT 5, 5", "UPDATE kept SET v = (SELECT count(*) FROM priced)",
                "REPLACE INTO kept VALUES (4, 44), (6, 6) RETURNING *")
    scene.check()
    assert scene.value("SELECT count(*) FROM priced WHERE item = 1") == 4
