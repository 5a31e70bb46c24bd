"""Column types with random values, and for each type what a stored value is: SQL for the old side and SQL for PostgreSQL, each with a function
that makes the same Python value of both results. `None` is NULL; `NOTHING` is a value that PostgreSQL does not have."""
import struct
from dataclasses import dataclass
from decimal import Decimal
from typing import Callable

NOTHING = object()

# Latin 1 of MySQL: Windows 1252, where the five bytes that Windows leaves out are control characters.
CP1252 = {byte: bytes([byte]).decode("cp1252") if byte not in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else chr(byte) for byte in range(256)}
CODECS = {"utf8mb4": "utf-8", "utf8": "utf-8", "ascii": "ascii", "utf16": "utf-16-be", "utf16le": "utf-16-le", "utf32": "utf-32-be", "ucs2": "utf-16-be", "binary": None,
          "cp1251": "cp1251", "koi8r": "koi8-r", "latin2": "iso8859-2", "cp866": "cp866", "latin5": "iso8859-9"}


def text_of(charset):
    def read(stored):
        raw = bytes.fromhex(stored)
        if charset == "latin1":
            text = "".join(CP1252[byte] for byte in raw)
        else:
            try:
                text = raw.decode(CODECS[charset])
            except UnicodeDecodeError:
                return NOTHING
        if charset == "cp866":  # the old servers have two characters of code page 437 there
            text = text.translate({0x2116: 0x207F, 0xA4: 0xB2})
        return NOTHING if "\0" in text or (charset == "ucs2" and any(ord(c) > 0xFFFF for c in text)) else text
    return read


def days_in_month(year, month):
    if month == 2:
        return 29 if year % 4 == 0 and (year % 100 != 0 or year % 400 == 0) else 28
    return 30 if month in (4, 6, 9, 11) else 31


def date_of(text):
    year, month, day = int(text[0:4]), int(text[5:7]), int(text[8:10])
    if 0 in (year, month, day) or day > days_in_month(year, month):
        return NOTHING
    return text


def moment_of(text):
    if date_of(text) is NOTHING:
        return NOTHING
    head, _, fraction = text.removesuffix("+00").partition(".")
    return head, fraction.ljust(6, "0")


def micros(text):
    """[-]H:MM:SS[.ffffff]"""
    sign = -1 if text.startswith("-") else 1
    hours, minutes, rest = text.lstrip("-").split(":")
    seconds, _, fraction = rest.partition(".")
    return sign * (((int(hours) * 60 + int(minutes)) * 60 + int(seconds)) * 1000000 + int(fraction.ljust(6, "0") or 0))


@dataclass
class Kind:
    name: str                 # type in CREATE TABLE
    literals: Callable        # random → SQL literal
    old: str                  # {} is the column
    old_form: Callable
    new: str
    new_form: Callable
    key: bool = True          # may be a part of a key


def hexed(raw):
    return f"X'{raw.hex()}'" if raw else "''"


def same(value):
    return value


def unhex(value):
    return bytes.fromhex(value)


