// docs/protocol.md section 8, and every way in which a barrier must not be called reached.
#include "sync/barrier.hpp"

#include <gtest/gtest.h>

using tandem::sync::Barrier;

namespace {

void read_everything(Barrier &barrier, std::int64_t last_batch) {
    barrier.before_snapshot();
    barrier.after_snapshot(true, last_batch);
}

} // namespace

TEST(Barrier, ReachedAfterACompleteSnapshotAndItsAcknowledgements) {
    Barrier barrier;
    EXPECT_FALSE(barrier.seen(1, false));
    EXPECT_TRUE(barrier.wanted());
    read_everything(barrier, 7);
    barrier.finished_up_to(7);
    EXPECT_FALSE(barrier.seen(1, false));
    barrier.finished_up_to(8);
    EXPECT_TRUE(barrier.settling());
    EXPECT_EQ(barrier.seen(1, false), 1);
    EXPECT_FALSE(barrier.wanted());
    EXPECT_FALSE(barrier.seen(1, false)); // told once
}

TEST(Barrier, NothingInFlight) {
    Barrier barrier;
    barrier.seen(3, false);
    read_everything(barrier, 0);
    barrier.finished_up_to(0);
    EXPECT_EQ(barrier.seen(3, false), 3);
}

TEST(Barrier, OneRaisedAfterTheSnapshotWaitsForTheNext) {
    Barrier barrier;
    barrier.seen(1, false);
    barrier.before_snapshot();
    barrier.seen(2, false); // raised while the snapshot is read
    barrier.after_snapshot(true, 0);
    barrier.finished_up_to(0);
    EXPECT_EQ(barrier.seen(2, false), 1);
    EXPECT_TRUE(barrier.wanted());
    read_everything(barrier, 0);
    barrier.finished_up_to(0);
    EXPECT_EQ(barrier.seen(2, false), 2);
}

TEST(Barrier, NotWhenTheSnapshotWasLimited) {
    Barrier barrier;
    barrier.seen(1, false);
    barrier.before_snapshot();
    barrier.after_snapshot(false, 5);
    barrier.finished_up_to(0);
    EXPECT_FALSE(barrier.seen(1, false));
}

TEST(Barrier, NotWithRequestsBefore) {
    Barrier barrier;
    barrier.seen(1, true);
    read_everything(barrier, 0);
    barrier.finished_up_to(0);
    EXPECT_FALSE(barrier.seen(1, false));
    EXPECT_TRUE(barrier.wanted());
}

TEST(Barrier, NotWithRequestsThatTheApplyMade) {
    Barrier barrier;
    barrier.seen(1, false);
    read_everything(barrier, 2);
    barrier.finished_up_to(0);
    EXPECT_FALSE(barrier.seen(1, true));
    EXPECT_FALSE(barrier.seen(1, false)); // a new snapshot is needed
    read_everything(barrier, 3);
    barrier.finished_up_to(4);
    EXPECT_EQ(barrier.seen(1, false), 1);
}

TEST(Barrier, NotWhenACascadePutNewEventsIntoAnOutbox) {
    Barrier barrier;
    barrier.seen(1, false);
    read_everything(barrier, 2);
    barrier.disturb();
    barrier.finished_up_to(0);
    EXPECT_FALSE(barrier.seen(1, false));
}

TEST(Barrier, ASnapshotThatNotedNothingProvesNothing) {
    Barrier barrier;
    read_everything(barrier, 1);
    barrier.seen(1, false);
    barrier.finished_up_to(0);
    EXPECT_FALSE(barrier.seen(1, false));
}
