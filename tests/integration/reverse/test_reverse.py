"""See README.md."""
import pytest

from lib.process import wait_until


@pytest.fixture(scope="module")
def turned(scene):
    """The old side is filled, in step, and then the new side becomes the source of truth."""
    connection = scene.app()
    with connection.cursor() as cursor:
        cursor.execute("SET sql_mode = ''")
        cursor.execute("INSERT INTO numbers VALUES (1, -128, 0, -32768, 0, -8388608, 0, -2147483648, 0, -9223372036854775808, 0, 0, 0, 0, -3.4028234e38, 0, -9999.999,"
                       " -1.7976931348623157e308, -99999999.99, -99999999999999999999999999999999999.999999999999999999999999999999, -99999999.99, 0, b'0', b'0', b'0', 1901),"
                       " (2, 127, 255, 32767, 65535, 8388607, 16777215, 2147483647, 4294967295, 9223372036854775807, 18446744073709551615, 42, 1, -5, 3.4028234e38, 1.17549e-38,"
                       " 9999.999, 2.2250738585072014e-308, 99999999.99, 0.000000000000000000000000000001, 0.01, 99999999, b'1', b'111111111', b'" + "1" * 64 + "', 2155)")
        cursor.execute("INSERT INTO numbers (id, f, d, dd, y, b9) VALUES (3, 0.1, 0.1, 0.1, 2024, b'1'), (4, 1234567.8, 1e23, -0.005, 0, b'100000000'), (5, -0e0, -0e0, 0, 69, b'10'),"
                       " (6, NULL, NULL, NULL, NULL, NULL)")
        cursor.execute("SET time_zone = '-05:00'")
        cursor.execute("INSERT INTO times VALUES (1, '1000-01-01', '1000-01-01 00:00:00', '1000-01-01 00:00:00.001', '1000-01-01 00:00:00.000001',"
                       " '1970-01-02 00:00:01', '2038-01-18 03:14:07.999999', '-838:59:59', '-838:59:58.999999'),"
                       " (2, '9999-12-31', '9999-12-31 23:59:59', '9999-12-31 23:59:59.999', '9999-12-31 23:59:59.999999',"
                       " '2024-03-10 02:30:00', '2024-11-03 01:30:00.5', '838:59:59', '00:00:00.000001'),"
                       " (3, '2024-02-29', '2024-02-29 12:00:00', '2024-02-29 12:00:00.120', '2024-02-29 12:00:00.100000', '2024-02-29 12:00:00',"
                       " '2024-02-29 12:00:00.000100', '-00:00:01', '-00:00:00.500000'), (4, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL),"
                       " (5, '0999-01-01', '0001-01-01 00:00:00', NULL, NULL, NULL, NULL, '00:00:00', '24:00:00')")
        cursor.execute("INSERT INTO texts VALUES (1, 'abc', 'Straße 🙂 ', 'caf\u00e9 €', 'жук', 'Жук', '漢字', '', 'x''\"\\\\', REPEAT('é', 70000), REPEAT('z', 300000), 'B b', 'x,z w'),"
                       " (2, '', ' lead', '', '', '', '', 't', 't', 't', 't', 'ü', ''), (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 'nonsense', NULL),"
                       " (4, 'x', 'y  ', 'z ', NULL, NULL, NULL, ' ', NULL, NULL, NULL, '', 'y')")
        cursor.execute("INSERT INTO bytes VALUES (1, 'ab', UNHEX('00FF275C0A'), '', REPEAT(UNHEX('FE'), 60000), UNHEX('00'), REPEAT('q', 200000)), (2, NULL, NULL, NULL, NULL, NULL, NULL)")
        cursor.execute("INSERT INTO k_ci VALUES ('abc', 1), ('Straße', 2), ('x', 3), ('t ', 4)")
        cursor.execute("INSERT INTO k_many VALUES (1, 'x', '2024-01-01', 'ab', 1), (-1, '', '2024-01-01', '', 2), (1, 'X y', '2024-01-02', UNHEX('00'), 3)")
        cursor.execute("INSERT INTO k_unsigned VALUES (0, 1), (9223372036854775808, 2), (18446744073709551615, 3)")
        cursor.execute("INSERT INTO k_bin VALUES ('', 1), (UNHEX('00'), 2), (UNHEX('ff27225c0a'), 3)")
        cursor.execute("INSERT INTO uniq VALUES (1, 'a'), (2, 'b'), (3, 'c'), (4, NULL)")
        cursor.execute("INSERT INTO parent VALUES (1, 'one'), (2, 'two')")
        cursor.execute("INSERT INTO child VALUES (1, 1), (2, 2), (3, NULL)")
        cursor.execute("INSERT INTO narrow VALUES (1, 'abc', 'é', 1.25, 'ab', 'a', NULL, '2020-01-01 00:00:00')")
    connection.close()
    scene.check()
    to_new_side(scene)
    return scene


