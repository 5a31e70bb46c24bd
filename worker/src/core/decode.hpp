// The way back of core/encode: fields in PostgreSQL's binary send format → values that MySQL can be given as parameters of a prepared
// statement. Nothing is rounded, cut or guessed: what MySQL has no value for is refused with the reason. Pure.
#pragma once

#include "core/encode.hpp"
#include "core/typemap.hpp"
#include "core/types.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::core {

// A value in the form in which a client of MySQL sends it. Two values are equal only if they are the same value of the same column.
struct OldValue {
    enum class Kind { null, integer, unsigned_integer, real, double_precision, date, datetime, time, text, bytes, json };
    Kind kind = Kind::null;
    std::int64_t integer = 0; // unsigned_integer: the same bits
    float real = 0;
    double number = 0;
    CivilTime time;
    std::string bytes; // text (numbers of DECIMAL included, in canonical form), bytes, json
};

// json is compared as a document; −0 is not 0; a date is compared as a date.
bool same_value(const OldValue &one, const OldValue &other);

// For messages: the value as MySQL would write it, cut where it is long.
std::string describe(const OldValue &value);

namespace decode {

struct Field {
    bool null = true;
    std::string_view bytes;
};

// A tuple's fields. The field of losses that an image may have (docs/protocol.md section 11) is not among them. nullopt: not a tuple.
std::optional<std::vector<Field>> tuple(std::string_view bytes);

// One field of the image type. On success `out` holds the value; else the reason is returned and `out` is not to be used.
encode::Result value(OldValue &out, const ImageType &type, const Field &field);

} // namespace decode

} // namespace tandem::core
