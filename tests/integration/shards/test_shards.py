"""See README.md."""
import json
from pathlib import Path

import psycopg2
import pytest

from lib import compare

ADD_ALL = False
COLUMNS = {"person_id": "id", "full_name": "first || coalesce(' ' || last, '')", "city": "split_part(address, ';', 1)", "zip": "split_part(address, ';', 2)"}
TARGET = """CREATE TABLE person (
  shard text NOT NULL, person_id bigint NOT NULL, full_name text NOT NULL, city text, zip text, country text, PRIMARY KEY (person_id, shard))"""


@pytest.fixture(scope="module")
def shards(scene):
    """Database of the scene: source shop, shard eu. A second old database of the same server: source us."""
    second = scene.old_database + "_us"
    scene.old.query(f"CREATE DATABASE `{second}` CHARACTER SET utf8mb4")
    scene.old.create_users(second, scene.metadata)
    scene.old.script((Path(__file__).parent / "schema.sql").read_text(), second)
    scene.sql("SELECT tandem.add_source('us', 'old', %s, metadata_database => %s)", (second, scene.metadata))
    scene.sql(TARGET)
    add(scene, "shop", "eu")
    add(scene, "us", "us")
    scene.start_all()
    scene.wait_caught_up()
    yield {"eu": scene.old_database, "us": second}
    scene.old.query(f"DROP DATABASE `{second}`")


def add(scene, source, shard, **more):
    arguments = {"columns": json.dumps(COLUMNS), "constants": json.dumps({"shard": shard}), "where": "country = 'DE'", **more}
    scene.sql("SELECT tandem.add_table(%(source)s, 'users', 'person', columns => %(columns)s, constants => %(constants)s, \"where\" => %(where)s)",
              {"source": source, **arguments})


def here(scene):
    return scene.sql("SELECT shard, person_id, full_name, city, zip FROM person ORDER BY shard, person_id")


def write(scene, database, *statements):
    for statement in statements:
        scene.old.query(statement, database=database)


def check(scene, shards):
    """Each old table, what its filter selects, against its rows here: by views on both sides, compared by compare.py."""
    scene.wait_caught_up()
    assert scene.dead_letters() == []
    for shard, database in shards.items():
        scene.old.query("CREATE OR REPLACE VIEW chosen AS SELECT id, CONCAT_WS(' ', first, last) AS full_name, SUBSTRING_INDEX(address, ';', 1) AS city,"
                        " SUBSTRING_INDEX(address, ';', -1) AS zip, country FROM users WHERE country = 'DE'", database=database)
        scene.sql(f"CREATE OR REPLACE VIEW of_{shard} AS SELECT * FROM person WHERE shard = '{shard}'")
        old = compare.raw_mysql(user="root", unix_socket=str(scene.old.socket))
        new = scene.pg.connect(scene.database, autocommit=False)
        try:
            names = {"id": "person_id", "full_name": "full_name", "city": "city", "zip": "zip", "country": "country"}
            result = compare.Comparison(old, database, new).compare(
                {"source": "chosen", "target": f"public.of_{shard}", "key": ["id"], "columns": [{"source": o, "target": n} for o, n in names.items()]})
        finally:
            old.close()
            new.close()
        assert not result.differences, "\n".join(str(d) for d in result.differences)
        assert result.old_rows == result.new_rows


def test_backfill_of_both(scene, shards):
    one = [(1, "Ada L", "Berlin", "10115"), (4, "Di W", "Bonn", "53111")]
    assert here(scene) == [("eu", *row) for row in one] + [("us", *row) for row in one]
    check(scene, shards)


def test_rows_enter_and_leave_the_filter(scene, shards):
    write(scene, shards["eu"], "UPDATE users SET country = 'FR' WHERE id = 1", "UPDATE users SET country = 'DE' WHERE id IN (2, 3)",
          "UPDATE users SET country = NULL WHERE id = 4")
    scene.wait_caught_up()
    assert [(r[0], r[1]) for r in here(scene)] == [("eu", 2), ("eu", 3), ("us", 1), ("us", 4)], "NULL is not selected, the other shard is untouched"
    check(scene, shards)
    write(scene, shards["eu"], "UPDATE users SET id = 20 WHERE id = 2", "INSERT INTO users VALUES (30, 'New', NULL, 'DE', 'X;1'), (31, 'Not', NULL, 'FR', 'X;1')")
    check(scene, shards)
    assert [r[1] for r in here(scene) if r[0] == "eu"] == [3, 20, 30]


def test_shards_do_not_touch_each_other(scene, shards):
    write(scene, shards["us"], "DELETE FROM users WHERE id = 1", "UPDATE users SET first = 'Changed' WHERE id = 4")
    write(scene, shards["eu"], "REPLACE INTO users VALUES (1, 'Back', NULL, 'DE', 'Ulm;89073'), (4, 'Four', 'E', 'DE', NULL)")
    check(scene, shards)
    assert [(r[0], r[1], r[2]) for r in here(scene) if r[1] in (1, 4)] == [("eu", 1, "Back"), ("eu", 4, "Four E"), ("us", 4, "Changed W")]
    write(scene, shards["eu"], "DELETE FROM users")
    check(scene, shards)
    assert {r[0] for r in here(scene)} == {"us"}


