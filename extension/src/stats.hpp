// Counters behind the pg_stat_tandem_* views, in shared memory. Callable from the apply worker and from backends; never throws, never
// ereports an error: a full slot table only means that a table is not counted (logged once).
#pragma once

#include <cstdint>

namespace tandem {

struct AppliedCounts {
    std::int64_t upserted = 0;
    std::int64_t deleted = 0;
    std::int64_t retried = 0; // moved to tandem.retry
    std::int64_t dead_lettered = 0;
    std::int64_t superseded = 0; // retry rows and dead letters removed by a newer image
};

// All after the commit of the apply transaction.
void stats_table_applied(int table_id, const AppliedCounts &counts);
void stats_table_latency(int table_id, std::int64_t commit_to_visible_us); // once per row that carried an age
void stats_batch_applied(int source_id, std::int64_t rows, std::int64_t bytes, std::int64_t fetch_us, std::int64_t apply_us);
void stats_batch_refused(int source_id);                           // epoch was not the lease's
void stats_batch_narrowed(int source_id);                          // a batch failed as a whole and was narrowed
void stats_apply_error(const char *sqlstate, const char *message); // last error of the apply worker, shown in pg_stat_tandem_apply

// What the worker reports of itself: increments since its last report, but outbox_rows, oldest_us, capture_cost_us and rss_kb as they are.
struct TableReport {
    std::int64_t captured = 0;
    std::int64_t outbox_rows = -1; // -1: not counted this time
    std::int64_t oldest_us = 0;    // age of the oldest event in the outbox
    double capture_cost_us = -1;   // per changed row on the old side; negative: not measured this time
};
struct WorkerReport {
    std::int64_t fetch_us = 0;
    std::int64_t copy_us = 0;
    std::int64_t delete_us = 0;
    std::int64_t polls = 0;
    std::int64_t reconnects = 0;
    std::int64_t rss_kb = -1;      // -1: not told this time
    const char *version = nullptr; // nullptr: not told this time
};
void stats_table_reported(int table_id, const TableReport &report);
void stats_worker_reported(int source_id, const WorkerReport &report);

void stats_forget_table(int table_id); // its slot is free again
void stats_reset();                    // of the current database

} // namespace tandem
