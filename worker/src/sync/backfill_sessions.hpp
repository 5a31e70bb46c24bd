// The two sessions of a copier, private to backfill*.cpp.
#pragma once

#include "mysql/chunk_session.hpp"
#include "sync/backfill.hpp"

namespace tandem::sync {

struct Backfill::Sessions {
    mysql::ChunkSession source;
    postgres::WorkerApi api;

    Sessions(const core::SourceConnection &connection, const std::string &conninfo, const std::string &holder, int index,
             postgres::Abandon abandon)
        : source(connection), api(conninfo, (index < 0 ? "backfill watch " : "backfill " + std::to_string(index) + " ") + connection.name,
                                  holder, std::move(abandon)) {}
};

} // namespace tandem::sync
