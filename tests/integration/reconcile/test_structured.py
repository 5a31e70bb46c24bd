"""Each difference that tools of this kind are known to miss, one by one, in a table whose keys are compared by range and in one whose keys are
not. See README.md."""
import pytest

from lib.process import wait_until

from helpers import reconcile, summary

ADD_ALL = False
COLUMNS = "a VARCHAR(40), b VARCHAR(40), d DOUBLE, f FLOAT, m DECIMAL(20,4), dt DATETIME(6), ts TIMESTAMP(6) NULL, by_ VARBINARY(40), e ENUM('x', 'X y') NULL"
ROWS = 300


def row(n):
    return f"'a{n:05}', 'b{n:05}', {n} / 7e0, {n} / 3e0, {n}.25, '2024-01-01 00:00:00.{n:06}', '2024-01-01 00:00:00.{n:06}', 'z{n}', 'x'"


@pytest.fixture(scope="module")
def filled(scene):
    scene.old.script(f"""CREATE TABLE by_range (id INT NOT NULL PRIMARY KEY, {COLUMNS}) ENGINE=InnoDB CHARACTER SET utf8mb4;
CREATE TABLE by_word (k VARCHAR(40) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL PRIMARY KEY, {COLUMNS}) ENGINE=InnoDB CHARACTER SET utf8mb4;
CREATE TABLE mapped (id INT NOT NULL PRIMARY KEY, flag INT, word VARCHAR(20), big BIGINT UNSIGNED) ENGINE=InnoDB CHARACTER SET utf8mb4;
CREATE TABLE empty (id BIGINT NOT NULL PRIMARY KEY, v INT) ENGINE=InnoDB;
CREATE TABLE empty_word (k VARCHAR(10) NOT NULL PRIMARY KEY, v INT) ENGINE=InnoDB;
CREATE TABLE filtered (id INT NOT NULL PRIMARY KEY, v INT) ENGINE=InnoDB;
""", scene.old_database)
    scene.write(*[f"INSERT INTO by_range VALUES ({n}, {row(n)})" for n in range(1, ROWS + 1)],
                *[f"INSERT INTO by_word VALUES ('{'Kk'[n % 2]}ey {n}', {row(n)})" for n in range(1, ROWS + 1)],
                *[f"INSERT INTO mapped VALUES ({n}, {n % 2}, 'w{n}', {2 ** 63 + n})" for n in range(1, 101)],
                *[f"INSERT INTO filtered VALUES ({n}, {n % 3})" for n in range(1, 101)])
    scene.sql("""CREATE TABLE people (number bigint PRIMARY KEY, is_on boolean, shout text, big numeric);
CREATE TABLE chosen (id integer PRIMARY KEY, v integer)""")
    scene.sql("SELECT tandem.add_table('shop', 'mapped', target => 'people', columns => %s)",
              ('{"number": "id", "is_on": "flag <> 0", "shout": "upper(word)", "big": "big"}',))
    scene.sql("SELECT tandem.add_table('shop', 'filtered', target => 'chosen', \"where\" => 'v <> 0')")
    for table in ("by_range", "by_word", "empty", "empty_word"):
        scene.add_table(table)
    scene.start_all()
    scene.wait_caught_up()
    return scene


NEW = {
    "null to empty": "a = ''", "value to null": "a = NULL", "word NULL": "a = 'NULL'", "trailing space": "a = a || ' '", "case only": "a = upper(a)",
    "one microsecond": "dt = dt + interval '1 us'", "one microsecond of an instant": "ts = ts - interval '1 us'",
    "last bit of a double": "d = d * (1 + 2.3e-16)", "last bit of a float": "f = f * 1.0000001::real", "last digit": "m = m + 0.0001",
    "one byte": "by_ = set_byte(by_, 0, get_byte(by_, 0) # 1)", "a zero byte behind": "by_ = by_ || '\\x00'::bytea", "label": "e = 'X y'",
}


def tables():
    return [("by_range", "id = 150", ("id", "150")), ("by_word", "k = 'Key 150'", ("k", "Key 150"))]


@pytest.mark.parametrize("table, where, key", tables(), ids=["by_range", "by_word"])
@pytest.mark.parametrize("change", NEW)
def test_one_change(filled, table, where, key, change):
    if change == "null to empty":
        filled.write(f"UPDATE {table} SET a = NULL WHERE {where}")
        filled.wait_caught_up()
    filled.sql(f"UPDATE {table} SET {NEW[change]} WHERE {where}")
    column = NEW[change].split(" ")[0]
    assert reconcile(filled, table) == {(table, (key,)): ("different", [column])}
    put_back(filled, table, where)


