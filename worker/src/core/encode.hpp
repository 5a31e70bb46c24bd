// Writes values in PostgreSQL's binary send format, field by field, into a caller's buffer that is used again and again
// (docs/protocol.md section 2). Every function appends one field with its length prefix, or appends nothing and returns why the value
// has no representation. Nothing here allocates except by growth of the buffer.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace tandem::core {

// Why a value cannot be held by PostgreSQL. Static text: the value itself is never part of it.
struct ValueError {
    const char *sqlstate;
    const char *message;
    const char *rule; // short name, counted by in tandem.losses; nullptr: no policy helps
};

// Calendar value as the MySQL protocol gives it; all zero is the zero date.
struct CivilTime {
    int year = 0, month = 0, day = 0;
    int hour = 0, minute = 0, second = 0; // hour may exceed 23 for a TIME
    std::int32_t micro = 0;
    bool negative = false; // TIME only
};

namespace encode {

using Result = const ValueError *; // nullptr: done

// Tuple header; fields follow.
void header(std::string &out, int fields);
void null(std::string &out);

Result boolean(std::string &out, std::int64_t value); // only 0 and 1
Result smallint(std::string &out, std::int64_t value);
Result integer(std::string &out, std::int64_t value);
Result bigint(std::string &out, std::int64_t value);
Result real(std::string &out, float value);
Result double_precision(std::string &out, double value);
// `text` is a plain decimal number: sign, digits, point, digits. `scale` is the column's.
Result numeric(std::string &out, std::string_view text, int scale);
Result numeric(std::string &out, std::uint64_t value);
// `bytes` big endian, as MySQL sends BIT(n).
Result bit(std::string &out, std::string_view bytes, int bits);
Result date(std::string &out, const CivilTime &value);
Result timestamp(std::string &out, const CivilTime &value); // also timestamptz: the value is UTC then
Result interval(std::string &out, const CivilTime &value);
Result text(std::string &out, std::string_view value); // must be UTF-8 without U+0000
Result bytea(std::string &out, std::string_view value);
Result jsonb(std::string &out, std::string_view value);
Result json(std::string &out, std::string_view value);
Result uuid(std::string &out, std::string_view value);
Result inet(std::string &out, std::string_view value);

} // namespace encode

// An image with a field of losses says so in its header: this bit is set in the number of fields, which does not count that field.
constexpr int losses_mark = 0x4000;
bool has_losses(std::string_view image);

// Days since 1970-01-01 of a proleptic Gregorian date, and back.
std::int64_t days_from_civil(int year, int month, int day);
void civil_from_days(std::int64_t days, int &year, int &month, int &day);

// Strict: no overlong forms, no surrogates, nothing above U+10FFFF; U+0000 is valid UTF-8.
bool valid_utf8(std::string_view text);

} // namespace tandem::core
