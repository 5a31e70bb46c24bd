// Shared memory: its hooks, its slots, and waking. See shmem.hpp and the lock protocol in shared_state.hpp.
#include <cstring>

#include "pg/postgres.hpp"

#include "guc.hpp"
#include "launcher.hpp"
#include "shared_state.hpp"
#include "shmem.hpp"

extern "C" {
#include "access/xact.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
}

namespace tandem {

namespace {

constexpr const char *tranche_name = "pg_tandem";

SharedState *state = nullptr;
LWLock *lock = nullptr;
DatabaseSlot *my_database_slot = nullptr;

shmem_request_hook_type previous_request_hook = nullptr;
shmem_startup_hook_type previous_startup_hook = nullptr;

Size state_size() { return add_size(sizeof(SharedState), mul_size(sizeof(TableSlot), static_cast<Size>(max_tables))); }

void init_histogram(Histogram *histogram) {
    for (int i = 0; i < histogram_buckets; i++)
        pg_atomic_init_u64(&histogram->count[i], 0);
}

void init_database(DatabaseSlot *slot, std::uint64_t now) {
    ConditionVariableInit(&slot->changed);
    pg_atomic_init_u64(&slot->moves, 0);
    // Not from 0 again after a restart: a worker that kept its number over it must see a new one.
    pg_atomic_init_u64(&slot->generation, now);
    pg_atomic_init_u32(&slot->apply_proc, no_proc);
    pg_atomic_init_u32(&slot->apply_pid, 0);
    pg_atomic_init_u32(&slot->answers_left, 1);
    pg_atomic_init_u64(&slot->reset_at, now);
}

void init_source(SourceSlot *slot) {
    SourceStats *s = &slot->stats;
    pg_atomic_uint64 *const counters[] = {&slot->key,
                                          &slot->barrier_raised,
                                          &slot->barrier_reached,
                                          &slot->barrier_retrying,
                                          &s->fetch_us,
                                          &s->copy_us,
                                          &s->delete_us,
                                          &s->polls,
                                          &s->reconnects,
                                          &s->rss_kb,
                                          &s->reported_at,
                                          &s->batches,
                                          &s->rows,
                                          &s->bytes,
                                          &s->batch_fetch_us,
                                          &s->apply_us,
                                          &s->refused,
                                          &s->narrowed,
                                          &s->applied_at};
    for (pg_atomic_uint64 *counter : counters)
        pg_atomic_init_u64(counter, 0);
    init_histogram(&s->apply);
}

void init_table(TableSlot *slot) {
    TableStats *s = &slot->stats;
    pg_atomic_uint64 *const counters[] = {&slot->key,      &s->captured,      &s->upserted,        &s->deleted,
                                          &s->retried,     &s->dead_lettered, &s->superseded,      &s->applied_at,
                                          &s->outbox_rows, &s->oldest_us,     &s->capture_cost_ns, &s->reported_at};
    for (pg_atomic_uint64 *counter : counters)
        pg_atomic_init_u64(counter, 0);
    init_histogram(&s->latency);
}

void init_state() {
    memset(static_cast<void *>(state), 0, state_size());
    const std::uint64_t now = static_cast<std::uint64_t>(GetCurrentTimestamp());
    pg_atomic_init_u64(&state->last_question, now);
    for (DatabaseSlot &slot : state->databases)
        init_database(&slot, now);
    for (SourceSlot &slot : state->sources)
        init_source(&slot);
    for (int i = 0; i < max_tables; i++)
        init_table(&table_slots()[i]);
}

void request_shmem() {
    if (previous_request_hook != nullptr)
        previous_request_hook();
    RequestAddinShmemSpace(add_size(state_size(), launcher_shmem_size()));
    RequestNamedLWLockTranche(tranche_name, 1);
}

void startup_shmem() {
    if (previous_startup_hook != nullptr)
        previous_startup_hook();
    LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
    bool found = false;
    state = static_cast<SharedState *>(ShmemInitStruct(tranche_name, state_size(), &found));
    lock = &GetNamedLWLockTranche(tranche_name)->lock;
    if (!found)
        init_state();
    launcher_shmem_init();
    LWLockRelease(AddinShmemInitLock);
}

// --- slots ------------------------------------------------------------------------------------------------------------------------

// Frees what belongs to databases that were dropped. Looks them up without the lock: nobody can be connected to them any more.
void free_slots_of_dropped_databases() {
    if (!IsTransactionState())
        return;
    for (DatabaseSlot &slot : state->databases) {
        const Oid database = slot.database;
        if (!OidIsValid(database) || SearchSysCacheExists1(DATABASEOID, ObjectIdGetDatum(database)))
            continue;
        LWLockAcquire(lock, LW_EXCLUSIVE);
        if (slot.database == database)
            slot.database = InvalidOid;
        for (SourceSlot &source : state->sources)
            if (pg_atomic_read_u64(&source.key) >> 32 == database)
                init_source(&source);
        for (int i = 0; i < max_tables; i++)
            if (pg_atomic_read_u64(&table_slots()[i].key) >> 32 == database)
                init_table(&table_slots()[i]);
        LWLockRelease(lock);
    }
}

DatabaseSlot *take_database_slot() {
    DatabaseSlot *found = nullptr;
    LWLockAcquire(lock, LW_EXCLUSIVE);
    for (DatabaseSlot &slot : state->databases) {
        if (slot.database == MyDatabaseId) {
            found = &slot;
            break;
        }
        if (found == nullptr && !OidIsValid(slot.database))
            found = &slot;
    }
    if (found != nullptr && found->database != MyDatabaseId) {
        found->database = MyDatabaseId;
        found->error_at = 0;
        found->error_sqlstate[0] = '\0';
        found->error_message[0] = '\0';
    }
    LWLockRelease(lock);
    return found;
}

// Finds the slot with this key in a pool, or takes a free one. Slot: SourceSlot or TableSlot.
template <typename Slot> Slot *take_keyed_slot(Slot *pool, int size, std::uint64_t key) {
    LWLockAcquire(lock, LW_SHARED);
    for (int i = 0; i < size; i++) {
        if (pg_atomic_read_u64(&pool[i].key) == key) {
            LWLockRelease(lock);
            return &pool[i];
        }
    }
    LWLockRelease(lock);

    Slot *found = nullptr;
    LWLockAcquire(lock, LW_EXCLUSIVE);
    for (int i = 0; i < size; i++) {
        const std::uint64_t there = pg_atomic_read_u64(&pool[i].key);
        if (there == key) {
            found = &pool[i];
            break;
        }
        if (found == nullptr && there == 0)
            found = &pool[i];
    }
    if (found != nullptr)
        pg_atomic_write_u64(&found->key, key);
    LWLockRelease(lock);
    return found;
}

// --- end of a session -------------------------------------------------------------------------------------------------------------

extern "C" void session_ends(int, Datum) {
    bool told = false;
    LWLockAcquire(lock, LW_EXCLUSIVE);
    for (SessionSlot &session : state->sessions) {
        if (session.pid == MyProcPid) {
            session.pid = 0;
            told = true;
        }
    }
    for (QuestionSlot &question : state->questions) {
        if (question.state == QuestionState::taken && question.worker_pid == MyProcPid) {
            question.worker_gone = true;
            told = true;
        }
    }
    LWLockRelease(lock);
    if (my_database_slot != nullptr && pg_atomic_read_u32(&my_database_slot->apply_pid) == static_cast<std::uint32_t>(MyProcPid)) {
        pg_atomic_write_u32(&my_database_slot->apply_proc, no_proc);
        pg_atomic_write_u32(&my_database_slot->apply_pid, 0);
    }
    if (told)
        notify_waiters();
}

// --- at commit --------------------------------------------------------------------------------------------------------------------

// What the current transaction wants to happen at its commit. A subtransaction that is rolled back leaves its wish here: a superfluous
// wake-up makes others look once and find nothing.
struct Pending {
    bool wake_apply;
    bool notify;
    bool bump_config;
};
Pending pending;
bool callback_registered = false;

extern "C" void transaction_ends(XactEvent event, void *) {
    if (event == XACT_EVENT_PRE_PREPARE && (pending.wake_apply || pending.notify || pending.bump_config))
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("cannot PREPARE a transaction that calls functions of pg_tandem"),
                        errdetail("Others are told of its changes when it commits, and the session that commits it could not know."),
                        errhint("Commit it in one phase.")));
    if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT)
        return;
    const Pending todo = pending;
    pending = Pending{};
    if (event == XACT_EVENT_ABORT)
        return;
    if (todo.bump_config && my_database_slot != nullptr)
        pg_atomic_fetch_add_u64(&my_database_slot->generation, 1);
    if (todo.wake_apply || todo.bump_config)
        wake_apply();
    if (todo.notify || todo.bump_config || todo.wake_apply)
        notify_waiters();
}

