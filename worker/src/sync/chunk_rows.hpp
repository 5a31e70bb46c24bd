// Hashes of the old rows of one chunk, kept in memory while the chunk is looked at, and the comparison with the other side's. Pure.
#pragma once

#include "core/row_digest.hpp"
#include "core/types.hpp"
#include "postgres/compare_api.hpp"

#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

namespace tandem::sync {

using KeySet = std::unordered_set<std::string>;

enum class Kind { missing, extra, different };
const char *name_of(Kind kind);

struct Suspect {
    std::string key;
    Kind kind = Kind::different;
};

class OldRows {
  public:
    void add(std::string_view key, const core::Hash128 &hash) {
        entries_.push_back({static_cast<std::uint32_t>(keys_.size()), static_cast<std::uint32_t>(key.size()), hash});
        keys_ += key;
        sum_.add(hash);
    }
    // A row of which no hash can be had: never equal to anything.
    void add_bad(std::string_view key, core::Untranslatable why) { bad_.emplace(key, std::move(why)); }

    std::size_t size() const { return entries_.size(); }
    std::string_view key(std::size_t i) const { return std::string_view(keys_).substr(entries_[i].offset, entries_[i].length); }
    const core::Hash128 &hash(std::size_t i) const { return entries_[i].hash; }
    const core::ChunkSum &sum() const { return sum_; }
    core::ChunkSum sum_of(std::size_t first, std::size_t end) const;
    const std::unordered_map<std::string, core::Untranslatable> &bad() const { return bad_; }

  private:
    struct Entry {
        std::uint32_t offset, length;
        core::Hash128 hash;
    };
    std::string keys_; // one after the other
    std::vector<Entry> entries_;
    core::ChunkSum sum_;
    std::unordered_map<std::string, core::Untranslatable> bad_;
};

// Rows first … end - 1 of the old side against all that the new side has in the same place. Bad rows are not among them, but a row of the
// new side under the key of one is not `extra`.
void compare_rows(const OldRows &old, std::size_t first, std::size_t end, const std::vector<postgres::KeyHash> &fresh,
                  std::vector<Suspect> &suspects);

// Bad rows as suspects: what the new side has under their keys decides the kind.
void compare_bad_rows(const OldRows &old, const KeySet &fresh_keys, std::vector<Suspect> &suspects);

} // namespace tandem::sync
