// Counters behind the pg_stat_tandem_* views, in shared memory. Callable from the apply worker and from backends; never throws, never
// ereports an error: a full slot table only means that a table is not counted (logged once).
#pragma once

#include <cstdint>

namespace tandem {

struct AppliedCounts {
    std::int64_t upserted = 0;
    std::int64_t deleted = 0;
    std::int64_t retried = 0;        // moved to tandem.retry
    std::int64_t dead_lettered = 0;
    std::int64_t superseded = 0;     // retry rows and dead letters removed by a newer image
};

// All after the commit of the apply transaction.
void stats_table_applied(int table_id, const AppliedCounts &counts);
void stats_table_latency(int table_id, std::int64_t commit_to_visible_us); // once per row that carried an age
void stats_batch_applied(int source_id, std::int64_t rows, std::int64_t bytes, std::int64_t fetch_us, std::int64_t apply_us);
void stats_batch_refused(int source_id);  // epoch was not the lease's
void stats_batch_narrowed(int source_id); // a batch failed as a whole and was narrowed
void stats_apply_error(const char *sqlstate, const char *message); // last error of the apply worker, shown in pg_stat_tandem_apply

} // namespace tandem
