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

// What the writer of a row had seen of it, as an image; nullopt: no row.
struct Expected {
    std::optional<std::string> image;
};

struct RowWrite {
    std::string key;                  // key bytes
    std::optional<std::string> image; // all columns of the table in order; nullopt: the row is to be absent
    // Only if the old side still holds this (floating point of 4 bytes, which mysql_fdw rounds, excepted); then only what differs from it is written.
    std::optional<Expected> expected = std::nullopt;
};

struct TableWrites {
    const core::TableConfig *table = nullptr;
    std::uint64_t epoch = 0; // of the table on the old side when the rows were read
    std::vector<bool> known; // columns whose values the image really holds; the others are left alone. Empty: all
    std::vector<RowWrite> rows;
};

// One transaction of PostgreSQL and the token by which it is known again.
struct MarkedWrites {
    std::vector<TableWrites> tables;
    std::string mark; // a UUID
};

// A row that was left out; all others of the transaction are written.
struct RowRefusal {
    std::size_t table = 0; // position among the TableWrites
    std::size_t row = 0;
    std::string sqlstate;
    std::string message;
    bool may_pass = false; // another row is in its way (unique key), or the row is locked
    bool conflict = false; // the old side does not hold what was expected
};

struct WriteOptions {
    bool unseen = true;              // neither captured by our triggers nor refused by our fence
    bool check_foreign_keys = false; // with them, cascades bite
    bool together = false;           // a row that is refused takes all of its transaction with it
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
    // The same, once: a transaction whose mark the old side has is not written again. `mark` is a UUID; the table of marks must exist. What may pass
    // (a lock, a deadlock) is not tried again here.
    std::vector<RowRefusal> write_once(const std::vector<TableWrites> &tables, const std::string &mark);
    // Several of them in one transaction of the old side. False: nothing was written, as a row was refused, or something was in the way: which of
    // them that was is told by write_once. Throws SessionLost, and 55000 when an epoch has changed.
    bool write_together(const std::vector<MarkedWrites> &transactions);
    void prepare_marks();
    void forget_marks(const std::vector<std::string> &marks); // after the acknowledgement, which makes them unnecessary

    void ping();

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

} // namespace tandem::mysql
