// PostgreSQL binary receive formats. Each follows the type's *_send function in PostgreSQL's src/backend/utils/adt.
#include "core/decode.hpp"

#include <arpa/inet.h>
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>

namespace tandem::core {
namespace {

using Kind = ImageType::Kind;

constexpr std::int64_t days_to_2000 = 10957; // 1970-01-01 to 2000-01-01
constexpr std::int64_t day_us = 86'400'000'000;
constexpr std::int64_t longest_time_s = 838 * 3600 + 59 * 60 + 59;

constexpr ValueError malformed{"22P03", "value is not in the binary format of its image type", nullptr};
constexpr ValueError not_finite{"22003", "MySQL has no NaN and no infinity", "not finite"};
constexpr ValueError date_range{"22008", "date outside the years 1 to 9999, which MySQL cannot hold", "date range"};
constexpr ValueError interval_months{"22008", "interval with months, which has no length that MySQL's TIME could hold", "interval"};
constexpr ValueError interval_range{"22008", "interval outside -838:59:59 to 838:59:59, which MySQL's TIME cannot hold", "interval"};
constexpr ValueError network{"22003", "network with a netmask, which the old side's address type cannot hold", "netmask"};

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

encode::Result integer(OldValue &out, std::string_view bytes, std::size_t size) {
    if (bytes.size() != size)
        return &malformed;
    out.kind = OldValue::Kind::integer;
    out.integer = signed_big_endian(bytes);
    return nullptr;
}

// "-12.5": no zeros before the whole part or behind the fraction, so that equal numbers are equal text.
encode::Result numeric(OldValue &out, std::string_view bytes) {
    if (bytes.size() < 8)
        return &malformed;
    const auto digits = static_cast<std::size_t>(big_endian(bytes.substr(0, 2)));
    const int weight = static_cast<int>(signed_big_endian(bytes.substr(2, 2)));
    const auto sign = big_endian(bytes.substr(4, 2));
    if (sign != 0 && sign != 0x4000)
        return sign == 0xC000 || sign == 0xD000 || sign == 0xF000 ? &not_finite : &malformed;
    if (bytes.size() != 8 + 2 * digits)
        return &malformed;
    std::string whole, fraction;
    std::array<char, 8> group;
    for (int exponent = weight; exponent >= 0; --exponent) {
        const auto index = static_cast<std::size_t>(weight - exponent);
        const unsigned part = index < digits ? static_cast<unsigned>(big_endian(bytes.substr(8 + 2 * index, 2))) : 0;
        std::snprintf(group.data(), group.size(), "%04u", part % 10000U);
        whole += group.data();
    }
    for (int exponent = -1; exponent > weight; --exponent)
        fraction += "0000";
    for (std::size_t index = weight < 0 ? 0 : static_cast<std::size_t>(weight) + 1; index < digits; ++index) {
        std::snprintf(group.data(), group.size(), "%04u", static_cast<unsigned>(big_endian(bytes.substr(8 + 2 * index, 2))) % 10000U);
        fraction += group.data();
    }
    whole.erase(0, std::min(whole.find_first_not_of('0'), whole.size()));
    fraction.erase(fraction.find_last_not_of('0') + 1);
    out.kind = OldValue::Kind::text;
    out.bytes = whole.empty() ? "0" : whole;
    if (!fraction.empty())
        out.bytes += "." + fraction;
    if (sign == 0x4000 && out.bytes != "0")
        out.bytes.insert(0, 1, '-');
    return nullptr;
}

bool set_date(CivilTime &time, std::int64_t days) {
    if (days < -2'000'000 || days > 3'000'000)
        return false;
    civil_from_days(days + days_to_2000, time.year, time.month, time.day);
    return time.year >= 1 && time.year <= 9999;
}

void set_clock(CivilTime &time, std::int64_t micros) {
    const std::int64_t seconds = micros / 1'000'000;
    time.micro = static_cast<std::int32_t>(micros % 1'000'000);
    time.second = static_cast<int>(seconds % 60);
    time.minute = static_cast<int>(seconds / 60 % 60);
    time.hour = static_cast<int>(seconds / 3600);
}

encode::Result date(OldValue &out, std::string_view bytes) {
    if (bytes.size() != 4)
        return &malformed;
    out.kind = OldValue::Kind::date;
    return set_date(out.time, signed_big_endian(bytes)) ? nullptr : &date_range; // the infinities are far outside
}

encode::Result timestamp(OldValue &out, std::string_view bytes) {
    if (bytes.size() != 8)
        return &malformed;
    const std::int64_t micros = signed_big_endian(bytes);
    std::int64_t days = micros / day_us, rest = micros % day_us;
    if (rest < 0) {
        rest += day_us;
        --days;
    }
    out.kind = OldValue::Kind::datetime;
    if (!set_date(out.time, days))
        return &date_range;
    set_clock(out.time, rest);
    return nullptr;
}

// Days count as 24 hours, as they do when PostgreSQL compares two intervals.
encode::Result interval(OldValue &out, std::string_view bytes) {
    if (bytes.size() != 16)
        return &malformed;
    if (big_endian(bytes.substr(12, 4)) != 0)
        return &interval_months;
    const std::int64_t days = signed_big_endian(bytes.substr(8, 4));
    const std::int64_t clock = signed_big_endian(bytes.substr(0, 8));
    const std::int64_t limit = (longest_time_s + 1) * 1'000'000;
    if (days < -40 || days > 40 || clock < -2 * limit || clock > 2 * limit)
        return &interval_range;
    const std::int64_t micros = days * day_us + clock;
    const std::int64_t size = micros < 0 ? -micros : micros;
    if (size >= limit)
        return &interval_range;
    out.kind = OldValue::Kind::time;
    out.time.negative = micros < 0;
    set_clock(out.time, size);
    return nullptr;
}

encode::Result bit(OldValue &out, std::string_view bytes) {
    if (bytes.size() < 4)
        return &malformed;
    const auto bits = static_cast<int>(big_endian(bytes.substr(0, 4)));
    const auto size = static_cast<std::size_t>((bits + 7) / 8);
    if (bits < 1 || bits > 64 || bytes.size() != 4 + size)
        return &malformed;
    out.kind = OldValue::Kind::unsigned_integer;
    out.integer = std::bit_cast<std::int64_t>(big_endian(bytes.substr(4)) >> (static_cast<int>(size) * 8 - bits));
    return nullptr;
}

encode::Result uuid(OldValue &out, std::string_view bytes) {
    if (bytes.size() != 16)
        return &malformed;
    out.kind = OldValue::Kind::text;
    static constexpr char digits[] = "0123456789abcdef";
    for (std::size_t i = 0; i < 16; ++i) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            out.bytes.push_back('-');
        out.bytes.push_back(digits[static_cast<unsigned char>(bytes[i]) >> 4]);
        out.bytes.push_back(digits[static_cast<unsigned char>(bytes[i]) & 15]);
    }
    return nullptr;
}

encode::Result inet(OldValue &out, std::string_view bytes) {
    if (bytes.size() != 8 && bytes.size() != 20)
        return &malformed;
    const bool v6 = bytes.size() == 20;
    if (static_cast<unsigned char>(bytes[1]) != (v6 ? 128 : 32))
        return &network;
    std::array<char, INET6_ADDRSTRLEN> text{};
    if (inet_ntop(v6 ? AF_INET6 : AF_INET, bytes.data() + 4, text.data(), text.size()) == nullptr)
        return &malformed;
    out.kind = OldValue::Kind::text;
    out.bytes = text.data();
    return nullptr;
}

bool same_time(const CivilTime &one, const CivilTime &other) {
    return one.year == other.year && one.month == other.month && one.day == other.day && one.hour == other.hour &&
           one.minute == other.minute && one.second == other.second && one.micro == other.micro && one.negative == other.negative;
}

} // namespace

