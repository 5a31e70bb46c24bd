"""What the tests of reconciliation share."""
import json


def reconcile(scene, *tables, **options):
    """{(table, key as JSON): (kind, columns)} of tandem.reconcile."""
    given = "".join(f", {name} => %({name})s" for name in options)
    rows = scene.sql(f"""SELECT "table", key::text, kind, columns FROM tandem.reconcile(%(tables)s{given})""",
                     {"tables": [f"shop.{t}" for t in tables] if tables else ["shop.%"], **options})
    return {(table.removeprefix("shop."), key_text(json.loads(key, parse_float=str))): (kind, columns) for table, key, kind, columns in rows}


def key_text(key):
    """Key columns as texts in a form that does not depend on how JSON writes numbers."""
    return tuple(sorted((name, str(value)) for name, value in key.items()))


def summary(scene, table):
    """The last finished pass over a table."""
    return dict(zip(("state", "clean", "rows", "verified"), scene.sql(
        "SELECT r.state, r.clean, r.rows, r.verified FROM tandem.reconcile_run r JOIN tandem.source_table t USING (table_id)"
        " WHERE t.name = %s AND r.kind = 'call' ORDER BY r.run_id DESC LIMIT 1", (table,))[0]))
