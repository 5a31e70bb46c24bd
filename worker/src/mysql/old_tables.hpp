// Old tables while the new side is the source of truth: whether they still have what the way back wrote there. Answers the question
// "old_tables", and is what a rollback looks at before it begins and once more before it commits.
#pragma once

#include "core/types.hpp"

#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <vector>

namespace tandem::mysql {

// Looks through sessions of its own, which stay open: a second look costs no connection. The tables must outlive it. Not thread-safe.
class OldTables {
  public:
    OldTables(const core::SourceConnection &connection, std::vector<const core::TableConfig *> tables);
    ~OldTables();

    // [{"table_id", "identity", "empty", "reason"}], one for each table; reason null: nothing tells that its rows are others.
    nlohmann::json look();
    // The last look, with no more than "empty" looked at again: a moment's work.
    const nlohmann::json &look_for_empty_ones();

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

} // namespace tandem::mysql
