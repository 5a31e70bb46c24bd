// Shared memory of pg_tandem: who is awake, what is asked, what happened. Live numbers and latches only; everything that must survive a
// crash is in tables.
//
// Lock protocol: `lock` (LWLock) exclusive to add or remove a database, table or session slot and to change a question's state; shared to find
// one. Counters are pg_atomic_uint64 and are changed without it. `changed` (condition variable) is broadcast by notify_waiters whenever
// something a waiter may look for has been *committed*. Waiters re-check under their own snapshot.
// All structs are standard layout, fixed size, without pointers.
//
// The functions below are safe to call from any backend of the current database; none of them throws a C++ exception.
#pragma once

#include <cstdint>

namespace tandem {

void shmem_install_hooks(); // from _PG_init
bool shmem_ready();         // false when the library was not preloaded

// --- waking each other (current database) -----------------------------------------------------------------------------------------
void register_apply_worker(); // called by the apply worker for itself: its latch is what wake_apply sets
void wake_apply();            // a batch was submitted, a retry was asked for
void notify_waiters();        // something was committed: journal rows, requests, answers, barrier
void wake_apply_on_commit();  // the same two at commit of the current transaction (nothing on abort)
void notify_waiters_on_commit();
std::uint64_t config_generation();
void announce_settings();     // settings were reloaded: generation + 1 and notify_waiters at once, so that workers ask for them
void bump_config_on_commit(); // configuration changed: generation + 1 and notify_waiters at commit of the current transaction

} // namespace tandem