def whole(bits, unsigned):
    low, high = (0, 2 ** bits - 1) if unsigned else (-2 ** (bits - 1), 2 ** (bits - 1) - 1)
    return lambda r: str(r.choice([low, low + 1, high, high - 1, 0, 1, r.randint(low, high), r.randint(-100, 100), high // 2, high // 2 + 1]))


def decimals(precision, scale):
    def make(r):
        digits = "".join(r.choice("0123456789") for _ in range(precision))
        digits = r.choice([digits, "9" * precision, "0" * (precision - 1) + "1", "0" * precision, "1" + "0" * (precision - 1), digits[:precision // 2].ljust(precision, "0")])
        return r.choice(["", "-"]) + (digits[:precision - scale] or "0") + ("." + digits[precision - scale:] if scale else "")
    return make


def floats(single):
    edges = ["0", "-0e0", "1e23", "0.1", "-0.1", "1e-5", "123456789.125", "16777217", "9007199254740993"]
    edges += ["3.4028234663852886e38", "-1.1754943508222875e-38", "1.401298464324817e-45"] if single else [
        "1.7976931348623157e308", "4.9406564584124654e-324", "2.2250738585072014e-308", "-5e-310"]

    def make(r):
        if r.random() < 0.4:
            return r.choice(edges)
        while True:
            value = struct.unpack(">f", r.randbytes(4))[0] if single else struct.unpack(">d", r.randbytes(8))[0]
            if value == value and abs(value) != float("inf"):
                return repr(value) if "e" in repr(value) else repr(value) + "e0"
    return make


def texts(charset, length, hostile=True):
    plain = ["a", "A", "z", " ", "0", "'", "\\", "?", "\n", "\t", "%", "_", "~"]
    wide = {"latin1": "\u00e9\u00df\u20ac\u0081\u00ff", "ascii": "", "cp1251": "\u0416\u044f\u2116", "cp866": "\u0416\u044f\u2592", "koi8r": "\u0416\u044f", "latin2": "\u0105\u0141",
            "latin5": "\u011f\u0130", "ucs2": "\u00e9\u20ac\u4e2d\u3f3f\ufffd\u013f", "utf8": "\u00e9\u0301\u20ac\u4e2d\ufffd\uffff"}.get(charset, "\u00e9\u0301\u20ac\u4e2d\U0001f98a\U0010ffff\u3f3f\u013f")
    codec = CODECS.get(charset, "cp1252")

    def encode(text):
        if charset == "latin1":
            back = {c: b for b, c in CP1252.items()}
            return bytes(back[c] for c in text)
        return text.encode(codec)

    def make(r):
        choice = r.random()
        if choice < 0.08:
            return "''"
        if choice < 0.2 and hostile:  # bytes as they come, which the server may refuse, cut, or store
            return f"_{charset} X'{r.randbytes(r.choice([1, 2, 3, 4, 8])).hex()}'"
        if choice < 0.25 and hostile:
            return f"_{charset} X'{encode('a' + chr(0) + 'b').hex()}'"
        letters = "".join(r.choice(plain + list(wide) * 2) for _ in range(r.choice([1, 2, 5, length])))[:length]
        return f"_{charset} X'{encode(letters).hex()}'"
    return make


def dates(r):
    return r.choice(["'0000-00-00'", "'2024-00-10'", "'2023-02-29'", "'2024-02-29'", "'1900-02-29'", "'9999-12-31'", "'0001-01-01'", "'1582-10-10'", "'0000-01-01'", "'2021-04-31'",
                     f"'{r.randint(1, 9999):04}-{r.randint(1, 12):02}-{r.randint(1, 28):02}'", f"'{r.randint(1900, 2100)}-{r.randint(1, 12):02}-{r.randint(1, 28):02}'"])


def moments(digits):
    def make(r):
        day = dates(r)[1:-1]
        return f"'{day} {r.randint(0, 23):02}:{r.randint(0, 59):02}:{r.randint(0, 59):02}" + (f".{r.randint(0, 10 ** digits - 1):0{digits}}" if digits else "") + "'"
    return make


def instants(digits):
    return lambda r: "'0000-00-00 00:00:00'" if r.random() < 0.05 else f"FROM_UNIXTIME({r.choice([1, 2147483646, r.randint(1, 2147483646), 1711848600, 1729989000, 1729992600])}" \
        + (f".{r.randint(0, 10 ** digits - 1):0{digits}})" if digits else ")")


def durations(digits):
    return lambda r: f"'{r.choice(['', '-'])}{r.choice([0, 1, 23, 24, 99, 837, r.randint(0, 837)]):02}:{r.randint(0, 59):02}:{r.randint(0, 59):02}" \
        + (f".{r.randint(0, 10 ** digits - 1):0{digits}}" if digits else "") + "'"


def labels(names):
    return lambda r: r.choice([*(f"'{n}'" for n in names), "'no label'", "''", str(r.randint(0, len(names)))])


def members(names):
    return lambda r: r.choice([str(r.getrandbits(len(names))), "''", "'" + ",".join(r.sample(names, 2)) + "'", str(2 ** len(names) - 1)])


def blobs(length):
    return lambda r: hexed(r.choice([b"", b"\0", b"a  ", b"\\x41", bytes(range(256))[:length], r.randbytes(r.randint(0, length))]))


def integer(name, bits, unsigned=False):
    return Kind(name + (" UNSIGNED" if unsigned else ""), whole(bits, unsigned), "{}", lambda v: str(int(v)), "({})::text", same)


def varied_text(name, charset, length, collation="", key=True):
    clause = f" CHARACTER SET {charset}" + (f" COLLATE {collation}" if collation else "")
    return Kind(name + clause, texts(charset, length), "HEX(CAST({} AS BINARY))", text_of(charset), "({})::text", same, key)


MEMBERS = [f"m{i}" for i in range(64)]
KINDS = [
    *(integer(n, b, u) for n, b in (("TINYINT", 8), ("SMALLINT", 16), ("MEDIUMINT", 24), ("INT", 32), ("BIGINT", 64)) for u in (False, True)),
    Kind("TINYINT(1)", whole(8, False), "{}", str, "({})::text", same), Kind("INT(9) ZEROFILL", whole(32, True), "{} + 0", str, "({})::text", same),
    Kind("YEAR", lambda r: r.choice(["0", "1901", "2155", str(r.randint(1901, 2155))]), "{} + 0", str, "({})::text", same),
    *(Kind(f"DECIMAL({p},{s})" + more, decimals(p, s), "{}", Decimal, "({})::text", Decimal)
      for p, s, more in ((65, 30, ""), (65, 0, ""), (10, 2, ""), (5, 5, ""), (30, 30, ""), (20, 7, " UNSIGNED"), (9, 4, " ZEROFILL"), (38, 19, ""))),
    Kind("FLOAT", floats(True), "{} * 1e0", lambda v: struct.pack(">f", float(v)).hex(), "encode(float4send({}), 'hex')", same, False),
    Kind("FLOAT(7,3)", lambda r: r.choice(["9999.999", "-0.001", "1.5", "1234.567"]), "{} * 1e0", lambda v: struct.pack(">f", float(v)).hex(), "encode(float4send({}), 'hex')", same, False),
    *(Kind(n, floats(False), "{} * 1e0", lambda v: struct.pack(">d", float(v)).hex(), "encode(float8send({}), 'hex')", same, False) for n in ("DOUBLE", "DOUBLE UNSIGNED ZEROFILL")),
    *(Kind(f"BIT({n})", (lambda n: lambda r: f"b'{r.choice(['0', '1', '1' * n, '1' + '0' * (n - 1), bin(r.getrandbits(n))[2:]])}'")(n), f"LPAD(BIN({{}} + 0), {n}, '0')", same, "({})::text", same)
      for n in (1, 2, 7, 8, 9, 15, 17, 31, 32, 33, 63, 64)),
    Kind("DATE", dates, "CONCAT({}, '')", date_of, "({})::text", same),
    *(Kind(f"DATETIME({n})", moments(n), "CONCAT({}, '')", moment_of, "({})::text", moment_of) for n in range(7)),
    *(Kind(f"TIMESTAMP({n}) NULL", instants(n), "CONCAT({}, '')", moment_of, "({})::text", moment_of, False) for n in (0, 3, 6)),
    *(Kind(f"TIME({n})", durations(n), "CONCAT({}, '')", micros, "({})::text", micros) for n in (0, 1, 3, 6)),
    *(varied_text(f"VARCHAR({n})", charset, n, collation) for n, charset, collation in (
        (20, "utf8mb4", ""), (20, "utf8mb4", "utf8mb4_bin"), (20, "utf8mb4", "utf8mb4_unicode_ci"), (20, "utf8", ""), (20, "latin1", ""), (20, "latin1", "latin1_bin"), (20, "latin1", "latin1_german2_ci"),
        (20, "ascii", ""), (10, "ucs2", ""), (10, "utf16", ""), (10, "utf16le", ""), (10, "utf32", ""), (20, "cp1251", ""), (20, "koi8r", ""), (20, "latin2", ""), (20, "cp866", ""), (20, "latin5", ""))),
    *(varied_text(f"CHAR({n})", charset, n) for n, charset in ((9, "utf8mb4"), (9, "latin1"), (9, "utf8"))),
    *(varied_text(name, charset, 60, key=False) for name in ("TINYTEXT", "TEXT", "MEDIUMTEXT", "LONGTEXT") for charset in ("utf8mb4", "latin1", "utf16")),
    Kind("ENUM('a', 'B', '\u00e9', 'x y', '\u20ac') CHARACTER SET utf8mb4", labels(["a", "B", "\u00e9", "x y", "\u20ac"]), "HEX(CAST({} AS BINARY))", text_of("utf8mb4"), "({})::text", same),
    Kind("ENUM('\u00e9', '\u00fc', '1') CHARACTER SET latin1", labels(["\u00e9", "\u00fc", "1"]), "HEX(CAST({} AS BINARY))", text_of("latin1"), "({})::text", same),
    Kind("SET('p', 'q', 'r s', '\u00fc') CHARACTER SET utf8mb4", members(["p", "q", "r s", "\u00fc"]), "HEX(CAST({} AS BINARY))", text_of("utf8mb4"), "({})::text", same),
    Kind("SET(" + ", ".join(f"'{m}'" for m in MEMBERS) + ")", members(MEMBERS), "HEX(CAST({} AS BINARY))", text_of("utf8mb4"), "({})::text", same, False),
    *(Kind(name, blobs(n), "HEX({})", unhex, "encode({}, 'hex')", unhex, key)
      for name, n, key in (("BINARY(1)", 1, True), ("BINARY(16)", 16, True), ("VARBINARY(30)", 30, True), ("TINYBLOB", 255, False), ("BLOB", 300, False), ("LONGBLOB", 1000, False))),
]
MARIADB_KINDS = [
    Kind("UUID", lambda r: f"'{r.randbytes(16).hex()}'", "LOWER({})", same, "({})::text", same),
    Kind("INET6", lambda r: r.choice(["'::'", "'::1'", "'::ffff:192.0.2.1'", "'1::2:3'", "'" + ":".join(f"{r.getrandbits(16):x}" for _ in range(8)) + "'"]), "HEX({})",
         unhex, "encode(substr(inet_send({}), 5), 'hex')", unhex),
    Kind("INET4", lambda r: "'" + ".".join(str(r.choice([0, 1, 127, 255, r.randint(0, 255)])) for _ in range(4)) + "'", "HEX({})", unhex, "encode(substr(inet_send({}), 5), 'hex')", unhex),
    Kind("JSON", lambda r: r.choice(["'{\"b\": 1, \"a\":  [1.10, null], \"b\": 2}'", "'[1e400]'", "'\"\\\\u0000\"'", "'{}'", "' 1 '"]), "HEX(CAST({} AS BINARY))", text_of("utf8mb4"), "({})::text", same, False),
]