def to_new_side(scene):
    scene.sql("SELECT tandem._move_phase(array_agg(table_id), '{syncing}', 'ready', NULL, '') FROM tandem.source_table")
    scene.sql("SELECT tandem._move_phase(array_agg(table_id), '{ready}', 'cutover', NULL, '') FROM tandem.source_table")
    scene.sql("BEGIN; SELECT tandem._move_phase(array_agg(table_id), '{cutover}', 'new_primary', NULL, '') FROM tandem.source_table;"
              " SELECT tandem._install_capture_back(table_id) FROM tandem.source_table; COMMIT")


def old_side(scene, *statements):
    """Changes the old side behind everybody's back, as the worker's own session would."""
    suffixes = [row[0] for row in scene.sql("SELECT trigger_suffix FROM tandem.source_table")]
    connection = scene.old.connect(scene.old_database)
    with connection.cursor() as cursor:
        cursor.execute("SET foreign_key_checks = 0, " + ", ".join(f"@tandem_unseen_{suffix} = 1" for suffix in suffixes))
        for statement in statements:
            cursor.execute(statement)
    connection.close()


def wait_back(scene, timeout=60):
    wait_until(lambda: scene.value("SELECT count(*) FROM tandem.reverse_outbox") == 0
               and scene.value("SELECT count(*) FROM tandem.reverse_letter WHERE NOT dead") == 0, timeout, 0.05,
               "the old side to follow")


def check(scene, letters=0, tables=None):
    wait_back(scene)
    found = scene.sql('SELECT "table", key, sqlstate, message FROM tandem.reverse_letters')
    assert len(found) == letters, found
    different = scene.differences(tables)
    assert not different, "\n".join(str(d) for d in different[:20])


def test_rows_made_anew(turned):
    """Every row of every type, gone on the old side, is written there from what the new side holds."""
    tables = [row[0] for row in turned.sql("SELECT name FROM tandem.source_table")]
    old_side(turned, *(f"DELETE FROM `{table}`" for table in tables))
    for table in tables:
        key = turned.value("SELECT key_columns[1] FROM tandem.source_table WHERE name = %s", (table,))
        turned.sql(f"UPDATE {table} SET {key} = {key}")
    check(turned)
    events = {name: turned.old.query(f"SELECT * FROM `{turned.metadata}`.`{outbox}`") for name, outbox in turned.sql("SELECT name, outbox FROM tandem.source_table")}
    assert not any(events.values()), events
    assert turned.outbox_rows() == 0, "what was written back must not be captured"


def test_rows_changed_back(turned):
    """The old side holds other values: each is set to what the new side says."""
    old_side(turned, "UPDATE numbers SET i8 = 1, u64 = 1, f = 1.5, fd = 1, d = 2, de = 3, ds = 4, b1 = b'1', b9 = b'1', b64 = b'1', y = 2000, flag = 7",
             "UPDATE times SET d = '2001-01-01', dt = '2001-01-01', dt6 = '2001-01-01', ts = '2001-01-01', ts6 = NULL, t = '1:00', t6 = '2:00'",
             "UPDATE texts SET c = 'c', v = 'v', vl = 'vl', vu = 'vu', vc = 'vc', vs = 'vs', tt = 'tt', tx = 'tx', e = 'a', s = 'y'", "UPDATE bytes SET b = 'x', vb = 'x', bl = 'y', lb = NULL")
    for table in ("numbers", "times", "texts", "bytes"):
        turned.sql(f"UPDATE {table} SET id = id")
    check(turned)


def test_inserts_and_deletions(turned):
    turned.sql("INSERT INTO parent (id, name) VALUES (10, 'ten'), (11, 'eleven')")
    turned.sql("INSERT INTO child VALUES (10, 10), (11, 11), (12, 11)")
    turned.sql("INSERT INTO numbers (id, i64, u64, de) VALUES (50, -1, 18446744073709551615, 1.5)")
    turned.sql("DELETE FROM times WHERE id = 3")
    check(turned)
    # A cascade of PostgreSQL or of the application: the child's own deletion comes back, the parent's does not bite there.
    turned.sql("DELETE FROM child WHERE parent_id = 11; DELETE FROM parent WHERE id = 11")
    turned.sql("UPDATE parent SET id = 100 WHERE id = 10; UPDATE child SET parent_id = 100 WHERE parent_id = 10")
    check(turned)


