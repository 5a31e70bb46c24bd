// Queries over the target of a compared table: columns, own rows, ranges of keys. Parts of digest_target and digest_images.
#pragma once

#include "digest.hpp"

namespace tandem {

struct Query {
    StringInfoData sql;
    int count; // of parameters
    Oid types[2 * INDEX_MAX_KEYS + 2];
    Datum values[2 * INDEX_MAX_KEYS + 2];
};

void begin_query(Query *query);
int add_parameter(Query *query, Oid type, Datum value); // its number

void append_columns(StringInfo out, const ComparedTable *compared);   // ", t.a, t.b"
void append_arguments(StringInfo out, const ComparedTable *compared); // the same for tandem._digest
void append_key_columns(StringInfo out, const SourceTable *table);    // "t.k1, t.k2", in the old key's order
void append_from(StringInfo out, const SourceTable *table);           // " FROM … AS t WHERE …", the rows of this table only
void append_part_bounds(StringInfo out, const SourceTable *table);    // of a key of one column, with the columns low and high of i
void append_range(Query *query, const SourceTable *table, KeyRange range);

// The sums that a query gives, whose only column is tandem._digest.
RangeSums *collect_sums(ComparedTable *compared, Query *query, int *count);

// Rows that a query gives: key columns, then the compared ones (without a secret: the key as an array of text), then with `numbered` the number of the
// range, which becomes `part`.
KeyedRow *collect_rows(ComparedTable *compared, Query *query, const bytea *secret, int *count, bool numbered = false);

// Look-ups by the index, whatever the statistics say of a table that has just been filled. Undone with AtEOXact_GUC(false, level).
int search_by_index();

} // namespace tandem
