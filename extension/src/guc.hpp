// Settings `tandem.*`. The values are read directly; all but max_tables change by reload.
#pragma once

#include <cstdint>

namespace tandem {

extern int lease_ttl; // ms
extern int batch_rows;
extern int batch_bytes; // kB
extern int pipeline_depth;
extern int poll_interval_min;   // ms
extern int poll_interval_max;   // ms
extern int source_lock_timeout; // ms
extern int apply_lock_timeout;  // ms
extern int retry_backoff_min;   // ms
extern int retry_backoff_max;   // ms
extern int max_attempts;
extern int shadow_slow_apply;            // ms for one row
extern int journal_retention;            // s
extern int question_timeout;             // ms
extern double alarm_threshold;           // % of rows
extern int max_tables;                   // size of the shared statistics, fixed at server start
extern bool auto_resync;                 // read in SQL
extern int backfill_copiers;             // 0: nothing is copied directly
extern int backfill_direct_rows;         // smaller tables are copied through the queue
extern int backfill_chunk_time;          // ms
extern int backfill_rows_per_second;     // 0: no limit
extern int backfill_yield;               // 0: never slower
extern int backfill_max_threads_running; // 0: does not matter; so for the next two
extern int backfill_max_history_list;
extern int backfill_max_replica_lag; // ms

inline std::int64_t batch_bytes_limit() { return static_cast<std::int64_t>(batch_bytes) * 1024; }

void define_settings(); // from _PG_init

// For fault tests: does what tandem.debug_failpoint asks for at the named step ("apply:before_commit kill"), else nothing.
void failpoint(const char *name);

} // namespace tandem