def put_back(scene, table, where="true"):
    """Every row again from the old side, by the way of all changes."""
    scene.write(f"UPDATE {table} SET a = CONCAT(COALESCE(a, ''), '-') WHERE {where}", f"UPDATE {table} SET a = CONCAT('a', LPAD({'id' if table == 'by_range' else 'SUBSTRING(k, 5)'}, 5, '0')) WHERE {where}")
    scene.wait_caught_up()
    assert reconcile(scene, table) == {}
    assert summary(scene, table)["clean"]


@pytest.mark.parametrize("table, key_of", [("by_range", lambda n: (("id", str(n)),)), ("by_word", lambda n: (("k", f"{'Kk'[n % 2]}ey {n}"),))], ids=["by_range", "by_word"])
def test_pairs_that_cancel_elsewhere(filled, table, key_of):
    order = "id" if table == "by_range" else "substr(k, 5)::int"
    # ('a', 'bc') against ('ab', 'c'), two rows that swap values of equal length, the same change in an even number of rows.
    filled.write(f"UPDATE {table} SET a = 'a', b = 'bc' WHERE {'id = 10' if table == 'by_range' else 'k = ' + chr(39) + 'Key 10' + chr(39)}")
    filled.wait_caught_up()
    filled.sql(f"UPDATE {table} SET a = 'ab', b = 'c' WHERE {order} = 10")
    filled.sql(f"UPDATE {table} t SET b = o.b FROM {table} o WHERE ({order.replace('k,', 't.k,').replace('id', 't.id')}, {order.replace('k,', 'o.k,').replace('id', 'o.id')}) IN ((20, 21), (21, 20))")
    filled.sql(f"UPDATE {table} SET e = 'X y' WHERE {order} BETWEEN 30 AND 33")
    wanted = {(table, key_of(10)): ("different", ["a", "b"]), (table, key_of(20)): ("different", ["b"]), (table, key_of(21)): ("different", ["b"]),
              **{(table, key_of(n)): ("different", ["e"]) for n in range(30, 34)}}
    assert reconcile(filled, table) == wanted
    filled.write(f"UPDATE {table} SET b = CONCAT(b, '-')", f"UPDATE {table} SET b = LEFT(b, CHAR_LENGTH(b) - 1)")
    filled.wait_caught_up()
    assert reconcile(filled, table) == {}


def test_rows_at_both_ends(filled):
    """Before the first key, behind the last one, on either side, and nothing else."""
    filled.sql("INSERT INTO by_range SELECT n, a, b, d, f, m, dt, ts, by_, e FROM by_range, (VALUES (-2147483648), (0), (2147483647)) AS v(n) WHERE id = 1")
    filled.sql("INSERT INTO by_word SELECT n, a, b, d, f, m, dt, ts, by_, e FROM by_word, (VALUES (''), ('zzzz'), ('\U0001f98a')) AS v(n) WHERE k = 'key 1'")
    filled.sql("DELETE FROM by_range WHERE id IN (1, 300); DELETE FROM by_word WHERE k IN ('key 1', 'Key 300')")
    assert reconcile(filled, "by_range") == {
        **{("by_range", (("id", str(n)),)): ("extra", found) for n, found in ((-2147483648, ANY), (0, ANY), (2147483647, ANY))},
        **{("by_range", (("id", str(n)),)): ("missing", ANY) for n in (1, 300)}}
    assert reconcile(filled, "by_word") == {
        **{("by_word", (("k", k),)): ("extra", ANY) for k in ("", "zzzz", "\U0001f98a")}, **{("by_word", (("k", k),)): ("missing", ANY) for k in ("key 1", "Key 300")}}
    filled.sql("DELETE FROM by_range WHERE id IN (-2147483648, 0, 2147483647); DELETE FROM by_word WHERE k IN ('', 'zzzz', '\U0001f98a')")
    filled.write("UPDATE by_range SET b = CONCAT(b, '-') WHERE id IN (1, 300)", "UPDATE by_range SET b = LEFT(b, 6) WHERE id IN (1, 300)",
                 "UPDATE by_word SET b = CONCAT(b, '-') WHERE k IN ('Key 1', 'Key 300')", "UPDATE by_word SET b = LEFT(b, 6) WHERE k IN ('Key 1', 'Key 300')")
    filled.wait_caught_up()
    assert reconcile(filled, "by_range", "by_word") == {}


class Anything:
    def __eq__(self, other):
        return True

    def __repr__(self):
        return "anything"


ANY = Anything()


def test_keys_that_differ_in_case_only(filled):
    """'Key 7' on the old side and 'KEY 7' on the new one are two keys: one row is missing, one is too many."""
    filled.sql("UPDATE by_word SET k = 'KEY 7' WHERE k = 'key 7'")
    assert reconcile(filled, "by_word") == {("by_word", (("k", "KEY 7"),)): ("extra", ANY), ("by_word", (("k", "key 7"),)): ("missing", ANY)}
    filled.sql("UPDATE by_word SET k = 'key 7' WHERE k = 'KEY 7'")
    # The same with a space behind, which the old side takes for no difference.
    filled.sql("UPDATE by_word SET k = 'key 9 ' WHERE k = 'key 9'")
    assert reconcile(filled, "by_word") == {("by_word", (("k", "key 9 "),)): ("extra", ANY), ("by_word", (("k", "key 9"),)): ("missing", ANY)}
    filled.sql("UPDATE by_word SET k = 'key 9' WHERE k = 'key 9 '")
    assert reconcile(filled, "by_word") == {}


