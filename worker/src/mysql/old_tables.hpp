// Old tables while the new side is the source of truth: whether they still have what the way back wrote there. Answers the question
// "old_tables", and is what a rollback looks at before it begins.
#pragma once

#include "core/types.hpp"

#include <nlohmann/json_fwd.hpp>
#include <vector>

namespace tandem::mysql {

// [{"table_id", "identity", "empty", "reason"}], one for each table; reason null: nothing tells that its rows are others.
nlohmann::json look_at_old_tables(const core::SourceConnection &connection, const std::vector<const core::TableConfig *> &tables);

} // namespace tandem::mysql
