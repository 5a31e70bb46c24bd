#include "sync/chunk_rows.hpp"

namespace tandem::sync {

const char *name_of(Kind kind) { return kind == Kind::missing ? "missing" : kind == Kind::extra ? "extra" : "different"; }

core::ChunkSum OldRows::sum_of(std::size_t first, std::size_t end) const {
    core::ChunkSum sum;
    for (std::size_t i = first; i < end; ++i)
        sum.add(entries_[i].hash);
    return sum;
}

void compare_rows(const OldRows &old, std::size_t first, std::size_t end, const std::vector<postgres::KeyHash> &fresh,
                  std::vector<Suspect> &suspects) {
    std::unordered_map<std::string_view, std::size_t> left;
    left.reserve(end - first);
    for (std::size_t i = first; i < end; ++i)
        left.emplace(old.key(i), i);
    for (const postgres::KeyHash &row : fresh) {
        const auto found = left.find(row.key);
        if (found == left.end()) {
            if (!old.bad().contains(row.key))
                suspects.push_back({row.key, Kind::extra});
            continue;
        }
        if (!row.comparable || old.hash(found->second) != row.hash)
            suspects.push_back({row.key, Kind::different});
        left.erase(found);
    }
    for (const auto &[key, i] : left)
        suspects.push_back({std::string(key), Kind::missing});
}

void compare_bad_rows(const OldRows &old, const KeySet &fresh_keys, std::vector<Suspect> &suspects) {
    for (const auto &[key, why] : old.bad())
        suspects.push_back({key, fresh_keys.contains(key) ? Kind::different : Kind::missing});
}

} // namespace tandem::sync
