"""Dense tables whose keys reach the end of their type, as the one that is moved because its numbers run out."""
from helpers import reconcile

ADD_ALL = False
LIMITS = {
    "TINYINT": (-128, 127), "SMALLINT": (-32768, 32767), "SMALLINT UNSIGNED": (60000, 65535), "INT": (2**31 - 9000, 2**31 - 1),
    "INT UNSIGNED": (2**32 - 9000, 2**32 - 1), "BIGINT": (2**63 - 9000, 2**63 - 1), "BIGINT UNSIGNED": (2**64 - 9000, 2**64 - 1),
}


def test_dense_up_to_the_limit(empty_scene):
    scene = empty_scene
    tables = {"k_" + kind.lower().replace(" ", "_"): kind for kind in LIMITS}
    for table, kind in tables.items():
        first, last = LIMITS[kind]
        scene.old.script(f"CREATE TABLE {table} (id {kind} NOT NULL PRIMARY KEY, v INT NOT NULL) ENGINE=InnoDB;", scene.old_database)
        for low in range(first, last + 1, 3000):
            scene.write(f"INSERT INTO {table} VALUES " + ",".join(f"({n}, 1)" for n in range(low, min(last + 1, low + 3000))))
    scene.add_source()
    scene.add_and_start("%")
    for table in tables:
        assert reconcile(scene, table) == {}, table
    for table, kind in tables.items():
        scene.sql(f"""SET session_replication_role = replica; UPDATE "{table}" SET v = 2 WHERE id::numeric %% 97 = 5;
                      DELETE FROM "{table}" WHERE id IN (%s, %s); RESET session_replication_role""", LIMITS[kind])
        wrong = scene.value(f'SELECT count(*) FROM "{table}" WHERE v = 2')
        found = [what[0] for what in reconcile(scene, table).values()]
        assert wrong > 0 and found.count("missing") == 2 and found.count("different") == wrong == len(found) - 2, table
    scene.sql("SELECT tandem.repair('shop.%', dry_run => false, max_rows => 5000)")
    scene.wait_caught_up()
    scene.check()
