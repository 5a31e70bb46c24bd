#include "core/chunks.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>

namespace tandem::core {
namespace {

using nlohmann::json;

std::optional<std::vector<std::string>> key_of(const json &value) {
    if (value.is_null())
        return std::nullopt;
    return value.get<std::vector<std::string>>();
}

// Neighbours that mean the same become one: the SQL that sorts events into them stays short.
void append(std::vector<ChunkInterval> &intervals, ChunkInterval interval) {
    if (!intervals.empty() && intervals.back().what == interval.what)
        intervals.back().high = std::move(interval.high);
    else
        intervals.push_back(std::move(interval));
}

TableChunks parse_table(const json &from) {
    TableChunks table;
    table.done = from.at("done").get<bool>();
    table.held = from.at("held").get<bool>();
    const int planned = from.at("planned").is_null() ? 0 : from.at("planned").get<int>();
    table.last_started = planned;
    if (auto high = key_of(from.at("done_high")))
        append(table.intervals, {std::move(high), ChunkInterval::done});
    for (const json &chunk : from.at("open")) {
        const int number = chunk.at("chunk").get<int>();
        const std::string state = chunk.at("state").get<std::string>();
        if (state == "not_started")
            table.last_started = std::min(table.last_started, number - 1);
        append(table.intervals, {key_of(chunk.at("high")), state == "done"          ? ChunkInterval::done
                                                           : state == "not_started" ? number
                                                                                    : ChunkInterval::in_progress});
    }
    if (!from.at("planned_all").get<bool>())
        append(table.intervals, {std::nullopt, planned + 1});
    else if (table.intervals.empty())
        append(table.intervals, {std::nullopt, ChunkInterval::done}); // every chunk, the last one included
    return table;
}

} // namespace

ChunkReading parse_chunk_reading(const std::string &json_text) {
    ChunkReading reading;
    try {
        for (const json &table : json::parse(json_text))
            reading.emplace(table.at("table_id").get<int>(), parse_table(table));
    } catch (const json::exception &error) {
        throw Error(Side::worker, "22023", std::string("states of chunks cannot be read: ") + error.what(), false,
                    "The extension and the worker may be of different versions.");
    }
    return reading;
}

} // namespace tandem::core
