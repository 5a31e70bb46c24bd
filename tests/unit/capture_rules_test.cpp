// What the capture guard concludes from what it saw.
#include "core/capture_rules.hpp"

#include <gtest/gtest.h>

using namespace tandem::core;

namespace {

Column column(std::string name, std::string type, std::string image, std::string collation = {}) {
    Column made;
    made.name = std::move(name);
    made.mysql_type = std::move(type);
    made.image_type = std::move(image);
    made.collation = collation;
    made.charset = collation.substr(0, collation.find('_'));
    made.nullable = made.name != "id";
    return made;
}

struct World {
    TableConfig table;
    SeenSource source;
    SeenTable seen;

    World() {
        table.table_id = 1;
        table.name = "t";
        table.outbox = "t_outbox";
        table.trigger_suffix = "00000001";
        table.key_columns = {"id"};
        table.columns = {column("id", "int(11)", "integer"), column("v", "varchar(20)", "text", "utf8mb4_bin"),
                         column("w", "int(11)", "integer")};
        table.columns[2].mapped = false;
        source.server = "uuid/mark";
        source.numbers_readable = source.gap_table = true;
        source.uptime = 1000;
        seen.exists = true;
        seen.engine = "InnoDB";
        seen.created = "2026-01-01 00:00:00";
        seen.bytes = 16384;
        seen.columns = {{"id", "int(11)", "", "", false, ""},
                        {"v", "varchar(20)", "utf8mb4", "utf8mb4_bin", true, ""},
                        {"w", "int(11)", "", "", true, ""}};
        seen.unique_keys["PRIMARY"] = {"id"};
        for (const auto &[kind, event] : {std::pair{"ai", "INSERT"}, std::pair{"au", "UPDATE"}, std::pair{"ad", "DELETE"}})
            seen.triggers.push_back({std::string("tandem_") + kind + "_00000001", "t", event, "AFTER", "hash"});
        seen.numbers[""] = "17";
        seen.outbox_columns = {"tandem_id bigint(20) unsigned ", "tandem_removes tinyint(4) ", "tandem_at timestamp(6) ", "k1 int(11) "};
        seen.outbox_number = "18";
    }
    std::string cause(const std::string &identity, const LastSight &last = {}) const {
        const auto fault = judge(table, source, seen, identity, last);
        return fault ? fault->cause + (fault->automatic ? "" : "!") : "";
    }
};

} // namespace

TEST(CaptureRules, WholeCaptureIsNoFault) {
    const World w;
    EXPECT_EQ(w.cause(""), "");
    EXPECT_EQ(w.cause(identity_of(w.source, w.seen).dump()), "");
    EXPECT_EQ(column_changes(w.table, w.seen).dump(), "[]");
}

TEST(CaptureRules, TruncateRebuildAndAlter) {
    World w;
    const std::string identity = identity_of(w.source, w.seen).dump();
    w.seen.numbers[""] = "20";
    EXPECT_EQ(w.cause(identity), "truncated");
    w.seen.created = "2026-01-02 00:00:00";
    EXPECT_EQ(w.cause(identity), "rebuilt");
    w.seen.numbers[""] = "17";
    EXPECT_EQ(w.cause(identity), "rebuilt"); // altered, and nothing of it shows
    w.seen.indexes = "v 1 v";
    EXPECT_EQ(w.cause(identity), ""); // an index was added
}

// While the new side is the source of truth the fence may stand in for capture, so nothing is said of triggers.
TEST(CaptureRules, ContentsOfAnOldTableAfterACutOver) {
    World w;
    const std::string identity = identity_of(w.source, w.seen).dump();
    const auto cause = [&] {
        const auto fault = judge_contents(w.table, w.source, w.seen, identity);
        return fault ? fault->cause : "";
    };
    w.seen.triggers.clear();
    w.seen.outbox_columns.clear();
    EXPECT_EQ(cause(), "");
    w.seen.indexes = "v 1 v";
    w.seen.created = "2026-01-02 00:00:00";
    EXPECT_EQ(cause(), ""); // an index was added
    w.seen.numbers[""] = "20";
    EXPECT_EQ(cause(), "rebuilt");
    w.seen.created = "2026-01-01 00:00:00";
    EXPECT_EQ(cause(), "truncated");
    w.seen.exists = false;
    EXPECT_EQ(cause(), "dropped");
    w.source.server = "uuid/other";
    EXPECT_EQ(cause(), "server");
    EXPECT_FALSE(judge_contents(w.table, World().source, World().seen, ""));
}

TEST(CaptureRules, Partitions) {
    World w;
    w.seen.numbers = {{"#P#p0", "1"}, {"#P#p1", "2"}};
    const std::string identity = identity_of(w.source, w.seen).dump();
    w.seen.numbers["#P#p2"] = "3";
    EXPECT_EQ(w.cause(identity), "");
    w.seen.numbers["#P#p0"] = "4";
    EXPECT_EQ(w.cause(identity), "partitions");
    w.seen.numbers = {{"#P#p1", "2"}};
    EXPECT_EQ(w.cause(identity), "partitions");
}

