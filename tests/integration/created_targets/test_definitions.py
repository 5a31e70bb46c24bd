"""Defaults, indexes, sequences and versions of created targets, by statements written by hand. See README.md."""
import threading
import time

import pytest

from lib.process import wait_until

ADD_ALL = False


def plan(scene, table, step):
    return [(ddl, losses) for ddl, losses in scene.sql("SELECT ddl, losses FROM tandem.plan('shop') WHERE table_name = %s AND step = %s", (table, step))]


def test_defaults(scene, flavor):
    """Every default is the same value here, or it is told."""
    scene.old.query(r"""CREATE TABLE defaults (id INT PRIMARY KEY, quote VARCHAR(30) DEFAULT 'it''s "q" \\ \n|', empty VARCHAR(5) DEFAULT '', word VARCHAR(20) DEFAULT 'NULL',
        call_like VARCHAR(20) DEFAULT 'CURRENT_TIMESTAMP', fixed BINARY(3) DEFAULT 'ab', bytes VARBINARY(5) DEFAULT 'a''b', question VARBINARY(5) DEFAULT 0xFF,
        zeros VARBINARY(5) DEFAULT 0x6100, none VARBINARY(5) NOT NULL DEFAULT '', high_bytes VARBINARY(5) NOT NULL DEFAULT 0xFE, bits BIT(5) DEFAULT b'101', duration TIME DEFAULT '-10:00:00', y YEAR DEFAULT 2001, f FLOAT DEFAULT 1e10, d DOUBLE DEFAULT -1.5,
        filled INT(5) UNSIGNED ZEROFILL DEFAULT 7, high BIGINT UNSIGNED DEFAULT 18446744073709551615, exact DECIMAL(65,30) DEFAULT 0.1, e ENUM('a','') DEFAULT '', s SET('x','y') DEFAULT 'x,y',
        at DATETIME(3) DEFAULT '2001-02-03 04:05:06.789', flag BOOL DEFAULT TRUE) ENGINE=InnoDB CHARACTER SET utf8mb4""", database=scene.old_database)
    scene.write("INSERT INTO defaults (id) VALUES (1)")
    ((_, losses),) = plan(scene, "defaults", "table")
    assert losses == []
    scene.sql("SELECT tandem.add_table('shop', 'defaults')")
    scene.start_all()
    scene.wait_caught_up()
    scene.sql("INSERT INTO defaults (id) VALUES (2)")
    (old,), (new,) = scene.sql("SELECT to_jsonb(r) - 'id' FROM defaults r ORDER BY id")
    assert old == new
    assert new["quote"] == "it's \"q\" \\ \n|" and new["fixed"] == "\\x616200" and new["bytes"] == "\\x612762" and new["question"] == "\\xff" and new["zeros"] == "\\x6100"
    assert new["word"] == "NULL" and new["call_like"] == "CURRENT_TIMESTAMP" and new["high"] == 18446744073709551615 and new["bits"] == "00101"


def test_indexes(scene, flavor):
    mariadb = flavor == "mariadb"
    scene.old.query("CREATE TABLE indexed (id INT PRIMARY KEY, a INT, b INT, c VARCHAR(100), body TEXT, long_text VARCHAR(3000) CHARACTER SET latin1, bytes BLOB,"
                    " KEY down (a DESC, b), UNIQUE KEY ab (a, b), KEY prefix (c(10)), KEY bytes (bytes(20)), FULLTEXT KEY words (c, body), KEY longest (long_text(700)), KEY twice (a), KEY again (a)"
                    + (", UNIQUE KEY whole (body)" if mariadb else "") + ") ENGINE=InnoDB ROW_FORMAT=DYNAMIC CHARACTER SET utf8mb4", database=scene.old_database)
    found = plan(scene, "indexed", "index")
    assert [ddl for ddl, _ in found if ddl] == ["CREATE UNIQUE INDEX ON public.indexed (a, b);", "CREATE INDEX ON public.indexed (a);",
                                                f"CREATE INDEX ON public.indexed (a{' DESC' if mariadb else ''}, b);", "CREATE INDEX ON public.indexed (a);"]
    told = [losses[0] for ddl, losses in found if not ddl]
    assert told == [
        'index "bytes" is not created: it covers a prefix; instead perhaps: CREATE INDEX ON public.indexed (substr(bytes, 1, 20))',
        'index "longest" is not created: it covers a prefix; instead perhaps: CREATE INDEX ON public.indexed ("left"(long_text, 700))'.replace('"left"', "left"),
        'index "prefix" is not created: it covers a prefix; instead perhaps: CREATE INDEX ON public.indexed (left(c, 10))',
        *(['index "whole" is not created: it is of type HASH; instead perhaps: CREATE UNIQUE INDEX ON public.indexed (md5(body))'] if mariadb else []),
        "index \"words\" is not created: it is of type FULLTEXT; instead perhaps: CREATE INDEX ON public.indexed USING gin (to_tsvector('simple', coalesce(c, '') || ' ' || coalesce(body, '')))"]
    scene.sql("SELECT tandem.add_table('shop', 'indexed')")
    for sentence in told:  # what is proposed can be run
        scene.sql(sentence.split("instead perhaps: ")[1])
    scene.start_all()
    scene.write("INSERT INTO indexed VALUES (1, 1, 1, 'c', 'body', REPEAT('x', 3000), REPEAT('y', 60000)), (2, NULL, 1, NULL, NULL, NULL, NULL)")
    scene.check(tables=["indexed"])


