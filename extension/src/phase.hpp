// The phase of a table as any backend sees it: the newest committed row of tandem.phase (or one's own), read without SPI and without a check of rights.
//
// Not the caller's snapshot: a writer at REPEATABLE READ whose snapshot is older than a move must see the move. Whoever needs the phase to
// stay as it is holds a lock that the move waits for (the target's RowExclusiveLock, which every writer of the target has).
#pragma once

#include "pg/postgres.hpp"

namespace tandem {

constexpr int phase_name_length = 24;

struct Phase {
    char phase[phase_name_length];
    std::int64_t epoch;
    char read_strategy[phase_name_length];
    char direct_writes[phase_name_length]; // refuse, record, allow
};

bool read_phase(int table_id, Phase *phase); // false: the table is not known

} // namespace tandem