TEST(CaptureRules, TriggersAndSwaps) {
    World w;
    const std::string identity = identity_of(w.source, w.seen).dump();
    w.seen.triggers[0].text = "other";
    EXPECT_EQ(w.cause(identity), "trigger");
    w.seen.triggers.erase(w.seen.triggers.begin());
    EXPECT_EQ(w.cause(identity), "trigger");
    w.seen.triggers[0].table = "_t_del";
    EXPECT_EQ(w.cause(identity), "swapped!");
    w.seen.triggers.clear();
    w.seen.numbers[""] = "30";
    EXPECT_EQ(w.cause(identity), "swapped!");
    w.seen.exists = false;
    EXPECT_EQ(w.cause(identity), "dropped!");
    w.source.server = "uuid/other";
    EXPECT_EQ(w.cause(identity), "server!");
}

TEST(CaptureRules, ColumnsThatTheTargetReads) {
    World w;
    w.seen.columns[1].mysql_type = "varchar(30)";
    const auto fault = judge(w.table, w.source, w.seen, "", {});
    ASSERT_TRUE(fault);
    EXPECT_EQ(fault->cause, "column");
    EXPECT_NE(fault->reason.find("was varchar(20) COLLATE utf8mb4_bin and is varchar(30) COLLATE utf8mb4_bin now"), std::string::npos);
    w.seen.columns[1] = {"v2", "varchar(20)", "utf8mb4", "utf8mb4_bin", true, ""};
    const auto renamed = judge(w.table, w.source, w.seen, "", {});
    ASSERT_TRUE(renamed);
    EXPECT_NE(renamed->reason.find("it may be \"v2\" now"), std::string::npos);
    w.seen.unique_keys.clear();
    w.seen.columns[1].name = "v";
    EXPECT_EQ(w.cause(""), "key!");
    w.seen.engine = "MyISAM";
    EXPECT_EQ(w.cause(""), "engine!");
}

TEST(CaptureRules, ColumnsThatTheTargetDoesNotRead) {
    World w;
    w.seen.columns[2].mysql_type = "bigint(20)";
    w.seen.columns.push_back({"x", "text", "utf8mb4", "utf8mb4_bin", true, ""});
    EXPECT_EQ(w.cause(""), "");
    const auto changes = column_changes(w.table, w.seen);
    ASSERT_EQ(changes.size(), 2U);
    EXPECT_EQ(changes[0]["change"], "altered");
    EXPECT_EQ(changes[0]["mapped"], false);
    EXPECT_EQ(changes[1]["change"], "added");
    w.table.columns[2].gone = true;
    EXPECT_EQ(column_changes(w.table, w.seen).size(), 2U); // one that was left out may be added again
}

TEST(CaptureRules, TheSameTypeUnderAnotherName) {
    EXPECT_TRUE(same_type(column("a", "int(11) unsigned", "bigint"), {"a", "int unsigned", "", "", true, ""}));
    EXPECT_TRUE(
        same_type(column("a", "varchar(9)", "text", "utf8_general_ci"), {"a", "varchar(9)", "utf8mb3", "utf8mb3_general_ci", true, ""}));
    EXPECT_FALSE(same_type(column("a", "int(11)", "integer"), {"a", "int(11) unsigned", "", "", true, ""}));
    EXPECT_FALSE(same_type(column("a", "char(3)", "text", "utf8mb4_bin"), {"a", "char(4)", "utf8mb4", "utf8mb4_bin", true, ""}));
}

TEST(CaptureRules, OutboxAndGaps) {
    World w;
    const std::string identity = identity_of(w.source, w.seen).dump();
    w.seen.gaps = 3;
    EXPECT_EQ(w.cause(identity), "gap");
    w.seen.outbox_number = "99";
    EXPECT_EQ(w.cause(identity), "outbox");
    w.seen.outbox_columns.clear();
    EXPECT_EQ(w.cause(identity), "outbox");
    w = World();
    w.source.gap_table = false;
    EXPECT_EQ(w.cause(identity), "outbox");
}

TEST(CaptureRules, WithoutTheNumbersOfInnoDb) {
    World w;
    w.source.numbers_readable = false;
    w.seen.numbers.clear();
    w.seen.outbox_number.clear();
    w.seen.auto_increment = 100;
    w.seen.bytes = 1000000;
    const std::string identity = identity_of(w.source, w.seen).dump();
    const LastSight last{100, 1000000, true, 900};
    EXPECT_EQ(w.cause(identity, last), "");
    w.seen.bytes = 16384;
    EXPECT_EQ(w.cause(identity, last), "truncated");
    w.seen.bytes = 1000000;
    w.seen.auto_increment = 1;
    EXPECT_EQ(w.cause(identity, last), "truncated");
    EXPECT_EQ(w.cause(identity), "");
    w.source.uptime = 3; // the server has just started
    EXPECT_EQ(w.cause(identity, last), "");
    w.seen.created = "2026-01-02 00:00:00";
    EXPECT_EQ(w.cause(identity, last), "rebuilt");
}
