// The documented type map, row by row.
#include "core/error.hpp"
#include "core/typemap.hpp"

#include <gtest/gtest.h>

using namespace tandem::core;

TEST(TypeMap, Table) {
    const struct {
        const char *data_type, *column_type;
        const char *image;
    } rows[] = {
        {"tinyint", "tinyint(1)", "smallint"},
        {"tinyint", "tinyint(3) unsigned", "smallint"},
        {"smallint", "smallint(6)", "smallint"},
        {"smallint", "smallint unsigned", "integer"},
        {"mediumint", "mediumint(8) unsigned", "integer"},
        {"int", "int(11)", "integer"},
        {"int", "int(10) unsigned zerofill", "bigint"},
        {"bigint", "bigint", "bigint"},
        {"bigint", "bigint(20) unsigned", "numeric(20,0)"},
        {"decimal", "decimal(65,30)", "numeric(65,30)"},
        {"decimal", "decimal(10,0) unsigned", "numeric(10,0)"},
        {"float", "float(7,2)", "real"},
        {"double", "double unsigned", "double precision"},
        {"bit", "bit(1)", "bit(1)"},
        {"bit", "bit(64)", "bit(64)"},
        {"year", "year(4)", "smallint"},
        {"date", "date", "date"},
        {"datetime", "datetime", "timestamp(0)"},
        {"datetime", "datetime(6)", "timestamp(6)"},
        {"timestamp", "timestamp(3)", "timestamptz(3)"},
        {"time", "time(2)", "interval"},
        {"char", "char(36)", "text"},
        {"varchar", "varchar(255)", "text"},
        {"longtext", "longtext", "text"}, // MariaDB's JSON as well
        {"enum", "enum('a','b(2)')", "text"},
        {"set", "set('x')", "text"},
        {"binary", "binary(16)", "bytea"},
        {"longblob", "longblob", "bytea"},
        {"vector", "vector(3)", "bytea"},
        {"json", "json", "jsonb"},
        {"point", "point", "bytea"},
        {"geomcollection", "geomcollection", "bytea"},
        {"uuid", "uuid", "uuid"},
        {"inet4", "inet4", "inet"},
        {"inet6", "inet6", "inet"},
    };
    for (const auto &row : rows) {
        const bool is_unsigned = std::string(row.column_type).find("unsigned") != std::string::npos;
        const MappedType mapped = map_type(row.data_type, row.column_type, is_unsigned);
        EXPECT_EQ(mapped.image_type, row.image) << row.column_type;
        EXPECT_EQ(mapped.unmappable, "");
        EXPECT_NO_THROW(parse_image_type(mapped.image_type));
    }
}

TEST(TypeMap, UnknownTypeSaysSo) {
    const MappedType mapped = map_type("hologram", "hologram(3)", false);
    EXPECT_EQ(mapped.image_type, "");
    EXPECT_NE(mapped.unmappable.find("hologram(3)"), std::string::npos);
    EXPECT_THROW(parse_image_type("hologram"), Error);
}

TEST(TypeMap, ModifiersAreParsed) {
    EXPECT_EQ(parse_image_type("numeric(65,30)").a, 65);
    EXPECT_EQ(parse_image_type("numeric(65,30)").b, 30);
    EXPECT_EQ(parse_image_type("bit(9)").a, 9);
    EXPECT_EQ(parse_image_type("double precision").kind, ImageType::Kind::double_precision);
}
