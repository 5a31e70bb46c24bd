// One session on the old side for reconciliation (docs/protocol.md section 14): rows and events of an interval or a list of keys, all in one
// consistent snapshot. It never writes and never reconnects: a lost connection throws core::SessionLost and the object is dead.
// Not thread-safe: one owner thread.
#pragma once

#include "core/types.hpp"
#include "mysql/client.hpp"
#include "mysql/key_range.hpp"
#include "mysql/old_load.hpp"
#include "mysql/source_session.hpp"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::mysql {

class CompareSession {
  public:
    explicit CompareSession(const core::SourceConnection &connection);
    // On a session of somebody else that holds the tables with LOCK TABLES: without snapshots. Only read_list, of tables that were prepared.
    CompareSession(const core::SourceConnection &connection, Client &holder);
    void prepare(const core::TableConfig &table);
    ~CompareSession();
    CompareSession(CompareSession &&) noexcept;
    CompareSession &operator=(CompareSession &&) noexcept;

    void begin_snapshot();
    void end_snapshot();

    // The key of the `rows`-th row of the interval in index order, the first after it that PostgreSQL can hold; nullopt: there are fewer.
    std::optional<KeyText> bound(const core::TableConfig &table, const KeyInterval &interval, std::uint64_t rows);

    // Key bytes of at most `limit` rows behind `low` (and not behind `high`). Keys without an image come as in RowSink, with `bad`.
    using KeySink = std::function<void(std::string_view key, bool bad)>;
    std::uint64_t read_keys(const core::TableConfig &table, const KeyInterval &interval, std::uint64_t limit, const KeySink &sink);

    std::uint64_t read_interval(const core::TableConfig &table, const KeyInterval &interval, const RowSink &sink);

    // Rows whose key equals one of `keys` (key bytes) under the old side's collation, with their own key bytes. `images` false: keys only.
    void read_list(const core::TableConfig &table, const std::vector<std::string> &keys, bool images, const RowSink &sink);

    // Q: distinct keys of the interval that wait in the outbox; all of it without bounds.
    std::uint64_t count_events(const core::TableConfig &table, const KeyInterval &interval);
    void read_events(const core::TableConfig &table, const KeyInterval &interval, const KeySink &sink);
    // Is there an event that took a row, a key or a referenced value away (tandem_removes >= 1)?
    bool has_removing_events(const core::TableConfig &table);

    OldSideLoad load();

    // Any thread: whatever waits for the server gets an error at once, and the session is lost.
    void interrupt();

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

} // namespace tandem::mysql
