// Field bytes against what PostgreSQL's own send functions give (hex constants taken from PostgreSQL 15), and every refusal.
#include "core/encode.hpp"
#include "core/key_text.hpp"

#include <cmath>
#include <functional>
#include <gtest/gtest.h>

using namespace tandem::core;
namespace enc = tandem::core::encode;

namespace {

std::string hex(const std::string &bytes) {
    std::string text;
    for (const char c : bytes) {
        char digits[3];
        std::snprintf(digits, sizeof digits, "%02x", static_cast<unsigned>(static_cast<unsigned char>(c)));
        text += digits;
    }
    return text;
}

// Field without its length, which is checked here. "" and `why` when refused.
std::string field(const std::function<enc::Result(std::string &)> &write, std::string *why = nullptr) {
    std::string out = "before";
    const enc::Result error = write(out);
    if (error != nullptr) {
        EXPECT_EQ(out, "before") << "a refused value must leave nothing behind";
        if (why != nullptr)
            *why = error->sqlstate;
        return {};
    }
    const std::string bytes = out.substr(6);
    char length[9];
    std::snprintf(length, sizeof length, "%08x", static_cast<unsigned>(bytes.size() - 4));
    EXPECT_EQ(hex(bytes.substr(0, 4)), length);
    return bytes.substr(4);
}

std::string refused(const std::function<enc::Result(std::string &)> &write) {
    std::string why;
    field(write, &why);
    return why;
}

std::string numeric(const char *text, int scale) {
    return hex(field([&](std::string &out) { return enc::numeric(out, std::string_view(text), scale); }));
}

CivilTime at(int year, int month, int day, int hour = 0, int minute = 0, int second = 0, int micro = 0) {
    CivilTime value;
    value.year = year;
    value.month = month;
    value.day = day;
    value.hour = hour;
    value.minute = minute;
    value.second = second;
    value.micro = micro;
    return value;
}

} // namespace

TEST(Encode, NumericLikeNumericSend) {
    EXPECT_EQ(numeric("12345.678900", 6), "0003000100000006000109291a85");
    EXPECT_EQ(numeric("-0.00012", 5), "0002ffff40000005000107d0");
    EXPECT_EQ(numeric("0", 2), "0000000000000002");
    EXPECT_EQ(numeric("-0.00", 2), "0000000000000002");
    EXPECT_EQ(numeric("00000012.30", 2), "0002000000000002000c0bb8"); // ZEROFILL
    EXPECT_EQ(numeric("100000000", 0), "00010002000000000001");
    EXPECT_EQ(numeric("-99990000.500", 3), "0003000140000003270f00001388");
    EXPECT_EQ(numeric(".71", 2), "0001ffff000000021bbc");
    EXPECT_EQ(hex(field([](std::string &out) { return enc::numeric(out, UINT64_MAX); })), "000500040000000007341a5802e103bb064f");
    EXPECT_EQ(hex(field([](std::string &out) { return enc::numeric(out, std::uint64_t{0}); })), "0000000000000000");
    EXPECT_EQ(hex(field([](std::string &out) { return enc::numeric(out, std::uint64_t{100000000}); })), "00010002000000000001");
    EXPECT_EQ(refused([](std::string &out) { return enc::numeric(out, "1.234", 2); }), "22003");
    for (const char *bad : {"", "-", ".", "1e5", "12a", "1.2.3"})
        EXPECT_EQ(refused([&](std::string &out) { return enc::numeric(out, std::string_view(bad), 9); }), "22P02") << bad;
}

TEST(Encode, NumbersAndBits) {
    EXPECT_EQ(hex(field([](std::string &out) { return enc::smallint(out, -2); })), "fffe");
    EXPECT_EQ(hex(field([](std::string &out) { return enc::integer(out, INT32_MIN); })), "80000000");
    EXPECT_EQ(hex(field([](std::string &out) { return enc::bigint(out, INT64_MAX); })), "7fffffffffffffff");
    EXPECT_EQ(refused([](std::string &out) { return enc::smallint(out, 32768); }), "22003");
    EXPECT_EQ(refused([](std::string &out) { return enc::integer(out, 1LL << 31); }), "22003");
    EXPECT_EQ(refused([](std::string &out) { return enc::boolean(out, 2); }), "22003");
    EXPECT_EQ(hex(field([](std::string &out) { return enc::real(out, 1.1F); })), "3f8ccccd");
    EXPECT_EQ(hex(field([](std::string &out) { return enc::double_precision(out, 1e23); })), "44b52d02c7e14af6");
    EXPECT_EQ(hex(field([](std::string &out) { return enc::double_precision(out, -0.0); })), "8000000000000000");
    EXPECT_EQ(hex(field([](std::string &out) { return enc::bit(out, std::string("\1\1", 2), 9); })), "000000098080");
    EXPECT_EQ(hex(field([](std::string &out) { return enc::bit(out, "\1", 1); })), "0000000180");
    EXPECT_EQ(refused([](std::string &out) { return enc::bit(out, "\1\1", 8); }), "22026");
}

