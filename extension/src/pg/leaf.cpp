// See leaf.hpp.
#include "pg/leaf.hpp"

extern "C" {
#include "access/xact.h"
#include "mb/pg_wchar.h"
#include "utils/resowner.h"
}

namespace tandem {

void take_error(MemoryContext context, SqlError *error) {
    MemoryContextSwitchTo(context);
    ErrorData *data = CopyErrorData();
    FlushErrorState();
    error->code = data->sqlerrcode;
    strlcpy(error->sqlstate, unpack_sql_state(data->sqlerrcode), sizeof error->sqlstate);
    strlcpy(error->message, data->message != nullptr ? data->message : "", sizeof error->message);
    strlcpy(error->detail, data->detail != nullptr ? data->detail : "", sizeof error->detail);
    // strlcpy may have cut a multi-byte character in two; the text goes into tables.
    error->message[pg_mbcliplen(error->message, static_cast<int>(strlen(error->message)), sizeof error->message - 1)] = '\0';
    error->detail[pg_mbcliplen(error->detail, static_cast<int>(strlen(error->detail)), sizeof error->detail - 1)] = '\0';
    FreeErrorData(data);
}

bool run_in_subtransaction(Work work, void *argument, SqlError *error) {
    MemoryContext context = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;
    volatile bool done = false;

    BeginInternalSubTransaction(nullptr);
    MemoryContextSwitchTo(context);
    PG_TRY();
    {
        work(argument);
        ReleaseCurrentSubTransaction();
        done = true;
    }
    PG_CATCH();
    {
        take_error(context, error);
        RollbackAndReleaseCurrentSubTransaction();
    }
    PG_END_TRY();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
    return done;
}

void run_and_undo(Work work, void *argument) {
    MemoryContext context = CurrentMemoryContext;
    ResourceOwner owner = CurrentResourceOwner;

    BeginInternalSubTransaction(nullptr);
    MemoryContextSwitchTo(context);
    work(argument);
    RollbackAndReleaseCurrentSubTransaction();
    MemoryContextSwitchTo(context);
    CurrentResourceOwner = owner;
}

} // namespace tandem
