// The hash of a row. The golden numbers are what PostgreSQL's side must give as well (tests/regress digests, tests/integration/reconcile).
#include "core/encode.hpp"
#include "core/error.hpp"
#include "core/row_digest.hpp"

#include <cmath>
#define XXH_INLINE_ALL
#include <gtest/gtest.h>
#include <xxhash.h>

using namespace tandem::core;
namespace enc = tandem::core::encode;

namespace {

std::string secret() {
    std::string bytes;
    for (int i = 0; i < 192; ++i)
        bytes.push_back(static_cast<char>(i));
    return bytes;
}

struct Made {
    DigestPlan plan;
    std::vector<Column> columns;
    std::string image;
};

class Row {
  public:
    Row &add(const char *image_type, const char *value_class) {
        Column column;
        column.name = "c" + std::to_string(columns_.size());
        column.image_type = image_type;
        columns_.push_back(column);
        plan_.columns.push_back({static_cast<int>(columns_.size()), value_class});
        return *this;
    }
    std::string &fields() { return fields_; }
    Hash128 hash(const std::string &with = secret()) {
        plan_.mode = DigestPlan::Mode::fast;
        std::string image;
        enc::header(image, static_cast<int>(columns_.size()));
        image += fields_;
        return RowDigest(plan_, columns_, with).of_image({}, image);
    }

  private:
    DigestPlan plan_;
    std::vector<Column> columns_;
    std::string fields_;
};

Hash128 of_bytes(const std::string &bytes) {
    const std::string key = secret();
    const XXH128_hash_t hash = XXH3_128bits_withSecret(bytes.data(), bytes.size(), key.data(), key.size());
    return {hash.low64, hash.high64};
}

Hash128 text_pair(std::string_view a, std::string_view b) {
    Row row;
    row.add("text", "text").add("text", "text");
    EXPECT_EQ(enc::text(row.fields(), a), nullptr);
    EXPECT_EQ(enc::text(row.fields(), b), nullptr);
    return row.hash();
}

Hash128 numeric(std::string_view text, int scale) {
    Row row;
    row.add("numeric(40,20)", "numeric");
    EXPECT_EQ(enc::numeric(row.fields(), text, scale), nullptr);
    return row.hash();
}

template <typename Encode> Hash128 integer(const char *image_type, const char *value_class, Encode encode) {
    Row row;
    row.add(image_type, value_class);
    encode(row.fields());
    return row.hash();
}

} // namespace

TEST(RowDigest, BytesAsTheProtocolSays) {
    Row row;
    row.add("integer", "int").add("text", "text").add("text", "text");
    (void)enc::integer(row.fields(), -2);
    (void)enc::text(row.fields(), "é");
    enc::null(row.fields());
    const std::string bytes("\x01\x08\0\0\0\xff\xff\xff\xff\xff\xff\xff\xfe"
                            "\x05\x02\0\0\0\xc3\xa9"
                            "\0",
                            13 + 7 + 1);
    EXPECT_EQ(row.hash(), of_bytes(bytes));
}

TEST(RowDigest, IntegersOfAnySizeAreTheSameValue) {
    const Hash128 small = integer("smallint", "int", [](std::string &out) { (void)enc::smallint(out, -7); });
    EXPECT_EQ(small, integer("integer", "int", [](std::string &out) { (void)enc::integer(out, -7); }));
    EXPECT_EQ(small, integer("bigint", "int", [](std::string &out) { (void)enc::bigint(out, -7); }));
    EXPECT_NE(small, integer("bigint", "int", [](std::string &out) { (void)enc::bigint(out, 7); }));
}

TEST(RowDigest, NumericsAreComparedWithoutDisplayScale) {
    EXPECT_EQ(numeric("1.10", 2), numeric("1.1", 1));
    EXPECT_EQ(numeric("-0.00", 2), numeric("0", 0));
    EXPECT_EQ(numeric("10000", 0), numeric("10000.0000", 4));
    EXPECT_NE(numeric("10000", 0), numeric("1", 0));
    EXPECT_NE(numeric("0.0001", 4), numeric("1", 0));
    EXPECT_NE(numeric("1.1", 1), numeric("-1.1", 1));
    for (const std::int64_t value :
         {std::int64_t{0}, std::int64_t{1}, std::int64_t{-1}, std::int64_t{10000}, std::int64_t{-123456789012}, INT64_MAX, INT64_MIN})
        EXPECT_EQ(numeric(std::to_string(value), 0), integer("bigint", "numeric", [&](std::string &out) { (void)enc::bigint(out, value); }))
            << value;
}

