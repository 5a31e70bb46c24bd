"""See README.md."""


def test_case_only_change(scene):
    scene.write("INSERT INTO k_ci VALUES ('abc', 1), ('Stra\u00dfe', 2), ('\u00e9', 3), ('x', 4)")
    scene.wait_caught_up()
    scene.write("UPDATE k_ci SET k = 'ABC' WHERE k = 'abc'", "UPDATE k_ci SET k = '\u00c9' WHERE k = '\u00e9'", "UPDATE k_ci SET k = 'X', v = 5 WHERE k = 'x'")
    scene.check()
    scene.write("DELETE FROM k_ci WHERE k = 'abc'", "INSERT INTO k_ci VALUES ('aBc', 9)", "UPDATE k_ci SET v = v + 1 WHERE k = 'ABC'",
                "REPLACE INTO k_ci VALUES ('E', 6)")
    scene.check()
    assert scene.value("SELECT array_agg(k ORDER BY k COLLATE \"C\") FROM k_ci WHERE lower(k) = 'abc'") == ["aBc"]


def test_back_and_forth_in_one_transaction(scene):
    scene.write("INSERT INTO k_ci VALUES ('back', 1)")
    scene.wait_caught_up()
    connection = scene.app(autocommit=False)
    with connection.cursor() as cursor:
        for key in ("BACK", "Back", "elsewhere", "back", "bACK"):
            cursor.execute("UPDATE k_ci SET k = %s WHERE v = 1 AND k IN ('back', 'elsewhere')", (key,))
    connection.commit()
    connection.close()
    scene.check()


def test_trailing_spaces(scene):
    """PAD SPACE: 'a' and 'a ' are one key for MySQL and two for PostgreSQL."""
    scene.write("INSERT INTO k_ci VALUES ('t ', 1), ('u', 2)", "INSERT INTO k_char VALUES ('c', 1)", "INSERT INTO k_bin VALUES ('b ', 1), ('b', 2)")
    scene.wait_caught_up()
    scene.write("UPDATE k_ci SET k = 't' WHERE k = 't'", "UPDATE k_ci SET k = 'u  ' WHERE k = 'u'", "UPDATE k_bin SET k = 'b  ' WHERE k = 'b'",
                "UPDATE k_char SET k = 'c  ' WHERE k = 'c'")
    scene.check()


def test_types_of_keys(scene):
    scene.write("INSERT INTO k_uuid VALUES (UNHEX(REPLACE('00000000-0000-4000-8000-0000000000ff', '-', '')), 1), (UNHEX(REPEAT('ff', 16)), 2), ('', 3)",
                "INSERT INTO k_bin VALUES ('', 1), (UNHEX('00'), 2), (UNHEX('0000'), 3), (UNHEX('ff27225c0a'), 4)",
                "INSERT INTO k_unsigned VALUES (0, 1), (9223372036854775807, 2), (9223372036854775808, 3), (18446744073709551615, 4)",
                "INSERT INTO k_negative VALUES (-9223372036854775808, 1), (-1, 2), (0, 3), (9223372036854775807, 4)",
                "INSERT INTO k_time VALUES ('1000-01-01 00:00:00', '1970-01-02 00:00:00', 1), ('9999-12-31 23:59:59.999999', '2038-01-18 00:00:00.123', 2),"
                " ('2024-03-31 02:30:00.000001', '2024-10-27 02:30:00', 3)",
                "INSERT INTO k_date VALUES ('2024-02-29', 2024, 1), ('1000-01-01', 1901, 2), ('9999-12-31', 2155, 3)",
                "INSERT INTO k_decimal VALUES (-1.5, 1), (0, 2), (123456789012345.12345, 3), (-0.00001, 4)",
                "INSERT INTO k_many VALUES (1, 'x', '2024-01-01', 'ab', 1.5, 1), (-1, '', '2024-01-01', '', -1.5, 2), (1, 'X y', '2024-01-02', 'b', 999.99, 3)",
                "INSERT INTO k_enum VALUES ('a', 1, 1), ('B', 65535, 2), ('c d', 0, 3)",
                "INSERT INTO k_unique VALUES (1, 1), (-5, 2)",
                "INSERT INTO `k strange \"name``` VALUES (1, 2), (3, NULL)",
                "INSERT INTO k_only VALUES (1, 2), (2, 1)")
    scene.check()
    scene.write(*(f"UPDATE {t} SET v = v + 10" for t in ("k_uuid", "k_bin", "k_unsigned", "k_negative", "k_time", "k_date", "k_decimal", "k_many", "k_enum", "k_unique")))
    scene.check()
    scene.write("UPDATE k_uuid SET k = UNHEX(REPEAT('0a', 16)) WHERE v = 11", "UPDATE k_unsigned SET k = k - 1 WHERE v = 14",
                "UPDATE k_negative SET k = -2 WHERE v = 11", "UPDATE k_time SET k = '2024-03-31 02:30:00.000002' WHERE v = 13",
                "UPDATE k_date SET y = 2000 WHERE v = 11", "UPDATE k_decimal SET k = 0.00001 WHERE v = 14", "UPDATE k_many SET d = 'zz', a = 7 WHERE v = 11",
                "UPDATE k_enum SET k = 'c d' WHERE v = 11", "UPDATE k_unique SET u = 8 WHERE u = 1", "UPDATE k_only SET a = 5 WHERE a = 1",
                "UPDATE `k strange \"name``` SET `the key ``\"'` = 9 WHERE `the key ``\"'` = 1")
    scene.check()
    scene.write(*(f"DELETE FROM {t} WHERE v IN (12, 13)" for t in ("k_uuid", "k_bin", "k_unsigned", "k_negative", "k_time", "k_date", "k_decimal", "k_many", "k_enum")),
                "DELETE FROM k_only WHERE a = 2")
    scene.check()


def test_shifting_keys(scene):
    """Every key moves onto its neighbour's place in one statement."""
    scene.write("DELETE FROM k_negative", "INSERT INTO k_negative VALUES (1, 101), (2, 102), (3, 103), (4, 104)")
    scene.wait_caught_up()
    scene.write("UPDATE k_negative SET k = k + 1 ORDER BY k DESC")
    scene.check()
    scene.write("UPDATE k_negative SET k = k - 1 ORDER BY k")
    scene.check()
