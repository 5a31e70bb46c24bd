"""See README.md."""
from lib import paths


def run(cursor, *statements):
    for statement in statements:
        cursor.execute(statement)


def test_rollback(scene):
    connection = scene.app(autocommit=False)
    with connection.cursor() as cursor:
        run(cursor, "INSERT INTO t VALUES (1, 'never')", "INSERT INTO t VALUES (2, 'never')")
        connection.rollback()
        run(cursor, "INSERT INTO t VALUES (3, 'kept')", "SAVEPOINT a", "INSERT INTO t VALUES (4, 'undone')", "UPDATE t SET v = 'undone' WHERE id = 3",
            "SAVEPOINT b", "DELETE FROM t WHERE id = 3", "ROLLBACK TO b", "ROLLBACK TO a", "INSERT INTO t VALUES (5, 'kept')", "RELEASE SAVEPOINT a")
        connection.commit()
    connection.close()
    scene.check()
    assert scene.sql("SELECT id, v FROM t WHERE id < 10 ORDER BY id") == [(3, "kept"), (5, "kept")]


def test_statement_that_fails_half_way(scene):
    import pymysql
    import pytest
    scene.write("INSERT INTO t VALUES (13, 'in the way')")
    with pytest.raises(pymysql.err.IntegrityError):
        scene.write("INSERT INTO t VALUES (11, 'x'), (12, 'x'), (13, 'x')")
    scene.check()
    assert scene.value("SELECT count(*) FROM t WHERE id IN (11, 12)") == 0


def test_first_id_commits_last(scene):
    """Outbox ids are taken at the statement and become visible at COMMIT: a reader that remembers the highest id it saw would lose rows."""
    early, late = scene.app(autocommit=False), scene.app(autocommit=False)
    with early.cursor() as first, late.cursor() as second:
        run(first, "INSERT INTO t VALUES (100, 'first id')")
        for number in range(101, 111):
            run(second, f"INSERT INTO t VALUES ({number}, 'later id')")
            late.commit()
        scene.wait_caught_up()
        assert scene.value("SELECT count(*) FROM t WHERE id BETWEEN 100 AND 110") == 10
        run(first, "UPDATE t SET v = 'changed by the old transaction' WHERE id = 105")
        early.commit()
    early.close()
    late.close()
    scene.check()


def test_big_transaction(scene):
    rows = 1000000 if paths.long_version() else 100000
    connection = scene.app(autocommit=False)
    with connection.cursor() as cursor:
        for start in range(0, rows, 5000):
            cursor.execute("INSERT INTO big (a, b, c) VALUES " + ",".join(f"({n},'row {n} of the transaction',{n}.25)" for n in range(start, start + 5000)))
    connection.commit()
    scene.check(timeout=300)
    with connection.cursor() as cursor:
        run(cursor, "UPDATE big SET c = c + 1 WHERE a % 3 = 0", "DELETE FROM big WHERE a % 5 = 0")
    connection.commit()
    connection.close()
    scene.check(timeout=300)
    with open(f"/proc/{scene.worker.child.pid}/status", encoding="ascii", errors="replace") as status:
        peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM:"))
    assert peak < 256 * 1024, f"the worker used {peak} kB"
