// How a function waits for something that another session commits: in shared memory, without polling tables, without a snapshot.
#pragma once

#include "shared_state.hpp"

namespace tandem {

// A function that waits looks at tables again and again; only READ COMMITTED lets it see anything new. Error otherwise; `what` names it.
void require_read_committed(const char *what);

// Whether the statement that called this function reads nothing but its result. Then its snapshot may be given back while it sleeps.
bool statement_is_only(FunctionCallInfo fcinfo);

// Sleeps until something was committed since `seen` was read from database->moves (true), or until the deadline (false). Can be
// cancelled. give_back_snapshot: only if statement_is_only.
bool wait_for_move(DatabaseSlot *database, std::uint64_t seen, TimestampTz deadline, bool give_back_snapshot);

// now + ms; negative: never
TimestampTz deadline_after(std::int64_t ms);

// In milliseconds; error if it is negative or absurdly long.
std::int64_t interval_ms(const char *name, Datum interval);

} // namespace tandem
