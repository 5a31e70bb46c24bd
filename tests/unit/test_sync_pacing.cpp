// Batch budget, row and chunk sizes, poll schedule.
#include "sync/pacing.hpp"

#include <gtest/gtest.h>

using namespace tandem::sync;
using std::chrono::microseconds;
using std::chrono::milliseconds;

TEST(RowSize, UnknownTablesStartSmall) {
    const RowSize size;
    EXPECT_EQ(size.rows_for(1 << 30), RowSize::first_rows);
}

TEST(RowSize, LargeRowsBoundTheBatchAtOnceAndSmallOnesSlowly) {
    RowSize size;
    size.learn(100, 100 * 100);
    size.learn(1, 1000000);
    EXPECT_EQ(size.rows_for(16000000), 16);
    size.learn(1000, 1000 * 100);
    EXPECT_LT(size.rows_for(16000000), 30);
    EXPECT_EQ(size.rows_for(1), 1); // a row larger than the whole batch must still flow
}

TEST(BatchBudget, SharesAndLeavesTheRestToLaterTables) {
    RowSize small;
    small.learn(1000, 1000);
    BatchBudget budget(9000, 1 << 30, 3);
    EXPECT_EQ(budget.next_limit(small), 3000);
    budget.spend(0, 0); // an empty outbox
    EXPECT_EQ(budget.next_limit(small), 4500);
    budget.spend(4500, 4500);
    EXPECT_EQ(budget.next_limit(small), 4500);
    budget.spend(4500, 4500);
    EXPECT_EQ(budget.next_limit(small), 0);
}

TEST(BatchBudget, FullInBytes) {
    RowSize large;
    large.learn(1, 1 << 20);
    BatchBudget budget(9000, 4 << 20, 2);
    EXPECT_EQ(budget.next_limit(large), 2);
    budget.spend(2, 4 << 20);
    EXPECT_EQ(budget.next_limit(large), 0);
}

TEST(BatchBudget, EveryTableGetsAtLeastOneRow) {
    BatchBudget budget(2, 1000, 10);
    EXPECT_EQ(budget.next_limit(RowSize{}), 1);
}

TEST(ChunkSize, GrowsAndShrinksTowardsItsTime) {
    ChunkSize chunk;
    const auto start = chunk.rows();
    chunk.learn(start, microseconds(1000));
    EXPECT_EQ(chunk.rows(), start * 2);
    chunk.learn(chunk.rows(), ChunkSize::target * 100);
    EXPECT_EQ(chunk.rows(), start / 2);
    chunk.learn(1, microseconds(1)); // the last rows of a table say nothing
    EXPECT_EQ(chunk.rows(), start / 2);
}

TEST(PollSchedule, DoublesUpToTheMostAndStartsAgainAfterWork) {
    PollSchedule schedule(milliseconds(2), milliseconds(10));
    EXPECT_EQ(schedule.next_pause(), milliseconds(2));
    EXPECT_EQ(schedule.next_pause(), milliseconds(4));
    EXPECT_EQ(schedule.next_pause(), milliseconds(8));
    EXPECT_EQ(schedule.next_pause(), milliseconds(10));
    EXPECT_EQ(schedule.next_pause(), milliseconds(10));
    schedule.worked();
    EXPECT_EQ(schedule.next_pause(), milliseconds(2));
    schedule.set(milliseconds(5), milliseconds(6));
    EXPECT_EQ(schedule.next_pause(), milliseconds(5));
    EXPECT_EQ(schedule.next_pause(), milliseconds(6));
}
