// The apply worker: one background worker per database. It takes batches in order of arrival, then rows that are due to be tried again,
// then sleeps on its latch until something is submitted or due.
//
// An error outside of the rows of one table (resources, shutdown of something we need, a bug) undoes the whole transaction; the batch
// stays where it is and is tried again after a pause.
#include "apply.hpp"

#include "guc.hpp"
#include "launcher.hpp"
#include "shmem.hpp"

extern "C" {
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "common/pg_prng.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PGDLLEXPORT void tandem_apply_main(Datum argument);
}

namespace tandem {
namespace {

constexpr int idle_ms = 10 * 1000; // longest sleep: the extension may have been dropped meanwhile
constexpr int maintenance_ms = 60 * 1000;
constexpr int longest_pause_ms = 10 * 1000; // after errors of a whole batch
constexpr std::int64_t bloated_pages = 1024;

struct Pin {
    const char *name;
    const char *value;
};

// What rows mean must not depend on anybody's settings, and an acknowledgement must be durable. Joins are index lookups: a plan made
// while a table was small must not turn into a scan of it when it is large.
constexpr Pin pins[] = {
    {"synchronous_commit", "on"},
    {"session_replication_role", "replica"},
    {"search_path", "pg_catalog, pg_temp"},
    {"row_security", "off"},
    {"DateStyle", "ISO, YMD"},
    {"IntervalStyle", "postgres"},
    {"TimeZone", "UTC"},
    {"extra_float_digits", "1"},
    {"bytea_output", "hex"},
    {"client_encoding", "UTF8"}, // receive and send functions convert text from and to it
    {"statement_timeout", "0"},
    {"idle_in_transaction_session_timeout", "0"},
    {"default_transaction_isolation", "read committed"}, // the others come too late for a transaction that has its snapshot
    {"default_transaction_read_only", "off"},
    {"default_transaction_deferrable", "off"},
    {"transaction_isolation", "read committed"},
    {"transaction_read_only", "off"},
    {"enable_seqscan", "off"},
    {"enable_hashjoin", "off"},
    {"enable_mergejoin", "off"},
    {"jit", "off"},
    {"check_function_bodies", "off"},
    {"default_tablespace", ""},
    {"xmloption", "content"},
};

bool pinned_in_session(const char *name) { return strncmp(name, "transaction_", 12) != 0; }

// For the whole session, above configuration file, ALTER ROLE and ALTER DATABASE. Once, since a change of some of these drops all plans.
void pin_session() {
    for (const Pin &pin : pins)
        if (pinned_in_session(pin.name))
            SetConfigOption(pin.name, pin.value, PGC_SUSET, PGC_S_OVERRIDE);
}

void set_local(const char *name, const char *value) {
    if (strcmp(GetConfigOption(name, false, false), value) != 0)
        (void)set_config_option(name, value, PGC_SUSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
}

Statement prune_journal = {"DELETE FROM tandem.journal WHERE finished AND applied_at < pg_catalog.clock_timestamp() - $1 * interval '1 s'",
                           1,
                           {FLOAT8OID},
                           nullptr};
Statement prune_answers = {"DELETE FROM tandem.answer a WHERE NOT tandem._question_live(a.question_id)", 0, {}, nullptr};
Statement follow_sequences = {"SELECT tandem._sequences_follow()", 0, {}, nullptr};
Statement maintain_reconciliation = {"SELECT tandem._maintain_reconciliation()", 0, {}, nullptr};
Statement queue_pages = {"SELECT pg_catalog.pg_relation_size('tandem.queue') / 8192", 0, {}, nullptr};
Statement lock_queue = {"LOCK TABLE tandem.queue IN ACCESS EXCLUSIVE MODE NOWAIT", 0, {}, nullptr};
Statement any_queued = {"SELECT FROM tandem.queue LIMIT 1", 0, {}, nullptr};
Statement truncate_queue = {"TRUNCATE tandem.queue", 0, {}, nullptr};

void truncate_if_empty(void *) {
    connect_spi();
    if (execute(&any_queued) == 0) {
        execute(&lock_queue);
        // Looked at again under the lock: a COPY may have been committed in between.
        if (execute(&any_queued) == 0)
            execute(&truncate_queue);
    }
    finish_spi();
}

void advance_sequences(void *) {
    connect_spi();
    execute(&follow_sequences);
    finish_spi();
}

void maintain() {
    begin_apply_transaction();
    Datum retention = Float8GetDatum(static_cast<double>(journal_retention));
    connect_spi();
    execute(&prune_journal, &retention);
    execute(&prune_answers);
    execute(&queue_pages);
    const bool bloated = result_int64(0, 1) > bloated_pages;
    finish_spi();
    prune_journal_keys();
    SqlError ignored; // somebody holds the queue: next time
    if (bloated)
        (void)run_in_subtransaction(truncate_if_empty, nullptr, &ignored);
    (void)run_in_subtransaction(advance_sequences, nullptr, &ignored); // it tells of errors itself
    commit_apply_transaction();

    begin_apply_transaction();
    connect_spi();
    execute(&maintain_reconciliation);
    finish_spi();
    commit_apply_transaction();
}

bool extension_exists() {
    StartTransactionCommand();
    const bool exists = OidIsValid(get_extension_oid("pg_tandem", true));
    CommitTransactionCommand();
    return exists;
}

void leave_if_dropped() {
    if (extension_exists())
        return;
    launcher_worker_absent();
    proc_exit(0);
}

struct Loop {
    MemoryContext context; // of one turn
    int failures;          // in a row
    TimestampTz not_before;
    TimestampTz next_maintenance;
    long next_due_ms;
};

// One turn: true when there may be more to do at once.
bool turn(Loop *loop) {
    pgstat_report_activity(STATE_RUNNING, "applying");
    const TimestampTz now = GetCurrentTimestamp();
    const bool first = loop->next_maintenance == 0;
    // Under a load that never ends as well: journalled keys are pruned here, and who watches for silence must not be silent.
    const bool due = !first && now >= loop->next_maintenance;
    if (first || due)
        loop->next_maintenance = TimestampTzPlusMilliseconds(now, maintenance_ms);
    if (due)
        maintain();
    if (apply_next_batch())
        return true;
    if (apply_due_retries(&loop->next_due_ms))
        return true;
    if (first)
        maintain();
    leave_if_dropped();
    return false;
}

void turn_failed(Loop *loop) {
    SqlError error;
    HOLD_INTERRUPTS();
    EmitErrorReport();
    take_error(loop->context, &error);
    AbortCurrentTransaction();
    MemoryContextSwitchTo(loop->context);
    RESUME_INTERRUPTS();
    stats_apply_error(error.sqlstate, error.message);
    const double pause = Min(static_cast<double>(longest_pause_ms), retry_backoff_min * static_cast<double>(1 << Min(loop->failures, 16)));
    loop->failures++;
    loop->not_before = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
                                                   static_cast<std::int64_t>(pause * (0.5 + 0.5 * pg_prng_double(&pg_global_prng_state))));
}

// True when the turn found something to do. An error ends the turn and is remembered in `loop`.
bool guarded_turn(Loop *loop) {
    volatile bool more = false;
    PG_TRY();
    {
        more = turn(loop);
        loop->failures = 0;
        loop->not_before = 0;
    }
    PG_CATCH();
    {
        turn_failed(loop);
        leave_if_dropped();
    }
    PG_END_TRY();
    return more;
}

void sleep_until_woken(const Loop &loop) {
    long wait = idle_ms;
    if (loop.next_due_ms >= 0)
        wait = Min(wait, loop.next_due_ms);
    if (loop.not_before > 0)
        wait = Max(TimestampDifferenceMilliseconds(GetCurrentTimestamp(), loop.not_before), 1);
    pgstat_report_activity(STATE_IDLE, nullptr);
    (void)pgstat_report_stat(true);
    (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, wait, PG_WAIT_EXTENSION);
}

void run_apply() {
    Loop loop = {};
    loop.context = AllocSetContextCreate(TopMemoryContext, "pg_tandem turn", ALLOCSET_DEFAULT_SIZES);
    loop.next_due_ms = -1;
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        if (ConfigReloadPending) {
            ConfigReloadPending = false;
            ProcessConfigFile(PGC_SIGHUP);
            announce_settings();
        }
        // Reset before looking, so that what is submitted while we look wakes us again.
        ResetLatch(MyLatch);
        MemoryContextSwitchTo(loop.context);
        MemoryContextReset(loop.context);
        if (loop.not_before > GetCurrentTimestamp() || !guarded_turn(&loop))
            sleep_until_woken(loop);
        else
            (void)pgstat_report_stat(false);
    }
}

} // namespace

