// Key text and literals. MySQL parses what is written here, so nothing of a value is ever copied unchecked into SQL.
#include "core/key_text.hpp"

#include "core/encode.hpp"
#include "core/error.hpp"
#include "core/hex.hpp"

#include <algorithm>
#include <arpa/inet.h>
#include <array>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace tandem::core {
namespace {

using Kind = ImageType::Kind;

std::uint64_t big_endian(std::string_view bytes) {
    std::uint64_t value = 0;
    for (const char c : bytes)
        value = value << 8 | static_cast<unsigned char>(c);
    return value;
}

std::int64_t signed_big_endian(std::string_view bytes) {
    const std::uint64_t value = big_endian(bytes);
    if (bytes.size() == 2)
        return static_cast<std::int16_t>(value);
    if (bytes.size() == 4)
        return static_cast<std::int32_t>(value);
    return static_cast<std::int64_t>(value);
}

template <typename... Args> std::string format(const char *pattern, Args... args) {
    std::array<char, 128> buffer;
    const int length = std::snprintf(buffer.data(), buffer.size(), pattern, args...);
    return std::string(buffer.data(), static_cast<std::size_t>(length));
}

template <typename Float> std::string shortest(Float value) {
    std::array<char, 64> buffer;
    const auto done = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value);
    return std::string(buffer.data(), done.ptr);
}

std::string fraction_text(int micros) {
    if (micros == 0)
        return {};
    std::string text = format(".%06d", micros);
    text.erase(text.find_last_not_of('0') + 1);
    return text;
}

std::string numeric_to_text(std::string_view field) {
    const int digits = static_cast<int>(big_endian(field.substr(0, 2)));
    const int weight = static_cast<int>(signed_big_endian(field.substr(2, 2)));
    const bool negative = big_endian(field.substr(4, 2)) == 0x4000;
    const int scale = static_cast<int>(big_endian(field.substr(6, 2)));
    const auto group = [&](int exponent) {
        const int index = weight - exponent;
        return index < 0 || index >= digits ? 0 : static_cast<int>(big_endian(field.substr(8 + 2 * static_cast<std::size_t>(index), 2)));
    };
    std::string text;
    for (int exponent = weight; exponent >= 0; --exponent)
        text += format(text.empty() ? "%d" : "%04d", group(exponent));
    if (text.empty())
        text = "0";
    if (scale > 0) {
        std::string fraction;
        for (int exponent = -1; static_cast<int>(fraction.size()) < scale; --exponent)
            fraction += format("%04d", group(exponent));
        text += "." + fraction.substr(0, static_cast<std::size_t>(scale));
    }
    return negative ? "-" + text : text;
}

std::string timestamp_to_text(std::int64_t micros) {
    constexpr std::int64_t day_us = 86'400'000'000;
    std::int64_t days = micros / day_us;
    std::int64_t rest = micros % day_us;
    if (rest < 0) {
        rest += day_us;
        --days;
    }
    int year, month, day;
    civil_from_days(days + 10957, year, month, day);
    const auto seconds = static_cast<int>(rest / 1'000'000);
    return format("%04d-%02d-%02d %02d:%02d:%02d", year, month, day, seconds / 3600, seconds / 60 % 60, seconds % 60) +
           fraction_text(static_cast<int>(rest % 1'000'000));
}

std::string interval_to_text(std::int64_t micros) {
    const bool negative = micros < 0;
    const std::int64_t size = negative ? -micros : micros;
    const std::int64_t seconds = size / 1'000'000;
    return format("%s%02d:%02d:%02d", negative ? "-" : "", static_cast<int>(seconds / 3600), static_cast<int>(seconds / 60 % 60),
                  static_cast<int>(seconds % 60)) +
           fraction_text(static_cast<int>(size % 1'000'000));
}

// --- text → literal ---

bool is_decimal(std::string_view text) {
    if (!text.empty() && (text[0] == '-' || text[0] == '+'))
        text.remove_prefix(1);
    bool digit = false, point = false;
    for (const char c : text) {
        if (c >= '0' && c <= '9')
            digit = true;
        else if (c == '.' && !point)
            point = true;
        else
            return false;
    }
    return digit && text.size() <= 200;
}

bool is_integer(std::string_view text) { return is_decimal(text) && text.find('.') == std::string_view::npos; }

// Always in exponent form, which is a DOUBLE for MySQL and never a DECIMAL; 17 digits name the exact value.
std::optional<std::string> float_literal(std::string_view text, bool single) {
    const std::string copy(text);
    char *end = nullptr;
    const double value = single ? static_cast<double>(std::strtof(copy.c_str(), &end)) : std::strtod(copy.c_str(), &end);
    if (copy.empty() || end != copy.c_str() + copy.size() || !std::isfinite(value))
        return std::nullopt;
    return format("%.17e", value);
}

