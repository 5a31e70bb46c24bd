// What apply must know of a table: old columns, where they go in the target, whose rights it takes, what cascades hang on it.
//
// In the apply worker tables are cached until the configuration generation changes or the relation cache hears of one of the targets.
// A pointer returned by find_table is good until refresh_catalog, which runs at the start of a transaction only.
#pragma once

#include "image.hpp"
#include "pg/sql.hpp"

extern "C" {
#include "access/tupdesc.h"
#include "nodes/pg_list.h"
}

namespace tandem {

struct TargetColumn {
    const char *name;
    Oid type; // as declared, may be a domain
    Oid base_type;
    std::int32_t typmod;
    bool enum_from_text;
    int source_column; // index into columns, -1: expression
    const char *expression;
    int key_position; // from 1, 0: not part of the key
    bool image_equal; // equal values of the type are the same bytes (btree "equalimage")
};

// A foreign key of the old side with an action that changes children behind the triggers' back. The table it is listed under is the parent.
struct Cascade {
    const char *name;
    int child_table_id;
    int column_count;
    const char **child_columns;  // old names
    const char **parent_columns; // old names
    bool *loose;                 // of each column: the old side compares it by a collation, not by its bytes
    bool by_key;                 // all parent columns belong to the parent's key
};

// Plans of one table, made on first use by table_plan.cpp.
struct TablePlans {
    SPIPlanPtr delete_keys;
    SPIPlanPtr upsert;
    SPIPlanPtr take_rows;
    SPIPlanPtr put_kept;
    SPIPlanPtr put_new;
    SPIPlanPtr missing_rows;
    SPIPlanPtr wanted_rows;
    SPIPlanPtr present_keys;
    SPIPlanPtr lock_keys;
    SPIPlanPtr compare_rows;
};

struct SourceTable {
    int table_id;
    int source_id;
    const char *name; // on the old side
    Oid target;       // InvalidOid when gone
    Oid owner;
    const char *target_name; // qualified and quoted
    const char *refusal;     // why nothing can be applied, nullptr: it can
    const char *refusal_hint;
    int refusal_code;

    int column_count;
    ImageColumn *columns;
    ImageColumn **all_columns; // the same as pointers, in ordinal order
    int key_count;
    ImageColumn **key_columns; // in key order
    TupleDesc row_desc;        // of tandem_rows: all old columns, then the row's number
    TupleDesc key_desc;        // of tandem_keys: the key columns

    int target_count;   // columns that are written
    int compared_count; // with those that PostgreSQL computes, which are behind the others
    TargetColumn *targets;
    int target_key_count;
    TargetColumn **target_key; // in order of key_position
    List *kept_columns;        // names of target columns that are not written (char *), generated ones left out

    const char *filter;   // expression over the old columns: rows for which it is not true are not in the target; nullptr: all are
    bool has_policies;    // for values that PostgreSQL cannot hold
    bool verifies_writes; // direct writes to the target are recorded, or some are not verified yet

    List *cascades; // Cascade *
    TablePlans plans;
};

// Beside old columns in one relation. No column of the old side has a name that ends in a space.
constexpr const char *row_number_column = "tandem_row_number ";
constexpr const char *row_number_sql = "\"tandem_row_number \"";

void watch_targets();                  // once per process
void refresh_catalog();                // forgets what is outdated; start of a transaction, outside SPI
SourceTable *find_table(int table_id); // nullptr: not in the catalog. Needs a transaction, not SPI.

// Everything but cascades, uncached, in the current context: for functions that read under their caller's snapshot. nullptr: unknown.
SourceTable *load_table(int table_id);

// Columns only, uncached, in the current context, read with the rights of the extension: for functions in ordinary backends.
SourceTable *load_columns(int table_id);

} // namespace tandem
