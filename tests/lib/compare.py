#!/usr/bin/python3
"""Compares tables of MySQL/MariaDB with tables of PostgreSQL, entirely, row by row. Independent on purpose: it shares no code with the
product, asks the product nothing, and imports nothing of this harness. It reads both sides in one snapshot each, as exact text or hex, brings every value to a
canonical form that follows from the *old* column's declared type, and compares by key. Exit code 0: equal; 1: not; 2: could not compare.

usage: compare.py --mysql-port N [--mysql-user root --mysql-socket PATH --mysql-password-env NAME] --database DB
                  --postgres CONNINFO [--schema public] [--tables a,b] [--mapping FILE] [--show N]

Without --mapping, every base table of the database is compared with the table of the same name and columns. The mapping file is JSON:
  {"tables": [{"source": "users", "target": "public.people", "key": ["id"],
               "columns": [{"source": "id", "target": "id"},
                           {"sql": "is_admin <> 0", "kind": "bool", "target": "admin"}]}]}
`sql` is an expression for MySQL to evaluate; `kind` is one of the names in KINDS and says how to canonicalise (needed with sql only).
"""
import argparse
import json
import os
import re
import struct
import sys
from dataclasses import dataclass, field
from decimal import Decimal

import psycopg2
import pymysql
import pymysql.cursors


class CannotCompare(Exception):
    pass


@dataclass
class Difference:
    table: str
    key: tuple
    what: str  # missing, extra, duplicate, differs
    detail: str = ""

    def __str__(self):
        return f"{self.table} key {self.key}: {self.what}{': ' if self.detail else ''}{self.detail}"


@dataclass
class TableResult:
    source: str
    target: str
    old_rows: int = 0
    new_rows: int = 0
    differences: list = field(default_factory=list)

    def __str__(self):
        return f"{self.source} = {self.target}: {self.old_rows} rows old, {self.new_rows} rows new, {len(self.differences)} differences"


# --- canonical forms: text of either side → str; both sides must give the same string exactly when the values are the same -----------
def canonical_int(text):
    return str(int(text))


def canonical_decimal(text):
    value = Decimal(text)
    return format(abs(value) if value == 0 else value, "f")


def canonical_datetime(text):
    """Fractions are padded to microseconds; PostgreSQL's '+00' is the session's UTC. Nothing else is forgiven."""
    match = re.fullmatch(r"(\d{4,}-\d\d-\d\d) (\d\d:\d\d:\d\d)(?:\.(\d{1,6}))?(?:\+00)?", text)
    if not match:
        return text
    return f"{match[1]} {match[2]}.{(match[3] or '').ljust(6, '0')}"


def canonical_time(text):
    """MySQL TIME is a signed duration of up to 838 hours."""
    match = re.fullmatch(r"(-?)(?:(-?\d+) days? ?)?(-?)(\d+):(\d\d):(\d\d)(?:\.(\d{1,6}))?", text)
    if not match:
        return text
    hours = int(match[4]) + 24 * int(match[2] or 0)
    micro = ((hours * 60 + int(match[5])) * 60 + int(match[6])) * 1000000 + int((match[7] or "").ljust(6, "0"))
    return str(-micro if match[1] or match[3] else micro)


def canonical_json(text):
    def pairs(items):
        return {"members": sorted(items)}
    return json.dumps(json.loads(bytes.fromhex(text).decode(), object_pairs_hook=pairs, parse_float=Decimal), default=str)


def canonical_bool(text):
    return {"1": "true", "0": "false", "t": "true", "f": "false", "true": "true", "false": "false"}[text]


def same(text):
    return text


def lower(text):
    return text.lower()


def double_bits(text):
    return struct.pack(">d", float(text)).hex()


def float_bits(text):
    return struct.pack(">f", float(text)).hex()