// Splits "…+05:30" into the part before the zone and the zone's offset in seconds; no zone is UTC.
bool split_zone(std::string_view text, std::string_view &local, int &offset) {
    local = text;
    offset = 0;
    const auto sign = text.find_last_of("+-");
    if (sign == std::string_view::npos || sign < 11)
        return text.size() < 11 || text.back() != 'Z' ? true : (local.remove_suffix(1), true);
    int part[3] = {0, 0, 0};
    int count = 0;
    const char *at = text.data() + sign + 1;
    const char *end = text.data() + text.size();
    while (at < end && count < 3) {
        const auto [next, error] = std::from_chars(at, end, part[count]);
        if (error != std::errc())
            return false;
        ++count;
        at = next;
        if (at < end && *at++ != ':')
            return false;
    }
    if (count == 0 || at != end || part[0] > 15 || part[1] > 59 || part[2] > 59)
        return false;
    offset = (part[0] * 60 + part[1]) * 60 + part[2];
    if (text[sign] == '-')
        offset = -offset;
    local = text.substr(0, sign);
    return true;
}

// "2024-01-02" or "2024-01-02 03:04:05.678"; `with_time` says which. Also the zero and partly zero dates that MySQL may hold: a cursor
// can stand on such a key.
bool parse_civil(std::string_view text, bool with_time, CivilTime &value) {
    const std::string copy(text);
    int used = 0;
    if (std::sscanf(copy.c_str(), "%4d-%2d-%2d%n", &value.year, &value.month, &value.day, &used) != 3 || used != 10)
        return false;
    if (!with_time)
        return copy.size() == 10;
    int time_used = 0;
    if (std::sscanf(copy.c_str() + used, "%*1[ T]%2d:%2d:%2d%n", &value.hour, &value.minute, &value.second, &time_used) != 3 ||
        time_used != 9)
        return false;
    std::string fraction = copy.substr(19);
    if (fraction.empty())
        return true;
    if (fraction[0] != '.' || fraction.size() < 2 || fraction.size() > 7 ||
        fraction.find_first_not_of("0123456789", 1) != std::string::npos)
        return false;
    fraction.resize(7, '0');
    value.micro = std::atoi(fraction.c_str() + 1);
    return true;
}

std::string civil_literal(const CivilTime &value) {
    return format("'%04d-%02d-%02d %02d:%02d:%02d.%06d'", value.year, value.month, value.day, value.hour, value.minute, value.second,
                  static_cast<int>(value.micro));
}

std::optional<std::string> timestamptz_literal(std::string_view text) {
    std::string_view local;
    int offset;
    CivilTime value;
    if (!split_zone(text, local, offset) || !parse_civil(local, true, value))
        return std::nullopt;
    if (offset == 0)
        return civil_literal(value); // also a zero timestamp
    std::int64_t seconds =
        days_from_civil(value.year, value.month, value.day) * 86400 + (value.hour * 60 + value.minute) * 60 + value.second - offset;
    std::int64_t days = seconds / 86400;
    seconds %= 86400;
    if (seconds < 0) {
        seconds += 86400;
        --days;
    }
    civil_from_days(days, value.year, value.month, value.day);
    value.hour = static_cast<int>(seconds / 3600);
    value.minute = static_cast<int>(seconds / 60 % 60);
    value.second = static_cast<int>(seconds % 60);
    return civil_literal(value);
}

