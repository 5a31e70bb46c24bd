// What PostgreSQL says of the chunks of a table that is copied directly (tandem.read_chunks, docs/protocol.md section 16), and what it means
// for an event: pure data and rules of docs/model/b1_chunks.pml, tested without a server.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace tandem::core {

// Keys up to `high` (the rest, if there is none) that are not in an interval before it.
struct ChunkInterval {
    std::optional<std::vector<std::string>> high; // text form
    int what = 0;                                 // done, in_progress, or the number of a chunk that is not started

    static constexpr int done = 0;         // images may be applied
    static constexpr int in_progress = -1; // the event is left where it is
};

struct TableChunks {
    bool done = false; // all of them
    bool held = false; // nothing of the table is to be read now
    std::vector<ChunkInterval> intervals;
    int last_started = 0; // chunks are started in order: those behind it are not started

    // An event of chunk `chunk`, which was not started in an earlier reading: is it still?
    bool not_started(int chunk) const { return !done && chunk > last_started; }
};

using ChunkReading = std::map<int, TableChunks>; // by table id

// Throws core::Error for anything else than an answer of tandem.read_chunks.
ChunkReading parse_chunk_reading(const std::string &json_text);

} // namespace tandem::core