# kind → (expression for MySQL, canonical form of its text, expression for PostgreSQL, canonical form of its text)
HEX_OLD, HEX_NEW = "HEX(CONVERT({} USING utf8mb4))", "encode(convert_to(({})::text, 'UTF8'), 'hex')"
KINDS = {
    "int": ("{}", canonical_int, "({})::text", canonical_int),
    "decimal": ("{}", canonical_decimal, "({})::text", canonical_decimal),
    # * 1e0 makes MySQL print the float with the digits of the double that it is; the text of a FLOAT would lose some. (+ 0e0 would lose -0.)
    "float": ("{} * 1e0", float_bits, "encode(float4send({}), 'hex')", same),
    "float as double": ("{} * 1e0", double_bits, "encode(float8send({}), 'hex')", same),
    "double": ("{} * 1e0", double_bits, "encode(float8send({}), 'hex')", same),
    "date": ("{}", same, "({})::text", same),
    "datetime": ("{}", canonical_datetime, "({})::text", canonical_datetime),
    "time": ("{}", canonical_time, "({})::text", canonical_time),
    "text": (HEX_OLD, lower, HEX_NEW, same),
    "uuid": ("LOWER({})", same, "({})::text", same),
    "inet": ("LOWER({})", same, "host({})", same),
    "bytes": ("HEX({})", lower, "encode({}, 'hex')", same),
    "bit": ("LPAD(BIN({} + 0), {width}, '0')", same, "({})::text", same),
    "json": (HEX_OLD, canonical_json, HEX_NEW, canonical_json),
    "bool": ("{}", canonical_bool, "({})::text", canonical_bool),
}

KIND_OF_TYPE = {
    **dict.fromkeys(["tinyint", "smallint", "mediumint", "int", "bigint", "year"], "int"),
    "decimal": "decimal", "float": "float", "double": "double", "date": "date", "time": "time",
    **dict.fromkeys(["datetime", "timestamp"], "datetime"),
    **dict.fromkeys(["char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set"], "text"),
    **dict.fromkeys(["binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob"], "bytes"),
    "uuid": "uuid", "inet6": "inet", "inet4": "inet",
    "bit": "bit", "json": "json",
}


@dataclass
class Column:
    kind: str
    old: str  # SQL for MySQL
    new: str  # SQL for PostgreSQL
    name: str


def old_identifier(name):
    return "`" + name.replace("`", "``") + "`"


def new_identifier(name):
    return '"' + name.replace('"', '""') + '"'


