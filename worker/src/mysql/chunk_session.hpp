// The session of a copier on the old side: plans chunks of a table along the index of its key, and streams the rows of one in a snapshot.
// Never reconnects; one owner thread.
#pragma once

#include "core/types.hpp"
#include "mysql/old_load.hpp"
#include "mysql/source_session.hpp"

#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tandem::mysql {

using KeyBound = std::optional<std::vector<std::string>>; // text form; nullopt: the beginning or the end of the key

struct TableSize {
    std::int64_t rows_at_least = 0; // counted, up to a limit
    std::int64_t rows_estimate = 0;
    std::int64_t bytes_estimate = 0;
};

struct PlannedBounds {
    std::vector<std::vector<std::string>> bounds; // last keys of chunks, in order
    bool last = false;                            // behind them is less than one chunk
};

class ChunkSession {
  public:
    explicit ChunkSession(const core::SourceConnection &connection);
    ~ChunkSession();
    ChunkSession(const ChunkSession &) = delete;
    ChunkSession &operator=(const ChunkSession &) = delete;

    TableSize size_of(const core::TableConfig &table, std::int64_t count_up_to);

    // The next `chunks` bounds behind `after`, each `rows` rows further. Reads the index only, outside of a snapshot: any key is a good bound.
    PlannedBounds plan(const core::TableConfig &table, const KeyBound &after, std::int64_t rows, int chunks);

    void begin_snapshot(); // REPEATABLE READ, read only, WITH CONSISTENT SNAPSHOT
    void end_snapshot();
    void make_durable(); // outside of a snapshot; what it showed survives a crash of the old side from now on (durable.hpp)
    // Inside a snapshot: rows with low < key <= high, in the order of the key's index.
    void read_range(const core::TableConfig &table, const KeyBound &low, const KeyBound &high, const RowSink &sink);

    OldSideLoad load();

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

} // namespace tandem::mysql
