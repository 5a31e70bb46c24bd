// Writes rows of tandem.queue in binary COPY format (docs/protocol.md section 5) through a small buffer that is flushed to the socket, so
// that memory does not grow with the batch. BEGIN and COPY are sent with the first row (or with `start`): a snapshot without events
// costs PostgreSQL nothing.
#pragma once

#include "postgres/session.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace tandem::postgres {

class CopyWriter {
  public:
    CopyWriter(Session &session, std::int64_t batch_id) : session_(session), batch_id_(batch_id) {}
    ~CopyWriter(); // without finish: the copy is given up and rolled back
    CopyWriter(const CopyWriter &) = delete;
    CopyWriter &operator=(const CopyWriter &) = delete;

    void start();
    void row(int table_id, char op, int flags, std::optional<std::int64_t> age_us, std::string_view key,
             std::optional<std::string_view> image);
    void finish(); // ends COPY; the transaction stays open for submit_batch

    bool started() const { return started_; }
    std::int64_t rows() const { return rows_; }
    std::int64_t bytes() const { return bytes_; }

  private:
    Session &session_;
    std::int64_t batch_id_;
    std::string buffer_;
    std::int64_t rows_ = 0;
    std::int64_t bytes_ = 0;
    bool started_ = false;
    bool ended_ = false;
};

} // namespace tandem::postgres
