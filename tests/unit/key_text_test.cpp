// Keys in text form: from image bytes, and to MySQL literals that cannot be misread.
#include "core/encode.hpp"
#include "core/error.hpp"
#include "core/key_text.hpp"

#include <gtest/gtest.h>

using namespace tandem::core;
namespace enc = tandem::core::encode;

namespace {

std::string literal(const char *image_type, std::string_view text) {
    Column column;
    column.image_type = image_type;
    return mysql_literal(column, text).value_or("refused");
}

} // namespace

TEST(KeyText, FromImageBytes) {
    std::string key;
    enc::header(key, 9);
    enc::integer(key, -5);
    enc::numeric(key, "-1234567.8900", 4);
    enc::text(key, "é'\\");
    enc::bytea(key, std::string_view("\0\xFF", 2));
    CivilTime moment;
    moment.year = 1999, moment.month = 12, moment.day = 31, moment.hour = 23, moment.micro = 500;
    enc::timestamp(key, moment);
    enc::timestamp(key, moment);
    CivilTime time;
    time.hour = 838, time.minute = 59, time.second = 59, time.negative = true;
    enc::interval(key, time);
    enc::bit(key, "\5", 3);
    enc::real(key, 1.1F);
    std::vector<ImageType> types;
    for (const char *name : {"integer", "numeric(20,4)", "text", "bytea", "timestamp(6)", "timestamptz(6)", "interval", "bit(3)", "real"})
        types.push_back(parse_image_type(name));
    EXPECT_EQ(key_to_text(key, types), (std::vector<std::string>{"-5", "-1234567.8900", "é'\\", "\\x00ff", "1999-12-31 23:00:00.0005",
                                                                 "1999-12-31 23:00:00.0005+00", "-838:59:59", "101", "1.1"}));
    EXPECT_THROW(key_to_text("", types), Error);
    EXPECT_THROW(key_to_text(key.substr(0, 20), types), Error);
}

TEST(KeyText, LiteralsAreExact) {
    EXPECT_EQ(literal("integer", "-5"), "-5");
    EXPECT_EQ(literal("numeric(65,30)", "0.000000000000000000000000000001"), "0.000000000000000000000000000001");
    EXPECT_EQ(literal("double precision", "0.1"), "1.00000000000000006e-01");
    EXPECT_EQ(literal("real", "1.1"), "1.10000002384185791e+00");
    EXPECT_EQ(literal("bit(12)", "000000000111"), "7");
    EXPECT_EQ(literal("bytea", "\\x00FF"), "X'00FF'");
    EXPECT_EQ(literal("bytea", "\\x"), "X''");
    EXPECT_EQ(literal("text", ""), "_utf8mb4''");
    EXPECT_EQ(literal("text", "a'\\"), "_utf8mb4 X'61275c'");
    EXPECT_EQ(literal("date", "2024-02-29"), "'2024-02-29'");
    EXPECT_EQ(literal("timestamp(6)", "2024-02-29 01:02:03.5"), "'2024-02-29 01:02:03.500000'");
    EXPECT_EQ(literal("timestamptz(0)", "2024-03-01 01:02:03+05:30"), "'2024-02-29 19:32:03.000000'");
    EXPECT_EQ(literal("timestamptz(0)", "2023-12-31 23:00:00-02"), "'2024-01-01 01:00:00.000000'");
    EXPECT_EQ(literal("interval", "838:59:59"), "'838:59:59.000000'");
    EXPECT_EQ(literal("interval", "-00:00:00.000001"), "'-00:00:00.000001'");
    EXPECT_EQ(literal("interval", "1 day 02:00:00"), "'26:00:00.000000'");
    EXPECT_EQ(literal("interval", "-2 days +01:00:00"), "'-47:00:00.000000'");
    EXPECT_EQ(literal("uuid", "123e4567-e89b-12d3-a456-426655440000"), "'123e4567-e89b-12d3-a456-426655440000'");
    EXPECT_EQ(literal("inet", "2001:db8::ff"), "'2001:db8::ff'");
}

TEST(KeyText, WhatIsNoValueIsRefused) {
    EXPECT_EQ(literal("integer", "1 OR 1=1"), "refused");
    EXPECT_EQ(literal("integer", "1.5"), "refused");
    EXPECT_EQ(literal("numeric(5,2)", "1e5"), "refused");
    EXPECT_EQ(literal("double precision", "NaN"), "refused");
    EXPECT_EQ(literal("double precision", "1); DROP"), "refused");
    EXPECT_EQ(literal("bytea", "\\x0g"), "refused");
    EXPECT_EQ(literal("bytea", "\\x000"), "refused");
    EXPECT_EQ(literal("date", "2024-02-29'"), "refused");
    EXPECT_EQ(literal("timestamp(0)", "infinity"), "refused");
    EXPECT_EQ(literal("timestamp(0)", "2024-02-29 01:02:03.x"), "refused");
    EXPECT_EQ(literal("timestamptz(0)", "2024-02-29 01:02:03+zz"), "refused");
    EXPECT_EQ(literal("interval", "1 mon"), "refused");
    EXPECT_EQ(literal("interval", "839:00:00"), "refused");
    EXPECT_EQ(literal("uuid", "x' OR '1"), "refused");
    EXPECT_EQ(literal("bit(3)", "1010"), "refused");
}

TEST(KeyText, EnumAndSetSortByNumber) {
    Column column;
    column.data_type = "enum";
    column.mysql_type = "enum('zeta','it''s','alpha')";
    EXPECT_EQ(sort_number(column, "it's"), "2");
    EXPECT_EQ(sort_number(column, ""), "0");
    EXPECT_EQ(sort_number(column, "beta"), ""); // no value of the type
    EXPECT_EQ(mysql_literal(column, "it's"), "2");
    column.image_type = "text";
    EXPECT_EQ(mysql_literal(column, "beta"), "_utf8mb4 X'62657461'"); // the server tells
    column.mysql_type = R"(enum('a\\b','new\nline','z'))";
    EXPECT_EQ(sort_number(column, "a\\b"), "1");
    EXPECT_EQ(sort_number(column, "new\nline"), "2");
    EXPECT_EQ(sort_number(column, "z"), "3");
    column.data_type = "set";
    column.mysql_type = "set('z','b','a')";
    EXPECT_EQ(sort_number(column, "z,a"), "5");
    EXPECT_EQ(sort_number(column, ""), "0");
    column.data_type = "varchar";
    EXPECT_FALSE(sort_number(column, "z").has_value());
}
