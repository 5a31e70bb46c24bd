"""Rows for any MySQL table: values by column type from a seeded generator, parents before children, foreign keys respected."""
import datetime
import random
import re

WORDS = "alpha Beta gamma Δέλτα épsilon zeta 'quoted' back\\slash new\nline 🦊 x".split(" ")


def quoted(name):
    return "`" + name.replace("`", "``") + "`"


class Filler:
    def __init__(self, connection, database, rows, seed=11):
        self.connection, self.database, self.rows, self.random = connection, database, rows, random.Random(seed)
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION sql_mode = 'STRICT_ALL_TABLES', foreign_key_checks = 1, time_zone = '+00:00'")

    def query(self, sql, parameters=()):
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall()

    def fill(self):
        tables = [name for (name,) in self.query("SELECT table_name FROM information_schema.tables WHERE table_schema = %s AND table_type = 'BASE TABLE'", (self.database,))]
        foreign = {}
        for child, column, parent, referenced in self.query(
                "SELECT table_name, column_name, referenced_table_name, referenced_column_name FROM information_schema.key_column_usage"
                " WHERE table_schema = %s AND referenced_table_name IS NOT NULL", (self.database,)):
            foreign.setdefault(child, {})[column] = (parent, referenced)
        while tables:
            ready = [t for t in tables if not {p for p, _ in foreign.get(t, {}).values()} & (set(tables) - {t})] or tables[:1]
            for table in ready:
                self.fill_table(table, foreign.get(table, {}))
                tables.remove(table)

    def fill_table(self, table, foreign):
        columns = self.query("SELECT column_name, data_type, column_type, character_maximum_length, is_nullable, extra FROM information_schema.columns"
                             " WHERE table_schema = %s AND table_name = %s ORDER BY ordinal_position", (self.database, table))
        parents = {column: [v for (v,) in self.query(f"SELECT {quoted(referenced)} FROM {quoted(parent)}")] for column, (parent, referenced) in foreign.items()
                   if parent != table}
        names = ", ".join(quoted(c[0]) for c in columns)
        marks = ", ".join(["%s"] * len(columns))
        with self.connection.cursor() as cursor:
            for number in range(1, self.rows + 1):
                values = [self.random.choice(parents[c[0]]) if parents.get(c[0]) else None if c[0] in foreign else self.value(number, *c[1:]) for c in columns]
                # Keys may meet by chance: a row that is there already is left.
                cursor.execute(f"INSERT IGNORE INTO {quoted(table)} ({names}) VALUES ({marks})", values)

    def value(self, number, data_type, column_type, length, nullable, extra):
        pick = self.random
        if nullable == "YES" and pick.random() < 0.15:
            return None
        if data_type in ("tinyint", "smallint", "mediumint", "int", "bigint"):
            if "auto_increment" in extra:
                return number
            bits = {"tinyint": 8, "smallint": 16, "mediumint": 24, "int": 32, "bigint": 64}[data_type]
            low, high = (0, 2 ** bits - 1) if "unsigned" in column_type else (-2 ** (bits - 1), 2 ** (bits - 1) - 1)
            return pick.choice([low, high, number % (high + 1), pick.randint(low, high), pick.randint(0, min(high, 1000))])
        if data_type == "decimal":
            return str(pick.randint(0, 9))
        if data_type in ("float", "double"):
            return pick.choice([0, 0.1, 1.5, -2.25, pick.random()])
        if data_type in ("datetime", "timestamp"):
            return datetime.datetime(2001, 1, 1) + datetime.timedelta(seconds=pick.randint(0, 700_000_000))
        if data_type == "date":
            return datetime.date(2001, 1, 1) + datetime.timedelta(days=pick.randint(0, 9000))
        if data_type in ("enum", "set"):
            return pick.choice(re.findall(r"'((?:[^']|'')*)'", column_type)).replace("''", "'")
        if data_type in ("binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"):
            size = int(length) if data_type == "binary" else pick.randint(0, min(int(length), pick.choice([20, 400])))
            return pick.randbytes(size)
        if data_type in ("char", "varchar", "tinytext", "text", "mediumtext", "longtext"):
            text = " ".join(pick.choice(WORDS) for _ in range(pick.randint(1, pick.choice([3, 60])))) + str(number)
            return text[-int(length):] if int(length) < 200 else text[:60] + str(number)
        raise ValueError(f"no value for type {column_type}")