// A function of a target's owner may have changed a setting of the session; a transaction starts from ours in any case.
void pin_transaction() {
    char timeout[16];
    for (const Pin &pin : pins)
        set_local(pin.name, pin.value);
    snprintf(timeout, sizeof timeout, "%d", apply_lock_timeout);
    set_local("lock_timeout", timeout);
}

void begin_report_transaction() {
    MemoryContext context = CurrentMemoryContext;
    SetCurrentStatementStartTimestamp();
    StartTransactionCommand();
    PushActiveSnapshot(GetTransactionSnapshot()); // SPI wants one underneath; every statement takes a newer one of its own
    MemoryContextSwitchTo(context);
}

void begin_apply_transaction() {
    begin_report_transaction();
    pin_transaction();
    refresh_catalog();
}

void commit_apply_transaction() {
    MemoryContext context = CurrentMemoryContext;
    set_local("synchronous_commit", "on");
    PopActiveSnapshot();
    CommitTransactionCommand();
    MemoryContextSwitchTo(context);
}

} // namespace tandem

extern "C" void tandem_apply_main(Datum argument) {
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnectionByOid(DatumGetObjectId(argument), InvalidOid, 0);
    if (!tandem::launcher_worker_begins())
        proc_exit(0);
    tandem::leave_if_dropped();
    tandem::pin_session();
    tandem::watch_targets();
    tandem::register_apply_worker();
    tandem::run_apply();
}
