// Merging the rows of one table as a set, and narrowing to the rows that fail.
//
// Every attempt is one subtransaction under the identity of the target's owner. A set that fails is halved until single rows are left, so
// one bad row among n costs about log n attempts. A unique violation may come from a value that moved between two rows of the set:
// then all its keys are taken out before any row is put in.
#include "apply.hpp"

#include "guc.hpp"
#include "table_plan.hpp"

extern "C" {
#include "catalog/pg_type.h"
#include "executor/tstoreReceiver.h"
#include "nodes/plannodes.h"
#include "storage/lmgr.h"
#include "utils/guc.h"
#include "utils/plancache.h"
}

namespace tandem {
namespace {

constexpr int lock_failures_allowed = 20; // then what is left of the set is put aside without asking for more locks
constexpr int narrowed_lock_timeout = 50; // ms, once a lock was not available in this set
constexpr int single_tries_allowed = 1000;
constexpr int exchange_failures_allowed = 64; // of one set; a long chain of values behind one taken value is not worth more
constexpr int exchange_rounds = 8;            // a row that stays out may block another: each round finds the next ones

struct Attempt {
    SourceTable *table;
    Row **rows;
    int count;
    bool *conflicting; // not nullptr: take all keys out before putting rows in, and note here which rows did not go in
    volatile bool relation_locked;
};

int store_kilobytes() { return batch_bytes > INT_MAX / 4 ? INT_MAX : batch_bytes * 4; }

// Which images the table's filter wants; the others are removed by their keys, so that a row that leaves the filter goes and one that enters
// comes. Runs under the rights of the target's owner, as the expression is his.
void apply_filter(const Attempt *attempt) {
    SourceTable *table = attempt->table;
    MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "pg_tandem filter", ALLOCSET_DEFAULT_SIZES);
    auto values = static_cast<Datum *>(palloc(sizeof(Datum) * static_cast<size_t>(table->column_count + 1)));
    auto nulls = static_cast<bool *>(palloc(sizeof(bool) * static_cast<size_t>(table->column_count + 1)));
    Tuplestorestate *rows = tuplestore_begin_heap(false, false, store_kilobytes());
    MemoryContext before = MemoryContextSwitchTo(context);
    for (int i = 0; i < attempt->count; i++) {
        if (attempt->rows[i]->op == 'D')
            continue;
        MemoryContextReset(context);
        attempt->rows[i]->left_out = true;
        decode_image(attempt->rows[i]->image, table->all_columns, table->column_count, values, nulls);
        values[table->column_count] = Int32GetDatum(i);
        nulls[table->column_count] = false;
        tuplestore_putvalues(rows, table->row_desc, values, nulls);
    }
    MemoryContextSwitchTo(before);
    register_rows(rows_relation, table->row_desc, rows);
    const std::uint64_t wanted = execute_plan(wanted_rows_plan(table), "filtering rows");
    for (std::uint64_t i = 0; i < wanted; i++)
        attempt->rows[result_int32(i, 1)]->left_out = false;
    SPI_unregister_relation(rows_relation);
    tuplestore_end(rows);
    MemoryContextDelete(context);
}

void fill_stores(const Attempt *attempt, Tuplestorestate *rows, Tuplestorestate *keys) {
    SourceTable *table = attempt->table;
    MemoryContext context = AllocSetContextCreate(CurrentMemoryContext, "pg_tandem row", ALLOCSET_DEFAULT_SIZES);
    auto values = static_cast<Datum *>(palloc(sizeof(Datum) * static_cast<size_t>(table->column_count + 1)));
    auto nulls = static_cast<bool *>(palloc(sizeof(bool) * static_cast<size_t>(table->column_count + 1)));
    MemoryContext before = MemoryContextSwitchTo(context);
    for (int i = 0; i < attempt->count; i++) {
        const Row *row = attempt->rows[i];
        MemoryContextReset(context);
        if (row->op == 'D' || row->left_out) {
            decode_image(row->key, table->key_columns, table->key_count, values, nulls);
            tuplestore_putvalues(keys, table->key_desc, values, nulls);
        } else {
            decode_image(row->image, table->all_columns, table->column_count, values, nulls);
            values[table->column_count] = Int32GetDatum(i);
            nulls[table->column_count] = false;
            tuplestore_putvalues(rows, table->row_desc, values, nulls);
        }
    }
    MemoryContextSwitchTo(before);
    MemoryContextDelete(context);
}

// Takes all rows out, then puts them in again; values of target columns that the mapping does not know stay with their rows. Rows whose
// unique values are taken by a row outside of the set are left out, noted, and fail the attempt.
void put_rows_again(const Attempt *attempt, std::uint64_t wanted) {
    SourceTable *table = attempt->table;
    // Row numbers are matched here; elsewhere joins are by index only, see apply_worker.cpp.
    const int level = NewGUCNestLevel();
    (void)set_config_option("enable_hashjoin", "on", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);

    SPIPlanPtr take = take_rows_plan(table);
    auto source = static_cast<CachedPlanSource *>(linitial(SPI_plan_get_plan_sources(take)));
    TupleDesc desc = CreateTupleDescCopy(source->resultDesc);
    Tuplestorestate *kept = tuplestore_begin_heap(false, false, store_kilobytes());
    DestReceiver *dest = CreateDestReceiver(DestTuplestore);
    SetTuplestoreDestReceiverParams(dest, kept, CurrentMemoryContext, true, nullptr, nullptr);
    execute_plan(take, "taking rows out", nullptr, nullptr, dest);
    dest->rDestroy(dest);

    register_rows(kept_relation, desc, kept);
    std::uint64_t put = execute_plan(put_kept_plan(table), "putting rows in");
    put += execute_plan(put_new_plan(table), "putting new rows in");
    if (put < wanted) {
        const std::uint64_t missing = execute_plan(missing_rows_plan(table), "finding rows left out");
        // Otherwise a key is in the set twice, and halving must find the order.
        for (std::uint64_t i = 0; i < missing && put + missing == wanted; i++)
            attempt->conflicting[result_int32(i, 1)] = true;
        ereport(ERROR, (errcode(ERRCODE_UNIQUE_VIOLATION), errmsg("a unique value is taken by a row outside of the set")));
    }
    tuplestore_end(kept);
    AtEOXact_GUC(false, level);
}

void merge(void *argument) {
    auto attempt = static_cast<Attempt *>(argument);
    SourceTable *table = attempt->table;
    Oid user;
    int security;

    // Somebody who holds the whole table would make every row of it time out, one after the other.
    LockRelationOid(table->target, RowExclusiveLock);
    attempt->relation_locked = true;

    GetUserIdAndSecContext(&user, &security);
    SetUserIdAndSecContext(table->owner, security | SECURITY_LOCAL_USERID_CHANGE | SECURITY_RESTRICTED_OPERATION);
    connect_spi();
    if (table->filter != nullptr)
        apply_filter(attempt);
    Tuplestorestate *rows = tuplestore_begin_heap(false, false, store_kilobytes());
    Tuplestorestate *keys = tuplestore_begin_heap(false, false, store_kilobytes());
    fill_stores(attempt, rows, keys);
    register_rows(rows_relation, table->row_desc, rows);
    register_rows(keys_relation, table->key_desc, keys);
    if (tuplestore_tuple_count(keys) > 0)
        execute_plan(delete_keys_plan(table), "deleting absent keys");
    if (tuplestore_tuple_count(rows) > 0) {
        if (attempt->conflicting != nullptr)
            put_rows_again(attempt, static_cast<std::uint64_t>(tuplestore_tuple_count(rows)));
        else
            execute_plan(upsert_plan(table), "merging rows");
    }
    tuplestore_end(rows);
    tuplestore_end(keys);
    finish_spi();
    SetUserIdAndSecContext(user, security);
}

struct Narrowing {
    TableRows *set;
    int lock_failures;
    int exchange_failures;
    Row **conflicts;
    int conflict_count;
};

void set_lock_timeout(int milliseconds) {
    char text[16];
    snprintf(text, sizeof text, "%d", milliseconds);
    (void)set_config_option("lock_timeout", text, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

void set_fate(Row **rows, int count, Fate fate, const SqlError *error) {
    for (int i = 0; i < count; i++) {
        rows[i]->fate = fate;
        rows[i]->error = error;
    }
}

const SqlError *keep(const SqlError &error) {
    auto copy = static_cast<SqlError *>(palloc(sizeof(SqlError)));
    *copy = error;
    return copy;
}

// True: applied. False: undone, with *kind (row, conflict or transient) for the caller to go on with; or settled here, *settled.
bool try_merge(Narrowing *work, Row **rows, int count, bool *conflicting, SqlError *error, ErrorKind *kind, bool *settled) {
    Attempt attempt = {work->set->table, rows, count, conflicting, false};
    *settled = false;
    if (run_in_subtransaction(merge, &attempt, error)) {
        set_fate(rows, count, Fate::applied, nullptr);
        *settled = true;
        return true;
    }
    CHECK_FOR_INTERRUPTS();
    work->set->narrowed = true;
    *kind = classify(*error);
    if (*kind == ErrorKind::resource)
        raise_again(*error);
    if (*kind == ErrorKind::table) {
        work->set->table_error = keep(*error);
        set_fate(rows, count, Fate::retry, work->set->table_error);
        *settled = true;
    } else if (*kind == ErrorKind::transient) {
        set_lock_timeout(Min(apply_lock_timeout, narrowed_lock_timeout));
        if (!attempt.relation_locked || ++work->lock_failures > lock_failures_allowed) {
            set_fate(rows, count, Fate::retry, keep(*error));
            *settled = true;
        }
    }
    return false;
}

// Unique values that moved between rows of the set: all but the rows that conflict with others go in together. True: every row but those
// moved to the front of `rows` (*left of them) has its fate.
bool exchange_values(Narrowing *work, Row **rows, int count, int *left) {
    auto conflicting = static_cast<bool *>(palloc(sizeof(bool) * static_cast<size_t>(count)));
    int first = 0; // rows before it conflict
    for (int round = 0; round < exchange_rounds && first < count && work->exchange_failures < exchange_failures_allowed; round++) {
        SqlError error;
        ErrorKind kind;
        bool settled;
        memset(conflicting, 0, static_cast<size_t>(count));
        (void)try_merge(work, rows + first, count - first, conflicting, &error, &kind, &settled);
        if (settled) {
            *left = first;
            return true;
        }
        work->exchange_failures++;
        if (kind != ErrorKind::conflict)
            return false;
        // Keeps the order of arrival among those that go on.
        int found = 0;
        auto going_on = static_cast<Row **>(palloc(sizeof(Row *) * static_cast<size_t>(count)));
        int going_on_count = 0;
        for (int i = first; i < count; i++) {
            if (conflicting[i - first])
                rows[first + found++] = rows[i];
            else
                going_on[going_on_count++] = rows[i];
        }
        memcpy(rows + first + found, going_on, sizeof(Row *) * static_cast<size_t>(going_on_count));
        pfree(going_on);
        if (found == 0)
            return false;
        first += found;
    }
    return false;
}

void narrow(Narrowing *work, Row **rows, int count) {
    SqlError error;
    ErrorKind kind = ErrorKind::row;
    bool settled;

    if (work->set->table_error != nullptr) { // found out while narrowing: nothing more can be written
        set_fate(rows, count, Fate::retry, work->set->table_error);
        return;
    }
    (void)try_merge(work, rows, count, nullptr, &error, &kind, &settled);
    if (settled)
        return;
    int left = 0;
    if (kind == ErrorKind::conflict && count > 1 && exchange_values(work, rows, count, &left)) {
        if (left > 0)
            narrow(work, rows, left);
        return;
    }
    if (count > 1) {
        narrow(work, rows, count / 2);
        narrow(work, rows + count / 2, count - count / 2);
        return;
    }
    set_fate(rows, 1, kind == ErrorKind::row ? Fate::dead : Fate::retry, keep(error));
    if (kind == ErrorKind::conflict)
        work->conflicts[work->conflict_count++] = rows[0];
}

// Rows whose unique values were exchanged may have been parted by the halving.
void try_conflicts_together(Narrowing *work) {
    int left = 0;
    if (work->conflict_count < 2 || work->set->table_error != nullptr)
        return;
    work->exchange_failures = 0;
    if (!exchange_values(work, work->conflicts, work->conflict_count, &left))
        left = work->conflict_count;
    // A value may have become free meanwhile.
    for (int i = 0; i < Min(left, single_tries_allowed) && work->set->table_error == nullptr; i++) {
        SqlError error;
        ErrorKind kind;
        bool settled;
        (void)try_merge(work, &work->conflicts[i], 1, nullptr, &error, &kind, &settled);
    }
}

} // namespace

ErrorKind classify(const SqlError &error) {
    if (error.is_class("40") || error.code == ERRCODE_LOCK_NOT_AVAILABLE)
        return ErrorKind::transient;
    if (error.code == ERRCODE_UNIQUE_VIOLATION || error.code == ERRCODE_EXCLUSION_VIOLATION)
        return ErrorKind::conflict;
    if (error.is_class("53") || error.is_class("57") || error.is_class("58") || error.is_class("25") ||
        error.code == ERRCODE_DATA_CORRUPTED || error.code == ERRCODE_INDEX_CORRUPTED)
        return ErrorKind::resource;
    if (error.is_class("42") || error.is_class("0A") || error.is_class("3F") || error.is_class("55"))
        return ErrorKind::table;
    return ErrorKind::row;
}

void raise_again(const SqlError &error) {
    ereport(ERROR, (errcode(error.code), errmsg("%s", error.message), error.detail[0] != '\0' ? errdetail("%s", error.detail) : 0));
    pg_unreachable();
}

void apply_rows(TableRows *set) {
    auto pending = static_cast<Row **>(palloc(sizeof(Row *) * static_cast<size_t>(Max(set->count, 1))));
    int count = 0;
    for (int i = 0; i < set->count; i++)
        if (set->rows[i]->fate == Fate::pending)
            pending[count++] = set->rows[i];
    if (count == 0)
        return;
    Narrowing work = {set, 0, 0, nullptr, 0};
    work.conflicts = static_cast<Row **>(palloc(sizeof(Row *) * static_cast<size_t>(count)));
    narrow(&work, pending, count);
    try_conflicts_together(&work);
    if (work.lock_failures > 0)
        set_lock_timeout(apply_lock_timeout);
}

} // namespace tandem
