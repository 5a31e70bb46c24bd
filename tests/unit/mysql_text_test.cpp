// Pure parts of the old side's code: SQL pieces, error classes, TLS rules, capture text, and configuration.
#include "core/error.hpp"
#include "core/secret.hpp"
#include "core/table_config.hpp"
#include "mysql/capture_ddl.hpp"
#include "mysql/errors.hpp"
#include "mysql/sql_text.hpp"
#include "mysql/tls.hpp"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace tandem;
using namespace tandem::mysql;

TEST(SqlText, NamesAndConditions) {
    EXPECT_EQ(quote_name("we`ird"), "`we``ird`");
    EXPECT_EQ(quote_text("a'"), "_utf8mb4 X'6127'");
    EXPECT_EQ(ids_condition({{1, 5}, {7, 7}, {9, 10}}, "id"), "id BETWEEN 1 AND 5 OR id IN (7, 9, 10)");
    EXPECT_EQ(other_ids_condition({{1, 5}, {7, 7}}, "id"), "id < 1 OR (id > 5 AND id < 7) OR id > 7");
    EXPECT_EQ(delete_run("`t`.`o`", {5, 9}), "DELETE FROM `t`.`o` WHERE tandem_id BETWEEN 5 AND 9 ORDER BY tandem_id LIMIT 5");
    EXPECT_EQ(delete_each("`t`.`o`", {5, 7}),
              "DELETE `t`.`o` FROM (SELECT 5 AS id UNION ALL SELECT 7) l STRAIGHT_JOIN `t`.`o` ON tandem_id = l.id");
    EXPECT_EQ(after_condition({"a"}, {"1"}), "a > 1");
    EXPECT_EQ(after_condition({"a", "b", "c"}, {"1", "2", "3"}), "a >= 1 AND (a > 1 OR (a = 1 AND (b > 2 OR (b = 2 AND (c > 3)))))");
}

TEST(Errors, AreClassified) {
    for (const unsigned code : {2006U, 2013U, 2055U, 1927U, 1053U})
        EXPECT_EQ(classify(code), ErrorClass::session_lost) << code;
    for (const unsigned code : {1205U, 1213U, 2002U, 2003U, 1412U})
        EXPECT_EQ(classify(code), ErrorClass::retryable) << code;
    for (const unsigned code : {1045U, 1064U, 1146U, 1142U, 2026U})
        EXPECT_EQ(classify(code), ErrorClass::final) << code;
    EXPECT_THROW(throw_error(2013, "HY000", "Lost connection", "reading"), core::SessionLost);
    try {
        throw_error(1213, "40001", "Deadlock found", "deleting events");
    } catch (const core::Error &error) {
        EXPECT_TRUE(error.retryable());
        EXPECT_EQ(error.sqlstate(), "40P01");
        EXPECT_EQ(error.native_code, 1213);
        EXPECT_EQ(error.side(), core::Side::old_side);
        EXPECT_NE(std::string(error.what()).find("deleting events"), std::string::npos);
    }
}

TEST(Tls, AutoMeansVerifiedUnlessLocal) {
    core::SourceConnection source;
    for (const char *local : {"", "localhost", "127.0.0.1", "::1", "/run/mysqld/mysqld.sock"}) {
        source.host = local;
        EXPECT_FALSE(wants_tls(source)) << local;
    }
    for (const char *remote : {"db.example.com", "10.0.0.1", "localhost.example.com"}) {
        source.host = remote;
        EXPECT_TRUE(wants_tls(source)) << remote;
    }
    source.host = "localhost";
    source.ssl_ca = "/etc/ca.pem";
    EXPECT_TRUE(wants_tls(source));
    source.tls = "disable";
    EXPECT_FALSE(wants_tls(source));
    source.tls = "preferred";
    EXPECT_THROW(wants_tls(source), core::Error);
}

