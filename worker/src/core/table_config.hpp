// JSON of tandem.worker_tables (docs/protocol.md 5.1) → TableConfig.
#pragma once

#include "core/types.hpp"

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

namespace tandem::core {

// Both throw core::Error naming what is missing or of a wrong type; a configuration is never half taken.
TableConfig parse_table_config(const nlohmann::json &table);
std::vector<TableConfig> parse_table_configs(const std::string &json_text);

// The key's columns in key order. Throws core::Error if the configuration names a key column that is no column.
std::vector<Column> key_columns_of(const TableConfig &table);
// Of the type that a key of one integer column has in PostgreSQL; nullopt: the key is another.
std::optional<std::int64_t> largest_integer_key(const TableConfig &table);

} // namespace tandem::core
