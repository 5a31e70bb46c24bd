// Which text columns are read with their stored bytes, and how a conversion that lost something is told from a real '?'.
#include "core/text_reading.hpp"

#include <gtest/gtest.h>

using namespace tandem::core;
using namespace std::string_literals;

namespace {

TextReading reading(const char *charset, Policy policy = Policy::dead_letter) {
    Column column;
    column.charset = charset;
    column.policy = policy;
    return text_reading(column);
}

} // namespace

TEST(TextReading, OnlyWhatMayBeLostIsReadTwice) {
    EXPECT_EQ(reading(""), TextReading::converted);
    EXPECT_EQ(reading("utf8mb4", Policy::sidecar), TextReading::converted);
    EXPECT_EQ(reading("latin1"), TextReading::converted);
    EXPECT_EQ(reading("latin1", Policy::sidecar), TextReading::both);
    EXPECT_EQ(reading("utf8"), TextReading::bytes);
    EXPECT_EQ(reading("utf8mb3", Policy::sidecar), TextReading::bytes);
    EXPECT_EQ(reading("ascii"), TextReading::bytes);
    EXPECT_EQ(reading("sjis"), TextReading::both);
    EXPECT_EQ(reading("cp1251"), TextReading::both);
    EXPECT_EQ(reading("utf16"), TextReading::both);
}

TEST(TextReading, TypesThatTheClientMayNotKnowComeAsBytes) {
    Column column;
    column.data_type = "vector";
    EXPECT_EQ(text_reading(column), TextReading::bytes);
}

TEST(TextReading, QuestionMarksAreCounted) {
    EXPECT_TRUE(lost_in_conversion("sjis", "\x87\x40", "?"));
    EXPECT_TRUE(lost_in_conversion("sjis", "?\x87\x40", "??"));
    EXPECT_FALSE(lost_in_conversion("sjis", "\xb1?", "\xef\xbd\xb1?"));
    EXPECT_FALSE(lost_in_conversion("cp1251", "?", "?"));
    EXPECT_TRUE(lost_in_conversion("cp1251", "\x98", "?"));
}

TEST(TextReading, WideCharacterSetsHaveWideQuestionMarks) {
    EXPECT_FALSE(lost_in_conversion("ucs2", "\0?"s, "?"));
    EXPECT_TRUE(lost_in_conversion("ucs2", "?A"s, "?")) << "U+3F41 is no question mark";
    EXPECT_TRUE(lost_in_conversion("ucs2", "A?"s, "?"));
    EXPECT_FALSE(lost_in_conversion("utf16le", "?\0"s, "?"));
    EXPECT_TRUE(lost_in_conversion("utf16le", "\0?"s, "?"));
    EXPECT_FALSE(lost_in_conversion("utf32", "\0\0\0?"s, "?"));
    EXPECT_TRUE(lost_in_conversion("utf32", "\0\0?\0"s, "?"));
}
