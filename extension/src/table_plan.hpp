// The set-based statements that bring a table up to date, built from its column mapping and kept as plans.
//
// Old rows come in as the ephemeral relations tandem_rows and tandem_keys, so one statement takes a whole set. All functions here need
// an open SPI connection in which those relations are registered, and must run as the owner of the target: planning evaluates
// immutable expressions already.
#pragma once

#include "catalog.hpp"

extern "C" {
#include "lib/stringinfo.h"
#include "utils/tuplestore.h"
}

namespace tandem {

constexpr const char *rows_relation = "tandem_rows";
constexpr const char *keys_relation = "tandem_keys";
constexpr const char *kept_relation = "tandem_kept";

// Makes rows visible to SPI under a name, until the SPI connection ends. `desc` and `rows` must live that long.
void register_rows(const char *name, TupleDesc desc, Tuplestorestate *rows, double expected = 1000);

// Match of the target's row `t` with `s`, a subquery whose SELECT list append_key_values wrote.
void append_key_values(StringInfo out, const SourceTable *table);
void append_key_match(StringInfo out, const SourceTable *table);

// " AND t.shard = 'eu'" for each constant in the target's key: of a target that several old tables share, the rows of this one.
void append_own_rows(StringInfo out, const SourceTable *table);

SPIPlanPtr delete_keys_plan(SourceTable *table); // DELETE … USING tandem_keys
SPIPlanPtr upsert_plan(SourceTable *table);      // INSERT … SELECT FROM tandem_rows ON CONFLICT DO UPDATE, equal rows left alone

SPIPlanPtr wanted_rows_plan(SourceTable *table); // numbers of the tandem_rows that pass the filter; NULL does not

SPIPlanPtr present_keys_plan(SourceTable *table); // one row for each of tandem_keys that the target has
SPIPlanPtr lock_keys_plan(SourceTable *table);    // the same, and locks it; an error if somebody else has a lock on it
SPIPlanPtr compare_rows_plan(
    SourceTable *table); // for each of tandem_rows: 0 the target lacks it, 1 it is there as apply would write it, 2 it differs

// Unique values that move between rows of a set: take the rows out first, then put them all in again.
SPIPlanPtr take_rows_plan(SourceTable *table);    // DELETE … USING tandem_rows RETURNING number, columns that are not written
SPIPlanPtr put_kept_plan(SourceTable *table);     // INSERT … FROM tandem_rows JOIN tandem_kept
SPIPlanPtr put_new_plan(SourceTable *table);      // INSERT … FROM tandem_rows that are not in tandem_kept
SPIPlanPtr missing_rows_plan(SourceTable *table); // numbers of rows that the two left out, a unique value of theirs being taken

// "left OPERATOR(…) right" for a key or foreign-key comparison that can use an index on `left_type`; `right` of another type is converted
// unless the index's operator family compares the two types directly.
void append_equality(StringInfo out, const char *left, Oid left_type, const char *right, Oid right_type);

// How the target column is computed from columns of tandem_rows (or of tandem_keys, for key columns).
void append_value(StringInfo out, const SourceTable *table, const TargetColumn *column);

// Type as SQL that does not cut or round: without the length or precision of the column.
char *unbounded_type(Oid type);

} // namespace tandem
