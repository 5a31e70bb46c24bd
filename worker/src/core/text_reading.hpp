// How a text column is read so that nothing of it is lost unseen. A server that converts text to UTF-8 for us puts '?' in place of what
// is no character of the column's character set (0x8740 in sjis, 0x98 in cp1251, 0xE9 in ascii …) and says nothing: then the stored bytes
// must be looked at as well. Pure: no MySQL client here.
#pragma once

#include "core/types.hpp"

#include <string_view>

namespace tandem::core {

enum class TextReading {
    converted, // by the server: every byte of the character set is a character, or the column is no text
    bytes,     // as stored, which is UTF-8 when it is valid
    both       // converted, with the stored bytes beside it
};

TextReading text_reading(const Column &column);

// Whether the conversion of `stored` put a '?' where none was.
bool lost_in_conversion(std::string_view charset, std::string_view stored, std::string_view converted);

} // namespace tandem::core
