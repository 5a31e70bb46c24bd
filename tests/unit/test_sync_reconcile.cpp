// The pure parts of reconciliation: merging the rows of a chunk, sizes and pauses, keys that wait to be verified, who is whose ancestor.
#include "sync/applied_keys.hpp"
#include "sync/chunk_rows.hpp"
#include "sync/compare_pass.hpp"
#include "sync/reconcile_pacing.hpp"

#include <algorithm>
#include <gtest/gtest.h>

using namespace tandem;
using namespace tandem::sync;

namespace {

std::vector<std::string> told(std::vector<Suspect> suspects) {
    std::vector<std::string> lines;
    for (const Suspect &one : suspects)
        lines.push_back(one.key + " " + name_of(one.kind));
    std::sort(lines.begin(), lines.end());
    return lines;
}

core::TableConfig table_with_parents(int id, const char *name, std::vector<std::string> parents) {
    core::TableConfig table;
    table.table_id = id;
    table.name = name;
    table.cascade_parents = std::move(parents);
    return table;
}

} // namespace

TEST(ChunkRows, MissingExtraDifferent) {
    OldRows old;
    old.add("a", {1, 1});
    old.add("b", {2, 2});
    old.add("c", {3, 3});
    old.add_bad("x", {"d", "22008", "zero date"});
    std::vector<Suspect> suspects;
    compare_rows(old, 0, old.size(), {{"a", {1, 1}}, {"b", {2, 9}}, {"e", {5, 5}}, {"x", {7, 7}}}, suspects);
    EXPECT_EQ(told(suspects), (std::vector<std::string>{"b different", "c missing", "e extra"}));
    suspects.clear();
    compare_bad_rows(old, {"x"}, suspects);
    EXPECT_EQ(told(suspects), (std::vector<std::string>{"x different"}));
    suspects.clear();
    compare_bad_rows(old, {}, suspects);
    EXPECT_EQ(told(suspects), (std::vector<std::string>{"x missing"}));
    EXPECT_EQ(old.sum_of(1, 3).rows, 2);
    EXPECT_EQ(old.sum_of(1, 3).sum, (core::Hash128{5, 5}));
    EXPECT_EQ(old.sum().rows, 3);
}

TEST(ChunkRows, ARowThatCannotBeComputedIsNeverEqual) {
    OldRows old;
    old.add("a", {0, 0});
    std::vector<Suspect> suspects;
    compare_rows(old, 0, 1, {{"a", {0, 0}, false}}, suspects);
    EXPECT_EQ(told(suspects), (std::vector<std::string>{"a different"}));
}

TEST(CompareSize, FollowsWhatChunksTook) {
    CompareSize size;
    const auto first = size.rows();
    size.learn(static_cast<std::int64_t>(first), std::chrono::microseconds(1000)); // fast: four times as many at most
    EXPECT_EQ(size.rows(), 4 * first);
    for (int i = 0; i < 20; ++i)
        size.learn(1000000, std::chrono::microseconds(1000000));
    EXPECT_NEAR(static_cast<double>(size.rows()), 350000, 1000);
    size.learn(10000, std::chrono::microseconds(1000000)); // slow: believed at once, in steps of four
    EXPECT_LT(size.rows(), 100000U);
    for (int i = 0; i < 20; ++i)
        size.shrink();
    EXPECT_EQ(size.rows(), 200U);
    size.learn(0, std::chrono::microseconds(1));
    EXPECT_EQ(size.rows(), 200U);
}

TEST(IntegerSpan, GuessesOnlyWhereKeysAreDense) {
    IntegerSpan span;
    EXPECT_FALSE(span.next_high(0, 1000, INT64_MAX));
    span.learn(0, 1000, 1000);
    EXPECT_EQ(span.next_high(1000, 500, INT64_MAX), 1500);
    span.learn(0, 1000, 500);
    EXPECT_EQ(span.next_high(1000, 500, INT64_MAX), 2000);
    span.learn(0, 1000, 100); // a tenth: ask
    EXPECT_FALSE(span.next_high(1000, 500, INT64_MAX));
    span.learn(0, 1000, 1000);
    EXPECT_FALSE(span.next_high(INT64_MAX - 10, 500, INT64_MAX)); // beyond any key
    span.learn(0, 1000, 1000);
    EXPECT_FALSE(span.next_high(32700, 500, INT16_MAX)); // no text of a smallint
    EXPECT_EQ(span.next_high(32000, 500, INT16_MAX), 32500);
}

TEST(ComparePace, SharesAndRates) {
    using Micros = std::chrono::microseconds;
    EXPECT_EQ(pause_after_chunk({1, 0}, 1000, Micros(1000)), Micros(0));
    EXPECT_EQ(pause_after_chunk({0.2, 0}, 1000, Micros(1000)), Micros(4000));
    EXPECT_EQ(pause_after_chunk({1, 1000}, 1000, Micros(400000)), Micros(600000));
    EXPECT_EQ(pause_after_chunk({0.5, 1000}, 100, Micros(400000)), Micros(400000)); // the slower of both
}

TEST(AppliedKeys, BoundedDistinctAndCounted) {
    AppliedKeys applied;
    applied.add(1, {"a"}); // nobody wants them
    EXPECT_TRUE(applied.tables().empty());
    applied.want({{1, 1.0}});
    EXPECT_TRUE(applied.wanted(1));
    EXPECT_FALSE(applied.wanted(2));
    applied.add(1, {"a", "b", "a"});
    applied.add(2, {"z"});
    EXPECT_EQ(applied.tables(), std::vector<int>{1});
    auto taken = applied.take(1, 1);
    EXPECT_EQ(taken.keys, std::vector<std::string>{"a"});
    EXPECT_EQ(taken.covered, 1);
    taken = applied.take(1, 10);
    EXPECT_EQ(taken.keys, std::vector<std::string>{"b"});
    EXPECT_EQ(taken.covered, 2);
    EXPECT_TRUE(applied.take(1, 10).keys.empty());
    std::vector<std::string> many;
    for (std::size_t i = 0; i < AppliedKeys::most_of_table + 1000; ++i)
        many.push_back(std::to_string(i));
    applied.add(1, std::move(many));
    EXPECT_EQ(applied.take(1, 1000000).covered, static_cast<std::int64_t>(AppliedKeys::most_of_table + 1000));
    applied.add(1, {"k"});
    applied.want({});
    EXPECT_TRUE(applied.tables().empty());
}

TEST(CascadeAncestors, OverAnyNumberOfSteps) {
    const std::vector<core::TableConfig> all{table_with_parents(1, "a", {}), table_with_parents(2, "b", {"a"}),
                                             table_with_parents(3, "c", {"b", "gone"}), table_with_parents(4, "tree", {"tree"})};
    const auto ids = [&](int of) {
        std::vector<int> found;
        for (const core::TableConfig &table : cascade_ancestors(all[static_cast<std::size_t>(of - 1)], all))
            found.push_back(table.table_id);
        std::sort(found.begin(), found.end());
        return found;
    };
    EXPECT_TRUE(ids(1).empty());
    EXPECT_EQ(ids(3), (std::vector<int>{1, 2}));
    EXPECT_EQ(ids(4), std::vector<int>{4});
}