TEST(Encode, DatesAndTimes) {
    EXPECT_EQ(hex(field([](std::string &out) { return enc::date(out, at(9999, 12, 31)); })), "002c95d3");
    EXPECT_EQ(hex(field([](std::string &out) { return enc::date(out, at(1, 1, 1)); })), "fff4dbf9");
    EXPECT_EQ(hex(field([](std::string &out) { return enc::timestamp(out, at(1999, 12, 31, 23, 59, 59, 1)); })), "fffffffffff0bdc1");
    EXPECT_EQ(hex(field([](std::string &out) { return enc::timestamp(out, at(9999, 12, 31, 23, 59, 59, 999999)); })), "0380e70b913b7fff");
    CivilTime time = at(0, 0, 0, 838, 59, 59);
    time.negative = true;
    EXPECT_EQ(hex(field([&](std::string &out) { return enc::interval(out, time); })), "fffffd40c230c6400000000000000000");
    for (const CivilTime &bad :
         {at(0, 0, 0), at(2024, 0, 1), at(2024, 1, 0), at(0, 5, 1), at(2024, 2, 30), at(1900, 2, 29), at(2024, 13, 1)}) {
        EXPECT_EQ(refused([&](std::string &out) { return enc::date(out, bad); }), "22008");
        EXPECT_EQ(refused([&](std::string &out) { return enc::timestamp(out, bad); }), "22008");
    }
    EXPECT_EQ(refused([](std::string &out) { return enc::timestamp(out, at(2024, 1, 1, 24)); }), "22008");
    for (int day = -800000; day < 3000000; day += 97) {
        int y, m, d;
        civil_from_days(day, y, m, d);
        ASSERT_EQ(days_from_civil(y, m, d), day);
    }
}

TEST(Encode, TextAndBytes) {
    EXPECT_EQ(field([](std::string &out) { return enc::text(out, "naïve 😀"); }), "naïve 😀");
    EXPECT_EQ(refused([](std::string &out) { return enc::text(out, std::string_view("a\0b", 3)); }), "22021");
    for (const char *bad : {"\x80", "\xC0\x80", "\xE0\x9F\x80", "\xED\xA0\x80", "\xF4\x90\x80\x80", "\xF5", "abcdefgh\xC3"})
        EXPECT_EQ(refused([&](std::string &out) { return enc::text(out, bad); }), "22021");
    EXPECT_EQ(field([](std::string &out) { return enc::bytea(out, std::string_view("\0\xFF", 2)); }), std::string("\0\xFF", 2));
    EXPECT_EQ(hex(field([](std::string &out) { return enc::jsonb(out, "{}"); })), "017b7d");
    EXPECT_EQ(refused([](std::string &out) { return enc::jsonb(out, R"(["\u0000"])"); }), "22P05");
    EXPECT_EQ(refused([](std::string &out) { return enc::jsonb(out, R"(["\\u0000"])"); }), "") << "an escaped backslash, not U+0000";
    EXPECT_EQ(hex(field([](std::string &out) { return enc::uuid(out, "123e4567-e89b-12d3-a456-426655440000"); })),
              "123e4567e89b12d3a456426655440000");
    EXPECT_EQ(refused([](std::string &out) { return enc::uuid(out, "123e4567"); }), "22P02");
    EXPECT_EQ(hex(field([](std::string &out) { return enc::inet(out, "1.2.3.4"); })), "0220000401020304");
    EXPECT_EQ(hex(field([](std::string &out) { return enc::inet(out, "2001:db8::ff"); })), "0380001020010db80000000000000000000000ff");
    EXPECT_EQ(refused([](std::string &out) { return enc::inet(out, "1.2.3"); }), "22P02");
}

TEST(Encode, TupleOfFieldsAndNull) {
    std::string out;
    enc::header(out, 2);
    enc::null(out);
    enc::smallint(out, 1);
    EXPECT_EQ(hex(out), "0002ffffffff000000020001");
}
