// Keys between their three forms (docs/protocol.md section 2): image bytes, PostgreSQL text output, and MySQL literal.
#pragma once

#include "core/typemap.hpp"
#include "core/types.hpp"

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::core {

// One field in binary send format (without its length) → text output form of its image type. The bytes must come from encode.
std::string field_to_text(const ImageType &type, std::string_view field);

// A key in tuple format → its text form. Throws core::Error if the bytes are not such a tuple.
std::vector<std::string> key_to_text(std::string_view key, const std::vector<ImageType> &types);

// Text output form of the image type → a MySQL literal that means exactly this value in INSERT and WHERE, whatever sql_mode and
// client character set say: text and bytes travel as hexadecimal, values of ENUM and SET as their number, because labels may be equal for their
// collation, and '' may be a label and the invalid value. nullopt: not a value of that type.
std::optional<std::string> mysql_literal(const Column &column, std::string_view text);

// For ORDER BY and range conditions ENUM and SET sort by number, not by label: the number of the value, nullopt for other types, empty for a
// text that is no value of the type.
std::optional<std::string> sort_number(const Column &column, std::string_view text);

// The number of the last value in that order; nullopt for other types.
std::optional<std::uint64_t> greatest_sort_number(const Column &column);

} // namespace tandem::core
