// Connections for questions, DDL and checks on the old side, through mysql-connector-c++. Not thread-safe: one owner thread.
#pragma once

#include "core/capture_rules.hpp"
#include "core/types.hpp"

#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tandem::mysql {

class Client;

struct CaptureStatus {
    bool complete = false;  // outbox, gap table and all three triggers exist, on this table, with the text we would create
    std::string missing;    // what is missing or different, for people
    std::uint64_t gaps = 0; // rows in capture_gap for this outbox (counting stops at a million)
    std::string drift;      // how the table's own columns differ from the configuration; empty: they do not
};

class ControlSession {
  public:
    // `unnamed` connects without the source's database, so that a user without any right on it can be told which GRANTs are missing.
    enum class Database { named, unnamed };
    explicit ControlSession(const core::SourceConnection &connection, Database use = Database::named);
    ~ControlSession();

    nlohmann::json server_facts(); // answer of question "connect"
    std::vector<nlohmann::json> describe(const std::vector<std::string> &tables, const std::string &pattern); // question "describe"

    // Creates what is missing of metadata database, gap table, outbox and triggers. Idempotent. DDL waits at most
    // `lock_timeout_ms` for the table (an open transaction of the application holds it up); then core::Error, retryable.
    void install_capture(const core::TableConfig &table, unsigned lock_timeout_ms);
    // Idempotent. With the last outbox of the metadata database its shared tables go as well, whatever source they were made for; returns their names.
    std::vector<std::string> remove_capture(const core::TableConfig &table, unsigned lock_timeout_ms);
    // Everything about one table, with the text of its triggers as it was written.
    CaptureStatus check_capture(const core::TableConfig &table);
    // All tables in a few queries. `everywhere`: triggers of ours are looked for on every table of the database.
    core::SeenSource look(const std::vector<const core::TableConfig *> &tables, bool everywhere = false);
    // The same while `holder` has the tables and their outboxes locked.
    core::SeenSource look_under_lock(const std::vector<const core::TableConfig *> &tables, Client &holder);

    // Forgets the gaps of this table. To be called before the rows are read anew, never after: a gap that appears later must stay.
    void clear_gaps(const core::TableConfig &table);

    // Microseconds one event costs the writer: a probe of inserts into the outbox, rolled back.
    double measure_capture_cost(const core::TableConfig &table);

    // For `tandem-sync check`: GRANT statements a least-privilege user needs, and the result of trying each one.
    struct Grant {
        std::string privilege; // empty for a setting
        std::string statement; // complete for its database
        std::string purpose;
        bool required = true;
        bool ok = false;
        std::string error;
    };
    std::vector<Grant> check_grants();

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

} // namespace tandem::mysql
