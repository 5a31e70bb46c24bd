// What SQL can call of shared memory, waiting, questions and statistics. Each function unpacks, calls, returns. Its SQL declaration is in
// ddl/40_worker_sessions.sql to ddl/43_questions.sql, or ddl/60_stats.sql.
#include "pg/postgres.hpp"

#include "events.hpp"
#include "guc.hpp"
#include "questions.hpp"
#include "shmem.hpp"
#include "stats.hpp"
#include "stats_rows.hpp"
#include "waiting.hpp"

extern "C" {
#include "utils/builtins.h"
#include "utils/jsonb.h"
}

// --- worker sessions and settings -------------------------------------------------------------------------------------------------

TANDEM_FUNCTION(tandem_library_version);
Datum tandem_library_version(PG_FUNCTION_ARGS) {
    (void)fcinfo;
    PG_RETURN_TEXT_P(cstring_to_text(TANDEM_VERSION));
}

TANDEM_FUNCTION(tandem_register_session);
Datum tandem_register_session(PG_FUNCTION_ARGS) {
    tandem::register_session(text_to_cstring(PG_GETARG_TEXT_PP(0)));
    PG_RETURN_VOID();
}

TANDEM_FUNCTION(tandem_worker_settings);
Datum tandem_worker_settings(PG_FUNCTION_ARGS) {
    (void)fcinfo;
    char *json =
        psprintf("{\"lease_ttl_ms\": %d, \"batch_rows\": %d, \"batch_bytes\": " INT64_FORMAT ", \"poll_min_ms\": %d, "
                 "\"poll_max_ms\": %d, \"pipeline_depth\": %d, \"source_lock_timeout_ms\": %d, "
                 "\"backfill_copiers\": %d, \"backfill_direct_rows\": %d, \"backfill_chunk_ms\": %d, "
                 "\"backfill_rows_per_second\": %d, \"backfill_yield\": %d, \"backfill_max_threads_running\": %d, "
                 "\"backfill_max_history_list\": %d, \"backfill_max_replica_lag_ms\": %d}",
                 tandem::lease_ttl, tandem::batch_rows, tandem::batch_bytes_limit(), tandem::poll_interval_min, tandem::poll_interval_max,
                 tandem::pipeline_depth, tandem::source_lock_timeout, tandem::backfill_copiers, tandem::backfill_direct_rows,
                 tandem::backfill_chunk_time, tandem::backfill_rows_per_second, tandem::backfill_yield,
                 tandem::backfill_max_threads_running, tandem::backfill_max_history_list, tandem::backfill_max_replica_lag);
    return DirectFunctionCall1(jsonb_in, CStringGetDatum(json));
}

// --- waking -----------------------------------------------------------------------------------------------------------------------

TANDEM_FUNCTION(tandem_config_changed);
Datum tandem_config_changed(PG_FUNCTION_ARGS) {
    (void)fcinfo;
    tandem::bump_config_on_commit();
    PG_RETURN_VOID();
}

TANDEM_FUNCTION(tandem_wake_apply);
Datum tandem_wake_apply(PG_FUNCTION_ARGS) {
    (void)fcinfo;
    tandem::wake_apply_on_commit();
    PG_RETURN_VOID();
}

TANDEM_FUNCTION(tandem_notify_waiters);
Datum tandem_notify_waiters(PG_FUNCTION_ARGS) {
    (void)fcinfo;
    tandem::notify_waiters_on_commit();
    PG_RETURN_VOID();
}

// --- events and barriers ----------------------------------------------------------------------------------------------------------

TANDEM_FUNCTION(tandem_wait_events);
Datum tandem_wait_events(PG_FUNCTION_ARGS) { return tandem::wait_events(fcinfo); }

TANDEM_FUNCTION(tandem_set_barrier_reached);
Datum tandem_set_barrier_reached(PG_FUNCTION_ARGS) {
    tandem::set_barrier_reached(PG_GETARG_INT32(0), PG_GETARG_INT64(1));
    PG_RETURN_VOID();
}

TANDEM_FUNCTION(tandem_raise_barriers);
Datum tandem_raise_barriers(PG_FUNCTION_ARGS) {
    (void)fcinfo;
    PG_RETURN_INT32(tandem::raise_barriers());
}

