// What the states of chunks mean for events, and the SQL that sorts keys into chunks.
#include "core/chunks.hpp"
#include "core/error.hpp"
#include "mysql/key_order.hpp"
#include "sync/pacing.hpp"
#include "sync/throttle.hpp"

#include <gtest/gtest.h>

namespace tandem {
namespace {

using core::ChunkInterval;

std::vector<int> meanings(const core::TableChunks &table) {
    std::vector<int> found;
    for (const ChunkInterval &interval : table.intervals)
        found.push_back(interval.what);
    return found;
}

core::TableChunks one(const std::string &rest) {
    const auto reading = core::parse_chunk_reading(R"([{"table_id": 7, "done": false, "held": false, )" + rest + "}]");
    return reading.at(7);
}

TEST(Chunks, NothingPlanned) {
    const auto table = one(R"("planned": null, "planned_all": false, "done_high": null, "open": [])");
    EXPECT_EQ(meanings(table), std::vector<int>{1}); // all of it belongs to chunks from 1 on
    EXPECT_TRUE(table.not_started(1));
}

TEST(Chunks, DonePrefixThenInProgressThenNotStarted) {
    const auto table = one(R"("planned": 6, "planned_all": false, "done_high": ["10"], "open": [
        {"chunk": 3, "high": ["20"], "state": "in_progress"}, {"chunk": 4, "high": ["30"], "state": "done"},
        {"chunk": 5, "high": ["40"], "state": "not_started"}, {"chunk": 6, "high": ["50"], "state": "not_started"}])");
    EXPECT_EQ(meanings(table), (std::vector<int>{0, -1, 0, 5, 6, 7}));
    EXPECT_EQ(table.last_started, 4);
    EXPECT_FALSE(table.not_started(4));
    EXPECT_TRUE(table.not_started(5));
    EXPECT_FALSE(table.intervals.back().high.has_value());
}

TEST(Chunks, NeighboursOfOneMeaningAreOneInterval) {
    const auto table = one(R"("planned": 4, "planned_all": true, "done_high": ["10"], "open": [
        {"chunk": 2, "high": ["20"], "state": "in_progress"}, {"chunk": 3, "high": ["30"], "state": "in_progress"},
        {"chunk": 4, "high": null, "state": "in_progress"}])");
    EXPECT_EQ(meanings(table), (std::vector<int>{0, -1}));
    EXPECT_FALSE(table.intervals.back().high.has_value());
    EXPECT_FALSE(table.not_started(4));
}

TEST(Chunks, EveryChunkDone) {
    const auto table = one(R"("planned": 2, "planned_all": true, "done_high": null, "open": [])");
    EXPECT_EQ(meanings(table), std::vector<int>{0});
    EXPECT_FALSE(table.not_started(2));
}

TEST(Chunks, AnythingElseIsRefused) { EXPECT_THROW(core::parse_chunk_reading("{\"a\": 1}"), core::Error); }

core::Column column(const std::string &type, const std::string &image, const std::string &mysql_type = "") {
    core::Column made;
    made.name = "c";
    made.data_type = type;
    made.mysql_type = mysql_type.empty() ? type : mysql_type;
    made.image_type = image;
    return made;
}

TEST(KeyOrder, UpToIsTheComplementOfAfter) {
    const std::vector<core::Column> key{column("int", "integer"), column("int", "integer")};
    EXPECT_EQ(mysql::after_key(key, {"a", "b"}, {"1", "2"}), "(a >= 1 AND (a > 1 OR (a = 1 AND (b > 2))))");
    EXPECT_EQ(mysql::up_to_key(key, {"a", "b"}, {"1", "2"}), "(a <= 1 AND (a < 1 OR (a = 1 AND (b <= 2))))");
    EXPECT_EQ(mysql::up_to_key({key[0]}, {"a"}, {"1"}), "(a <= 1)");
}

TEST(KeyOrder, EnumsSortByNumber) {
    const std::vector<core::Column> key{column("enum", "text", "enum('z','a')")};
    // '' is the invalid value, number 0.
    EXPECT_EQ(mysql::up_to_key(key, {"k1"}, {"z"}), "(k1 IN (0, 1))");
    EXPECT_EQ(mysql::up_to_key(key, {"k1"}, {""}), "(k1 IN (0, 0))");
    EXPECT_EQ(mysql::after_key(key, {"k1"}, {"a"}), "(FALSE)");
    const std::vector<core::Column> two{key[0], column("int", "integer")};
    EXPECT_EQ(mysql::after_key(two, {"k1", "k2"}, {"z", "5"}), "(k1 IN (1, 2) AND (k1 IN (2, 2) OR (k1 IN (1, 1) AND (k2 > 5))))");
    EXPECT_EQ(mysql::after_key(two, {"k1", "k2"}, {"a", "5"}),
              "(k1 IN (0, 2) AND ((k1 IN (0, 0) AND k2 > 5 AND k2 <= 5) OR (k1 IN (2, 2) AND (k2 > 5))))");
    EXPECT_EQ(mysql::up_to_key(two, {"k1", "k2"}, {"a", "5"}), "(k1 IN (0, 1, 2) AND (k1 IN (0, 1) OR (k1 IN (2, 2) AND (k2 <= 5))))");
    const std::vector<core::Column> labels{key[0], key[0]};
    EXPECT_EQ(mysql::after_key(labels, {"k1", "k2"}, {"a", "z"}), "(k1 IN (2, 2) AND (FALSE OR (k1 IN (2, 2) AND (k2 IN (2, 2)))))");
    // Longer lists than this are no condition any more.
    std::string many = "enum('1'";
    for (int i = 2; i <= 256; ++i)
        many += ",'" + std::to_string(i) + "'";
    EXPECT_EQ(mysql::up_to_key({column("enum", "text", many + ")")}, {"k1"}, {"7"}), "((k1 + 0) <= 7)");
}

