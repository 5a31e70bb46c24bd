"""See README.md."""
import re
import subprocess
from pathlib import Path

import pytest

from lib import paths, process
from lib.process import wait_until

from rows import Filler

ADD_ALL = False
ROWS = 150


def package_file(*names):
    """A file of a Debian package that scripts/packages has unpacked."""
    for name in names:
        found = paths.BUILD / "cache" / "schemas" / name
        if found.exists():
            return found.read_text()
    pytest.fail(f"{names[0]} is missing under build/cache/schemas: run scripts/packages test")


def roundcube():
    return package_file("roundcube/mysql.initial.sql")


def mediawiki():
    text = package_file("mediawiki/tables-generated.sql")
    return re.sub(r"/\*\$wgDBTableOptions\*/", "ENGINE=InnoDB, DEFAULT CHARSET=binary", re.sub(r"/\*_\*/", "", text)) + "\n"


def statements_of(text, *beginnings):
    """Those of a script of the server's own package that write rows; they come one to a line, or to a few lines ended by a semicolon."""
    found, current = [], ""
    for line in text.splitlines(keepends=True):
        current += line
        if line.rstrip().endswith(";"):
            if current.lstrip().upper().startswith(beginnings):
                found.append(current.strip().rstrip(";"))
            current = ""
    return found


def server_tables(scene):
    """Help and time zones of the server, made InnoDB: all topics and all zones of the system, by the scripts that come with the server."""
    help_script = paths.mysql56_home() / "share" / "fill_help_tables.sql" if scene.old.flavor == "mysql56" else Path("/usr/share/mysql/fill_help_tables.sql")
    zones = process.run(["mysql_tzinfo_to_sql", "/usr/share/zoneinfo"], stderr=subprocess.DEVNULL).decode()
    with scene.old.connect(scene.old_database, autocommit=False) as connection, connection.cursor() as cursor:
        for table in ("help_category", "help_keyword", "help_relation", "help_topic", "time_zone", "time_zone_leap_second", "time_zone_name",
                      "time_zone_transition", "time_zone_transition_type"):
            cursor.execute(f"CREATE TABLE {table} LIKE mysql.{table}")
            cursor.execute(f"ALTER TABLE {table} ENGINE=InnoDB")
        cursor.execute("SET NAMES utf8, sql_mode = ''")
        for statement in statements_of(help_script.read_text(errors="replace"), "INSERT") + statements_of(zones, "INSERT", "SET @TIME_ZONE_ID"):
            cursor.execute(statement)
        connection.commit()


def planned_and_made(scene):
    """What the plan shows is what add_tables makes: compared as the catalog of PostgreSQL sees it, made by hand in another schema."""
    plan = scene.sql("SELECT table_name, step, ddl, losses FROM tandem.plan('shop')")
    for table, step, _, losses in plan:
        if step == "refused":  # the way out that it names: MediaWiki has tables without a key
            scene.old.query(re.search(r"On the old side: (ALTER TABLE .*);", losses[0])[1], database=scene.old_database)
    plan = scene.sql("SELECT table_name, step, ddl, losses FROM tandem.plan('shop')")
    assert not [row for row in plan if row[1] == "refused"], plan
    scene.sql("SELECT tandem.add_tables('shop')")
    scene.sql("CREATE SCHEMA by_hand")
    with scene.pg.connect(scene.database) as connection, connection.cursor() as cursor:
        for _, _, ddl, _ in plan:
            if ddl:
                cursor.execute(re.sub(r"\bpublic\.", "by_hand.", ddl))
        connection.commit()
        shapes = []
        for schema in ("public", "by_hand"):
            cursor.execute("""
                SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity, pg_get_expr(d.adbin, d.adrelid),
                       col_description(c.oid, a.attnum)
                FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
                WHERE c.relnamespace = %(s)s::regnamespace AND c.relkind = 'r' AND a.attnum > 0
                UNION ALL SELECT c.relname, k.conname, replace(pg_get_constraintdef(k.oid), %(s)s || '.', ''), k.convalidated, k.contype, NULL, NULL
                FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid WHERE c.relnamespace = %(s)s::regnamespace
                UNION ALL SELECT i.tablename, i.indexname, replace(i.indexdef, %(s)s || '.', ''), NULL, NULL, NULL, NULL FROM pg_indexes i WHERE i.schemaname = %(s)s
                ORDER BY 1, 2, 3""", {"s": schema})
            shapes.append(cursor.fetchall())
        # A constraint to another table shows the schema unless it is in the search path.
        assert shapes[0] == [tuple(v.replace("by_hand.", "") if isinstance(v, str) else v for v in row) for row in shapes[1]]
    scene.sql("SET client_min_messages = warning; DROP SCHEMA by_hand CASCADE")
    return plan


