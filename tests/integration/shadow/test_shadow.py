"""Phase shadow and shadow reads on both old servers."""
import psycopg2
import pytest

ADD_ALL = False


@pytest.fixture(scope="module")
def shadow(scene):
    scene.sql("CREATE TABLE account (id int PRIMARY KEY, email text NOT NULL, balance int NOT NULL CONSTRAINT no_debts CHECK (balance >= 0), ratio real)")
    scene.add_table("account", target="account")
    scene.add_table("tag", policies='{"d": "null"}')
    scene.add_table("many")
    scene.sql("SELECT tandem.set_phase(ARRAY['account', 'tag', 'many'], 'shadow')")
    scene.wait_caught_up()
    for table in ("account", "tag", "many"):
        scene.sql("SELECT tandem.create_routed_view(%s, %s)", (table, f"{table}_v"))
    return scene


def read(scene, table, key):
    return scene.sql("SELECT verdict, columns FROM tandem.shadow_read(%s, %s)", (table, key))[0]


def test_what_the_new_schema_refuses_is_reported(shadow):
    rows = shadow.sql("SELECT sqlstate, constraint_name, column_name, state, rows FROM tandem.shadow_report('account')")
    assert rows == [("23514", "no_debts", None, "given up", 2), ("23502", None, "email", "given up", 1)]
    assert shadow.value("SELECT sample_key->>'id' FROM tandem.shadow_report('account') WHERE sqlstate = '23502'") == "2"
    shadow.write("UPDATE account SET balance = 5 WHERE id = 3", "UPDATE account SET email = 'b@x' WHERE id = 2")
    shadow.wait_caught_up()
    assert shadow.sql("SELECT sqlstate, rows FROM tandem.shadow_report('account')") == [("23514", 1)]


def test_nobody_else_writes_to_the_shadow(shadow):
    with pytest.raises(psycopg2.Error) as refused:
        shadow.sql("UPDATE account SET balance = 0")
    assert refused.value.pgcode == "55000" and 'phase "shadow"' in str(refused.value)


def test_reads_are_compared_and_classified(shadow):
    assert read(shadow, "account", '{"id": 1}') == ("equal", None)  # FLOAT and all
    assert read(shadow, "account", '{"id": 99}') == ("equal", None)
    assert read(shadow, "account", '{"id": 4}')[0] == "real"  # a dead letter
    assert "no_debts" in shadow.value("SELECT detail FROM tandem.shadow_read('account', '{\"id\": 4}')")
    shadow.sql("SET session_replication_role = replica; UPDATE account SET balance = 7 WHERE id = 1")
    assert read(shadow, "account", '{"id": 1}') == ("real", ["balance"])
    shadow.write("UPDATE account SET balance = 7 WHERE id = 1")
    assert read(shadow, "account", '{"id": 1}')[0] in ("equal", "in_flight")
    # A change that has not arrived is no difference.
    shadow.sql("SELECT tandem.pause('account')")
    shadow.wait_state("account", "paused")
    shadow.write("UPDATE account SET balance = 8 WHERE id = 1")
    assert shadow.sql("SELECT verdict FROM tandem.shadow_read('account', '{\"id\": 1}', wait => '0.2 s')") == [("in_flight",)]
    shadow.sql("SELECT tandem.resume('account')")
    shadow.wait_caught_up()
    assert read(shadow, "account", '{"id": 1}') == ("equal", None)
    assert read(shadow, "tag", '{"code": "abc"}') == ("equal", None)
    assert read(shadow, "tag", '{"code": "ABC"}')[0] == "collation_only"
    shadow.sql("SET session_replication_role = replica; UPDATE tag SET d = NULL WHERE code = 'abc'")
    assert read(shadow, "tag", '{"code": "abc"}') == ("declared_loss", ["d"])
    counts = shadow.sql("SELECT equal, collation_only, declared_loss, real, last_real IS NOT NULL FROM tandem.pg_stat_tandem_shadow_reads"
                        " WHERE \"table\" = 'tag'")
    assert counts == [(1, 1, 1, 0, False)]
    assert shadow.value("SELECT real FROM tandem.pg_stat_tandem_shadow_reads WHERE \"table\" = 'account'") == 3
    with pytest.raises(psycopg2.Error):
        shadow.sql("SELECT tandem.shadow_read('account', '{\"nix\": 1}')")


def test_samples_of_a_table_under_load_are_never_called_different(shadow):
    shadow.write("INSERT INTO many VALUES " + ", ".join(f"({i}, 0)" for i in range(500)))
    shadow.wait_caught_up()
    shadow.sql("ANALYZE many")
    shadow.write(*[f"UPDATE many SET v = v + 1 WHERE id % 50 = {i}" for i in range(50)])
    found = [row[0] for row in shadow.sql("SELECT verdict FROM tandem.sample_reads('many', 30)")]
    assert len(found) == 30 and set(found) <= {"equal", "in_flight"}
    shadow.check(tables=["many"], dead_letters=1)
