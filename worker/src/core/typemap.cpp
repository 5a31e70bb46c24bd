// The type map as a table of rules, and the parser of image type names.
#include "core/typemap.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <utility>
#include <vector>

namespace tandem::core {
namespace {

std::string lower(std::string_view text) {
    std::string result(text);
    std::transform(result.begin(), result.end(), result.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return result;
}

// The numbers of "decimal(10,2) unsigned": {10, 2}. Empty when there is no modifier.
std::vector<int> modifiers(std::string_view type) {
    std::vector<int> result;
    const auto open = type.find('(');
    if (open == std::string_view::npos)
        return result;
    const char *at = type.data() + open + 1;
    const char *end = type.data() + type.size();
    while (at < end) {
        int value = 0;
        const auto [next, error] = std::from_chars(at, end, value);
        if (error != std::errc())
            break;
        result.push_back(value);
        at = next;
        while (at < end && (*at == ',' || *at == ' '))
            ++at;
    }
    return result;
}

bool one_of(const std::string &type, std::initializer_list<std::string_view> names) {
    return std::find(names.begin(), names.end(), type) != names.end();
}

std::string with_precision(const char *name, const std::vector<int> &mods) {
    return std::string(name) + "(" + std::to_string(mods.empty() ? 0 : mods[0]) + ")";
}

} // namespace

MappedType map_type(std::string_view data_type, std::string_view column_type, bool is_unsigned) {
    const std::string type = lower(data_type);
    const std::vector<int> mods = modifiers(column_type);

    // tinyint(1) is a number: MySQL stores -128..127 in it, so it is never a boolean by default.
    if (type == "tinyint" || type == "year" || (type == "smallint" && !is_unsigned))
        return {"smallint", {}};
    if (type == "smallint" || type == "mediumint" || (one_of(type, {"int", "integer"}) && !is_unsigned))
        return {"integer", {}};
    if (one_of(type, {"int", "integer"}) || (type == "bigint" && !is_unsigned))
        return {"bigint", {}};
    if (type == "bigint")
        return {"numeric(20,0)", {}};
    if (one_of(type, {"decimal", "numeric", "dec", "fixed"})) {
        const int precision = mods.empty() ? 10 : mods[0];
        const int scale = mods.size() < 2 ? 0 : mods[1];
        return {"numeric(" + std::to_string(precision) + "," + std::to_string(scale) + ")", {}};
    }
    if (type == "float")
        return {"real", {}};
    if (one_of(type, {"double", "real", "double precision"}))
        return {"double precision", {}};
    if (type == "bit")
        return {"bit(" + std::to_string(mods.empty() ? 1 : mods[0]) + ")", {}};
    if (type == "date")
        return {"date", {}};
    if (type == "datetime")
        return {with_precision("timestamp", mods), {}};
    if (type == "timestamp")
        return {with_precision("timestamptz", mods), {}};
    if (type == "time") // up to 838:59:59 and negative: PostgreSQL's time cannot hold it
        return {"interval", {}};
    if (one_of(type, {"char", "varchar", "tinytext", "text", "mediumtext", "longtext", "enum", "set", "nchar", "nvarchar"}))
        return {"text", {}};
    // VECTOR (MySQL 9): its numbers, four bytes each, little endian.
    if (one_of(type, {"binary", "varbinary", "tinyblob", "blob", "mediumblob", "longblob", "vector"}))
        return {"bytea", {}};
    if (type == "json")
        return {"jsonb", {}};
    // WKB, see core/geometry.hpp.
    if (one_of(type, {"geometry", "point", "linestring", "polygon", "multipoint", "multilinestring", "multipolygon", "geometrycollection",
                      "geomcollection"}))
        return {"bytea", {}};
    if (type == "uuid")
        return {"uuid", {}};
    if (type == "inet4" || type == "inet6")
        return {"inet", {}};
    return {{}, "type " + std::string(column_type) + " has no PostgreSQL type that is known to hold every value exactly"};
}

ImageType parse_image_type(std::string_view name) {
    using Kind = ImageType::Kind;
    static constexpr std::array<std::pair<std::string_view, Kind>, 18> kinds{{
        {"boolean", Kind::boolean},
        {"smallint", Kind::smallint},
        {"integer", Kind::integer},
        {"bigint", Kind::bigint},
        {"numeric", Kind::numeric},
        {"real", Kind::real},
        {"double precision", Kind::double_precision},
        {"bit", Kind::bit},
        {"date", Kind::date},
        {"timestamp", Kind::timestamp},
        {"timestamptz", Kind::timestamptz},
        {"interval", Kind::interval},
        {"text", Kind::text},
        {"bytea", Kind::bytea},
        {"jsonb", Kind::jsonb},
        {"json", Kind::json},
        {"uuid", Kind::uuid},
        {"inet", Kind::inet},
    }};
    const std::string_view base = name.substr(0, name.find('('));
    for (const auto &[text, kind] : kinds) {
        if (text != base)
            continue;
        const std::vector<int> mods = modifiers(name);
        ImageType result;
        result.kind = kind;
        result.a = mods.empty() ? (kind == Kind::bit ? 1 : 0) : mods[0];
        result.b = mods.size() < 2 ? 0 : mods[1];
        return result;
    }
    throw Error(Side::worker, "42704", "\"" + std::string(name) + "\" is not an image type", false,
                "The extension and the worker may be of different versions.");
}

} // namespace tandem::core
