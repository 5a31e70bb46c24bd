// Where a chunk differs whose sums are not equal: narrowed down to parts, whose rows are compared one by one. See compare_chunk.hpp.
#include "sync/compare_chunk.hpp"

#include "core/key_text.hpp"

#include <algorithm>

namespace tandem::sync {
namespace {

constexpr std::size_t rows_of_part = 2000; // a chunk that differs is narrowed down to parts of so many rows

} // namespace

// The parts were summed up on the new side before the old side's rows were known: those rows are put into them now.
void ChunkComparer::compare_even_parts(const EvenParts &parts, const std::vector<core::ChunkSum> &sums, const OldRows &old,
                                       std::vector<Suspect> &suspects) {
    std::vector<core::ChunkSum> own(parts.count());
    std::vector<std::size_t> begins(parts.count() + 1, old.size()); // first row of each part
    std::size_t part = 0;
    begins[0] = 0;
    for (std::size_t i = 0; i < old.size(); ++i) {
        for (const std::size_t its = parts.part_of(integer_of_key(old.key(i)), part); part < its;)
            begins[++part] = i;
        own[part].add(old.hash(i));
    }
    DifferingRows rows;
    for (const auto &[first, last] : differing_parts(own, sums))
        rows.add(begins[first], begins[last + 1], parts.interval(first, last));
    compare_parts(rows, old, suspects);
}

void ChunkComparer::compare_parts(const DifferingRows &rows, const OldRows &old, std::vector<Suspect> &suspects) {
    const auto fresh = sides_.fresh.rows_of(table_.table_id, secret_, rows.lows, rows.highs);
    for (std::size_t part = 0; part < fresh.size(); ++part)
        compare_rows(old, rows.begins[part], rows.ends[part], fresh[part], suspects);
}

// The sums of the chunk differ: those of small parts, each beginning with a key of the old side, tell where.
void ChunkComparer::compare_small_parts(const mysql::KeyInterval &interval, const OldRows &old, std::vector<Suspect> &suspects) {
    const std::size_t rows = std::max(rows_of_small_part, old.size() / most_parts + 1);
    std::vector<std::string> starts;
    std::vector<core::ChunkSum> own;
    for (std::size_t first = 0; first < old.size(); first += rows) {
        if (first > 0)
            starts.push_back(core::key_to_text(old.key(first), key_types_).at(0));
        own.push_back(old.sum_of(first, std::min(old.size(), first + rows)));
    }
    sides_.fresh.send_parts(table_.table_id, secret_, interval.low, interval.high, starts);
    DifferingRows differing;
    for (const auto &[first, last] : differing_parts(own, sides_.fresh.receive_parts(starts.size()))) {
        // From behind the last key of the part before up to the first key of the part behind, which is looked at as well.
        const std::size_t begin = first * rows, end = std::min(old.size(), (last + 1) * rows);
        mysql::KeyInterval part = interval;
        if (begin > 0)
            part.low = core::key_to_text(old.key(begin - 1), key_types_);
        if (end < old.size())
            part.high = core::key_to_text(old.key(end), key_types_);
        differing.add(begin, std::min(old.size(), end + 1), part);
    }
    compare_parts(differing, old, suspects);
}

// The same where parts cannot be summed up at once: one after the other.
void ChunkComparer::compare_interval(const mysql::KeyInterval &interval, const OldRows &old, std::vector<Suspect> &suspects) {
    KeySet under_bad_rows;
    const auto compare = [&](std::size_t first, std::size_t last, const mysql::KeyInterval &part) {
        const std::vector<postgres::KeyHash> fresh = sides_.fresh.rows(table_.table_id, secret_, part.low, part.high);
        compare_rows(old, first, last, fresh, suspects);
        for (const postgres::KeyHash &row : fresh)
            if (old.bad().contains(row.key))
                under_bad_rows.insert(row.key);
    };
    mysql::KeyInterval part;
    part.low = interval.low;
    for (std::size_t first = 0;; first += rows_of_part) {
        const bool last_part = old.size() - first <= 2 * rows_of_part;
        const std::size_t end = last_part ? old.size() : first + rows_of_part;
        part.high = last_part ? interval.high : core::key_to_text(old.key(end - 1), key_types_);
        if (last_part && first == 0) {
            compare(first, end, part); // too small to be worth another sum
        } else {
            sides_.fresh.send_chunk(table_.table_id, secret_, part.low, part.high);
            if (sides_.fresh.receive_chunk() != old.sum_of(first, end) || !old.bad().empty())
                compare(first, end, part);
        }
        if (last_part)
            break;
        part.low = part.high;
    }
    compare_bad_rows(old, under_bad_rows, suspects);
}

} // namespace tandem::sync
