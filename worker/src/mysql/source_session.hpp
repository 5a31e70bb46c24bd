// One session on the old side, through libmariadb's C API: snapshot reads over the binary protocol and exact deletes *on the same
// session* (invariant I1). The session never reconnects by itself: any lost connection throws core::SessionLost and the object is
// dead; the owner forgets its ids and makes a new one. Not thread-safe: one owner thread.
//
// Session settings pinned at connect: time_zone '+00:00', utf8mb4, fixed sql_mode, READ COMMITTED for deletes (REPEATABLE READ where
// binlog_format = STATEMENT), local_infile off, no multi statements, verified TLS by docs/protocol.md section 4.
#pragma once

#include "core/chunks.hpp"
#include "core/types.hpp"

#include <functional>
#include <memory>
#include <string_view>

namespace tandem::mysql {

class Client;

// Receives rows as they stream. `key` and `image` are valid during the call only. When `bad` is set the row cannot be represented
// and `image` is empty.
using RowSink = std::function<void(std::string_view key, std::string_view image, const core::Untranslatable *bad)>;

struct ChunkEnd {
    std::uint64_t rows = 0;
    std::uint64_t bytes = 0;
    std::vector<std::string> cursor; // text form of the last key read; unchanged input cursor if no row
    bool done = false;               // the end of the table was reached
};

class SourceSession {
  public:
    explicit SourceSession(const core::SourceConnection &connection);
    ~SourceSession();
    SourceSession(SourceSession &&) noexcept;
    SourceSession &operator=(SourceSession &&) noexcept;

    struct Polled {
        const core::TableConfig *table;
        core::IdSet in_flight;
    };
    // One round trip for all tables: which outboxes hold events that are not in flight? One flag per table; true also for a table with
    // so many runs in flight that asking costs more than looking.
    std::vector<bool> poll(const std::vector<Polled> &tables);

    void begin_snapshot(); // REPEATABLE READ, read only, WITH CONSISTENT SNAPSHOT
    void end_snapshot();
    void make_durable(); // outside of a snapshot; what it showed survives a crash of the old side from now on (durable.hpp)

    // Inside a snapshot: up to `limit` events of the table in id order, without those in `in_flight`.
    // With `chunks` (a table that is being copied directly): those of chunks in progress are left out, those of chunks that are not started
    // come as ids only.
    core::EventSet read_events(const core::TableConfig &table, const core::IdSet &in_flight, std::size_t limit,
                               const core::TableChunks *chunks = nullptr);

    // Inside the same snapshot: current rows of the keys of these events (joined on the server by the ids). Rows whose key equals an
    // event's key under the old side's collation are sent with their *own* key bytes.
    // Returns rows sent.
    std::uint64_t read_rows(const core::TableConfig &table, const core::IdSet &ids, const RowSink &sink);

    // Inside a snapshot: next rows in the order of the key's own index, after `cursor` (empty: from the start), at most `limit` rows.
    ChunkEnd read_chunk(const core::TableConfig &table, const std::vector<std::string> &cursor, std::size_t limit, const RowSink &sink);

    // Exactly these outbox rows, committed on return. Deletes in slices so that no lock is held long.
    void delete_events(const core::TableConfig &table, const core::IdSet &ids);

    // Puts keys (text form, docs/protocol.md section 2) into the outbox with tandem_removes = removes, committed on return. Returns the
    // keys (by position) that the key columns cannot hold, with the error text; those are skipped.
    std::vector<std::pair<std::size_t, std::string>> insert_keys(const core::TableConfig &table,
                                                                 const std::vector<std::vector<std::string>> &keys, int removes);

    // Which of these keys (text form) the old side does not have now, byte for byte. A key may be named wrongly (a FLOAT, a value that the
    // key columns cannot hold); one that is missing is never left out. Outside a snapshot.
    std::vector<std::vector<std::string>> missing_keys(const core::TableConfig &table, const std::vector<std::vector<std::string>> &keys);

    // New-value side of a key-changing cascade (docs/protocol.md section 7): puts the keys of the children that now refer to the current
    // rows of these parent events into the child's outbox with tandem_removes = 2. Outside a snapshot; committed on return.
    std::uint64_t expand_key_cascade(const core::TableConfig &parent, const core::KeyCascade &cascade, const core::IdSet &parent_ids);

    // While LOCK TABLES holds tables in this session (cut-over), beginning a transaction would let them go: the locked tables cannot change,
    // so every read is of one state without a snapshot.
    void hold(bool locked);
    Client &client();

    // Keeps an idle session alive and proves that it is the same one.
    void ping();

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

} // namespace tandem::mysql
