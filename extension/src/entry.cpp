// Library entry: magic block and _PG_init.
#include "pg/postgres.hpp"

#include "guc.hpp"
#include "launcher.hpp"
#include "routed_plan.hpp"
#include "shmem.hpp"

extern "C" {
#include "storage/ipc.h"

PG_MODULE_MAGIC;
PGDLLEXPORT void _PG_init(void);
}

namespace {

// The line an administrator has to write, with what is there already kept.
[[noreturn]] void refuse_late_load() {
    const char *loaded = shared_preload_libraries_string;
    const bool empty = loaded == nullptr || loaded[0] == '\0';
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE), errmsg("pg_tandem must be loaded when the server starts"),
                    errdetail("It needs shared memory and background workers, which a running server cannot add."),
                    errhint("Put the line  shared_preload_libraries = '%s%spg_tandem'  into postgresql.conf and restart the server.",
                            empty ? "" : loaded, empty ? "" : ", ")));
    pg_unreachable();
}

} // namespace

extern "C" void _PG_init(void) {
    // pg_upgrade recreates our functions in a server that it starts without preloaded libraries; nothing of ours runs there.
    if (!process_shared_preload_libraries_in_progress) {
        if (IsBinaryUpgrade)
            return;
        refuse_late_load();
    }
    tandem::define_settings();
    tandem::shmem_install_hooks();
    tandem::register_launcher();
    tandem::install_launcher_hooks();
    tandem::install_planner_hook();
}
