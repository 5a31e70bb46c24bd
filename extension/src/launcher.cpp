// See launcher.hpp.
//
// Lock protocol: `lock` of the shared struct, exclusive for every change of a slot, shared to read. Slots are never moved; a slot whose
// database is gone is freed by the launcher. The launcher's own list (Known) is private memory and is rebuilt after a restart.
#include "pg/postgres.hpp"

#include "launcher.hpp"
#include "pg/compat.hpp"

extern "C" {
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "nodes/parsenodes.h"
#include "commands/defrem.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

PGDLLEXPORT void tandem_launcher_main(Datum argument);
}

namespace tandem {
namespace {

constexpr int max_databases = 256;
constexpr int no_process = -1;
constexpr int rescan_ms = 60 * 1000; // a database made from a template that has the extension announces itself to nobody
constexpr int restart_first_ms = 1000;
constexpr int restart_longest_ms = 60 * 1000;
constexpr int stable_ms = 60 * 1000; // a worker that lived this long starts again without delay
constexpr int hold_ms = 10 * 1000;   // DROP DATABASE waits 5 s for others to leave

struct Slot {
    Oid database;        // InvalidOid: free
    std::uint32_t ready; // raised by _database_ready
    std::uint32_t seen;  // value of `ready` when the last worker began
    bool absent;         // that worker found no extension
    bool present;        // that worker found it
    int worker_pid;      // 0: none
    TimestampTz hold_until;
};

struct LauncherShared {
    LWLock lock;
    int tranche;
    int launcher_procno; // index into ProcGlobal->allProcs, whose latch wakes the launcher
    Slot slots[max_databases];
};

LauncherShared *shared = nullptr;
ProcessUtility_hook_type next_utility = nullptr;

// The caller holds the lock (exclusively when `create`).
Slot *find_slot(Oid database, bool create) {
    Slot *unused = nullptr;
    for (Slot &slot : shared->slots) {
        if (slot.database == database)
            return &slot;
        if (unused == nullptr && !OidIsValid(slot.database))
            unused = &slot;
    }
    if (!create || unused == nullptr)
        return nullptr;
    memset(unused, 0, sizeof *unused);
    unused->database = database;
    return unused;
}

void wake_launcher() {
    LWLockAcquire(&shared->lock, LW_SHARED);
    const int procno = shared->launcher_procno;
    LWLockRelease(&shared->lock);
    if (procno != no_process)
        SetLatch(&ProcGlobal->allProcs[procno].procLatch);
}

// --- the launcher's own view -------------------------------------------------------------------------------------------------------

struct Known {
    Oid database;
    char name[NAMEDATALEN];
    bool seen_in_scan;
    bool wanted; // start a worker
    bool proven; // a worker found the extension
    std::uint32_t handled_ready;
    BackgroundWorkerHandle *handle; // of the running worker, else nullptr
    TimestampTz started_at;
    TimestampTz next_start;
    int failures;
};

Known known[max_databases];
int known_count = 0;

Known *remember(Oid database, const char *name) {
    for (int i = 0; i < known_count; i++)
        if (known[i].database == database)
            return &known[i];
    if (known_count == max_databases)
        return nullptr;
    Known *fresh = &known[known_count++];
    memset(fresh, 0, sizeof *fresh);
    fresh->database = database;
    strlcpy(fresh->name, name, sizeof fresh->name);
    fresh->wanted = true;
    return fresh;
}

void scan_databases() {
    bool full = false;
    for (int i = 0; i < known_count; i++)
        known[i].seen_in_scan = false;

    StartTransactionCommand();
    (void)GetTransactionSnapshot();
    Relation relation = table_open(DatabaseRelationId, AccessShareLock);
    TableScanDesc scan = table_beginscan_catalog(relation, 0, nullptr);
    for (HeapTuple tuple; (tuple = heap_getnext(scan, ForwardScanDirection)) != nullptr;) {
        auto row = reinterpret_cast<Form_pg_database>(GETSTRUCT(tuple));
        if (!row->datallowconn || row->datistemplate)
            continue;
        Known *entry = remember(row->oid, NameStr(row->datname));
        if (entry != nullptr)
            entry->seen_in_scan = true;
        else
            full = true;
    }
    table_endscan(scan);
    table_close(relation, AccessShareLock);
    CommitTransactionCommand();

    if (full)
        ereport(WARNING, (errmsg("pg_tandem looks after %d databases at most", max_databases)));

    for (int i = 0; i < known_count;) {
        if (known[i].seen_in_scan || known[i].handle != nullptr) {
            i++;
            continue;
        }
        LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
        Slot *slot = find_slot(known[i].database, false);
        if (slot != nullptr)
            slot->database = InvalidOid;
        LWLockRelease(&shared->lock);
        known[i] = known[--known_count];
    }
}

// Workers that ended: absent extension means leave it, anything else means start again later.
void look_after_running(TimestampTz now) {
    for (int i = 0; i < known_count; i++) {
        Known *entry = &known[i];
        pid_t pid;
        LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
        Slot *slot = find_slot(entry->database, true);
        const Slot state = slot != nullptr ? *slot : Slot{};
        LWLockRelease(&shared->lock);

        if (entry->handle != nullptr && state.present)
            entry->proven = true;
        if (entry->handle != nullptr && GetBackgroundWorkerPid(entry->handle, &pid) == BGWH_STOPPED) {
            pfree(entry->handle);
            entry->handle = nullptr;
            if (state.absent && state.seen == state.ready) {
                entry->wanted = entry->proven = false;
                entry->failures = 0;
            } else {
                if (TimestampDifferenceExceeds(entry->started_at, now, stable_ms))
                    entry->failures = 0;
                const int shift = Min(entry->failures, 10);
                const int delay = entry->failures == 0 ? 0 : Min(restart_first_ms << (shift - 1), restart_longest_ms);
                entry->failures++;
                entry->next_start = TimestampTzPlusMilliseconds(now, delay);
            }
        }
        if (state.ready != entry->handled_ready) {
            entry->handled_ready = state.ready;
            entry->wanted = true;
            entry->failures = 0;
            entry->next_start = now;
        }
        if (state.hold_until > entry->next_start)
            entry->next_start = state.hold_until;
    }
}

void start_worker(Known *entry, TimestampTz now) {
    BackgroundWorker worker;
    memset(&worker, 0, sizeof worker);
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = BGW_NEVER_RESTART;
    worker.bgw_main_arg = ObjectIdGetDatum(entry->database);
    worker.bgw_notify_pid = MyProcPid;
    strlcpy(worker.bgw_library_name, "pg_tandem", sizeof worker.bgw_library_name);
    strlcpy(worker.bgw_function_name, "tandem_apply_main", sizeof worker.bgw_function_name);
    snprintf(worker.bgw_name, sizeof worker.bgw_name, "pg_tandem apply: %s", entry->name);
    strlcpy(worker.bgw_type, "pg_tandem apply", sizeof worker.bgw_type);

    entry->started_at = now;
    MemoryContext before = MemoryContextSwitchTo(TopMemoryContext);
    const bool registered = RegisterDynamicBackgroundWorker(&worker, &entry->handle);
    MemoryContextSwitchTo(before);
    if (!registered) {
        entry->handle = nullptr;
        entry->next_start = TimestampTzPlusMilliseconds(now, restart_longest_ms);
        ereport(WARNING, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
                          errmsg("pg_tandem cannot start its apply worker for database \"%s\"", entry->name),
                          errdetail("There is no free background worker slot."),
                          errhint("Increase max_worker_processes; every database that uses pg_tandem needs one, the launcher another.")));
    }
}

// Starts what is due. Returns the time until something else is, in ms.
long start_due(TimestampTz now) {
    long wait = rescan_ms;
    bool probing = false;
    for (int i = 0; i < known_count; i++)
        if (known[i].handle != nullptr && !known[i].proven)
            probing = true;
    for (int i = 0; i < known_count; i++) {
        Known *entry = &known[i];
        if (!entry->wanted || entry->handle != nullptr)
            continue;
        if (entry->next_start > now) {
            wait = Min(wait, TimestampDifferenceMilliseconds(now, entry->next_start));
            continue;
        }
        // One unproven database at a time: a cluster with many databases must not use up the background worker slots.
        if (!entry->proven && probing)
            continue;
        start_worker(entry, now);
        probing = probing || !entry->proven;
    }
    return wait;
}

// A database that was created after the last scan and announced itself.
bool anything_unknown() {
    bool unknown = false;
    LWLockAcquire(&shared->lock, LW_SHARED);
    for (const Slot &slot : shared->slots) {
        bool listed = !OidIsValid(slot.database) || slot.ready == 0;
        for (int i = 0; i < known_count && !listed; i++)
            listed = known[i].database == slot.database;
        unknown = unknown || !listed;
    }
    LWLockRelease(&shared->lock);
    return unknown;
}

bool anything_due(TimestampTz now) {
    for (int i = 0; i < known_count; i++)
        if (known[i].wanted && known[i].handle == nullptr && known[i].next_start <= now)
            return true;
    return false;
}

void launcher_left(int, Datum) {
    LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
    shared->launcher_procno = no_process;
    LWLockRelease(&shared->lock);
}

// A launcher that was terminated alone leaves workers behind that it no longer knows; they are ended and started anew.
void end_leftover_workers() {
    LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
    shared->launcher_procno = MyProc->pgprocno;
    for (Slot &slot : shared->slots)
        if (OidIsValid(slot.database) && slot.worker_pid != 0)
            kill(slot.worker_pid, SIGTERM);
    LWLockRelease(&shared->lock);
    before_shmem_exit(launcher_left, 0);
}

void run_launcher() {
    TimestampTz next_scan = 0;
    for (;;) {
        CHECK_FOR_INTERRUPTS();
        if (ConfigReloadPending) {
            ConfigReloadPending = false;
            ProcessConfigFile(PGC_SIGHUP);
        }
        TimestampTz now = GetCurrentTimestamp();
        look_after_running(now);
        // Also right before a start: the database may have been dropped meanwhile.
        if (now >= next_scan || anything_due(now) || anything_unknown()) {
            scan_databases();
            look_after_running(now);
            next_scan = TimestampTzPlusMilliseconds(now, rescan_ms);
        }
        const long wait = start_due(now);
        pgstat_report_activity(STATE_IDLE, nullptr);
        (void)WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, wait, PG_WAIT_EXTENSION);
        ResetLatch(MyLatch);
    }
}