def test_keys(turned):
    turned.sql("UPDATE k_ci SET k = 'ABC' WHERE k = 'abc'; UPDATE k_ci SET k = 'y' WHERE k = 'x'; DELETE FROM k_ci WHERE k = 't '; INSERT INTO k_ci VALUES ('Q', 9)")
    turned.sql("UPDATE k_many SET b = 'moved', d = '\\x01' WHERE v = 1; DELETE FROM k_many WHERE v = 2; UPDATE k_many SET v = 33 WHERE v = 3")
    turned.sql("UPDATE k_unsigned SET k = k - 1 WHERE k > 0; DELETE FROM k_unsigned WHERE k = 0")
    turned.sql("UPDATE k_bin SET k = k || '\\x5c' WHERE v = 3; DELETE FROM k_bin WHERE k = '\\x'")
    check(turned)
    assert turned.old_value("SELECT k FROM k_ci WHERE v = 1") == "ABC"


def test_unique_values_swapped(turned):
    turned.sql("UPDATE uniq SET email = NULL WHERE id = 1; UPDATE uniq SET email = 'a' WHERE id = 2; UPDATE uniq SET email = 'b' WHERE id = 1")
    turned.sql("UPDATE uniq SET email = 'd' WHERE id = 3; INSERT INTO uniq VALUES (9, 'c')")
    check(turned)


def test_two_keys_that_are_one_there(turned):
    """'new' and 'NEW' are two rows here and one there: the second is refused, by name, until the first is gone."""
    turned.sql("INSERT INTO k_ci VALUES ('new', 1), ('NEW', 2)")
    wait_until(lambda: turned.value("SELECT count(*) FROM tandem.reverse_letter") == 1, 30, 0.1, "the refusal")
    turned.sql("DELETE FROM k_ci WHERE k IN ('new', 'NEW')")
    check(turned)


def test_values_that_do_not_fit(turned):
    """Refused exactly, one row each, never cut or rounded; the next state of the row that fits ends it."""
    # The targets' columns are wider than the old ones here, as somebody may make them after the cut-over.
    turned.sql("ALTER TABLE narrow ALTER v TYPE text, ALTER l TYPE text, ALTER n TYPE numeric, ALTER c TYPE text, ALTER e TYPE text, ALTER ts TYPE timestamptz(6)")
    rows = {10: ("v", "'too long'"), 11: ("l", "'漢'"), 12: ("n", "1.005"), 13: ("n", "12345"), 14: ("c", "'a  '"), 15: ("e", "'z'"), 16: ("ts", "'1900-01-01'"),
            17: ("ts", "'2024-01-01 00:00:00.5'"), 18: ("n", "'NaN'"), 19: ("v", "'12345 '")}
    for number, (column, value) in rows.items():
        turned.sql(f"INSERT INTO narrow (id, {column}, touched) VALUES ({number}, {value}, '2021-01-01')")
    turned.sql("INSERT INTO narrow (id, v, touched) VALUES (30, 'fits', '2021-01-01')")
    wait_until(lambda: turned.value("SELECT count(*) FROM tandem.reverse_letter WHERE dead") == len(rows), 30, 0.1, "the refusals")
    wait_back(turned)
    letters = {row[0]["id"]: row[1] for row in turned.sql("SELECT key, message FROM tandem.reverse_letters")}
    assert set(letters) == set(rows)
    for number, (column, _) in rows.items():
        assert any(f"{quote}{column}{quote}" in letters[number] for quote in "'\"`"), letters[number]
    assert turned.old_value("SELECT count(*) FROM narrow WHERE id BETWEEN 10 AND 20") == 0
    assert turned.old_value("SELECT v FROM narrow WHERE id = 30") == "fits"
    turned.sql("UPDATE narrow SET v = 'ok', l = 'é', n = 1.50, c = 'c', e = 'b', ts = NULL WHERE id BETWEEN 10 AND 20")
    check(turned)
    turned.sql("DELETE FROM narrow WHERE id = 30")
    check(turned)


def test_times_of_the_old_side_stay(turned):
    """ON UPDATE CURRENT_TIMESTAMP does not touch a column that did not change here."""
    turned.sql("UPDATE narrow SET v = 'new' WHERE id = 1")
    check(turned)
    assert str(turned.old.query("SET time_zone = '+00:00'") or "") == ""
    assert turned.value("SELECT touched = (SELECT touched FROM narrow WHERE id = 1) FROM narrow WHERE id = 1")


def test_truncate_is_refused(turned):
    with pytest.raises(Exception, match="cannot be truncated while the old side follows"):
        turned.sql("TRUNCATE narrow")


def test_views(turned):
    rows = dict(turned.sql('SELECT "table", rows FROM tandem.pg_stat_tandem_reverse'))
    assert rows["narrow"] > 10 and rows["numbers"] > 5
    assert turned.value("SELECT bool_and(lag_rows = 0 AND phase = 'new_primary') FROM tandem.pg_stat_tandem_reverse")
