"""Values of 16 MB and more, in the backfill and live, see README.md."""
ADD_ALL = False


def sums(scene):
    old = scene.old.query("SELECT id, MD5(b), LENGTH(b), MD5(CONVERT(t USING utf8mb4)), LENGTH(CONVERT(t USING utf8mb4)), MD5(l) FROM large ORDER BY id", database=scene.old_database)
    new = scene.sql("SELECT id, md5(b), length(b), md5(convert_to(t, 'UTF8')), octet_length(t), md5(convert_to(l, 'UTF8')) FROM large ORDER BY id")
    return [tuple(row) for row in old], new


def test_large_values(scene, flavor):
    part = 1 if flavor == "mariadb" else 10  # MySQL 5.6 takes no more than a tenth of its redo log in one transaction
    scene.old.query("CREATE TABLE large (id INT PRIMARY KEY, b LONGBLOB, t LONGTEXT CHARACTER SET utf16, l MEDIUMTEXT CHARACTER SET utf8mb4) ENGINE=InnoDB", database=scene.old_database)

    def whole(more):
        return f"REPEAT(X'00FF', {8388608 // part + more}), REPEAT('\u00e9\u4e2d', {2000000 // part}), REPEAT('\U0001f98a', {4000000 // part})"
    scene.write(f"INSERT INTO large VALUES (1, {whole(0)})", "INSERT INTO large VALUES (2, '', '', NULL)")
    scene.add_and_start("large", wait=False)
    scene.wait_caught_up(180)
    scene.write(f"INSERT INTO large VALUES (3, {whole(1)}), (4, 'x', 'y', 'z')", f"UPDATE large SET b = REPEAT('ab', {8000000 // part}), t = 'short' WHERE id = 1",
                *(f"UPDATE large SET l = REPEAT('\u20ac', {5000000 // part}) WHERE id = {i}" for i in (2, 4)))
    scene.wait_caught_up(180)
    assert scene.dead_letters() == []
    old, new = sums(scene)
    assert new == old and [row[2] for row in new] == [16000000 // part, 0, (8388608 // part + 1) * 2, 1]
