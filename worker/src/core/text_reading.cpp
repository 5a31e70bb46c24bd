#include "core/text_reading.hpp"

#include <algorithm>

namespace tandem::core {
namespace {

// Bytes of a '?', which is found at multiples of them only. In character sets of one or more bytes, 0x3F is never part of another character.
std::size_t unit_of(std::string_view charset) {
    if (charset == "ucs2" || charset == "utf16" || charset == "utf16le")
        return 2;
    return charset == "utf32" ? 4 : 1;
}

} // namespace

TextReading text_reading(const Column &column) {
    const std::string &charset = column.charset;
    if (column.data_type == "vector") // a type that the client library may not know on the wire
        return TextReading::bytes;
    if (charset.empty() || charset == "binary" || charset == "utf8mb4")
        return TextReading::converted;
    if (charset == "utf8" || charset == "utf8mb3" || charset == "ascii")
        return TextReading::bytes;
    // All 256 bytes of latin1 are characters for MySQL; its bytes are wanted only where they are to be kept.
    if (charset == "latin1" && column.policy != Policy::sidecar)
        return TextReading::converted;
    return TextReading::both;
}

bool lost_in_conversion(std::string_view charset, std::string_view stored, std::string_view converted) {
    const auto after = std::count(converted.begin(), converted.end(), '?');
    if (after == 0)
        return false;
    const std::size_t unit = unit_of(charset);
    const std::size_t last = charset == "utf16le" ? 0 : unit - 1; // position of 0x3F in the unit
    std::ptrdiff_t before = 0;
    for (std::size_t at = 0; at + unit <= stored.size(); at += unit) {
        bool question = stored[at + last] == '?';
        for (std::size_t i = 0; i < unit && question; ++i)
            question = i == last || stored[at + i] == '\0';
        before += question ? 1 : 0;
    }
    return after > before;
}

} // namespace tandem::core
