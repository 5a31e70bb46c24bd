// What a pump waits for, and the barrier of wait_caught_up (docs/protocol.md sections 5 and 8).
#pragma once

#include "pg/postgres.hpp"

namespace tandem {

Datum wait_events(FunctionCallInfo fcinfo);
std::int32_t raise_barriers();                                        // returns how many sources have running tables
bool wait_barriers(FunctionCallInfo fcinfo, std::int64_t timeout_ms); // negative: for ever
void set_barrier_reached(int source_id, std::int64_t barrier);

} // namespace tandem