class Comparison:
    """Two open connections in one snapshot each. Neither may be used by others meanwhile."""

    def __init__(self, mysql_connection, database, postgres_connection):
        self.old, self.database, self.new = mysql_connection, database, postgres_connection
        with self.old.cursor() as cursor:
            for statement in ("SET SESSION time_zone = '+00:00'", "SET SESSION sql_mode = ''", "SET NAMES utf8mb4", "ROLLBACK",
                              "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT"):
                cursor.execute(statement)
        self.new.rollback()
        self.new.set_session(isolation_level="REPEATABLE READ", readonly=True, autocommit=False)
        with self.new.cursor() as cursor:
            cursor.execute("SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO'; SET LOCAL IntervalStyle = 'postgres';"
                           "SET LOCAL extra_float_digits = 1; SET LOCAL search_path = pg_catalog")

    # --- what there is ------------------------------------------------------------------------------------------------------------
    def base_tables(self):
        return [row[0] for row in self._old("SELECT TABLE_NAME FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s"
                                            " AND TABLE_TYPE = 'BASE TABLE' ORDER BY 1", (self.database,))]

    def _old(self, sql, parameters=()):
        with self.old.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall()

    def _new(self, sql, parameters=()):
        with self.new.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall()

    def _old_columns(self, table):
        rows = self._old("SELECT COLUMN_NAME, LOWER(DATA_TYPE), COLUMN_TYPE FROM information_schema.COLUMNS"
                         " WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s ORDER BY ORDINAL_POSITION", (self.database, table))
        if not rows:
            raise CannotCompare(f"old side has no table {self.database}.{table}")
        return {name: (data_type, column_type) for name, data_type, column_type in rows}

    def _key(self, table):
        """The primary key, else the first unique key of columns that are not null."""
        rows = self._old("SELECT s.INDEX_NAME, s.COLUMN_NAME, s.NULLABLE, s.SUB_PART FROM information_schema.STATISTICS s WHERE s.TABLE_SCHEMA = %s"
                         " AND s.TABLE_NAME = %s AND s.NON_UNIQUE = 0 ORDER BY s.INDEX_NAME <> 'PRIMARY', s.INDEX_NAME, s.SEQ_IN_INDEX",
                         (self.database, table))
        keys = {}
        for index, column, nullable, part in rows:
            keys.setdefault(index, []).append((column, nullable == "YES" or part is not None))
        for columns in keys.values():
            if not any(bad for _, bad in columns):
                return [name for name, _ in columns]
        raise CannotCompare(f"{table} has no key")

    def _new_columns(self, target):
        rows = self._new("SELECT a.attname, format_type(a.atttypid, NULL) FROM pg_attribute a WHERE a.attrelid = %s::regclass"
                         " AND a.attnum > 0 AND NOT a.attisdropped", (target,))
        return dict(rows)

    # --- the plan of one table ----------------------------------------------------------------------------------------------------
    def _column(self, spec, old_columns, new_columns):
        target = spec["target"]
        if target not in new_columns:
            raise CannotCompare(f"new side has no column {target}")
        width, kind = 1, spec.get("kind")
        if "sql" in spec:
            if not kind:
                raise CannotCompare(f"column {target}: an expression needs a kind")
            old_sql = f"({spec['sql']})"
        else:
            data_type, column_type = old_columns[spec["source"]]
            old_sql = old_identifier(spec["source"])
            if not kind:
                if data_type not in KIND_OF_TYPE:
                    raise CannotCompare(f"column {spec['source']}: type {data_type} is not known to compare.py")
                kind = KIND_OF_TYPE[data_type]
                if kind == "float" and new_columns[target] == "double precision":
                    kind = "float as double"
                if kind == "text" and new_columns[target] == "jsonb":
                    kind = "json"
            if kind == "bit":
                width = int(re.search(r"\((\d+)\)", column_type)[1])
        old_form, _, new_form, _ = KINDS[kind]
        return Column(kind, old_form.format(old_sql, width=width), new_form.format(new_identifier(target)), target)

    def _plan(self, table):
        source, target = table["source"], table["target"]
        old_columns, new_columns = self._old_columns(source), self._new_columns(target)
        specs = table.get("columns")
        key = table.get("key") or self._key(source)
        if specs is None:
            specs = [{"source": name, "target": name} for name in old_columns]
            extra = set(new_columns) - set(old_columns)
            if extra:
                raise CannotCompare(f"{target} has columns that {source} has not: {sorted(extra)}")
        columns = [self._column(spec, old_columns, new_columns) for spec in specs]
        by_source = {spec.get("source", spec["target"]): position for position, spec in enumerate(specs)}
        try:
            return columns, [by_source[name] for name in key]
        except KeyError as missing:
            raise CannotCompare(f"{source}: key column {missing} is not among the compared columns") from None

    # --- comparing ----------------------------------------------------------------------------------------------------------------
    @staticmethod
    def _row(values, forms):
        """A tuple of canonical strings; None stays None, so that NULL is not ''."""
        return tuple(None if value is None else form(value) for value, form in zip(values, forms))

    def compare(self, table):
        source, target = table["source"], table["target"]
        columns, key = self._plan(table)
        result = TableResult(source, target)
        old_forms = [KINDS[c.kind][1] for c in columns]
        new_forms = [KINDS[c.kind][3] for c in columns]

        new_rows = {}
        with self.new.cursor(name="compare") as cursor:
            cursor.itersize = 20000
            cursor.execute(f"SELECT {', '.join(c.new for c in columns)} FROM {target}")
            for values in cursor:
                row = self._row(values, new_forms)
                row_key = tuple(row[i] for i in key)
                result.new_rows += 1
                if row_key in new_rows:
                    result.differences.append(Difference(source, self._readable(row_key, columns, key), "duplicate", "twice on the new side"))
                new_rows[row_key] = row

        cursor = pymysql.cursors.SSCursor(self.old)
        cursor.execute(f"SELECT {', '.join(c.old for c in columns)} FROM {old_identifier(self.database)}.{old_identifier(source)}")
        for values in cursor:
            row = self._row(values, old_forms)
            row_key = tuple(row[i] for i in key)
            result.old_rows += 1
            other = new_rows.pop(row_key, None)
            if other is None:
                result.differences.append(Difference(source, self._readable(row_key, columns, key), "missing", "not on the new side"))
            elif other != row:
                where = [f"{c.name} ({c.kind}) old {show(a)} new {show(b)}" for c, a, b in zip(columns, row, other) if a != b]
                result.differences.append(Difference(source, self._readable(row_key, columns, key), "differs", "; ".join(where)))
        cursor.close()
        for row_key in new_rows:
            result.differences.append(Difference(source, self._readable(row_key, columns, key), "extra", "only on the new side"))
        return result

    @staticmethod
    def _readable(row_key, columns, key):
        return tuple(bytes.fromhex(v).decode(errors="replace") if columns[i].kind == "text" else v for v, i in zip(row_key, key))