def test_plan_in_another_schema(scene, flavor):
    """Every statement of a plan can be run, elsewhere and edited; the result is taken as target."""
    scene.old.script("""CREATE TABLE planned (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, code VARCHAR(20) NOT NULL DEFAULT 'x''y', note TEXT COMMENT 'it''s', UNIQUE KEY (code)) ENGINE=InnoDB;
        CREATE TABLE planned_child (id INT AUTO_INCREMENT PRIMARY KEY, parent BIGINT UNSIGNED, code VARCHAR(20), FOREIGN KEY (parent) REFERENCES planned (id) ON DELETE CASCADE,
          FOREIGN KEY (code) REFERENCES planned (code) ON UPDATE CASCADE) ENGINE=InnoDB;""", scene.old_database)
    scene.write("INSERT INTO planned VALUES (18446744073709551614, 'a', 'b')", "INSERT INTO planned_child VALUES (7, 18446744073709551614, 'a')")
    scene.sql("CREATE SCHEMA elsewhere")
    steps = []
    for step, ddl in scene.sql("SELECT step, ddl FROM tandem.plan('shop', 'planned%%', 'elsewhere')"):
        steps.append(step)
        scene.sql(ddl.replace("note text", "note varchar"))
    assert steps == ["table", "sequence", "sequence", "sequence", "index", "comment", "table", "index", "index", "foreign key", "foreign key", "index"]
    assert len(scene.sql("SELECT tandem.add_tables('shop', 'planned%%', 'elsewhere')")) == 2
    scene.start_all()
    scene.write("UPDATE planned SET code = 'A' WHERE code = 'a'", "INSERT INTO planned_child (parent) SELECT id FROM planned")
    scene.check(mapping=[{"source": t, "target": f"elsewhere.{t}"} for t in ("planned", "planned_child")])
    assert all(valid for (valid,) in scene.sql("SELECT valid FROM tandem.validate_foreign_keys()"))
    assert scene.value("SELECT col_description('elsewhere.planned'::regclass, 3)") == "it's"


def test_keys_are_validated_under_cascades(scene, flavor):
    """A child may lack its parent for a moment, while a cascade is on its way: that is no violation. One that stays is."""
    scene.old.script("""CREATE TABLE trunk (id INT PRIMARY KEY) ENGINE=InnoDB;
        CREATE TABLE twig (id INT PRIMARY KEY, trunk INT, FOREIGN KEY (trunk) REFERENCES trunk (id) ON DELETE CASCADE) ENGINE=InnoDB;""", scene.old_database)
    scene.write("INSERT INTO trunk VALUES (1)", "INSERT INTO twig VALUES (1, 1)")
    scene.sql("SELECT tandem.add_tables('shop', 't%%')")
    scene.start_all()
    scene.wait_caught_up()
    scene.sql("SET session_replication_role = replica; INSERT INTO twig VALUES (2, 2); RESET session_replication_role")
    started = time.monotonic()
    found = scene.sql("SELECT valid, problem FROM tandem.validate_foreign_keys('shop.twig', timeout => '0.5 s')")
    assert not found[0][0] and "(trunk)=(2)" in found[0][1]
    assert time.monotonic() - started < 5

    arrival = threading.Timer(1, scene.sql, ["SET session_replication_role = replica; DELETE FROM twig WHERE id = 2; RESET session_replication_role"])
    arrival.start()
    found = scene.sql("SELECT valid, problem FROM tandem.validate_foreign_keys('shop.twig')")
    arrival.join()
    assert found == [(True, None)]
    scene.check(tables=["trunk", "twig"])


def sequence_next(scene, table):
    return scene.value("SELECT nextval(pg_get_serial_sequence(%s, 'id'))", (table,))