// "[-][N day[s] ][-]HH:MM:SS[.ffffff]", PostgreSQL's output of an interval without months.
std::optional<std::string> interval_literal(std::string_view text) {
    std::string copy(text);
    long days = 0;
    if (const auto day = copy.find(" day"); day != std::string::npos) {
        const auto parsed = std::from_chars(copy.data(), copy.data() + day, days);
        if (parsed.ec != std::errc() || parsed.ptr != copy.data() + day)
            return std::nullopt;
        auto rest = day + 4;
        if (rest < copy.size() && copy[rest] == 's')
            ++rest;
        copy.erase(0, rest);
        if (copy.empty())
            copy = " 00:00:00";
        if (copy[0] != ' ')
            return std::nullopt;
        copy.erase(0, 1);
    }
    bool negative = false;
    if (!copy.empty() && (copy[0] == '-' || copy[0] == '+')) {
        negative = copy[0] == '-';
        copy.erase(0, 1);
    }
    int hour, minute, second, used = 0;
    if (std::sscanf(copy.c_str(), "%4d:%2d:%2d%n", &hour, &minute, &second, &used) != 3 || hour < 0 || minute < 0 || minute > 59 ||
        second < 0 || second > 59)
        return std::nullopt;
    std::string fraction = copy.substr(static_cast<std::size_t>(used));
    if (fraction.size() > 7 ||
        (!fraction.empty() && (fraction[0] != '.' || fraction.find_first_not_of("0123456789", 1) != std::string::npos)))
        return std::nullopt;
    fraction.resize(7, '0');
    const std::int64_t time = (static_cast<std::int64_t>(hour) * 3600 + minute * 60 + second) * 1'000'000 + std::atoi(fraction.c_str() + 1);
    const std::int64_t total = static_cast<std::int64_t>(days) * 86'400'000'000 + (negative ? -time : time);
    const std::int64_t size = total < 0 ? -total : total;
    if (size > 3'020'399'999'999) // 838:59:59.999999
        return std::nullopt;
    const std::int64_t seconds = size / 1'000'000;
    return format("'%s%02d:%02d:%02d.%06d'", total < 0 ? "-" : "", static_cast<int>(seconds / 3600), static_cast<int>(seconds / 60 % 60),
                  static_cast<int>(seconds % 60), static_cast<int>(size % 1'000'000));
}

std::optional<std::string> bytea_literal(std::string_view text) {
    if (text.substr(0, 2) != "\\x" || text.size() % 2 != 0 || text.find_first_not_of("0123456789abcdefABCDEF", 2) != std::string_view::npos)
        return std::nullopt;
    return "X'" + std::string(text.substr(2)) + "'";
}

std::optional<std::string> bit_literal(std::string_view text, int bits) {
    if (static_cast<int>(text.size()) != bits || text.find_first_not_of("01") != std::string_view::npos)
        return std::nullopt;
    std::uint64_t value = 0;
    for (const char c : text)
        value = value << 1 | static_cast<std::uint64_t>(c == '1');
    return std::to_string(value);
}

// Labels of "enum('a','it''s')", in order.
std::vector<std::string> labels(std::string_view type) {
    std::vector<std::string> result;
    for (std::size_t at = type.find('\''); at != std::string_view::npos; at = type.find('\'', at)) {
        std::string label;
        for (++at; at < type.size(); ++at) {
            if (type[at] == '\'') {
                if (at + 1 >= type.size() || type[at + 1] != '\'')
                    break;
                ++at;
            } else if (type[at] == '\\' && at + 1 < type.size()) { // as the servers write labels: \\ \n \r \0
                ++at;
                label.push_back(type[at] == 'n' ? '\n' : type[at] == 'r' ? '\r' : type[at] == '0' ? '\0' : type[at]);
                continue;
            }
            label.push_back(type[at]);
        }
        result.push_back(std::move(label));
        ++at;
    }
    return result;
}

} // namespace

