// PostgreSQL binary send formats. Each follows the type's *_send function in PostgreSQL's src/backend/utils/adt.
#include "core/encode.hpp"

#include <arpa/inet.h>
#include <array>
#include <bit>
#include <cstring>

namespace tandem::core {

std::int64_t days_from_civil(int year, int month, int day) {
    const std::int64_t y = month <= 2 ? year - 1 : year;
    const std::int64_t era = (y >= 0 ? y : y - 399) / 400;
    const std::int64_t year_of_era = y - era * 400;
    const std::int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    const std::int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

void civil_from_days(std::int64_t days, int &year, int &month, int &day) {
    const std::int64_t z = days + 719468;
    const std::int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    const std::int64_t day_of_era = z - era * 146097;
    const std::int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    const std::int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    const std::int64_t shifted = (5 * day_of_year + 2) / 153;
    day = static_cast<int>(day_of_year - (153 * shifted + 2) / 5 + 1);
    month = static_cast<int>(shifted < 10 ? shifted + 3 : shifted - 9);
    year = static_cast<int>(year_of_era + era * 400 + (month <= 2 ? 1 : 0));
}

bool valid_utf8(std::string_view text) {
    const auto *at = reinterpret_cast<const unsigned char *>(text.data());
    const auto *end = at + text.size();
    while (at < end) {
        while (end - at >= 8) { // eight ASCII bytes at once
            std::uint64_t word;
            std::memcpy(&word, at, 8);
            if (word & 0x8080808080808080ULL)
                break;
            at += 8;
        }
        if (at == end)
            break;
        const unsigned char c = *at;
        if (c < 0x80) {
            ++at;
            continue;
        }
        int follow;
        unsigned char low = 0x80, high = 0xBF; // allowed range of the second byte
        if (c >= 0xC2 && c <= 0xDF) {
            follow = 1;
        } else if (c >= 0xE0 && c <= 0xEF) {
            follow = 2;
            low = c == 0xE0 ? 0xA0 : 0x80;
            high = c == 0xED ? 0x9F : 0xBF;
        } else if (c >= 0xF0 && c <= 0xF4) {
            follow = 3;
            low = c == 0xF0 ? 0x90 : 0x80;
            high = c == 0xF4 ? 0x8F : 0xBF;
        } else {
            return false;
        }
        if (end - at <= follow || at[1] < low || at[1] > high)
            return false;
        for (int i = 2; i <= follow; ++i)
            if (at[i] < 0x80 || at[i] > 0xBF)
                return false;
        at += follow + 1;
    }
    return true;
}

bool has_losses(std::string_view image) { return !image.empty() && (static_cast<unsigned char>(image[0]) & (losses_mark >> 8)) != 0; }

namespace encode {
namespace {

constexpr std::int64_t days_to_2000 = 10957; // 1970-01-01 to 2000-01-01
constexpr std::int64_t day_us = 86'400'000'000;
constexpr int numeric_base_digits = 4;

constexpr ValueError out_of_range{"22003", "number out of range of the image type", "out of range"};
constexpr ValueError not_a_number{"22P02", "not a decimal number", "out of range"};
constexpr ValueError zero_date{"22008", "zero or partly zero date", "zero date"};
constexpr ValueError invalid_date{"22008", "date that is not in the calendar", "invalid date"};
constexpr ValueError invalid_time{"22008", "time of day out of range", "invalid time"};
constexpr ValueError nul_in_text{"22021", "text contains U+0000, which PostgreSQL's text cannot hold", "U+0000"};
constexpr ValueError bad_utf8{"22021", "text is not valid UTF-8", "invalid bytes"};
constexpr ValueError nul_in_json{"22P05", "JSON contains the escape \\u0000, which jsonb cannot hold", "U+0000"};
constexpr ValueError bad_uuid{"22P02", "not a UUID", nullptr};
constexpr ValueError bad_inet{"22P02", "not an IP address", nullptr};
constexpr ValueError bad_bit{"22026", "bit string of a wrong length", nullptr};
constexpr ValueError too_long{"54000", "value is longer than the 1 GB that PostgreSQL can hold", "too long"};

template <typename Int> void raw(std::string &out, Int value) {
    std::array<char, sizeof(Int)> bytes;
    auto rest = static_cast<std::make_unsigned_t<Int>>(value);
    for (std::size_t i = sizeof(Int); i-- > 0;) {
        bytes[i] = static_cast<char>(rest & 0xFF);
        if constexpr (sizeof(Int) > 1)
            rest = static_cast<decltype(rest)>(rest >> 8);
    }
    out.append(bytes.data(), bytes.size());
}

Result sized(std::string &out, std::string_view value) {
    if (value.size() >= 0x3FFFFF00) // MaxAllocSize less the header
        return &too_long;
    raw(out, static_cast<std::int32_t>(value.size()));
    out.append(value);
    return nullptr;
}

int days_in_month(int year, int month) {
    static constexpr int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return month == 2 && leap ? 29 : days[month - 1];
}

// Year 0 exists for MySQL but not in PostgreSQL's calendar, where 1 BC comes before 1 AD.
Result check_date(const CivilTime &value) {
    if (value.year == 0 || value.month == 0 || value.day == 0)
        return &zero_date;
    if (value.month < 0 || value.month > 12 || value.day < 0 || value.day > days_in_month(value.year, value.month))
        return &invalid_date;
    return nullptr;
}

Result check_text(std::string_view value) {
    if (std::memchr(value.data(), 0, value.size()) != nullptr)
        return &nul_in_text;
    return valid_utf8(value) ? nullptr : &bad_utf8;
}

// MySQL writes U+0000 inside JSON strings as the escape \u0000. A backslash that is itself escaped does not start one.
bool has_nul_escape(std::string_view json) {
    for (std::size_t at = json.find('\\'); at != std::string_view::npos; at = json.find('\\', at + 2))
        if (json.substr(at + 1, 5) == "u0000")
            return true;
    return false;
}

int hex_digit(char c) {
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool all_digits(std::string_view text) {
    for (const char c : text)
        if (c < '0' || c > '9')
            return false;
    return true;
}

} // namespace

void header(std::string &out, int fields) { raw(out, static_cast<std::int16_t>(fields)); }

void null(std::string &out) { raw(out, std::int32_t{-1}); }

Result boolean(std::string &out, std::int64_t value) {
    if (value != 0 && value != 1)
        return &out_of_range;
    raw(out, std::int32_t{1});
    out.push_back(static_cast<char>(value));
    return nullptr;
}

Result smallint(std::string &out, std::int64_t value) {
    if (value < INT16_MIN || value > INT16_MAX)
        return &out_of_range;
    raw(out, std::int32_t{2});
    raw(out, static_cast<std::int16_t>(value));
    return nullptr;
}

Result integer(std::string &out, std::int64_t value) {
    if (value < INT32_MIN || value > INT32_MAX)
        return &out_of_range;
    raw(out, std::int32_t{4});
    raw(out, static_cast<std::int32_t>(value));
    return nullptr;
}

Result bigint(std::string &out, std::int64_t value) {
    raw(out, std::int32_t{8});
    raw(out, value);
    return nullptr;
}

Result real(std::string &out, float value) {
    raw(out, std::int32_t{4});
    raw(out, std::bit_cast<std::uint32_t>(value));
    return nullptr;
}

Result double_precision(std::string &out, double value) {
    raw(out, std::int32_t{8});
    raw(out, std::bit_cast<std::uint64_t>(value));
    return nullptr;
}

Result numeric(std::string &out, std::string_view value, int scale) {
    bool negative = false;
    if (!value.empty() && (value[0] == '-' || value[0] == '+')) {
        negative = value[0] == '-';
        value.remove_prefix(1);
    }
    const auto point = value.find('.');
    std::string_view whole = value.substr(0, point);
    std::string_view fraction = point == std::string_view::npos ? std::string_view{} : value.substr(point + 1);
    if ((whole.empty() && fraction.empty()) || !all_digits(whole) || !all_digits(fraction))
        return &not_a_number;
    while (!whole.empty() && whole[0] == '0')
        whole.remove_prefix(1);
    while (!fraction.empty() && fraction.back() == '0')
        fraction.remove_suffix(1);
    if (static_cast<int>(fraction.size()) > scale || whole.size() > 1000)
        return &out_of_range;

    // Groups of four digits on both sides of the point. `weight` is the exponent of the first group, base 10000.
    std::array<std::int16_t, 600> groups;
    int count = 0;
    int weight = static_cast<int>((whole.size() + numeric_base_digits - 1) / numeric_base_digits) - 1;
    std::size_t at = 0;
    std::size_t width = whole.size() % numeric_base_digits;
    while (at < whole.size()) {
        const std::size_t take = width == 0 ? numeric_base_digits : width;
        int group = 0;
        for (std::size_t i = 0; i < take; ++i)
            group = group * 10 + (whole[at + i] - '0');
        groups[static_cast<std::size_t>(count++)] = static_cast<std::int16_t>(group);
        at += take;
        width = 0;
    }
    for (at = 0; at < fraction.size(); at += numeric_base_digits) {
        int group = 0;
        for (std::size_t i = 0; i < numeric_base_digits; ++i)
            group = group * 10 + (at + i < fraction.size() ? fraction[at + i] - '0' : 0);
        groups[static_cast<std::size_t>(count++)] = static_cast<std::int16_t>(group);
    }
    // numeric_send gives no zero groups at either end.
    int first = 0;
    while (first < count && groups[static_cast<std::size_t>(first)] == 0) {
        ++first;
        --weight;
    }
    while (count > first && groups[static_cast<std::size_t>(count - 1)] == 0)
        --count;
    const int digits = count - first;
    if (digits == 0) {
        weight = 0;
        negative = false; // PostgreSQL's numeric has no negative zero
    }
    raw(out, static_cast<std::int32_t>(8 + 2 * digits));
    raw(out, static_cast<std::int16_t>(digits));
    raw(out, static_cast<std::int16_t>(weight));
    raw(out, static_cast<std::uint16_t>(negative ? 0x4000 : 0x0000));
    raw(out, static_cast<std::uint16_t>(scale));
    for (int i = first; i < count; ++i)
        raw(out, groups[static_cast<std::size_t>(i)]);
    return nullptr;
}

Result numeric(std::string &out, std::uint64_t value) {
    std::array<std::int16_t, 5> groups{};
    int count = 0; // least significant first
    for (std::uint64_t rest = value; rest != 0; rest /= 10000)
        groups[static_cast<std::size_t>(count++)] = static_cast<std::int16_t>(rest % 10000);
    int last = 0;
    while (last < count && groups[static_cast<std::size_t>(last)] == 0)
        ++last;
    const int digits = count - last;
    raw(out, static_cast<std::int32_t>(8 + 2 * digits));
    raw(out, static_cast<std::int16_t>(digits));
    raw(out, static_cast<std::int16_t>(digits == 0 ? 0 : count - 1));
    raw(out, std::uint16_t{0});
    raw(out, std::uint16_t{0});
    for (int i = count; i-- > last;)
        raw(out, groups[static_cast<std::size_t>(i)]);
    return nullptr;
}

Result bit(std::string &out, std::string_view bytes, int bits) {
    const int wanted = (bits + 7) / 8;
    if (bits < 1 || bits > 64 || static_cast<int>(bytes.size()) > wanted)
        return &bad_bit;
    std::uint64_t value = 0;
    for (const char c : bytes)
        value = value << 8 | static_cast<unsigned char>(c);
    // MySQL pads on the left, PostgreSQL on the right.
    value <<= wanted * 8 - bits;
    raw(out, static_cast<std::int32_t>(4 + wanted));
    raw(out, static_cast<std::int32_t>(bits));
    for (int i = wanted; i-- > 0;)
        out.push_back(static_cast<char>(value >> (8 * i) & 0xFF));
    return nullptr;
}

Result date(std::string &out, const CivilTime &value) {
    if (Result error = check_date(value))
        return error;
    raw(out, std::int32_t{4});
    raw(out, static_cast<std::int32_t>(days_from_civil(value.year, value.month, value.day) - days_to_2000));
    return nullptr;
}

Result timestamp(std::string &out, const CivilTime &value) {
    if (Result error = check_date(value))
        return error;
    if (value.hour > 23 || value.minute > 59 || value.second > 59 || value.micro > 999'999)
        return &invalid_time;
    const std::int64_t days = days_from_civil(value.year, value.month, value.day) - days_to_2000;
    const std::int64_t seconds = (value.hour * 60 + value.minute) * 60 + value.second;
    raw(out, std::int32_t{8});
    raw(out, days * day_us + seconds * 1'000'000 + value.micro);
    return nullptr;
}

Result interval(std::string &out, const CivilTime &value) {
    if (value.minute > 59 || value.second > 59 || value.micro > 999'999)
        return &invalid_time;
    const std::int64_t seconds = (static_cast<std::int64_t>(value.day) * 24 + value.hour) * 3600 + value.minute * 60 + value.second;
    const std::int64_t micros = seconds * 1'000'000 + value.micro;
    raw(out, std::int32_t{16});
    raw(out, value.negative ? -micros : micros);
    raw(out, std::int32_t{0}); // days
    raw(out, std::int32_t{0}); // months
    return nullptr;
}

Result text(std::string &out, std::string_view value) {
    if (Result error = check_text(value))
        return error;
    return sized(out, value);
}

Result bytea(std::string &out, std::string_view value) { return sized(out, value); }

Result jsonb(std::string &out, std::string_view value) {
    if (Result error = check_text(value))
        return error;
    if (has_nul_escape(value))
        return &nul_in_json;
    if (value.size() >= 0x3FFFFF00)
        return &too_long;
    raw(out, static_cast<std::int32_t>(value.size() + 1));
    out.push_back(1); // version of jsonb's binary format
    out.append(value);
    return nullptr;
}

Result json(std::string &out, std::string_view value) { return text(out, value); }

Result uuid(std::string &out, std::string_view value) {
    std::array<char, 16> bytes{};
    std::size_t digits = 0;
    for (const char c : value) {
        if (c == '-')
            continue;
        const int digit = hex_digit(c);
        if (digit < 0 || digits == 32)
            return &bad_uuid;
        bytes[digits / 2] = static_cast<char>(bytes[digits / 2] << 4 | digit);
        ++digits;
    }
    if (digits != 32)
        return &bad_uuid;
    return sized(out, {bytes.data(), bytes.size()});
}

Result inet(std::string &out, std::string_view value) {
    std::array<char, INET6_ADDRSTRLEN + 1> name{};
    if (value.size() >= name.size())
        return &bad_inet;
    std::memcpy(name.data(), value.data(), value.size());
    std::array<char, 16> address{};
    const bool v6 = value.find(':') != std::string_view::npos;
    if (inet_pton(v6 ? AF_INET6 : AF_INET, name.data(), address.data()) != 1)
        return &bad_inet;
    const int size = v6 ? 16 : 4;
    raw(out, static_cast<std::int32_t>(4 + size));
    out.push_back(v6 ? 3 : 2); // PGSQL_AF_INET6, PGSQL_AF_INET
    out.push_back(static_cast<char>(size * 8));
    out.push_back(0); // not a cidr
    out.push_back(static_cast<char>(size));
    out.append(address.data(), static_cast<std::size_t>(size));
    return nullptr;
}

} // namespace encode
} // namespace tandem::core
