// Launcher: one background worker per cluster that keeps one apply worker alive in every database that has the extension.
//
// Only a process connected to a database can tell whether the extension is there. So the launcher starts an apply worker once in every
// database; one that finds no extension says so (launcher_worker_absent) and ends. CREATE EXTENSION calls tandem._database_ready(),
// which wakes the launcher at commit.
//
// Shared state: one slot per database in a struct of its own, which shmem.cpp requests and initialises together with everything else.
#pragma once

#include <cstddef>

namespace tandem {

std::size_t launcher_shmem_size(); // to be added to RequestAddinShmemSpace
void launcher_shmem_init();        // under AddinShmemInitLock; runs in every process that attaches

void register_launcher();      // from _PG_init, while the server preloads libraries
void install_launcher_hooks(); // DROP DATABASE and the like go ahead: our apply worker leaves first

// For the apply worker of the current database.
bool launcher_worker_begins(); // false: another apply worker is alive in this database
void launcher_worker_absent(); // the extension is not here (any more): do not start again until somebody creates it

} // namespace tandem