// --- announcements from other processes ---------------------------------------------------------------------------------------------

bool announce_at_commit = false;

void announce(XactEvent event, void *) {
    if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT)
        return;
    if (announce_at_commit && event == XACT_EVENT_COMMIT) {
        LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
        Slot *slot = find_slot(MyDatabaseId, true);
        if (slot != nullptr)
            slot->ready++;
        LWLockRelease(&shared->lock);
        wake_launcher();
    }
    announce_at_commit = false;
}

// Ends the apply worker of a database for a while.
void send_worker_away(const char *name) {
    const Oid database = get_database_oid(name, true);
    if (!OidIsValid(database) || !owns_database(database, GetUserId()))
        return;
    LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
    Slot *slot = find_slot(database, false);
    if (slot != nullptr) {
        slot->hold_until = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), hold_ms);
        if (slot->worker_pid != 0)
            kill(slot->worker_pid, SIGTERM);
    }
    LWLockRelease(&shared->lock);
}

void before_utility(PlannedStmt *statement, const char *query, bool read_only, ProcessUtilityContext context, ParamListInfo params,
                    QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion) {
    Node *node = statement->utilityStmt;
    if (shared != nullptr && IsA(node, DropdbStmt)) {
        send_worker_away(reinterpret_cast<DropdbStmt *>(node)->dbname);
    } else if (shared != nullptr && IsA(node, RenameStmt)) {
        auto rename = reinterpret_cast<RenameStmt *>(node);
        if (rename->renameType == OBJECT_DATABASE)
            send_worker_away(rename->subname);
    } else if (shared != nullptr && IsA(node, CreatedbStmt)) {
        ListCell *cell;
        foreach (cell, reinterpret_cast<CreatedbStmt *>(node)->options) {
            auto option = static_cast<DefElem *>(lfirst(cell));
            if (strcmp(option->defname, "template") == 0 && option->arg != nullptr)
                send_worker_away(defGetString(option));
        }
    }
    if (next_utility != nullptr)
        next_utility(statement, query, read_only, context, params, environment, dest, completion);
    else
        standard_ProcessUtility(statement, query, read_only, context, params, environment, dest, completion);
}

