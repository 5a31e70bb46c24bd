// IdSet against std::set: a run must never hold an id that was not added (model A, delete_exact).
#include "core/types.hpp"
#include "mysql/sql_text.hpp"

#include <gtest/gtest.h>
#include <random>
#include <set>

using tandem::core::IdSet;

namespace {

void expect_same(const IdSet &ids, const std::set<std::uint64_t> &model) {
    std::set<std::uint64_t> expanded;
    std::uint64_t last = 0;
    bool first = true;
    for (const IdSet::Run &run : ids.runs()) {
        ASSERT_LE(run.first, run.last);
        if (!first) {
            ASSERT_GT(run.first, last + 1) << "runs must be maximal and ascending";
        }
        for (std::uint64_t id = run.first; id <= run.last; ++id)
            expanded.insert(id);
        last = run.last;
        first = false;
    }
    EXPECT_EQ(expanded, model);
    EXPECT_EQ(ids.count(), model.size());
    EXPECT_EQ(ids.empty(), model.empty());
}

} // namespace

TEST(IdSet, BehavesLikeASetForRandomAdds) {
    std::mt19937 random(20240607);
    for (int round = 0; round < 300; ++round) {
        IdSet ids;
        std::set<std::uint64_t> model;
        std::uniform_int_distribution<std::uint64_t> pick(1, 10 + static_cast<std::uint64_t>(round));
        for (int i = 0; i < 60; ++i) {
            const std::uint64_t id = pick(random);
            ids.add(id);
            model.insert(id);
        }
        expect_same(ids, model);
        for (std::uint64_t id = 0; id < 320; ++id)
            ASSERT_EQ(ids.contains(id), model.count(id) == 1) << id;
    }
}

TEST(IdSet, MergeIsUnion) {
    std::mt19937 random(7);
    for (int round = 0; round < 500; ++round) {
        IdSet a, b;
        std::set<std::uint64_t> model;
        std::uniform_int_distribution<std::uint64_t> pick(1, 60);
        for (int i = 0; i < 20; ++i) {
            const std::uint64_t x = pick(random), y = pick(random);
            a.add(x);
            b.add(y);
            model.insert(x);
            model.insert(y);
        }
        a.merge(b);
        a.merge(a);
        expect_same(a, model);
    }
}

TEST(IdSet, HoldsTheLargestId) {
    IdSet ids;
    ids.add(UINT64_MAX);
    ids.add(UINT64_MAX - 1);
    ids.add(0);
    EXPECT_TRUE(ids.contains(UINT64_MAX));
    EXPECT_TRUE(ids.contains(0));
    EXPECT_FALSE(ids.contains(1));
    EXPECT_EQ(ids.count(), 3U);
}

TEST(IdSet, SlicesLoseAndAddNothing) {
    std::mt19937 random(11);
    for (int round = 0; round < 200; ++round) {
        IdSet ids, again;
        std::uniform_int_distribution<std::uint64_t> pick(1, 200);
        for (int i = 0; i < 100; ++i)
            ids.add(pick(random));
        for (const auto &slice : tandem::mysql::slices(ids, 7, 3)) {
            std::uint64_t size = 0;
            for (const IdSet::Run &run : slice) {
                for (std::uint64_t id = run.first; id <= run.last; ++id)
                    again.add(id);
                size += run.last - run.first + 1;
            }
            EXPECT_LE(size, 7U);
            EXPECT_LE(slice.size(), 3U);
        }
        std::set<std::uint64_t> model;
        for (const IdSet::Run &run : ids.runs())
            for (std::uint64_t id = run.first; id <= run.last; ++id)
                model.insert(id);
        expect_same(again, model);
    }
}
