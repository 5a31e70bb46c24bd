// Reads what information_schema says of a table, on MySQL 5.6 to 9 and MariaDB, into the JSON of docs/protocol.md section 9.
#pragma once

#include "core/types.hpp"
#include "mysql/control_client.hpp"

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tandem::mysql {

struct ServerVersion {
    std::string text;
    bool mariadb = false;
    int number = 0; // 10.11.19 → 101119, 5.6.24 → 50624
};

ServerVersion server_version(ControlClient &client);

// Several triggers for one table, timing and event: MySQL 5.7.2, MariaDB 10.2.3.
bool shares_trigger_slots(const ServerVersion &version);

// Whether information_schema has the text of generated columns.
bool shows_generation(const ServerVersion &version);

// A column that says when a row of a system-versioned table (MariaDB) began or ended: history, which stays on the old side. The end is part of
// the table's keys, and the same in all rows that are current; a trigger sees another.
bool is_period(const std::optional<std::string> &generation);

nlohmann::json describe_server(ControlClient &client);

// Names of base tables and views: the given ones that exist, or those LIKE `pattern`.
std::vector<std::string> find_tables(ControlClient &client, const std::string &database, const std::vector<std::string> &tables,
                                     const std::string &pattern);

nlohmann::json describe_table(ControlClient &client, const ServerVersion &version, const std::string &database, const std::string &table);

} // namespace tandem::mysql
