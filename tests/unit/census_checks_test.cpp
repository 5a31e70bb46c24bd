// The census' conditions: which findings are looked for in which column. What they find is shown against real servers.
#include "mysql/census_checks.hpp"

#include <gtest/gtest.h>
#include <set>

namespace tandem::mysql {
namespace {

using nlohmann::json;

json column(const char *name, const char *data_type, const char *mysql_type, json more = json::object()) {
    json result = {{"name", name},       {"data_type", data_type}, {"mysql_type", mysql_type},
                   {"charset", nullptr}, {"collation", nullptr},   {"length", nullptr}};
    result.update(more);
    return result;
}

json table(json columns, json keys = json::array(), json foreign_keys = json::array()) {
    return {{"table", "t"}, {"columns", std::move(columns)}, {"keys", std::move(keys)}, {"foreign_keys", std::move(foreign_keys)}};
}

std::set<std::string> findings(const json &description, const json &limits = nullptr) {
    std::set<std::string> names;
    for (const CensusCheck &check : census_checks(description, limits))
        names.insert(check.column + ":" + check.finding);
    return names;
}

TEST(CensusChecks, NumbersAndTimes) {
    EXPECT_EQ(findings(table({column("a", "tinyint", "tinyint(1)"), column("b", "tinyint", "tinyint(4)"),
                              column("c", "bigint", "bigint(20)"), column("d", "bigint", "bigint(20) unsigned", {{"unsigned", true}}),
                              column("e", "time", "time"), column("f", "timestamp", "timestamp"), column("g", "date", "date")})),
              (std::set<std::string>{"a:not_boolean", "d:above_bigint", "e:outside_day", "f:zero_date", "g:zero_date", "g:partial_date",
                                     "g:invalid_date"}));
}

TEST(CensusChecks, UniqueTextByItsCollation) {
    const auto key = json::array({{{"name", "k"}, {"unique", true}, {"prefix", false}, {"type", "BTREE"}, {"columns", {"a"}}}});
    const auto of = [&](const char *collation, int length) {
        return findings(
            table({column("a", "varchar", "varchar(10)", {{"charset", "utf8mb4"}, {"collation", collation}, {"length", length}})}, key));
    };
    EXPECT_EQ(of("utf8mb4_general_ci", 10),
              (std::set<std::string>{"a:nul", "a:bad_text", "a:looks_utf8", "a:trailing_space", "a:unique_case", "a:unique_accents"}));
    EXPECT_EQ(of("utf8mb4_bin", 10), (std::set<std::string>{"a:nul", "a:bad_text", "a:looks_utf8", "a:trailing_space"}));
    EXPECT_EQ(of("utf8mb4_0900_as_ci", 768),
              (std::set<std::string>{"a:nul", "a:bad_text", "a:looks_utf8", "a:unique_case", "a:index_too_long"}));
}

TEST(CensusChecks, NamesAreQuoted) {
    const auto checks = census_checks(table({column("a`b", "tinyint", "tinyint(1)")}), nullptr);
    ASSERT_EQ(checks.size(), 1U);
    EXPECT_EQ(checks[0].condition, "t.`a``b` NOT IN (0, 1)");
}

TEST(CensusChecks, TargetLimits) {
    EXPECT_EQ(
        findings(table({column("a", "int", "int(11)")}), {{"columns", {{"a", {{"min", "-32767"}, {"max", "32767"}, {"not_null", true}}}}}}),
        (std::set<std::string>{"a:out_of_range", "a:null_in_target"}));
    const auto collisions = census_collisions({{"unique", json::array({{{"columns", {"a", "b"}}, {"folded", {"b"}}}})}});
    ASSERT_EQ(collisions.size(), 1U);
    EXPECT_EQ(collisions[0].column, "a, b");
    EXPECT_EQ(collisions[0].condition, "t.`a`, CAST(CONVERT(LOWER(t.`b`) USING utf8mb4) AS BINARY)");
}

TEST(CensusChecks, ForeignKeysOfTheSameDatabase) {
    const auto fk = [](const char *parent_database) {
        return json::array({{{"columns", {"a"}},
                             {"ref_columns", {"x"}},
                             {"parent", "p"},
                             {"parent_database", parent_database},
                             {"child_database", "shop"}}});
    };
    const json columns = {
        column("a", "varchar", "varchar(10)", {{"charset", "latin1"}, {"collation", "latin1_swedish_ci"}, {"length", 10}})};
    EXPECT_EQ(findings(table(columns, json::array(), fk("shop"))),
              (std::set<std::string>{"a:nul", "a:bad_text", "a:looks_utf8", "a:orphan", "a:loose_parent"}));
    EXPECT_EQ(findings(table(columns, json::array(), fk("other"))), (std::set<std::string>{"a:nul", "a:bad_text", "a:looks_utf8"}));
}

} // namespace
} // namespace tandem::mysql