TEST(Capture, UpdateTriggerComparesTextAsBytes) {
    const auto table = core::parse_table_configs(R"json([{"table_id":1,"name":"users","outbox":"users_outbox_1a","trigger_suffix":"1a",
        "desired_state":"running","key_columns":["id","co`de"],"referenced_columns":["id","org"],"columns":[
        {"name":"id","mysql_type":"int(11)","data_type":"int","image_type":"integer"},
        {"name":"co`de","mysql_type":"varchar(9)","data_type":"varchar","charset":"latin1","collation":"latin1_swedish_ci","image_type":"text"},
        {"name":"org","mysql_type":"int(11)","data_type":"int","image_type":"integer"}]}])json")
                           .at(0);
    core::SourceConnection source;
    source.database = "shop";
    const auto all = triggers(source, table);
    EXPECT_EQ(all[1].name, "tandem_au_1a");
    EXPECT_NE(all[1].body.find("NOT (OLD.`id` <=> NEW.`id`)"), std::string::npos);
    EXPECT_NE(all[1].body.find("NOT (CAST(OLD.`co``de` AS BINARY) <=> CAST(NEW.`co``de` AS BINARY))"), std::string::npos);
    EXPECT_NE(all[1].body.find("NOT (OLD.`org` <=> NEW.`org`)"), std::string::npos);
    EXPECT_NE(all[2].body.find("VALUES (1, OLD.`id`, OLD.`co``de`)"), std::string::npos);
    EXPECT_NE(create_outbox(source, table).find("k2 varchar(9) CHARACTER SET `latin1` COLLATE `latin1_swedish_ci` NULL"),
              std::string::npos);
}

TEST(TableConfig, ReadsTheContractsExampleAndRefusesLess) {
    const auto tables = core::parse_table_configs(R"json([{"table_id":1,"name":"users","outbox":"o","trigger_suffix":"1a2b3c4d",
        "desired_state":"running","state":"syncing","backfill_done":false,"backfill_cursor":["42"],"key_columns":["id"],
        "columns":[{"name":"id","mysql_type":"int(11)","data_type":"int","unsigned":false,"charset":null,"collation":null,
        "image_type":"integer","nullable":false}],"cascade_parents":[{"table":"orgs"}],"referenced_columns":["id"],
        "key_cascades":[{"child_table_id":2,"child":"t2","child_outbox":"o2","columns":["org_id"],"ref_columns":["id"]}]},
        {"table_id":2,"name":"t2","outbox":"o2","trigger_suffix":"x","desired_state":"running","state":"registered","backfill_cursor":null,
        "key_columns":["a"],"columns":[{"name":"a","mysql_type":"int","data_type":"int","image_type":"integer"}]}])json");
    ASSERT_EQ(tables.size(), 2U);
    EXPECT_EQ(tables[0].backfill_cursor, std::vector<std::string>{"42"});
    EXPECT_EQ(tables[0].cascade_parents, std::vector<std::string>{"orgs"});
    EXPECT_EQ(tables[0].key_cascades.at(0).child_key_columns, std::vector<std::string>{"a"});
    EXPECT_FALSE(tables[0].columns.at(0).nullable);
    EXPECT_THROW(core::parse_table_configs("{"), core::Error);
    EXPECT_THROW(core::parse_table_configs(R"json([{"table_id":1}])json"), core::Error);
}

TEST(Secret, FileMustBePrivate) {
    char path[] = "/tmp/tandem_secret_XXXXXX";
    const int fd = mkstemp(path);
    ASSERT_GE(fd, 0);
    close(fd);
    std::ofstream(path) << "pa ss\n";
    chmod(path, 0600);
    EXPECT_EQ(core::resolve_password(std::string("file:") + path), "pa ss");
    chmod(path, 0644);
    EXPECT_THROW(core::resolve_password(std::string("file:") + path), core::Error);
    unlink(path);
    EXPECT_THROW(core::resolve_password(std::string("file:") + path), core::Error);
    EXPECT_THROW(core::resolve_password("file:/"), core::Error);
    setenv("TANDEM_TEST_SECRET", "x", 1);
    EXPECT_EQ(core::resolve_password("env:TANDEM_TEST_SECRET"), "x");
    EXPECT_THROW(core::resolve_password("env:TANDEM_NO_SUCH_VARIABLE"), core::Error);
    EXPECT_THROW(core::resolve_password("plain"), core::Error);
}
