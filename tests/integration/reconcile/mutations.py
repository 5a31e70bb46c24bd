"""Random single mutations of rows, on either side, that the other side does not learn of. See README.md."""
import math
import random
import struct
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "types_torture"))

from torture_values import BYTES, INSTANTS, MARIADB_ONLY, MARIADB_TIMES, NUMBERS, TEXTS, TIMES  # noqa: E402

LONG = ("txt", "txt_latin1", "medium", "longest")  # values of megabytes: a few rows only
TEXT_TYPES = ("char", "varchar", "tinytext", "text", "mediumtext", "longtext")


class Table:
    """One old table with `rows` rows, whose key of one INT column `id` is 1 … rows unless `key` makes another of it."""

    def __init__(self, name, columns, key=None, target=None):
        self.name, self.columns, self.key, self.target = name, columns, key or {"id": ("INT", lambda n: str(n))}, target

    def create(self, scene, cursor, rows):
        parts = [f"`{name}` {kind} NOT NULL" for name, (kind, _) in self.key.items()] + [f"`{name}` {kind} NULL" for name, (kind, _) in self.columns.items()]
        names = ", ".join(f"`{name}`" for name in [*self.key, *self.columns])
        cursor.execute(f"CREATE TABLE `{self.name}` ({', '.join(parts)}, PRIMARY KEY ({', '.join(f'`{k}`' for k in self.key)}))"
                       " CHARACTER SET utf8mb4 ENGINE=InnoDB ROW_FORMAT=DYNAMIC")
        for number in range(1, rows + 1):
            values = [make(number) for _, make in self.key.values()]
            for position, (name, (_, given)) in enumerate(self.columns.items()):
                literals = [value[0] if isinstance(value, tuple) else value for value in given]
                if name in LONG:
                    values.append(literals[0] if number <= 2 else f"'{number}'" if number % 3 else "NULL")
                else:
                    chosen = (number * 7 + position * 3) % (len(literals) + 1)
                    values.append("NULL" if chosen == len(literals) else literals[chosen])
            cursor.execute(f"INSERT INTO `{self.name}` ({names}) VALUES ({', '.join(values)})")


def words(n):
    """Keys that a collation takes for neighbours of each other, in another order than bytes."""
    return "'" + "".join("aBcDeFgHiJ"[int(d)] for d in str(n)) + ("-" if n % 3 == 0 else "") + ("\u00e9z" if n % 5 == 0 else "") + "'"


SMALL = {"n": ("INT", ["7", "-3"]), "t": ("VARCHAR(40)", ["''", "'NULL'", "'a '", "'\u00e9'"]), "d": ("DOUBLE", ["0.1", "-1e300"])}


def tables(flavor):
    made = [Table("m_numbers", NUMBERS), Table("m_times", TIMES), Table("m_texts", TEXTS), Table("m_bytes", BYTES),
            Table("m_instants", {"ts": ("TIMESTAMP(6)", [value for _, value, _ in INSTANTS]), "ts0": ("TIMESTAMP", ["'2024-01-01 00:00:00'"])}),
            Table("k_word", SMALL, {"k": ("VARCHAR(60) COLLATE utf8mb4_general_ci", words)}),
            Table("k_pair", SMALL, {"k": ("VARCHAR(60) CHARACTER SET latin1 COLLATE latin1_swedish_ci", words), "no": ("BIGINT UNSIGNED", lambda n: str(2 ** 64 - n))}),
            Table("k_bytes", SMALL, {"k": ("VARBINARY(20)", lambda n: f"X'{n * 7919 % 65536:04x}{n:04x}'")}),
            Table("k_date", SMALL, {"k": ("DATE", lambda n: f"'{1900 + n % 200:04}-{1 + n % 12:02}-{1 + n % 28:02}'"), "no": ("INT", lambda n: str(n))}),
            Table("k_decimal", SMALL, {"k": ("DECIMAL(20,3)", lambda n: f"{n * 17 % 1000 - 500}.{n:03}"), "no": ("SMALLINT", lambda n: str(n))}),
            Table("k_enum", SMALL, {"k": ("ENUM('z', 'a', 'M')", lambda n: str(1 + n % 3)), "no": ("INT", lambda n: str(n))})]
    if flavor == "mariadb":
        made += [Table("m_more", {k: v for k, v in MARIADB_ONLY.items() if k != "hidden"}), Table("m_times_more", MARIADB_TIMES),
                 Table("k_uuid", SMALL, {"k": ("UUID", lambda n: f"'{n * 2654435761 % 2 ** 32:08x}-0000-7000-8000-{n:012x}'")})]
    return made


def quoted(name):
    return '"' + name.replace('"', '""') + '"'


