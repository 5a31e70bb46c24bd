"""See README.md."""
from lib import tandem
from lib.process import wait_until

CONFIGURATION = ["SELECT name, server, database, metadata_database, mapping_role, tls FROM tandem.source",
                 "SELECT name, target::text, key_columns, created_target FROM tandem.source_table ORDER BY 1",
                 "SELECT t.name, c.ordinal, c.name, mysql_type, image_type FROM tandem.source_column c JOIN tandem.source_table t USING (table_id) ORDER BY 1, 2",
                 "SELECT t.name, c.name, source_column, expression, key_position FROM tandem.target_column c JOIN tandem.source_table t USING (table_id) ORDER BY 1, 2"]


def test_dump_and_restore(scene, tmp_path):
    scene.write("INSERT INTO d (v) VALUES ('before the dump')")
    scene.check()
    dump = tmp_path / "dump"
    scene.pg.program("pg_dump", "-Fc", "-f", dump, scene.database)
    scene.write("INSERT INTO d (v) VALUES ('after the dump')", "DELETE FROM d WHERE id = 1")
    scene.check()

    restored = tandem.Scene(scene.old, scene.pg, scene.folder, "restored")
    restored.old_database, restored.metadata = scene.old_database, scene.metadata
    scene.pg.query(f'CREATE DATABASE "{restored.database}"')
    scene.pg.program("pg_restore", "--exit-on-error", "-d", restored.database, dump)
    try:
        for sql in CONFIGURATION:
            assert restored.sql(sql) == scene.sql(sql)
        assert restored.sql("SELECT DISTINCT desired_state FROM tandem.source_table") == [("registered",)]
        assert restored.value("SELECT (SELECT count(*) FROM tandem.table_state) + (SELECT count(*) FROM tandem.lease) + (SELECT count(*) FROM tandem.journal)") == 0
        assert not {r[0] for r in restored.sql("SELECT outbox FROM tandem.source_table")} & {r[0] for r in scene.sql("SELECT outbox FROM tandem.source_table")}

        # The original goes on beside the restored database's idle worker.
        restored.run_worker("restored")
        restored.wait_worker()
        scene.write("INSERT INTO d (v) VALUES ('original still runs')")
        scene.check()
        assert restored.value("SELECT count(*) FROM d WHERE v = 'original still runs'") == 0

        # MySQL 5.6 has one trigger per event, so the original lets go first.
        scene.sql("SELECT tandem.drop_table(name) FROM tandem.source_table")
        wait_until(lambda: scene.states() == {}, 30, 0.1, "the original to let go")
        restored.start_all()
        restored.wait_caught_up()
        # A row deleted on the old side after the dump is known to nobody: the copy brings what is there, tandem.enqueue removes what is not.
        restored.sql("""SELECT tandem.enqueue('d', '{"id": 1}')""")
        restored.check()
    finally:
        restored.close_new_side()
