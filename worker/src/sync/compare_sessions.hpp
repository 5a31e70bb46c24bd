// The three sessions that reconciliation works with: P on PostgreSQL, later states on PostgreSQL, and the old side. Made together and thrown
// away together: after an error nobody knows what is open in them.
#pragma once

#include "mysql/compare_session.hpp"
#include "postgres/compare_api.hpp"
#include "postgres/worker_api.hpp"
#include "sync/compare_chunk.hpp"

#include <string>

namespace tandem::sync {

class CompareSessions {
  public:
    // `purpose` is part of the application names.
    CompareSessions(const std::string &conninfo, const std::string &holder, const core::SourceConnection &source,
                    const std::string &purpose, const postgres::Abandon &abandon)
        : api(conninfo, purpose, holder, abandon), runs(api.session()), fresh(conninfo, "tandem-sync " + purpose + " snapshot", abandon),
          old(source), source_id(source.source_id) {}
    CompareSessions(const CompareSessions &) = delete;
    CompareSessions &operator=(const CompareSessions &) = delete;

    Sides sides() {
        return {fresh, runs, old, [this](int table_id) {
                    for (const core::TableConfig &table : api.tables(source_id, table_id))
                        if (table.table_id == table_id)
                            return table.shape;
                    return std::string();
                }};
    }

    postgres::WorkerApi api;
    postgres::RunApi runs;
    postgres::NewSide fresh;
    mysql::CompareSession old;
    const int source_id;
};

} // namespace tandem::sync