void worker_left(int, Datum) {
    LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
    Slot *slot = find_slot(MyDatabaseId, false);
    if (slot != nullptr && slot->worker_pid == MyProcPid)
        slot->worker_pid = 0;
    LWLockRelease(&shared->lock);
}

} // namespace

std::size_t launcher_shmem_size() { return MAXALIGN(sizeof(LauncherShared)); }

void launcher_shmem_init() {
    bool found;
    shared = static_cast<LauncherShared *>(ShmemInitStruct("pg_tandem launcher", sizeof(LauncherShared), &found));
    if (!found) {
        memset(shared, 0, sizeof *shared);
        shared->tranche = LWLockNewTrancheId();
        shared->launcher_procno = no_process;
        LWLockInitialize(&shared->lock, shared->tranche);
    }
    LWLockRegisterTranche(shared->tranche, "tandem_launcher");
}

void register_launcher() {
    BackgroundWorker worker;
    memset(&worker, 0, sizeof worker);
    worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
    worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
    worker.bgw_restart_time = 5;
    strlcpy(worker.bgw_library_name, "pg_tandem", sizeof worker.bgw_library_name);
    strlcpy(worker.bgw_function_name, "tandem_launcher_main", sizeof worker.bgw_function_name);
    strlcpy(worker.bgw_name, "pg_tandem launcher", sizeof worker.bgw_name);
    strlcpy(worker.bgw_type, "pg_tandem launcher", sizeof worker.bgw_type);
    RegisterBackgroundWorker(&worker);
}

