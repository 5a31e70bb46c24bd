// The write lock and the fence of a cut-over on the old side (docs/protocol.md section 18). Functions over the one session that holds the
// lock: it must be the same from LOCK TABLES to the last CREATE TRIGGER, and it never reconnects.
#pragma once

#include "mysql/client.hpp"
#include "mysql/old_phase.hpp"

#include <chrono>
#include <string>
#include <vector>

namespace tandem::mysql {

using Tables = std::vector<const core::TableConfig *>;

// LOCK TABLES … WRITE on tables and outboxes, waiting at most so long: writers queue behind the wait. False: not got, nothing is locked.
bool lock_tables(Client &client, const core::SourceConnection &connection, const Tables &tables, std::chrono::milliseconds most);
void unlock_tables(Client &client);

// Fences of our tables in the database, of any epoch.
std::vector<Fence> find_fences(Client &client, const core::SourceConnection &connection, const Tables &tables);

// Events for which the table has a BEFORE trigger of the application and the server allows no second one. Asked before the lock.
std::vector<std::string> taken_events(Client &client, const core::SourceConnection &connection, const core::TableConfig &table);

// Triggers keep the sql_mode of the session that makes them: pinned for as long as this lives.
class TriggerMode {
  public:
    explicit TriggerMode(Client &client);
    ~TriggerMode();
    TriggerMode(const TriggerMode &) = delete;
    TriggerMode &operator=(const TriggerMode &) = delete;
    Client &client() const { return client_; }

  private:
    Client &client_;
    std::string mode_;
};

// The triggers of one table, but for events that `there` has; events in `taken` by AFTER triggers in place of our capture, under the lock.
void make_fence(const TriggerMode &mode, const core::SourceConnection &connection, const core::TableConfig &table, std::uint64_t epoch,
                const std::vector<std::string> &taken, const std::string &moved_to, const std::vector<Fence> &there = {});

// These triggers, and capture where an AFTER trigger had its place. `locked`: this session holds the tables already; else they are locked
// where capture has to come back, so that no write passes between the two.
void drop_fences(Client &client, const core::SourceConnection &connection, const core::TableConfig &table, const std::vector<Fence> &fences,
                 bool locked);

// The column with AUTO_INCREMENT; empty: none.
std::string auto_increment_column(Client &client, const core::SourceConnection &connection, const core::TableConfig &table);
// The next value of that column, for a table that has one.
std::uint64_t next_auto_increment(Client &client, const core::SourceConnection &connection, const core::TableConfig &table);

} // namespace tandem::mysql
