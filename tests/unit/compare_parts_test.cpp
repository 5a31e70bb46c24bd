// Parts of a chunk: every key of the interval is in exactly one, and in the interval that is asked for it.
#include "sync/compare_parts.hpp"

#include <gtest/gtest.h>

#include <limits>

namespace tandem::sync {
namespace {

using mysql::KeyInterval;

std::string key_of(std::int64_t value, int bytes) {
    std::string key{'\0', '\1', '\0', '\0', '\0', static_cast<char>(bytes)};
    for (int shift = bytes * 8 - 8; shift >= 0; shift -= 8)
        key += static_cast<char>(static_cast<std::uint64_t>(value) >> shift & 0xff);
    return key;
}

bool inside(const KeyInterval &interval, std::int64_t key) {
    return key > std::stoll(interval.low.at(0)) && key <= std::stoll(interval.high.at(0));
}

TEST(CompareParts, IntegersOfKeys) {
    for (const std::int64_t value : {std::int64_t{0}, std::int64_t{1}, std::int64_t{-1}, std::int64_t{-32768}, std::int64_t{32767}})
        for (const int bytes : {2, 4, 8})
            EXPECT_EQ(integer_of_key(key_of(value, bytes)), value);
    EXPECT_EQ(integer_of_key(key_of(std::numeric_limits<std::int64_t>::min(), 8)), std::numeric_limits<std::int64_t>::min());
}

TEST(CompareParts, EveryKeyIsInItsPart) {
    const std::int64_t least = std::numeric_limits<std::int64_t>::min(), most = std::numeric_limits<std::int64_t>::max();
    const std::vector<std::pair<std::int64_t, std::int64_t>> bounds = {{0, 100},    {-7, 5}, {0, 2}, {least, most}, {most - 1000, most},
                                                                       {5, 1000000}};
    for (const auto &[low, high] : bounds) {
        for (const std::size_t rows : {std::size_t{0}, std::size_t{64}, std::size_t{1000}, std::size_t{100000}, std::size_t{100000000}}) {
            const auto parts = EvenParts::of({{std::to_string(low)}, {std::to_string(high)}}, rows);
            if (!parts)
                continue;
            EXPECT_LE(parts->count(), most_parts);
            std::vector<std::int64_t> keys = {low + 1, low + 2, high - 1, high};
            for (const std::string &start : parts->starts()) {
                const std::int64_t value = std::stoll(start);
                ASSERT_GT(value, low);
                ASSERT_LE(value, high);
                keys.insert(keys.end(), {value, value - 1 > low ? value - 1 : value, value < high ? value + 1 : value});
            }
            for (const std::int64_t key : keys) {
                if (key <= low)
                    continue;
                const std::size_t part = parts->part_of(key, 0);
                EXPECT_TRUE(inside(parts->interval(part, part), key)) << key << " of " << low << " to " << high;
                for (const std::size_t other : {part - 1, part + 1}) { // before the first: no part
                    if (other < parts->count()) {
                        EXPECT_FALSE(inside(parts->interval(other, other), key)) << key;
                    }
                }
            }
        }
    }
    EXPECT_FALSE(EvenParts::of({{"1"}, {}}, 1000));
    EXPECT_FALSE(EvenParts::of({{}, {"1"}}, 1000));
    EXPECT_FALSE(EvenParts::of({{"1", "2"}, {"3", "4"}}, 1000));
    EXPECT_FALSE(EvenParts::of({{"5"}, {"5"}}, 1000));
}

TEST(CompareParts, RunsOfDifferingParts) {
    std::vector<core::ChunkSum> old(6), fresh(6);
    fresh[0].add({1, 1});
    fresh[2].add({1, 1});
    fresh[3].add({2, 1});
    EXPECT_EQ(differing_parts(old, fresh), (std::vector<std::pair<std::size_t, std::size_t>>{{0, 0}, {2, 3}}));
    EXPECT_TRUE(differing_parts(old, old).empty());
}

} // namespace
} // namespace tandem::sync
