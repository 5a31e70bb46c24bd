// Life of a table as the pump leads it, and failpoint texts.
#include "core/error.hpp"
#include "sync/failpoint.hpp"
#include "sync/live_table.hpp"

#include <gtest/gtest.h>

using namespace tandem;
using namespace tandem::sync;

namespace {

core::TableConfig config(std::string desired, std::string state, bool done = false, std::vector<std::string> cursor = {}) {
    core::TableConfig table;
    table.table_id = 1;
    table.name = "t";
    table.desired_state = std::move(desired);
    table.state = std::move(state);
    table.backfill_done = done;
    table.backfill_cursor = std::move(cursor);
    return table;
}

LiveTable named(std::string name, std::vector<std::string> parents = {}) {
    core::TableConfig made = config("running", "registered");
    made.name = std::move(name);
    made.cascade_parents = std::move(parents);
    return make_live_table(made);
}

} // namespace

TEST(LiveTable, AStartedTableIsCapturedFirst) {
    const LiveTable table = make_live_table(config("running", "registered"));
    EXPECT_EQ(table.stage, Stage::capturing);
    EXPECT_FALSE(table.captured);
    EXPECT_FALSE(table.reads_outbox());
}

TEST(LiveTable, ARestartGoesOnWhereTheCatalogIs) {
    EXPECT_EQ(make_live_table(config("running", "syncing", true)).stage, Stage::syncing);
    LiveTable half = make_live_table(config("running", "backfilling", false, {"42"}));
    EXPECT_EQ(half.stage, Stage::backfilling);
    EXPECT_EQ(half.cursor, std::vector<std::string>{"42"});
    EXPECT_FALSE(half.reads_outbox()); // not before it is known how its history is copied
    half.begun = true;
    EXPECT_TRUE(half.reads_outbox());
    // The backfill was set back, the report of it was lost.
    EXPECT_EQ(make_live_table(config("running", "syncing", false)).stage, Stage::backfilling);
}

TEST(LiveTable, BlockedStaysBlockedUntilItIsResumed) {
    LiveTable table = make_live_table(config("running", "blocked", true));
    EXPECT_EQ(table.stage, Stage::blocked);
    take_config(table, config("running", "blocked", true));
    EXPECT_EQ(table.stage, Stage::blocked);
    table.unreadable = true;
    take_config(table, config("running", "capturing", true));
    EXPECT_EQ(table.stage, Stage::capturing);
    EXPECT_FALSE(table.unreadable);
    EXPECT_FALSE(table.captured); // looked at anew
    EXPECT_TRUE(table.has_progress());
}

TEST(LiveTable, PauseAndResumeLookAtCaptureAgain) {
    LiveTable table = make_live_table(config("running", "syncing", true));
    take_config(table, config("paused", "syncing", true));
    EXPECT_EQ(table.stage, Stage::paused);
    EXPECT_FALSE(table.reads_outbox());
    take_config(table, config("running", "paused", true));
    EXPECT_EQ(table.stage, Stage::capturing);
}

TEST(LiveTable, AnotherTablesChangeDoesNotDisturb) {
    LiveTable table = make_live_table(config("running", "backfilling", false, {"1"}));
    table.cursor = {"9"};
    take_config(table, config("running", "backfilling", false, {"1"}));
    EXPECT_EQ(table.stage, Stage::backfilling);
    EXPECT_EQ(table.cursor, std::vector<std::string>{"9"}); // ahead of the catalog by what is in flight
}

TEST(LiveTable, DroppedFromAnywhere) {
    LiveTable table = make_live_table(config("running", "syncing", true));
    take_config(table, config("dropped", "syncing", true));
    EXPECT_EQ(table.stage, Stage::dropping);
    EXPECT_FALSE(table.reads_outbox());
}

TEST(LiveTable, RelativesInBothDirectionsAndAllSteps) {
    LiveTable root = named("root"), child = named("child", {"root"}), grandchild = named("grandchild", {"child"}), other = named("other");
    const std::vector<LiveTable *> all{&root, &child, &grandchild, &other};
    EXPECT_EQ(relatives(grandchild, all).size(), 3U);
    EXPECT_EQ(relatives(root, all).size(), 3U);
    EXPECT_EQ(relatives(other, all).size(), 1U);
    LiveTable self = named("self", {"self"});
    EXPECT_EQ(relatives(self, {&self}).size(), 1U);
}

TEST(Failpoint, Texts) {
    const auto points = parse_failpoints("pump:after_copy_batch:3=kill;request:after_insert=sleep(250)");
    ASSERT_EQ(points.size(), 2U);
    EXPECT_EQ(points[0].name, "pump:after_copy_batch");
    EXPECT_EQ(points[0].at, 3U);
    EXPECT_EQ(points[0].action, Failpoint::Action::kill);
    EXPECT_EQ(points[1].name, "request:after_insert");
    EXPECT_EQ(points[1].at, 1U);
    EXPECT_EQ(points[1].sleep_ms, 250U);
    EXPECT_TRUE(parse_failpoints("").empty());
    EXPECT_THROW(parse_failpoints("pump:x"), core::Error);
    EXPECT_THROW(parse_failpoints("pump:x=explode"), core::Error);
    EXPECT_THROW(parse_failpoints("pump:x=sleep(soon)"), core::Error);
}
