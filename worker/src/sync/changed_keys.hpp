// Keys that changed since a moment, of each table: what a cut-over still has to compare when its pass of reconciliation is over. The pump adds
// every key that it sends; the extension compares our moment with that of the last sound pass (tandem.reconcile_ledger.sound_moment). When the
// pass began later, every row that may have changed since is among our keys.
//
// Bounded: two generations of keys for each table. The older one goes when a sound pass began after the newer one did, or when the memory is
// needed; then the moment is later, and a pass that began before it does not count any more. Of one thread.
#pragma once

#include "sync/stop.hpp"

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

namespace tandem::sync {

class ChangedKeys {
  public:
    explicit ChangedKeys(std::size_t most_bytes = default_bytes) : most_bytes_(most_bytes) {}

    // The table is in sync: its keys are collected from the batch after `last_batch` on. Another `shape` begins anew.
    void watch(int table_id, const std::string &shape, std::int64_t last_batch, Clock::time_point now);
    void forget(int table_id);
    bool watches(int table_id) const { return tables_.contains(table_id); }

    void add(int table_id, const std::string &key);
    void trim(std::int64_t last_batch, Clock::time_point now); // after some were added

    // Tables whose keys of earlier batches are all applied, when `oldest_in_flight` is the oldest batch that is not: a moment may be noted.
    std::vector<int> unmarked(std::int64_t oldest_in_flight) const;
    void mark(int table_id, std::int64_t moment);

    // Moments at which passes of the table began, and time goes by.
    struct Passes {
        std::int64_t sound = 0;   // the last that found every row equal or on its way, 0: none
        std::int64_t running = 0; // the last that is not over, 0: none
    };
    void turn(int table_id, Passes passes, std::int64_t last_batch, Clock::time_point now);

    // From here on every change is among the keys; nullopt: not known yet.
    std::optional<std::int64_t> since(int table_id) const;
    std::vector<std::string> keys(int table_id) const;
    void verified(int table_id, const std::vector<std::string> &keys); // they were equal, and nothing of them was on its way
    std::size_t bytes() const { return bytes_; }

    static constexpr std::size_t default_bytes = 32U << 20;
    static constexpr Millis least_age{30000}; // of a generation before the next one begins

  private:
    struct Generation {
        std::int64_t after_batch = 0;
        Clock::time_point begun{};
        std::optional<std::int64_t> moment;
        std::unordered_set<std::string> keys;
    };
    struct Table {
        std::string shape;
        std::optional<Generation> older;
        Generation newer;
    };

    static std::size_t cost(const std::string &key) { return key.size() + 64; } // with its place in a set
    void drop(Generation &generation);
    void next_generation(Table &table, std::int64_t last_batch, Clock::time_point now);

    std::map<int, Table> tables_;
    std::size_t bytes_ = 0;
    const std::size_t most_bytes_;
};

} // namespace tandem::sync
