// See stats.hpp. Reading them: stats_rows.hpp.
#include <cstring>

#include "pg/postgres.hpp"

#include "guc.hpp"
#include "shared_state.hpp"
#include "stats.hpp"

extern "C" {
#include "mb/pg_wchar.h"
#include "utils/timestamp.h"
}

namespace tandem {

namespace {

void add(pg_atomic_uint64 *counter, std::int64_t n) {
    if (n != 0)
        pg_atomic_fetch_add_u64(counter, n);
}

void note_time(pg_atomic_uint64 *time) { pg_atomic_write_u64(time, static_cast<std::uint64_t>(GetCurrentTimestamp())); }

// The table counted last is mostly the one counted next. Its slot may have been freed and taken by another table in between.
TableStats *table_stats(int table_id) {
    static TableSlot *last = nullptr;
    static bool complained = false;
    if (last != nullptr && pg_atomic_read_u64(&last->key) == slot_key(table_id))
        return &last->stats;
    TableSlot *slot = find_table_slot(table_id);
    if (slot == nullptr) {
        if (!complained && shared_state() != nullptr)
            ereport(LOG, (errmsg("pg_tandem: table %d is not counted in pg_stat_tandem_tables", table_id),
                          errdetail("There is room for %d tables of all databases.", max_tables),
                          errhint("Raise tandem.max_tables and restart the server. The rows themselves are not affected.")));
        complained = true;
        return nullptr;
    }
    last = slot;
    return &slot->stats;
}

SourceStats *source_stats(int source_id) {
    static SourceSlot *last = nullptr;
    if (last != nullptr && pg_atomic_read_u64(&last->key) == slot_key(source_id))
        return &last->stats;
    SourceSlot *slot = find_source_slot(source_id);
    if (slot == nullptr)
        return nullptr;
    last = slot;
    return &slot->stats;
}

void clear(Histogram *histogram) {
    for (pg_atomic_uint64 &count : histogram->count)
        pg_atomic_write_u64(&count, 0);
}

void clear(TableStats *s) {
    pg_atomic_uint64 *const counters[] = {&s->captured,      &s->upserted,        &s->deleted,    &s->retried,
                                          &s->dead_lettered, &s->superseded,      &s->applied_at, &s->outbox_rows,
                                          &s->oldest_us,     &s->capture_cost_ns, &s->reported_at};
    for (pg_atomic_uint64 *counter : counters)
        pg_atomic_write_u64(counter, 0);
    clear(&s->latency);
}

void clear(SourceStats *s) {
    pg_atomic_uint64 *const counters[] = {&s->fetch_us,       &s->copy_us,     &s->delete_us, &s->polls,    &s->reconnects,
                                          &s->rss_kb,         &s->reported_at, &s->batches,   &s->rows,     &s->bytes,
                                          &s->batch_fetch_us, &s->apply_us,    &s->refused,   &s->narrowed, &s->applied_at};
    for (pg_atomic_uint64 *counter : counters)
        pg_atomic_write_u64(counter, 0);
    clear(&s->apply);
}

} // namespace

void stats_table_applied(int table_id, const AppliedCounts &counts) {
    TableStats *stats = table_stats(table_id);
    if (stats == nullptr)
        return;
    add(&stats->upserted, counts.upserted);
    add(&stats->deleted, counts.deleted);
    add(&stats->retried, counts.retried);
    add(&stats->dead_lettered, counts.dead_lettered);
    add(&stats->superseded, counts.superseded);
    note_time(&stats->applied_at);
}

void stats_table_latency(int table_id, std::int64_t commit_to_visible_us) {
    TableStats *stats = table_stats(table_id);
    if (stats != nullptr)
        histogram_add(&stats->latency, commit_to_visible_us);
}

void stats_batch_applied(int source_id, std::int64_t rows, std::int64_t bytes, std::int64_t fetch_us, std::int64_t apply_us) {
    SourceStats *stats = source_stats(source_id);
    if (stats == nullptr)
        return;
    add(&stats->batches, 1);
    add(&stats->rows, rows);
    add(&stats->bytes, bytes);
    add(&stats->batch_fetch_us, fetch_us);
    add(&stats->apply_us, apply_us);
    note_time(&stats->applied_at);
    histogram_add(&stats->apply, apply_us);
}

void stats_batch_refused(int source_id) {
    SourceStats *stats = source_stats(source_id);
    if (stats != nullptr)
        add(&stats->refused, 1);
}

void stats_batch_narrowed(int source_id) {
    SourceStats *stats = source_stats(source_id);
    if (stats != nullptr)
        add(&stats->narrowed, 1);
}

void stats_apply_error(const char *sqlstate, const char *message) {
    DatabaseSlot *database = find_database_slot();
    if (database == nullptr)
        return;
    const TimestampTz now = GetCurrentTimestamp();
    // Not in the middle of a character: the text is shown in a view.
    const int length = pg_mbcliplen(message, static_cast<int>(strlen(message)), static_cast<int>(sizeof database->error_message) - 1);
    LWLockAcquire(shared_lock(), LW_EXCLUSIVE);
    strlcpy(database->error_sqlstate, sqlstate, sizeof database->error_sqlstate);
    memcpy(database->error_message, message, static_cast<size_t>(length));
    database->error_message[length] = '\0';
    database->error_at = now;
    LWLockRelease(shared_lock());
}

void stats_table_reported(int table_id, const TableReport &report) {
    TableStats *stats = table_stats(table_id);
    if (stats == nullptr)
        return;
    add(&stats->captured, report.captured);
    if (report.capture_cost_us >= 0)
        pg_atomic_write_u64(&stats->capture_cost_ns, static_cast<std::uint64_t>(report.capture_cost_us * 1000));
    if (report.outbox_rows < 0)
        return;
    pg_atomic_write_u64(&stats->outbox_rows, static_cast<std::uint64_t>(report.outbox_rows));
    pg_atomic_write_u64(&stats->oldest_us, static_cast<std::uint64_t>(Max(report.oldest_us, 0)));
    note_time(&stats->reported_at);
}

void stats_worker_reported(int source_id, const WorkerReport &report) {
    SourceSlot *slot = find_source_slot(source_id);
    if (slot == nullptr)
        return;
    SourceStats *stats = &slot->stats;
    add(&stats->fetch_us, report.fetch_us);
    add(&stats->copy_us, report.copy_us);
    add(&stats->delete_us, report.delete_us);
    add(&stats->polls, report.polls);
    add(&stats->reconnects, report.reconnects);
    if (report.rss_kb >= 0)
        pg_atomic_write_u64(&stats->rss_kb, static_cast<std::uint64_t>(report.rss_kb));
    note_time(&stats->reported_at);
    if (report.version == nullptr)
        return;
    LWLockAcquire(shared_lock(), LW_EXCLUSIVE);
    strlcpy(slot->worker_version, report.version, sizeof slot->worker_version);
    LWLockRelease(shared_lock());
}

void stats_forget_table(int table_id) {
    SharedState *state = shared_state();
    if (state == nullptr)
        return;
    LWLockAcquire(shared_lock(), LW_EXCLUSIVE);
    for (int i = 0; i < max_tables; i++) {
        TableSlot *slot = &table_slots()[i];
        if (pg_atomic_read_u64(&slot->key) != slot_key(table_id))
            continue;
        clear(&slot->stats);
        pg_atomic_write_u64(&slot->key, 0);
    }
    LWLockRelease(shared_lock());
}

void stats_reset() {
    SharedState *state = shared_state();
    DatabaseSlot *database = find_database_slot();
    if (state == nullptr || database == nullptr)
        return;
    const std::uint64_t mine = slot_key(0) >> 32;
    LWLockAcquire(shared_lock(), LW_EXCLUSIVE);
    for (int i = 0; i < max_tables; i++) {
        TableSlot *slot = &table_slots()[i];
        if (pg_atomic_read_u64(&slot->key) >> 32 != mine)
            continue;
        clear(&slot->stats);
        pg_atomic_write_u64(&slot->key, 0); // tables that are gone give their place back
    }
    for (SourceSlot &slot : state->sources)
        if (pg_atomic_read_u64(&slot.key) >> 32 == mine)
            clear(&slot.stats); // the slot stays: barriers are not statistics
    database->error_at = 0;
    database->error_sqlstate[0] = '\0';
    database->error_message[0] = '\0';
    LWLockRelease(shared_lock());
    note_time(&database->reset_at);
}

} // namespace tandem
