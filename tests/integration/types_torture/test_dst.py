"""TIMESTAMP while the application's time zone has an hour twice or not at all, as value and as key: it is the instant that counts. See README.md."""
import pytest

from lib import process

ADD_ALL = False
# Instants around the change back from summer time in Berlin: the second and the third are both 02:30 there; and the one around the hour that is left out.
FIRST, TWICE_A, TWICE_B, SPRING = "2024-10-26 23:30:00", "2024-10-27 00:30:00", "2024-10-27 01:30:00", "2024-03-31 01:30:00"


@pytest.fixture(scope="module")
def berlin(scene):
    """A connection of the application in Berlin's time, which the server learns here if it does not know it."""
    if not scene.old.value("SELECT count(*) FROM mysql.time_zone_name WHERE Name = 'Europe/Berlin'"):
        script = process.run(["mysql_tzinfo_to_sql", "/usr/share/zoneinfo/Europe/Berlin", "Europe/Berlin"]).decode()
        with scene.old.connect("mysql") as connection, connection.cursor() as cursor:
            for statement in script.split(";\n"):
                if statement.strip().upper().startswith(("INSERT", "SET @TIME_ZONE_ID")):
                    cursor.execute(statement)
    connection = scene.app()
    with connection.cursor() as cursor:
        cursor.execute("SET time_zone = 'Europe/Berlin'")
        cursor.execute("SELECT CONVERT_TZ('2024-10-27 00:30:00', 'UTC', 'Europe/Berlin'), CONVERT_TZ('2024-10-27 01:30:00', 'UTC', 'Europe/Berlin')")
        assert len({str(v) for v in cursor.fetchone()}) == 1
        yield cursor
    connection.close()


def in_utc(cursor, *statements):
    cursor.execute("SET time_zone = '+00:00'")
    for statement in statements:
        cursor.execute(statement)
    cursor.execute("SET time_zone = 'Europe/Berlin'")


def instants(scene, table, column):
    return scene.sql(f"SELECT ({column} AT TIME ZONE 'UTC')::text, n FROM {table} ORDER BY 1, 2")


def test_values(scene, berlin):
    scene.old.query("CREATE TABLE moments (n INT PRIMARY KEY, ts TIMESTAMP(3) NULL) ENGINE=InnoDB", database=scene.old_database)
    in_utc(berlin, f"INSERT INTO moments VALUES (1, '{FIRST}'), (2, '{TWICE_A}'), (3, '{TWICE_B}.001'), (4, '{SPRING}')")
    scene.add_and_start("moments")
    berlin.execute("UPDATE moments SET n = n + 10")
    in_utc(berlin, f"INSERT INTO moments VALUES (2, '{TWICE_A}'), (3, '{TWICE_B}.001')")
    scene.wait_caught_up()
    assert instants(scene, "moments", "ts") == [(SPRING, 14), (FIRST, 11), (TWICE_A, 2), (TWICE_A, 12), (TWICE_B + ".001", 3), (TWICE_B + ".001", 13)]
    scene.check(tables=["moments"])


def test_keys(scene, berlin):
    """The capture trigger runs in the application's time zone; a key that went through its local time would be that of another row."""
    scene.old.query("CREATE TABLE by_moment (ts TIMESTAMP NOT NULL DEFAULT '2000-01-01 00:00:00', part INT, n INT, PRIMARY KEY (ts, part)) ENGINE=InnoDB", database=scene.old_database)
    in_utc(berlin, f"INSERT INTO by_moment VALUES ('{FIRST}', 1, 1), ('{TWICE_A}', 1, 2), ('{TWICE_B}', 1, 3), ('{SPRING}', 1, 4)")
    scene.add_and_start("by_moment")
    berlin.execute("UPDATE by_moment SET n = n + 10")
    scene.wait_caught_up()
    assert instants(scene, "by_moment", "ts") == [(SPRING, 14), (FIRST, 11), (TWICE_A, 12), (TWICE_B, 13)]
    berlin.execute("DELETE FROM by_moment WHERE n = 13")
    scene.wait_caught_up()
    assert instants(scene, "by_moment", "ts") == [(SPRING, 14), (FIRST, 11), (TWICE_A, 12)]
    in_utc(berlin, f"INSERT INTO by_moment VALUES ('{TWICE_B}', 1, 5)")
    berlin.execute("UPDATE by_moment SET part = 2 WHERE n = 5")
    scene.wait_caught_up()
    assert instants(scene, "by_moment", "ts") == [(SPRING, 14), (FIRST, 11), (TWICE_A, 12), (TWICE_B, 5)]
    scene.check(tables=["by_moment"])