void install_launcher_hooks() {
    next_utility = ProcessUtility_hook;
    ProcessUtility_hook = before_utility;
}

bool launcher_worker_begins() {
    LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
    Slot *slot = find_slot(MyDatabaseId, true);
    const bool free = slot != nullptr && (slot->worker_pid == 0 || BackendPidGetProc(slot->worker_pid) == nullptr);
    if (free) {
        slot->worker_pid = MyProcPid;
        slot->seen = slot->ready;
        slot->absent = false;
        slot->present = true; // corrected by launcher_worker_absent
    }
    LWLockRelease(&shared->lock);
    if (free)
        before_shmem_exit(worker_left, 0);
    return free;
}

void launcher_worker_absent() {
    LWLockAcquire(&shared->lock, LW_EXCLUSIVE);
    Slot *slot = find_slot(MyDatabaseId, false);
    if (slot != nullptr) {
        slot->absent = true;
        slot->present = false;
    }
    LWLockRelease(&shared->lock);
}

} // namespace tandem

extern "C" void tandem_launcher_main(Datum) {
    pqsignal(SIGHUP, SignalHandlerForConfigReload);
    pqsignal(SIGTERM, die);
    BackgroundWorkerUnblockSignals();
    BackgroundWorkerInitializeConnection(nullptr, nullptr, 0);
    tandem::end_leftover_workers();
    tandem::run_launcher();
}

TANDEM_FUNCTION(tandem_database_ready);
extern "C" Datum tandem_database_ready(PG_FUNCTION_ARGS) {
    (void)fcinfo;
    static bool registered = false;
    if (!registered) {
        RegisterXactCallback(tandem::announce, nullptr);
        registered = true;
    }
    tandem::announce_at_commit = true;
    PG_RETURN_VOID();
}
