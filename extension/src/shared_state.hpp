// Layout of the shared memory behind shmem.hpp, stats.hpp, events.hpp and questions.hpp. Only their .cpp files include this.
//
// Lock protocol (one LWLock, `shared_lock()`):
//   * exclusive: take or free a slot of any pool, change a question, write a text; shared: look for a slot, read a text;
//   * pg_atomic members are read and changed without it; a slot that was found stays where it is (pools never move), so a pointer to it
//     may be kept by the process; a table slot is recognised again by its `key`;
//   * `changed` and `moves` of a database: notify_waiters counts `moves` up, then broadcasts. A waiter reads `moves` *before* it looks at
//     tables under a snapshot of its own, so it cannot miss what is committed while it looks;
//   * nothing that may raise an error or wait for another lock runs while the lock is held.
// All structs are standard layout, of fixed size, without pointers to private memory.
#pragma once

#include <type_traits>

#include "pg/postgres.hpp"

#include "histogram.hpp"

extern "C" {
#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
}

namespace tandem {

constexpr int max_databases = 64;
constexpr int max_sources = 128;
constexpr int max_sessions = 256;
constexpr int max_questions = 32;
constexpr int question_bytes = 16 * 1024;
constexpr std::uint32_t no_proc = 0xffffffffU;

struct DatabaseSlot {
    Oid database; // InvalidOid: free
    ConditionVariable changed;
    pg_atomic_uint64 moves;      // how often something was committed that a waiter may look for
    pg_atomic_uint64 generation; // of the configuration
    pg_atomic_uint32 apply_proc; // number of the apply worker's PGPROC, no_proc: none
    pg_atomic_uint32 apply_pid;
    pg_atomic_uint32 answers_left; // 1: tandem.answer may hold rows that nobody reads any more
    pg_atomic_uint64 reset_at;     // TimestampTz of the last tandem.reset_stats, or of the server's start
    TimestampTz error_at;          // last error of the apply worker, 0: none
    char error_sqlstate[6];
    char error_message[512];
};

// A database session that said tandem.worker_hello.
struct SessionSlot {
    int pid; // 0: free
    Oid database;
    bool answers; // has asked for questions
    TimestampTz since;
    char worker[64];
};

enum class QuestionState : int { free, asked, taken };

struct QuestionSlot {
    QuestionState state;
    Oid database;
    std::uint64_t id;
    int worker_pid;
    bool worker_gone; // the session that took it ended, or took another one
    int length;
    char text[question_bytes];
};

struct SourceStats {
    pg_atomic_uint64 fetch_us, copy_us, delete_us, polls, reconnects, rss_kb, reported_at;          // by the worker
    pg_atomic_uint64 batches, rows, bytes, batch_fetch_us, apply_us, refused, narrowed, applied_at; // by apply
    Histogram apply;
};

struct SourceSlot {
    pg_atomic_uint64 key; // see slot_key, 0: free
    pg_atomic_uint64 barrier_raised;
    pg_atomic_uint64 barrier_reached;
    pg_atomic_uint64 barrier_retrying; // highest that was reached while rows waited to be retried
    char worker_version[32];
    SourceStats stats;
};

struct TableStats {
    pg_atomic_uint64 captured, upserted, deleted, retried, dead_lettered, superseded, applied_at;
    pg_atomic_uint64 outbox_rows, oldest_us, capture_cost_ns, reported_at; // the first is valid if reported_at is not 0
    Histogram latency;
};

struct TableSlot {
    pg_atomic_uint64 key;
    TableStats stats;
};

struct SharedState {
    pg_atomic_uint64 last_question; // ids are times of the clock: never used twice, over restarts as well
    DatabaseSlot databases[max_databases];
    SessionSlot sessions[max_sessions];
    QuestionSlot questions[max_questions];
    SourceSlot sources[max_sources];
    // Followed by max_tables of TableSlot, see table_slots.
};
static_assert(std::is_trivially_copyable_v<SharedState> && std::is_standard_layout_v<SharedState> &&
              sizeof(SharedState) % alignof(TableSlot) == 0);

inline std::uint64_t slot_key(int id) { return (static_cast<std::uint64_t>(MyDatabaseId) << 32) | static_cast<std::uint32_t>(id); }

TableSlot *table_slots();    // max_tables of them
SharedState *shared_state(); // nullptr when the library was not preloaded
LWLock *shared_lock();

// Slot of the current database; made when first asked for. nullptr: not preloaded, or all slots are taken.
DatabaseSlot *find_database_slot();
DatabaseSlot *require_database_slot(); // the same, or an error
// Slot of a source of the current database; made when missing. nullptr: all slots are taken.
SourceSlot *find_source_slot(int source_id);
TableSlot *find_table_slot(int table_id);

// Makes the end of this session be noticed: its slots are freed and waiters are woken. Once per process.
void watch_session_end();

} // namespace tandem
