// Sessions of the old side that keep a cut-over from its lock, ended by the names of their users: those who asked for the cut-over said whose.
#pragma once

#include "core/types.hpp"

#include <string>
#include <vector>

namespace tandem::mysql {

class Client;

struct EndedSession {
    std::string id, user, host;
    std::string trouble; // not empty: it could not be ended, and why
};

// KILLs sessions of these users that have had a transaction open, or run a statement, for a second at least; with `idle` those on the
// application's database that show neither as well, because no server tells who holds LOCK TABLES. Sessions that wait for a lock are in nobody's
// way. Without PROCESS none is seen; without SUPER (MySQL 8: CONNECTION_ADMIN) a KILL fails, which is told.
std::vector<EndedSession> end_blockers(Client &client, const core::SourceConnection &connection, const std::vector<std::string> &users,
                                       bool idle);

} // namespace tandem::mysql
