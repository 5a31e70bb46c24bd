// Canonical bytes of values, and the keyed hash of a row over them (docs/protocol.md section 14). The worker computes the same from images of
// old rows; equal rows give equal hashes, and a row that differs in any bit of any column gives another, but for 2^-128.
//
// Each value is written as tag, length, bytes, so no two rows have the same text: NULL is not '', ('a', 'bc') is not ('ab', 'c').
#pragma once

#include "pg/postgres.hpp"

namespace tandem {

constexpr int secret_bytes = 192;

// Numbers are the tags of the protocol.
enum class ValueClass : std::uint8_t {
    integer = 1,
    numeric = 2,
    float4 = 3,
    float8 = 4,
    text = 5,
    bytes = 6,
    date = 7,
    timestamp = 8,
    timestamptz = 9,
    interval = 10,
    time = 11,
    bit = 12,
    boolean = 13,
    uuid = 14,
    inet = 15,
    json = 16,
    sidecar = 17, // not of a value: an original that PostgreSQL cannot hold
    other = 20,   // binary form of the type; only PostgreSQL computes it, on both sides
};

// How values of one type are written. Set up once for each column.
struct Canonical {
    Oid type; // base type
    ValueClass kind;
    bool as_numeric; // an integer that is compared with a numeric
    bool is_enum;    // its label is the value
    bool is_row;     // a row of other values, written one after the other
    int length;      // of the type, as in pg_type
    FmgrInfo send;   // of types in class other, and of inet
};

// `type` may be a domain. `context` holds function data.
void prepare_canonical(Canonical *canonical, Oid type, bool as_numeric, MemoryContext context);

const char *class_name(ValueClass kind); // as in the protocol; nullptr: the worker does not know it

// A row while it is written. The buffer is kept from row to row.
struct RowBytes {
    char *data;
    Size used;
    Size space;
    MemoryContext context;
};

void begin_row_bytes(RowBytes *row, MemoryContext context);
void append_null(RowBytes *row);
void append_value(RowBytes *row, Canonical *canonical, Datum value);
void append_field(RowBytes *row, ValueClass tag, const char *bytes, Size length);

struct RowHash {
    std::uint64_t low;
    std::uint64_t high;
};

// Hash of what was written; the row is empty afterwards.
RowHash take_hash(RowBytes *row, const char *secret);

// Checked: an error unless it is long enough.
const char *secret_of(const bytea *secret);

std::uint64_t hash_of_key(const bytea *key); // XXH3-64, for tandem.journal_keys

} // namespace tandem
