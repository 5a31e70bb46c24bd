// A batch on its way: what must be deleted on the old side once it is acknowledged, and how rows of a snapshot become queue rows.
#pragma once

#include "core/types.hpp"
#include "mysql/source_session.hpp"
#include "postgres/copy_writer.hpp"
#include "sync/stop.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tandem::sync {

// Flag bits of tandem.queue (docs/protocol.md section 6).
constexpr int flag_removes = 1, flag_removes_found = 2, flag_backfill = 4;

struct BatchPart {
    int table_id = 0;
    core::IdSet ids;
    bool removes = false;          // some event of it took a row, a key or a referenced value away: children may have to be looked up
    std::vector<std::string> keys; // to be verified once they are applied; empty when the table is not
};

struct Batch {
    std::int64_t batch_id = 0;
    std::vector<BatchPart> parts; // of live events
    std::optional<int> chunk_table;
    bool chunk_done = false;
    bool resets_backfill = false; // sets the backfill of chunk_table back to its beginning
    Clock::time_point submitted{};
    bool acked = false;
};

struct CopiedTable {
    std::int64_t rows = 0;  // rows with an image
    std::int64_t bytes = 0; // of images
    std::int64_t oldest_us = 0;
    bool removes = false;
};

// copy_batch for one table: rows of these events stream from the snapshot into COPY. Keys without an exactly equal row → D.
CopiedTable copy_events(mysql::SourceSession &source, const core::TableConfig &table, const core::EventSet &events,
                        postgres::CopyWriter &writer);

// The same for a backfill chunk.
mysql::ChunkEnd copy_chunk(mysql::SourceSession &source, const core::TableConfig &table, const std::vector<std::string> &cursor,
                           std::size_t limit, postgres::CopyWriter &writer);

// What stands for the image of a row with a value that PostgreSQL cannot hold (op X).
std::string untranslatable_json(const core::Untranslatable &bad);

std::string backfill_json(int table_id, const std::vector<std::string> &cursor, bool done, std::uint64_t rows);
std::string reset_json(int table_id, std::int64_t loss); // back to the beginning, because of that loss

} // namespace tandem::sync