class Mutator:
    """Knows the columns of both sides and keeps a copy of the rows there, from which it undoes what it did."""

    def __init__(self, scene, names, seed):
        self.scene, self.names, self.random = scene, names, random.Random(seed)
        self.new = scene.pg.connect(scene.database, autocommit=True)
        self.old = scene.old.connect(scene.old_database, autocommit=False)
        self.cursor = self.new.cursor()
        self.cursor.execute("SET session_replication_role = replica; SET extra_float_digits = 1; SET TimeZone = 'UTC'")
        with self.old.cursor() as cursor:
            cursor.execute("SET SESSION time_zone = '+00:00', sql_mode = ''")
        self.outbox = dict(scene.sql("SELECT name, outbox FROM tandem.source_table"))
        self.key, self.types, self.old_types, self.json = {}, {}, {}, set()
        for name in names:
            self.cursor.execute("SELECT attname, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
                                " AND NOT attisdropped ORDER BY attnum", (quoted(name),))
            self.types[name] = dict(self.cursor.fetchall())
            self.cursor.execute("SELECT t.key_columns FROM tandem.source_table t WHERE t.name = %s", (name,))
            self.key[name] = self.cursor.fetchone()[0]
            self.cursor.execute(f"CREATE TABLE IF NOT EXISTS {quoted('copy_of_' + name)} AS TABLE {quoted(name)}")
            with self.old.cursor() as cursor:
                cursor.execute("SELECT column_name, data_type, column_type FROM information_schema.columns WHERE table_schema = %s AND table_name = %s",
                               (scene.old_database, name))
                self.old_types[name] = {row[0]: (row[1], row[2]) for row in cursor.fetchall()}
                if "j" in self.old_types[name]:
                    self.json.add(name)
                cursor.execute(f"CREATE TABLE IF NOT EXISTS `{scene.metadata}`.`copy_of_{name}` AS SELECT * FROM `{name}`")
            self.old.commit()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """An open transaction would hold up the end of the scene."""
        self.new.close()
        self.old.close()

    def keys(self, name):
        """Keys as texts, in an order of their own."""
        columns = ", ".join(f"({quoted(c)})::text" for c in self.key[name])
        self.cursor.execute(f"SELECT {columns} FROM {quoted('copy_of_' + name)} ORDER BY md5(({columns})::text)" if len(self.key[name]) > 1
                            else f"SELECT {columns} FROM {quoted('copy_of_' + name)} ORDER BY md5({columns})")
        return self.cursor.fetchall()

    def where(self, name, key):
        return " AND ".join(self.cursor.mogrify(f"{quoted(c)} = %s", (v,)).decode() + f"::{self.types[name][c]}" for c, v in zip(self.key[name], key))

    # --- the new side -------------------------------------------------------------------------------------------------------------
    def mutate_new(self, name, key):
        """One change of one value or of the row. Returns (kind, columns) as reconciliation must report it."""
        where = self.where(name, key)
        if self.random.random() < 0.08:
            self.cursor.execute(f"DELETE FROM {quoted(name)} WHERE {where}")
            return "missing", None
        free = [c for c in self.types[name] if c not in self.key[name]]
        column = self.random.choice(free)
        q, kind = quoted(column), self.types[name][column]
        self.cursor.execute(f"SELECT {q}::text FROM {quoted(name)} WHERE {where}")
        text = self.cursor.fetchone()[0]
        expression = self.new_value(q, kind, text)
        self.cursor.execute(f"UPDATE {quoted(name)} SET {q} = {expression} WHERE {where}")
        return "different", [column]

    def new_value(self, q, kind, text):
        if text is not None and self.random.random() < 0.15:
            return "NULL"
        base = kind.split("(")[0].strip()
        if base in ("smallint", "integer", "bigint"):
            return "0" if text is None else f"{q} # {1 << self.random.randrange({'smallint': 15, 'integer': 31, 'bigint': 63}[base])}::{base}"
        if base == "numeric":
            scale = int(kind.split(",")[1].rstrip(")")) if "," in kind else 0
            step = f"1e-{scale}::numeric"
            return "0" if text is None else f"CASE WHEN {q} > 0 THEN {q} - {step} ELSE {q} + {step} END"
        if base in ("real", "double precision"):
            return "'-0'" if text is None else "'" + self.flipped(float(text), base) + "'"
        if base == "bit":
            return f"0::{kind}" if text is None else f"set_bit({q}, {self.random.randrange(len(text))}, 1 - get_bit({q}, 0))" if len(text) == 1 else self.flipped_bit(q, text)
        if base == "date":
            return "'2000-01-01'" if text is None else f"{q} + {self.random.choice((1, -1))}"
        if base.startswith("timestamp") or base == "interval":
            # One step of what the column can hold: a microsecond mostly.
            digits = int(kind.split("(")[1].split(")")[0]) if "(" in kind else 6
            sign = self.random.choice("+-")
            return f"'2000-01-01'::{kind}" if text is None and base != "interval" else "'0'::interval" if text is None else f"{q} {sign} interval '{10 ** (6 - digits)} us'"
        if base == "bytea":
            if text in (None, "\\x"):
                return "'\\x00'::bytea" if text else "''::bytea"
            place = self.random.randrange((len(text) - 2) // 2)
            return self.random.choice((f"{q} || '\\x00'::bytea", f"set_byte({q}, {place}, get_byte({q}, {place}) # {1 << self.random.randrange(8)})",
                                       f"substr({q}, 2)"))
        if base == "uuid":
            return f"'{'0' * 7}5-0000-0000-0000-{'0' * 12}'::uuid" if text is None else f"overlay({q}::text PLACING CASE substr({q}::text, 36, 1) WHEN '0' THEN '1' ELSE '0' END FROM 36)::uuid"
        if base == "inet":
            return "'1.2.3.4'::inet" if text is None else f"CASE WHEN host({q}) IN ('::', '0.0.0.0') THEN {q} + 1 ELSE {q} - 1 END"
        if text is None:
            return self.random.choice(("''", "'NULL'", "' '"))
        choices = [f"{q} || ' '", f"{q} || 'x'"]
        if text:
            place = 1 + self.random.randrange(len(text))
            choices += [f"overlay({q} PLACING '\u00a4' FROM {place} FOR 1)" if text[place - 1] != "\u00a4" else f"{q} || '!'", f"left({q}, -1)"]
            if text.swapcase().lower() == text.lower() and text.swapcase() != text and text.isascii():
                choices.append("'" + text.swapcase().replace("'", "''") + "'")
        return self.random.choice(choices)

    def flipped_bit(self, q, text):
        place = self.random.randrange(len(text))
        return f"set_bit({q}, {place}, {1 - int(text[place])})"

    def flipped(self, value, base):
        letter, size = (">f", 32) if base == "real" else (">d", 64)
        while True:
            bits = int.from_bytes(struct.pack(letter, value), "big") ^ (1 << self.random.randrange(size))
            other = struct.unpack(letter, bits.to_bytes(size // 8, "big"))[0]
            if math.isfinite(other):
                if base == "real":
                    return repr(struct.unpack(">f", struct.pack(">f", other))[0])
                return repr(other)

    def insert_new(self, name, number):
        """A row that the old side does not have. Returns its key as texts."""
        columns = list(self.types[name])
        first = self.key[name][-1]
        kind = self.types[name][first].split("(")[0]
        fresh = {"integer": f"{1000000 + number}", "smallint": f"{20000 + number}", "numeric": f"{number}", "bytea": f"'\\xff{number:06x}'::bytea",
                 "text": f"'extra {number}'", "uuid": f"'ffffffff-0000-0000-0000-{number:012x}'::uuid", "bigint": f"{10 ** 12 + number}", "date": f"'2300-01-01'::date + {number}"}[kind]
        values = ", ".join(fresh if c == first else quoted(c) for c in columns)
        self.cursor.execute(f"INSERT INTO {quoted(name)} ({', '.join(quoted(c) for c in columns)}) SELECT {values} FROM {quoted('copy_of_' + name)} LIMIT 1"
                            f" RETURNING {', '.join(f'({quoted(c)})::text' for c in self.key[name])}")
        return self.cursor.fetchone()

    # --- the old side -------------------------------------------------------------------------------------------------------------
    def old_where(self, name, key):
        parts = []
        for column, value in zip(self.key[name], key):
            data_type = self.old_types[name][column][0]
            if value.startswith("\\x") and "binary" in data_type:
                parts.append(f"`{column}` = X'{value[2:]}'")
            else:
                parts.append(f"`{column}` = {self.old.escape(value)}")
        return " AND ".join(parts)

    def mutate_old(self, name, key, cursor):
        where = self.old_where(name, key)
        if self.random.random() < 0.08:
            assert cursor.execute(f"DELETE FROM `{name}` WHERE {where}") == 1, (name, key)
            return "extra", None
        free = [c for c in self.types[name] if c not in self.key[name]]
        column = self.random.choice(free)
        data_type, column_type = self.old_types[name][column]
        cursor.execute(f"SELECT `{column}` IS NULL, CHAR_LENGTH(`{column}`) FROM `{name}` WHERE {where}")
        is_null, length = cursor.fetchone()
        expression = self.old_value(f"`{column}`", data_type, column_type, is_null, length or 0)
        if name in self.json and column == "j":  # MariaDB checks that it stays JSON
            expression = "'[]'" if is_null else f"CONCAT(`{column}`, ' ')"
        assert cursor.execute(f"UPDATE `{name}` SET `{column}` = {expression} WHERE {where}") == 1, (name, key, column, expression)
        return "different", [column]

    def old_value(self, q, data_type, column_type, is_null, length):
        if not is_null and self.random.random() < 0.15:
            return "NULL"
        number = column_type.split("(")[1].split(")")[0] if "(" in column_type else ""
        if data_type in ("tinyint", "smallint", "mediumint", "int", "bigint", "year"):
            return "1" if is_null and data_type != "year" else "2001" if is_null else f"IF({q} > 0, {q} - 1, {q} + 1)" if data_type != "year" else f"IF({q} > 2000, 1990, 2010)"
        if data_type == "decimal":
            step = "1" if number.endswith(",0") else "0." + "0" * (int(number.split(",")[1]) - 1) + "1"
            return "0" if is_null else f"IF({q} > 0, {q} - {step}, {q} + {step})"
        if data_type in ("float", "double"):
            return "0" if is_null else f"IF({q} = 1, 2, 1)" if number or self.random.random() < 0.5 else f"IF(ABS({q}) < 1e-30, 1, {q} / 2)"
        if data_type == "bit":
            return "b'0'" if is_null else f"{q} ^ 1"
        if data_type == "date":
            return "'2000-01-01'" if is_null else f"IF({q} < '5000-01-01', {q} + INTERVAL 1 DAY, {q} - INTERVAL 1 DAY)"
        if data_type in ("datetime", "timestamp"):
            step = 10 ** (6 - int(number or 0))
            middle = "2000-01-01" if data_type == "timestamp" else "5000-01-01"
            return "'2000-01-01'" if is_null else f"IF({q} < '{middle}', {q} + INTERVAL {step} MICROSECOND, {q} - INTERVAL {step} MICROSECOND)"
        if data_type == "time":
            step = "00:00:01" if not number else "00:00:00." + "0" * (int(number) - 1) + "1"
            return "'00:00:00'" if is_null else f"IF({q} > 0, SUBTIME({q}, '{step}'), ADDTIME({q}, '{step}'))"
        if data_type in ("enum", "set"):
            return "1" if is_null else f"IF({q} + 0 = 1, 2, 1)"
        if data_type in ("point", "geometry"):
            return "GeomFromText('POINT(7 8)')" if self.random.random() < 0.5 or is_null else "GeomFromText('POINT(8 7)')"
        if data_type == "uuid":
            return f"'{self.random.getrandbits(32):08x}-1111-4111-8111-{self.random.getrandbits(48):012x}'"
        if data_type in ("inet4", "inet6"):
            return f"'10.{self.random.randrange(256)}.{self.random.randrange(256)}.9'" if data_type == "inet4" else f"'2001:db8:1::{self.random.randrange(1, 65535):x}'"
        if data_type in TEXT_TYPES:
            if is_null:
                return self.random.choice(("''", "'NULL'"))
            room = int(number) if number else 255 if data_type == "tinytext" else 10 ** 6
            return f"CONCAT({q}, 'x')" if length < room else f"CONCAT(LEFT({q}, {length - 1}), '~')"
        if is_null or length == 0:
            return "X'00'" if data_type != "binary" else "X'01020304'"
        place = 1 + self.random.randrange(length)
        bit = 1 << self.random.randrange(8)
        return f"INSERT({q}, {place}, 1, CHAR(ORD(SUBSTRING({q}, {place}, 1)) ^ {bit} USING binary))"

    def without_events(self, name, work):
        """Carries out `work(cursor)` on the old table without leaving an event: as if no trigger had fired. Only while nobody else writes it."""
        outbox = f"`{self.scene.metadata}`.`{self.outbox[name]}`"
        with self.old.cursor() as cursor:
            cursor.execute(f"SELECT COALESCE(MAX(tandem_id), 0) FROM {outbox}")
            before = cursor.fetchone()[0]
            result = work(cursor)
            cursor.execute(f"DELETE FROM {outbox} WHERE tandem_id > {before}")
        self.old.commit()
        return result

    # --- back to equality ---------------------------------------------------------------------------------------------------------
    def restore_new(self, name, keys):
        for key in keys:
            where = self.where(name, key)
            self.cursor.execute(f"DELETE FROM {quoted(name)} WHERE {where}; INSERT INTO {quoted(name)} SELECT * FROM {quoted('copy_of_' + name)} WHERE {where}")

    def restore_old(self, name, keys):
        names = ", ".join(f"`{c}`" for c in self.old_types[name])

        def work(cursor):
            for key in keys:
                where = self.old_where(name, key)
                cursor.execute(f"DELETE FROM `{name}` WHERE {where}")
                cursor.execute(f"INSERT INTO `{name}` ({names}) SELECT {names} FROM `{self.scene.metadata}`.`copy_of_{name}` WHERE {where}")
        self.without_events(name, work)
