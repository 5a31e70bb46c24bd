// RAII around one MYSQL handle of libmariadb: connecting with the pinned session settings, and statements without results.
// A Client never reconnects. Not thread-safe.
#pragma once

#include "core/types.hpp"

#include <memory>
#include <mysql/mysql.h>
#include <string>
#include <vector>

namespace tandem::mysql {

void initialize_library(); // once, before any session of either client library

class Client {
  public:
    explicit Client(const core::SourceConnection &connection);

    // Runs a statement and drops its result, if any. Returns affected rows. `doing` names the work in an error.
    std::uint64_t execute(const std::string &sql, const std::string &doing);
    // One row of a text result; NULL is an empty string. Empty vector: no row.
    std::vector<std::string> one_row(const std::string &sql, const std::string &doing);
    // Seconds that this server is behind the one it replicates from: 0 if it is no replica, -1 if replication stands still.
    double replica_lag();
    // All rows of a small text result; NULL is an empty string.
    std::vector<std::vector<std::string>> rows(const std::string &sql, const std::string &doing);
    unsigned long id() const { return mysql_thread_id(handle_.get()); }
    unsigned warnings() const { return mysql_warning_count(handle_.get()); }
    MYSQL *handle() { return handle_.get(); }
    [[noreturn]] void fail(const std::string &doing);

  private:
    struct Close {
        void operator()(MYSQL *mysql) const { mysql_close(mysql); }
    };
    std::unique_ptr<MYSQL, Close> handle_;
};

// " FORCE INDEX (…)" with the unique index whose columns are the key, empty if there is none. Without it the optimizer may choose to sort.
std::string force_key_index(Client &client, const std::string &database, const core::TableConfig &table);

// The session settings every connection to the old side has, hot path or control (docs/old-side.md).
const std::vector<std::string> &session_settings();

} // namespace tandem::mysql
