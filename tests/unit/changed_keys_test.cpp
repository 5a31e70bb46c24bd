// What a cut-over relies on: when `since` is known and a pass began later, no key that changed after that beginning is missing.
#include "sync/changed_keys.hpp"

#include <algorithm>
#include <gtest/gtest.h>
#include <limits>
#include <random>
#include <set>

namespace tandem::sync {
namespace {

constexpr int users = 1, orders = 2;
const Clock::time_point start{};
constexpr std::int64_t nothing = std::numeric_limits<std::int64_t>::max(); // in flight

Clock::time_point after(int seconds) { return start + std::chrono::seconds(seconds); }

TEST(ChangedKeys, AMomentOnlyWhenEarlierBatchesAreApplied) {
    ChangedKeys changed;
    changed.watch(users, "a", 7, start);
    EXPECT_TRUE(changed.unmarked(7).empty());
    EXPECT_TRUE(changed.unmarked(5).empty());
    EXPECT_FALSE(changed.since(users));
    EXPECT_EQ(changed.unmarked(8), std::vector<int>{users});
    changed.mark(users, 10);
    EXPECT_EQ(changed.since(users), 10);
    EXPECT_TRUE(changed.unmarked(nothing).empty());
}

TEST(ChangedKeys, AnotherShapeBeginsAnew) {
    ChangedKeys changed;
    changed.watch(users, "a", 0, start);
    changed.mark(users, 10);
    changed.add(users, "x");
    changed.watch(users, "a", 5, start);
    EXPECT_EQ(changed.keys(users).size(), 1u);
    changed.watch(users, "b", 5, start);
    EXPECT_EQ(changed.keys(users).size(), 0u);
    EXPECT_EQ(changed.bytes(), 0u);
    EXPECT_FALSE(changed.since(users));
}

TEST(ChangedKeys, OnlyWatchedTables) {
    ChangedKeys changed;
    changed.add(orders, "x");
    EXPECT_EQ(changed.bytes(), 0u);
    EXPECT_FALSE(changed.since(orders));
    EXPECT_TRUE(changed.keys(orders).empty());
}

TEST(ChangedKeys, ThePassThatRunsKeepsTheOlderGeneration) {
    ChangedKeys changed;
    changed.watch(users, "a", 0, start);
    changed.mark(users, 10);
    changed.add(users, "x");
    changed.turn(users, {}, 5, after(40)); // old enough: another generation
    changed.add(users, "y");
    EXPECT_EQ(changed.unmarked(nothing), std::vector<int>{users});
    changed.mark(users, 20);
    changed.turn(users, {0, 15}, 6, after(80)); // a pass that began between the two
    EXPECT_EQ(changed.since(users), 10);
    EXPECT_EQ(changed.keys(users).size(), 2u);
    changed.turn(users, {15, 0}, 7, after(120)); // it is over, and clean
    EXPECT_EQ(changed.since(users), 10);
    changed.turn(users, {25, 0}, 8, after(160)); // one that began after the newer generation
    EXPECT_EQ(changed.since(users), 20);
    EXPECT_EQ(changed.keys(users), std::vector<std::string>{"y"});
}

TEST(ChangedKeys, WithoutPassesTheOlderGenerationGoes) {
    ChangedKeys changed;
    changed.watch(users, "a", 0, start);
    changed.mark(users, 10);
    changed.add(users, "x");
    changed.turn(users, {5, 0}, 5, after(40));
    changed.mark(users, 20);
    changed.turn(users, {5, 0}, 5, after(41));
    EXPECT_EQ(changed.keys(users).size(), 0u);
    EXPECT_EQ(changed.since(users), 20);
}

TEST(ChangedKeys, MemoryIsBounded) {
    ChangedKeys changed(10000);
    changed.watch(users, "a", 0, start);
    changed.watch(orders, "a", 0, start);
    changed.mark(users, 10);
    changed.mark(orders, 10);
    changed.add(orders, "few");
    for (int i = 0; i < 5000; ++i) {
        changed.add(users, "key " + std::to_string(i));
        changed.trim(i, start);
        EXPECT_LE(changed.bytes(), 10100u);
    }
    EXPECT_FALSE(changed.since(users)); // not known any more, until a moment is noted
    EXPECT_EQ(changed.since(orders), 10);
    EXPECT_EQ(changed.keys(orders).size(), 1u);
}

TEST(ChangedKeys, WhatWasVerifiedIsGoneUntilItChanges) {
    ChangedKeys changed;
    changed.watch(users, "a", 0, start);
    changed.mark(users, 10);
    changed.add(users, "x");
    changed.turn(users, {}, 5, after(40));
    changed.add(users, "x");
    changed.add(users, "y");
    changed.verified(users, {"x", "z"});
    EXPECT_EQ(changed.keys(users), std::vector<std::string>{"y"});
    changed.add(users, "x");
    EXPECT_EQ(changed.keys(users).size(), 2u);
    changed.forget(users);
    EXPECT_EQ(changed.bytes(), 0u);
}

// Random histories against a model that forgets nothing.
TEST(ChangedKeys, NoKeyIsMissing) {
    std::mt19937 random(20261126);
    const auto below = [&](int n) { return static_cast<int>(random() % static_cast<unsigned>(n)); };
    int known = 0;
    for (int history = 0; history < 300; ++history) {
        ChangedKeys changed(4000 + static_cast<std::size_t>(below(20000)));
        std::int64_t batch = 0, moment = 0, clean = 0, running = 0;
        std::vector<std::pair<std::int64_t, std::string>> applications; // (moment after which it was applied, key)
        std::vector<std::pair<std::int64_t, std::vector<std::string>>> in_flight;
        changed.watch(users, "a", 0, start);
        for (int step = 0; step < 400; ++step) {
            const Clock::time_point now = after(step * (1 + below(3)));
            switch (below(6)) {
            case 0:
            case 1: {
                std::vector<std::string> keys;
                for (int i = 0; i < 1 + below(8); ++i)
                    keys.push_back(std::to_string(below(200)));
                ++batch;
                for (const std::string &key : keys)
                    changed.add(users, key);
                changed.trim(batch, now);
                in_flight.emplace_back(batch, keys);
                break;
            }
            case 2:
                if (!in_flight.empty()) {
                    for (const std::string &key : in_flight.front().second)
                        applications.emplace_back(moment, key);
                    in_flight.erase(in_flight.begin());
                }
                break;
            case 3:
                if (!changed.unmarked(in_flight.empty() ? nothing : in_flight.front().first).empty())
                    changed.mark(users, ++moment);
                changed.turn(users, {clean, running}, batch, now);
                break;
            case 4:
                if (running == 0)
                    running = ++moment;
                break;
            default:
                clean = std::max(clean, std::exchange(running, 0));
            }
            const auto since = changed.since(users);
            if (!since || clean <= *since)
                continue;
            ++known;
            const std::vector<std::string> keys = changed.keys(users);
            const std::set<std::string> have(keys.begin(), keys.end());
            for (const auto &[when, key] : applications)
                if (when >= clean) {
                    ASSERT_TRUE(have.contains(key)) << "history " << history << " step " << step;
                }
        }
    }
    EXPECT_GT(known, 1000);
}

} // namespace
} // namespace tandem::sync