TANDEM_FUNCTION(tandem_wait_caught_up);
Datum tandem_wait_caught_up(PG_FUNCTION_ARGS) {
    PG_RETURN_BOOL(tandem::wait_barriers(fcinfo, PG_ARGISNULL(0) ? -1 : tandem::interval_ms("timeout", PG_GETARG_DATUM(0))));
}

// --- questions --------------------------------------------------------------------------------------------------------------------

TANDEM_FUNCTION(tandem_ask);
Datum tandem_ask(PG_FUNCTION_ARGS) {
    tandem::ask(fcinfo);
    return static_cast<Datum>(0);
}

TANDEM_FUNCTION(tandem_next_question);
Datum tandem_next_question(PG_FUNCTION_ARGS) {
    tandem::next_question(fcinfo);
    return static_cast<Datum>(0);
}

TANDEM_FUNCTION(tandem_question_live);
Datum tandem_question_live(PG_FUNCTION_ARGS) { PG_RETURN_BOOL(tandem::question_live(PG_GETARG_INT64(0))); }

// --- statistics -------------------------------------------------------------------------------------------------------------------

TANDEM_FUNCTION(tandem_report_table_stats);
Datum tandem_report_table_stats(PG_FUNCTION_ARGS) {
    tandem::TableReport report;
    report.captured = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT64(1);
    report.outbox_rows = PG_ARGISNULL(2) ? -1 : PG_GETARG_INT64(2);
    report.oldest_us = PG_ARGISNULL(3) ? 0 : PG_GETARG_INT64(3);
    report.capture_cost_us = PG_ARGISNULL(4) ? -1 : PG_GETARG_FLOAT8(4);
    if (!PG_ARGISNULL(0))
        tandem::stats_table_reported(PG_GETARG_INT32(0), report);
    PG_RETURN_VOID();
}

TANDEM_FUNCTION(tandem_report_worker_stats);
Datum tandem_report_worker_stats(PG_FUNCTION_ARGS) {
    tandem::WorkerReport report;
    report.fetch_us = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT64(1);
    report.copy_us = PG_ARGISNULL(2) ? 0 : PG_GETARG_INT64(2);
    report.delete_us = PG_ARGISNULL(3) ? 0 : PG_GETARG_INT64(3);
    report.polls = PG_ARGISNULL(4) ? 0 : PG_GETARG_INT64(4);
    report.reconnects = PG_ARGISNULL(5) ? 0 : PG_GETARG_INT64(5);
    report.rss_kb = PG_ARGISNULL(6) ? -1 : PG_GETARG_INT64(6);
    report.version = PG_ARGISNULL(7) ? nullptr : text_to_cstring(PG_GETARG_TEXT_PP(7));
    if (!PG_ARGISNULL(0))
        tandem::stats_worker_reported(PG_GETARG_INT32(0), report);
    PG_RETURN_VOID();
}

TANDEM_FUNCTION(tandem_forget_table_stats);
Datum tandem_forget_table_stats(PG_FUNCTION_ARGS) {
    tandem::stats_forget_table(PG_GETARG_INT32(0));
    PG_RETURN_VOID();
}

TANDEM_FUNCTION(tandem_reset_stats);
Datum tandem_reset_stats(PG_FUNCTION_ARGS) {
    (void)fcinfo;
    tandem::stats_reset();
    PG_RETURN_VOID();
}

TANDEM_FUNCTION(tandem_stats_tables);
Datum tandem_stats_tables(PG_FUNCTION_ARGS) {
    tandem::stats_table_rows(fcinfo);
    return static_cast<Datum>(0);
}

TANDEM_FUNCTION(tandem_stats_sources);
Datum tandem_stats_sources(PG_FUNCTION_ARGS) {
    tandem::stats_source_rows(fcinfo);
    return static_cast<Datum>(0);
}

TANDEM_FUNCTION(tandem_stats_sessions);
Datum tandem_stats_sessions(PG_FUNCTION_ARGS) {
    tandem::stats_session_rows(fcinfo);
    return static_cast<Datum>(0);
}

TANDEM_FUNCTION(tandem_stats_apply);
Datum tandem_stats_apply(PG_FUNCTION_ARGS) {
    tandem::stats_apply_row(fcinfo);
    return static_cast<Datum>(0);
}