TEST(KeyOrder, SetsOfFewLabelsAreListed) {
    const std::vector<core::Column> key{column("set", "text", "set('z','a')")};
    EXPECT_EQ(mysql::after_key(key, {"k1"}, {"z"}), "(k1 IN (2, 3))");
    EXPECT_EQ(mysql::up_to_key({column("set", "text", "set('1','2','3','4','5','6','7','8','9')")}, {"k1"}, {"7"}), "((k1 + 0) <= 64)");
}

TEST(KeyOrder, IntervalsBecomeOneExpression) {
    const std::vector<core::Column> key{column("int", "integer")};
    EXPECT_EQ(mysql::interval_of_key(key, {"k1"}, {{{{"10"}}, 0}, {{{"20"}}, -1}, {std::nullopt, 3}}),
              "CASE WHEN (k1 <= 10) THEN 0 WHEN (k1 <= 20) THEN -1 ELSE 3 END");
    EXPECT_EQ(mysql::interval_of_key(key, {"k1"}, {{std::nullopt, 1}}), "1");
}

TEST(KeyOrder, ABoundThatIsNoKeyIsRefused) {
    EXPECT_THROW(mysql::after_key({column("int", "integer")}, {"a"}, {"x"}), core::Error);
    EXPECT_THROW(mysql::after_key({column("int", "integer")}, {"a"}, {}), core::Error);
    EXPECT_THROW(mysql::after_key({column("enum", "text", "enum('z')")}, {"a"}, {"x"}), core::Error);
    EXPECT_THROW(mysql::after_key({column("set", "text", "set('z','y')")}, {"a"}, {"z,x"}), core::Error);
}

TEST(Pace, FallsWithTheLoadAndStopsBeyondItsLimits) {
    postgres::Settings settings;
    settings.backfill_yield = 4;
    settings.backfill_max_threads_running = 10;
    mysql::OldSideLoad load;
    load.threads_running = 0;
    EXPECT_DOUBLE_EQ(sync::pace_of(load, settings).share, 1);
    load.threads_running = 1;
    EXPECT_DOUBLE_EQ(sync::pace_of(load, settings).share, 0.2);
    load.threads_running = 9;
    EXPECT_DOUBLE_EQ(sync::pace_of(load, settings).share, sync::least_share);
    EXPECT_FALSE(sync::pace_of(load, settings).waits);
    load.threads_running = 10;
    EXPECT_TRUE(sync::pace_of(load, settings).waits);
    settings.backfill_yield = settings.backfill_max_threads_running = 0;
    EXPECT_DOUBLE_EQ(sync::pace_of(load, settings).share, 1);
    EXPECT_FALSE(sync::pace_of(load, settings).waits);
    load.threads_running = -1; // cannot be read: does not count
    EXPECT_DOUBLE_EQ(sync::pace_of(load, settings).share, 1);
    load.history_list = settings.backfill_max_history_list + 1;
    EXPECT_TRUE(sync::pace_of(load, settings).waits);
    load.history_list = 0;
    load.replica_lag_s = 11;
    EXPECT_TRUE(sync::pace_of(load, settings).waits);
    EXPECT_EQ(sync::pace_of(load, settings).reason, "replica lag 11 s");
    settings.backfill_max_replica_lag = std::chrono::milliseconds(0);
    EXPECT_FALSE(sync::pace_of(load, settings).waits);
}

TEST(Pace, PausesLeaveTheShare) {
    EXPECT_EQ(sync::pause_after(std::chrono::microseconds(100), 1).count(), 0);
    EXPECT_EQ(sync::pause_after(std::chrono::microseconds(100), 0.25).count(), 300);
    EXPECT_EQ(sync::pause_after(std::chrono::microseconds(1000000), 0.01).count(), 2000000); // never longer
}

TEST(AdaptiveRows, FollowsItsTime) {
    sync::AdaptiveRows rows;
    const auto first = rows.rows();
    rows.learn(first, std::chrono::milliseconds(1), std::chrono::milliseconds(500));
    EXPECT_EQ(rows.rows(), 4 * first);
    rows.learn(rows.rows(), std::chrono::milliseconds(1000), std::chrono::milliseconds(500));
    EXPECT_EQ(rows.rows(), 2 * first);
    rows.learn(0, std::chrono::milliseconds(1000), std::chrono::milliseconds(500));
    EXPECT_EQ(rows.rows(), 2 * first);
}

} // namespace
} // namespace tandem
