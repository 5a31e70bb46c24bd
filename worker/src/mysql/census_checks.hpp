// What the census looks for in each column of an old table: one condition per finding, in the SQL of the old side. Pure: from a
// description (describe.hpp) to text, tested without a server. The findings' names are those of docs/protocol.md section 12.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tandem::mysql {

struct CensusCheck {
    std::string column;    // old column; for a foreign key or a unique key its columns, separated by ", "
    std::string finding;   // not_boolean, above_bigint, zero_date …
    std::string condition; // over the row `t`; NULL counts as false
};

// `limits` holds what an existing target allows: {"columns": {"a": {"max_chars": 20, "min": "0", "max": "9", "not_null": true,
// "labels": ["x"]}}}; may be null.
std::vector<CensusCheck> census_checks(const nlohmann::json &description, const nlohmann::json &limits);

// Groups of rows that a unique key of an existing target would take for one, because it compares without case:
// limits {"unique": [{"columns": ["a", "b"], "folded": ["a"]}]}. The condition holds the GROUP BY list.
std::vector<CensusCheck> census_collisions(const nlohmann::json &limits);

} // namespace tandem::mysql
