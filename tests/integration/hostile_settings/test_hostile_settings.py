"""See README.md."""
import pytest

from lib import mysql, tandem

ADD_ALL = False

# Of sessions that tandem-sync and apply open in this database.
POSTGRES = {"default_transaction_isolation": "serializable", "default_transaction_read_only": "on", "default_transaction_deferrable": "on", "statement_timeout": "'150ms'",
            "lock_timeout": "'1ms'", "idle_in_transaction_session_timeout": "'10ms'", "idle_session_timeout": "'50ms'", "search_path": "nowhere", "DateStyle": "'SQL, DMY'",
            "IntervalStyle": "sql_standard", "TimeZone": "'Asia/Kathmandu'", "bytea_output": "escape", "extra_float_digits": "-15",
            "standard_conforming_strings": "off", "escape_string_warning": "off", "synchronous_commit": "off", "row_security": "off",
            "client_encoding": "'LATIN1'", "lc_messages": "'C'", "client_min_messages": "error", "enable_indexscan": "off", "max_parallel_workers_per_gather": "0",
            "default_table_access_method": "heap", "plan_cache_mode": "force_custom_plan", "transform_null_equals": "on", "quote_all_identifiers": "on",
            "array_nulls": "off", "xmloption": "document", "work_mem": "'64kB'"}
# What every session of a user without SUPER begins with; the application here is root and is spared.
INIT = ("SET SESSION autocommit = 0, sql_select_limit = 2, sql_safe_updates = 1, sql_big_selects = 0, max_join_size = 500, sql_auto_is_null = 1, net_write_timeout = 1,"
        " wait_timeout = 2, character_set_results = latin1, time_zone = '-11:00', sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PIPES_AS_CONCAT',"
        " tx_isolation = 'SERIALIZABLE', group_concat_max_len = 4, tx_read_only = 1{more}")

CHANGES = ["UPDATE h SET t = CONCAT(t, ' caf\u00e9 \u20ac'), f = f * 3, ts = '2001-02-03 04:05:06.7'", "DELETE FROM h WHERE id IN (3, 4)",
           "INSERT INTO h (parent, t, b) SELECT parent, t, b FROM h", "UPDATE parent SET name = '\u00fcbrig' WHERE id = 1", "DELETE FROM parent WHERE id = 2",
           "UPDATE h SET id = id + 100 WHERE id < 3", "REPLACE INTO parent VALUES (3, 'new')"]


def write(scene):
    connection = scene.old.connect(scene.old_database)
    with connection.cursor() as cursor:
        for statement in CHANGES:
            cursor.execute(statement)
    connection.close()


def test_defaults_of_the_new_database(empty_scene):
    scene = empty_scene
    scene.worker.stop()
    connection = scene.pg.connect(scene.database)
    cursor = connection.cursor()
    scene.sql = lambda statement, parameters=None: (cursor.execute(statement, parameters), cursor.fetchall() if cursor.description else None)[1]
    for name, value in POSTGRES.items():
        scene.sql(f'ALTER DATABASE "{scene.database}" SET {name} = {value}')
    scene.worker.start()
    scene.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE backend_type ~ 'apply' AND datname = current_database()")
    scene.add_source()
    scene.add_and_start("%")
    write(scene)
    try:
        scene.wait_caught_up()
        write(scene)
        scene.wait_caught_up()
    finally:
        for name in POSTGRES:
            scene.sql(f'ALTER DATABASE "{scene.database}" RESET {name}')
        del scene.sql
        connection.close()
    scene.check()


@pytest.fixture
def strange_old(folder, flavor):
    init = INIT.format(more="" if flavor == "mysql56" else ", max_statement_time = 0.05")
    server = mysql.server(flavor, folder, f"strange-{flavor}", [f"--init-connect={init}", "--character-set-server=latin1", "--skip-character-set-client-handshake",
                                                                "--collation-server=latin1_general_cs"]).start()
    yield server
    server.kill()


def test_defaults_of_the_old_server(request, strange_old, pg, folder):
    scene = tandem.Scene(strange_old, pg, folder, "strange")
    request.addfinalizer(scene.close)
    scene.create((request.path.parent / "schema.sql").read_text())
    scene.run_worker()
    scene.add_source()
    scene.add_and_start("%")
    write(scene)
    scene.check()
    write(scene)
    scene.check()
