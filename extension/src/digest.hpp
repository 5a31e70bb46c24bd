// Reconciliation on PostgreSQL's side: hashes of the rows of a target, and of what apply would write for images of old rows
// (docs/protocol.md section 14). Tables are read with the rights of the target's owner, as apply writes them, and under the caller's snapshot.
//
//   canonical         bytes and hash of a row
//   digest_aggregate  sums over a range, in parallel workers
//   digest_table      which columns are compared; key bytes of a row of the target
//   digest_target     rows of the target by range and by key
//   digest_parts      sums of the parts of a range, and rows of many parts
//   digest_images     what apply would write
//   digest_originals  originals of values that PostgreSQL cannot hold
//   differences       column by column
//   digest_functions  what SQL calls
#pragma once

#include "canonical.hpp"
#include "catalog.hpp"

extern "C" {
#include "lib/stringinfo.h"
#include "utils/array.h"
#include "utils/tuplestore.h"
}

namespace tandem {

// A table with the columns that are compared. In the memory context of the call.
struct ComparedTable {
    SourceTable *table;
    int count;
    TargetColumn *
        *columns; // in order of hashing: key, then by name; constants of the target's key whose equal values are the same are left out
    Canonical *canonical;
    std::int32_t *typmods; // as declared in the target
    bool has_originals;    // tandem.sidecar has entries of it
    bool has_row_security;
};

ComparedTable *open_compared(int table_id); // error when the table or its target is gone
bool is_constant(const TargetColumn *column);

// One row by its key.
struct KeyedRow {
    bytea *key;
    bytea *image;        // of the old row; nullptr: there is none
    ArrayType *key_text; // as next_keys gives it
    RowHash hash;
    std::int64_t writer; // transaction that wrote the row of the target, as in xmin; 0: not known
    int part;            // read by read_parts: position of its range, from 0
    bool present;        // there is such a row
    bool failed;         // it cannot be computed
};

// A range (low, high] of keys in text form; nullptr: infinite.
struct KeyRange {
    ArrayType *low;
    ArrayType *high;
};

struct RangeSums {
    std::int64_t rows;
    RowHash sum;
};

RangeSums sum_range(ComparedTable *compared, const bytea *secret, KeyRange range);
// The same by parts that begin at `starts` (text form of the key, which is one column): an element for each up to the last that has rows.
bool can_sum_parts(const ComparedTable *compared);
RangeSums *sum_parts(ComparedTable *compared, const bytea *secret, KeyRange range, ArrayType *starts, int *count);
KeyedRow *read_range(ComparedTable *compared, const bytea *secret, KeyRange range, int *count);
// The same for many ranges (low, high] of a key of one column, by one plan; text arrays of equal length, NULL: infinite.
KeyedRow *read_parts(ComparedTable *compared, const bytea *secret, ArrayType *lows, ArrayType *highs, int *count);
KeyedRow *read_next_keys(ComparedTable *compared, ArrayType *after, int limit, int *count);

// Values of the compared columns of the row with this number in the array; they live until it returns.
struct RowVisitor {
    void (*row)(void *argument, int number, const Datum *values, const bool *nulls);
    void *argument;
};
// Rows of the target that have exactly these key bytes.
void visit_keys(ComparedTable *compared, KeyedRow *rows, int count, RowVisitor visitor);
// What apply would write for rows with an image; rows that the filter leaves out are not visited. Sets `failed`.
void visit_images(ComparedTable *compared, KeyedRow *rows, int count, RowVisitor visitor);

// These fill hash and present (and failed), with originals.
void hash_keys(ComparedTable *compared, const bytea *secret, KeyedRow *rows, int count);
void hash_images(ComparedTable *compared, const bytea *secret, KeyedRow *rows, int count);

// Key bytes of rows of the target, from its key columns in the old key's order. A key that the old table cannot have gets bytes that no key
// of it has.
struct KeyWriter;
KeyWriter *make_key_writer(const ComparedTable *compared);
bytea *write_key(KeyWriter *writer, const Datum *values, const bool *nulls);

// Adds what tandem.sidecar has of these rows to their hashes.
void add_originals(const ComparedTable *compared, const bytea *secret, KeyedRow *rows, int count);
// Adds what the image notes.
void add_losses(const bytea *secret, KeyedRow *row);

// Runs a query with the rights of the owner, which may be unable to look into schema tandem: names are looked up as the caller. Needs SPI.
void run_as_owner(const SourceTable *table, const char *sql, int count, Oid *types, Datum *values, DestReceiver *dest);

// Does `work` for rows [0, count) in a subtransaction; halves the set when it fails. `failed` is called for single rows.
struct Contained {
    void (*work)(void *argument, int first, int count);
    void (*failed)(void *argument, int number, const struct SqlError &error);
    void *argument;
};
void run_contained(const Contained &contained, int first, int count);

// Writes rows (key, kind, columns, old, new) for keys that differ.
void write_differences(ComparedTable *compared, KeyedRow *rows, int count, Tuplestorestate *result, TupleDesc desc);

} // namespace tandem