bool same_value(const OldValue &one, const OldValue &other) {
    if (one.kind != other.kind)
        return false;
    switch (one.kind) {
    case OldValue::Kind::null:
        return true;
    case OldValue::Kind::integer:
    case OldValue::Kind::unsigned_integer:
        return one.integer == other.integer;
    case OldValue::Kind::real:
        return std::bit_cast<std::uint32_t>(one.real) == std::bit_cast<std::uint32_t>(other.real);
    case OldValue::Kind::double_precision:
        return std::bit_cast<std::uint64_t>(one.number) == std::bit_cast<std::uint64_t>(other.number);
    case OldValue::Kind::date:
    case OldValue::Kind::datetime:
    case OldValue::Kind::time:
        return same_time(one.time, other.time);
    case OldValue::Kind::text:
    case OldValue::Kind::bytes:
        return one.bytes == other.bytes;
    case OldValue::Kind::json:
        break;
    }
    if (one.bytes == other.bytes)
        return true;
    const auto first = nlohmann::json::parse(one.bytes, nullptr, false), second = nlohmann::json::parse(other.bytes, nullptr, false);
    return !first.is_discarded() && first == second;
}

std::string describe(const OldValue &value) {
    constexpr std::size_t longest = 100;
    const CivilTime &t = value.time;
    std::array<char, 64> text{};
    switch (value.kind) {
    case OldValue::Kind::null:
        return "NULL";
    case OldValue::Kind::integer:
        return std::to_string(value.integer);
    case OldValue::Kind::unsigned_integer:
        return std::to_string(static_cast<std::uint64_t>(value.integer));
    case OldValue::Kind::real:
        std::snprintf(text.data(), text.size(), "%.9g", static_cast<double>(value.real));
        return text.data();
    case OldValue::Kind::double_precision:
        std::snprintf(text.data(), text.size(), "%.17g", value.number);
        return text.data();
    case OldValue::Kind::date:
        std::snprintf(text.data(), text.size(), "%04d-%02d-%02d", t.year, t.month, t.day);
        return text.data();
    case OldValue::Kind::datetime:
        std::snprintf(text.data(), text.size(), "%04d-%02d-%02d %02d:%02d:%02d.%06d", t.year, t.month, t.day, t.hour, t.minute, t.second,
                      static_cast<int>(t.micro));
        return text.data();
    case OldValue::Kind::time:
        std::snprintf(text.data(), text.size(), "%s%02d:%02d:%02d.%06d", t.negative ? "-" : "", t.hour, t.minute, t.second,
                      static_cast<int>(t.micro));
        return text.data();
    case OldValue::Kind::bytes:
        return std::to_string(value.bytes.size()) + " bytes";
    case OldValue::Kind::text:
    case OldValue::Kind::json:
        break;
    }
    if (value.bytes.size() <= longest)
        return "'" + value.bytes + "'";
    std::size_t end = longest;
    while (end > 0 && (static_cast<unsigned char>(value.bytes[end]) & 0xC0) == 0x80)
        --end; // not within a character
    return "'" + value.bytes.substr(0, end) + "…' (" + std::to_string(value.bytes.size()) + " bytes)";
}

