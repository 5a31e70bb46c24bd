// Writes rows to the old side: the way back of row_reader. A row is given as key and image (docs/protocol.md section 2) and written by
// prepared statements, value by value, so that FLOAT and DOUBLE are exact. Every row is read again in the transaction that wrote it: what
// the old side made of a value is the value, or the row is refused. Writing twice changes nothing.
//
// Columns that the old side holds as the image says already are not written, so a value that only the old side can hold stays as it is.
// Generated columns are left to the server. Not thread-safe.
#pragma once

#include "core/types.hpp"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tandem::mysql {

struct RowWrite {
    std::string key;                  // key bytes
    std::optional<std::string> image; // all columns of the table in order; nullopt: the row is to be absent
};

struct TableWrites {
    const core::TableConfig *table = nullptr;
    std::uint64_t epoch = 0; // of the table on the old side when the rows were read
    std::vector<bool> known; // columns whose values the image really holds; the others are left alone. Empty: all
    std::vector<RowWrite> rows;
};

// A row that was left out; all others of the transaction are written.
struct RowRefusal {
    std::size_t table = 0; // position among the TableWrites
    std::size_t row = 0;
    std::string sqlstate;
    std::string message;
    bool may_pass = false; // another row is in its way (unique key), or the row is locked
};

struct WriteOptions {
    bool unseen = true;              // neither captured by our triggers nor refused by our fence
    bool check_foreign_keys = false; // with them, cascades bite
};

class RowWriter {
  public:
    RowWriter(const core::SourceConnection &connection, WriteOptions options);
    ~RowWriter();
    RowWriter(RowWriter &&) noexcept;
    RowWriter &operator=(RowWriter &&) noexcept;

    // Epoch of a table on the old side now; 0 if it has none. Taken before the rows are read, and given back with them (model D: M_REVNOEPOCH).
    std::uint64_t epoch(const core::TableConfig &table);
    // A new leader's: whoever read rows before cannot write them any more. Waits for a transaction of his that is under way.
    std::uint64_t bump_epoch(const core::TableConfig &table);

    // One transaction, committed on return. Throws core::Error 55000 (retryable) when an epoch has changed, other errors when nothing
    // at all could be written; SessionLost also when the outcome of the commit is not known: write again.
    std::vector<RowRefusal> write(const std::vector<TableWrites> &tables);

    void ping();

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

} // namespace tandem::mysql