@pytest.mark.parametrize("table, extra, key", [("empty", "7, 1", ("id", "7")), ("empty_word", "'w', 1", ("k", "w"))])
def test_an_empty_side(filled, table, extra, key):
    assert reconcile(filled, table) == {}
    filled.sql(f"INSERT INTO {table} VALUES ({extra})")
    assert reconcile(filled, table) == {(table, (key,)): ("extra", ANY)}
    filled.sql(f"DELETE FROM {table}")
    filled.write(f"INSERT INTO {table} VALUES ({extra})")
    filled.wait_caught_up()
    filled.sql(f"DELETE FROM {table}")
    assert reconcile(filled, table) == {(table, (key,)): ("missing", ANY)}
    filled.write(f"DELETE FROM {table}")
    filled.wait_caught_up()
    assert reconcile(filled, table) == {}


def test_expressions_and_other_types(filled):
    """What apply would write is compared with what is there."""
    assert reconcile(filled, "mapped") == {}
    filled.sql("UPDATE people SET is_on = NOT is_on WHERE number = 5; UPDATE people SET shout = lower(shout) WHERE number = 6;"
               "UPDATE people SET big = big + 1 WHERE number = 7; DELETE FROM people WHERE number = 8; INSERT INTO people VALUES (10000000000, true, 'X', 1)")
    found = reconcile(filled, "mapped")
    assert {k[1]: v for k, v in found.items() if v[0] != "extra"} == {
        (("id", "5"),): ("different", ["is_on"]), (("id", "6"),): ("different", ["shout"]), (("id", "7"),): ("different", ["big"]), (("id", "8"),): ("missing", ANY)}
    assert [v[0] for v in found.values()].count("extra") == 1 and len(found) == 5, "a key that the old table cannot have"
    filled.sql("DELETE FROM people WHERE number = 10000000000")
    filled.write("UPDATE mapped SET big = big - 1 WHERE id BETWEEN 5 AND 8", "UPDATE mapped SET big = big + 1 WHERE id BETWEEN 5 AND 8")
    filled.wait_caught_up()
    assert reconcile(filled, "mapped") == {}


def test_filtered_rows_are_not_missed(filled):
    assert reconcile(filled, "filtered") == {}
    filled.sql("INSERT INTO chosen VALUES (3, 0); DELETE FROM chosen WHERE id = 4; UPDATE chosen SET v = 2 WHERE id = 7")
    assert reconcile(filled, "filtered") == {("filtered", (("id", "3"),)): ("extra", ANY), ("filtered", (("id", "4"),)): ("missing", ANY),
                                             ("filtered", (("id", "7"),)): ("different", ["v"])}
    filled.sql("DELETE FROM chosen WHERE id = 3; INSERT INTO chosen VALUES (4, 1); UPDATE chosen SET v = 1 WHERE id = 7")
    assert reconcile(filled, "filtered") == {}


def test_a_range_and_a_sample(filled):
    filled.sql("UPDATE by_range SET b = 'other' WHERE id IN (50, 100, 101, 200)")
    assert set(reconcile(filled, "by_range", low='{"id": 50}', high='{"id": 100}')) == {("by_range", (("id", "100"),))}
    assert set(reconcile(filled, "by_range", low='{"id": 150}')) == {("by_range", (("id", "200"),))}
    assert set(reconcile(filled, "by_range", high='{"id": 50}')) == {("by_range", (("id", "50"),))}
    assert len(reconcile(filled, "by_range", sample=1.0)) == 4
    filled.write("UPDATE by_range SET b = CONCAT(b, '-')", "UPDATE by_range SET b = LEFT(b, 6)")
    filled.wait_caught_up()
    assert reconcile(filled, "by_range") == {}


def test_a_background_run(filled):
    filled.sql("UPDATE by_range SET b = 'other' WHERE id = 77")
    run = filled.value("SELECT tandem.reconcile_start('shop.by_range')")
    wait_until(lambda: filled.value("SELECT state FROM tandem.reconcile_run WHERE run_id = %s", (run,)) == "done", 60, 0.2, "the run to be done")
    assert filled.value("SELECT different FROM tandem.reconcile_run WHERE run_id = %s", (run,)) == 1
    filled.write("UPDATE by_range SET b = CONCAT(b, '-') WHERE id = 77", "UPDATE by_range SET b = LEFT(b, 6) WHERE id = 77")
    filled.wait_caught_up()
