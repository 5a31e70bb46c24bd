// What encode makes of a value, decode gives back; and what MySQL has no value for is refused. Hex constants come from PostgreSQL 15.
#include "core/decode.hpp"

#include <cmath>
#include <functional>
#include <gtest/gtest.h>
#include <limits>

using namespace tandem::core;
namespace enc = tandem::core::encode;
using Kind = OldValue::Kind;

namespace {

std::string unhex(std::string_view text) {
    std::string bytes;
    for (std::size_t i = 0; i + 1 < text.size(); i += 2)
        bytes.push_back(static_cast<char>(std::stoi(std::string(text.substr(i, 2)), nullptr, 16)));
    return bytes;
}

OldValue decoded(const char *type, const std::string &bytes, std::string *why = nullptr) {
    OldValue value;
    const enc::Result error = decode::value(value, parse_image_type(type), {false, bytes});
    EXPECT_EQ(error == nullptr, why == nullptr) << (error ? error->message : "accepted");
    if (error != nullptr && why != nullptr)
        *why = error->sqlstate;
    return value;
}

OldValue back(const char *type, const std::function<enc::Result(std::string &)> &write) {
    std::string field;
    EXPECT_EQ(write(field), nullptr);
    return decoded(type, field.substr(4));
}

std::string refused(const char *type, std::string_view hex) {
    std::string why;
    decoded(type, unhex(hex), &why);
    return why;
}

std::string number(const char *text, int scale) {
    return back("numeric(65,30)", [&](std::string &out) { return enc::numeric(out, std::string_view(text), scale); }).bytes;
}

CivilTime at(int year, int month, int day, int hour = 0, int minute = 0, int second = 0, int micro = 0) {
    CivilTime value;
    value.year = year, value.month = month, value.day = day;
    value.hour = hour, value.minute = minute, value.second = second, value.micro = micro;
    return value;
}

TEST(Decode, Integers) {
    for (const std::int64_t n : {std::int64_t{0}, std::int64_t{-1}, std::int64_t{INT16_MIN}, std::int64_t{INT16_MAX}})
        EXPECT_EQ(back("smallint", [&](std::string &out) { return enc::smallint(out, n); }).integer, n);
    for (const std::int64_t n : {std::int64_t{INT32_MIN}, std::int64_t{INT32_MAX}})
        EXPECT_EQ(back("integer", [&](std::string &out) { return enc::integer(out, n); }).integer, n);
    for (const std::int64_t n : {INT64_MIN, INT64_MAX})
        EXPECT_EQ(back("bigint", [&](std::string &out) { return enc::bigint(out, n); }).integer, n);
    EXPECT_EQ(back("boolean", [](std::string &out) { return enc::boolean(out, 1); }).integer, 1);
    EXPECT_EQ(back("numeric(20,0)", [](std::string &out) { return enc::numeric(out, UINT64_MAX); }).bytes, "18446744073709551615");
    EXPECT_EQ(back("numeric(20,0)", [](std::string &out) { return enc::numeric(out, std::uint64_t{10000}); }).bytes, "10000");
}

TEST(Decode, Numeric) {
    EXPECT_EQ(number("0.00", 2), "0");
    EXPECT_EQ(number("-0.50", 2), "-0.5");
    EXPECT_EQ(number("10000.0001", 4), "10000.0001");
    EXPECT_EQ(number("0.000000000000000000000000000001", 30), "0.000000000000000000000000000001");
    EXPECT_EQ(number("-99999999999999999999999999999999999.999999999999999999999999999999", 30),
              "-99999999999999999999999999999999999.999999999999999999999999999999");
    EXPECT_EQ(number("100000000000000000000", 0), "100000000000000000000");
    EXPECT_EQ(refused("numeric(10,2)", "00000000c0000000"), "22003"); // NaN
    EXPECT_EQ(refused("numeric(10,2)", "00000000d0000020"), "22003"); // Infinity
    EXPECT_EQ(refused("numeric(10,2)", "000100000000"), "22P03");
}

TEST(Decode, Floats) {
    for (const float f : {0.0F, -0.0F, 1234567.8F, std::numeric_limits<float>::denorm_min(), std::numeric_limits<float>::max()}) {
        const OldValue value = back("real", [&](std::string &out) { return enc::real(out, f); });
        EXPECT_EQ(std::signbit(value.real), std::signbit(f));
        EXPECT_EQ(value.real, f);
    }
    EXPECT_EQ(back("double precision", [](std::string &out) { return enc::double_precision(out, 1e23); }).number, 1e23);
    EXPECT_EQ(refused("real", "7fc00000"), "22003");
    EXPECT_EQ(refused("double precision", "fff0000000000000"), "22003");
}

TEST(Decode, Bits) {
    EXPECT_EQ(back("bit(1)", [](std::string &out) { return enc::bit(out, "\x01", 1); }).integer, 1);
    EXPECT_EQ(back("bit(10)", [](std::string &out) { return enc::bit(out, std::string_view("\x02\x01", 2), 10); }).integer, 0x201);
    EXPECT_EQ(back("bit(64)", [](std::string &out) { return enc::bit(out, std::string(8, '\xff'), 64); }).integer, -1);
}

TEST(Decode, Times) {
    for (const CivilTime &t :
         {at(1, 1, 1), at(1000, 1, 1), at(1969, 12, 31, 23, 59, 59, 999999), at(2024, 2, 29, 1, 2, 3, 4), at(9999, 12, 31, 23, 59, 59)}) {
        const OldValue value = back("timestamp(6)", [&](std::string &out) { return enc::timestamp(out, t); });
        OldValue expected = value;
        expected.time = t;
        EXPECT_TRUE(same_value(value, expected)) << describe(value);
        EXPECT_EQ(value.kind, Kind::datetime);
    }
    EXPECT_EQ(describe(back("date", [](std::string &out) { return enc::date(out, at(1999, 12, 31)); })), "1999-12-31");
    CivilTime longest = at(0, 0, 0, 838, 59, 59, 999999);
    longest.negative = true;
    EXPECT_EQ(describe(back("interval", [&](std::string &out) { return enc::interval(out, longest); })), "-838:59:59.999999");
    EXPECT_EQ(describe(decoded("interval", unhex("00000000d693a4000000000100000000"))), "25:00:00.000000"); // 1 day 1 hour
    EXPECT_EQ(refused("interval", "00000000000000000000000000000001"), "22008");                            // 1 month
    EXPECT_EQ(refused("interval", "00000000000000000000002300000000"), "22008");                            // 35 days
    EXPECT_EQ(refused("date", "7fffffff"), "22008");                                                        // infinity
    EXPECT_EQ(refused("timestamp(6)", "8000000000000000"), "22008");                                        // -infinity
    EXPECT_EQ(refused("date", "002cbbed"), "22008");                                                        // 10023-01-01
    EXPECT_EQ(refused("date", "fff4dbf8"), "22008");                                                        // 0001-12-31 BC
}

TEST(Decode, TextAndBytes) {
    EXPECT_EQ(back("text", [](std::string &out) { return enc::text(out, "Straße 🙂 "); }).bytes, "Straße 🙂 ");
    const std::string bytes("\0\xff\x27\\", 4);
    const OldValue blob = back("bytea", [&](std::string &out) { return enc::bytea(out, bytes); });
    EXPECT_EQ(blob.bytes, bytes);
    EXPECT_EQ(blob.kind, Kind::bytes);
    EXPECT_EQ(back("uuid", [](std::string &out) { return enc::uuid(out, "00112233-4455-6677-8899-aabbccddeeff"); }).bytes,
              "00112233-4455-6677-8899-aabbccddeeff");
    EXPECT_EQ(back("inet", [](std::string &out) { return enc::inet(out, "192.168.0.1"); }).bytes, "192.168.0.1");
    EXPECT_EQ(back("inet", [](std::string &out) { return enc::inet(out, "::1"); }).bytes, "::1");
    EXPECT_EQ(refused("inet", "0218000408000000"), "22003"); // 8.0.0.0/24
    OldValue one = back("jsonb", [](std::string &out) { return enc::jsonb(out, "{\"a\": [1, 2], \"b\": null}"); });
    OldValue other = back("jsonb", [](std::string &out) { return enc::jsonb(out, "{\"b\":null,\"a\":[1,2]}"); });
    EXPECT_TRUE(same_value(one, other));
    other.bytes = "{\"b\": null, \"a\": [1, 3]}";
    EXPECT_FALSE(same_value(one, other));
}

TEST(Decode, Tuples) {
    std::string image;
    enc::header(image, 2 | losses_mark);
    enc::null(image);
    ASSERT_EQ(enc::text(image, "x"), nullptr);
    ASSERT_EQ(enc::text(image, "[]"), nullptr);
    const auto fields = decode::tuple(image);
    ASSERT_TRUE(fields);
    ASSERT_EQ(fields->size(), 2U);
    EXPECT_TRUE((*fields)[0].null);
    EXPECT_EQ((*fields)[1].bytes, "x");
    EXPECT_FALSE(decode::tuple(image.substr(0, image.size() - 1)));
    EXPECT_FALSE(decode::tuple(image + "x"));
    EXPECT_FALSE(decode::tuple(""));
    EXPECT_FALSE(same_value(OldValue{}, decoded("text", "")));
}

} // namespace
