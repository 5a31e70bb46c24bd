// Leaf: runs a piece of work in a subtransaction and turns a PostgreSQL error into a value.
//
// This is the only way in which an error is caught and survived inside a transaction: the subtransaction undoes what the work did, and
// memory context, resource owner, user id and SPI connections are those from before. The work is a plain function with a plain
// argument; an error jumps out of it.
#pragma once

#include "pg/postgres.hpp"

namespace tandem {

struct SqlError {
    int code = 0; // encoded SQLSTATE (ERRCODE_…), 0 = no error
    char sqlstate[6] = {0};
    char message[512] = {0};
    char detail[512] = {0};

    bool is_class(const char *two) const { return sqlstate[0] == two[0] && sqlstate[1] == two[1]; }
};

using Work = void (*)(void *argument);

// True: done, its effects belong to the current transaction. False: undone, `error` tells why. Memory that the work allocated in the
// current context stays in either case (until that context is reset).
bool run_in_subtransaction(Work work, void *argument, SqlError *error);

// Does the work and undoes it. Memory stays as above; an error of the work goes on to the caller's caller.
void run_and_undo(Work work, void *argument);

// Copies the error being handled (inside PG_CATCH, in a context that survives) and clears the error state.
void take_error(MemoryContext context, SqlError *error);

} // namespace tandem
