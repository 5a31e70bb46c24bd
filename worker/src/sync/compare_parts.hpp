// Parts of a chunk: where they begin, which key is in which, and what is compared of them (docs/protocol.md section 14). Pure.
#pragma once

#include "core/row_digest.hpp"
#include "mysql/key_range.hpp"
#include "postgres/compare_api.hpp"
#include "sync/chunk_rows.hpp"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tandem::sync {

constexpr std::size_t rows_of_small_part = 64; // so few rows are compared one by one
constexpr std::size_t most_parts = 4096;       // of one chunk

// Even parts of an interval of integer keys, asked for before anybody knows the old side's keys: part p has keys from starts[p - 1] on.
class EvenParts {
  public:
    // nullopt: the interval is open, or its key is none of one integer.
    static std::optional<EvenParts> of(const mysql::KeyInterval &interval, std::size_t rows_expected);

    const std::vector<std::string> &starts() const { return texts_; }
    std::size_t count() const { return starts_.size() + 1; }
    // Of the integer that the key bytes hold. Keys come in order: `from` is the part of the one before.
    std::size_t part_of(std::int64_t key, std::size_t from) const;
    mysql::KeyInterval interval(std::size_t first, std::size_t last) const; // of parts first … last

  private:
    mysql::KeyInterval whole_;
    std::vector<std::int64_t> starts_;
    std::vector<std::string> texts_;
};

std::int64_t integer_of_key(std::string_view key); // key bytes of one smallint, integer or bigint

// Runs of neighbouring parts whose sums differ, as [first, last].
std::vector<std::pair<std::size_t, std::size_t>> differing_parts(const std::vector<core::ChunkSum> &old,
                                                                 const std::vector<core::ChunkSum> &fresh);

// What is compared row by row: intervals of keys, and the old side's rows in each.
struct DifferingRows {
    std::vector<std::size_t> begins, ends;
    std::vector<mysql::KeyText> lows, highs;

    void add(std::size_t begin, std::size_t end, const mysql::KeyInterval &interval) {
        begins.push_back(begin);
        ends.push_back(end);
        lows.push_back(interval.low);
        highs.push_back(interval.high);
    }
};

} // namespace tandem::sync