def test_sequences(scene, flavor):
    """After the backfill a sequence stands behind the rows; advance_sequences also knows of rows that are gone."""
    for table, kind in (("numbered", "INT UNSIGNED"), ("unsigned_numbered", "BIGINT UNSIGNED"), ("small", "TINYINT")):
        scene.old.query(f"CREATE TABLE {table} (id {kind} AUTO_INCREMENT PRIMARY KEY, v INT) ENGINE=InnoDB", database=scene.old_database)
        scene.write(f"INSERT INTO {table} VALUES (41, 1), (42, 2)")
    scene.sql("SELECT tandem.add_table('shop', t) FROM unnest(ARRAY['numbered', 'unsigned_numbered', 'small']) AS t")
    scene.start_all()
    scene.wait_caught_up()
    assert [sequence_next(scene, t) for t in ("numbered", "unsigned_numbered", "small")] == [43, 43, 43]
    scene.write("INSERT INTO numbered VALUES (4000000000, 1)", "DELETE FROM numbered WHERE id = 4000000000", "INSERT INTO small VALUES (126, 1)")
    scene.wait_caught_up()
    assert scene.sql("SELECT column_name, next_value FROM tandem.advance_sequences() WHERE target IN ('numbered'::regclass, 'small'::regclass) ORDER BY 2") == [
        ("id", 127), ("id", 4000000001)]
    assert sequence_next(scene, "numbered") == 4000000001
    assert sequence_next(scene, "unsigned_numbered") == 44
    # Forward only, and with no value left an error.
    assert scene.value("SELECT next_value FROM tandem.advance_sequences('numbered')") == 4000000002
    scene.sql("ALTER TABLE small ALTER id RESTART WITH 5 SET MAXVALUE 100")
    assert scene.value("SELECT next_value FROM tandem.advance_sequences('small')") >= 127
    with pytest.raises(Exception, match="reached maximum value"):
        sequence_next(scene, "small")
    # A column that PostgreSQL fills by itself is not looked at.
    scene.old.query("CREATE TABLE given (k INT PRIMARY KEY) ENGINE=InnoDB", database=scene.old_database)
    scene.sql("CREATE TABLE given (k int PRIMARY KEY, own int GENERATED ALWAYS AS IDENTITY)")
    scene.sql("SELECT tandem.add_table('shop', 'given', 'given')")
    assert scene.sql("SELECT * FROM tandem.advance_sequences('given')") == []


def test_sequences_after_a_direct_backfill(scene):
    scene.sql("ALTER SYSTEM SET tandem.backfill_direct_rows = 0")
    scene.sql("SELECT pg_reload_conf()")
    try:
        wait_until(lambda: scene.value("SHOW tandem.backfill_direct_rows") == "0", 10, 0.1, "the setting")
        scene.old.query("CREATE TABLE copied (id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY, v INT) ENGINE=InnoDB", database=scene.old_database)
        scene.write("INSERT INTO copied VALUES (41, 1), (42, 2)")
        scene.sql("SELECT tandem.add_table('shop', 'copied')")
        scene.start_all()
        scene.wait_caught_up()
        assert scene.value("SELECT mode FROM tandem.backfill JOIN tandem.source_table USING (table_id) WHERE name = 'copied'") == "direct"
        assert sequence_next(scene, "copied") == 43
    finally:
        scene.sql("ALTER SYSTEM RESET tandem.backfill_direct_rows")
        scene.sql("SELECT pg_reload_conf()")


def test_versions(scene, flavor):
    """System-versioned tables of MariaDB: the rows as they are now."""
    if flavor != "mariadb":
        pytest.skip("MariaDB only")
    scene.old.script("""CREATE TABLE versions (id INT PRIMARY KEY, a INT, b INT WITHOUT SYSTEM VERSIONING) WITH SYSTEM VERSIONING;
        CREATE TABLE `periods` (id INT PRIMARY KEY, a INT, since TIMESTAMP(6) GENERATED ALWAYS AS ROW START, till TIMESTAMP(6) GENERATED ALWAYS AS ROW END,
            PERIOD FOR SYSTEM_TIME (since, till)) WITH SYSTEM VERSIONING;
        CREATE TABLE periods_key (id INT, a INT, since TIMESTAMP(6) GENERATED ALWAYS AS ROW START, till TIMESTAMP(6) GENERATED ALWAYS AS ROW END,
            PERIOD FOR SYSTEM_TIME (since, till), PRIMARY KEY (id, till)) WITH SYSTEM VERSIONING;""", scene.old_database)
    tables = ("versions", "periods", "periods_key")
    for table in tables:
        scene.write(f"INSERT INTO {table} (id, a) VALUES (1, 1), (2, 2), (3, 3)", f"UPDATE {table} SET a = 9 WHERE id = 1")
        ((_, losses),) = plan(scene, table, "table")
        kept = "the old side keeps the history of its rows; only what they are now is moved"
        assert losses[0] == (kept if table == "versions" else kept + ', without "since" and "till"')
        scene.sql("SELECT tandem.add_table('shop', %s)", (table,))
    scene.start_all()
    scene.wait_caught_up()
    for table in tables:
        scene.write(f"UPDATE {table} SET a = 10 WHERE id = 1", f"DELETE FROM {table} WHERE id = 2", f"UPDATE {table} SET id = 7 WHERE id = 3", f"INSERT INTO {table} (id, a) VALUES (2, 5)")
    current = [{"source": column, "target": column} for column in ("id", "a")]
    scene.check(tables=["versions"])
    scene.check(mapping=[{"source": table, "target": f"public.{table}", "key": ["id"], "columns": current} for table in tables[1:]])
    assert scene.value("SELECT string_agg(attname, ',' ORDER BY attnum) FROM pg_attribute WHERE attrelid = 'periods_key'::regclass AND attnum > 0") == "id,a"
