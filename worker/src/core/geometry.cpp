#include "core/geometry.hpp"

#include <algorithm>
#include <array>
#include <cstdint>

namespace tandem::core {
namespace {

constexpr std::size_t word = 4;
constexpr std::size_t wkb_head = 1 + word;         // byte order, type
constexpr std::uint32_t srid_follows = 0x20000000; // in the type of EWKB
constexpr std::uint32_t all_flags = 0xE0000000;    // Z, M, SRID: nothing of the old side has them
constexpr char big_endian = 0, little_endian = 1;

std::uint32_t read_word(std::string_view bytes, char order) {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < word; ++i)
        value = value << 8 | static_cast<unsigned char>(bytes[order == big_endian ? i : word - 1 - i]);
    return value;
}

void append_word(std::string &out, std::uint32_t value, char order) {
    for (std::size_t i = 0; i < word; ++i)
        out.push_back(static_cast<char>(value >> 8 * (order == big_endian ? word - 1 - i : i) & 0xFF));
}

bool is_wkb(std::string_view wkb) { return wkb.size() >= wkb_head && (wkb[0] == big_endian || wkb[0] == little_endian); }

} // namespace

bool is_spatial(std::string_view data_type) {
    static constexpr std::array<std::string_view, 9> types{"geometry",      "point",           "linestring",   "polygon",
                                                           "multipoint",    "multilinestring", "multipolygon", "geometrycollection",
                                                           "geomcollection"};
    return std::find(types.begin(), types.end(), data_type) != types.end();
}

std::optional<std::string> ewkb_of_stored(std::string_view stored) {
    if (stored.size() < word || !is_wkb(stored.substr(word)))
        return std::nullopt;
    const std::uint32_t srid = read_word(stored, little_endian);
    const std::string_view wkb = stored.substr(word);
    const std::uint32_t type = read_word(wkb.substr(1), wkb[0]);
    if ((type & all_flags) != 0)
        return std::nullopt;
    if (srid == 0)
        return std::string(wkb);
    std::string ewkb(1, wkb[0]);
    append_word(ewkb, type | srid_follows, wkb[0]);
    append_word(ewkb, srid, wkb[0]);
    return ewkb.append(wkb.substr(wkb_head));
}

std::optional<std::string> stored_of_ewkb(std::string_view ewkb) {
    if (!is_wkb(ewkb))
        return std::nullopt;
    const std::uint32_t type = read_word(ewkb.substr(1), ewkb[0]);
    const bool has_srid = (type & srid_follows) != 0;
    if ((type & all_flags & ~srid_follows) != 0 || (has_srid && ewkb.size() < wkb_head + word))
        return std::nullopt;
    std::string stored;
    append_word(stored, has_srid ? read_word(ewkb.substr(wkb_head), ewkb[0]) : 0, little_endian);
    stored.push_back(ewkb[0]);
    append_word(stored, type & ~srid_follows, ewkb[0]);
    return stored.append(ewkb.substr(has_srid ? wkb_head + word : wkb_head));
}

} // namespace tandem::core