def show(value):
    text = "NULL" if value is None else repr(value)
    return text if len(text) <= 120 else f"{text[:60]}…{text[-30:]} ({len(text)} characters)"


def raw_mysql(**options):
    """A connection that converts nothing: every value arrives as the server's own text."""
    return pymysql.connect(conv={}, charset="utf8mb4", **options)


def all_tables(comparison, schema="public", names=None):
    return [{"source": name, "target": f"{new_identifier(schema)}.{new_identifier(name)}"} for name in (names or comparison.base_tables())]


def main():
    parser = argparse.ArgumentParser(description="compares MySQL/MariaDB tables with PostgreSQL tables, entirely")
    parser.add_argument("--mysql-host", default="127.0.0.1")
    parser.add_argument("--mysql-port", type=int)
    parser.add_argument("--mysql-socket")
    parser.add_argument("--mysql-user", default="root")
    parser.add_argument("--mysql-password-env", default="MYSQL_PWD", help="environment variable with the password")
    parser.add_argument("--database", required=True)
    parser.add_argument("--postgres", required=True, metavar="CONNINFO")
    parser.add_argument("--schema", default="public")
    parser.add_argument("--tables", help="comma separated; default: all base tables")
    parser.add_argument("--mapping", help="JSON file")
    parser.add_argument("--show", type=int, default=20, help="differences to print per table")
    options = parser.parse_args()

    where = {"unix_socket": options.mysql_socket} if options.mysql_socket else {"host": options.mysql_host, "port": options.mysql_port or 3306}
    try:
        old = raw_mysql(user=options.mysql_user, password=os.environ.get(options.mysql_password_env, ""), **where)
        new = psycopg2.connect(options.postgres)
        comparison = Comparison(old, options.database, new)
        if options.mapping:
            with open(options.mapping, encoding="utf-8") as file:
                tables = json.load(file)["tables"]
        else:
            tables = all_tables(comparison, options.schema, options.tables and options.tables.split(","))
        bad = 0
        for table in tables:
            result = comparison.compare(table)
            print(result)
            for difference in result.differences[: options.show]:
                print("  ", difference)
            bad += len(result.differences)
    except (CannotCompare, pymysql.Error, psycopg2.Error, OSError, KeyError) as error:
        print(f"could not compare: {error}", file=sys.stderr)
        return 2
    print(f"{len(tables)} tables, {bad} differences")
    # Nothing compared is not equality.
    return 1 if bad or not tables else 0


if __name__ == "__main__":
    sys.exit(main())
