"""See README.md."""
import pytest

ADD_ALL = False
ONE, TWO, MINUS = "000000000000f03f", "0000000000000040", "000000000000f0bf"  # doubles, little endian
# MySQL's text, SRID, EWKB by hand
VALUES = [
    ("POINT(1 2)", 0, "0101000000" + ONE + TWO),
    ("POINT(1 2)", 4326, "0101000020" "e6100000" + ONE + TWO),
    ("LINESTRING(1 2,2 1)", 3857, "0102000020" "110f0000" "02000000" + ONE + TWO + TWO + ONE),
    ("POLYGON((1 1,2 1,2 2,1 1))", 0, "0103000000" "01000000" "04000000" + ONE * 2 + TWO + ONE + TWO * 2 + ONE * 2),
    ("GEOMETRYCOLLECTION(POINT(1 2),LINESTRING(1 1,2 2))", 4326,
     "0107000020" "e6100000" "02000000" "0101000000" + ONE + TWO + "0102000000" "02000000" + ONE * 2 + TWO * 2),
    ("MULTIPOINT(1 1,-1 2)", 0, "0104000000" "02000000" "0101000000" + ONE * 2 + "0101000000" + MINUS + TWO),
]


@pytest.fixture(params=["bytea", "postgis"])
def place(request, scene):
    """A schema name for tables of the run; PostGIS is there for the second."""
    if request.param == "postgis":
        if not scene.value("SELECT count(*) FROM pg_available_extensions WHERE name = 'postgis'"):
            pytest.skip("PostGIS is not installed")
        scene.sql("CREATE SCHEMA IF NOT EXISTS gis")
        scene.sql("CREATE EXTENSION IF NOT EXISTS postgis SCHEMA gis")
    return request.param


def hex_of(scene, table):
    expression = "encode(g, 'hex')" if scene.value("SELECT atttypid = 'bytea'::regtype FROM pg_attribute WHERE attrelid = %s::regclass AND attname = 'g'", (table,)) \
        else "encode(gis.st_asewkb(g, 'NDR'), 'hex')"
    return dict(scene.sql(f"SELECT id, {expression} FROM {table} ORDER BY id"))


def literal(text, srid):
    return f"GeomFromText('{text}', {srid})"


def test_created_target(scene, flavor, place):
    table = f"shapes_{place}"
    scene.old.query(f"CREATE TABLE {table} (id INT PRIMARY KEY, g GEOMETRY NOT NULL COMMENT 'where', p POINT, more INT{', SPATIAL KEY g (g)' if flavor == 'mariadb' else ''}) ENGINE=InnoDB",
                    database=scene.old_database)
    scene.write(*(f"INSERT INTO {table} (id, g) VALUES ({i}, {literal(text, srid)})" for i, (text, srid, _) in enumerate(VALUES)))
    plan = scene.sql("SELECT step, ddl, losses FROM tandem.plan('shop', %s)", (table,))
    create, losses = plan[0][1], plan[0][2]
    if place == "bytea":
        assert "g bytea NOT NULL" in create and losses[0] == 'column "g" is spatial; without PostGIS it holds WKB as bytea here, EWKB where a value has an SRID'
    else:
        assert "g gis.geometry NOT NULL" in create and "p gis.geometry" in create and losses == []
        assert [ddl for step, ddl, _ in plan if step == "index"] == ([f"CREATE INDEX ON public.{table} USING gist (g);"] if flavor == "mariadb" else [])
    scene.sql("SELECT tandem.add_table('shop', %s)", (table,))
    scene.start_all()
    scene.write(*(f"INSERT INTO {table} (id, g) VALUES ({100 + i}, {literal(text, srid)})" for i, (text, srid, _) in enumerate(VALUES)),
                f"UPDATE {table} SET p = {literal('POINT(2 2)', 4326)} WHERE id = 0", f"DELETE FROM {table} WHERE id = 1", f"UPDATE {table} SET g = {literal('POINT(2 1)', 1)} WHERE id = 2")
    scene.wait_caught_up()
    assert scene.dead_letters() == []
    wanted = {offset + i: value for offset in (0, 100) for i, (_, _, value) in enumerate(VALUES)}
    del wanted[1]
    wanted[2] = "0101000020" "01000000" + TWO + ONE
    assert hex_of(scene, table) == wanted
    assert scene.value(f"SELECT col_description('{table}'::regclass, 2)") == "where"
    if place == "postgis":
        assert scene.value(f"SELECT gis.st_astext(p) || ' ' || gis.st_srid(p) FROM {table} WHERE id = 0") == "POINT(2 2) 4326"
        expressions = scene.sql("SELECT r.name, expression FROM tandem.reverse_column r JOIN tandem.source_table t USING (table_id) WHERE t.name = %s ORDER BY 1", (table,))
        assert expressions == [("g", "(gis.st_asewkb(t.g))"), ("p", "(gis.st_asewkb(t.p))")]


def test_existing_target(scene, flavor):
    """A geometry column takes a spatial one; an SRID that PostGIS would change is a dead letter, not another SRID."""
    if not scene.value("SELECT count(*) FROM pg_extension WHERE extname = 'postgis'"):
        pytest.skip("PostGIS is not installed")
    scene.old.query("CREATE TABLE sites (id INT PRIMARY KEY, place POINT) ENGINE=InnoDB", database=scene.old_database)
    scene.sql("CREATE TABLE sites (id int PRIMARY KEY, at gis.geometry(Point))")
    scene.sql("""SELECT tandem.add_table('shop', 'sites', 'sites', '{"at": "place"}')""")
    scene.start_all()
    scene.write(f"INSERT INTO sites VALUES (1, {literal('POINT(1 2)', 4326)}), (2, {literal('POINT(1 2)', 983039)}), (3, {literal('POINT(1 2)', 999999)}), (4, {literal('POINT(1 2)', 2000000000)}), (5, NULL)")
    scene.wait_caught_up()
    assert scene.sql("SELECT id, gis.st_srid(at) FROM sites ORDER BY id") == [(1, 4326), (2, 983039), (5, None)]
    assert len(scene.dead_letters()) == 2