namespace decode {

std::optional<std::vector<Field>> tuple(std::string_view bytes) {
    if (bytes.size() < 2)
        return std::nullopt;
    const auto count = static_cast<std::size_t>(big_endian(bytes.substr(0, 2))) & ~static_cast<std::size_t>(losses_mark);
    const bool losses = has_losses(bytes);
    bytes.remove_prefix(2);
    std::vector<Field> fields;
    for (std::size_t i = 0; i < count + (losses ? 1 : 0); ++i) {
        if (bytes.size() < 4)
            return std::nullopt;
        const auto length = static_cast<std::int32_t>(big_endian(bytes.substr(0, 4)));
        bytes.remove_prefix(4);
        Field field;
        if (length >= 0) {
            if (bytes.size() < static_cast<std::size_t>(length))
                return std::nullopt;
            field = {false, bytes.substr(0, static_cast<std::size_t>(length))};
            bytes.remove_prefix(static_cast<std::size_t>(length));
        } else if (length != -1) {
            return std::nullopt;
        }
        if (i < count)
            fields.push_back(field);
    }
    return bytes.empty() ? std::optional(std::move(fields)) : std::nullopt;
}

encode::Result value(OldValue &out, const ImageType &type, const Field &field) {
    out = OldValue{};
    if (field.null)
        return nullptr;
    const std::string_view bytes = field.bytes;
    switch (type.kind) {
    case Kind::boolean:
        return integer(out, bytes, 1);
    case Kind::smallint:
        return integer(out, bytes, 2);
    case Kind::integer:
        return integer(out, bytes, 4);
    case Kind::bigint:
        return integer(out, bytes, 8);
    case Kind::numeric:
        return numeric(out, bytes);
    case Kind::real:
        if (bytes.size() != 4)
            return &malformed;
        out.kind = OldValue::Kind::real;
        out.real = std::bit_cast<float>(static_cast<std::uint32_t>(big_endian(bytes)));
        return std::isfinite(out.real) ? nullptr : &not_finite;
    case Kind::double_precision:
        if (bytes.size() != 8)
            return &malformed;
        out.kind = OldValue::Kind::double_precision;
        out.number = std::bit_cast<double>(big_endian(bytes));
        return std::isfinite(out.number) ? nullptr : &not_finite;
    case Kind::bit:
        return bit(out, bytes);
    case Kind::date:
        return date(out, bytes);
    case Kind::timestamp:
    case Kind::timestamptz:
        return timestamp(out, bytes);
    case Kind::interval:
        return interval(out, bytes);
    case Kind::text:
        out.kind = OldValue::Kind::text;
        out.bytes = bytes;
        return nullptr;
    case Kind::json:
        out.kind = OldValue::Kind::json;
        out.bytes = bytes;
        return nullptr;
    case Kind::jsonb:
        if (bytes.empty() || bytes[0] != 1)
            return &malformed;
        out.kind = OldValue::Kind::json;
        out.bytes = bytes.substr(1);
        return nullptr;
    case Kind::bytea:
        out.kind = OldValue::Kind::bytes;
        out.bytes = bytes;
        return nullptr;
    case Kind::uuid:
        return uuid(out, bytes);
    case Kind::inet:
        return inet(out, bytes);
    }
    return &malformed;
}

} // namespace decode
} // namespace tandem::core
