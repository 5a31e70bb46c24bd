// Marks on the old side: transactions of PostgreSQL that were written there and are not acknowledged yet (docs/protocol.md section 19; model G: mark).
// A mark is made in the transaction that it marks, so whoever finds it knows that all of that transaction is there.
#pragma once

#include "core/types.hpp"

#include <set>
#include <string>
#include <vector>

namespace tandem::mysql {

class Client;

inline constexpr const char *write_mark = "write_mark"; // table of the metadata database

std::string create_write_mark(const core::SourceConnection &connection);

// Those of the marks that are there.
std::set<std::string> find_marks(Client &client, const core::SourceConnection &connection, const std::vector<std::string> &marks);
void make_marks(Client &client, const core::SourceConnection &connection, const std::vector<std::string> &marks);
void forget_marks(Client &client, const core::SourceConnection &connection, const std::vector<std::string> &marks);

} // namespace tandem::mysql
