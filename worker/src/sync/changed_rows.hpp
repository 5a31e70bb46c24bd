// Comparison of the rows that changed since the last sound pass of reconciliation, for a cut-over: beside live writes before the pause, and once more, of what
// is left, in the pause (docs/protocol.md section 18; model D: VERIFIED). Has sessions of its own; in the pause the old side is read through
// the session that holds the lock.
#pragma once

#include "mysql/compare_session.hpp"
#include "sync/compare_chunk.hpp"
#include "sync/compare_sessions.hpp"
#include "sync/stop.hpp"

#include <map>
#include <string>
#include <vector>

namespace tandem::sync {

class ChangedRows {
  public:
    // `all`: every table of the source; `table_ids`: those that move. `accepted`: keys that may differ, by table.
    ChangedRows(const std::string &conninfo, const std::string &holder, const core::SourceConnection &source, mysql::Client &locker,
                const std::vector<core::TableConfig> &all, const std::vector<int> &table_ids, const postgres::Abandon &abandon);

    void accept(int table_id, const std::string &key) { accepted_[table_id].insert(key); }

    // Those that are equal, with nothing of them on its way. Throws core::Error (55000) when rows are confirmed to differ.
    std::vector<std::string> equal_now(int table_id, std::vector<std::string> keys);

    // In the pause. Throws core::Error: 55000 rows differ, 57014 not done at the deadline.
    void verify(int table_id, const std::vector<std::string> &keys, Clock::time_point deadline);

    static constexpr std::size_t keys_at_once = 2000;

  private:
    struct Comparers {
        ChunkComparer live, standing;
    };

    std::vector<std::string> to_compare(int table_id, const std::vector<std::string> &keys) const;
    [[noreturn]] static void refuse(const core::TableConfig &table, const std::vector<std::string> &keys);

    CompareSessions sessions_;
    mysql::CompareSession locked_;
    std::map<int, Comparers> comparers_;
    std::map<int, KeySet> accepted_;
};

} // namespace tandem::sync