void expect_commit() {
    find_database_slot(); // now: at commit no slot can be made
    if (!callback_registered) {
        RegisterXactCallback(transaction_ends, nullptr);
        callback_registered = true;
    }
}

} // namespace

// --- for the other files ----------------------------------------------------------------------------------------------------------

SharedState *shared_state() { return state; }
LWLock *shared_lock() { return lock; }
TableSlot *table_slots() { return reinterpret_cast<TableSlot *>(state + 1); }

DatabaseSlot *find_database_slot() {
    if (state == nullptr || !OidIsValid(MyDatabaseId))
        return nullptr;
    if (my_database_slot == nullptr)
        my_database_slot = take_database_slot();
    if (my_database_slot == nullptr) {
        free_slots_of_dropped_databases();
        my_database_slot = take_database_slot();
    }
    return my_database_slot;
}

DatabaseSlot *require_database_slot() {
    if (state == nullptr)
        ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("pg_tandem must be loaded when the server starts"),
                        errhint("Add pg_tandem to shared_preload_libraries and restart the server.")));
    DatabaseSlot *database = find_database_slot();
    if (database == nullptr)
        ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED), errmsg("pg_tandem is used in too many databases of this server"),
                        errdetail("There is room for %d.", max_databases)));
    return database;
}

SourceSlot *find_source_slot(int source_id) {
    if (find_database_slot() == nullptr)
        return nullptr;
    SourceSlot *slot = take_keyed_slot(state->sources, max_sources, slot_key(source_id));
    if (slot != nullptr)
        return slot;
    free_slots_of_dropped_databases();
    return take_keyed_slot(state->sources, max_sources, slot_key(source_id));
}