std::string field_to_text(const ImageType &type, std::string_view field) {
    switch (type.kind) {
    case Kind::boolean:
        return field == std::string_view("\1", 1) ? "t" : "f";
    case Kind::smallint:
    case Kind::integer:
    case Kind::bigint:
        return std::to_string(signed_big_endian(field));
    case Kind::numeric:
        return numeric_to_text(field);
    case Kind::real:
        return shortest(std::bit_cast<float>(static_cast<std::uint32_t>(big_endian(field))));
    case Kind::double_precision:
        return shortest(std::bit_cast<double>(big_endian(field)));
    case Kind::bit: {
        std::string text;
        const auto bits = static_cast<int>(big_endian(field.substr(0, 4)));
        for (int i = 0; i < bits; ++i)
            text.push_back(static_cast<unsigned char>(field[4 + static_cast<std::size_t>(i / 8)]) >> (7 - i % 8) & 1 ? '1' : '0');
        return text;
    }
    case Kind::date:
        return timestamp_to_text(signed_big_endian(field) * 86'400'000'000).substr(0, 10);
    case Kind::timestamp:
        return timestamp_to_text(signed_big_endian(field));
    case Kind::timestamptz:
        return timestamp_to_text(signed_big_endian(field)) + "+00";
    case Kind::interval:
        return interval_to_text(signed_big_endian(field.substr(0, 8)));
    case Kind::bytea:
        return "\\x" + hex(field);
    case Kind::jsonb:
        return std::string(field.substr(1));
    case Kind::uuid: {
        std::string text = hex(field);
        for (const std::size_t at : {20U, 16U, 12U, 8U})
            text.insert(at, 1, '-');
        return text;
    }
    case Kind::inet: {
        std::array<char, INET6_ADDRSTRLEN> name{};
        inet_ntop(field[0] == 3 ? AF_INET6 : AF_INET, field.data() + 4, name.data(), name.size());
        return name.data();
    }
    case Kind::text:
    case Kind::json:
        break;
    }
    return std::string(field);
}

std::vector<std::string> key_to_text(std::string_view key, const std::vector<ImageType> &types) {
    const auto broken = [] { return Error(Side::worker, "XX001", "key bytes are not a tuple of the key's image types", false); };
    if (key.size() < 2 || big_endian(key.substr(0, 2)) != types.size())
        throw broken();
    std::vector<std::string> result;
    std::size_t at = 2;
    for (const ImageType &type : types) {
        if (key.size() < at + 4)
            throw broken();
        const std::int64_t length = signed_big_endian(key.substr(at, 4));
        at += 4;
        if (length < 0 || key.size() - at < static_cast<std::size_t>(length))
            throw broken();
        result.push_back(field_to_text(type, key.substr(at, static_cast<std::size_t>(length))));
        at += static_cast<std::size_t>(length);
    }
    return result;
}

std::optional<std::string> mysql_literal(const Column &column, std::string_view text) {
    // A label that is not found as it is written in the type is left to the server.
    if (auto number = sort_number(column, text); number && !number->empty())
        return number;
    const ImageType type = parse_image_type(column.image_type);
    CivilTime civil;
    switch (type.kind) {
    case Kind::boolean:
        if (text == "t" || text == "true" || text == "1")
            return "1";
        if (text == "f" || text == "false" || text == "0")
            return "0";
        return std::nullopt;
    case Kind::smallint:
    case Kind::integer:
    case Kind::bigint:
        return is_integer(text) ? std::optional(std::string(text)) : std::nullopt;
    case Kind::numeric:
        return is_decimal(text) ? std::optional(std::string(text)) : std::nullopt;
    case Kind::real:
        return float_literal(text, true);
    case Kind::double_precision:
        return float_literal(text, false);
    case Kind::bit:
        return bit_literal(text, type.a);
    case Kind::date:
        return parse_civil(text, false, civil) ? std::optional("'" + std::string(text) + "'") : std::nullopt;
    case Kind::timestamp:
        return parse_civil(text, true, civil) ? std::optional(civil_literal(civil)) : std::nullopt;
    case Kind::timestamptz:
        return timestamptz_literal(text);
    case Kind::interval:
        return interval_literal(text);
    case Kind::bytea:
        return bytea_literal(text);
    case Kind::uuid:
    case Kind::inet: {
        if (text.empty() || text.find_first_not_of("0123456789abcdefABCDEF:.-") != std::string_view::npos)
            return std::nullopt;
        return "'" + std::string(text) + "'";
    }
    case Kind::text:
    case Kind::json:
    case Kind::jsonb:
        break;
    }
    // Bytes of the column's own character set that have no UTF-8 form, marked by a byte that UTF-8 does not have (RowReader::text).
    if (!text.empty() && text.front() == '\xff' && !column.charset.empty())
        return "_" + column.charset + " X'" + hex(text.substr(1)) + "'";
    // The introducer makes MySQL convert from UTF-8 to the column's character set; the column's collation decides comparisons.
    return text.empty() ? "_utf8mb4''" : "_utf8mb4 X'" + hex(text) + "'";
}

std::optional<std::string> sort_number(const Column &column, std::string_view text) {
    const bool is_enum = column.data_type == "enum";
    if (!is_enum && column.data_type != "set")
        return std::nullopt;
    const std::vector<std::string> names = labels(column.mysql_type);
    if (is_enum) {
        const auto found = std::find(names.begin(), names.end(), text);
        if (found != names.end())
            return std::to_string(found - names.begin() + 1);
        return text.empty() ? "0" : "";
    }
    // SET: one bit for each label in the comma-separated value; labels cannot contain commas.
    std::uint64_t number = 0;
    while (!text.empty()) {
        const auto comma = text.find(',');
        const auto found = std::find(names.begin(), names.end(), text.substr(0, comma));
        if (found == names.end())
            return "";
        number |= std::uint64_t{1} << (found - names.begin());
        text = comma == std::string_view::npos ? std::string_view() : text.substr(comma + 1);
    }
    return std::to_string(number);
}

std::optional<std::uint64_t> greatest_sort_number(const Column &column) {
    const bool is_enum = column.data_type == "enum";
    if (!is_enum && column.data_type != "set")
        return std::nullopt;
    const std::size_t names = labels(column.mysql_type).size();
    return is_enum ? names : names >= 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << names) - 1;
}

} // namespace tandem::core
