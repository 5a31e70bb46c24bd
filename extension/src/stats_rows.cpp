// See stats_rows.hpp. The order of values is that of the OUT columns in ddl/60_stats.sql.
#include <cstring>

#include "pg/postgres.hpp"

#include "guc.hpp"
#include "shared_state.hpp"
#include "stats_rows.hpp"

extern "C" {
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
}

namespace tandem {

namespace {

constexpr int max_columns = 24;

// One row of the result, filled from left to right. Never more columns than the function declares: checked at the end.
struct Row {
    ReturnSetInfo *result;
    int n;
    Datum values[max_columns];
    bool nulls[max_columns];
};

Row new_row(FunctionCallInfo fcinfo) {
    Row row = {};
    row.result = reinterpret_cast<ReturnSetInfo *>(fcinfo->resultinfo);
    return row;
}

void put(Row *row, Datum value, bool is_null) {
    Assert(row->n < max_columns);
    row->values[row->n] = value;
    row->nulls[row->n] = is_null;
    row->n++;
}

void put_int(Row *row, std::int32_t value) { put(row, Int32GetDatum(value), false); }
void put_double(Row *row, double value, bool is_null) { put(row, Float8GetDatum(value), is_null); }
void put_text(Row *row, const char *value) {
    put(row, value[0] == '\0' ? static_cast<Datum>(0) : CStringGetTextDatum(value), value[0] == '\0');
}
void put_time(Row *row, TimestampTz value) { put(row, TimestampTzGetDatum(value), value == 0); }

std::int64_t read(pg_atomic_uint64 *counter) { return static_cast<std::int64_t>(pg_atomic_read_u64(counter)); }
void put_counter(Row *row, pg_atomic_uint64 *counter) { put(row, Int64GetDatum(read(counter)), false); }

// Percentiles of a histogram in milliseconds; NULL when nothing was counted.
void put_percentiles(Row *row, Histogram *histogram, const double *shares, int n) {
    double us[4] = {0, 0, 0, 0};
    Assert(n <= 4);
    const bool known = histogram_percentiles(histogram, shares, n, us);
    for (int i = 0; i < n; i++)
        put_double(row, us[i] / 1000, !known);
}

void end_row(Row *row) {
    if (row->n != row->result->setDesc->natts)
        elog(ERROR, "pg_tandem: %d values for %d columns", row->n, row->result->setDesc->natts);
    tuplestore_putvalues(row->result->setResult, row->result->setDesc, row->values, row->nulls);
}

bool is_mine(std::uint64_t key) { return key >> 32 == MyDatabaseId; }
std::int32_t id_of(std::uint64_t key) { return static_cast<std::int32_t>(key & 0xffffffffU); }

void copy_text_of_slot(char *to, const char *from, size_t size) {
    LWLockAcquire(shared_lock(), LW_SHARED);
    strlcpy(to, from, size);
    LWLockRelease(shared_lock());
}

} // namespace

void stats_table_rows(FunctionCallInfo fcinfo) {
    static const double shares[] = {0.5, 0.95, 0.99};
    InitMaterializedSRF(fcinfo, 0);
    require_database_slot();
    for (int i = 0; i < max_tables; i++) {
        TableSlot *slot = &table_slots()[i];
        TableStats *s = &slot->stats;
        const std::uint64_t key = pg_atomic_read_u64(&slot->key);
        if (!is_mine(key))
            continue;
        const bool counted = read(&s->reported_at) != 0;
        Row row = new_row(fcinfo);
        put_int(&row, id_of(key));
        put_counter(&row, &s->captured);
        put_counter(&row, &s->upserted);
        put_counter(&row, &s->deleted);
        put_counter(&row, &s->retried);
        put_counter(&row, &s->dead_lettered);
        put_counter(&row, &s->superseded);
        put(&row, Int64GetDatum(read(&s->outbox_rows)), !counted);
        put_double(&row, static_cast<double>(read(&s->oldest_us)) / 1e6, !counted);
        put_time(&row, read(&s->reported_at));
        put_percentiles(&row, &s->latency, shares, 3);
        put_double(&row, static_cast<double>(read(&s->capture_cost_ns)) / 1000, read(&s->capture_cost_ns) == 0);
        put_time(&row, read(&s->applied_at));
        end_row(&row);
    }
}

void stats_source_rows(FunctionCallInfo fcinfo) {
    static const double shares[] = {0.5, 0.99};
    InitMaterializedSRF(fcinfo, 0);
    require_database_slot();
    for (SourceSlot &slot : shared_state()->sources) {
        SourceStats *s = &slot.stats;
        const std::uint64_t key = pg_atomic_read_u64(&slot.key);
        if (!is_mine(key))
            continue;
        char version[sizeof slot.worker_version];
        copy_text_of_slot(version, slot.worker_version, sizeof version);
        Row row = new_row(fcinfo);
        put_int(&row, id_of(key));
        put_counter(&row, &s->fetch_us);
        put_counter(&row, &s->copy_us);
        put_counter(&row, &s->delete_us);
        put_counter(&row, &s->polls);
        put_counter(&row, &s->reconnects);
        put_counter(&row, &s->rss_kb);
        put_text(&row, version);
        put_time(&row, read(&s->reported_at));
        put_counter(&row, &s->batches);
        put_counter(&row, &s->rows);
        put_counter(&row, &s->bytes);
        put_counter(&row, &s->batch_fetch_us);
        put_counter(&row, &s->apply_us);
        put_percentiles(&row, &s->apply, shares, 2);
        put_counter(&row, &s->refused);
        put_counter(&row, &s->narrowed);
        put_time(&row, read(&s->applied_at));
        end_row(&row);
    }
}

void stats_session_rows(FunctionCallInfo fcinfo) {
    InitMaterializedSRF(fcinfo, 0);
    require_database_slot();
    for (const SessionSlot &shared : shared_state()->sessions) {
        LWLockAcquire(shared_lock(), LW_SHARED);
        const SessionSlot session = shared;
        LWLockRelease(shared_lock());
        if (session.pid == 0 || session.database != MyDatabaseId)
            continue;
        Row row = new_row(fcinfo);
        put_int(&row, session.pid);
        put_text(&row, session.worker);
        put(&row, BoolGetDatum(session.answers), false);
        put_time(&row, session.since);
        end_row(&row);
    }
}

void stats_apply_row(FunctionCallInfo fcinfo) {
    InitMaterializedSRF(fcinfo, 0);
    DatabaseSlot *database = require_database_slot();
    char sqlstate[sizeof database->error_sqlstate];
    char message[sizeof database->error_message];
    LWLockAcquire(shared_lock(), LW_SHARED);
    const TimestampTz error_at = database->error_at;
    strlcpy(sqlstate, database->error_sqlstate, sizeof sqlstate);
    strlcpy(message, database->error_message, sizeof message);
    LWLockRelease(shared_lock());
    const std::uint32_t pid = pg_atomic_read_u32(&database->apply_pid);
    Row row = new_row(fcinfo);
    put(&row, Int32GetDatum(static_cast<std::int32_t>(pid)), pid == 0);
    put_text(&row, sqlstate);
    put_text(&row, message);
    put_time(&row, error_at);
    put_time(&row, read(&database->reset_at));
    end_row(&row);
}

} // namespace tandem
