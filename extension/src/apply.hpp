// Words shared by the files of apply (docs/protocol.md sections 6 and 7; models A and B2, process Apply).
//
//   apply_worker   main loop of the background worker
//   apply_batch    one batch of the queue, one transaction
//   apply_settle   the rows of a transaction table by table: state, fate, log
//   apply_retry    rows put aside, and the tables retry and dead_letter
//   apply_journal  keys that were touched, for reconciliation
//   apply_dual     images compared with writes of the application that wait to be verified
//   apply_losses   values that PostgreSQL cannot hold: originals and counters
//   apply_cascade  children that the old side changes behind the triggers' back; cascade_lookup: how they are found
//   apply_shadow   tables in phase shadow: timed, and tried only
//   apply_direct   rows of a backfill chunk, in a copier's session
//   apply_set      merging the rows of one table, and narrowing to those that fail
//   table_plan     the statements for that; catalog: what is known of a table
#pragma once

#include "catalog.hpp"
#include "pg/leaf.hpp"
#include "stats.hpp"

extern "C" {
#include "datatype/timestamp.h"
}

namespace tandem {

enum class Fate : std::uint8_t {
    pending,
    applied,
    retry, // put aside: may pass
    dead,  // cannot be applied as it is
    held,  // left alone: the target's row was written by the application and is not verified yet, or waits for review
};

// One row of a batch or of tandem.retry. Lives in the memory context of the transaction.
struct Row {
    int table_id;
    char op; // U, D or X
    std::int16_t flags;
    bool has_age;
    std::int32_t age_us;
    bytea *key;
    bytea *image;
    bytea *superseded; // image of this key that waited until this one came; known for cascade parents only
    int position;      // order of arrival
    bool from_retry;   // else from the queue
    bool due;          // from_retry: its own time has come; else it only goes along with another
    int attempts;      // failed ones so far; 0 for a row of the queue
    TimestampTz first_failed;
    bool left_out; // applied, but the filter of the table does not want it: its key was removed
    Fate fate;
    const SqlError *error; // why, unless applied
};

constexpr std::int16_t flag_removes = 1;
constexpr std::int16_t flag_cascaded = 2;
constexpr std::int16_t flag_losses = 8;

// The rows of one table in one transaction: absent keys first, then images, each in order of arrival.
struct TableRows {
    int table_id;
    SourceTable *table; // nullptr: not in the catalog, being dropped, or the new side is the source of truth: the rows are discarded
    bool writable;      // running, and not blocked
    bool shadow;        // phase shadow
    bool discards;      // phase shadow, and what is applied is to be rolled back
    bool copied;        // rows of a backfill chunk, in a copier's session
    Row **rows;
    int count;
    const SqlError *table_error; // the table cannot be written at all: becomes blocked
    bool narrowed;
    AppliedCounts counts;
};

enum class ErrorKind : std::uint8_t { transient, conflict, row, table, resource };
ErrorKind classify(const SqlError &error);
[[noreturn]] void raise_again(const SqlError &error);

// apply_set: decides the fate of every pending row of the table.
void apply_rows(TableRows *set);

// apply_shadow: the same in phase shadow. With `discards` rows that fail are noted, and applied as far as anybody else is concerned.
void apply_shadow(TableRows *set);
// Read from the catalog and locked until the commit, as group_rows does.
bool discards_rows(int table_id);

// apply_cascade: before anything is changed; fills tandem.request. Rows whose children cannot be looked up get a fate.
void expand_cascades(TableRows *set);
// After the rows of the chunk that ends the table's backfill: asks once more for children whose parent is not here.
void request_orphans(int table_id);

// apply_batch
bool apply_next_batch(); // false: nothing waits
// Runs a statement that returns table_id, op, flags, age_us, key, image[, attempts, first_failed, due] and returns the rows.
Row *collect_rows(Statement *statement, Datum *values, int expected, int *count);

// apply_settle
// Sorts rows (all of the transaction) into tables, in the current context; reads the tables' states and locks them against removal.
TableRows *group_rows(Row *rows, int count, int *table_count);
// Decides and writes: cascades, rows, retry and dead letters, blocked tables. Common to batches and retries.
void settle_tables(TableRows *tables, int count, std::int64_t batch_id); // batch_id 0: rows of tandem.retry
void report_settled(const TableRows *tables, int count);                 // after the commit: counters, warnings in the log

// apply_dual: before apply_rows; rows of the queue only
void verify_dual_writes(TableRows *set, std::int64_t batch_id);
void verify_writes_later(TableRows *set); // the rows cannot be applied now
// Rows of tandem.retry: the application has written them since, so a newer image is on its way.
void hold_unverified(TableRows *set);

// apply_losses: after apply_rows; originals kept and losses counted in the transaction that changed the rows.
void record_losses(TableRows *set);

// apply_journal: after apply_rows, for every row of the set whatever became of it.
void journal_keys(const TableRows *set);
void prune_journal_keys(); // in a transaction of its own

// apply_retry
void supersede(TableRows *set);            // a later image of a key removes its retry row and dead letter
void record_failures(TableRows *set);      // writes and clears retry and dead-letter rows
bool apply_due_retries(long *next_due_ms); // false: nothing is due; then the time until something is (or -1)

// apply_worker
// Both leave the current memory context alone: it belongs to the turn of the main loop and outlives the transaction.
void begin_apply_transaction();  // settings pinned, catalog fresh
void pin_transaction();          // settings pinned in a transaction that somebody else began
void begin_report_transaction(); // without refreshing the catalog: pointers to tables stay good
void commit_apply_transaction();

} // namespace tandem
