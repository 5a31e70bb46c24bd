#include "sync/changed_keys.hpp"

#include <algorithm>

namespace tandem::sync {

void ChangedKeys::drop(Generation &generation) {
    for (const std::string &key : generation.keys)
        bytes_ -= cost(key);
    generation.keys.clear();
}

void ChangedKeys::watch(int table_id, const std::string &shape, std::int64_t last_batch, Clock::time_point now) {
    const auto found = tables_.find(table_id);
    if (found != tables_.end() && found->second.shape == shape)
        return;
    if (found != tables_.end())
        forget(table_id);
    Table table;
    table.shape = shape;
    table.newer.after_batch = last_batch;
    table.newer.begun = now;
    tables_.emplace(table_id, std::move(table));
}

void ChangedKeys::forget(int table_id) {
    const auto found = tables_.find(table_id);
    if (found == tables_.end())
        return;
    if (found->second.older)
        drop(*found->second.older);
    drop(found->second.newer);
    tables_.erase(found);
}

void ChangedKeys::add(int table_id, const std::string &key) {
    const auto found = tables_.find(table_id);
    if (found != tables_.end() && found->second.newer.keys.insert(key).second)
        bytes_ += cost(key);
}

std::vector<int> ChangedKeys::unmarked(std::int64_t oldest_in_flight) const {
    std::vector<int> found;
    for (const auto &[table_id, table] : tables_)
        if (!table.newer.moment && table.newer.after_batch < oldest_in_flight)
            found.push_back(table_id);
    return found;
}

void ChangedKeys::mark(int table_id, std::int64_t moment) {
    if (const auto found = tables_.find(table_id); found != tables_.end() && !found->second.newer.moment)
        found->second.newer.moment = moment;
}

void ChangedKeys::next_generation(Table &table, std::int64_t last_batch, Clock::time_point now) {
    if (table.older)
        drop(*table.older);
    table.older.reset();
    // A generation without a moment says nothing that its successor does not say as well.
    if (table.newer.moment)
        table.older = std::move(table.newer);
    else
        drop(table.newer);
    table.newer = Generation{};
    table.newer.after_batch = last_batch;
    table.newer.begun = now;
}

void ChangedKeys::turn(int table_id, Passes passes, std::int64_t last_batch, Clock::time_point now) {
    const auto found = tables_.find(table_id);
    if (found == tables_.end())
        return;
    Table &table = found->second;
    if (table.older) {
        const bool newer_will_do = table.newer.moment && passes.sound > *table.newer.moment;
        const bool of_use = std::max(passes.sound, passes.running) > *table.older->moment;
        if (newer_will_do || (!of_use && table.newer.moment)) {
            drop(*table.older);
            table.older.reset();
        }
    }
    if (!table.older && table.newer.moment && now - table.newer.begun >= least_age)
        next_generation(table, last_batch, now);
}

// The table with most keys gives its older generation, or begins anew.
void ChangedKeys::trim(std::int64_t last_batch, Clock::time_point now) {
    if (bytes_ <= most_bytes_)
        return;
    const auto most = std::ranges::max_element(tables_, {}, [](const auto &entry) {
        return entry.second.newer.keys.size() + (entry.second.older ? entry.second.older->keys.size() : 0);
    });
    Table &table = most->second;
    next_generation(table, last_batch, now);
    if (bytes_ > most_bytes_ / 2 && table.older) {
        drop(*table.older);
        table.older.reset();
    }
}

std::optional<std::int64_t> ChangedKeys::since(int table_id) const {
    const auto found = tables_.find(table_id);
    if (found == tables_.end())
        return std::nullopt;
    return found->second.older ? found->second.older->moment : found->second.newer.moment;
}

std::vector<std::string> ChangedKeys::keys(int table_id) const {
    const auto found = tables_.find(table_id);
    if (found == tables_.end())
        return {};
    std::vector<std::string> all(found->second.newer.keys.begin(), found->second.newer.keys.end());
    if (found->second.older)
        for (const std::string &key : found->second.older->keys)
            if (!found->second.newer.keys.contains(key))
                all.push_back(key);
    return all;
}

void ChangedKeys::verified(int table_id, const std::vector<std::string> &keys) {
    const auto found = tables_.find(table_id);
    if (found == tables_.end())
        return;
    const auto erase = [&](Generation &generation, const std::string &key) {
        if (generation.keys.erase(key) > 0)
            bytes_ -= cost(key);
    };
    for (const std::string &key : keys) {
        erase(found->second.newer, key);
        if (found->second.older)
            erase(*found->second.older, key);
    }
}

} // namespace tandem::sync