def test_targets_are_created_and_cascades_stay_in_their_shard(scene, shards):
    """The first table makes the target with the constant in its key, the second finds it. What a cascade of one old database removes is looked
    up among the rows of that database only."""
    for database in shards.values():
        scene.old.query("CREATE TABLE org (id INT NOT NULL PRIMARY KEY, name VARCHAR(20)) ENGINE=InnoDB", database=database)
        scene.old.query("CREATE TABLE member (id INT NOT NULL PRIMARY KEY, org_id INT NULL, CONSTRAINT member_org FOREIGN KEY (org_id) REFERENCES org (id)"
                        " ON DELETE CASCADE ON UPDATE CASCADE) ENGINE=InnoDB", database=database)
        write(scene, database, "INSERT INTO org VALUES (1, 'one'), (2, 'two')", "INSERT INTO member VALUES (10, 1), (11, 1), (20, 2)")
    for source, shard in (("shop", "eu"), ("us", "us")):
        for table in ("org", "member"):
            scene.sql("SELECT tandem.add_table(%s, %s, constants => %s)", (source, table, json.dumps({"shard": shard})))
    assert scene.value("SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE conrelid = 'member'::regclass AND contype = 'p'") == "PRIMARY KEY (id, shard)"
    scene.start_all()
    scene.wait_caught_up()
    rows = [(10, 1), (11, 1), (20, 2)]
    assert scene.sql("SELECT shard, id, org_id FROM member ORDER BY 1, 2") == [("eu", *r) for r in rows] + [("us", *r) for r in rows]
    write(scene, shards["eu"], "DELETE FROM org WHERE id = 1", "UPDATE org SET id = 3 WHERE id = 2")
    write(scene, shards["us"], "DELETE FROM org WHERE id = 2")
    scene.wait_caught_up()
    assert scene.sql("SELECT shard, id, org_id FROM member ORDER BY 1, 2") == [("eu", 20, 3), ("us", 10, 1), ("us", 11, 1)]
    assert scene.sql("SELECT shard, id, name FROM org ORDER BY 1, 2") == [("eu", 3, "two"), ("us", 1, "one")]
    assert scene.dead_letters() == []


def test_cascades_forbid_a_filter(scene, shards):
    for table, where in (("org", "name = 'one'"), ("member", "org_id = 1")):
        description = "tandem._describe_one(tandem._source_named('shop'), %s)"
        with pytest.raises(psycopg2.Error, match="cannot be filtered because of cascading foreign keys: \"member_org\""):
            scene.sql(f"SELECT tandem._make_shape({description}), tandem._checked_filter({description}, %s)", (table, table, where))
    scene.sql("SELECT tandem._make_shape(d), tandem._checked_filter(d, 'id > 5') FROM tandem._describe_one(tandem._source_named('shop'), 'member') AS d")


def test_a_filter_that_fails_for_one_row(scene, shards):
    """An expression may raise an error for a value: that row becomes a dead letter, the others flow."""
    scene.old.query("CREATE TABLE ratio (id INT NOT NULL PRIMARY KEY, a INT NOT NULL, b INT NOT NULL) ENGINE=InnoDB", database=shards["eu"])
    scene.old.query("INSERT INTO ratio VALUES (1, 10, 2), (2, 1, 0), (3, 1, 2)", database=shards["eu"])
    scene.sql("SELECT tandem.add_table('shop', 'ratio', \"where\" => 'a / b > 1')")
    scene.start_all()
    scene.wait_caught_up()
    assert scene.sql("SELECT id FROM ratio") == [(1,)]
    assert [(d[0], d[1]) for d in scene.dead_letters()] == [("ratio", "22012")]
    write(scene, shards["eu"], "UPDATE ratio SET b = 1, a = 5 WHERE id = 2")
    scene.wait_caught_up()
    assert scene.sql("SELECT id FROM ratio ORDER BY id") == [(1,), (2,)]
    assert scene.dead_letters() == []


@pytest.mark.parametrize("arguments, message", [
    ({"constants": "{}", "columns": json.dumps({**COLUMNS, "shard": "country"})}, "already belongs to table|no unique index"),
    ({"constants": '{"shard": "eu"}'}, "already belongs to table"),
    ({"constants": '{"city": "x"}'}, "column \"city\" is both in columns and in constants"),
    ({"constants": '{"nix": "x"}'}, "has no column \"nix\""),
    ({"constants": '{"shard": "asia"}', "where": "country"}, "must be of type boolean, not text"),
    ({"constants": '{"shard": "asia"}', "where": "now() > '2000-01-01'"}, "filter cannot be used: generation expression is not immutable"),
])
def test_what_is_refused(scene, shards, arguments, message):
    scene.old.query("DROP TABLE IF EXISTS more_users", database=shards["eu"])
    scene.old.query("CREATE TABLE more_users LIKE users", database=shards["eu"])
    given = {"columns": json.dumps(COLUMNS), "where": None, **arguments}
    with pytest.raises(psycopg2.Error, match=message):
        scene.sql("SELECT tandem.add_table('shop', 'more_users', 'person', columns => %(columns)s, constants => %(constants)s, \"where\" => %(where)s)", given)


def test_dropping_one_leaves_the_other(scene, shards):
    with pytest.raises(psycopg2.Error, match="shared with other tables"):
        scene.sql("SELECT tandem.drop_table('us.users', keep_target => false)")
    scene.sql("SELECT tandem.drop_table('us.users')")
    write(scene, shards["eu"], "INSERT INTO users VALUES (7, 'Seven', NULL, 'DE', 'A;1')")
    scene.wait_caught_up()
    assert [(r[0], r[1]) for r in here(scene)] == [("eu", 7), ("us", 4)]
