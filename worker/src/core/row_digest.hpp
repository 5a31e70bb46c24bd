// The hash of an old row, from its image: docs/protocol.md section 14. PostgreSQL computes the same from the target's row. Pure.
//
// One object belongs to one pass over one table and one thread: it holds the pass's secret and a buffer that is used again and again.
#pragma once

#include "core/types.hpp"

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace tandem::core {

struct Hash128 {
    std::uint64_t low = 0, high = 0;
    bool operator==(const Hash128 &) const = default;
    // Sums of hashes, modulo 2^64 each: the order of rows does not matter, and equal changes in two rows do not cancel.
    Hash128 &operator+=(const Hash128 &other) {
        low += other.low;
        high += other.high;
        return *this;
    }
};

struct ChunkSum {
    std::int64_t rows = 0;
    Hash128 sum;
    bool operator==(const ChunkSum &) const = default;
    void add(const Hash128 &row) {
        ++rows;
        sum += row;
    }
    ChunkSum &operator+=(const ChunkSum &other) {
        rows += other.rows;
        sum += other.sum;
        return *this;
    }
};

class RowDigest {
  public:
    static constexpr std::size_t secret_size = 192;
    static std::string new_secret(); // at random

    // `plan` must be of mode fast and `columns` those of the table. Throws core::Error when an image type cannot be of the class that
    // the plan says, or the secret has another size.
    RowDigest(const DigestPlan &plan, const std::vector<Column> &columns, std::string secret);

    // Throws core::Error if `image` is not an image of the table. `key`: key bytes, needed for rows with originals in tandem.sidecar.
    Hash128 of_image(std::string_view key, std::string_view image);

  private:
    enum class Form { as_is, small_int, int_as_numeric, numeric };
    struct Item {
        std::size_t field; // of the image, from 0
        char tag;
        Form form;
    };
    Hash128 hash() const;
    void append(char tag, std::string_view bytes);
    void append_value(const Item &item, std::string_view bytes);
    Hash128 of_losses(std::string_view key, std::string_view losses);

    std::vector<Item> items_;
    std::string secret_;
    std::string buffer_;
    std::vector<std::string_view> fields_; // of the image in hand; a null data pointer is NULL
};

// Canonical form of a numeric in binary send format: int16 weight, uint16 sign, digits without zeros at either end.
void append_canonical_numeric(std::string &out, std::string_view sent);

} // namespace tandem::core
