// Keys that were applied and wait to be verified (tier 1), handed from the pump to the reconciler. Bounded: when more come than can be looked
// at, some are left out, and those that are looked at stand for them. Any thread.
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

namespace tandem::sync {

class AppliedKeys {
  public:
    struct Taken {
        std::vector<std::string> keys;
        std::int64_t covered = 0; // applied changes that they stand for
    };

    // Share of the applied keys of each table that is wanted; a table that is not named is not verified.
    void want(std::map<int, double> shares) {
        const std::lock_guard lock(mutex_);
        shares_ = std::move(shares);
        std::erase_if(tables_, [&](const auto &entry) { return !shares_.contains(entry.first); });
    }
    bool wanted(int table_id) const {
        const std::lock_guard lock(mutex_);
        return shares_.contains(table_id);
    }
    void add(int table_id, std::vector<std::string> keys) {
        const std::lock_guard lock(mutex_);
        const auto share = shares_.find(table_id);
        if (share == shares_.end())
            return;
        Table &table = tables_[table_id];
        std::uniform_real_distribution<double> draw(0, 1);
        for (std::string &key : keys) {
            ++table.changes;
            if (share->second < 1 && draw(random_) >= share->second)
                continue;
            if (table.keys.size() < most_of_table)
                table.keys.insert(std::move(key));
        }
    }
    // Up to `limit` keys of a table, with all changes that were seen since the last time when they are the last.
    Taken take(int table_id, std::size_t limit) {
        const std::lock_guard lock(mutex_);
        const auto found = tables_.find(table_id);
        if (found == tables_.end())
            return {};
        Taken taken;
        Table &table = found->second;
        const std::size_t before = table.keys.size();
        taken.keys = table.keys.take(limit);
        taken.covered = before == 0 ? 0 : table.changes * static_cast<std::int64_t>(taken.keys.size()) / static_cast<std::int64_t>(before);
        table.changes -= taken.covered;
        return taken;
    }
    std::vector<int> tables() const {
        const std::lock_guard lock(mutex_);
        std::vector<int> ids;
        for (const auto &[id, table] : tables_)
            if (table.keys.size() > 0)
                ids.push_back(id);
        return ids;
    }

    static constexpr std::size_t most_of_table = 50000;

  private:
    // Distinct keys in order of their first change.
    class Keys {
      public:
        std::size_t size() const { return order_.size() - first_; }
        void insert(std::string key) {
            if (known_.insert(key).second)
                order_.push_back(std::move(key));
        }
        std::vector<std::string> take(std::size_t limit) {
            std::vector<std::string> keys;
            while (first_ < order_.size() && keys.size() < limit) {
                known_.erase(order_[first_]);
                keys.push_back(std::move(order_[first_++]));
            }
            if (first_ == order_.size()) {
                order_.clear();
                first_ = 0;
            }
            return keys;
        }

      private:
        std::vector<std::string> order_;
        std::size_t first_ = 0;
        std::unordered_set<std::string> known_;
    };
    struct Table {
        Keys keys;
        std::int64_t changes = 0;
    };
    mutable std::mutex mutex_; // protects everything below
    std::map<int, double> shares_;
    std::map<int, Table> tables_;
    std::minstd_rand random_{std::random_device{}()};
};

} // namespace tandem::sync
