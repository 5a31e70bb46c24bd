// Copiers of one source: threads that copy the history of tables chunk by chunk straight into the targets, beside the pump. Model:
// docs/model/b1_chunks.pml, process Copier; steps carry its names: mark_chunk → read_chunk (snapshot) → end_chunk.
//
// Belongs to a pump and lives under its epoch: what a copier of an earlier pump still has in hand is refused by PostgreSQL. Each copier has
// its own sessions on both sides. The pump says which tables are to be copied and takes the news. One more thread watches the load of the old
// side, sets the pace and reports it.
#pragma once

#include "core/types.hpp"
#include "postgres/worker_api.hpp"
#include "sync/lease.hpp"
#include "sync/pacing.hpp"
#include "sync/stop.hpp"
#include "sync/throttle.hpp"

#include <atomic>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace tandem::sync {

struct BackfillNews {
    enum class Kind {
        ended,      // every row is there and no index is missing: PostgreSQL says that the table is in sync
        unreadable, // on the old side: perhaps it was altered, the guard will tell; `reason`
        failed      // cannot go on before somebody mends something: `reason`
    };
    int table_id = 0;
    Kind kind = Kind::ended;
    std::string reason;
};

class Backfill {
  public:
    Backfill(std::string conninfo, std::string holder, core::SourceConnection connection, std::shared_ptr<const Lease> lease);
    ~Backfill();
    Backfill(const Backfill &) = delete;
    Backfill &operator=(const Backfill &) = delete;

    void copy(const std::vector<core::TableConfig> &tables, const postgres::Settings &settings); // these and no others, from now on
    std::vector<BackfillNews> take_news();
    bool holds(int table_id); // a chunk of it is in the hands of a copier

    // The same pace for history that goes through the queue: whether a chunk may be read now, and what was read.
    bool may_read_ordered(const postgres::Settings &settings);
    void read_ordered(std::int64_t rows, std::chrono::microseconds worked);

    static constexpr int most_copiers = 16;

  private:
    struct Table {
        core::TableConfig config;
        std::atomic<bool> wanted{true};
        std::mutex marking; // one copier at a time asks for a chunk: `busy` names all that are in hand
        std::set<int> busy; // protected by `marking`
        // Protected by Backfill::mutex_.
        bool planning = false, ending = false, known = false, planned_all = false;
        int planned = 0, unstarted = 0;
        mysql::KeyBound last_high;
        AdaptiveRows size;
        Clock::time_point ready{}; // not before
        std::int64_t rows = 0, bytes = 0, merged = 0;
    };
    struct Sessions;
    struct Abandoned {};
    struct Copied {
        std::int64_t rows;
        std::chrono::microseconds worked;
    };

    void run(int index);
    void watch();
    void start_watch();
    void take(const postgres::Settings &settings);
    bool work(Sessions &sessions, const std::shared_ptr<Table> &table);
    bool plan(Sessions &sessions, Table &table);
    Copied copy_chunk(Sessions &sessions, Table &table, const postgres::MarkedChunk &marked);
    bool end(Sessions &sessions, Table &table);
    Clock::time_point next_work(std::int64_t rows, std::chrono::microseconds worked, Clock::time_point now);
    std::int64_t within_budget(std::int64_t rows) const;
    bool make_way(Table &table, std::int64_t rows, std::chrono::microseconds worked);
    void fail(Table &table, BackfillNews::Kind kind, const std::string &reason);
    std::vector<std::shared_ptr<Table>> tables(int first);
    bool idle(int index);
    void log_progress(const Pace &pace);

    const std::string conninfo_;
    const std::string holder_;
    const core::SourceConnection connection_;
    const std::shared_ptr<const Lease> lease_;
    Stop stop_;
    std::mutex mutex_; // protects everything below, and the parts of Table that say so
    std::map<int, std::shared_ptr<Table>> tables_;
    postgres::Settings settings_;
    Pace pace_{least_share, false, ""}; // until the load is known
    Clock::time_point budget_free_{};   // when the next row may be read, by the budget of rows per second
    int budget_ = 0;                    // counts the changes of this budget
    std::map<int, int> in_hand_;        // chunks by table
    Clock::time_point ordered_asked_{}; // when the queue last wanted to read history
    Clock::time_point ordered_due_{};   // and may again
    std::vector<BackfillNews> news_;
    std::vector<std::thread> threads_;
};

} // namespace tandem::sync
