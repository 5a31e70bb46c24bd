// Definition of the settings and the failpoints. See guc.hpp.
#include <climits>
#include <csignal>
#include <cstring>

#include "pg/postgres.hpp"

#include "guc.hpp"

extern "C" {
#include "utils/guc.h"
}

namespace tandem {

int lease_ttl = 10000;
int batch_rows = 20000;
int batch_bytes = 32 * 1024;
int pipeline_depth = 2;
int poll_interval_min = 2;
int poll_interval_max = 100;
int source_lock_timeout = 2000;
int apply_lock_timeout = 1000;
int retry_backoff_min = 100;
int retry_backoff_max = 300 * 1000;
int max_attempts = 8;
int shadow_slow_apply = 20;
int journal_retention = 3600;
int question_timeout = 30000;
double alarm_threshold = 0.0001;
int max_tables = 1000;
int backfill_copiers = 2;
int backfill_direct_rows = 10000;
int backfill_chunk_time = 500;
int backfill_rows_per_second = 0;
int backfill_yield = 8;
int backfill_max_threads_running = 25;
int backfill_max_history_list = 200 * 1000;
int backfill_max_replica_lag = 10 * 1000;
bool auto_resync = true;

namespace {

char *debug_failpoint = nullptr;

// A setting that a reload changes.
void define_int(const char *name, const char *what, const char *more, int *value, int lowest, int highest, int unit) {
    DefineCustomIntVariable(name, what, more, value, *value, lowest, highest, PGC_SIGHUP, unit, nullptr, nullptr, nullptr);
}

bool check_failpoint(char **value, void **, GucSource) {
    if (*value == nullptr || **value == '\0')
        return true;
    const char *action = strchr(*value, ' ');
    if (action == nullptr || (strcmp(action + 1, "kill") != 0 && strcmp(action + 1, "stop") != 0)) {
        GUC_check_errdetail("A failpoint is a name, a space, and \"kill\" or \"stop\".");
        return false;
    }
    return true;
}

} // namespace

void define_settings() {
    define_int("tandem.lease_ttl", "How long a worker leads a source after it last renewed its lease.",
               "A worker that stands by takes over after this time.", &lease_ttl, 1000, 3600 * 1000, GUC_UNIT_MS);
    define_int("tandem.batch_rows", "Largest number of rows in one batch.", nullptr, &batch_rows, 1, 10 * 1000 * 1000, 0);
    define_int("tandem.batch_bytes", "Size at which a batch is closed.", "Bounds the memory of the worker and of apply.", &batch_bytes, 64,
               1024 * 1024, GUC_UNIT_KB);
    define_int("tandem.pipeline_depth", "Batches of one source that may be under way at once.",
               "1: the next batch is fetched after the last is applied.", &pipeline_depth, 1, 16, 0);
    define_int("tandem.poll_interval_min", "Shortest pause between two looks at the old side's outboxes.", nullptr, &poll_interval_min, 1,
               60 * 1000, GUC_UNIT_MS);
    define_int("tandem.poll_interval_max", "Longest pause between two looks at the old side's outboxes.",
               "Reached when nothing changes there.", &poll_interval_max, 1, 60 * 1000, GUC_UNIT_MS);
    define_int("tandem.source_lock_timeout", "How long the worker waits for a lock on the old side.",
               "Applies to creating and dropping triggers: writers queue behind that lock.", &source_lock_timeout, 1, 3600 * 1000,
               GUC_UNIT_MS);
    define_int("tandem.apply_lock_timeout", "How long apply waits for a lock on a target before the row is put aside to be retried.",
               nullptr, &apply_lock_timeout, 1, 3600 * 1000, GUC_UNIT_MS);
    define_int("tandem.retry_backoff_min", "Pause before a failed row is tried for the second time; it doubles with every attempt.",
               nullptr, &retry_backoff_min, 1, 3600 * 1000, GUC_UNIT_MS);
    define_int("tandem.retry_backoff_max", "Longest pause between two attempts at a failed row.", nullptr, &retry_backoff_max, 1,
               24 * 3600 * 1000, GUC_UNIT_MS);
    define_int("tandem.max_attempts", "Attempts at a row that violates a unique constraint before it becomes a dead letter.",
               "Another row may resolve such a conflict. Lock timeouts and deadlocks are retried for ever.", &max_attempts, 1, 1000, 0);
    define_int("tandem.shadow_slow_apply", "Time for one row from which on an apply in phase shadow is noted as slow.",
               "See the view tandem.shadow_slow_applies.", &shadow_slow_apply, 0, 3600 * 1000, GUC_UNIT_MS);
    define_int("tandem.journal_retention", "How long acknowledgements are kept after the worker is done with them.", nullptr,
               &journal_retention, 60, 30 * 24 * 3600, GUC_UNIT_S);
    define_int("tandem.backfill_copiers", "Chunks of one source that are copied at once.",
               "0: the history of every table goes through the queue, in order with live changes.", &backfill_copiers, 0, 16, 0);
    define_int("tandem.backfill_direct_rows", "Rows from which on the history of a table is copied straight into its target.",
               "Smaller tables go through the queue.", &backfill_direct_rows, 0, INT_MAX, 0);
    define_int("tandem.backfill_chunk_time", "How long copying one chunk should take.", "The size of chunks follows it.",
               &backfill_chunk_time, 10, 60 * 1000, GUC_UNIT_MS);
    define_int("tandem.backfill_rows_per_second", "Most rows of history that are read from one source in a second.", "0: no limit.",
               &backfill_rows_per_second, 0, INT_MAX, 0);
    define_int("tandem.backfill_yield", "How much the copy of history makes way for each statement that the old server runs.",
               "With n statements of others it works for 1/(1 + yield * n) of the time, at least for a twentieth. 0: never slower.",
               &backfill_yield, 0, 100, 0);
    define_int("tandem.backfill_max_threads_running",
               "Statements of others that the old server may be running at once before no new chunk is begun.", "0: does not matter.",
               &backfill_max_threads_running, 0, INT_MAX, 0);
    define_int("tandem.backfill_max_history_list", "Length of InnoDB's history list from which on the copy waits.",
               "0: does not matter. Needs PROCESS on the old side.", &backfill_max_history_list, 0, INT_MAX, 0);
    define_int("tandem.backfill_max_replica_lag", "Lag from which on the copy waits, where the old server is a replica.",
               "0: does not matter. Needs REPLICATION CLIENT or SLAVE MONITOR on the old side.", &backfill_max_replica_lag, 0, INT_MAX,
               GUC_UNIT_MS);
    DefineCustomBoolVariable("tandem.auto_resync", "Copies a table anew by itself when capture was lost and the table is the same.",
                             "Off: such a table is blocked until tandem.resume.", &auto_resync, true, PGC_SIGHUP, 0, nullptr, nullptr,
                             nullptr);
    DefineCustomIntVariable("tandem.question_timeout", "How long a function waits for an answer of the old side.", nullptr,
                            &question_timeout, question_timeout, 100, 3600 * 1000, PGC_USERSET, GUC_UNIT_MS, nullptr, nullptr, nullptr);
    DefineCustomRealVariable("tandem.alarm_threshold", "Share of a table's rows that may differ before its alarm is raised, in percent.",
                             "Counts confirmed discrepancies that are open.", &alarm_threshold, alarm_threshold, 0, 100, PGC_SIGHUP, 0,
                             nullptr, nullptr, nullptr);
    DefineCustomIntVariable("tandem.max_tables", "Tables that pg_stat_tandem_tables can count, over all databases.", nullptr, &max_tables,
                            max_tables, 1, 100 * 1000, PGC_POSTMASTER, 0, nullptr, nullptr, nullptr);
    DefineCustomStringVariable("tandem.debug_failpoint", "Ends or stops a process at a named step, for fault tests.",
                               "A name such as \"apply:before_commit\", a space, and \"kill\" or \"stop\".", &debug_failpoint, "",
                               PGC_SUSET, GUC_NOT_IN_SAMPLE | GUC_SUPERUSER_ONLY, check_failpoint, nullptr, nullptr);
    MarkGUCPrefixReserved("tandem");
}

void failpoint(const char *name) {
    if (debug_failpoint == nullptr || debug_failpoint[0] == '\0')
        return;
    const char *space = strchr(debug_failpoint, ' ');
    if (space == nullptr)
        return;
    const size_t length = static_cast<size_t>(space - debug_failpoint);
    if (strlen(name) != length || strncmp(debug_failpoint, name, length) != 0)
        return;
    ereport(LOG, (errmsg("pg_tandem: failpoint \"%s\"", debug_failpoint)));
    if (strcmp(space + 1, "stop") == 0)
        raise(SIGSTOP);
    else
        raise(SIGKILL);
}

} // namespace tandem
