// The text of everything that capture creates on the old side (docs/old-side.md). Pure text: made here, run by ControlSession, compared
// with what the server has to see whether somebody changed it.
#pragma once

#include "core/types.hpp"

#include <array>
#include <string>

namespace tandem::mysql {

inline constexpr const char *gap_table = "capture_gap";
inline constexpr const char *server_mark = "server_mark";

struct Trigger {
    std::string name;
    std::string event; // INSERT, UPDATE, DELETE
    std::string body;  // BEGIN … END
};

// sql_mode and client character set that triggers are created with; they belong to the trigger, whatever the application's session says.
extern const char *const trigger_sql_mode;

std::string create_metadata_database(const core::SourceConnection &connection);
std::string create_gap_table(const core::SourceConnection &connection);
std::string create_server_mark(const core::SourceConnection &connection);
std::string set_server_mark(const core::SourceConnection &connection, const std::string &id); // keeps a mark that is there
std::string create_outbox(const core::SourceConnection &connection, const core::TableConfig &table);
std::array<Trigger, 3> triggers(const core::SourceConnection &connection, const core::TableConfig &table);
std::string create_trigger(const core::SourceConnection &connection, const core::TableConfig &table, const Trigger &trigger);

} // namespace tandem::mysql
