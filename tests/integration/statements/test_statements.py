"""See README.md."""


def test_initial_rows(scene):
    scene.check()


def test_insert_forms(scene):
    scene.write("INSERT INTO items (sku, qty) VALUES ('a', 1), ('b', 2), ('c', 3)",
                "INSERT IGNORE INTO items (sku, qty) VALUES ('a', 100), ('d', 4)",
                "INSERT INTO items (sku, qty) VALUES ('a', 5), ('e', 5) ON DUPLICATE KEY UPDATE qty = qty + VALUES(qty)",
                "INSERT INTO items (sku, qty) VALUES ('b', 2) ON DUPLICATE KEY UPDATE qty = qty",  # changes nothing
                "INSERT INTO items SET sku = 'f', note = ' two  spaces '",
                "INSERT INTO stock (item, place, qty) SELECT id, CONCAT('p', id), qty FROM items",
                "INSERT INTO log (said) SELECT sku FROM items ON DUPLICATE KEY UPDATE said = VALUES(said)")
    scene.wait_caught_up()
    assert scene.value("SELECT qty FROM items WHERE sku = 'a'") == 6
    scene.check()


def test_replace(scene):
    scene.write("REPLACE INTO items (id, sku, qty) VALUES (1, 'replaced', 9)",
                "REPLACE INTO items (sku, qty) VALUES ('b', 77)",  # by the other unique key: a new id, the old row goes
                "REPLACE INTO stock VALUES (1, 'a', 100), (9, 'z', 1)",
                "INSERT INTO items (id, sku) VALUES (500, 'x500'), (501, 'x501')",
                "REPLACE INTO items (id, sku) VALUES (500, 'x501')")  # removes two rows, writes one
    scene.check()


def test_update_and_delete(scene):
    scene.write("UPDATE items SET qty = qty + 1",
                "UPDATE items SET note = CONCAT(note, '!') WHERE note IS NOT NULL ORDER BY id LIMIT 1",
                "UPDATE items i JOIN stock s ON s.item = i.id SET i.qty = s.qty, s.qty = s.qty + 1",
                "DELETE FROM stock WHERE place = 'b'",
                "DELETE i, s FROM items i JOIN stock s ON s.item = i.id WHERE i.id = 3",
                "DELETE FROM items USING items JOIN stock ON stock.item = items.id WHERE stock.place = 'p4'",
                "DELETE FROM log ORDER BY id DESC LIMIT 2")
    scene.check()


def test_load_data(scene, tmp_path):
    file = tmp_path / "rows.csv"
    file.write_text("".join(f"{n},loaded {n % 7},{n}\n" for n in range(20000, 22000)))
    connection = scene.app(local_infile=True)
    with connection.cursor() as cursor:
        cursor.execute(f"LOAD DATA LOCAL INFILE '{file}' INTO TABLE stock FIELDS TERMINATED BY ',' (item, place, qty)")
        cursor.execute(f"LOAD DATA LOCAL INFILE '{file}' REPLACE INTO TABLE stock FIELDS TERMINATED BY ',' (item, place, @q) SET qty = @q * 2")
        cursor.execute(f"LOAD DATA LOCAL INFILE '{file}' IGNORE INTO TABLE stock FIELDS TERMINATED BY ',' (item, place, qty)")
    connection.close()
    assert scene.old_value("SELECT count(*) FROM stock WHERE item >= 20000") == 2000
    scene.check()


def test_same_row_many_times(scene):
    """A hot row coalesces: only its last state counts."""
    connection = scene.app(autocommit=False)
    with connection.cursor() as cursor:
        for number in range(300):
            cursor.execute("INSERT INTO items (id, sku, qty) VALUES (900, 'hot', %s) ON DUPLICATE KEY UPDATE qty = VALUES(qty)", (number,))
            if number % 7 == 0:
                cursor.execute("DELETE FROM items WHERE id = 900")
            if number % 11 == 0:
                connection.commit()
        connection.commit()
    connection.close()
    scene.check()


def test_strange_sessions(scene):
    """The application's sql_mode, character set and time zone must not matter to the triggers."""
    connection = scene.app(charset="latin1")
    with connection.cursor() as cursor:
        cursor.execute("SET sql_mode = 'ANSI_QUOTES,PIPES_AS_CONCAT,NO_BACKSLASH_ESCAPES,STRICT_ALL_TABLES', time_zone = '-11:00'")
        cursor.execute("INSERT INTO stock VALUES (700, 'caf\u00e9', 1)")
        cursor.execute("SET sql_mode = '', sql_safe_updates = 1, foreign_key_checks = 0, autocommit = 0")
        cursor.execute("UPDATE stock SET place = 'th\u00e9 ' WHERE item = 700")
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL SERIALIZABLE")
        cursor.execute("COMMIT")
        cursor.execute("INSERT INTO stock VALUES (701, 'x\\\\y', 1)")
        cursor.execute("COMMIT")
    connection.close()
    scene.check()


def test_last_insert_id_is_the_applications(scene):
    """The outbox has an auto-increment of its own; the application must not see it."""
    connection = scene.app()
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO log (said) VALUES ('which id is mine?')")
        assert cursor.lastrowid == scene.old_value("SELECT max(id) FROM log")
        cursor.execute("SELECT LAST_INSERT_ID(), ROW_COUNT()")
        assert cursor.fetchone()[0] == scene.old_value("SELECT max(id) FROM log")
        assert cursor.execute("UPDATE log SET said = 'mine'") == scene.old_value("SELECT count(*) FROM log")
    connection.close()
    scene.check()


def test_application_has_no_right_on_metadata(scene):
    import pymysql
    import pytest
    with pytest.raises(pymysql.err.OperationalError):
        scene.app().cursor().execute(f"SELECT 1 FROM `{scene.metadata}`.capture_gap")