TableSlot *find_table_slot(int table_id) {
    if (find_database_slot() == nullptr)
        return nullptr;
    return take_keyed_slot(table_slots(), max_tables, slot_key(table_id));
}

void watch_session_end() {
    static bool watched = false;
    if (watched)
        return;
    before_shmem_exit(session_ends, static_cast<Datum>(0));
    watched = true;
}

// --- shmem.hpp --------------------------------------------------------------------------------------------------------------------

void shmem_install_hooks() {
    previous_request_hook = shmem_request_hook;
    shmem_request_hook = request_shmem;
    previous_startup_hook = shmem_startup_hook;
    shmem_startup_hook = startup_shmem;
}

bool shmem_ready() { return state != nullptr; }

void register_apply_worker() {
    DatabaseSlot *database = find_database_slot();
    if (database == nullptr)
        return;
#if PG_VERSION_NUM >= 170000
    const std::uint32_t proc = static_cast<std::uint32_t>(MyProcNumber);
#else
    const std::uint32_t proc = static_cast<std::uint32_t>(MyProc->pgprocno);
#endif
    watch_session_end();
    pg_atomic_write_u32(&database->apply_pid, static_cast<std::uint32_t>(MyProcPid));
    pg_atomic_write_u32(&database->apply_proc, proc);
}

void wake_apply() {
    DatabaseSlot *database = find_database_slot();
    if (database == nullptr)
        return;
    // The worker may have gone a moment ago: then a stranger's latch is set, which every process must be able to bear.
    const std::uint32_t proc = pg_atomic_read_u32(&database->apply_proc);
    if (proc != no_proc)
        SetLatch(&GetPGProcByNumber(static_cast<int>(proc))->procLatch);
}

void notify_waiters() {
    DatabaseSlot *database = find_database_slot();
    if (database == nullptr)
        return;
    pg_atomic_fetch_add_u64(&database->moves, 1);
    ConditionVariableBroadcast(&database->changed);
}

void wake_apply_on_commit() {
    expect_commit();
    pending.wake_apply = true;
}

void notify_waiters_on_commit() {
    expect_commit();
    pending.notify = true;
}

std::uint64_t config_generation() {
    DatabaseSlot *database = find_database_slot();
    return database == nullptr ? 0 : pg_atomic_read_u64(&database->generation);
}

void announce_settings() {
    DatabaseSlot *database = find_database_slot();
    if (database == nullptr)
        return;
    pg_atomic_fetch_add_u64(&database->generation, 1);
    notify_waiters();
}

void bump_config_on_commit() {
    expect_commit();
    pending.bump_config = true;
}

} // namespace tandem