TEST(RowDigest, NothingRunsTogether) {
    EXPECT_NE(text_pair("a", "bc"), text_pair("ab", "c"));
    EXPECT_NE(text_pair("", "x"), text_pair("x", ""));
    Row null, empty, word;
    null.add("text", "text");
    enc::null(null.fields());
    empty.add("text", "text");
    (void)enc::text(empty.fields(), "");
    word.add("text", "text");
    (void)enc::text(word.fields(), "NULL");
    EXPECT_NE(null.hash(), empty.hash());
    EXPECT_NE(null.hash(), word.hash());
    EXPECT_NE(text_pair("a", "x"), text_pair("a ", "x"));
    EXPECT_NE(text_pair("a", "x"), text_pair("A", "x"));
}

TEST(RowDigest, EveryBitOfADouble) {
    const auto hash = [](double value) {
        Row row;
        row.add("double precision", "float8");
        (void)enc::double_precision(row.fields(), value);
        return row.hash();
    };
    EXPECT_NE(hash(0.1), hash(std::nextafter(0.1, 1.0)));
    EXPECT_NE(hash(0.0), hash(-0.0));
}

TEST(RowDigest, SumsDoNotCancel) {
    // Equal changes in two rows, and two rows that swap values of equal length.
    ChunkSum before, swapped, changed_twice;
    before.add(text_pair("1", "aa"));
    before.add(text_pair("2", "bb"));
    swapped.add(text_pair("1", "bb"));
    swapped.add(text_pair("2", "aa"));
    changed_twice.add(text_pair("1", "cc"));
    changed_twice.add(text_pair("2", "cc"));
    EXPECT_NE(before, swapped);
    EXPECT_NE(before, changed_twice);
    EXPECT_NE(swapped, changed_twice);
}

TEST(RowDigest, SecretsAndGoldenNumbers) {
    const Hash128 hash = text_pair("pg", "tandem");
    EXPECT_NE(hash, [] {
        Row row;
        row.add("text", "text").add("text", "text");
        (void)enc::text(row.fields(), "pg");
        (void)enc::text(row.fields(), "tandem");
        return row.hash(std::string(192, 'x'));
    }());
    EXPECT_EQ(static_cast<std::int64_t>(hash.low), 2300306496450942907);
    EXPECT_EQ(static_cast<std::int64_t>(hash.high), -3995343602022058210);
    EXPECT_THROW(RowDigest({}, {}, "short"), Error);
}

TEST(RowDigest, RefusesWhatItCannotCompare) {
    DigestPlan plan;
    Column column;
    column.name = "c";
    column.image_type = "text";
    plan.columns = {{1, "int"}};
    EXPECT_THROW(RowDigest(plan, {column}, secret()), Error);
    plan.columns = {{2, "text"}};
    EXPECT_THROW(RowDigest(plan, {column}, secret()), Error);
    plan.columns = {{1, "text"}};
    RowDigest digest(plan, {column}, secret());
    EXPECT_THROW(digest.of_image({}, ""), Error);
    EXPECT_THROW(digest.of_image({}, std::string("\0\1\0\0\0\5ab", 8)), Error); // a field that is cut off
}

TEST(RowDigest, OriginalsInTheSidecarCount) {
    DigestPlan plan;
    Column column;
    column.name = "d";
    column.image_type = "date";
    plan.columns = {{1, "date"}};
    RowDigest digest(plan, {column}, secret());
    const auto image = [](const char *losses) {
        std::string bytes;
        enc::header(bytes, 1 | losses_mark);
        enc::null(bytes);
        (void)enc::text(bytes, losses);
        return bytes;
    };
    std::string plain;
    enc::header(plain, 1);
    enc::null(plain);
    const std::string key("\0\1\0\0\0\1k", 7);
    const Hash128 none = digest.of_image(key, plain);
    EXPECT_EQ(none, digest.of_image(key, image(R"([{"column":"d","rule":"zero date","policy":"null"}])")));
    const Hash128 kept = digest.of_image(key, image(R"([{"column":"d","rule":"zero date","policy":"sidecar","bytes":"3030"}])"));
    EXPECT_NE(none, kept);
    Hash128 wanted = none;
    const auto part = [](std::string_view length, std::string_view bytes) { return "\x11" + std::string(length) + std::string(bytes); };
    using namespace std::string_view_literals;
    wanted += of_bytes(part("\7\0\0\0"sv, key) + part("\1\0\0\0"sv, "d") + part("\x09\0\0\0"sv, "zero date") + part("\2\0\0\0"sv, "00"));
    EXPECT_EQ(kept, wanted);
}
