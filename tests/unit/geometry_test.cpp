#include "core/geometry.hpp"

#include <gtest/gtest.h>

namespace tandem::core {
namespace {

using namespace std::string_literals;

const std::string point = "\x01\x01\0\0\0"s + std::string(16, 'x'); // little endian, type 1

TEST(Geometry, WithoutSridItIsWkb) {
    EXPECT_EQ(ewkb_of_stored("\0\0\0\0"s + point), point);
    EXPECT_EQ(stored_of_ewkb(point), "\0\0\0\0"s + point);
}

TEST(Geometry, TheSridIsKept) {
    const std::string ewkb = "\x01\x01\0\0\x20\xE6\x10\0\0"s + std::string(16, 'x');
    EXPECT_EQ(ewkb_of_stored("\xE6\x10\0\0"s + point), ewkb);
    EXPECT_EQ(stored_of_ewkb(ewkb), "\xE6\x10\0\0"s + point);
}

TEST(Geometry, BigEndian) {
    const std::string wkb = "\0\0\0\0\x03rest"s, ewkb = "\0\x20\0\0\x03\0\0\x10\xE6rest"s;
    EXPECT_EQ(ewkb_of_stored("\xE6\x10\0\0"s + wkb), ewkb);
    EXPECT_EQ(stored_of_ewkb(ewkb), "\xE6\x10\0\0"s + wkb);
}

TEST(Geometry, WhatIsNoGeometry) {
    EXPECT_FALSE(ewkb_of_stored(""));
    EXPECT_FALSE(ewkb_of_stored("\0\0\0\0\x01\x01\0\0"s));
    EXPECT_FALSE(ewkb_of_stored("\0\0\0\0\x02\x01\0\0\0"s));
    EXPECT_FALSE(stored_of_ewkb("\x01\x01\0\0\x20\xE6"s)); // the SRID is cut off
    EXPECT_FALSE(stored_of_ewkb("\x01\x01\0\0\x80rest"s)); // three dimensions
}

} // namespace
} // namespace tandem::core