def move(scene):
    plan = planned_and_made(scene)
    scene.start_all()
    scene.check(timeout=180)
    keys = scene.sql("SELECT * FROM tandem.validate_foreign_keys()")
    assert all(valid for _, _, valid, _ in keys), keys
    return plan, keys


def test_roundcube(scene):
    if scene.old.flavor == "mysql56":  # its keys need more than the 767 bytes that are this server's default
        for setting in ("innodb_file_format = Barracuda", "innodb_file_per_table = 1", "innodb_large_prefix = 1"):
            scene.old.query(f"SET GLOBAL {setting}")
    scene.old.script(roundcube(), scene.old_database)
    with scene.old.connect(scene.old_database) as connection:
        Filler(connection, scene.old_database, ROWS).fill()
    plan, keys = move(scene)
    assert len([row for row in plan if row[1] == "table"]) == scene.old_value("SELECT count(*) FROM information_schema.tables WHERE table_schema = DATABASE()")
    assert len(keys) == scene.old_value("SELECT count(*) FROM information_schema.table_constraints WHERE table_schema = DATABASE() AND constraint_type = 'FOREIGN KEY'") > 5
    scene.write("DELETE FROM users ORDER BY user_id LIMIT 20", "UPDATE identities SET name = 'x' LIMIT 10", "UPDATE users SET user_id = user_id + 100000 ORDER BY user_id DESC LIMIT 5")
    scene.check(timeout=120)


def clean(scene):
    """The scene's source with nothing of the test before."""
    scene.sql("SELECT tandem.drop_source('shop', cascade => true)")
    wait_until(lambda: scene.value("SELECT count(*) FROM tandem.sources") == 0, 60, 0.2, "the source to be gone")
    scene.sql("DO $$ DECLARE t regclass; BEGIN FOR t IN SELECT oid FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' LOOP"
              " EXECUTE format('DROP TABLE IF EXISTS %s CASCADE', t); END LOOP; END $$")
    scene.old.query(f"DROP DATABASE `{scene.old_database}`")
    scene.old.query(f"CREATE DATABASE `{scene.old_database}` CHARACTER SET utf8mb4")
    scene.add_source(server=False)


def test_mediawiki(scene):
    clean(scene)
    scene.old.script(mediawiki(), scene.old_database)
    with scene.old.connect(scene.old_database) as connection:
        Filler(connection, scene.old_database, ROWS).fill()
    plan, _ = move(scene)
    assert len([row for row in plan if row[1] == "table"]) > 40
    scene.write("UPDATE page SET page_touched = '20250101000000' LIMIT 30", "DELETE FROM text LIMIT 20")
    scene.check(timeout=120)


def test_server_tables(scene):
    clean(scene)
    server_tables(scene)
    plan, _ = move(scene)
    assert len([row for row in plan if row[1] == "table"]) == 9
    for table, least in (("help_topic", 400), ("help_keyword", 400), ("help_relation", 800), ("time_zone_name", 400), ("time_zone_transition", 20000), ("time_zone_transition_type", 2000)):
        rows = scene.value(f"SELECT count(*) FROM {table}")
        assert rows == scene.old_value(f"SELECT count(*) FROM {table}") >= least, (table, rows)
    assert scene.value("SELECT description FROM help_topic WHERE name = 'NOW'") == scene.old_value("SELECT description FROM help_topic WHERE name = 'NOW'")
    scene.write("UPDATE help_topic SET description = REVERSE(description)", "DELETE FROM time_zone_transition WHERE Time_zone_id < 20", "UPDATE time_zone_name SET Time_zone_id = Time_zone_id + 1")
    scene.check(timeout=180)
