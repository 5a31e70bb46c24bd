#include "sync/compare_parts.hpp"

#include <algorithm>

namespace tandem::sync {

std::optional<EvenParts> EvenParts::of(const mysql::KeyInterval &interval, std::size_t rows_expected) {
    if (interval.low.size() != 1 || interval.high.size() != 1)
        return std::nullopt;
    const std::int64_t low = std::stoll(interval.low[0]), high = std::stoll(interval.high[0]);
    if (high <= low)
        return std::nullopt;
    EvenParts parts;
    parts.whole_ = interval;
    const std::uint64_t keys = static_cast<std::uint64_t>(high) - static_cast<std::uint64_t>(low);
    const std::uint64_t wanted = std::clamp<std::uint64_t>(rows_expected / rows_of_small_part, 1, most_parts);
    const std::uint64_t width = std::max<std::uint64_t>(1, keys / wanted);
    for (std::uint64_t start = width; start < keys && parts.starts_.size() + 1 < most_parts; start += width) {
        parts.starts_.push_back(static_cast<std::int64_t>(static_cast<std::uint64_t>(low) + start + 1));
        parts.texts_.push_back(std::to_string(parts.starts_.back()));
        if (keys - start <= width)
            break; // the sum of start and width may be beyond 64 bits
    }
    if (parts.starts_.empty())
        return std::nullopt;
    return parts;
}

std::size_t EvenParts::part_of(std::int64_t key, std::size_t from) const {
    while (from < starts_.size() && key >= starts_[from])
        ++from;
    return from;
}

mysql::KeyInterval EvenParts::interval(std::size_t first, std::size_t last) const {
    mysql::KeyInterval part = whole_;
    if (first > 0)
        part.low = {std::to_string(starts_[first - 1] - 1)};
    if (last < starts_.size())
        part.high = {std::to_string(starts_[last] - 1)};
    return part;
}

std::int64_t integer_of_key(std::string_view key) {
    // int16 number of fields, int32 length, the integer; all big endian.
    std::uint64_t value = key.size() > 6 && (static_cast<unsigned char>(key[6]) & 0x80) != 0 ? ~std::uint64_t{0} : 0;
    for (std::size_t i = 6; i < key.size(); ++i)
        value = value << 8 | static_cast<unsigned char>(key[i]);
    return static_cast<std::int64_t>(value);
}

std::vector<std::pair<std::size_t, std::size_t>> differing_parts(const std::vector<core::ChunkSum> &old,
                                                                 const std::vector<core::ChunkSum> &fresh) {
    std::vector<std::pair<std::size_t, std::size_t>> runs;
    for (std::size_t part = 0; part < old.size(); ++part) {
        if (old[part] == fresh[part])
            continue;
        if (!runs.empty() && runs.back().second + 1 == part)
            runs.back().second = part;
        else
            runs.emplace_back(part, part);
    }
    return runs;
}

} // namespace tandem::sync
